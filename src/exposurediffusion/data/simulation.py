"""Raw photographs that a calibrated camera would take of a clean scene: short exposures and the long one.

The project's yardstick where SID and ELD are missing; see `docs/results`. `expose simulate` writes whole data sets.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import pi, radians, tan
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from exposurediffusion.data.synthesis import CAMERA_FROM_XYZ, PANORAMA_FOCAL, Panorama, Photograph, record
from exposurediffusion.physics.dark import DarkShading
from exposurediffusion.physics.mosaic import CFA, pack
from exposurediffusion.physics.noise import simulate_capture
from exposurediffusion.physics.profile import CameraProfile, NoiseParameters, log_uniform
from exposurediffusion.physics.sensor import Metadata, RawFrame, Sensor

BLACK, WHITE = 512.0, 16383.0  # SID's Sony, 14 bits
XTRANS_BLACK = 1024.0  # SID's Fuji
REFERENCE_ISO, REFERENCE_SHUTTER = 100, 10.0
MANIFEST = "dataset.json"
"""The file at the root of a simulated data set that says how each of its photographs was made."""
Split = Literal["auto", "train", "test", "validation"]
LEVEL = (0.03, 0.16)  # mean green of the long exposure
SPLITS = {"train": 0, "test": 1, "validation": 2}  # the first digit of a SID scene
AUTO = (0, 1, 2, 0, 0, 0, 0, 0)  # ... of a picture by its place in the folder: no picture is in two splits
SID_SETTINGS = ((100.0, 800), (250.0, 1600), (300.0, 3200))  # ratio, ISO
ELD_RATIOS, ELD_ISOS = (1.0, 10.0, 100.0, 200.0), (800, 1600, 3200)
_WIDEST = radians(130)  # field of view: beyond it a flat picture of a panorama is smeared at its corners
_SHADING_ISO = 1600.0


def simulate_long(
    light: Float[Tensor, "c h w"], cfa: CFA, camera: CameraProfile, neutral: tuple[float, float, float]
) -> RawFrame:
    """The long exposure: noise-free, quantised to 14 bits, clipped at white.

    Args:
        light: clean planes, 1 = white of the long exposure.
        cfa: colour filter array.
        camera: names the model and its colour matrix.
        neutral: camera RGB of a neutral (AsShotNeutral), green = 1.
    """
    return _digitise(light, cfa, _metadata(camera, cfa, neutral, REFERENCE_ISO, REFERENCE_SHUTTER))


def simulate_short(
    light: Float[Tensor, "c h w"],
    cfa: CFA,
    camera: CameraProfile,
    neutral: tuple[float, float, float],
    ratio: float,
    iso: float,
    generator: torch.Generator,
    noise: NoiseParameters | None = None,
    shading: Float[Tensor, "c h w"] | None = None,
) -> tuple[RawFrame, NoiseParameters]:
    """A short exposure with the full noise of the camera, rounded to whole DN and clipped at white, not at black.

    Args:
        light: clean planes, 1 = white of the long exposure; what is above it the short exposure may still hold.
        cfa, camera, neutral: as for `simulate_long`.
        ratio: of the long exposure to the short one (ISO x time).
        iso: of the short exposure.
        generator: of all draws.
        noise: parameters; None: drawn from the camera's laws at `iso`, with a colour bias from its calibration.
        shading: dark shading at `iso`, DN; None: none.

    Returns:
        The frame, and the noise parameters that it has.
    """
    if noise is None:
        noise = draw_noise(camera, iso, cfa, generator)
    noise = replace(noise.rescaled(_sensor(cfa).saturation), quantisation=0.0)  # real rounding follows
    capture = simulate_capture(light[None], torch.tensor([ratio]), noise, generator)[0] / ratio
    if shading is not None:
        capture = capture + shading / noise.saturation
    frame = _digitise(capture, cfa, _metadata(camera, cfa, neutral, iso, shutter_of(ratio, iso)))
    return frame, replace(noise, quantisation=1.0)


def shutter_of(ratio: float, iso: float) -> float:
    """Seconds of a short exposure: ISO x time of the long one is `ratio` times that of the short one."""
    return REFERENCE_SHUTTER * REFERENCE_ISO / (ratio * iso)


def draw_noise(camera: CameraProfile, iso: float, cfa: CFA, generator: torch.Generator) -> NoiseParameters:
    """Noise of one capture at an ISO, from the camera's laws, with a colour bias from its calibration (Bayer only)."""
    bias = bool(camera.colour_bias) and cfa.is_bayer
    noise = camera.sample(torch.tensor([camera.gain(iso)]), "tukey", bias, generator)
    return replace(noise.rescaled(_sensor(cfa).saturation), quantisation=1.0)


def draw_shading(amplitude: float, cfa: CFA, size: int, generator: torch.Generator) -> DarkShading:
    """Dark shading of a sensor: smooth hills and a pattern of columns. Its black level is the colour bias.

    Args:
        amplitude: its standard deviation at ISO 1600, DN.
        cfa: colour filter array.
        size: rows and columns of the frame in sites, whole tiles.
        generator: of all draws.
    """

    def part() -> Tensor:
        hills = F.interpolate(torch.randn((1, 1, 5, 5), generator=generator), (size, size), mode="bicubic")[0, 0]
        mosaic = hills - hills.mean() + 0.5 * torch.randn(size, generator=generator)
        return pack(mosaic / mosaic.std(), cfa)

    slope, offset = 0.8 * amplitude / _SHADING_ISO * part(), 0.6 * amplitude * part()
    return DarkShading(slope, offset, ((_SHADING_ISO, 0.0),), _sensor(cfa).saturation)


def cut_scene(source: Panorama | Photograph, size: int, generator: torch.Generator) -> Float[Tensor, "3 rows columns"]:
    """A square piece of a clean picture, linear RGB.

    Of a panorama a view at its own density, near the horizon; of a photograph most of what it shows, averaged down.

    Raises:
        ValueError: the picture is too small for frames of `size` pixels; the message does not name it.
    """
    first, second, shrink = torch.rand(3, generator=generator).tolist()
    rows, columns = source.pixels.shape[-2:]
    if isinstance(source, Panorama):
        most = int(2 * tan(_WIDEST / 2) * PANORAMA_FOCAL * columns)
        if size > most:
            raise ValueError(f"a panorama {columns} pixels wide gives scenes of at most {most} pixels, not {size}")
        return source.view(size, (2 * first - 1) * pi, 0.7 * second - 0.35)
    most = min(rows, columns) // size
    if most < 1:
        raise ValueError(f"{columns}x{rows} pixels (after averaging) are too few for scenes of {size} pixels")
    factor = -(-most // 2) + int(shrink * (most - -(-most // 2) + 1))
    span = size * factor
    top, left = int(first * (rows - span + 1)), int(second * (columns - span + 1))
    return F.avg_pool2d(source.pixels[None, :, top : top + span, left : left + span].float(), factor)[0]


def seed_of(*parts: object) -> int:
    """A seed that depends on all parts and on nothing else."""
    text = "/".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7])


def colours_of(camera: CameraProfile) -> str:
    """Whose colour matrix a simulated camera has: its own where that is known, else the Sony A7S II's."""
    return camera.name if camera.name in CAMERA_FROM_XYZ else "SonyA7S2"


def noise_to_json(noise: NoiseParameters) -> dict[str, Any]:
    """The noise of one capture as plain numbers, DN."""
    values = {name: value for name, value in vars(noise).items() if name != "source"}
    plain = {name: value[0].tolist() if isinstance(value, Tensor) else value for name, value in values.items()}
    return {name: value for name, value in plain.items() if value is not None}


def _sensor(cfa: CFA) -> Sensor:
    return Sensor.uniform(cfa, BLACK if cfa.is_bayer else XTRANS_BLACK, WHITE)


def _digitise(planes: Tensor, cfa: CFA, metadata: Metadata) -> RawFrame:
    shape = (planes.shape[-2] * cfa.stride, planes.shape[-1] * cfa.stride)
    frame = RawFrame(torch.zeros(shape).numpy(), _sensor(cfa), metadata).with_planes(planes)
    return replace(frame, mosaic=frame.mosaic.round().clip(0, WHITE).astype("uint16"))


def _metadata(
    camera: CameraProfile, cfa: CFA, neutral: tuple[float, float, float], iso: float, shutter: float
) -> Metadata:
    """Make and model are the camera's, by which programs find its noise profile.

    No calibrated camera has an X-Trans array, so such a frame names none that could be bought; the model still ends in
    the one whose noise it has, which is how profiles are looked up.
    """
    make, _, model = camera.exif_model.partition(" ")
    return Metadata(
        make=make if cfa.is_bayer else "Simulated",
        model=model if cfa.is_bayer else f"X-Trans {model}",
        iso=iso,
        shutter=shutter,
        as_shot_neutral=neutral,
        colour_matrix=tuple(value / 1e4 for value in CAMERA_FROM_XYZ[colours_of(camera)]),
    )


@dataclass(frozen=True)
class Shot:
    """One file: its path inside the data set, ISO x time relative to the long exposure's, noise (None: noise-free)."""

    path: str
    ratio: float
    iso: int
    noise: NoiseParameters | None

    def facts(self) -> dict[str, Any]:
        """What the manifest says of it."""
        values = None if self.noise is None else noise_to_json(self.noise)
        return {"ratio": self.ratio, "iso": self.iso, "shutter": shutter_of(self.ratio, self.iso), "noise": values}


@dataclass(frozen=True)
class Scene:
    """One scene (or, without a picture, darkness): where it is cut, how bright it is, and the files to make of it."""

    name: str
    picture: str | None
    seed: int
    level: float
    white_balance: tuple[float, float]
    shots: tuple[Shot, ...]


@dataclass(frozen=True)
class Setup:
    """What all scenes of a data set share: the options of `expose simulate`, which tells them, checked.

    Attributes:
        settings: ratio and ISO of each short exposure of a scene, in the order of their numbers.
    """

    images: Path
    output: Path
    camera: CameraProfile
    cfa: CFA
    layout: Literal["sid", "eld"]
    size: int
    split: Split
    settings: tuple[tuple[float, int], ...]
    shorts: int
    long_noise: bool
    dark_shading: float
    darks: int
    seed: int

    @property
    def folder(self) -> str:
        """Of the camera, inside the data set."""
        if self.layout == "sid":
            return "Sony" if self.cfa.is_bayer else "Fuji"
        return re.sub(r"[^\w.-]+", "-", self.camera.name).lstrip(".") or "camera"

    def facts(self, scene: Scene) -> dict[str, Any]:
        """What the manifest says of a scene: all that its files depend on."""
        return {
            "picture": scene.picture,
            "picture_bytes": (self.images / scene.picture).stat().st_size if scene.picture else 0,
            "seed": self.seed,
            "camera": self.camera.name,
            "cfa": self.cfa.name,
            "size": self.size,
            "level": scene.level,
            "white_balance": list(scene.white_balance),
            "dark_shading": self.dark_shading,
            "files": {shot.path: shot.facts() for shot in scene.shots},
        }


def plan_scenes(setup: Setup, pictures: list[str], count: int) -> list[Scene]:
    """The scenes, and the dark frames if they are wanted; scene n is the same whatever `count` is."""
    planned = []
    for number in range(count):
        which = number % len(pictures)
        seed = seed_of(setup.seed, number)
        generator = torch.Generator().manual_seed(seed)
        red, blue = torch.rand(2, generator=generator).tolist()
        level = float(log_uniform(*LEVEL, 1, generator))
        if setup.layout == "eld":
            name, shots = f"{setup.folder}/scene-{number + 1}", _eld_shots(setup, number)
        else:
            digit = AUTO[which % len(AUTO)] if setup.split == "auto" else SPLITS[setup.split]
            name = f"{setup.folder}/{digit}{number + 1:04d}"
            shots = _sid_shots(setup, name.rpartition("/")[2])
        planned.append(Scene(name, pictures[which], seed, level, (1.5 + red, 1.3 + blue), shots))
    if setup.darks:
        ratio_at = {iso: ratio for ratio, iso in reversed(setup.settings)}
        folder = f"{setup.folder}/dark"
        shots = [
            _noisy(setup, f"{folder}/ISO{iso}_{index:02d}.dng", ratio_at[iso], iso)
            for iso in sorted(ratio_at)
            for index in range(setup.darks)
        ]
        planned.append(Scene(folder, None, 0, 0.0, (2.0, 1.8), tuple(shots)))
    return planned


def _sid_shots(setup: Setup, scene: str) -> tuple[Shot, ...]:
    shots, taken = [_reference(setup, f"{setup.folder}/long/{scene}_00_{REFERENCE_SHUTTER:g}s.dng")], Counter[str]()
    for ratio, iso in setup.settings:
        time = sid_time(ratio)
        for _ in range(setup.shorts):
            shots.append(_noisy(setup, f"{setup.folder}/short/{scene}_{taken[time]:02d}_{time}s.dng", ratio, iso))
            taken[time] += 1
    return tuple(shots)


def _eld_shots(setup: Setup, number: int) -> tuple[Shot, ...]:
    """References are images 1, 6, 11 and 16, all alike: the nearest to x100 and x200 is that of the next ISO."""
    settings, shots = iter(setup.settings), []
    for image in range(1, 17):
        path = f"{setup.folder}/scene-{number + 1}/IMG_{image:04d}.dng"
        shots.append(_reference(setup, path) if image % 5 == 1 else _noisy(setup, path, *next(settings)))
    return tuple(shots)


def _reference(setup: Setup, path: str) -> Shot:
    if setup.long_noise:
        return _noisy(setup, path, 1.0, REFERENCE_ISO)
    return Shot(path, 1.0, REFERENCE_ISO, None)


def _noisy(setup: Setup, path: str, ratio: float, iso: int) -> Shot:
    generator = torch.Generator().manual_seed(seed_of(setup.seed, path, "parameters"))
    noise = draw_noise(setup.camera, iso, setup.cfa, generator)
    if setup.dark_shading and noise.colour_bias is not None:
        generator.manual_seed(seed_of(setup.seed, setup.camera.name, "colour bias", iso))
        noise = replace(noise, colour_bias=draw_noise(setup.camera, iso, setup.cfa, generator).colour_bias)
    return Shot(path, ratio, iso, noise)


def sid_time(ratio: float) -> str:
    """The shortest time (two digits at least) by which SID's rule, min(T / t, 300), gives the ratio."""
    digits = next(n for n in range(2, 18) if abs(min(REFERENCE_SHUTTER / _time(ratio, n), 300) / ratio - 1) < 1e-6)
    return f"{_time(ratio, digits):.12f}".rstrip("0").rstrip(".")


def _time(ratio: float, digits: int) -> float:
    return float(f"{REFERENCE_SHUTTER / ratio:.{digits}g}")


def simulate_scene(setup: Setup, scene: Scene, source: Panorama | Photograph | None) -> Iterator[tuple[Shot, RawFrame]]:
    """Each file of a scene, and its photograph; without a source: dark frames.

    Raises:
        ValueError: the picture is too small or black; the message does not name it.
    """
    light = _light(setup, scene, source)
    neutral = (1 / scene.white_balance[0], 1.0, 1 / scene.white_balance[1])
    generator = torch.Generator().manual_seed(seed_of(setup.seed, setup.folder, "dark shading"))
    dark = draw_shading(setup.dark_shading, setup.cfa, setup.size, generator)
    for shot in scene.shots:
        if shot.noise is None:
            yield shot, simulate_long(light, setup.cfa, setup.camera, neutral)
            continue
        generator.manual_seed(seed_of(setup.seed, shot.path, "noise"))
        shading = dark.map(shot.iso) if setup.dark_shading else None
        values = (shot.ratio, shot.iso, generator, shot.noise, shading)
        yield shot, simulate_short(light, setup.cfa, setup.camera, neutral, *values)[0]


def _light(setup: Setup, scene: Scene, source: Panorama | Photograph | None) -> Float[Tensor, "c h w"]:
    if source is None:
        side = setup.size // setup.cfa.stride
        return torch.zeros((setup.cfa.planes, side, side))
    rgb = cut_scene(source, setup.size, torch.Generator().manual_seed(seed_of(scene.seed, "cut")))
    if not float(rgb.max()) > 0:
        raise ValueError("it is black")
    return record(rgb, colours_of(setup.camera), scene.white_balance, setup.cfa, scene.level)


def read_manifest(root: Path) -> dict[str, dict[str, Any]]:
    """The scenes of a simulated data set, by name: how each was made, and its "files" by path inside the data set.

    Raises:
        ValueError: there is no manifest, or it is damaged.
    """
    path = root / MANIFEST
    try:
        scenes = json.loads(path.read_text())["scenes"]
        return {str(name): {**facts, "files": dict(facts["files"])} for name, facts in scenes.items()}
    except FileNotFoundError as error:
        raise ValueError(f"{path}: no such file; only data sets of `expose simulate` have one") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: damaged, or of another program ({error})") from error


def known_noise(root: Path) -> dict[str, NoiseParameters]:
    """The true noise of each noisy photograph of a simulated data set, by its path inside the data set ("/").

    Raises:
        ValueError: as for `read_manifest`.
    """
    shots = [item for scene in read_manifest(root).values() for item in scene["files"].items()]
    try:
        return {path: _noise_from_json(shot["noise"]) for path, shot in shots if shot["noise"]}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{root / MANIFEST}: damaged, or of another program ({error})") from error


def _noise_from_json(values: dict[str, Any]) -> NoiseParameters:
    single = {"quantisation", "saturation"}
    fields: dict[str, Any] = {k: v if k in single else torch.tensor([v]) for k, v in values.items()}
    return NoiseParameters(**fields, source="known: simulated")

"""What `expose simulate` makes: the plan of a data set in SID's or ELD's layout, and the manifest that describes it.

Everything random but the noise itself is planned scene by scene, so that a file depends on its own plan only.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from exposurediffusion.physics.cameras.known import colours_of
from exposurediffusion.physics.cameras.profile import CameraProfile
from exposurediffusion.physics.mosaic import CFA, packed_shape
from exposurediffusion.physics.parameters import NoiseParameters
from exposurediffusion.physics.plain import build, fitting, read_json
from exposurediffusion.physics.random import log_uniform, seed_of
from exposurediffusion.physics.ranges import check
from exposurediffusion.physics.sensor import RawFrame
from exposurediffusion.simulation.capture import (
    LEVEL,
    REFERENCE_ISO,
    REFERENCE_SHUTTER,
    cut_scene,
    draw_noise,
    draw_shading,
    shutter_of,
    simulate_long,
    simulate_short,
)
from exposurediffusion.simulation.light import Panorama, Photograph, record

MANIFEST = "dataset.json"
"""The file at the root of a simulated data set that says how each of its photographs was made."""
Split = Literal["auto", "train", "test", "validation"]
SPLITS = {"train": 0, "test": 1, "validation": 2}  # the first digit of a SID scene
AUTO = (0, 1, 2, 0, 0, 0, 0, 0)  # ... of a picture by its place in the folder: no picture is in two splits
ELD_RATIOS, ELD_ISOS = (1.0, 10.0, 100.0, 200.0), (800, 1600, 3200)


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
    """What all scenes of a data set share: the options of `expose simulate`, checked.

    Attributes:
        settings: ratio and ISO of each short exposure of a scene, in the order of their numbers.
        max_megapixels: larger pictures are refused; no file depends on it.
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
    max_megapixels: float

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
    shape = setup.size, setup.size
    for shot in scene.shots:
        if shot.noise is None:
            yield shot, simulate_long(light, setup.cfa, setup.camera, neutral, shape)
            continue
        generator.manual_seed(seed_of(setup.seed, shot.path, "noise"))
        shading = dark.map(shot.iso) if setup.dark_shading else None
        values = (shot.ratio, shot.iso, generator, shot.noise, shading, shape)
        yield shot, simulate_short(light, setup.cfa, setup.camera, neutral, *values)[0]


def _light(setup: Setup, scene: Scene, source: Panorama | Photograph | None) -> Float[Tensor, "c h w"]:
    if source is None:
        return torch.zeros((setup.cfa.planes, *packed_shape((setup.size, setup.size), setup.cfa)))
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
        scenes = fitting(read_json(path)["scenes"], dict[str, Any], "scenes")
        for name, facts in scenes.items():
            files = fitting(fitting(facts, dict[str, Any], name)["files"], dict[str, Any], f"{name}.files")
            for file, shot in files.items():
                fitting(shot, dict[str, Any], file)
        return scenes
    except FileNotFoundError as error:
        raise ValueError(f"{path}: no such file; only data sets of `expose simulate` have one") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: damaged, or of another program ({error})") from error


def known_noise(root: Path) -> dict[str, NoiseParameters]:
    """The true noise of each noisy photograph of a simulated data set, by its path inside the data set ("/").

    Raises:
        ValueError: as for `read_manifest`.
    """
    shots = [item for scene in read_manifest(root).values() for item in scene["files"].items()]
    try:
        return {path: noise_from_json(shot["noise"], path) for path, shot in shots if shot["noise"] is not None}
    except (KeyError, ValueError) as error:
        raise ValueError(f"{root / MANIFEST}: damaged, or of another program ({error})") from error


def noise_to_json(noise: NoiseParameters) -> dict[str, Any]:
    """The noise of one capture as plain numbers, DN."""
    values = {name: value for name, value in vars(noise).items() if name != "source"}
    plain = {name: value[0].tolist() if isinstance(value, Tensor) else value for name, value in values.items()}
    return {name: value for name, value in plain.items() if value is not None}


@dataclass(frozen=True)
class _Known:
    """What a manifest says of the noise of a capture: fields of `NoiseParameters`, plain numbers."""

    gain: float
    read: float
    row: float
    quantisation: float
    saturation: float
    tukey_shape: float | None = None
    colour_bias: tuple[float, ...] | None = None
    black: float | None = None
    column: float | None = None

    def __post_init__(self) -> None:
        scale, shape, bias = (1e-6, 1e6), (-0.499, 2), (-1e6, 1e6)
        check(self, gain=scale, saturation=scale, tukey_shape=shape, colour_bias=bias)


def noise_from_json(values: Any, name: str = "") -> NoiseParameters:
    """The noise that `noise_to_json` described.

    Raises:
        ValueError: a field is missing, of another kind, or no number that noise has.
    """
    known = {field: value for field, value in vars(build(_Known, values, name)).items() if value is not None}
    single = {"quantisation", "saturation"}
    fields: dict[str, Any] = {k: v if k in single else torch.tensor([v]) for k, v in known.items()}
    return NoiseParameters(**fields, source="known: simulated")

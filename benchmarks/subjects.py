"""What `benchmarks/picture.py` looks at: flat fields, coloured patches, phases of a scene; and what estimates them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from defects import PatchPlane
from jaxtyping import Float
from torch import Tensor

from exposurediffusion.enhancement.frame import enhance
from exposurediffusion.files.develop import camera_from_rgb
from exposurediffusion.physics.cameras.known import calibrated_cameras, colours_of
from exposurediffusion.physics.mosaic import CFA, mosaic_from_rgb, pack, unpack
from exposurediffusion.physics.parameters import NoiseParameters
from exposurediffusion.physics.sensor import RawFrame, electrons_per_unit
from exposurediffusion.simulation.capture import BLACK, WHITE, simulate_short
from exposurediffusion.simulation.light import record
from exposurediffusion.weights.file import TrainedDenoiser

CAMERA = "SonyA7S2"
RGGB = CFA("RGGB")
PHASES = {"RGGB": (0, 0), "GRBG": (0, 1), "GBRG": (1, 0), "BGGR": (1, 1)}  # rows and columns cut off an RGGB frame
FLAT = (0.03, 0.06, 0.036, 0.06)  # of the planes of a flat grey field
FLAT_SIDE = 256  # packed pixels
PHASE_LEVEL = 0.08  # mean green of a scene

LIGHTS = {"daylight": (2.0, 1.5), "tungsten": (1.4, 2.5)}  # white-balance gains of red and blue
COLOURS = {  # linear sRGB, of `PATCH_LIGHT`
    "magenta": (1.0, 0.0, 1.0),
    "violet": (0.45, 0.0, 1.0),
    "rose": (1.0, 0.0, 0.45),
    "blue": (0.0, 0.0, 1.0),
    "cyan": (0.0, 1.0, 1.0),
    "green": (0.0, 1.0, 0.0),
    "yellow": (1.0, 1.0, 0.0),
    "orange": (1.0, 0.35, 0.0),
    "red": (1.0, 0.0, 0.0),
}
PATCH_LIGHT, PATCH_GREY = 0.15, 0.1  # of white
PATCH_GAIN, PATCH_READ = 2.0, 6.0  # DN per electron, DN
PATCH_GAP = 104  # sites of grey around each patch
PATCH_RIM = 8  # packed pixels left out along the edges of a patch: sharpness is another matter
PLANES = ("red", "green", "blue", "green 2")


@dataclass(frozen=True)
class Shot:
    """One capture, its truth (planes at reference brightness), and the noise that it has."""

    frame: RawFrame
    truth: Float[Tensor, "c h w"]
    noise: NoiseParameters
    ratio: float

    @property
    def capture(self) -> Float[Tensor, "c h w"]:
        """At reference brightness, neither denoised nor clipped."""
        return self.frame.planes * self.ratio


@dataclass(frozen=True)
class Pipeline:
    """`expose enhance` with the noise known."""

    model: TrainedDenoiser
    steps: int | Literal["auto"]
    faithful: bool

    def __call__(self, shot: Shot) -> Float[Tensor, "c h w"]:
        """The estimate at reference brightness."""
        return enhance(
            shot.frame, self.model, ratio=shot.ratio, steps=self.steps, noise=shot.noise, faithful=self.faithful
        ).planes


def flat_field(ratio: float, iso: float, seed: int) -> Shot:
    """An evenly lit grey field by the calibrated camera, full noise and colour bias."""
    return lit_field(FLAT, FLAT_SIDE, ratio, iso, seed)


def lit_field(levels: Sequence[float], side: int, ratio: float, iso: float, seed: int) -> Shot:
    """An evenly lit field of these levels of the four planes, at most white."""
    light = torch.tensor(levels).clamp(max=1)[:, None, None].expand(4, side, side).contiguous()
    return _shot(light, (2.0, 1.6), ratio, iso, seed)


def patches(size: int, ratio: float, light: str) -> Shot:
    """The nine colours as squares of `size` sites on grey, as the camera records them in this light.

    The colours are linear sRGB, through the camera's matrix, divided by the white balance of the light. Gain 2 DN per
    electron, Gaussian read noise of 6 DN, no row noise, no black-level error.
    """
    pitch = size + PATCH_GAP
    side = 3 * pitch + PATCH_GAP
    rgb = torch.full((3, side, side), PATCH_GREY)
    for number, colour in enumerate(COLOURS.values()):
        top, left = (PATCH_GAP + pitch * place for place in divmod(number, 3))
        camera = camera_from_rgb(colours_of(calibrated_cameras()[CAMERA])) @ torch.tensor(colour) * PATCH_LIGHT
        rgb[:, top : top + size, left : left + size] = camera.clamp(min=0)[:, None, None]
    balance = LIGHTS[light]
    rgb *= torch.tensor([1 / balance[0], 1.0, 1 / balance[1]])[:, None, None]
    noise = NoiseParameters.gaussian(PATCH_GAIN, PATCH_READ, WHITE - BLACK)
    return _shot(pack(mosaic_from_rgb(rgb, RGGB), RGGB), balance, ratio, 1600, seed=0, noise=noise)


def _shot(
    light: Float[Tensor, "c h w"],
    balance: tuple[float, float],
    ratio: float,
    iso: float,
    seed: int,
    noise: NoiseParameters | None = None,
    cfa: CFA = RGGB,
) -> Shot:
    neutral, generator = (1 / balance[0], 1.0, 1 / balance[1]), torch.Generator().manual_seed(seed)
    camera = calibrated_cameras()[CAMERA]
    frame, noise = simulate_short(light, cfa, camera, neutral, ratio, iso, generator, noise)
    return Shot(frame, light.clamp(0, 1), noise, ratio)


def patch_planes(shot: Shot, estimate: Float[Tensor, "c h w"], size: int) -> dict[str, dict[str, PatchPlane]]:
    """Means of each plane over each patch: colour -> plane -> means."""
    scale = shot.ratio / shot.noise.saturation  # one DN at reference brightness
    unit = float(electrons_per_unit(shot.ratio, float(shot.noise.gain), shot.noise.saturation))
    found: dict[str, dict[str, PatchPlane]] = {}
    for number, colour in enumerate(COLOURS):
        top, left = ((PATCH_GAP + (size + PATCH_GAP) * place) // 2 + PATCH_RIM for place in divmod(number, 3))
        side = size // 2 - 2 * PATCH_RIM
        area = (slice(None), slice(top, top + side), slice(left, left + side))
        means = [planes[area].double().mean(dim=(1, 2)) for planes in (shot.truth, estimate, shot.capture)]
        found[colour] = {}
        for plane, (true, estimated, captured) in zip(PLANES, torch.stack(means, dim=1).tolist(), strict=True):
            variance = float(shot.noise.gain) * scale * true + float(shot.noise.read_variance) * scale**2
            deviation = (variance / side**2) ** 0.5
            found[colour][plane] = PatchPlane(true, estimated, captured, true * unit * side**2, deviation)
    return found


def cut_to_phase(shot: Shot, phase: str) -> Shot:
    """The same capture of an RGGB camera without its first row or column: the frame begins on another colour."""
    rows, columns = PHASES[phase]
    cfa = RGGB.shifted(rows, columns)
    mosaic, truth = shot.frame.mosaic[rows:, columns:], unpack(shot.truth, RGGB)[rows:, columns:]
    frame = replace(shot.frame, mosaic=mosaic, sensor=replace(shot.frame.sensor, cfa=cfa))
    return replace(shot, frame=frame, truth=pack(truth, cfa))


def recorded_in_phase(rgb: Float[Tensor, "3 rows columns"], phase: str, ratio: float, iso: float) -> Shot:
    """A scene (linear RGB) by a camera of this phase: the same sites see other colours."""
    cfa, balance = CFA(phase), LIGHTS["daylight"]
    return _shot(
        record(rgb, colours_of(calibrated_cameras()[CAMERA]), balance, cfa, PHASE_LEVEL),
        balance,
        ratio,
        iso,
        seed=0,
        cfa=cfa,
    )


def inner_mosaic(planes: Float[Tensor, "c h w"], shot: Shot, phase: str) -> Float[Tensor, "1 rows columns"]:
    """The sites that every frame of `cut_to_phase` has."""
    rows, columns = PHASES[phase]
    return unpack(planes, shot.frame.sensor.cfa, shot.frame.shape)[None, 1 - rows :, 1 - columns :]

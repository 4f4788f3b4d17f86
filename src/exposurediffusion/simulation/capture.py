"""Raw photographs that a calibrated camera would take of a clean scene: short exposures and the long one.

The project's yardstick where SID and ELD are missing; see `docs/results`. `expose simulate` writes whole data sets.
"""

from __future__ import annotations

from dataclasses import replace
from math import pi, radians, tan

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from exposurediffusion.physics.cameras.known import colours_of
from exposurediffusion.physics.cameras.profile import CameraProfile
from exposurediffusion.physics.dark_shading import DarkShading
from exposurediffusion.physics.mosaic import CFA, pack, unpack
from exposurediffusion.physics.noise import simulate_capture
from exposurediffusion.physics.parameters import NoiseParameters
from exposurediffusion.physics.sensor import Metadata, RawFrame, Sensor
from exposurediffusion.simulation.light import PANORAMA_FOCAL, Panorama, Photograph

BLACK, WHITE = 512.0, 16383.0  # SID's Sony, 14 bits
XTRANS_BLACK = 1024.0  # SID's Fuji
REFERENCE_ISO, REFERENCE_SHUTTER = 100, 10.0
LEVEL = (0.03, 0.16)  # mean green of the long exposure
SID_SETTINGS = ((100.0, 800), (250.0, 1600), (300.0, 3200))  # ratio, ISO
_WIDEST = radians(130)  # field of view: beyond it a flat picture of a panorama is smeared at its corners
_SHADING_ISO = 1600.0


def simulate_long(
    light: Float[Tensor, "c h w"],
    cfa: CFA,
    camera: CameraProfile,
    neutral: tuple[float, float, float],
    shape: tuple[int, int] | None = None,
) -> RawFrame:
    """The long exposure: noise-free, quantised to 14 bits whatever the camera has, clipped at white.

    Args:
        light: clean planes, 1 = white of the long exposure.
        cfa: colour filter array.
        camera: names the model and its colour matrix.
        neutral: camera RGB of a neutral (AsShotNeutral), green = 1.
        shape: rows and columns of the frame in sites; None: all that the planes hold, as `unpack` has it.
    """
    return _digitise(light, cfa, shape, _metadata(camera, cfa, neutral, REFERENCE_ISO, REFERENCE_SHUTTER))


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
    shape: tuple[int, int] | None = None,
) -> tuple[RawFrame, NoiseParameters]:
    """A short exposure with the full noise of the camera, rounded and clipped at white, not at black.

    Values are DN of 14 bits. The steps between them are the camera's: 4 DN where it has 12 bits, and never below 1.

    Args:
        light: clean planes, 1 = white of the long exposure; what is above it the short exposure may still hold.
        cfa, camera, neutral, shape: as for `simulate_long`.
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
    noise = noise.rescaled(_sensor(cfa).saturation)
    step = max(1.0, float(noise.quantisation))
    smooth = replace(noise, quantisation=0.0)  # real rounding follows
    capture = simulate_capture(light[None], torch.tensor([ratio]), smooth, generator)[0] / ratio
    if shading is not None:
        capture = capture + shading / noise.saturation
    frame = _digitise(capture, cfa, shape, _metadata(camera, cfa, neutral, iso, shutter_of(ratio, iso)), step)
    return frame, replace(noise, quantisation=step)


def shutter_of(ratio: float, iso: float) -> float:
    """Seconds of a short exposure: ISO x time of the long one is `ratio` times that of the short one."""
    return REFERENCE_SHUTTER * REFERENCE_ISO / (ratio * iso)


def draw_noise(camera: CameraProfile, iso: float, cfa: CFA, generator: torch.Generator) -> NoiseParameters:
    """Noise of one capture at an ISO, from the camera's laws, with a colour bias from its calibration (Bayer only)."""
    bias = bool(camera.colour_bias) and cfa.is_bayer
    noise = camera.sample(torch.tensor([camera.gain(iso)]), "tukey", bias, generator)
    noise = noise.rescaled(_sensor(cfa).saturation)
    return replace(noise, quantisation=max(1.0, float(noise.quantisation)))  # files hold whole DN


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


def _sensor(cfa: CFA) -> Sensor:
    return Sensor.uniform(cfa, BLACK if cfa.is_bayer else XTRANS_BLACK, WHITE)


def _digitise(
    planes: Tensor, cfa: CFA, shape: tuple[int, int] | None, metadata: Metadata, step: float = 1.0
) -> RawFrame:
    """Whole multiples of a step, DN; black and white are where they are."""
    sensor = _sensor(cfa)
    values = step * (sensor.digitise(unpack(planes, cfa, shape)) / step).round()
    return RawFrame(values.round().clip(0, WHITE).astype("uint16"), sensor, metadata)


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
        colour_matrix=colours_of(camera),
    )

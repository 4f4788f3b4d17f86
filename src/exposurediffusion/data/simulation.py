"""A raw photograph that a calibrated camera would take of a clean scene: the short exposure and the long one.

The project's yardstick where SID and ELD are missing; see `docs/results`.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from exposurediffusion.data.synthesis import CAMERA_FROM_XYZ
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.physics.noise import simulate_capture
from exposurediffusion.physics.profile import CameraProfile, NoiseParameters
from exposurediffusion.physics.sensor import Metadata, RawFrame, Sensor

BLACK, WHITE = 512.0, 16383.0  # SID's Sony, 14 bits
REFERENCE_ISO, REFERENCE_SHUTTER = 100, 10.0


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
    return _digitise(light, cfa, _metadata(camera, neutral, REFERENCE_ISO, REFERENCE_SHUTTER))


def simulate_short(
    light: Float[Tensor, "c h w"],
    cfa: CFA,
    camera: CameraProfile,
    neutral: tuple[float, float, float],
    ratio: float,
    iso: float,
    generator: torch.Generator,
    noise: NoiseParameters | None = None,
) -> tuple[RawFrame, NoiseParameters]:
    """A short exposure with the full noise of the camera, rounded to whole DN and clipped at white, not at black.

    Args:
        light: clean planes, 1 = white of the long exposure; what is above it the short exposure may still hold.
        cfa, camera, neutral: as for `simulate_long`.
        ratio: of the long exposure to the short one (ISO x time).
        iso: of the short exposure.
        generator: of all draws.
        noise: parameters; None: drawn from the camera's laws at `iso`, with a colour bias from its calibration.

    Returns:
        The frame, and the noise parameters that it has.
    """
    if noise is None:
        bias = bool(camera.colour_bias) and cfa.is_bayer  # calibrated for Bayer planes
        noise = camera.sample(torch.tensor([camera.gain(iso)]), "tukey", bias, generator)
    noise = replace(noise, saturation=WHITE - BLACK, quantisation=0.0)  # real rounding follows
    capture = simulate_capture(light[None], torch.tensor([ratio]), noise, generator)[0]
    shutter = REFERENCE_SHUTTER * REFERENCE_ISO / (ratio * iso)
    frame = _digitise(capture / ratio, cfa, _metadata(camera, neutral, iso, shutter))
    return frame, replace(noise, quantisation=1.0)


def _digitise(planes: Tensor, cfa: CFA, metadata: Metadata) -> RawFrame:
    sensor = Sensor.uniform(cfa, BLACK, WHITE)
    shape = (planes.shape[-2] * cfa.stride, planes.shape[-1] * cfa.stride)
    frame = RawFrame(torch.zeros(shape).numpy(), sensor, metadata).with_planes(planes)
    return replace(frame, mosaic=frame.mosaic.round().clip(0, WHITE).astype("uint16"))


def _metadata(camera: CameraProfile, neutral: tuple[float, float, float], iso: float, shutter: float) -> Metadata:
    make, _, model = camera.exif_model.partition(" ")
    matrix = CAMERA_FROM_XYZ.get(camera.name)
    return Metadata(
        make=make,
        model=model,
        iso=iso,
        shutter=shutter,
        as_shot_neutral=neutral,
        colour_matrix=tuple(value / 1e4 for value in matrix) if matrix else None,
    )

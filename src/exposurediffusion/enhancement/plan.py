"""What is decided of a frame before the network runs: amplification, noise, number of steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from exposurediffusion.enhancement.corrections import prepare
from exposurediffusion.models.device import is_good_at_bfloat16
from exposurediffusion.physics.camera import CameraProfile, NoiseParameters
from exposurediffusion.physics.noise import noise_level
from exposurediffusion.physics.sensor import RawFrame
from exposurediffusion.process.sampling import Sampling
from exposurediffusion.weights.file import TrainedDenoiser

RATIO_RANGE = (1.5, 1000.0)
AUTO_RATIO_MAX = 300.0  # the largest amplification of SID, and of our training
KEY = 0.12  # mean green that the automatic ratio aims at


@dataclass(frozen=True)
class EnhancePlan:
    """Everything decided before the network runs; global to the frame, whatever the tiles.

    Attributes:
        frame: what is exposed on: the capture with its black, defects and rows put right.
        ratio: amplification.
        noise: parameters of the capture; `noise.source` says where they come from.
        noise_level: of the amplified capture (`physics.noise.noise_level`), by which the rule of the weights chooses T.
        sampling: steps, schedule, transition, increment, clamp.
        exposure: of the output: `reference`, brightened by the ratio; or `capture`, the clean image at the exposure of
            the capture, highlights kept.
        strength: 1 the estimate, 0 the capture, between a blend.
        faithful: bring the estimate back into the interval that the capture's means give (`process.faithful`).
        maps: keep the map of where that was.
        found, listed: defective sites that were mended: found in the frame, or known before.
        tile: side in packed pixels, None: automatic.
        autocast: compute in bfloat16.
        seed: of sampled increments; sample n of several has seed + n.
        samples: exposures whose mean is the result; from two on their spread is known.
    """

    frame: RawFrame
    ratio: float
    noise: NoiseParameters
    noise_level: float
    sampling: Sampling
    exposure: Literal["capture", "reference"] = "reference"
    strength: float = 1.0
    faithful: bool = True
    maps: bool = False
    found: int = 0
    listed: int = 0
    tile: int | None = None
    autocast: bool = False
    seed: int = 0
    samples: int = 1

    def __post_init__(self) -> None:
        check_ratio(self.ratio)
        if not 0 <= self.strength <= 1:
            raise ValueError(f"strength lies between 0 and 1, got {self.strength:g}")
        if self.tile is not None and self.tile < 16:
            raise ValueError(f"a tile has at least 16 packed pixels a side, got {self.tile}")
        check_samples(self.samples, self.sampling.steps, self.sampling.increment)


def check_ratio(ratio: float) -> None:
    """Raise a ValueError for an amplification outside `RATIO_RANGE`."""
    low, high = RATIO_RANGE
    if not (isfinite(ratio) and low <= ratio <= high):
        raise ValueError(f"the ratio lies between {low:g} and {high:g}, got {ratio:g}")


def check_samples(samples: int, steps: int | str, increment: str = "sampled") -> None:
    """Raise a ValueError unless so many exposures of so many steps can differ; steps and increment may be auto."""
    if samples < 1:
        raise ValueError(f"the number of samples is at least 1, got {samples}")
    if samples > 1 and steps == 0:
        raise ValueError(f"{samples} samples of T = 0 are all alike: nothing is drawn; use 1 step or more")
    if samples > 1 and increment == "mean":
        raise ValueError(f"{samples} samples of mean increments are all alike: the increment has to be sampled")


def plan(
    frame: RawFrame,
    model: TrainedDenoiser,
    *,
    ratio: float | Literal["auto"] = "auto",
    steps: int | Literal["auto"] = "auto",
    sampling: Sampling | None = None,
    camera: CameraProfile | None = None,
    noise: NoiseParameters | None = None,
    black: Sequence[float] | Literal["auto"] = "auto",
    defects: bool = True,
    exposure: Literal["capture", "reference"] = "reference",
    strength: float = 1.0,
    faithful: bool = True,
    maps: bool = False,
    tile: int | Literal["auto"] = "auto",
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    seed: int = 0,
    samples: int = 1,
) -> EnhancePlan:
    """Decide how a frame is to be enhanced.

    Args:
        frame: the capture.
        model: from `load`.
        ratio: amplification, 1.5 to 1000; auto: from the frame's histogram, at most 300.
        steps: simulated exposures; auto: those of `sampling` if that is given, else by the frame's noise level and the
            rule of the weights, else what these were made for; at least 1 for several samples.
        sampling: schedule, transition and increment; None: what the weights were made for, but for several samples
            with sampled increments.
        camera: noise profile; None: found from the metadata.
        noise: parameters, if they are known better; None: profile, DNG NoiseProfile, or estimated from the frame.
        black: level, or one for each site of the first tile, DN; auto: by the masked margins, else by the file, lowered
            as far as the darkest parts prove.
        defects: find and mend hot, warm and dead sites.
        exposure, strength, faithful, maps, seed, samples: see `EnhancePlan`.
        tile: side in packed pixels.
        precision: of the network; auto: bfloat16 where the device is good at it.

    Raises:
        ValueError: an argument is out of its range, or the frame's colour filter array is not that of the weights.
    """
    if model.config.planes > frame.sensor.cfa.planes:
        raise ValueError("these weights are for X-Trans sensors, the frame is a Bayer one")
    if min(frame.shape) < frame.sensor.cfa.period:
        raise ValueError(f"a frame of {frame.shape[1]}x{frame.shape[0]} sites is too small: it shows no colour")
    if ratio != "auto":
        check_ratio(ratio)
    ready = prepare(frame, camera=camera, noise=noise, black=black, defects=defects)
    ratio = auto_ratio(ready.frame) if ratio == "auto" else ratio
    level = float(noise_level(amplified(ready.frame, ratio), torch.tensor([ratio]), ready.noise))
    if steps == "auto":
        steps = max(model.card.steps(level) if sampling is None else sampling.steps, int(samples > 1))
    if sampling is None:
        sampling = replace(model.card.sampling, **({"increment": "sampled"} if samples > 1 else {}))
    return EnhancePlan(
        frame=ready.frame,
        ratio=ratio,
        noise=ready.noise,
        noise_level=level,
        sampling=replace(sampling, steps=steps),
        exposure=exposure,
        strength=strength,
        faithful=faithful,
        maps=maps,
        found=ready.found,
        listed=ready.listed,
        tile=None if tile == "auto" else tile,
        autocast=precision == "bf16" or (precision == "auto" and is_good_at_bfloat16(next(model.parameters()).device)),
        seed=seed,
        samples=samples,
    )


def auto_ratio(frame: RawFrame) -> float:
    """The amplification that brings the mean of the greens, clipped at white, to `KEY`; within [1.5, 300]."""
    sensor, period = frame.sensor, frame.sensor.cfa.period
    step = max(1, int((frame.mosaic.size / 4e6) ** 0.5))
    tiles = (np.arange(n // period * period) // period for n in frame.shape)  # of each line, the partial ones left out
    some = frame.mosaic[np.ix_(*(number % step == 0 for number in tiles))]
    light, letters = sensor.normalise(some), sensor.cfa.pattern()
    values = torch.cat([light[y, x].ravel() for (y, x, _), c in zip(sensor.sites, letters, strict=True) if c == "G"])
    low, high = RATIO_RANGE[0], AUTO_RATIO_MAX
    for _ in range(30):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if float((values * middle).clamp(max=1).mean()) < KEY else (low, middle)
    return round((low * high) ** 0.5, 3)


def amplified(frame: RawFrame, ratio: float) -> Float[Tensor, "1 c h w"]:
    """The capture at reference brightness."""
    return frame.planes[None].mul_(ratio)

"""The defects of an estimate, a number each: what `benchmarks/picture.py` prints.

Planes are packed (RGGB: red, green, blue, green), at reference brightness, 1 = white. Every function takes what it
measures and nothing else, so that a test can give it a defect of known size.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from statistics import mean

import numpy as np
import torch
from jaxtyping import Float
from scipy.ndimage import uniform_filter1d
from torch import Tensor
from torch.nn import functional as F

BLOCK = 16  # packed pixels a side: what is larger is a cloud, not a grain
ROWS = 17  # over which the slow part of the row means is taken off
TONES = (0.0, 0.3, 0.6, 0.9, 1.0)  # bounds of the brightness classes
PROMISE = 0.05  # how far the mean of a patch may be off, where it holds enough light
ENOUGH = 1000.0  # electrons in a plane of the patch
DEVIATIONS = 3.0  # of the mean of the capture, where it holds less


def mesh(plane: Float[Tensor, "h w"]) -> float:
    """Largest power at the Nyquist frequencies (of rows, of columns, of both) over the usual power of fine detail.

    The usual power is the median over all frequencies from 0.25 to 0.5 cycles per packed pixel. Sides must be even.
    """
    power = torch.fft.fft2(plane.double() - plane.double().mean()).abs().square()
    h, w = plane.shape
    frequency = torch.hypot(torch.fft.fftfreq(h)[:, None], torch.fft.fftfreq(w)[None])
    usual = power[(frequency >= 0.25) & (frequency <= 0.5)].median()
    return float(torch.stack([power[h // 2, 0], power[0, w // 2], power[h // 2, w // 2]]).max() / usual)


def streaks(plane: Float[Tensor, "h w"], level: float) -> float:
    """Root mean square of the row means about their mean over `ROWS` rows, in units of the true level."""
    rows = plane.double().mean(dim=1).numpy()
    return float(np.sqrt(np.mean((rows - uniform_filter1d(rows, ROWS, mode="reflect")) ** 2)) / level)


def blotches(plane: Float[Tensor, "h w"], level: float) -> float:
    """Root mean square of block means about the whole mean, in units of the true level."""
    blocks = block_means(plane[None])
    return float((blocks - blocks.mean()).square().mean().sqrt() / level)


def block_error(estimate: Float[Tensor, "c h w"], truth: Float[Tensor, "c h w"]) -> float:
    """Root mean square of the block means of the error: what is wrong at low frequencies."""
    return float(block_means(estimate - truth).square().mean().sqrt())


def block_means(planes: Float[Tensor, "c h w"]) -> Float[Tensor, "c h2 w2"]:
    """Means of whole blocks, double precision."""
    return F.avg_pool2d(planes.double(), BLOCK)


@dataclass(frozen=True)
class PatchPlane:
    """The mean of one plane over a flat patch.

    Attributes:
        truth, estimate, capture: means at reference brightness.
        electrons: that the capture holds in this plane of the patch.
        deviation: of the capture's mean, at reference brightness: what the light leaves open.
    """

    truth: float
    estimate: float
    capture: float
    electrons: float
    deviation: float

    @property
    def ratio(self) -> float:
        """The estimate over the truth; meaningless where the truth is all but black."""
        return self.estimate / max(self.truth, 1e-6)

    def kept(self, value: float) -> bool:
        """Whether a mean is as it should be: within 5 % with more than 1,000 electrons, else within 3 deviations."""
        allowed = PROMISE * self.truth if self.electrons > ENOUGH else DEVIATIONS * self.deviation
        return abs(value - self.truth) <= allowed

    def contradicts_light(self) -> bool:
        """Whether the estimate is off by more than 5 % and the capture rules it out, too."""
        allowed = max(PROMISE * self.truth, DEVIATIONS * self.deviation)
        return abs(self.estimate - self.truth) > allowed


@dataclass(frozen=True)
class Tone:
    """Errors of the sites of one brightness class: how many, the sum of the errors, and of their squares."""

    count: int
    error: float
    squared: float

    @property
    def bias(self) -> float:
        """Mean error."""
        return self.error / max(self.count, 1)

    @property
    def rms(self) -> float:
        """Root mean square error."""
        return (self.squared / max(self.count, 1)) ** 0.5

    def __add__(self, other: Tone) -> Tone:
        return Tone(self.count + other.count, self.error + other.error, self.squared + other.squared)


def tone_errors(estimate: Float[Tensor, "c h w"], truth: Float[Tensor, "c h w"]) -> list[Tone]:
    """Errors by the brightness of the truth, one for each class of `TONES`; the last one holds white, too."""
    error = (estimate - truth).double()
    tones = []
    for low, high in pairwise(TONES):
        inside = error[(truth >= low) & ((truth < high) | (high == TONES[-1]))]
        tones.append(Tone(inside.numel(), float(inside.sum()), float(inside.square().sum())))
    return tones


def slope_and_rms(black: list[float], error: list[float]) -> tuple[float, float]:
    """Of the mean errors of planes against the black-level errors drawn (same unit): least-squares slope, and rms.

    Slope 1: all of the black level's error is taken for light; 0: none of it is left.
    """
    if len(black) < 2:
        return float("nan"), float(np.sqrt(np.mean(np.square(error))))
    centred = np.asarray(black) - mean(black)
    power = float(centred @ centred)
    return float(centred @ np.asarray(error)) / power if power else float("nan"), float(
        np.sqrt(np.mean(np.square(error)))
    )

"""Shape of the Tukey-lambda law of read noise, by the correlation of its probability plot.

Filliben, "The probability plot correlation coefficient test for normality" (Technometrics 17(1), 1975); for the read
noise of sensors Wei et al., "A physics-based noise formation model for extreme low-light raw denoising" (CVPR 2020).
What is measured is read noise, the rounding to whole steps and what an average over frames leaves; the law that it is
compared with is that of their sum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from exposurediffusion.physics.parameters import tukey_lambda_variance

SHAPES = np.round(np.arange(-0.45, 0.46, 0.02), 2)
"""Shapes that are tried; the best is interpolated between them."""
_LEFT_OUT, _SINGLE, _GROWTH, _TAIL, _MIDDLE = 8, 16, 1.05, 0.02, 400
"""Of each end: samples left out (single stray ones decide nothing), samples that are groups of their own, growth of the
groups after them, and how far these go; number of the groups between the tails."""
_REACH, _STEP = 30.0, 1 / 64  # of the grid on which laws are added, in standard deviations


@dataclass(frozen=True)
class TukeyFit:
    """Of one sample.

    Attributes:
        shape: lambda.
        r_squared: squared correlation of the probability plot at this shape.
        normal: the same for a normal law.
        centre, deviation: of the read noise, by the line through the plot; in the sample's unit.
    """

    shape: float
    r_squared: float
    normal: float
    centre: float
    deviation: float


class ProbabilityPlot:
    """What samples of a size are compared with: the quantiles of Tukey-lambda laws with rounding and an average added.

    Args:
        size: of the samples, at least 1000.
        rounding: width of the uniform law that is added, in standard deviations of the read noise.
        average: standard deviation of the normal law that is added, likewise.
    """

    def __init__(self, size: int, rounding: float = 0.0, average: float = 0.0) -> None:
        self._edges = _groups(size)
        self._weights = np.diff(self._edges) / size
        self._weights[:_LEFT_OUT] = self._weights[-_LEFT_OUT:] = 0
        within = self._edges[:-1, None] + np.diff(self._edges)[:, None] * (np.arange(8) + 0.5) / 8
        within = within / size
        self._quantiles = np.stack([_quantiles(shape, within, rounding, average).mean(1) for shape in SHAPES])
        self._normal = _quantiles(None, within, rounding, average).mean(1)

    def fit(self, sample: np.ndarray, above: float = -np.inf) -> TukeyFit:
        """The shape whose probability plot is straightest.

        Args:
            sample: (size), in any order, of any unit and mean.
            above: where values are clipped; only what is larger counts.
        """
        groups = self._ordered(sample)
        weights = np.where(groups > above, self._weights, 0)
        weights[: np.flatnonzero(weights)[0] + 1 if np.isfinite(above) else 0] = 0  # the group that holds the end
        weights /= weights.sum()
        lines = [_line(weights, quantiles, groups) for quantiles in self._quantiles]
        straight = np.array([correlation for correlation, _, _ in lines])
        best = int(np.clip(np.argmax(straight), 1, len(SHAPES) - 2))
        before, here, after = straight[best - 1 : best + 2]
        bend = 2 * here - before - after
        shift = float(np.clip((after - before) / (2 * bend), -1, 1)) if bend > 0 else 0.0
        shape = float(SHAPES[best] + shift * (SHAPES[1] - SHAPES[0]))
        _, slope, centre = (np.interp(shape, SHAPES, column) for column in zip(*lines, strict=True))
        normal = _line(weights, self._normal, groups)[0] ** 2
        return TukeyFit(shape, float(here) ** 2, normal, float(centre), float(slope))

    def points(self, sample: np.ndarray, shape: float) -> tuple[np.ndarray, np.ndarray]:
        """The probability plot itself: quantiles of the law of unit deviation nearest to `shape`, and of the sample."""
        return self._quantiles[int(np.argmin(np.abs(SHAPES - shape)))], self._ordered(sample)

    def _ordered(self, sample: np.ndarray) -> np.ndarray:
        """Means of the groups of the sorted sample."""
        sums = np.concatenate([[0.0], np.cumsum(np.sort(sample, axis=None), dtype=np.float64)])
        return np.diff(sums[self._edges]) / np.diff(self._edges)


def _line(weights: np.ndarray, quantiles: np.ndarray, sample: np.ndarray) -> tuple[float, float, float]:
    """Correlation, slope and value at 0 of the line through a probability plot; the weights' sum is 1."""
    x, y = quantiles - weights @ quantiles, sample - weights @ sample
    across, up, both = (weights * x) @ x, (weights * y) @ y, (weights * x) @ y
    slope = float(both / max(across, 1e-300))
    return (
        float(both / max((across * up) ** 0.5, 1e-300)),
        slope,
        float(weights @ sample - slope * (weights @ quantiles)),
    )


def _groups(size: int) -> np.ndarray:
    """First places of groups of an ordered sample, and its size: single samples at the ends, more in the middle."""
    tail = [float(_SINGLE)]
    while tail[-1] < _TAIL * size:
        tail.append(max(tail[-1] * _GROWTH, tail[-1] + 1))
    ends = np.concatenate([np.arange(_SINGLE), np.array(tail, dtype=int)])
    middle = np.linspace(ends[-1], size - ends[-1], _MIDDLE + 1).astype(int)
    return np.unique(np.concatenate([ends, middle, size - ends]))


def _quantiles(shape: float | None, positions: np.ndarray, rounding: float, average: float) -> np.ndarray:
    """Quantiles of the sum of a law of unit deviation (None: the normal one), a uniform and a normal one.

    The laws are added on a grid. In the far tails, where the grid ends, what is added to a heavy tail does not matter.
    """
    fine = np.concatenate([np.logspace(-9, -2, 400), np.linspace(0.01, 0.5, 2001)[1:]])
    fine = np.concatenate([fine, 1 - fine[-2::-1]])
    grid = np.arange(-_REACH, _REACH + _STEP / 2, _STEP)
    mass = np.diff(np.interp(grid, _pure(shape, fine), fine, left=0, right=1))
    frequency = np.fft.rfftfreq(2 * len(mass)) * 2 * np.pi / _STEP
    added = np.exp(-0.5 * (average * frequency) ** 2) * np.sinc(rounding * frequency / (2 * np.pi))
    mass = np.fft.irfft(np.fft.rfft(mass, 2 * len(mass)) * added, 2 * len(mass))[: len(mass)].clip(min=0)
    below = np.concatenate([[0.0], np.cumsum(mass)]) / mass.sum()
    rising = np.concatenate([[True], np.diff(below) > 1e-12])
    pure = _pure(shape, positions)
    far = (np.abs(pure) > 0.6 * _REACH) | (np.minimum(positions, 1 - positions) < 1e-6)
    return np.where(far, pure, np.interp(positions, below[rising], grid[rising]))


def _pure(shape: float | None, positions: np.ndarray) -> np.ndarray:
    """Quantiles of the Tukey-lambda law scaled to unit deviation; None: of the normal law."""
    if shape is None:
        return ndtri(positions)
    if abs(shape) < 1e-6:
        return np.log(positions / (1 - positions)) / np.sqrt(np.pi**2 / 3)
    unit = float(tukey_lambda_variance(shape)) ** 0.5
    return (positions**shape - (1 - positions) ** shape) / (shape * unit)

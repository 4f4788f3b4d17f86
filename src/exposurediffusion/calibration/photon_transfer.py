"""The photon transfer of one ISO: how the variance of evenly lit frames grows with their mean.

Janesick, "Photon Transfer" (SPIE, 2007). The line "variance = gain * mean + read variance" is fitted to the blocks
below the signal at which the sensor is no longer linear.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.stats import t as student

from exposurediffusion.calibration.flats import FlatPairs
from exposurediffusion.calibration.interval import Interval
from exposurediffusion.calibration.shots import NotEnough

_OFF = 0.04  # relative deviation of the variance from the line at which the sensor is no longer linear
_SURE = 4.0  # standard errors by which it has to be off
_BENT, _CERTAIN = 0.01, 1.7  # bend that matters; half 95 % intervals by which it is no accident
_FEWEST = 8  # blocks for a line


@dataclass(frozen=True)
class PhotonTransfer:
    """The line through the blocks.

    Attributes:
        gain: K, DN per electron: the slope of the line, or where the photon transfer is bent, its slope at no light.
        gains: of each site of the first tile; they differ where the camera multiplies colours. None: too few blocks.
        read: light-free standard deviation, rows and rounding included, DN.
        linear_to: DN above black to which a line holds.
        blocks: that it goes through.
        bend: relative change of the slope half way up, where the photon transfer is bent; else 0.
    """

    gain: Interval
    gains: tuple[Interval | None, ...]
    read: Interval
    linear_to: float
    blocks: int
    bend: float


def fit_line(pairs: FlatPairs) -> PhotonTransfer:
    """Fit the photon transfer line.

    Where a parabola fits all blocks and its bend is no accident, the gain is its slope at no light. Otherwise a line is
    followed upwards for as long as it holds.

    Args:
        pairs: of one ISO.

    Raises:
        NotEnough: too few blocks for a line.
    """
    inside = pairs.mean < (0.95 * pairs.limit if np.isfinite(pairs.limit) else np.inf)
    limit = float(pairs.mean[inside].max(initial=0.0))
    if inside.sum() < _FEWEST or limit <= 0:
        raise NotEnough(f"ISO {pairs.iso:g}: too few blocks that are not clipped for a photon transfer curve")
    edges = np.quantile(pairs.mean[inside], np.linspace(0, 1, min(25, inside.sum() // 4) + 1))
    bins = [inside & (pairs.mean > low) & (pairs.mean <= high) for low, high in pairwise(edges)]
    upper = [own for own in bins if own.any() and pairs.mean[own].max() > limit / 2]
    curved = _solve(pairs, inside, 2)
    curvature = _interval(curved, 2)
    bend = curvature.value * float(np.median(pairs.mean[inside])) / max(float(curved[0][1]), 1e-12)
    surely = abs(curvature.value) > _CERTAIN * (curvature.high - curvature.low) / 2
    bent = surely and abs(bend) > _BENT and not any(_is_off(pairs, own, curved[0]) for own in upper)
    if bent:
        use, linear_to = inside, min(limit, _OFF * float(curved[0][1]) / abs(curvature.value))
    else:
        low = inside & (pairs.mean <= limit / 2)
        use, linear_to = low if low.sum() >= _FEWEST else inside, limit
        for own in upper:
            if _is_off(pairs, own, _solve(pairs, use, 1)[0]):
                linear_to = float(pairs.mean[own].min())
                break
            use = use | own
    degree = 2 if bent else 1
    found = _solve(pairs, use, degree)
    sites = [use & (pairs.site == site) for site in range(pairs.site.max() + 1)]
    return PhotonTransfer(
        gain=_interval(found, 1),
        gains=tuple(_interval(_solve(pairs, own, degree), 1) if own.sum() >= _FEWEST else None for own in sites),
        read=_interval(found, 0).root,
        linear_to=linear_to,
        blocks=int(use.sum()),
        bend=bend if bent else 0.0,
    )


def _is_off(pairs: FlatPairs, own: np.ndarray, coefficients: np.ndarray) -> bool:
    """Whether the variance of some blocks is not that of a curve, beyond doubt and by more than `_OFF`."""
    expected = np.maximum(np.vander(pairs.mean[own], len(coefficients), increasing=True) @ coefficients, 1e-12)
    ratio = float(np.average(pairs.variance[own] / expected, weights=pairs.sites[own]))
    return abs(ratio - 1) > max(_OFF, _SURE * float(np.sqrt(2 / pairs.sites[own].sum())))


def _interval(solution: tuple[np.ndarray, np.ndarray, int], place: int) -> Interval:
    """Of one coefficient, by Student's t."""
    values, covariance, freedom = solution
    value = float(values[place])
    half = float(student.ppf(0.975, max(1, freedom)) * covariance[place, place] ** 0.5)
    return Interval(value, value - half, value + half)


def _solve(pairs: FlatPairs, use: np.ndarray, degree: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Coefficients by rising power, their covariance by the scatter, and the degrees of freedom.

    A variance of N sites has the relative error sqrt(2 / N): weights are those of the fit itself, in four rounds.
    """
    mean, variance, sites = pairs.mean[use], pairs.variance[use], pairs.sites[use]
    design = np.vander(mean, degree + 1, increasing=True)
    scale = np.maximum(np.abs(design).max(axis=0), 1e-12)
    fitted, weights, solution = np.maximum(variance, 1e-12), np.ones_like(mean), np.zeros(degree + 1)
    for _ in range(4):
        weights = 1 / (fitted * np.sqrt(2 / sites))
        solution = np.linalg.lstsq(design * weights[:, None] / scale, variance * weights, rcond=None)[0] / scale
        fitted = np.maximum(design @ solution, 1e-12 * max(variance.max(), 1e-12))
    freedom = len(mean) - degree - 1
    residual = (variance - design @ solution) * weights
    weighted = design * weights[:, None] / scale
    covariance = np.linalg.pinv(weighted.T @ weighted) / np.outer(scale, scale)
    return solution, covariance * max(1.0, float(residual @ residual) / max(1, freedom)), freedom

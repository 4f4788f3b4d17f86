"""z-scores of moments: how many standard errors a figure of a sample lies from what it should be.

A sample of a right law gives |z| < 5 in all but one of two million cases; seeds are fixed, so a test that passes does
so always. Twins with a wrong law have to exceed the same bound.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

BOUND = 5.0


def mean_z(samples: ArrayLike, expected: float) -> float:
    """Of the mean of all samples."""
    x = np.asarray(samples, dtype=float).ravel()
    return _ratio(x.mean() - expected, x.std() / np.sqrt(x.size))


def variance_z(samples: ArrayLike, expected: float) -> float:
    """Of the variance of all samples; the error of a variance follows from the fourth moment."""
    x = np.asarray(samples, dtype=float).ravel()
    return mean_z((x - x.mean()) ** 2, expected)


def covariance_z(first: ArrayLike, second: ArrayLike, expected: float = 0.0) -> float:
    """Of the covariance of paired samples."""
    x, y = (np.asarray(samples, dtype=float).ravel() for samples in (first, second))
    return mean_z((x - x.mean()) * (y - y.mean()), expected)


def quantile_z(samples: ArrayLike, value: float, probability: float) -> float:
    """Of the share of samples at or below `value`, which should be `probability`."""
    x = np.asarray(samples, dtype=float).ravel()
    return float((np.mean(x <= value) - probability) / np.sqrt(probability * (1 - probability) / x.size))


def poisson_z(counts: ArrayLike, mean: float) -> float:
    """Of Pearson's chi-square of counts against the Poisson law, as a normal deviate (large: another law)."""
    x = np.asarray(counts).astype(int).ravel()
    low, high = (int(value) for value in stats.poisson.ppf([0.005, 0.995], mean))
    edges = np.arange(low, high + 1)
    expected = np.diff(np.concatenate([[0.0], stats.poisson.cdf(edges, mean), [1.0]])) * x.size
    observed = np.bincount(np.searchsorted(edges, x), minlength=len(edges) + 1)
    used = expected > 5
    chi = float(np.sum((observed[used] - expected[used]) ** 2 / expected[used]))
    freedom = max(1, int(used.sum()) - 1)
    return float(((chi / freedom) ** (1 / 3) - (1 - 2 / (9 * freedom))) / np.sqrt(2 / (9 * freedom)))


def _ratio(difference: float, error: float) -> float:
    if error == 0:  # a constant sample: right to the last digit, or infinitely wrong
        return 0.0 if abs(difference) < 1e-12 else float(np.copysign(np.inf, difference))
    return float(difference / error)

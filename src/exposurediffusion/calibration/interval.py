"""Numbers that say how sure they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student


@dataclass(frozen=True)
class Interval:
    """A measured value and the interval that holds the true one in 95 of 100 cases."""

    value: float
    low: float
    high: float

    @staticmethod
    def of_mean(values: np.ndarray) -> Interval:
        """The mean of independent, equally good measurements (n >= 2), by Student's t."""
        mean, count = float(np.mean(values)), len(values)
        half = float(student.ppf(0.975, count - 1) * np.std(values, ddof=1) / np.sqrt(count))
        return Interval(mean, mean - half, mean + half)

    @property
    def root(self) -> Interval:
        """Of a variance, the standard deviation; what is below 0 counts as 0."""
        return Interval(*(float(np.sqrt(max(0.0, x))) for x in (self.value, self.low, self.high)))

    def widened(self, by: float) -> Interval:
        """With what is not chance: an error of up to `by` of the method itself, added in squares."""
        low, high = ((end**2 + by**2) ** 0.5 for end in (self.value - self.low, self.high - self.value))
        return Interval(self.value, self.value - low, self.value + high)

    @property
    def relative(self) -> float:
        """Half of the width over the value; infinite at 0."""
        return (self.high - self.low) / 2 / abs(self.value) if self.value else float("inf")

    def __str__(self) -> str:
        return f"{self.value:.4g} ({self.low:.4g} to {self.high:.4g})"

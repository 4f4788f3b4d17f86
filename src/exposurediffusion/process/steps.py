"""How many exposures to simulate: a rule by the noise of the capture."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from math import isfinite
from typing import Any


@dataclass(frozen=True)
class StepRule:
    """T as a step function of the noise level, which is one number a frame (`physics.noise.noise_level`).

    Attributes:
        levels: ascending noise levels at which T changes, at reference brightness (1 = white); n numbers.
        counts: T below the first level, between each two, and from the last one on; n + 1 numbers.
    """

    levels: tuple[float, ...] = ()
    counts: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        if len(self.counts) != len(self.levels) + 1:
            raise ValueError(f"{len(self.levels)} noise levels part {len(self.levels) + 1} step counts")
        if any(count < 0 for count in self.counts):
            raise ValueError(f"numbers of steps are not negative, got {self.counts}")
        rising = all(low < high for low, high in pairwise(self.levels))
        if not rising or not all(isfinite(level) and level > 0 for level in self.levels):
            raise ValueError(f"noise levels are positive and ascend, got {self.levels}")

    def steps(self, level: float) -> int:
        """T for a capture with this noise level."""
        return self.counts[bisect_right(self.levels, level)]

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> StepRule:
        """Inverse of `to_dict`, also after JSON.

        Raises:
            KeyError, TypeError, ValueError: not such values.
        """
        return StepRule(tuple(map(float, values["levels"])), tuple(map(int, values["counts"])))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        """For people: `T = 2 below 0.02, 1 below 0.1, 0 above`."""
        below = [f"{count} below {level:.3g}" for count, level in zip(self.counts, self.levels, strict=False)]
        return "T = " + ", ".join([*below, f"{self.counts[-1]} above" if below else f"{self.counts[-1]}"])

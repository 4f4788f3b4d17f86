"""A run of the exposure process by names, as weights files, presets and the command line spell it."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from exposurediffusion.physics.conditions import Conditions
from exposurediffusion.physics.plain import build
from exposurediffusion.physics.random import RandomSource
from exposurediffusion.physics.ranges import check
from exposurediffusion.process.exposure import (
    TRANSITIONS,
    Adjust,
    Denoise,
    ExposureSchedule,
    ExposureStep,
    Transition,
    expose,
)

MOST_STEPS = 1000
"""Simulated exposures that anybody can mean."""
SCHEDULES = {"paper": ExposureSchedule.paper, "official": ExposureSchedule.official}


@dataclass(frozen=True)
class Sampling:
    """How to run `expose`.

    Attributes:
        steps: simulated exposures T; the network runs T + 1 times.
        schedule: `paper` ends at the reference exposure, `official` one step before it.
        transition: `markov` exposes on from the newest state, `restart` from the capture.
        increment: `mean`, or `sampled` with Poisson shot noise.
        clamp: range to which capture and estimates are clamped before they are exposed on, or None.
    """

    steps: int = 2
    schedule: Literal["paper", "official"] = "paper"
    transition: Transition = "markov"
    increment: Literal["mean", "sampled"] = "mean"
    clamp: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES or self.transition not in TRANSITIONS:
            raise ValueError(f"unknown schedule {self.schedule!r} or transition {self.transition!r}")
        if self.increment not in ("mean", "sampled"):
            raise ValueError(f"unknown increment {self.increment!r}: mean or sampled")

    @staticmethod
    def from_dict(values: Any) -> Sampling:
        """Inverse of `asdict`, also after JSON, which knows lists only.

        Raises:
            ValueError: a field that there is not, or of another kind; an unknown name, a number out of its range.
        """
        sampling = build(Sampling, values, "sampling")
        check(sampling, "sampling", steps=(0, MOST_STEPS), clamp=(-1e6, 1e6))
        return sampling

    def electrons(self, conditions: Conditions) -> Float[Tensor, "b"] | None:
        """What `expose` is given: electrons to sample, or None for mean light."""
        return conditions.electrons if self.increment == "sampled" else None

    def run(
        self,
        denoise: Denoise,
        capture: Float[Tensor, "b c h w"],
        conditions: Conditions,
        *,
        adjust: Adjust = lambda estimate: estimate,
        generator: RandomSource = None,
    ) -> Iterator[ExposureStep]:
        """`expose` with these choices; see there.

        Args:
            denoise: `denoise(state, exposure) -> estimate`.
            capture: X_T at reference brightness.
            conditions: of the capture; ratio, gain and saturation matter here.
            adjust: applied to every estimate.
            generator: of sampled light.
        """
        return expose(
            denoise,
            capture,
            SCHEDULES[self.schedule](conditions.ratio, self.steps),
            transition=self.transition,
            electrons=self.electrons(conditions),
            clamp=self.clamp,
            adjust=adjust,
            generator=generator,
        )


def last(steps: Iterable[ExposureStep]) -> Float[Tensor, "b c h w"]:
    """The last estimate of an exposure; earlier ones are let go."""
    return deque(steps, maxlen=1).pop().estimate


@dataclass
class SharedBeginning:
    """A denoiser for several exposures of one capture: they all begin with the same evaluation, which is done once.

    What it gives at exposure 1 is handed out again and must not be changed in place.

    Attributes:
        denoise: of the capture.
        first: its estimate from the capture itself, once known.
    """

    denoise: Denoise
    first: Tensor | None = None

    def __call__(self, state: Float[Tensor, "b c h w"], exposure: Float[Tensor, "b"]) -> Float[Tensor, "b c h w"]:
        """The estimate."""
        if not bool((exposure == 1).all()):
            return self.denoise(state, exposure)
        if self.first is None:
            self.first = self.denoise(state, exposure)
        return self.first


@dataclass(frozen=True)
class StepRule:
    """T as a step function of the noise level, which is one number per frame (`physics.noise.noise_level`).

    Attributes:
        levels: ascending noise levels at which T changes, at reference brightness (1 = white); n numbers.
        counts: T below the first level, between each two, and from the last one on; n + 1 numbers.
    """

    levels: tuple[float, ...] = ()
    counts: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        if len(self.counts) != len(self.levels) + 1:
            raise ValueError(f"{len(self.levels)} noise levels part {len(self.levels) + 1} step counts")
        if any(not 0 <= count <= MOST_STEPS for count in self.counts):
            raise ValueError(f"numbers of steps are not negative, nor above {MOST_STEPS}, got {self.counts}")
        rising = all(low < high for low, high in pairwise(self.levels))
        if not rising or not all(isfinite(level) and level > 0 for level in self.levels):
            raise ValueError(f"noise levels are positive and ascend, got {self.levels}")

    def steps(self, level: float) -> int:
        """T for a capture with this noise level."""
        return self.counts[bisect_right(self.levels, level)]

    @staticmethod
    def from_dict(values: Any) -> StepRule:
        """Inverse of `asdict`, also after JSON.

        Raises:
            ValueError: not such values.
        """
        return build(StepRule, values, "rule")

    def __str__(self) -> str:
        """For people: `T = 2 below 0.02, 1 below 0.1, 0 above`."""
        below = [f"{count} below {level:.3g}" for count, level in zip(self.counts, self.levels, strict=False)]
        return "T = " + ", ".join([*below, f"{self.counts[-1]} above" if below else f"{self.counts[-1]}"])


def mean_and_spread(images: Iterable[Float[Tensor, "*s"]]) -> tuple[Float[Tensor, "*s"], Float[Tensor, "*s"]]:
    """Mean and standard deviation (of n - 1) of each pixel; one image after the other, none is kept (Welford, 1962).

    Raises:
        ValueError: fewer than two images.
    """
    mean = squares = torch.zeros(())
    count = 0
    for count, image in enumerate(images, 1):
        if count == 1:
            mean, squares = image.clone(), torch.zeros_like(image)
            continue
        change = image - mean
        mean += change / count
        squares += change.mul_(image - mean)
    if count < 2:
        raise ValueError(f"a spread is that of two exposures at least, got {count}")
    return mean, squares.div_(count - 1).sqrt_()

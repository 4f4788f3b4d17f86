"""The exposure process of ExposureDiffusion (Wang et al., ICCV 2023): a short exposure learns to expose on.

Open this file first. A dark capture X_T is taken as the beginning of a longer exposure. A denoiser estimates the clean
image from what has been collected so far; the photons that the estimate predicts for the next stretch of time are
added; and so on, until the reference exposure. Everything else in this package serves `expose()`.

All images are linear at *reference brightness*: 1 is white, whatever the exposure of the state. An exposure is relative
to the capture's: 1 is the capture itself, `ratio` the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from exposurediffusion.physics.poisson import poisson
from exposurediffusion.physics.random import RandomSource, rand

Image = Float[Tensor, "b c h w"]
PerImage = Float[Tensor, "b"]

Denoise = Callable[[Tensor, Tensor], Tensor]
"""`denoise(state, exposure) -> estimate`: (b c h w), (b) -> (b c h w)."""

Adjust = Callable[[Tensor], Tensor]
"""A hook on every estimate; only `evaluation.metrics` passes one, for the published (oracle) protocol."""


@dataclass(frozen=True)
class ExposureSchedule:
    """The exposures at which the denoiser is evaluated, rising from 1 (the capture).

    Attributes:
        exposures: (steps + 1, b), relative to the capture.
        ratio: lambda_ref / lambda_T of each image, (b).
    """

    exposures: Float[Tensor, "n b"]
    ratio: PerImage

    @staticmethod
    def paper(ratio: float | PerImage, steps: int = 1) -> ExposureSchedule:
        """`lambda_T < ... < lambda_0 = lambda_ref`, evenly spaced; the last evaluation is at the reference (Alg. 2)."""
        ratio = _as_ratio(ratio, steps)
        position = torch.linspace(0, 1, steps + 1, device=ratio.device)[:, None]
        return ExposureSchedule(1 + (ratio - 1) * position, ratio)

    @staticmethod
    def official(ratio: float | PerImage, steps: int = 2) -> ExposureSchedule:
        """What the published tables use: `linspace(1, ratio, steps + 2)` without its last point."""
        ratio = _as_ratio(ratio, steps)
        position = torch.linspace(0, 1, steps + 2, device=ratio.device)[:-1, None]
        return ExposureSchedule(1 + (ratio - 1) * position, ratio)

    @staticmethod
    def random(ratio: PerImage, steps: int = 2, generator: RandomSource = None) -> ExposureSchedule:
        """The capture, then `steps` exposures drawn uniformly in (1, ratio) and sorted, for training (Algorithm 1)."""
        position = rand((len(ratio), steps), generator, ratio.device).T.sort(dim=0).values
        position = torch.cat([torch.zeros_like(position[:1]) if steps else ratio.new_zeros(1, len(ratio)), position])
        return ExposureSchedule(1 + (ratio - 1) * position, ratio)

    def __len__(self) -> int:
        """Number of network evaluations, steps + 1."""
        return len(self.exposures)


def _as_ratio(ratio: float | Tensor, steps: int) -> Tensor:
    ratio = torch.as_tensor(ratio, dtype=torch.float32).reshape(-1)
    if not bool(((ratio >= 1) & ratio.isfinite()).all()):
        raise ValueError(f"an amplification ratio is a finite number >= 1, got {ratio.tolist()}")
    if steps < 0:
        raise ValueError(f"the number of simulated exposures cannot be negative, got {steps}")
    return ratio


@runtime_checkable
class Increment(Protocol):
    """The light of a further stretch of exposure, as its mean brightness: `increment(estimate, duration, generator)`.

    `estimate` is (b c h w) at reference brightness, `duration` (b) in exposures of the capture; the result has the
    shape, unit and expectation of `estimate`.
    """

    def __call__(self, estimate: Tensor, duration: Tensor, generator: RandomSource = None) -> Tensor: ...


def mean_increment(estimate: Image, duration: PerImage, generator: RandomSource = None) -> Image:
    """The expectation itself: a simulated exposure without shot noise of its own."""
    return estimate


@dataclass(frozen=True)
class SampledIncrement:
    """Poisson photo-electrons (Eq. 9, 10), with a straight-through gradient: sample forward, mean backward.

    Attributes:
        electrons: electrons that the capture collected where the image is 1, (b) or a number;
            `physics.sensor.electrons_per_unit(ratio, gain)`.
    """

    electrons: PerImage | float

    def __call__(self, estimate: Image, duration: PerImage, generator: RandomSource = None) -> Image:
        """Count Poisson electrons whose expectation the estimate gives."""
        per_unit = (torch.as_tensor(self.electrons, device=estimate.device) * duration).reshape(-1, 1, 1, 1)
        per_unit = per_unit.clamp(min=torch.finfo(torch.float32).tiny)  # an empty stretch counts nothing
        drawn = poisson((estimate.detach() * per_unit).clamp_(min=0), generator).div_(per_unit)
        return drawn if not estimate.requires_grad else estimate + (drawn - estimate.detach())


@runtime_checkable
class Transition(Protocol):
    """How the next state is collected; see `markov` and `restart`."""

    def __call__(
        self,
        state: Tensor,
        capture: Tensor,
        estimate: Tensor,
        now: Tensor,
        then: Tensor,
        increment: Increment,
        generator: RandomSource = None,
    ) -> Tensor: ...


def markov(
    state: Image,
    capture: Image,
    estimate: Image,
    now: PerImage,
    then: PerImage,
    increment: Increment,
    generator: RandomSource = None,
) -> Image:
    """Expose on from the newest state (Eq. 10): `X_{t-1} = X_t + increment of lambda_{t-1} - lambda_t`."""
    return _collect(state, estimate, now, then, increment, generator)


def restart(
    state: Image,
    capture: Image,
    estimate: Image,
    now: PerImage,
    then: PerImage,
    increment: Increment,
    generator: RandomSource = None,
) -> Image:
    """Expose anew from the capture (released experiments): `X_{t-1} = X_T + increment of lambda_{t-1} - lambda_T`."""
    return _collect(capture, estimate, torch.ones_like(now), then, increment, generator)


def _collect(
    start: Image,
    estimate: Image,
    now: PerImage,
    then: PerImage,
    increment: Increment,
    generator: RandomSource,
) -> Image:
    """Average what `start` holds and the light of `then - now`, by the exposure of each."""
    light = increment(estimate, then - now, generator)
    return torch.lerp(start, light, ((then - now) / then).reshape(-1, 1, 1, 1))


@dataclass(frozen=True)
class ExposureStep:
    """One step of the simulated exposure.

    Attributes:
        index: 0 for the capture, counting up.
        exposure: of the state, relative to the capture, (b).
        state: what has been collected, X_t, (b c h w).
        estimate: of the clean image, after `adjust`, (b c h w).
    """

    index: int
    exposure: PerImage
    state: Image
    estimate: Image


def identity(estimate: Image) -> Image:
    """Leave the estimate alone."""
    return estimate


def expose(
    denoise: Denoise,
    capture: Image,
    schedule: ExposureSchedule,
    *,
    transition: Transition = markov,
    increment: Increment = mean_increment,
    clamp: Sequence[float] | None = None,
    adjust: Adjust = identity,
    generator: RandomSource = None,
) -> Iterator[ExposureStep]:
    """Yield each step of the simulated exposure (Algorithm 2).

    Training consumes every step, inference takes the last, a viewer shows each.

    Args:
        denoise: `denoise(state, exposure) -> estimate`.
        capture: X_T at reference brightness, (b c h w); may be negative.
        schedule: when to evaluate the denoiser.
        transition: `markov` or `restart`.
        increment: `mean_increment`, or a `SampledIncrement`.
        clamp: range to which capture and estimates are clamped before they are exposed on. Weights carry theirs: the
            authors' need (0, 1), which biases the dark.
        adjust: applied to every estimate; the sampler can see a target in no other way.
        generator: of the sampled increments: one, or one for each image.

    Yields:
        `len(schedule)` steps.
    """

    def limit(x: Tensor) -> Tensor:
        if clamp is None or (
            x.device.type == "cpu" and x.detach().amin() >= clamp[0] and x.detach().amax() <= clamp[1]
        ):
            return x  # no copy: the planes of a large frame are heavy; a GPU would have to be waited for
        return x.clamp(*clamp)

    schedule_exposures = schedule.exposures.to(capture)
    capture = state = limit(capture)
    for index, now in enumerate(schedule_exposures):
        now = now.expand(len(capture))
        estimate = adjust(denoise(state, now))
        yield ExposureStep(index, now, state, estimate)
        if index + 1 < len(schedule):
            then = schedule_exposures[index + 1].expand(len(capture))
            state = transition(state, capture, limit(estimate), now, then, increment, generator)

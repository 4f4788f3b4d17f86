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
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from exposurediffusion.physics.poisson import poisson
from exposurediffusion.physics.random import RandomSource, rand

Image = Float[Tensor, "b c h w"]
PerImage = Float[Tensor, "b"]
Transition = Literal["markov", "restart"]
TRANSITIONS: tuple[str, ...] = get_args(Transition)

Denoise = Callable[[Tensor, Tensor], Tensor]
"""`denoise(state, exposure) -> estimate`: (b c h w), (b) -> (b c h w)."""

Adjust = Callable[[Tensor], Tensor]
"""Applied to every estimate: identity, but for the published protocol, which corrects brightness by the reference."""


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
        """Evenly spaced; the last evaluation is at the reference (Algorithm 2)."""
        return _even(ratio, steps, steps + 1)

    @staticmethod
    def official(ratio: float | PerImage, steps: int = 2) -> ExposureSchedule:
        """What the published tables use: `linspace(1, ratio, steps + 2)` without its last point."""
        return _even(ratio, steps, steps + 2)

    @staticmethod
    def random(ratio: PerImage, steps: int = 2, generator: RandomSource = None) -> ExposureSchedule:
        """The capture, then `steps` exposures drawn uniformly in (1, ratio) and sorted, for training (Algorithm 1)."""
        later = rand((len(ratio), steps), generator, ratio.device).T.sort(dim=0).values
        position = torch.cat([ratio.new_zeros(1, len(ratio)), later])
        return ExposureSchedule(1 + (ratio - 1) * position, ratio)

    def __len__(self) -> int:
        """Number of network evaluations, steps + 1."""
        return len(self.exposures)


def _even(ratio: float | Tensor, steps: int, points: int) -> ExposureSchedule:
    """The first `steps + 1` of so many points from the capture to the reference."""
    ratio = torch.as_tensor(ratio, dtype=torch.float32).reshape(-1)
    if not bool(((ratio >= 1) & ratio.isfinite()).all()):
        raise ValueError(f"an amplification ratio is a finite number >= 1, got {ratio.tolist()}")
    if steps < 0:
        raise ValueError(f"the number of simulated exposures cannot be negative, got {steps}")
    position = torch.linspace(0, 1, points, device=ratio.device)[: steps + 1, None]
    return ExposureSchedule(1 + (ratio - 1) * position, ratio)


def sampled_light(estimate: Image, electrons: PerImage, generator: RandomSource = None) -> Image:
    """Brightness of Poisson photo-electrons of which the estimate is the mean (Eq. 9): sample forward, mean backward.

    Args:
        estimate: mean brightness.
        electrons: counted where the image is 1.
        generator: one, or one for each image.
    """
    per_unit = electrons.reshape(-1, 1, 1, 1).clamp(
        min=torch.finfo(torch.float32).tiny
    )  # an empty stretch counts nothing
    drawn = poisson((estimate.detach() * per_unit).clamp_(min=0), generator).div_(per_unit)
    return drawn if not estimate.requires_grad else estimate + (drawn - estimate.detach())


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


def expose(
    denoise: Denoise,
    capture: Image,
    schedule: ExposureSchedule,
    *,
    transition: Transition = "markov",
    electrons: PerImage | float | None = None,
    clamp: Sequence[float] | None = None,
    adjust: Adjust = lambda estimate: estimate,
    generator: RandomSource = None,
) -> Iterator[ExposureStep]:
    """Yield each step of the simulated exposure (Algorithm 2).

    Training consumes every step, inference takes the last, a viewer shows each.

    Args:
        denoise: `denoise(state, exposure) -> estimate`.
        capture: X_T at reference brightness, (b c h w); may be negative.
        schedule: when to evaluate the denoiser.
        transition: `markov` exposes on from the newest state (Eq. 10: X_t + light of lambda_{t-1} - lambda_t);
            `restart` anew from the capture (the released experiments: X_T + light of lambda_{t-1} - lambda_T).
        electrons: that the capture collected where the image is 1: light is then a Poisson sample; None: its mean,
            without shot noise of its own.
        clamp: range to which capture and estimates are clamped before they are exposed on. Weights carry theirs: the
            authors' need (0, 1), which biases the dark.
        adjust: applied to every estimate; the sampler can see a target in no other way.
        generator: of the samples: one, or one for each image.

    Yields:
        `len(schedule)` steps.

    Raises:
        ValueError: another transition.
    """
    if transition not in TRANSITIONS:
        raise ValueError(f"unknown transition {transition!r}: {' or '.join(TRANSITIONS)}")

    def limit(x: Tensor) -> Tensor:
        if clamp is None or (
            x.device.type == "cpu" and x.detach().amin() >= clamp[0] and x.detach().amax() <= clamp[1]
        ):
            return x  # no copy: the planes of a large frame are heavy; a GPU would have to be waited for
        return x.clamp(*clamp)

    exposures = schedule.exposures.to(capture).expand(-1, len(capture))
    capture = state = limit(capture)
    for index, now in enumerate(exposures):
        estimate = adjust(denoise(state, now))
        yield ExposureStep(index, now, state, estimate)
        if index + 1 == len(schedule):
            return
        then = exposures[index + 1]
        start, since = (state, now) if transition == "markov" else (capture, torch.ones_like(now))
        light = limit(estimate)
        if electrons is not None:
            light = sampled_light(light, torch.as_tensor(electrons, device=light.device) * (then - since), generator)
        state = torch.lerp(start, light, ((then - since) / then).reshape(-1, 1, 1, 1))  # by the exposure of each

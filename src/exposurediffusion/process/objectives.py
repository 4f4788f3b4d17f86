"""What training minimises: losses on an estimate, the auxiliary branch loss, and the unrolled loss of Algorithm 1."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from exposurediffusion.physics.random import RandomSource
from exposurediffusion.process.exposure import Adjust, ExposureSchedule, Transition, expose

PixelLoss = Callable[[Tensor, Tensor], Tensor]
"""`loss(estimate, clean)` of each pixel, same shape."""


@runtime_checkable
class Branches(Protocol):
    """What a denoiser with the adaptive residual layer says; the last three are None without it."""

    @property
    def image(self) -> Tensor: ...
    @property
    def mask(self) -> Tensor | None: ...
    @property
    def direct(self) -> Tensor | None: ...
    @property
    def residual(self) -> Tensor | None: ...


def l1_loss(estimate: Float[Tensor, "*s"], clean: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """Absolute error of each pixel."""
    return (estimate - clean).abs()


def poisson_kl_loss(
    estimate: Float[Tensor, "*s"], clean: Float[Tensor, "*s"], floor: float = 1e-3
) -> Float[Tensor, "*s"]:
    """KL divergence of two Poisson laws, up to the scale of the photon count (Eq. 11): `F log(F/X) + X - F`.

    The logarithm would blow up below `floor`: `clean` is raised to it, and below it the loss of an estimate goes on as
    a straight line of the slope that it has there, so that there is a way back.
    """
    clean = clean.clamp(min=floor)
    bounded = estimate.clamp(min=floor)
    slope = torch.log(bounded.detach() / clean)  # of the loss, at the estimate or the floor
    return bounded * torch.log(bounded / clean) + clean - bounded + slope * (estimate - bounded)


CURVE_TOE = 0.01
PIXEL_LOSSES: dict[str, PixelLoss] = {"l1": l1_loss, "kl": poisson_kl_loss}


def branch_loss(output: Branches, clean: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Auxiliary L1 on each branch, weighted by the mask: `|X_hat - X| M + |(state + R_hat) - X| (1 - M)`.

    Zero for a network without the adaptive residual layer.
    """
    if output.mask is None or output.direct is None or output.residual is None:
        return torch.zeros_like(clean)
    return l1_loss(output.direct, clean) * output.mask + l1_loss(output.residual, clean) * (1 - output.mask)


def curve_loss(estimate: Float[Tensor, "b c h w"], clean: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Absolute error on a scale that is nearer to what eyes see: the square root of light, straight near black."""
    return (torch.sqrt(estimate.clamp(min=0) + CURVE_TOE) - torch.sqrt(clean.clamp(min=0) + CURVE_TOE)).abs()


def averages_loss(error: Float[Tensor, "b c h w"], halvings: int = 4) -> Float[Tensor, "b"]:
    """Mean over 2x2, 4x4, ... averages of the absolute value of the averaged `error`, one number per image.

    Blotches are errors of averages: faint in each pixel, plain in the picture.
    """
    total = error.new_zeros(len(error))
    for _ in range(halvings):
        error = F.avg_pool2d(error, 2)
        total = total + error.abs().mean(dim=(1, 2, 3))
    return total / halvings


class StepWeights(nn.Module):
    """Learned weights of the steps' losses: clipped to [0, 1], the last is 1 minus the others' sum; equal at first."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.free = nn.Parameter(torch.full((steps,), 1 / (steps + 1)))

    def forward(self) -> Float[Tensor, "n"]:
        """steps + 1 weights."""
        free = self.free.clamp(0, 1)
        return torch.cat([free, (1 - free.sum()).reshape(1)])


@dataclass(frozen=True)
class Objective:
    """The unrolled loss and its choices.

    Attributes:
        pixel: loss of a pixel, a name in `PIXEL_LOSSES`.
        branch: weight of the auxiliary branch loss.
        balance: divide each image's loss by its capture's mean absolute error plus this floor, so that bright, clean
            captures count as much as dark, noisy ones (PSNR is a logarithm); None: plain mean.
        curve: weight of `curve_loss`, balanced by the capture's own, and
        averages: of `averages_loss`, balanced as the loss of the pixels.
        white: brightness at which captures are clipped where they balance a loss.
        transition, clamp: of `expose`.
    """

    pixel: str = "l1"
    branch: float = 1.0
    balance: float | None = None
    curve: float = 0.0
    averages: float = 0.0
    white: float = 1.0
    transition: Transition = "markov"
    clamp: Sequence[float] | None = None


def unrolled_loss(
    evaluate: Callable[[Tensor, Tensor], Branches],
    capture: Float[Tensor, "b c h w"],
    clean: Float[Tensor, "b c h w"],
    schedule: ExposureSchedule,
    objective: Objective,
    weights: Float[Tensor, "n"] | None = None,
    electrons: Float[Tensor, "b"] | float | None = None,
    adjust: Adjust = lambda estimate: estimate,
    generator: RandomSource = None,
) -> tuple[Float[Tensor, ""], Float[Tensor, "n"]]:
    """Algorithm 1: the weighted mean of the loss of every step of the simulated exposure.

    Args:
        evaluate: the network: `evaluate(state, exposure)` with an `image` and, by its kind, mask and branches.
        capture, clean: X_T and X_ref at reference brightness.
        schedule: usually `ExposureSchedule.random`.
        objective: the choices.
        weights: of the steps, from `StepWeights`; None: equal.
        electrons: of `expose`.
        adjust: `illuminance correction` when the published rows are reproduced.
        generator: of sampled light.

    Returns:
        The loss, and the unweighted loss of each step.
    """
    outputs: list[Branches] = []

    def denoise(state: Tensor, exposure: Tensor) -> Tensor:
        outputs.append(evaluate(state, exposure))
        return outputs[-1].image

    def balance(loss: PixelLoss) -> Tensor | float:
        """The factor of a loss for each image."""
        if objective.balance is None:
            return 1.0
        return 1 / (loss(capture.clamp(0, objective.white), clean).mean(dim=(1, 2, 3)) + objective.balance)

    pixel = PIXEL_LOSSES[objective.pixel]
    plain, curved = balance(l1_loss), balance(curve_loss) if objective.curve else 1.0
    losses = []
    for step in expose(
        denoise,
        capture,
        schedule,
        transition=objective.transition,
        electrons=electrons,
        clamp=objective.clamp,
        adjust=adjust,
        generator=generator,
    ):
        error = pixel(step.estimate, clean) + objective.branch * branch_loss(outputs[-1], clean)
        loss = error.mean(dim=(1, 2, 3)) * plain
        if objective.curve:
            loss = loss + objective.curve * curved * curve_loss(step.estimate, clean).mean(dim=(1, 2, 3))
        if objective.averages:
            loss = loss + objective.averages * plain * averages_loss(step.estimate - clean)
        losses.append(loss.mean())
    stacked = torch.stack(losses)
    total = stacked.mean() if weights is None else (stacked * weights).sum()
    return total, stacked.detach()

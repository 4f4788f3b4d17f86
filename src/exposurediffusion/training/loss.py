"""The loss of a training step as one module: the network and all that is learned with it, distributed as a whole."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from exposurediffusion.baselines.diffusion import ConditionalDiffusion
from exposurediffusion.evaluation.metrics import illuminance_correction
from exposurediffusion.models.denoiser import Estimate, ExposureDenoiser
from exposurediffusion.physics.conditions import Conditions
from exposurediffusion.process.exposure import ExposureSchedule
from exposurediffusion.process.objectives import Objective, StepWeights, unrolled_loss
from exposurediffusion.training.captures import Captures
from exposurediffusion.training.recipe import Recipe


class UnrolledLoss(nn.Module):
    """Algorithm 1 around an `ExposureDenoiser`.

    Args:
        recipe: of the run.
        autocast: run the network in bfloat16 where PyTorch deems it safe.
    """

    def __init__(self, recipe: Recipe, autocast: bool = False) -> None:
        super().__init__()
        self.recipe, self.autocast = recipe, autocast
        self.denoiser = ExposureDenoiser(recipe.denoiser)
        self.weights = StepWeights(recipe.objective.steps) if recipe.objective.learned_weights else None

    def forward(self, captures: Captures, steps: int) -> Float[Tensor, ""]:
        """The loss of a batch whose exposure is simulated in `steps` random steps."""
        recipe, sampling = self.recipe.objective, self.recipe.sampling
        clamp = sampling.clamp
        capture = captures.capture if clamp is None else captures.capture.clamp(*clamp)
        conditions = replace(captures.conditions, origin=capture)

        def evaluate(state: Tensor, exposure: Tensor) -> Estimate:
            with torch.autocast(state.device.type, torch.bfloat16, enabled=self.autocast):
                return self.denoiser(state.contiguous(memory_format=torch.channels_last), exposure, conditions)

        objective = Objective(
            recipe.pixel,
            recipe.branch,
            recipe.balance,
            recipe.curve,
            recipe.averages,
            self.recipe.denoiser.white,
            sampling.transition,
            clamp,
        )
        weights = None if self.weights is None else self.weights()
        loss, _ = unrolled_loss(
            evaluate,
            capture,
            captures.target,
            ExposureSchedule.random(conditions.ratio, steps, captures.generator),
            objective,
            weights if steps == recipe.steps else None,
            sampling.electrons(Conditions.of(captures.noise, conditions.ratio)),
            (lambda x: illuminance_correction(x, captures.target)) if recipe.corrected else (lambda x: x),
            captures.generator,
        )
        if weights is not None and steps != recipe.steps:
            loss = loss + 0 * weights.sum()  # in a feed-forward beginning they wait, but take part
        return loss


class DiffusionLoss(nn.Module):
    """Noise prediction of the conditional diffusion model (Table 7)."""

    def __init__(self, recipe: Recipe, autocast: bool = False) -> None:
        super().__init__()
        if recipe.diffusion is None:
            raise ValueError("the recipe names no diffusion model")
        self.autocast = autocast
        self.denoiser = ConditionalDiffusion(recipe.diffusion)

    def forward(self, captures: Captures, steps: int) -> Float[Tensor, ""]:
        """The loss of a batch; there are no simulated exposures."""
        with torch.autocast(captures.capture.device.type, torch.bfloat16, enabled=self.autocast):
            return self.denoiser.loss(captures.capture.clamp(0, 1), captures.target.clamp(0, 1), captures.generator)


def loss_of(recipe: Recipe, autocast: bool = False) -> UnrolledLoss | DiffusionLoss:
    """The loss module that a recipe wants, with fresh weights."""
    return (UnrolledLoss if recipe.diffusion is None else DiffusionLoss)(recipe, autocast)

"""Losses of a training step: what the network is shown, the choices of the objective, and that learning works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from exposurediffusion.baselines.diffusion import ConditionalDiffusion, DiffusionConfig
from exposurediffusion.evaluation.metrics import illuminance_correction
from exposurediffusion.models.denoiser import Estimate, ExposureDenoiser
from exposurediffusion.process.sampling import Sampling
from exposurediffusion.training.batches import Batch, collate
from exposurediffusion.training.captures import CaptureMaker, Captures
from exposurediffusion.training.loss import DiffusionLoss, UnrolledLoss, loss_of
from exposurediffusion.training.recipe import CaptureRecipe, ObjectiveRecipe, OptimizerRecipe, Prelude, Recipe
from exposurediffusion.training.run import Run
from tests.tiny import PLAIN, TINY, Light

DIFFUSION = DiffusionConfig(channels=(8, 8), layers=1, groups=4, timesteps=50, steps=2)


def batch(first: int = 0, count: int = 2, size: int = 16) -> Batch:
    numbers = tuple(range(first, first + count))
    return collate(numbers, [Light().patch(number, size) for number in numbers])


def captures(recipe: Recipe) -> Captures:
    return CaptureMaker(recipe.capture, recipe.seed)(batch(), 0)


def loss(recipe: Recipe, steps: int | None = None) -> float:
    torch.manual_seed(1)
    return UnrolledLoss(recipe)(captures(recipe), recipe.objective.steps if steps is None else steps).item()


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, Tensor, Any]]:
    """State, exposure and conditions of every evaluation of the network."""
    found: list[tuple[Tensor, Tensor, Any]] = []
    forward = ExposureDenoiser.forward

    def listening(self: ExposureDenoiser, state: Tensor, exposure: Tensor, conditions: Any) -> Estimate:
        found.append((state.detach().clone(), exposure.clone(), conditions))
        return forward(self, state, exposure, conditions)

    monkeypatch.setattr(ExposureDenoiser, "forward", listening)
    return found


@pytest.mark.parametrize("steps", [0, 1, 2, 5])
def test_the_network_sees_the_capture_and_rising_exposures_of_it(steps: int, seen: list[Any]) -> None:
    recipe = replace(TINY, objective=ObjectiveRecipe(steps=steps))
    made = captures(recipe)
    UnrolledLoss(recipe)(made, steps)
    assert len(seen) == steps + 1
    assert torch.equal(seen[0][0], made.capture)
    exposures = torch.stack([exposure for _, exposure, _ in seen])
    assert (exposures[0] == 1).all()
    assert (exposures.diff(dim=0) > 0).all()
    assert (exposures <= made.conditions.ratio).all()
    assert all(torch.equal(conditions.origin, made.capture) for _, _, conditions in seen)


def test_images_have_random_exposures_of_their_own(seen: list[Any]) -> None:
    UnrolledLoss(TINY)(captures(TINY), 2)
    share = (seen[1][1] - 1) / (seen[1][2].ratio - 1)
    assert abs(float(share[0] - share[1])) > 1e-3


@pytest.mark.parametrize(("transition", "increment"), [("markov", "mean"), ("restart", "mean"), ("markov", "sampled")])
def test_transition_and_increment_of_the_recipe_hold_in_training(
    transition: Any, increment: Any, seen: list[Any]
) -> None:
    losses = {}
    for sampling in (Sampling(2, "paper", transition, increment), Sampling(2, "paper", "restart", "sampled")):
        losses[sampling] = loss(replace(TINY, sampling=sampling))
    assert len(set(losses.values())) == 2
    assert torch.equal(seen[0][0], seen[3][0])  # the same captures: what differs comes later
    assert not torch.equal(seen[2][0], seen[5][0])


def test_the_clamp_of_the_recipe_limits_what_the_network_sees(seen: list[Any]) -> None:
    recipe = replace(TINY, capture=CaptureRecipe(clip=False, gain_range=(20.0, 30.0)))
    for clamp in (None, (0.0, 1.0)):
        loss(replace(recipe, sampling=Sampling(clamp=clamp)), 0)
    assert seen[0][0].amin() < 0
    assert seen[1][0].amin() >= 0
    assert seen[1][0].amax() <= 1
    assert torch.equal(seen[1][2].origin, seen[1][0])  # its second look is the same


def test_the_loss_is_the_published_one(seen: list[Any]) -> None:
    """Equal weights of the steps, L1 on the estimate and, masked, on both branches; from the network's own words."""
    recipe = replace(TINY, objective=ObjectiveRecipe(steps=2, branch=0.7), sampling=Sampling(increment="mean"))
    made = captures(recipe)
    torch.manual_seed(1)
    module = UnrolledLoss(recipe)
    said = []
    handle = module.denoiser.register_forward_hook(lambda *event: said.append(event[2]))
    found = module(made, 2).item()
    handle.remove()
    losses = []
    for estimate in said:
        direct, residual = ((branch - made.target).abs() for branch in (estimate.direct, estimate.residual))
        auxiliary = direct * estimate.mask + residual * (1 - estimate.mask)
        losses.append(((estimate.image - made.target).abs() + 0.7 * auxiliary).mean().item())
    assert found == pytest.approx(np.mean(losses), rel=1e-5)


def test_correction_gives_loss_and_next_exposure_the_corrected_estimate(seen: list[Any]) -> None:
    plain = replace(TINY, objective=ObjectiveRecipe(steps=1, branch=0.0), sampling=Sampling(increment="mean"))
    corrected = replace(plain, objective=replace(plain.objective, corrected=True))
    made = captures(plain)
    assert loss(plain) != loss(corrected)
    assert torch.equal(seen[0][0], seen[2][0])
    assert not torch.equal(seen[1][0], seen[3][0])  # the next exposure of the corrected estimate
    torch.manual_seed(1)
    with torch.no_grad():
        estimate = UnrolledLoss(plain).denoiser(*seen[0]).image
    expected = (illuminance_correction(estimate, made.target) - made.target).abs().mean()
    assert loss(corrected, 0) == pytest.approx(float(expected), rel=1e-5)
    assert loss(plain, 0) != pytest.approx(float(expected), rel=1e-2)


def test_a_balanced_loss_counts_every_image_relative_to_its_noise() -> None:
    plain = replace(TINY, objective=ObjectiveRecipe(steps=0, branch=0.0))
    balanced = replace(plain, objective=replace(plain.objective, balance=0.02))
    made = captures(plain)
    torch.manual_seed(1)
    with torch.no_grad():
        estimate = UnrolledLoss(plain).denoiser(made.capture, torch.ones(2), made.conditions).image
    error = (estimate - made.target).abs().mean(dim=(1, 2, 3))
    noise = (made.capture.clamp(0, 1) - made.target).abs().mean(dim=(1, 2, 3))
    assert loss(balanced) == pytest.approx(float((error / (noise + 0.02)).mean()), rel=1e-5)


def test_learned_step_weights_begin_equal_and_are_learned() -> None:
    weighted = replace(TINY, objective=ObjectiveRecipe(steps=2, learned_weights=True))
    equal = replace(TINY, objective=ObjectiveRecipe(steps=2))
    assert loss(weighted) == pytest.approx(loss(equal), rel=1e-5)
    module = UnrolledLoss(weighted)
    assert module.weights is not None
    module(captures(weighted), 2).backward()
    assert module.weights.free.grad is not None
    assert (module.weights.free.grad != 0).all()


def test_in_the_prelude_step_weights_wait_and_still_take_part() -> None:
    """A parameter without a gradient would end a distributed run."""
    recipe = replace(TINY, objective=ObjectiveRecipe(steps=2, learned_weights=True), prelude=Prelude(2 / 6, 1e-3))
    run = Run(recipe, PLAIN)
    assert isinstance(run.loss, UnrolledLoss)
    assert run.loss.weights is not None
    free = run.loss.weights.free
    before = free.detach().clone()
    for number in range(4):
        run.step(batch(2 * number))
        assert free.grad is not None
        assert torch.equal(free.detach(), before) == (number < 2)
    assert loss(recipe, 0) == pytest.approx(loss(replace(TINY, objective=ObjectiveRecipe(steps=2)), 0))


@pytest.mark.parametrize(("target", "pixel"), [("p+g", "kl"), ("paired", "l1"), ("noise2noise", "l1")])
def test_the_loss_falls_whatever_is_learned_from(pixel: Any, target: str) -> None:
    supervision: Any = target if target != "p+g" else "clean"
    recipe = replace(
        TINY,
        iterations=50,
        capture=CaptureRecipe(supervision, "p+g", gain_range=(0.5, 0.6), ratio=(20.0, 25.0)),
        objective=ObjectiveRecipe(1, pixel),
        optimizer=OptimizerRecipe(5e-3, "constant"),
    )
    data = Light(ratios=(50.0,) if target == "paired" else ())
    assert falls(recipe, lambda n: collate((2 * n, 2 * n + 1), [data.patch(n % 2, 16), data.patch(0, 16)]))


def falls(recipe: Recipe, data: Callable[[int], Batch], to: float = 0.6) -> bool:
    run = Run(recipe, PLAIN)
    losses = []
    for number in range(50):
        run.step(data(number))
        losses.append(run.read().loss)
    return bool(np.mean(losses[-10:]) < to * np.mean(losses[:5]))


def test_bfloat16_gives_nearly_the_same_finite_loss_and_gradients_of_float32() -> None:
    made = captures(TINY)
    values = []
    for autocast in (False, True):
        torch.manual_seed(1)
        module = UnrolledLoss(TINY, autocast)
        value = module(CaptureMaker(TINY.capture, TINY.seed)(batch(), 0), 2)
        value.backward()
        gradients = [p.grad for p in module.parameters() if p.grad is not None]
        assert len(gradients) == len(list(module.parameters()))
        assert all(gradient.isfinite().all() and gradient.dtype == torch.float32 for gradient in gradients)
        values.append(float(value.detach()))
    assert values[1] == pytest.approx(values[0], rel=0.05)
    assert values[0] != values[1]
    assert made.capture.dtype == torch.float32


# -------------------------------------------------------------------------------------------------------- diffusion


def test_a_recipe_with_a_diffusion_model_trains_that() -> None:
    pytest.importorskip("diffusers")
    module = loss_of(replace(TINY, diffusion=DIFFUSION))
    assert isinstance(module, DiffusionLoss)
    assert isinstance(module.denoiser, ConditionalDiffusion)
    made = captures(TINY)
    value = module(made, 0)
    value.backward()
    assert 0.1 < float(value) < 10  # the noise has variance 1
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())
    with pytest.raises(ValueError, match="names no diffusion model"):
        DiffusionLoss(TINY)
    assert isinstance(loss_of(TINY), UnrolledLoss)


def test_the_diffusion_loss_falls() -> None:
    pytest.importorskip("diffusers")
    recipe = replace(TINY, diffusion=DIFFUSION, optimizer=OptimizerRecipe(3e-3, "constant"))
    assert falls(recipe, lambda n: batch(2 * n), to=0.8)

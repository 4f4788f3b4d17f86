"""Budgets: names of runs, the paper's recipes, and what takes the place of its networks in an evening."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from exposurediffusion.evaluation.cost import multiply_adds, parameters
from exposurediffusion.models.denoiser import ExposureDenoiser
from exposurediffusion.reproduction.budget import EVENING, STAND_INS, Budget, run_name
from exposurediffusion.training.presets import PRESETS, find_preset


def test_names_of_runs() -> None:
    assert run_name("eld-unet-exposure") == "eld-unet-exposure"
    assert run_name("eld-unet-feedforward", matched=True) == "eld-unet-feedforward+compute"
    assert run_name("eld-unet-feedforward", True, 2) == "eld-unet-feedforward+compute+seed2"
    assert run_name("eld-unet-feedforward", True, 2, 3e-3) == "eld-unet-feedforward+compute+seed2@0.003"


def test_budgets_by_name() -> None:
    assert Budget.parse("paper") == Budget(None)
    assert Budget.parse("evening") == Budget(EVENING)
    assert Budget.parse("350") == Budget(350)


@pytest.mark.parametrize("text", ["night", "0", "-3", "1.5", "", "\u00b2"])
def test_budgets_that_there_are_not(text: str) -> None:
    with pytest.raises(ValueError, match="--budget is paper, evening, or a number"):
        Budget.parse(text)


@pytest.mark.parametrize("budget", [Budget(), Budget(EVENING), Budget(7)])
def test_equal_compute_is_three_evaluations_an_iteration(budget: Budget) -> None:
    preset = find_preset("p+g-unet-feedforward")
    equal, matched = budget.recipe(preset), budget.recipe(preset, matched=True)
    assert matched.iterations == 3 * equal.iterations
    assert replace(matched, iterations=equal.iterations) == equal
    exposure = find_preset("p+g-unet-exposure").recipe
    assert exposure.objective.steps + 1 == 3  # which is what the factor stands for


def test_the_papers_budget_is_its_recipe() -> None:
    for preset in PRESETS.values():
        assert Budget().recipe(preset) == replace(preset.recipe, seed=0)
        assert Budget().recipe(preset, seed=4).seed == 4


@pytest.mark.parametrize("budget", [Budget(), Budget(EVENING)])
def test_a_learning_rate_of_ones_own_changes_nothing_else(budget: Budget) -> None:
    preset = find_preset("eld-unet-exposure")
    given, own = budget.recipe(preset, True, 1, 7e-3), budget.recipe(preset, True, 1)
    assert given.optimizer.lr == 7e-3
    assert replace(given, optimizer=own.optimizer) == own
    assert replace(given.optimizer, lr=own.optimizer.lr) == own.optimizer


def test_a_small_budget_changes_size_and_not_kind() -> None:
    for name, preset in PRESETS.items():
        recipe = Budget(EVENING).recipe(preset, seed=2)
        assert (recipe.iterations, recipe.batch, recipe.patch, recipe.seed) == (2000, 4, 64, 2), name
        assert (recipe.capture, recipe.objective, recipe.sampling) == (
            preset.recipe.capture,
            preset.recipe.objective,
            preset.recipe.sampling,
        )
        same = replace(recipe.denoiser, options=preset.recipe.denoiser.options)
        assert same == preset.recipe.denoiser


def test_stand_ins_are_small_and_distinct() -> None:
    """With and without the method they are the same network; NAFNet-1 is small already, and stays."""
    recipes = {b: Budget(EVENING).recipe(find_preset(f"p+g-{b}-exposure")) for b in ("unet", "nafnet1", "nafnet2")}
    nets = {name: ExposureDenoiser(recipe.denoiser) for name, recipe in recipes.items()}
    assert recipes["unet"].denoiser.options == STAND_INS["unet"]
    assert recipes["nafnet2"].denoiser.options == STAND_INS["nafnet"]
    assert recipes["nafnet1"].denoiser == find_preset("p+g-nafnet1-exposure").recipe.denoiser
    counts = {name: parameters(net) for name, net in nets.items()}
    assert counts["nafnet1"] < 5_000
    assert counts["nafnet1"] < counts["nafnet2"] < counts["unet"] < 1_000_000
    work = {name: multiply_adds(net, 64) for name, net in nets.items()}
    assert max(work.values()) < 5 * work["nafnet1"]
    for backbone in ("unet", "nafnet2"):
        other = Budget(EVENING).recipe(find_preset(f"p+g-{backbone}-feedforward")).denoiser
        assert other.options == recipes[backbone].denoiser.options


def test_recipes_do_not_share_their_options() -> None:
    first, second = (Budget(5).recipe(find_preset(f"{noise}-unet-exposure")).denoiser for noise in ("eld", "p+g"))
    assert first.options is not second.options
    assert first.options is not STAND_INS["unet"]


def test_stand_ins_of_the_diffusion_models_keep_their_order() -> None:
    pytest.importorskip("diffusers")
    from exposurediffusion.baselines.diffusion import ConditionalDiffusion

    sizes = []
    for size in ("small", "large"):
        recipe = Budget(EVENING).recipe(find_preset(f"p+g-diffusion-{size}"), matched=True)
        assert recipe.diffusion is not None
        with torch.device("meta"):
            sizes.append(parameters(ConditionalDiffusion(recipe.diffusion)))
        assert recipe.diffusion.timesteps == 1000
    assert sizes[0] < sizes[1] < 8_619_000 / 4

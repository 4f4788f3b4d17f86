"""Recipes: the learning rate of every law, the prelude, and what makes no sense."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import asdict, is_dataclass, replace
from typing import Any

import numpy as np
import pytest

from exposurediffusion.baselines.diffusion import DIFFUSION_SIZES
from exposurediffusion.process.sampling import Sampling
from exposurediffusion.training.execution import Execution
from exposurediffusion.training.presets import PRESETS
from exposurediffusion.training.recipe import CaptureRecipe, ObjectiveRecipe, OptimizerRecipe, Prelude, Recipe
from tests.tiny import TINY


def rates(optimizer: OptimizerRecipe, prelude: Prelude = Prelude(), iterations: int = 1000) -> np.ndarray:  # noqa: B008
    recipe = replace(TINY, iterations=iterations, optimizer=optimizer, prelude=prelude)
    return np.array([recipe.rate_at(iteration / iterations, iteration) for iteration in range(iterations)])


def test_paper_law_halves_at_half_and_is_a_tenth_from_ninety_per_cent() -> None:
    found = rates(OptimizerRecipe(lr=1e-4, law="paper"))
    assert (found[:500] == 1e-4).all()
    assert (found[500:900] == 0.5e-4).all()
    assert found[900:] == pytest.approx(1e-5)


def test_cosine_falls_to_its_end() -> None:
    found = rates(OptimizerRecipe(lr=2e-4, law="cosine", final=1e-6))
    assert found[0] == 2e-4
    assert found[250] == pytest.approx(1e-6 + 1.99e-4 * (1 + math.sqrt(0.5)) / 2)
    assert found[500] == pytest.approx((2e-4 + 1e-6) / 2)
    assert 1e-6 < found[-1] < 1.01e-6
    assert (np.diff(found) < 0).all()


def test_constant_law() -> None:
    assert (rates(OptimizerRecipe(lr=3e-4, law="constant", final=1e-9)) == 3e-4).all()


@pytest.mark.parametrize("law", ["paper", "cosine", "constant"])
def test_warm_up_rises_to_the_law(law: Any) -> None:
    plain, warm = rates(OptimizerRecipe(law=law)), rates(OptimizerRecipe(law=law, warmup=10))
    assert warm[:10] == pytest.approx(plain[:10] * np.arange(1, 11) / 10)
    assert (warm[10:] == plain[10:]).all()


def test_the_warm_up_counts_iterations_whatever_share_of_the_run_they_are() -> None:
    """A run by time may be at its end after a handful of them."""
    recipe = replace(TINY, optimizer=OptimizerRecipe(lr=1e-4, law="paper", warmup=10))
    assert recipe.rate_at(0.95, 4) == pytest.approx(0.5 * 1e-5)
    assert recipe.rate_at(0.0, 100) == 1e-4


def test_prelude_is_feed_forward_at_its_own_rate_and_the_law_begins_after_it() -> None:
    optimizer = OptimizerRecipe(lr=1e-4, law="paper", warmup=4)
    found = rates(optimizer, Prelude(0.25, 5e-4), iterations=800)
    assert found[:4] == pytest.approx([1.25e-4, 2.5e-4, 3.75e-4, 5e-4])
    assert (found[4:200] == 5e-4).all()
    assert (found[200:500] == 1e-4).all()  # 600 iterations are left: half of them
    assert (found[500:740] == 0.5e-4).all()
    assert found[741:] == pytest.approx(1e-5)  # shares are divisions: the one between is either
    recipe = replace(TINY, prelude=Prelude(0.5), objective=ObjectiveRecipe(steps=2))
    assert [recipe.steps_at(iteration / 6) for iteration in range(6)] == [0, 0, 0, 2, 2, 2]


@pytest.mark.parametrize("name", ["embedded", "default", "fine"])
def test_the_prelude_of_a_preset_ends_with_the_iteration_that_is_meant(name: str) -> None:
    """Shares are divisions, and rounding may not move the end by one."""
    recipe = PRESETS[name].recipe
    last = round(recipe.prelude.share * recipe.iterations)
    steps = [recipe.steps_at(iteration / recipe.iterations) for iteration in (last - 1, last)]
    assert steps == [0, recipe.objective.steps]


def test_defaults_are_the_published_recipe() -> None:
    recipe = Recipe()
    assert (recipe.iterations, recipe.batch, recipe.patch) == (300 * 1288, 1, 512)
    assert recipe.optimizer == OptimizerRecipe(lr=1e-4, law="paper", betas=(0.9, 0.999))
    assert (recipe.optimizer.clip_norm, recipe.optimizer.ema, recipe.optimizer.warmup) == (0, 0, 0)
    assert recipe.objective == ObjectiveRecipe(steps=2, pixel="l1", branch=1.0)
    assert (recipe.capture.ratio, recipe.capture.ratio_law) == ((20.0, 300.0), "uniform")
    assert recipe.capture.gain_range == (0.1, 30.0)
    assert recipe.capture.clip


def test_planes_are_those_of_the_network_that_is_trained() -> None:
    assert TINY.planes == 4
    assert replace(TINY, denoiser=replace(TINY.denoiser, planes=9)).planes == 9
    assert replace(TINY, diffusion=replace(DIFFUSION_SIZES["small"], planes=9)).planes == 9


def test_a_recipe_is_plain_values() -> None:
    content = json.loads(json.dumps(asdict(TINY)))
    assert content["denoiser"]["options"] == {"width": 4, "depth": 1}
    assert content["capture"]["supervision"] == "clean"
    assert set(content) == set(Recipe.__dataclass_fields__)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (CaptureRecipe, {"ratio": (0.5, 300.0)}, r"capture\.ratio is a number from 1 to 1e\+06, got 0\.5"),
        (CaptureRecipe, {"ratio": (300.0, 100.0)}, r"capture\.ratio is a range .*, got 300 to 100"),
        (CaptureRecipe, {"level": (0.4, 0.1)}, r"capture\.level is a range"),
        (CaptureRecipe, {"gain_range": (0.0, 1.0)}, r"capture\.gain_range is a number from 1e-06"),
        (CaptureRecipe, {"iso": (800.0, -1.0)}, r"capture\.iso is a number from 1 to"),
        (CaptureRecipe, {"augment": 0.5}, r"capture\.augment is a number from 1 to"),
        (OptimizerRecipe, {"lr": math.nan}, r"optimizer\.lr is a number from 0 to 1, got nan"),
        (OptimizerRecipe, {"lr": 1e6}, r"optimizer\.lr is a number from 0 to 1, got 1e\+06"),
        (OptimizerRecipe, {"ema": 1.5}, r"optimizer\.ema"),
        (OptimizerRecipe, {"betas": (0.9, 1.0)}, r"optimizer\.betas"),
        (OptimizerRecipe, {"clip_norm": -1.0}, r"optimizer\.clip_norm"),
        (CaptureRecipe, {"augment": 2.0, "supervision": "noise2noise"}, "not with noise2noise"),
        (Prelude, {"share": 1.0}, "prelude.share is a part of the run, 0 or more and below 1, got 1"),
        (Prelude, {"share": -0.1}, "prelude.share"),
        (Recipe, {"iterations": 0}, "iterations is a number from 1 to"),
        (Recipe, {"batch": 0}, "batch is a number from 1 to"),
        (Recipe, {"patch": -4}, "patch is a number from 1 to"),
        (ObjectiveRecipe, {"steps": -1}, r"objective\.steps"),
        (Recipe, {"denoiser": replace(TINY.denoiser, options={"encoders": [1, -1]})}, r"denoiser\.options\.encoders"),
        (Recipe, {"objective": ObjectiveRecipe(averages=0.5), "patch": 8}, "patch is at least 16, got 8"),
    ],
)
def test_what_makes_no_sense_is_refused(kind: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**options)


def named(values: Any, name: str = "") -> list[tuple[str, Any, str]]:
    """The dataclasses of a recipe that hold numbers, with the fields that do and their full names."""
    found = []
    for field, value in vars(values).items():
        if is_dataclass(value):
            found += named(value, f"{name}{field}.")
        elif any(isinstance(one, int | float) and not isinstance(one, bool) for one in np.atleast_1d(value).tolist()):
            found.append((f"{name}{field}", values, field))
    return found


FULL = replace(
    TINY,
    capture=CaptureRecipe(iso=(800.0,)),
    objective=ObjectiveRecipe(balance=0.02),
    sampling=Sampling(clamp=(-1.0, 2.0)),
    diffusion=DIFFUSION_SIZES["small"],
)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf, -1e9])
def test_no_field_takes_what_is_no_number(wrong: float) -> None:
    fields = named(FULL)
    assert len(fields) > 30
    for name, owner, field in fields:
        value = (wrong, wrong) if isinstance(getattr(owner, field), tuple) else wrong
        changed, whole = copy.copy(owner), copy.copy(FULL)
        object.__setattr__(changed, field, value)  # as JSON or a command line would bring it
        part = name.rpartition(".")[0]
        if part in ("denoiser", "sampling", "diffusion"):  # which the recipe looks at itself
            object.__setattr__(whole, part, changed)
            changed = whole
        with pytest.raises(ValueError, match=name.replace(".", r"\.")):
            changed.__post_init__()


@pytest.mark.parametrize("options", [{"workers": -1}, {"checkpoint_minutes": math.nan}, {"validate_every": -5}])
def test_execution_too(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))} is a number from 0 to"):
        Execution(**options)

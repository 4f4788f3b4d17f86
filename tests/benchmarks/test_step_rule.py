"""Fitting the number of steps: the cheapest rule within the tolerance, on figures whose answer is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from captures import SimulatedCapture
from step_rule import BINS, StepFigures, evaluate_rule, fit_rule, measure_steps

from exposurediffusion.process.sampling import Sampling, StepRule
from exposurediffusion.weights.file import ModelCard, TrainedDenoiser
from tests.benchmarks.test_captures import captures, constant

Loss = float | Callable[[np.ndarray], np.ndarray]


def figures(loss_of_0: Loss, loss_of_1: Loss, count: int = 240, noise: float = 0.0) -> StepFigures:
    """Figures of `count` captures whose losses against T = 2 are functions of the noise level."""
    random = np.random.default_rng(7)
    levels = np.exp(random.uniform(np.log(0.001), np.log(1), count))
    scene = random.normal(35, 6, count)
    losses = [f(levels) if callable(f) else np.full_like(levels, f) for f in (loss_of_0, loss_of_1, 0.0)]
    values = np.stack([scene - loss for loss in losses], axis=1)
    return StepFigures(levels, values + noise * random.standard_normal(values.shape))


def test_it_finds_where_steps_begin_to_pay() -> None:
    rule = fit_rule(figures(lambda x: 0.3 * (x < 0.02), lambda x: 0.3 * (x < 0.005)))
    assert rule.counts == (2, 1, 0)
    assert rule.levels == pytest.approx((0.005, 0.02), rel=0.6)  # a bin is a factor of 1.8 wide


def test_where_nothing_is_lost_nothing_is_simulated() -> None:
    assert fit_rule(figures(0.0, 0.0)) == StepRule(counts=(0,))
    assert fit_rule(figures(-0.5, -0.2)) == StepRule(counts=(0,))


def test_where_all_is_lost_the_reference_stays() -> None:
    assert fit_rule(figures(0.5, 0.2)) == StepRule(counts=(2,))


def test_a_gain_elsewhere_pays_for_no_loss() -> None:
    """On average T = 0 gains half a decibel here; at half of the noise levels it loses 0.1."""
    shape = figures(lambda x: np.where(x < 0.03, -1.1, 0.1), 0.0)
    assert shape.loss(0).mean() < -0.3
    rule = fit_rule(shape)
    assert rule.counts == (0, 1)
    assert evaluate_rule(rule, shape)[0].loss < -0.3


@pytest.mark.parametrize("tolerance", [0.0, 0.01, 0.05, 0.2])
def test_the_tolerance_is_kept_and_what_it_allows_is_used(tolerance: float) -> None:
    shape = figures(lambda x: 0.15 * x**0.25, lambda x: 0.03 * x**0.25)
    rule = fit_rule(shape, tolerance)
    whole, parts = evaluate_rule(rule, shape)
    assert whole.loss <= tolerance + 1e-9
    dearer = fit_rule(shape, tolerance / 4)
    assert evaluate_rule(dearer, shape)[0].evaluations >= whole.evaluations
    assert sum(part.captures for part in parts) == whole.captures == len(shape.levels)


def test_a_rule_that_breaks_the_tolerance_is_caught() -> None:
    """The mutant of the tests above: thresholds moved, or T too small."""
    shape = figures(lambda x: 0.3 * (x < 0.02), lambda x: 0.3 * (x < 0.005))
    rule = fit_rule(shape)
    for mutant in (StepRule((0.0005,), (2, 0)), replace(rule, counts=(0, 1, 2)), StepRule(counts=(1,))):
        whole, parts = evaluate_rule(mutant, shape)
        assert whole.loss > 0.02
        assert max(part.loss for part in parts) > 0.1
    assert evaluate_rule(rule, shape)[0].loss <= 0.01


def test_noise_of_the_figures_does_not_shred_the_rule() -> None:
    shape = figures(lambda x: 0.1 * (x < 0.02) - 0.02, lambda x: 0.1 * (x < 0.003) - 0.02, count=1200, noise=0.05)
    rule = fit_rule(shape)
    assert list(rule.counts) == sorted(rule.counts, reverse=True)
    fresh = figures(lambda x: 0.1 * (x < 0.02) - 0.02, lambda x: 0.1 * (x < 0.003) - 0.02)
    assert evaluate_rule(rule, fresh)[0].loss < 0.02


def test_evaluated_figures_are_those_of_the_captures() -> None:
    shape = StepFigures(np.array([0.01, 0.2]), np.array([[30.0, 31.0, 31.5], [20.0, 20.5, 20.2]]))
    whole, parts = evaluate_rule(StepRule((0.1,), (1, 0)), shape, bins=2)
    assert whole.loss == pytest.approx((0.5 + 0.2) / 2)
    assert whole.evaluations == pytest.approx(1.5)
    assert whole.fixed == pytest.approx({0: 0.85, 1: 0.1, 2: 0.0})
    assert [part.levels[0] for part in parts] == [0.01, 0.2]
    assert [part.evaluations for part in parts] == [2.0, 1.0]


def test_figures_that_cannot_be_used_are_refused() -> None:
    values = np.zeros((3, 3))
    with pytest.raises(ValueError, match="as many PSNRs"):
        StepFigures(np.ones(4), values)
    with pytest.raises(ValueError, match="T = 2, which others are compared with"):
        StepFigures(np.ones(3), values[:, :2], (0, 1))
    with pytest.raises(ValueError, match=f"3 captures are too few for {BINS} bins"):
        fit_rule(StepFigures(np.ones(3), values))
    with pytest.raises(ValueError, match="T = 5 was not measured"):
        StepFigures(np.ones(3), values).loss(5)


def test_measured_by_the_models_own_sampling() -> None:
    model = constant()
    case = next(captures())
    level, values = measure_steps(model, case, (0, 2))
    assert level == pytest.approx(level_of(case), rel=1e-5)
    assert values[0] == pytest.approx(values[1], abs=1e-4)  # whatever is exposed, this network says the same
    assert isinstance(model, TrainedDenoiser)
    assert model.card == ModelCard(model.config, Sampling())


def level_of(case: SimulatedCapture) -> float:
    """By the formula, in DN."""
    signal = case.capture.clamp(max=1).double().mean() / case.ratio * case.noise.saturation
    return float(((case.noise.gain * signal + case.noise.read_variance).sqrt() * case.ratio / case.noise.saturation)[0])

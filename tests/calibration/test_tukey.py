"""The probability plot finds the shape of drawn samples, with rounding and an average added or not."""

from __future__ import annotations

import numpy as np
import pytest

from exposurediffusion.calibration.tukey import ProbabilityPlot
from exposurediffusion.physics.parameters import tukey_lambda_variance
from tests.statistics import BOUND, mean_z

SIZE, SAMPLES = 20_000, 40


def draw(shape: float, random: np.random.Generator, rounding: float = 0.0, average: float = 0.0) -> np.ndarray:
    """Quantiles of random positions, of unit deviation; SciPy's law is too slow here."""
    u = random.uniform(1e-12, 1 - 1e-12, SIZE)
    law = np.log(u / (1 - u)) if shape == 0 else (u**shape - (1 - u) ** shape) / shape
    law /= float(tukey_lambda_variance(shape)) ** 0.5
    return law + rounding * (random.random(SIZE) - 0.5) + average * random.standard_normal(SIZE)


@pytest.mark.parametrize("shape", [-0.25, -0.1, 0.0, 0.14])
@pytest.mark.parametrize(("rounding", "average"), [(0.0, 0.0), (0.6, 0.3)])
def test_shapes_are_found(shape: float, rounding: float, average: float) -> None:
    random = np.random.default_rng(1)
    plot, plain = ProbabilityPlot(SIZE, rounding, average), ProbabilityPlot(SIZE)
    samples = [draw(shape, random, rounding, average) for _ in range(SAMPLES)]
    assert abs(mean_z([plot.fit(sample).shape for sample in samples], shape)) < BOUND
    if rounding and shape < 0:  # twin: what was added is forgotten
        assert abs(mean_z([plain.fit(sample).shape for sample in samples], shape)) > BOUND


def test_deviation_and_centre_come_from_the_half_that_is_left() -> None:
    random, plot = np.random.default_rng(2), ProbabilityPlot(SIZE)
    fits = [plot.fit((7 * draw(-0.1, random) + 3).clip(min=3), above=3) for _ in range(SAMPLES)]
    assert abs(mean_z([fit.deviation for fit in fits], 7)) < BOUND
    assert abs(mean_z([fit.centre for fit in fits], 3)) < BOUND
    blind = [plot.fit((7 * draw(-0.1, random) + 3).clip(min=3)).deviation for _ in range(SAMPLES)]
    assert abs(mean_z(blind, 7)) > BOUND  # twin: the end of the values is not known


def test_a_law_of_another_kind_shows_in_the_correlation() -> None:
    random, plot = np.random.default_rng(3), ProbabilityPlot(SIZE)
    two = np.where(random.random(SIZE) < 0.5, -1, 1) + 0.3 * random.standard_normal(SIZE)
    assert plot.fit(two).r_squared < 0.98
    fit = plot.fit(draw(-0.25, random))
    assert fit.r_squared > 0.995 > 0.97 > fit.normal

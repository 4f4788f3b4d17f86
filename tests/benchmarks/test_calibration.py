"""Calibration of a spread: known errors give known factors, and SciPy the same ranks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from calibration import attainable, blocks, calibrate, sampled_estimate

from tests.benchmarks.test_captures import captures, constant

SPREADS = np.exp(np.random.default_rng(1).normal(-4, 0.7, 40_000))
ERRORS = np.random.default_rng(2).standard_normal(SPREADS.shape) * SPREADS


@pytest.mark.parametrize("factor", [1.0, 2.5])
def test_errors_of_the_spread_lie_on_a_line(factor: float) -> None:
    found = calibrate(factor * ERRORS, SPREADS, bins=10)
    np.testing.assert_allclose(found.error, factor * found.spread, rtol=0.06)
    assert found.factor == pytest.approx(factor, rel=0.03)
    assert found.count.sum() == SPREADS.size
    assert (np.diff(found.spread) > 0).all()
    assert found.rank == pytest.approx(attainable(SPREADS), abs=0.02)


def test_a_spread_that_says_nothing_is_seen_through() -> None:
    shuffled = np.random.default_rng(3).permutation(SPREADS)
    found = calibrate(ERRORS, shuffled, bins=10)
    assert abs(found.rank) < 0.02
    assert found.error.max() < 1.3 * found.error.min()
    assert found.factor == pytest.approx(1, rel=0.03)  # right on average, and useless: the factor alone does not tell


def test_what_cannot_be_calibrated_is_refused() -> None:
    with pytest.raises(ValueError, match="not sampled"):
        calibrate(ERRORS, np.zeros_like(ERRORS))
    with pytest.raises(ValueError, match="not enough pairs"):
        calibrate(ERRORS[:3], SPREADS[:3])
    with pytest.raises(ValueError, match="not enough pairs"):
        calibrate(ERRORS, SPREADS[1:])


def test_blocks_are_root_mean_squares() -> None:
    values = torch.zeros(1, 4, 16, 16)
    values[0, 1, 3, 9] = 8.0
    found = blocks(values)
    assert found.shape == (1, 4, 2, 2)
    assert found[0, 1, 0, 1] == pytest.approx(1.0)
    assert found.sum() == pytest.approx(1.0)


def test_a_network_that_ignores_its_state_has_no_spread() -> None:
    mean, spread = sampled_estimate(constant(), next(captures()), samples=3, steps=1)
    assert spread.max() == 0
    assert torch.equal(mean, torch.full_like(mean, 0.21))

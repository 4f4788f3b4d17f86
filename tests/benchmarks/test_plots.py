"""Plots of the rule for T and of the calibration: files that can be looked at, whatever the figures."""

from __future__ import annotations

import numpy as np
import pytest
from calibration import calibrate
from PIL import Image
from step_rule import StepFigures, evaluate_rule
from steps import plot_steps
from uncertainty import plot_calibration

from exposurediffusion.process.sampling import StepRule

pytest.importorskip("matplotlib")


def test_plot_of_a_rule(tmp_path):
    random = np.random.default_rng(0)
    levels = np.geomspace(0.001, 0.8, 60)
    values = np.stack([40 + 0.3 * np.log10(levels), 40 + 0.02 * random.standard_normal(60), np.full(60, 40.0)], axis=1)
    rule = StepRule((0.01,), (0, 1))
    plot_steps(tmp_path / "steps.png", rule, evaluate_rule(rule, StepFigures(levels, values))[1])
    with Image.open(tmp_path / "steps.png") as image:
        assert image.width > 1000
        assert len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)) > 50


def test_plot_of_a_calibration_with_pixels_that_have_no_spread(tmp_path):
    spreads = np.exp(np.random.default_rng(1).normal(-4, 1, 4000))
    spreads[:900] = 0  # clipped in all samples
    errors = spreads * np.random.default_rng(2).standard_normal(4000)
    plot_calibration(tmp_path / "c.png", {"x100": calibrate(errors, spreads), "all": calibrate(3 * errors, spreads)})
    with Image.open(tmp_path / "c.png") as image:
        assert image.height > 500
    assert [path.name for path in tmp_path.iterdir()] == ["c.png"]

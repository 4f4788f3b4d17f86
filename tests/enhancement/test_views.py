"""Parts, and the whole at a fraction of its size."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from exposurediffusion.enhancement.exposing import exposed
from exposurediffusion.enhancement.frame import finished, run_plan
from exposurediffusion.enhancement.options import EnhanceOptions
from exposurediffusion.enhancement.plan import plan
from exposurediffusion.enhancement.views import CONTEXT, exposure_steps, first_estimate, glance, of_whole, part, smaller
from exposurediffusion.physics.mosaic import CFA, PHASES
from exposurediffusion.physics.sensor import RawFrame, Sensor
from tests.frames import capture


@pytest.mark.parametrize("name", ["GBRG", "XTRANS"])
def test_a_part_is_as_in_the_whole(name, tiny_model):
    frame = capture(name, 256, 420, 20.0)
    options = EnhanceOptions(ratio=20.0, steps=1, faithful=False, defects=False)
    decided = plan(frame, tiny_model, options)
    whole = run_plan(tiny_model, decided).frame
    right = frame.shape[1] - 101
    for window in ((1, 0, 40, 41), (right, 33, 100, 100)):
        piece, (top, left) = part(decided, window)
        found = run_plan(tiny_model, piece).frame
        assert found.sensor.cfa == whole.sensor.cfa.shifted(top, left)
        x, y, width, height = window
        rows, columns = slice(y - top, y - top + height), slice(x - left, x - left + width)
        expected = whole.mosaic[y : y + height, x : x + width]
        assert np.abs(found.mosaic[rows, columns] - expected).max() < 0.02 * whole.sensor.saturation / 100
    assert left > 0
    assert found.mosaic.size < 0.8 * whole.mosaic.size
    assert x - left >= CONTEXT


@pytest.mark.parametrize("name", [*PHASES, "XTRANS"])
def test_smaller_is_the_mean_with_less_noise(name):
    cfa = CFA(name)
    random = np.random.default_rng(4)
    black = np.arange(cfa.period**2, dtype=float) + 100
    sensor = Sensor(cfa, tuple(black), 4095.0)
    level = sensor.black((192, 240))
    mosaic = level + 500 + random.normal(0, 20, level.shape)
    small = smaller(RawFrame(mosaic.astype(np.float32), sensor), mosaic.size // cfa.stride**2 // 4 + 400)
    light = small.sensor.normalise(small.mosaic) * 3990
    assert small.shape[0] == pytest.approx(96, abs=8)
    assert float(light.mean()) == pytest.approx(500, abs=4)
    z = (float(light.std()) / 10 - 1) * (2 * light.numel()) ** 0.5
    assert abs(z) < 6
    assert abs((20 / 10 - 1) * (2 * light.numel()) ** 0.5) > 6  # the twin: noise as before would be seen


def test_a_copy_of_an_exposure_can_be_finished_again(tiny_model):
    options = EnhanceOptions(ratio=50.0, luma=0.5, exposure="auto", maps=True)
    decided = plan(capture(), tiny_model, options)
    once = run_plan(tiny_model, decided)
    kept = exposed(tiny_model, replace(decided, luma=1.0))
    for _ in range(2):
        again = finished(tiny_model, decided, kept._replace(estimate=kept.estimate.clone()))
        assert (again.frame.mosaic == once.frame.mosaic).all()
        assert (again.overruled == once.overruled).all()


def test_the_last_step_is_the_result_and_states_lose_noise(tiny_model):
    options = EnhanceOptions(ratio=50.0, steps=3, faithful=False)
    decided = plan(capture(), tiny_model, options)
    steps = list(exposure_steps(tiny_model, decided))
    assert [step[0] for step in steps] == pytest.approx([1, 52 / 3, 101 / 3, 50], rel=1e-3)
    result = run_plan(tiny_model, decided).frame
    assert np.allclose(steps[-1][2].mosaic, result.mosaic, atol=1e-2)
    rough = [float(torch.tensor(np.diff(state.mosaic[::2, ::2])).abs().median()) for _, state, _ in steps]
    assert rough == sorted(rough, reverse=True)


def test_a_glance_is_the_first_evaluation(tiny_model):
    frame = capture(ratio=20.0)
    decided = plan(frame, tiny_model, EnhanceOptions(ratio=20.0, steps=0, maps=True))
    seen, result = glance(decided, first_estimate(tiny_model, decided)), run_plan(tiny_model, decided)
    dark = result.frame.planes < 0.8
    assert torch.allclose(seen.frame.planes[dark], result.frame.planes[dark], atol=1e-4)
    assert float(seen.frame.planes.max()) > 1.5  # the lamp is brighter than white
    assert seen.overruled.shape == frame.shape


def test_the_black_level_error_of_the_whole_makes_parts_faithful_as_the_whole_is(tiny_model):
    options = EnhanceOptions(ratio=20.0, steps=0)
    decided = plan(capture("RGGB", 256, 420, 20.0), tiny_model, options)
    told = of_whole(decided, decided, first_estimate(tiny_model, decided))
    whole = run_plan(tiny_model, decided).frame.mosaic
    assert (run_plan(tiny_model, told).frame.mosaic == whole).all()
    assert told.black_error is not None
    wrong = replace(told, black_error=told.black_error + 0.02)
    assert np.abs(run_plan(tiny_model, wrong).frame.mosaic - whole).max() > 1

"""Dark stacks of sensors whose every parameter is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from sensors import SimulatedSensor

from exposurediffusion.calibration import darks as module
from exposurediffusion.calibration.dark_stack import DarkStack
from exposurediffusion.calibration.darks import measure_darks
from exposurediffusion.calibration.interval import Interval
from exposurediffusion.calibration.shots import NotEnough, Shot
from exposurediffusion.physics.parameters import tukey_lambda_variance

FRAMES, DRAWS = 16, 10


def measure(shots: list[Shot], told: list[str] | None = None) -> DarkStack:
    told = [] if told is None else told
    return measure_darks(shots, shots[0], shots[0].read(), told.append, lambda: None)


def truths(sensor: SimulatedSensor) -> dict[str, float]:
    deviation = sensor.scale * float(tukey_lambda_variance(sensor.tukey)) ** 0.5
    figures = {"read": deviation, "scale": sensor.scale, "shape": sensor.tukey}
    return figures | {"row": sensor.row, "column": sensor.column}


def intervals(dark: DarkStack) -> dict[str, Interval]:
    return {"read": dark.read, "scale": dark.scale, "shape": dark.shape, "row": dark.rows, "column": dark.columns}


def hits(make: Callable[[int], SimulatedSensor]) -> dict[str, int]:
    """How many of the draws have each truth in its interval."""
    found: dict[str, int] = {}
    for seed in range(DRAWS):
        sensor = make(seed)
        measured, truth = intervals(measure(sensor.darks(FRAMES))), truths(sensor)
        for name, interval in measured.items():
            found[name] = found.get(name, 0) + (interval.low <= truth[name] <= interval.high)
    return found


@pytest.mark.parametrize("floor", [0.0, 512.0], ids=["open", "clipped"])
def test_intervals_hold_the_truth(floor: float) -> None:
    """95 % intervals: fewer than 7 of 10 would be one case in a thousand."""
    shading = 0.0 if floor else 2.0
    found = hits(lambda seed: SimulatedSensor(seed, (160, 128), shading=shading, floor=floor, grain=0.2))
    assert min(found.values()) >= 7, found


def test_a_twin_that_knows_nothing_of_rows_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    spread = module._spread

    def one(*arguments: object) -> object:
        found = spread(*arguments)  # type: ignore[arg-type]
        return replace(found, noise=found.noise + max(found.row, 0))

    monkeypatch.setattr(module, "_spread", one)
    found = hits(lambda seed: SimulatedSensor(seed, (160, 128), row=1.5))
    assert found["read"] < 3


@pytest.mark.parametrize("cfa", ["RGGB", "GBRG", "XTRANS"])
def test_black_of_each_site_and_hot_sites(cfa: str) -> None:
    errors = tuple(np.random.default_rng(0).normal(0, 2, 36 if cfa == "XTRANS" else 4))
    sensor = SimulatedSensor(3, (144, 132), errors=errors, shading=0.0, grain=0.1, row=0.0, column=0.0, cfa=cfa)
    dark = measure(sensor.darks(FRAMES))
    for interval, error in zip(dark.black, errors, strict=True):
        assert interval.value == pytest.approx(512 + error, abs=0.15)
    assert (dark.hot & sensor.hot_sites).sum() == sensor.hot
    assert (dark.hot & ~sensor.hot_sites).sum() == 0


def test_steps_and_clipped_black_are_seen() -> None:
    coarse = measure(SimulatedSensor(4, step=4.0, scale=4.0).darks(4))
    assert (coarse.quantisation, coarse.clipped) == (4.0, False)
    fine = measure(SimulatedSensor(4, scale=0.3, row=0.0).darks(4))  # few values, none of them an end
    assert (fine.quantisation, fine.clipped) == (1.0, False)
    assert measure(SimulatedSensor(4, floor=512.0).darks(4)).clipped


def test_what_cannot_be_used_is_told() -> None:
    sensor = SimulatedSensor(5, (64, 64))
    lit = sensor.shot("lit", sensor.frame(2000.0))
    told: list[str] = []
    dark = measure([*sensor.darks(3), lit], told)
    assert dark.frames == 3
    assert len(told) == 1
    assert "lit.dng: not dark" in told[0]
    with pytest.raises(NotEnough, match="1 usable dark frame"):
        measure(sensor.darks(1))
    other = SimulatedSensor(5, (64, 66))
    with pytest.raises(ValueError, match=r"RGGB, 66x64.*RGGB, 64x64.*differ"):
        measure([*sensor.darks(1), *other.darks(1)])

"""Photon transfer of sensors whose gain is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sensors import SimulatedSensor

from exposurediffusion.calibration import flats as module
from exposurediffusion.calibration.flats import FlatPairs, measure_flats, pair_up
from exposurediffusion.calibration.photon_transfer import fit_line
from exposurediffusion.calibration.shots import NotEnough, Shot

BLACK = np.ones(4)  # the mean of the shading


def measure(shots: list[Shot], told: list[str] | None = None) -> FlatPairs:
    told = [] if told is None else told
    return measure_flats(shots, shots[0], shots[0].read(), BLACK, None, told.append, lambda: None)


def in_interval(**options: float) -> int:
    """How many of ten sensors have their gain in the interval."""
    found = 0
    for seed in range(10):
        sensor = SimulatedSensor(seed, hot=0, **options)  # type: ignore[arg-type]
        gain = fit_line(measure(sensor.flats(10))).gain
        assert gain.value == pytest.approx(sensor.gain, rel=0.03)
        found += gain.low <= sensor.gain <= gain.high
    return found


def test_the_interval_holds_the_gain() -> None:
    assert in_interval(gain=1.5) >= 7
    assert in_interval(gain=0.1, scale=1.0) >= 7


def test_a_twin_without_differences_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """One frame alone holds vignetting and fixed pattern."""
    blocks = module._blocks

    def of_one(colour: list[np.ndarray], *rest: object) -> object:
        return blocks([colour[0] - colour[0].mean() + 2 * colour[0].mean(), colour[0] * 0 + colour[0].mean()], *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_blocks", of_one)
    with pytest.raises(AssertionError):
        in_interval(gain=0.1, scale=1.0)


def test_where_values_end_and_where_the_sensor_bends() -> None:
    full = measure(SimulatedSensor(1, (256, 256), hot=0, white=6000.0).flats(12, fullest=1.3))
    assert full.limit == pytest.approx(6000 - 512 - 1, abs=1)
    assert fit_line(full).gain.value == pytest.approx(1.5, rel=0.02)
    straight = fit_line(measure(SimulatedSensor(1, (256, 256), hot=0).flats(12, fullest=0.9)))
    assert straight.bend == 0
    bent = fit_line(measure(SimulatedSensor(1, (256, 256), hot=0, bend=0.08).flats(12, fullest=0.9)))
    assert bent.bend < -0.01 or bent.linear_to < 0.8 * 15871
    assert bent.linear_to < straight.linear_to
    assert bent.gain.value == pytest.approx(1.5, rel=0.03)


def test_colours_that_the_camera_multiplies() -> None:
    sensor = SimulatedSensor(2, (256, 256), hot=0)
    shots = sensor.flats(10)
    for shot in shots:
        red = shot.frame.mosaic[::2, ::2]  # type: ignore[attr-defined]
        red[:] = np.rint((red - 512.0) * 1.2 + 512)
    red, blue = (fit_line(measure(shots)).gains[site] for site in (0, 3))
    assert red is not None
    assert blue is not None
    assert red.value == pytest.approx(1.2 * 1.5, rel=0.03)
    assert blue.low < 1.5 < blue.high


def test_gaps_of_lossy_compression_are_found() -> None:
    sensor = SimulatedSensor(3, (256, 256), hot=0)
    shots = sensor.flats(6)
    assert not np.isfinite(measure(shots).gaps)
    for shot in shots:
        bright = shot.frame.mosaic  # type: ignore[attr-defined]
        bright[bright > 3000] &= 0xFFFC
    assert np.isfinite(measure(shots).gaps)


def test_pairs_that_are_none_are_told() -> None:
    sensor = SimulatedSensor(4, (256, 256), hot=0)
    shots = sensor.flats(4)
    told: list[str] = []
    assert len(pair_up(shots[:-1], told.append)) == 3
    assert "without a partner" in told[0]
    strange = replace(shots[1], frame=sensor.frame(100.0))  # type: ignore[call-arg]
    ramp = np.linspace(10, 8000, 256)[:, None] * np.ones((1, 256))
    motif = [sensor.shot(f"motif-{n}", sensor.frame(ramp), 5.0) for n in range(2)]
    moved = [sensor.shot("a", sensor.frame(2000 + 0.03 * ramp), 6.0)]
    moved.append(sensor.shot("b", sensor.frame(2000 + 0.03 * ramp[::-1]), 6.0))
    over = [sensor.shot(f"over-{n}", sensor.frame(50_000.0), 7.0) for n in range(2)]
    told = []
    pairs = measure([shots[0], strange, *shots[2:], *motif, *moved, *over], told)
    assert pairs.pairs == 3
    assert [any(word in line for line in told) for word in ("light differs", "not flat", "changed", "clipped")] == [
        True
    ] * 4
    with pytest.raises(NotEnough, match="no usable pair"):
        measure([shots[0], strange])

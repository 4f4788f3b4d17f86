"""Units: digital numbers, normalised values, electrons."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.physics.sensor import (
    SATURATION,
    Metadata,
    RawFrame,
    Sensor,
    electrons_per_unit,
    photon_counts,
)

BLACKS = (510.0, 520.0, 530.0, 540.0)


@given(
    rows=st.integers(2, 9),
    columns=st.integers(2, 9),
    black=st.lists(st.floats(0, 4000), min_size=4, max_size=4),
    seed=st.integers(0, 2**30),
)
def test_digitise_is_the_inverse_of_normalise(rows: int, columns: int, black: list[float], seed: int) -> None:
    sensor = Sensor(CFA("GBRG"), tuple(black), 16383)
    mosaic = np.random.default_rng(seed).integers(0, 16384, (rows, columns)).astype(np.uint16)
    np.testing.assert_allclose(sensor.digitise(sensor.normalise(mosaic)), mosaic, atol=0.01)


def test_each_site_has_its_own_black_level_and_nothing_is_clipped() -> None:
    sensor = Sensor(CFA("RGGB"), BLACKS, 1540)
    blacks = np.tile(np.reshape(BLACKS, (2, 2)), (2, 3))
    assert torch.equal(sensor.normalise(blacks), torch.zeros(4, 6))
    torch.testing.assert_close(sensor.normalise(np.full((4, 6), 1540)), torch.ones(4, 6))
    assert sensor.normalise(blacks - 100).max() < -0.09
    assert sensor.normalise(blacks + 2000).min() > 1.9
    assert sensor.saturation == 1540 - 525


def test_xtrans_has_36_black_levels() -> None:
    blacks = tuple(float(level) for level in range(1000, 1036))
    mosaic = np.reshape(blacks, (6, 6))
    assert torch.equal(Sensor(CFA("XTRANS"), blacks, 16383).normalise(mosaic), torch.zeros(6, 6))


@given(
    cfa=st.sampled_from([CFA("RGGB"), CFA("GBRG"), CFA("XTRANS", (1, 4))]),
    top=st.integers(-9, 9),
    left=st.integers(-9, 9),
)
def test_a_window_keeps_colour_and_black_of_its_sites(cfa: CFA, top: int, left: int) -> None:
    period = cfa.period
    sensor = Sensor(cfa, tuple(500.0 + i for i in range(period**2)), 16383)
    whole, start = sensor.black((40, 40)), (18 + top, 18 + left)  # 18: whole tiles, of either array
    window = whole[start[0] : start[0] + 11, start[1] : start[1] + 7]
    np.testing.assert_array_equal(sensor.black((11, 7), top, left), window)
    seen = sensor.shifted(top, left)
    np.testing.assert_array_equal(seen.black((11, 7)), window)
    assert (seen.cfa, seen.white_level) == (cfa.shifted(top, left), 16383)
    assert seen.shifted(-top, -left).black_level == sensor.black_level
    assert torch.equal(seen.normalise(window), torch.zeros(11, 7))
    for rows, columns, black in sensor.sites:
        assert (whole[rows, columns] == black).all()


@pytest.mark.parametrize(
    ("cfa", "black", "white", "message"),
    [
        ("RGGB", (512.0,), 16383, "RGGB needs 4 black levels, got 1"),
        ("XTRANS", BLACKS, 16383, "XTRANS needs 36 black levels, got 4"),
        ("RGGB", BLACKS, 540, "white level 540 is not above the black level 540"),
        ("RGGB", BLACKS, float("nan"), "nan are not all numbers"),
    ],
)
def test_impossible_sensors_are_refused(cfa: str, black: tuple[float, ...], white: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sensor(CFA(cfa), black, white)


def test_a_frame_with_other_planes_keeps_all_the_rest() -> None:
    sensor = Sensor(CFA("GRBG"), BLACKS, 16383)
    mosaic = np.random.default_rng(1).integers(500, 16384, (7, 9)).astype(np.uint16)
    frame = RawFrame(mosaic, sensor, Metadata(make="Sony", model="ILCE-7SM2", iso=800))
    assert frame.shape == (7, 9)
    assert frame.planes.shape == (4, 4, 5)
    same = frame.with_planes(frame.planes, baseline_exposure=2.0)
    np.testing.assert_allclose(same.mosaic, mosaic, atol=0.01)
    assert same.sensor == sensor
    assert (same.metadata.iso, same.metadata.baseline_exposure) == (800, 2.0)
    brighter = frame.with_planes(frame.planes * 2)
    torch.testing.assert_close(brighter.planes, frame.planes * 2)


def test_a_frame_is_a_mosaic() -> None:
    with pytest.raises(ValueError, match="two dimensions"):
        RawFrame(np.zeros((4, 4, 3)), Sensor(CFA("RGGB"), BLACKS, 16383))


@pytest.mark.parametrize(
    ("make", "model", "camera"),
    [
        ("SONY", "ILCE-7SM2", "SONY ILCE-7SM2"),
        ("Canon", "Canon EOS 70D", "Canon EOS 70D"),
        ("Canon", "canon EOS 70D", "canon EOS 70D"),
        (None, None, ""),
        (None, "X-T2", "X-T2"),
        (" NIKON ", None, "NIKON"),
    ],
)
def test_camera_says_the_make_once(make: str | None, model: str | None, camera: str) -> None:
    assert Metadata(make=make, model=model).camera == camera


def test_electrons_of_an_image_at_reference_brightness() -> None:
    assert electrons_per_unit(100.0, 0.8) == pytest.approx(15583 / 80)
    ratio, gain, exposure = torch.tensor([100.0, 2.0]), torch.tensor([0.8, 5.0]), torch.tensor([1.0, 1.5])
    counts = photon_counts(torch.full((2, 4, 2, 2), 0.5), exposure, ratio, gain)
    expected = [0.5 * SATURATION / 80, 0.5 * 1.5 * SATURATION / 10]
    torch.testing.assert_close(counts[:, 0, 0, 0], torch.tensor(expected))

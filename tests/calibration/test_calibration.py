"""From stacks at several ISOs to a profile, a dark shading and a verdict."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sensors import SimulatedSensor

from exposurediffusion.calibration.calibration import Calibration, calibrate, law, law_intervals, readings
from exposurediffusion.calibration.report import HEADER, report, rows
from exposurediffusion.calibration.verdict import verdict
from exposurediffusion.physics.cameras.known import calibrated_cameras
from exposurediffusion.physics.cameras.profile import CameraProfile
from exposurediffusion.physics.mosaic import pack

ISOS = (100, 400, 1600)


def sensor(iso: int, **options: object) -> SimulatedSensor:
    """One camera: gain in proportion to the ISO, noise to its root."""
    root = (iso / 100) ** 0.5
    usual = {"gain": 0.002 * iso, "scale": 0.9 * root, "row": 0.3 * root, "column": 0.1 * root, "shading": 0.01 * iso}
    usual |= {"iso": float(iso), "errors": (0.5, -0.5, 0.0, 1.0), "shape": (96, 128), "grain": 0.1}
    made = SimulatedSensor(7, **(usual | options))  # type: ignore[arg-type]
    made._generator.manual_seed(iso)
    return made


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    stacks = [sensor(iso) for iso in ISOS]
    darks = [shot for stack in stacks for shot in stack.darks(12)]
    flats = [shot for stack in stacks for shot in stack.flats(8)]
    ticks: list[int] = []
    made = calibrate(darks, flats, tick=lambda: ticks.append(1))
    assert len(ticks) == readings(darks, flats)
    return made


def test_the_profile_is_that_of_the_camera(calibration: Calibration) -> None:
    profile = calibration.profile()
    assert (profile.name, profile.exif_model) == ("AcmeOne", "Acme One")
    assert CameraProfile.from_json(profile.to_json()) == profile
    for setting, iso in zip(profile.settings, ISOS, strict=True):
        truth = sensor(iso)
        assert setting.iso == iso
        assert setting.gain == pytest.approx(truth.gain, rel=0.04)
        assert setting.tukey_read == pytest.approx(truth.scale, rel=0.03)
        assert setting.tukey_shape == pytest.approx(-0.1, abs=0.03)
        assert setting.row == pytest.approx(truth.row, rel=0.15)
    assert profile.gain_iso_100 == pytest.approx(0.2, rel=0.05)
    assert profile.gain_iso_6400 == pytest.approx(12.8, rel=0.05)
    assert profile.tukey_read.slope == pytest.approx(0.5, abs=0.02)
    assert profile.row.slope == pytest.approx(0.5, abs=0.15)
    assert {tuple(place) for place in np.argwhere(sensor(100).hot_sites)} == set(profile.defects)


@pytest.mark.parametrize("cfa", ["RGGB", "GBRG"])
def test_black_errors_are_those_of_the_planes(cfa: str) -> None:
    stack = sensor(400, cfa=cfa, shading=0.0, row=0.0, column=0.0, hot=0)
    made = calibrate(stack.darks(12), stack.flats(8))
    tile = torch.tensor(stack.errors).reshape(2, 2).repeat(4, 4)
    wanted = pack(tile, stack.sensor.cfa).mean(dim=(1, 2))
    np.testing.assert_allclose(made.profile().colour_bias[0], wanted, atol=0.1)


def test_the_dark_shading_is_the_fixed_pattern(calibration: Calibration) -> None:
    shading = calibration.shading
    assert shading is not None
    truth = sensor(1600)
    found, wanted = shading.map(1600.0), pack(truth._pattern.float(), truth.sensor.cfa)
    cold = pack(torch.from_numpy(truth.hot_sites.astype(np.float32)), truth.sensor.cfa) == 0
    left = (found - wanted)[cold]
    # what noise leaves in the mean of 36 frames, by three ISOs of which this one weighs most
    assert float(left.std()) < 0.5 * float(wanted[cold].std())
    few = replace(calibration, darks={100.0: replace(calibration.darks[100.0], frames=3)})
    assert few.shading is None


def test_verdict_table_and_report(calibration: Calibration) -> None:
    findings = verdict(calibration)
    assert [one.kind for one in findings] == sorted((one.kind for one in findings), key=["poor", "fair", "good"].index)
    assert sum("12 dark frames; 16 or more" in one.text for one in findings) == len(ISOS)
    assert all(len(row) == len(HEADER) for row in rows(calibration))
    profile = replace(calibration.profile(), exif_model="<script>")
    page = report(calibration, profile, findings)
    assert "<script>" not in page
    assert page.count("data:image/png;base64,") == 5
    assert "http" not in page.replace("http-equiv", "")


def test_an_iso_without_flats_takes_its_gain_from_the_others() -> None:
    stacks = [sensor(iso) for iso in ISOS]
    flats = stacks[0].flats(8)
    made = calibrate([shot for stack in stacks for shot in stack.darks(3)], flats)
    assert made.gains[1600].value == pytest.approx(16 * made.gains[100].value)
    assert [text for text in made.lacking if text.startswith("ISO 1600: no usable flats")]
    assert verdict(made)[0].kind == "poor"


def test_what_does_not_suffice_is_said() -> None:
    stack, other = sensor(100), sensor(100, shape=(96, 130))
    with pytest.raises(ValueError, match="no frames"):
        calibrate([], [])
    with pytest.raises(ValueError, match="none of the flat frames can be used"):
        calibrate(stack.darks(3), [])
    with pytest.raises(ValueError, match="none of the dark frames can be used: ISO 100: 1 usable"):
        calibrate(stack.darks(1), stack.flats(3))
    with pytest.raises(ValueError, match="differ: one camera at a time"):
        calibrate(stack.darks(2), other.flats(3))


def test_laws_with_few_isos_are_the_usual_ones() -> None:
    usual = [camera.row for camera in calibrated_cameras().values()]
    one = law([2.0], [3.0], "row")
    assert one.slope == pytest.approx(np.mean([own.slope for own in usual]))
    assert np.exp(one.slope * np.log(2.0) + one.bias) == pytest.approx(3.0)
    two = law([1.0, 4.0], [1.0, 2.0], "row")
    assert (two.slope, two.bias) == pytest.approx((0.5, 0.0), abs=1e-9)
    assert two.sigma == pytest.approx(np.mean([own.sigma for own in usual]))
    assert law_intervals([1.0, 4.0], [1.0, 2.0]) is None


def test_intervals_of_laws_hold_the_truth() -> None:
    random, gains, held = np.random.default_rng(3), np.geomspace(0.1, 10, 8), 0
    for _ in range(200):
        scales = np.exp(0.5 * np.log(gains) + 0.7 + 0.2 * random.standard_normal(8))
        found = law_intervals(list(gains), list(scales))
        assert found is not None
        slope, bias = found
        held += (slope.low <= 0.5 <= slope.high) + (bias.low <= 0.7 <= bias.high)
    assert abs(held - 380) < 5 * (400 * 0.95 * 0.05) ** 0.5

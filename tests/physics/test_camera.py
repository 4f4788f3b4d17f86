"""Camera profiles: their figures, their files, and how one is found."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from exposurediffusion.physics.camera import (
    CameraProfile,
    LogLinear,
    NoiseParameters,
    calibrated_cameras,
    find_camera,
    load_profile,
    tukey_lambda_variance,
)

SONY = calibrated_cameras()["SonyA7S2"]


def test_five_cameras_are_inside() -> None:
    cameras = calibrated_cameras()
    assert set(cameras) == {"SonyA7S2", "NikonD850", "CanonEOS5D4", "CanonEOS70D", "CanonEOS700D"}
    for camera in cameras.values():
        assert camera.tukey_shapes
        assert {len(bias) for bias in camera.colour_bias} == {4}
        assert camera.saturation == 15583


@pytest.mark.parametrize("name", calibrated_cameras())
def test_json_round_trip(name: str) -> None:
    profile = calibrated_cameras()[name]
    assert CameraProfile.from_json(profile.to_json()) == profile


def test_calibration_figures_are_those_of_eld() -> None:
    assert (SONY.gain_iso_100, SONY.gain_iso_6400) == (0.093916, 6.010629)
    assert SONY.gaussian_read == LogLinear(0.54075, 1.218237, 0.267512)
    assert SONY.tukey_read == LogLinear(0.462105, 0.565715, 0.263371)
    assert SONY.row == LogLinear(0.527536, -0.5917, 0.294288)


def test_gain_is_linear_in_iso_and_beyond() -> None:
    assert SONY.gain(100) == SONY.gain_iso_100
    assert SONY.gain(6400) == pytest.approx(SONY.gain_iso_6400)
    assert SONY.gain(3250) == pytest.approx((SONY.gain_iso_100 + SONY.gain_iso_6400) / 2)
    assert SONY.gain(12_700) == pytest.approx(2 * SONY.gain_iso_6400 - SONY.gain_iso_100)


@pytest.mark.parametrize("iso", [0, -100, float("nan")])
def test_no_gain_for_an_impossible_iso(iso: float) -> None:
    with pytest.raises(ValueError, match="no gain for ISO"):
        SONY.gain(iso)


def test_typical_noise_at_an_iso() -> None:
    noise = SONY.at_iso(800)
    gain = torch.tensor([SONY.gain(800)])
    torch.testing.assert_close(noise.gain, gain)
    torch.testing.assert_close(noise.read, torch.exp(SONY.tukey_read.slope * gain.log() + SONY.tukey_read.bias))
    torch.testing.assert_close(noise.row, SONY.row.median(gain))
    assert noise.tukey_shape is not None
    assert min(SONY.tukey_shapes) < float(noise.tukey_shape) < max(SONY.tukey_shapes)
    assert noise.source == "profile SonyA7S2 at ISO 800"
    gaussian = SONY.at_iso(800, read="gaussian")
    assert gaussian.tukey_shape is None
    torch.testing.assert_close(gaussian.read, SONY.gaussian_read.median(gain))


def test_read_variance_is_all_that_does_not_depend_on_light() -> None:
    one = torch.ones(2)
    noise = NoiseParameters(one, torch.tensor([2.0, 3.0]), torch.tensor([0.0, 1.0]), torch.tensor([0.0, 0.1]), 1.0)
    variances = [float(tukey_lambda_variance(shape)) for shape in (0.0, 0.1)]
    expected = [4 * variances[0] + 1 / 12, 9 * variances[1] + 1 + 1 / 12]
    torch.testing.assert_close(noise.read_variance, torch.tensor(expected))
    torch.testing.assert_close(NoiseParameters.gaussian(2, 5).read_variance, torch.tensor([25.0]))


@pytest.mark.parametrize(("saturation", "factor"), [(4 * 15583, 4.0), (3967, 0.25), (15360, 1.0), (13000, 1.0)])
def test_whole_bits_rescale_the_noise_and_another_full_well_does_not(saturation: float, factor: float) -> None:
    noise = replace(SONY.at_iso(1600), colour_bias=torch.ones(1, 4))
    other = noise.rescaled(saturation)
    assert other.saturation == saturation
    for name in ("gain", "read", "row", "colour_bias"):
        torch.testing.assert_close(getattr(other, name), getattr(noise, name) * factor)
    assert other.quantisation == factor
    assert other.tukey_shape is noise.tukey_shape


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("SONY ILCE-7SM2", "SonyA7S2"),
        ("Sony ILCE-7SM2", "SonyA7S2"),
        ("ILCE-7SM2", "SonyA7S2"),
        ("NIKON CORPORATION NIKON D850", "NikonD850"),
        ("Nikon D850", "NikonD850"),
        ("Canon Canon EOS 70D", "CanonEOS70D"),
        ("Canon EOS 700D", "CanonEOS700D"),
        ("Canon EOS 5D Mark IV", "CanonEOS5D4"),
        ("canoneos5d4", "CanonEOS5D4"),
    ],
)
def test_a_camera_is_found_by_what_files_call_it(model: str, name: str) -> None:
    found = find_camera(model)
    assert found is not None
    assert found.name == name
    assert load_profile(model) == found


@pytest.mark.parametrize(
    "model",
    [
        "",
        " ",
        "SONY ILCE-7SM3",
        "SONY ILCE-7S",
        "Canon EOS 7D",
        "Canon EOS 5D Mark III",
        "Canon EOS 70",
        "NIKON D85",
        "X",
    ],
)
def test_another_camera_is_not_taken_for_a_known_one(model: str) -> None:
    assert find_camera(model) is None


def test_a_profile_from_a_file(tmp_path: Path) -> None:
    mine = replace(SONY, name="Mine", exif_model="Acme One")
    (tmp_path / "mine.json").write_text(mine.to_json())
    assert load_profile(str(tmp_path / "mine.json")) == mine
    with pytest.raises(ValueError, match=r"no camera profile 'Acme One'.*one of .*SonyA7S2"):
        load_profile("Acme One")
    (tmp_path / "broken.json").write_text('{"name": "Acme"')
    with pytest.raises(ValueError, match=r"broken\.json: not a camera profile"):
        load_profile(str(tmp_path / "broken.json"))


@pytest.mark.parametrize(
    "change",
    [
        {"gain_iso_100": None},
        {"gain_iso_100": -1.0},
        {"gain_iso_100": 7.0},
        {"saturation": 0},
        {"row": {"slope": 1.0}},
        {"tukey_shapes": 3},
        {"lens": "50 mm"},
    ],
)
def test_a_profile_that_makes_no_sense_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="not a camera profile"):
        CameraProfile.from_json(json.dumps({**json.loads(SONY.to_json()), **change}))


@pytest.mark.parametrize("text", ["", "[]", "3", "null", '"SonyA7S2"', "{}"])
def test_json_that_is_no_profile_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a camera profile"):
        CameraProfile.from_json(text)

"""Camera profiles: their figures, their files, and how one is found."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import MISSING, asdict, fields, replace
from importlib import resources
from pathlib import Path
from typing import Literal

import pytest
import torch
from jsonschema import Draft202012Validator
from platformdirs import user_data_path

from exposurediffusion.physics.cameras import known
from exposurediffusion.physics.cameras.known import (
    calibrated_cameras,
    find_camera,
    find_own_camera,
    load_profile,
    user_cameras,
    user_folder,
)
from exposurediffusion.physics.cameras.profile import NORMAL_SHAPE, CameraProfile, LogLinear, Setting
from exposurediffusion.physics.cameras.profile_schema import schema
from exposurediffusion.physics.parameters import NoiseParameters, tukey_lambda_variance

SONY = calibrated_cameras()["SonyA7S2"]


def test_five_cameras_are_inside() -> None:
    cameras = calibrated_cameras()
    assert set(cameras) == {"SonyA7S2", "NikonD850", "CanonEOS5D4", "CanonEOS70D", "CanonEOS700D"}
    for profile in cameras.values():
        assert profile.tukey_shapes
        assert {len(bias) for bias in profile.colour_bias} == {4}
        assert profile.saturation == 15583


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


MEASURED = replace(
    SONY,
    settings=(
        Setting(200, 0.2, 1.5, 0.9, -0.1, row=0.0, quantisation=1.0),
        Setting(800, 0.9, 2.4, 1.4, 0.0, row=0.2, quantisation=2.0),
        Setting(3200, 3.0, 5.0, 3.0, -0.04, row=0.9, quantisation=4.0),
    ),
)


def test_measured_settings_are_given_back_as_they_are() -> None:
    for setting in MEASURED.settings:
        assert MEASURED.gain(setting.iso) == setting.gain
        for read in ("tukey", "gaussian"):
            noise = MEASURED.at_iso(setting.iso, read)
            assert noise.gain.item() == torch.tensor(setting.gain).item()
            assert noise.read.item() == torch.tensor(getattr(setting, f"{read}_read")).item()
            assert noise.row.item() == torch.tensor(setting.row).item()
            assert noise.quantisation == setting.quantisation
        assert MEASURED.at_iso(setting.iso).tukey_shape.item() == torch.tensor(setting.tukey_shape).item()
    assert MEASURED.iso_range == (200, 3200)
    assert SONY.iso_range == (100, 6400)


def test_between_measured_settings_scales_are_powers_of_the_iso_and_the_shape_is_linear() -> None:
    middle = MEASURED.at_iso(1600)
    assert MEASURED.gain(1600) == pytest.approx((0.9 * 3.0) ** 0.5)
    assert middle.read.item() == pytest.approx((1.4 * 3.0) ** 0.5)
    assert middle.row.item() == pytest.approx((0.2 * 0.9) ** 0.5)
    assert middle.tukey_shape.item() == pytest.approx(-0.02)
    assert MEASURED.at_iso(1600, "gaussian").read.item() == pytest.approx((2.4 * 5.0) ** 0.5)
    assert MEASURED.at_iso(400).row.item() == pytest.approx(0.1)  # from none: there is no power
    assert (MEASURED.at_iso(1590).quantisation, MEASURED.at_iso(1610).quantisation) == (2.0, 4.0)


def test_beyond_measured_settings_the_laws_go_on_from_the_last_one() -> None:
    for end, beyond in ((200, 100), (3200, 25_600)):
        held, far = MEASURED.at_iso(end), MEASURED.at_iso(beyond)
        ratio = SONY.gain(beyond) / SONY.gain(end)
        assert MEASURED.gain(beyond) == pytest.approx(MEASURED.gain(end) * ratio)
        assert far.read.item() == pytest.approx(held.read.item() * ratio**SONY.tukey_read.slope)
        assert far.row.item() == pytest.approx(held.row.item() * ratio**SONY.row.slope)
        assert far.tukey_shape.item() == held.tukey_shape.item()
        for name in ("gain", "read", "row"):  # no jump
            near = getattr(MEASURED.at_iso(end + 1e-6 * (beyond - end)), name).item()
            assert near == pytest.approx(getattr(held, name).item(), rel=1e-4, abs=1e-6)
    low = replace(MEASURED, gain_iso_6400=MEASURED.gain_iso_6400 * 4)  # its line is negative at ISO 10
    with pytest.raises(ValueError, match="no gain for ISO 10"):
        replace(low, gain_iso_100=0.01).gain(10)
    for iso in (0, float("nan")):
        with pytest.raises(ValueError, match="no gain for ISO"):
            MEASURED.gain(iso)


def test_columns_are_those_measured_and_follow_the_rows_beyond() -> None:
    first, middle, last = MEASURED.settings
    striped = replace(MEASURED, settings=(replace(first, column=0.2), middle, replace(last, column=0.8)))
    ratio = striped.gain(25_600) / striped.gain(3200)
    expected = {200: 0.2, 3200: 0.8, 25_600: 0.8 * ratio**SONY.row.slope}
    for iso, deviation in expected.items():
        noise = striped.at_iso(iso)
        assert noise.column is not None
        assert noise.column.item() == pytest.approx(deviation)
        assert float(noise.read_variance - MEASURED.at_iso(iso).read_variance) == pytest.approx(deviation**2, rel=1e-3)
        drawn = striped.sample(noise.gain)
        assert drawn.column is not None
        assert drawn.column.item() == pytest.approx(deviation)
        scaled = drawn.rescaled(4 * drawn.saturation).column
        assert scaled is not None
        assert scaled.item() == pytest.approx(4 * deviation)
    assert MEASURED.at_iso(200).column is MEASURED.sample(torch.ones(2)).column is SONY.at_iso(800).column is None


def test_draws_have_the_rounding_of_the_nearest_setting() -> None:
    gain = torch.tensor([0.01, 0.3, 0.8, 1.5, 2.0, 50.0])
    assert MEASURED.sample(gain).quantisation.tolist() == [1, 1, 2, 2, 4, 4]
    assert SONY.sample(gain).quantisation == 1.0


@pytest.mark.parametrize("read", ["tukey", "gaussian"])
def test_a_profile_without_shapes_has_normal_tails(
    read: Literal["tukey", "gaussian"], generator: torch.Generator
) -> None:
    bare, gain = replace(SONY, tukey_shapes=()), SONY.gain(800)
    noise = bare.at_iso(800, read)
    expected = SONY.gaussian_read.median(noise.gain) ** 2 + noise.row**2 + 1 / 12
    torch.testing.assert_close(noise.read_variance, expected)
    drawn = bare.sample(torch.full((4000,), gain), read, generator=generator)
    typical = (drawn.read_variance - drawn.row**2 - 1 / 12).sqrt().median()
    assert float(typical) == pytest.approx(float(SONY.gaussian_read.median(noise.gain)), rel=0.03)
    own = replace(MEASURED, tukey_shapes=()).sample(torch.full((99,), gain), generator=generator).tukey_shape
    assert set(own.tolist()) == set(torch.tensor([-0.1, 0.0, -0.04]).tolist())  # those measured come first


def test_the_shape_of_normal_tails_has_their_kurtosis() -> None:
    middle = (torch.arange(1_000_000, dtype=torch.float64) + 0.5) / 1e6
    values = (middle**NORMAL_SHAPE - (1 - middle) ** NORMAL_SHAPE) / NORMAL_SHAPE
    assert float((values**4).mean() / (values**2).mean() ** 2) == pytest.approx(3, abs=0.002)
    assert float((values**2).mean()) == pytest.approx(float(tukey_lambda_variance(NORMAL_SHAPE)), rel=1e-4)


@pytest.mark.parametrize("rows", [(), ((1.0,) * 9, (-3.0,) * 9)])
def test_black_errors_that_no_bayer_frame_was_calibrated_for(
    rows: tuple[tuple[float, ...], ...], generator: torch.Generator
) -> None:
    profile = replace(SONY, colour_bias=rows)
    assert (profile.at_iso(800).black is None) == (not rows)  # then nothing is known
    noise = profile.sample(torch.ones(4000), "tukey", True, generator)
    assert noise.colour_bias.shape == (4000, 4)
    assert float(noise.colour_bias.std()) == pytest.approx(profile.black_deviation, rel=0.03)


BROKEN = [
    ({"gain_iso_100": None}, "gain_iso_100: a number is wanted, not null"),
    ({"gain_iso_100": True}, "gain_iso_100: a number is wanted, not true"),
    ({"gain_iso_100": -1.0}, "gain_iso_100: a number above 0, up to 1e+06 is wanted, not -1.0"),
    ({"gain_iso_100": 7.0}, "gain_iso_6400: more than gain_iso_100 (7) is wanted, not 6.01063"),
    ({"gain_iso_6400": float("nan")}, "gain_iso_6400: a number is wanted, not 'NaN'"),
    ({"saturation": float("inf")}, "saturation: a number is wanted, not 'Infinity'"),
    ({"saturation": 0}, "saturation: a number from 1 to 1e+09 is wanted, not 0"),
    ({"name": ""}, "name: some text is wanted, not ''"),
    ({"row": {"slope": 1.0}}, "row.bias: missing; row.sigma: missing"),
    ({"gaussian_read": {"slope": "abc", "bias": 1, "sigma": 1}}, "gaussian_read.slope: a number is wanted, not 'abc'"),
    ({"tukey_shapes": 3}, "tukey_shapes: a list is wanted, not 3"),
    ({"tukey_shapes": [0.1, -0.5]}, "tukey_shapes[1]: a number above -0.5, up to 2 is wanted, not -0.5"),
    ({"colour_matrix": [1, 2]}, "colour_matrix: 9 values or more are wanted, not 2"),
    ({"colour_matrix": [1] * 10}, "colour_matrix: 9 values or fewer are wanted, not 10"),
    ({"colour_bias": [[1, 1]]}, "colour_bias[0]: 4 values or more are wanted, not 2"),
    ({"colour_bias": [[1] * 4, [1] * 9]}, "colour_bias[1]: 4 values are wanted, as in the row before, not 9"),
    ({"defects": [[1.5, 2]]}, "defects[0][0]: a whole number is wanted, not 1.5"),
    (
        {"settings": [asdict(MEASURED.settings[0])] * 2},
        "settings[1].iso: more than the 200 before it is wanted",
    ),
    ({"settings": [{"iso": 100}]}, "settings[0].gain: missing"),
    ({"lens": "50 mm"}, "lens: no such field"),
]


@pytest.mark.parametrize(("change", "said"), BROKEN, ids=[said for _, said in BROKEN])
def test_a_profile_that_makes_no_sense_is_refused_by_field(change: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"not a camera profile: {said}")):
        CameraProfile.from_json(json.dumps({**json.loads(SONY.to_json()), **change}))


@pytest.mark.parametrize("text", ["", "[]", "3", "null", '"SonyA7S2"', "{}"])
def test_json_that_is_no_profile_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a camera profile"):
        CameraProfile.from_json(text)


def test_the_schema_is_one_and_has_each_field_with_its_description() -> None:
    text = schema()
    Draft202012Validator.check_schema(text)
    for kind, part in ((CameraProfile, text), (LogLinear, text["$defs"]["law"]), (Setting, text["$defs"]["setting"])):
        assert set(part["properties"]) == {field.name for field in fields(kind)}
        assert set(part["required"]) == {field.name for field in fields(kind) if field.default is MISSING} - {
            "saturation"
        }
        assert all(field["description"] for field in part["properties"].values())


@pytest.mark.parametrize("name", calibrated_cameras())
def test_shipped_profiles_fit_the_schema(name: str) -> None:
    file = resources.files("exposurediffusion.physics.cameras") / "calibrated" / f"{name}.json"
    assert CameraProfile.from_json(file.read_text()) == calibrated_cameras()[name]
    mine = replace(MEASURED, defects=((3, 4),), dark_shading="dark.safetensors")
    assert CameraProfile.from_json(mine.to_json()) == mine


def test_names_are_looked_up_without_the_validator() -> None:
    code = "import sys; from exposurediffusion.physics.cameras.known import *; find_own_camera('Canon EOS 70D')"
    done = subprocess.run([sys.executable, "-c", f"{code}; print('jsonschema' in sys.modules)"], capture_output=True)
    assert done.stdout.strip() == b"False", done.stderr


@pytest.mark.parametrize(
    ("model", "found"),
    [
        ("OLYMPUS D850", None),
        ("Foo ILCE-7SM2", None),
        ("Simulated X-Trans ILCE-7SM2", "SonyA7S2"),
        ("D850", "NikonD850"),
        ("NIKON CORPORATION D850", "NikonD850"),
        ("Canon PowerEOS 70D", None),
    ],
)
def test_the_make_has_to_be_the_profiles(model: str, found: str | None) -> None:
    profile = find_camera(model)
    assert (profile and profile.name) == found


def test_a_profile_of_no_model_is_found_by_its_name_alone() -> None:
    nameless = [replace(SONY, name="Mine", exif_model="")]
    assert find_camera("Canon EOS 70D", nameless) is None
    assert find_camera("", nameless) is None
    assert find_camera("mine", nameless) == nameless[0]
    assert find_camera("Acme One", [replace(SONY, exif_model="One")]) is None


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(known, "user_folder", lambda: tmp_path)
    return tmp_path


def test_ones_own_profiles_come_first_where_they_are_asked_for(own_folder: Path) -> None:
    mine = replace(SONY, name="My Sony", source="mine")
    (own_folder / "a.json").write_text(mine.to_json())
    assert find_own_camera("SONY ILCE-7SM2") == load_profile("My Sony") == load_profile("ILCE-7SM2") == mine
    assert find_camera("SONY ILCE-7SM2") == load_profile("SonyA7S2") == SONY  # measurements and training stay
    assert find_own_camera("NIKON D850") == calibrated_cameras()["NikonD850"]
    assert "My Sony" not in calibrated_cameras()
    with pytest.raises(ValueError, match=r"one of My Sony, .*SonyA7S2"):
        load_profile("nothing")
    changed = replace(mine, source="another day")
    (own_folder / "a.json").write_text(changed.to_json())
    os.utime(own_folder / "a.json", ns=(1, 1))
    assert load_profile("My Sony") == changed


def test_a_damaged_profile_in_the_folder_is_said_and_passed_over(own_folder: Path) -> None:
    (own_folder / "a.json").write_text("{")
    (own_folder / "b.json").write_text(replace(SONY, name="Mine").to_json())
    (own_folder / "c.json").mkdir()
    (own_folder / "d.json").write_bytes(b"\xff")
    (own_folder / "notes.txt").write_text("no profile")
    said: list[str] = []
    assert [profile.name for profile in user_cameras(said.append).values()] == ["Mine"]
    assert len(said) == 3
    assert all(line.startswith("passed over: ") and "\n" not in line for line in said)
    assert "a.json: not a camera profile: no JSON" in said[0]
    assert load_profile("Mine").name == "Mine"


def test_the_users_folder_is_the_platforms() -> None:
    assert user_folder() == user_data_path("exposurediffusion", False) / "cameras"

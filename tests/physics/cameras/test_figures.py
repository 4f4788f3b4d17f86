"""Profiles from published figures: they have the figures, and come near the camera where it was not measured."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from exposurediffusion.physics.cameras.figures import Figure, profile_of_figures
from exposurediffusion.physics.cameras.known import calibrated_cameras
from exposurediffusion.physics.cameras.profile import CameraProfile

CAMERAS = calibrated_cameras()
ELSEWHERE = (100, 140, 280, 560, 800, 1130, 3200, 4500, 12_800, 25_600)


def figures_of(camera: CameraProfile, *isos: float) -> list[Figure]:
    return [(iso, camera.gain(iso), float(camera.at_iso(iso).read_variance) ** 0.5) for iso in isos]


def worst(found: CameraProfile, camera: CameraProfile) -> float:
    """Largest relative error of the light-free variance where there is no figure."""
    variances = [[float(one.at_iso(iso).read_variance) for iso in ELSEWHERE] for one in (found, camera)]
    return float(np.abs(np.divide(variances[0], variances[1]) - 1).max())


@pytest.mark.parametrize("name", CAMERAS)
def test_three_figures_of_a_camera_give_its_noise_elsewhere_and_twin_that_knows_one(name: str) -> None:
    camera = CAMERAS[name]
    found = profile_of_figures(name, figures_of(camera, 6400, 200, 1600))
    for iso in (200, 1600, 6400):
        assert found.gain(iso) == pytest.approx(camera.gain(iso))
        published = camera.at_iso(iso).read_variance
        torch.testing.assert_close(found.at_iso(iso).read_variance, published)
        torch.testing.assert_close(found.at_iso(iso, "gaussian").read_variance, published)
    assert worst(found, camera) < 0.04  # measured: 1.7 to 3.8 % at ISO 100 and 25600, 0.6 % in between
    for iso in ELSEWHERE:
        assert found.gain(iso) == pytest.approx(camera.gain(iso), rel=1e-3)
    lone = worst(profile_of_figures(name, figures_of(camera, 800)), camera)
    assert lone > 0.04 or name == "CanonEOS700D"  # whose exponent is the mean of the five


def test_one_figure_is_in_proportion_to_iso_with_the_cameras_exponent() -> None:
    found = profile_of_figures("One", [(800, 0.5, 2.1)])
    assert found.gain(1600) == pytest.approx(1.0)
    assert found.iso_range == (800, 800)
    assert float(found.at_iso(800).read_variance) == pytest.approx(2.1**2, rel=1e-5)
    slopes = [camera.gaussian_read.slope for camera in CAMERAS.values()]
    assert found.gaussian_read.slope == found.row.slope == pytest.approx(np.mean(slopes))
    assert "exponent" in found.source
    assert "exponent" not in profile_of_figures("Two", [(800, 0.5, 2.1), (1600, 1, 3)]).source


def test_the_line_of_gains_has_the_least_relative_errors() -> None:
    isos, gains = np.array([100, 200, 6400]), np.array([0.1, 0.2, 7.0])  # the last is 9 % too high
    found = profile_of_figures("A", [(float(i), float(k), 2.0) for i, k in zip(isos, gains, strict=True)])

    def errors(low: float, high: float) -> float:
        return float((((low + (high - low) * (isos - 100) / 6300) / gains - 1) ** 2).sum())

    least = errors(found.gain_iso_100, found.gain_iso_6400)
    for low, high in ((0.99, 1), (1.01, 1), (1, 0.99), (1, 1.01)):
        assert errors(low * found.gain_iso_100, high * found.gain_iso_6400) > least


def test_what_is_filled_is_the_spread_over_the_cameras(generator: torch.Generator) -> None:
    found = profile_of_figures("One", [(800, 0.5, 2.1)])
    assert set(found.tukey_shapes) == {shape for camera in CAMERAS.values() for shape in camera.tukey_shapes}
    errors = [camera.black_deviation for camera in CAMERAS.values()]
    assert min(errors) < found.black_deviation < max(errors)
    gain = torch.tensor([0.5])
    shares = [float(camera.row.median(gain) / camera.gaussian_read.median(gain)) for camera in CAMERAS.values()]
    share = float(found.row.median(gain) / found.gaussian_read.median(gain))
    assert share == pytest.approx(np.exp(np.log(shares).mean()))
    assert found.row.sigma > max(camera.row.sigma for camera in CAMERAS.values())  # no row noise was measured
    drawn = found.sample(torch.full((20_000,), 0.5), "gaussian", True, generator)
    assert float(drawn.read_variance.median()) == pytest.approx(2.1**2, rel=0.05)


def test_another_number_of_bits_is_the_same_camera() -> None:
    fourteen = profile_of_figures("A", [(800, 2.0, 8.0), (1600, 4.0, 14.0)])
    twelve = profile_of_figures("A", [(800, 0.5, 2.0), (1600, 1.0, 3.5)], saturation=fourteen.saturation / 4)
    assert twelve.black_deviation == pytest.approx(fourteen.black_deviation / 4)
    one, other = fourteen.at_iso(800), twelve.at_iso(800).rescaled(fourteen.saturation)
    for name in ("gain", "black", "row"):  # the rounding is another
        torch.testing.assert_close(getattr(other, name), getattr(one, name), rtol=0.02, atol=0)


def test_figures_below_rounding_and_gains_that_stand_still_give_a_profile() -> None:
    found = profile_of_figures("A", [(50, 0.1, 0.2), (100, 0.1, 0.2), (200, 0.2, 0.3)], exif_model="Acme One")
    assert CameraProfile.from_json(found.to_json()) == found
    assert found.gain(50) == found.gain(100) == 0.1
    assert found.gain(25) < 0.1 < 0.2 < found.gain(400)


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ([], "no figures"),
        ([(800, 0.0, 2.0)], "gain: a positive number is wanted, not 0"),
        ([(800, 1.0, float("nan"))], "read noise: a positive number is wanted, not nan"),
        ([(float("inf"), 1.0, 2.0)], "ISO: a positive number is wanted, not inf"),
        ([(800, 1.0, 2.0), (800, 1.0, 2.1)], "two figures for ISO 800"),
        ([(100, 5.0, 2.0), (200, 2.5, 2.1)], "the gain falls from ISO 100 to 200: DN per electron are wanted"),
    ],
)
def test_figures_that_make_no_sense_are_refused(figures: list[Figure], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        profile_of_figures("A", figures)


def test_a_white_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="saturation: white less black"):
        profile_of_figures("A", [(800, 1.0, 2.0)], saturation=0)

"""Captures of training: their laws by z-score, what the network is given, and that an iteration decides a batch."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from exposurediffusion.physics.cameras.known import load_profile
from exposurediffusion.physics.noise import NOISE_MODELS
from exposurediffusion.physics.parameters import NoiseParameters
from exposurediffusion.physics.sensor import SATURATION
from exposurediffusion.training.batches import Batch, collate
from exposurediffusion.training.captures import CaptureMaker, Captures, draw_ratios
from exposurediffusion.training.presets import CAPTURES, PRESETS
from exposurediffusion.training.recipe import CaptureRecipe
from tests.statistics import BOUND, covariance_z, mean_z, quantile_z, variance_z
from tests.tiny import Light

PLAIN = CaptureRecipe(noise="p+g", gain_range=(1.0, 1.0), ratio=(100.0, 100.0), clip=False)


def clean(count: int, level: float = 0.3, size: int = 2, first: int = 0) -> Batch:
    return Batch(tuple(range(first, first + count)), torch.full((count, 4, size, size), level))


def pairs(count: int, first: int = 0, size: int = 8) -> Batch:
    data = Light(ratios=(100.0, 300.0))
    numbers = tuple(range(first, first + count))
    return collate(numbers, [data.patch(number, size) for number in numbers])


# ------------------------------------------------------------------------------------------------ laws of the draws


@pytest.fixture
def no_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what is drawn for a whole image is drawn: it has a random source of its own, and pixels take the time."""
    monkeypatch.setattr("exposurediffusion.training.captures.simulate_capture", lambda light, *_: light)


@pytest.mark.usefixtures("no_pixels")
@pytest.mark.parametrize("noise", ["p+g", "eld+bias"])
def test_gain_and_ratio_follow_the_published_laws(noise: Any) -> None:
    made = CaptureMaker(CaptureRecipe(noise=noise), 1)(clean(1000), 0)
    share = (made.noise.gain.double().log() - math.log(0.1)) / math.log(300)
    ratio = made.conditions.ratio.double()
    assert 0 <= share.min() < 0.02
    assert 0.98 < share.max() <= 1
    assert abs(mean_z(share, 0.5)) < BOUND
    assert abs(variance_z(share, 1 / 12)) < BOUND
    assert ratio.min() >= 20
    assert ratio.max() <= 300
    assert abs(mean_z(ratio, 160)) < BOUND
    assert abs(variance_z(ratio, 280**2 / 12)) < BOUND
    assert abs(covariance_z(share, ratio)) < BOUND


def test_cameras_are_named_with_commas() -> None:
    maker = CaptureMaker(CaptureRecipe(camera="SonyA7S2, NikonD850"), 1)
    assert [camera.name for camera in maker.model.cameras] == ["SonyA7S2", "NikonD850"]
    with pytest.raises(ValueError, match="no camera profile 'Sonny'"):
        CaptureMaker(CaptureRecipe(camera="NikonD850,Sonny"), 1)


@pytest.mark.usefixtures("no_pixels")
@pytest.mark.parametrize("noise", NOISE_MODELS)
def test_a_profile_of_few_fields_and_other_bits_is_enough(noise: str, tmp_path: Path) -> None:
    sony = load_profile("SonyA7S2")
    few = replace(sony, name="Few", saturation=3967.0, colour_bias=(), tukey_shapes=(), colour_matrix=())
    (tmp_path / "few.json").write_text(few.to_json())
    recipe = CaptureRecipe(noise=noise, camera=str(tmp_path / "few.json"), iso=(800.0,))
    made = CaptureMaker(recipe, 1)(clean(400), 0)
    assert made.conditions.saturation == 3967
    known = made.noise.gain == torch.tensor(sony.gain(800))
    bias, black = made.noise.colour_bias, made.noise.black
    assert (bias is None) == (black is None) == (noise in ("p+g", "eld"))
    assert bias is None or bool((bias[known] == 0).all())
    row = made.noise.row[known] ** 2 + (0 if noise == "p+g" else 1 / 12)
    spread = ((made.conditions.read_variance[known] - row).log() / 2).double()
    expected = sony.gaussian_read.median(torch.tensor([sony.gain(800)])).log().double()
    assert abs(mean_z(spread, float(expected))) < BOUND


@pytest.mark.usefixtures("no_pixels")
def test_another_range_of_gains_is_found_out() -> None:
    made = CaptureMaker(CaptureRecipe(gain_range=(0.1, 15.0)), 1)(clean(1000), 0)
    share = (made.noise.gain.double().log() - math.log(0.1)) / math.log(300)
    assert abs(mean_z(share, 0.5)) > BOUND


@pytest.mark.usefixtures("no_pixels")
def test_without_a_range_gains_are_those_of_the_camera() -> None:
    camera = load_profile("NikonD850")
    made = CaptureMaker(CaptureRecipe(camera="NikonD850", gain_range=None), 1)(clean(400), 0)
    gain = made.noise.gain.double()
    assert camera.gain_iso_100 <= gain.min() * (1 + 1e-6)
    assert gain.max() <= camera.gain_iso_6400 * (1 + 1e-6)
    assert gain.max() / gain.min() > 0.9 * camera.gain_iso_6400 / camera.gain_iso_100


@pytest.mark.usefixtures("no_pixels")
def test_gains_of_iso_settings_are_those_and_no_others() -> None:
    camera = load_profile("SonyA7S2")
    settings = (800.0, 1600.0, 3200.0)
    made = CaptureMaker(CaptureRecipe(camera="SonyA7S2", iso=settings), 1)(clean(900), 0)
    found, counts = made.noise.gain.unique(return_counts=True)
    assert found.tolist() == pytest.approx([camera.gain(iso) for iso in settings])
    for count in counts.tolist():
        assert abs(count - 300) < BOUND * math.sqrt(900 * 2 / 9)


def test_uniform_ratios(generator: torch.Generator) -> None:
    for low, high in ((20.0, 300.0), (100.0, 300.0)):
        ratios = draw_ratios(CaptureRecipe(ratio=(low, high)), 40_000, generator).double()
        assert low <= ratios.min() < low + 0.1
        assert high - 0.1 < ratios.max() <= high
        assert abs(mean_z(ratios, (low + high) / 2)) < BOUND
        assert abs(variance_z(ratios, (high - low) ** 2 / 12)) < BOUND
    assert abs(mean_z(ratios, 160)) > BOUND  # twin: the law of the baselines is not that of the method


def test_mixed_ratios_are_one_quarter_log_uniform(generator: torch.Generator) -> None:
    recipe = CaptureRecipe(ratio=(1.5, 300.0), ratio_law="mixed")
    ratios = draw_ratios(recipe, 40_000, generator).double()
    uniform = draw_ratios(replace(recipe, ratio_law="uniform"), 40_000, generator).double()
    assert 1.5 <= ratios.min() < 1.51
    assert ratios.max() <= 300
    for value in (3.0, 20.0, 60.0, 160.0, 250.0):
        share = 0.25 * math.log(value / 1.5) / math.log(200) + 0.75 * max(0.0, (value - 20) / 280)
        assert abs(quantile_z(ratios, value, share)) < BOUND
        if value < 100:
            assert abs(quantile_z(uniform, value, share)) > 2 * BOUND  # twin: the other law


@pytest.mark.parametrize(("low", "high"), [(30.0, 300.0), (1.5, 10.0), (100.0, 100.0)])
def test_mixed_ratios_stay_within_their_range(low: float, high: float, generator: torch.Generator) -> None:
    ratios = draw_ratios(CaptureRecipe(ratio=(low, high), ratio_law="mixed"), 2000, generator)
    assert low <= ratios.min()
    assert ratios.max() <= high


# --------------------------------------------------------------------------------------------------- made captures


def moments(made: Captures, level: float, gain: float = 1.0, read: Tensor | None = None) -> tuple[float, float]:
    """z of the mean, and of the variance, of made captures of even light, each measured by its own noise."""
    ratio, noise = made.conditions.ratio.double(), made.noise
    variance = gain * noise.gain * level * ratio / SATURATION + noise.read_variance * (ratio / SATURATION) ** 2
    deviation = (made.capture.double() - level) / variance.sqrt()[:, None, None, None]
    return mean_z(deviation, 0.0), variance_z(deviation, 1.0)


def test_p_g_captures_have_the_mean_of_the_scene_and_the_noise_that_is_reported() -> None:
    made = CaptureMaker(replace(PLAIN, gain_range=(0.1, 30.0), ratio=(20.0, 300.0)), 2)(clean(100, size=16), 0)
    assert max(map(abs, moments(made, 0.3))) < BOUND
    assert abs(moments(made, 0.29)[0]) > BOUND  # twins: another light,
    assert abs(moments(made, 0.3, gain=1.2)[1]) > BOUND  # another gain
    assert torch.equal(made.target, torch.full_like(made.capture, 0.3))


@pytest.mark.parametrize("noise", ["eld", "eld+bias", "wide"])
def test_every_image_has_the_noise_of_its_own_parameters(noise: Any) -> None:
    recipe = CaptureRecipe(noise=noise, gain_range=None, ratio=(1.5, 300.0), ratio_law="mixed", clip=False)
    made = CaptureMaker(recipe, 3)(clean(100, 0.1, size=32), 0)
    assert max(map(abs, of_all(made, made.noise))) < BOUND
    turned = replace(made.noise, **{k: v.roll(1, 0) for k, v in vars(made.noise).items() if isinstance(v, Tensor)})
    assert abs(of_all(made, turned)[1]) > BOUND  # twins: the parameters of another image,
    assert abs(of_all(made, replace(made.noise, row=torch.zeros(100)))[2]) > BOUND  # no row noise


def of_all(made: Captures, noise: NoiseParameters, level: float = 0.1) -> tuple[float, float, float]:
    """z of the mean and variance of single sites, and of the variance of means of rows, as parameters say."""
    unit = (made.conditions.ratio.double() / SATURATION)[:, None, None, None]
    bias = 0 if noise.colour_bias is None else noise.colour_bias[:, :, None, None]
    error = ((made.capture.double() - level) / unit - bias)[:, ::2]  # R and B lie in different rows of the sensor
    shot, total, row = (x.double()[:, None, None, None] for x in (noise.gain, noise.read_variance, noise.row**2))
    total = total + shot * level / unit
    single = (error / total.sqrt())[..., 5]
    rows = (error.mean(-1, keepdim=True) / (row + (total - row) / error.shape[-1]).sqrt())[..., 0]
    return mean_z(single, 0.0), variance_z(single, 1.0), variance_z(rows, 1.0)


def test_eld_captures_share_the_offset_of_a_sensor_row() -> None:
    recipe = CaptureRecipe(noise="eld", camera="CanonEOS70D", gain_range=(10.0, 10.0), ratio=(100.0, 100.0), clip=False)

    def of_rows(noise: Any) -> float:
        made = CaptureMaker(replace(recipe, noise=noise), 3)(clean(150, 0.0, size=32), 0)
        dn = made.capture * SATURATION / 100
        scale = made.noise.read_variance.sqrt()[:, None]
        return covariance_z(dn[:, 0, :, :16].mean(-1) / scale, dn[:, 1, :, 16:].mean(-1) / scale)

    assert of_rows("eld") > BOUND  # R and G1 of a packed row are one sensor row
    assert abs(of_rows("p+g")) < BOUND  # twin: no row noise


@pytest.mark.parametrize("noise", ["eld+bias", "wide"])
def test_colour_bias_moves_the_black_of_each_plane(noise: Any) -> None:
    recipe = CaptureRecipe(noise=noise, camera="SonyA7S2", gain_range=None, clip=False)
    made = CaptureMaker(recipe, 3)(clean(200, 0.0, size=16), 0)
    assert made.noise.colour_bias is not None
    dn = made.capture * (SATURATION / made.conditions.ratio)[:, None, None, None]
    error = (dn.mean(dim=(2, 3)) - made.noise.colour_bias) / (made.noise.read_variance / 256).sqrt()[:, None]
    plain = dn.mean(dim=(2, 3)) / (made.noise.read_variance / 256).sqrt()[:, None]
    assert abs(mean_z(error, 0.0)) < BOUND
    assert plain.var() > 1.5 * error.var()  # nothing else carries the bias
    assert CaptureMaker(replace(recipe, noise="eld"), 3)(clean(2), 0).noise.colour_bias is None


@pytest.mark.parametrize("noise", ["eld+bias", "wide"])
def test_xtrans_captures_have_no_colour_bias(noise: Any) -> None:
    made = CaptureMaker(CaptureRecipe(noise=noise, clip=False), 3)(Batch((0, 1), torch.full((2, 9, 12, 12), 0.2)), 0)
    assert made.noise.colour_bias is None
    assert made.capture.shape == (2, 9, 12, 12)
    assert made.capture.isfinite().all()


@pytest.mark.parametrize("clip", [True, False])
def test_captures_are_clipped_if_the_recipe_says_so_and_targets_always(clip: bool) -> None:
    batch = Batch((0, 1), torch.cat([torch.zeros((1, 4, 8, 8)), torch.full((1, 4, 8, 8), 1.5)]))
    made = CaptureMaker(replace(PLAIN, clip=clip), 1)(batch, 0)
    assert (made.capture.min() >= 0 and made.capture.max() <= 1) == clip
    assert made.target.unique().tolist() == [0, 1]


def test_targets_keep_highlights_up_to_the_white_of_the_network() -> None:
    batch = Batch((0, 1), torch.cat([torch.full((1, 4, 8, 8), 3.0), torch.full((1, 4, 8, 8), 4.0)]))
    made = CaptureMaker(PLAIN, 1, white=3.5)(batch, 0)
    assert made.target.unique().tolist() == [3.0, 3.5]


@pytest.mark.parametrize(
    "recipe",
    [
        *[CaptureRecipe(noise=noise, uncertainty=0.2) for noise in ("p+g", "eld", "eld+bias", "wide")],
        CaptureRecipe(supervision="noise2noise", clip=False),
        CaptureRecipe(ratio=(1.5, 300.0), ratio_law="mixed"),
    ],
    ids=["p+g", "eld", "eld+bias", "wide", "noise2noise", "mixed"],
)
def test_a_batch_is_drawn_from_seed_iteration_and_process(recipe: CaptureRecipe) -> None:
    batch = clean(5, size=6, first=7)
    made = check_drawn_alike(recipe, batch)
    assert len({float(image.sum()) for image in made.capture}) == 5
    others = [(10, 3, 1), (9, 4, 1), (9, 3, 0), (9, 1, 3), (3, 9, 1)]
    captures = [made.capture, *(CaptureMaker(recipe, seed)(batch, *where).capture for seed, *where in others)]
    assert len({float(capture.sum()) for capture in captures}) == 6


@pytest.mark.parametrize("augment", [1.0, 2.0])
def test_a_batch_of_pairs_is_drawn_from_seed_iteration_and_process(augment: float) -> None:
    recipe = CaptureRecipe(supervision="paired", augment=augment)
    made = check_drawn_alike(recipe, pairs(5, first=7))
    other = CaptureMaker(recipe, 9)(pairs(5, first=7), 4, 1)
    assert torch.equal(made.capture, other.capture) == (augment == 1)


def check_drawn_alike(recipe: CaptureRecipe, batch: Batch) -> Captures:
    """Once more, with another maker and whatever torch's own generator may say."""
    first = CaptureMaker(recipe, 9)(batch, 3, 1)
    torch.manual_seed(8)
    again = CaptureMaker(recipe, 9)(batch, 3, 1)
    for name in ("capture", "target"):
        assert torch.equal(getattr(first, name), getattr(again, name))
    for name in ("ratio", "gain", "read_variance"):
        assert torch.equal(getattr(first.conditions, name), getattr(again.conditions, name))
    goes_on = [torch.rand(3, generator=made.generator) for made in (first, again)]
    assert torch.equal(*goes_on)
    for where in ((4, 1), (3, 0)):
        other = CaptureMaker(recipe, 9)(batch, *where)
        assert not torch.equal(goes_on[0], torch.rand(3, generator=other.generator))
    return first


def test_parts_of_a_batch_are_its_images_each_once() -> None:
    made = CaptureMaker(CaptureRecipe(noise="wide"), 1)(clean(5), 0)
    for count in (1, 2, 3, 5):
        parts = list(made.parts(count))
        assert [len(part.target) for part in parts] == [len(x) for x in torch.arange(5).tensor_split(count)]
        assert all(part.generator is made.generator for part in parts)
        for of, name in (("", "capture"), ("", "target"), ("conditions", "gain"), ("noise", "read"), ("noise", "row")):
            whole = getattr(getattr(made, of) if of else made, name)
            pieces = [getattr(getattr(part, of) if of else part, name) for part in parts]
            assert torch.equal(torch.cat(pieces), whole)


def sure_and_unsure(count: int) -> tuple[Captures, Captures]:
    sure, unsure = (CaptureMaker(replace(PLAIN, uncertainty=spread), 4)(clean(count), 0) for spread in (0.0, 0.3))
    assert torch.equal(sure.noise.gain, unsure.noise.gain)
    assert torch.equal(sure.conditions.gain, sure.noise.gain)
    return sure, unsure


def test_uncertainty_does_not_change_the_capture() -> None:
    sure, unsure = sure_and_unsure(20)
    assert torch.equal(sure.capture, unsure.capture)
    assert sure.capture.std() > 0


@pytest.mark.usefixtures("no_pixels")
def test_uncertainty_changes_what_is_reported() -> None:
    sure, unsure = sure_and_unsure(700)
    gain = (unsure.conditions.gain / sure.conditions.gain).log() / 0.3
    read = (unsure.conditions.read_variance / sure.conditions.read_variance).log() / 0.6
    for error in (gain, read):
        assert abs(mean_z(error, 0.0)) < BOUND
        assert abs(variance_z(error, 1.0)) < BOUND
    assert abs(covariance_z(gain, read)) < BOUND


# -------------------------------------------------------------------------------------------- pairs and Noise2Noise


def test_pairs_are_taken_as_they_are() -> None:
    batch = pairs(4)
    made = CaptureMaker(CaptureRecipe(supervision="paired", clip=False), 1)(batch, 0)
    assert batch.capture is not None
    assert batch.ratio is not None
    assert torch.equal(made.capture, batch.capture)
    assert torch.equal(made.target, batch.clean)
    assert made.conditions.ratio.tolist() == [100, 300, 100, 300]
    assert made.conditions.gain.tolist() == pytest.approx([0.8] * 4)
    assert made.conditions.read_variance.tolist() == pytest.approx([9.0] * 4)


@pytest.mark.parametrize("name", ["paired-unet-exposure", "pmn-unet-feedforward"])
def test_pairs_are_wanted_and_there_are_none(name: str) -> None:
    with pytest.raises(ValueError, match=r"clean images only: give a data set with pairs .*--capture.supervision"):
        CaptureMaker(PRESETS[name].recipe.capture, 0)(clean(2), 0)


def test_pmn_brightens_a_pair_as_a_brighter_scene_would_have_been() -> None:
    batch = pairs(150, size=16)
    made = CaptureMaker(replace(CAPTURES["pmn"], clip=False), 1)(batch, 0)
    factor = (made.target / batch.clean)[:, 0, 0, 0].double()
    bright = made.target.flatten(1).max(dim=1).values >= 1
    share = factor[~bright].log() / math.log(2)
    assert 0 <= share.min() < 0.05
    assert 0.8 < share.max() <= 1 + 1e-6
    deviation = made.capture.double() - made.target
    ratio = made.conditions.ratio.double()[:, None, None, None]
    variance = 0.8 * made.target * ratio / SATURATION + 9 * (ratio / SATURATION) ** 2
    unit = (deviation / variance.sqrt())[~bright]
    assert abs(mean_z(unit, 0.0)) < BOUND
    assert abs(variance_z(unit, 1.0)) < BOUND
    assert batch.capture is not None
    twin = (batch.capture.double() * factor[:, None, None, None] - made.target) / variance.sqrt()  # merely multiplied
    assert abs(variance_z(twin[~bright], 1.0)) > BOUND


def test_augmentation_takes_made_captures_too() -> None:
    made = CaptureMaker(replace(PLAIN, augment=2.0), 5)(clean(300, 0.2, size=4), 0)
    share = (made.target[:, 0, 0, 0].double() / 0.2).log() / math.log(2)
    assert abs(mean_z(share, 0.5)) < BOUND
    assert abs(variance_z(share, 1 / 12)) < BOUND
    assert abs(mean_z(made.capture - made.target, 0.0)) < BOUND


def test_noise2noise_has_two_captures_of_independent_noise() -> None:
    recipe = replace(PLAIN, supervision="noise2noise", gain_range=(0.1, 30.0), ratio=(100.0, 300.0))
    made = CaptureMaker(recipe, 6)(clean(75, 0.2, size=16), 0)
    scale = moments_scale(made, 0.2)
    first, second = (made.capture - 0.2) / scale, (made.target - 0.2) / scale
    for error in (first, second):
        assert abs(mean_z(error, 0.0)) < BOUND
        assert abs(variance_z(error, 1.0)) < BOUND
    assert abs(covariance_z(first, second)) < BOUND
    assert abs(covariance_z(first, first)) > BOUND  # twin: the target is the capture


def moments_scale(made: Captures, level: float) -> Tensor:
    amplification = made.conditions.ratio.double() / SATURATION
    variance = made.noise.gain * level * amplification + made.noise.read_variance * amplification**2
    return variance.sqrt()[:, None, None, None]


def test_noise2noise_targets_of_the_dark_are_not_clipped() -> None:
    """A clipped target has another mean, and its mean is all that is learned from it."""
    recipe = PRESETS["noise2noise-unet-feedforward"].recipe.capture
    made = CaptureMaker(recipe, 6)(clean(75, 0.002, size=16), 0)
    scale = moments_scale(made, 0.002)
    assert made.target.min() < 0
    assert abs(mean_z((made.target - 0.002) / scale, 0.0)) < BOUND
    assert abs(mean_z((made.target.clamp(0, 1) - 0.002) / scale, 0.0)) > BOUND  # twin: clipped


def test_noise2noise_of_bursts_takes_both_exposures_as_they_are() -> None:
    batch = pairs(2)
    dark = replace(batch, clean=batch.clean - 1)
    made = CaptureMaker(CaptureRecipe(supervision="noise2noise", clip=False), 1)(dark, 0)
    assert batch.capture is not None
    assert torch.equal(made.capture, batch.capture)
    assert torch.equal(made.target, batch.clean - 1)  # a short exposure, too: negative in the dark


# --------------------------------------------------------------------------------------------------------- mistakes


def test_no_such_camera() -> None:
    with pytest.raises(ValueError, match="no camera profile 'Leica'"):
        CaptureMaker(CaptureRecipe(camera="Leica"), 0)


def test_iso_settings_that_a_camera_does_not_have() -> None:
    with pytest.raises(ValueError, match=r"capture\.iso is a number from 1"):
        CaptureMaker(CaptureRecipe(camera="SonyA7S2", iso=(-100.0,)), 0)

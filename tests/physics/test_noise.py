"""Noise of a capture: every component by its moments, its rows and its laws, with twins that must fail."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Literal

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from exposurediffusion.physics import noise as noise_module
from exposurediffusion.physics.cameras.known import calibrated_cameras
from exposurediffusion.physics.cameras.profile import LogLinear
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.physics.noise import (
    ELDNoise,
    NoiseModel,
    PoissonGaussian,
    WideNoise,
    line_offsets,
    noise_level,
    simulate_capture,
    tukey_lambda,
)
from exposurediffusion.physics.parameters import NoiseParameters, select_parameters, tukey_lambda_variance
from exposurediffusion.physics.random import log_uniform
from tests.statistics import BOUND, covariance_z, mean_z, poisson_z, quantile_z, variance_z

RATIO = torch.tensor([100.0])
ONE = torch.ones(1)
SILENT = NoiseParameters(ONE, 0 * ONE, 0 * ONE, quantisation=0.0)
SHAPES = [-0.25, -0.1, 0.0, 0.05, 0.14]


def dn_of(noise: NoiseParameters, level: float = 0.0, planes: int = 4, side: int = 192, seed: int = 5) -> Tensor:
    """A capture of a flat scene, brought back from reference brightness to the DN of the sensor, (planes, h, w)."""
    clean = torch.full((1, planes, side, side), level)
    capture = simulate_capture(clean, RATIO, noise, torch.Generator().manual_seed(seed))
    return capture[0].double() * noise.saturation / float(RATIO)


@pytest.mark.parametrize("gain", [0.1, 3.0, 30.0])
def test_shot_noise_is_poisson_in_electrons(gain: float) -> None:
    level = 0.3
    electrons = dn_of(replace(SILENT, gain=gain * ONE), level) / gain
    expected = level * 15583 / 100 / gain
    np.testing.assert_allclose(electrons, electrons.round(), atol=1e-3)
    assert abs(mean_z(electrons, expected)) < BOUND
    assert abs(variance_z(electrons, expected)) < BOUND
    assert poisson_z(electrons.round(), expected) < BOUND
    doubled = dn_of(replace(SILENT, gain=2 * gain * ONE), level) / gain  # twin: twice the gain
    assert abs(variance_z(doubled, expected)) > 2 * BOUND


def test_gaussian_read_noise() -> None:
    dn = dn_of(replace(SILENT, read=7 * ONE))
    assert abs(mean_z(dn, 0)) < BOUND
    assert abs(variance_z(dn, 49)) < BOUND
    assert stats.kstest(dn.numpy().ravel() / 7, "norm").pvalue > 1e-5
    assert abs(variance_z(dn_of(SILENT), 49)) > 2 * BOUND  # twin: silent
    assert abs(variance_z(dn, 4 * 49)) > 2 * BOUND


@pytest.mark.parametrize("shape", SHAPES)
def test_tukey_lambda_follows_scipy(shape: float, generator: torch.Generator) -> None:
    samples = tukey_lambda(torch.tensor([shape]), (1, 200_000), generator).double().numpy()
    law = stats.tukeylambda(shape)
    for probability in (0.001, 0.02, 0.25, 0.5, 0.9, 0.999):
        assert abs(quantile_z(samples, float(law.ppf(probability)), probability)) < BOUND
    assert tukey_lambda_variance(shape) == pytest.approx(float(law.var()), rel=1e-4)
    assert np.isfinite(samples).all()
    other = stats.tukeylambda(shape + 0.15)  # twin: another shape
    assert abs(quantile_z(samples, float(other.ppf(0.999)), 0.999)) > BOUND


def test_tukey_lambda_read_noise_has_the_variance_that_its_parameters_say() -> None:
    noise = replace(SILENT, read=3 * ONE, tukey_shape=torch.tensor([0.1]))
    assert abs(variance_z(dn_of(noise), float(noise.read_variance))) < BOUND
    heavy = replace(noise, tukey_shape=torch.tensor([-0.1]))
    assert abs(variance_z(dn_of(heavy), float(noise.read_variance))) > 2 * BOUND


@pytest.mark.parametrize("shape", [-0.5, -0.7])
def test_tukey_lambda_without_a_variance_says_so(shape: float) -> None:
    assert tukey_lambda_variance(shape) == float("inf")
    several = tukey_lambda_variance(torch.tensor([0.14, shape, 0.0, 5e-5, -0.4]))
    assert several.tolist()[1] == float("inf")
    for given, found in zip((0.14, 0.0, 5e-5, -0.4), several[[0, 2, 3, 4]].tolist(), strict=True):
        assert found == pytest.approx(float(stats.tukeylambda(given).var()), rel=1e-3)


def test_tukey_shapes_of_a_batch_are_its_own(generator: torch.Generator) -> None:
    shapes = torch.tensor(SHAPES)
    samples = tukey_lambda(shapes, (len(shapes), 2, 150, 150), generator)
    for shape, sample in zip(SHAPES, samples, strict=True):
        assert abs(quantile_z(sample, float(stats.tukeylambda(shape).ppf(0.999)), 0.999)) < BOUND


def test_quantisation_is_uniform_over_one_dn() -> None:
    dn = dn_of(replace(SILENT, quantisation=1.0))
    assert abs(mean_z(dn, 0)) < BOUND
    assert abs(variance_z(dn, 1 / 12)) < BOUND
    assert 0.49 < dn.abs().max() <= 0.5001


def test_row_noise_is_one_offset_per_sensor_row() -> None:
    """R and G1 share a sensor row, G2 and B the other: with nothing else they are equal, and apart from the others."""
    red, green1, blue, green2 = dn_of(replace(SILENT, row=4 * ONE), side=2000)[..., :2]
    for plane in (red, green1, blue, green2):
        assert torch.equal(plane[:, 0], plane[:, 1])
    assert torch.equal(red, green1)
    assert torch.equal(blue, green2)
    assert abs(variance_z(red[:, 0], 16)) < BOUND
    assert abs(covariance_z(red[:, 0], blue[:, 0])) < BOUND
    assert abs(covariance_z(red[:-1, 0], red[1:, 0])) < BOUND
    assert abs(covariance_z(red[:, 0], green1[:, 0])) > 2 * BOUND  # twin: rows that are shared


def test_row_noise_beside_all_the_rest() -> None:
    noise = NoiseParameters(2 * ONE, 3 * ONE, 2 * ONE, torch.tensor([0.1]))
    planes = dn_of(noise, level=0.1, side=400)
    rows = planes.mean(dim=2)  # the rest averages out along a row
    rest = (float(noise.read_variance) - 4 + 2 * 0.1 * 155.83) / 400
    for first, second in combinations(range(4), 2):
        shared = {first, second} in ({0, 1}, {2, 3})
        assert abs(covariance_z(rows[first], rows[second], 4.0 if shared else 0.0)) < BOUND
    for row in rows:
        assert abs(variance_z(row, 4 + rest)) < BOUND


def test_column_noise_is_one_offset_per_sensor_column() -> None:
    """R and G2 share a sensor column, G1 and B the other; what has rows, too, adds up to what the parameters say."""
    noise = replace(SILENT, column=4 * ONE)
    red, green1, blue, green2 = dn_of(noise, side=2000)[:, :2]
    for plane in (red, green1, blue, green2):
        assert torch.equal(plane[0], plane[1])
    assert torch.equal(red, green2)
    assert torch.equal(blue, green1)
    assert float(noise.read_variance) == 16
    assert abs(variance_z(red[0], 16)) < BOUND
    assert abs(covariance_z(red[0], blue[0])) < BOUND
    for both in (3.0, 0.0):
        planes = dn_of(replace(noise, row=both * ONE, read=2 * ONE), side=400)
        assert abs(variance_z(planes[0].mean(dim=0), 16 + 4 / 400)) < BOUND
        assert abs(variance_z(planes[0].mean(dim=1), both**2 + 4 / 400)) < BOUND
    silent = dn_of(replace(SILENT, read=2 * ONE), side=400)[0].mean(dim=0)
    assert abs(variance_z(silent, 16 + 4 / 400)) > 2 * BOUND  # twin: no columns


@pytest.mark.parametrize("of", ["rows", "columns"])
def test_xtrans_lines_follow_the_table(of: Literal["rows", "columns"], generator: torch.Generator) -> None:
    planes = line_offsets((3, 9, 8, 10), torch.ones(3), generator, of)
    for cell in range(4):
        offsets: dict[int, set[float]] = {}
        for plane, i, j in np.ndindex(CFA("XTRANS").table.shape[:3]):
            line = int(CFA("XTRANS").table[plane, i, j][0 if of == "rows" else 1])
            own = planes[1, plane, 2 * cell + i, j::2] if of == "rows" else planes[1, plane, i::2, 2 * cell + j]
            offsets.setdefault(line, set()).update(own.tolist())
        assert [len(offsets[line]) for line in range(6)] == [1] * 6
        assert len(set().union(*offsets.values())) == 6


@pytest.mark.parametrize("size", [(1, 9, 5, 7), (2, 9, 1, 1), (2, 4, 3, 5)])
def test_line_offsets_of_any_size(size: tuple[int, int, int, int], generator: torch.Generator) -> None:
    assert line_offsets(size, torch.ones(size[0]), generator).shape == size
    assert line_offsets(size, torch.ones(size[0]), generator, "columns").shape == size


def test_colour_bias_is_the_mean_of_each_plane() -> None:
    bias = (1.5, -2.0, 0.25, 0.0)
    dn = dn_of(replace(SILENT, read=5 * ONE, colour_bias=torch.tensor([bias])))
    for plane, expected in zip(dn, bias, strict=True):
        assert abs(mean_z(plane, expected)) < BOUND
    assert abs(mean_z(dn[1], 0.0)) > 2 * BOUND  # twin: no bias


def test_all_components_together() -> None:
    noise = NoiseParameters(2 * ONE, 3 * ONE, 1.5 * ONE, torch.tensor([0.1]), colour_bias=torch.full((1, 4), 0.7))
    level = 0.2
    # One pixel of each row only: pixels of a row share its offset and are no independent samples.
    dn = torch.stack([dn_of(noise, level, side=256, seed=seed)[::2, :, seed] for seed in range(24)])
    variance = 2 * level * 155.83 + float(noise.read_variance)
    assert abs(mean_z(dn, level * 155.83 + 0.7)) < BOUND
    assert abs(variance_z(dn, variance)) < BOUND
    assert abs(variance_z(dn, variance + 2 * level * 155.83)) > 2 * BOUND  # twin: twice the gain


def test_nothing_is_clipped_unless_asked(generator: torch.Generator) -> None:
    clean = torch.tensor([0.0, 1.0, 2.5, 0.5]).reshape(1, 4, 1, 1).expand(1, 4, 64, 64)
    noise = replace(SILENT, read=9 * ONE)
    capture = simulate_capture(clean, RATIO, noise, generator)
    assert capture[0, 0].min() < -0.05
    assert capture[0, 2].mean() == pytest.approx(2.5, abs=0.02)
    clipped = simulate_capture(clean, RATIO, noise, generator, clip=True)
    assert (clipped.min(), clipped.max()) == (0.0, 1.0)


def test_parameters_of_a_batch_are_its_own_and_one_seed_gives_one_capture() -> None:
    noise = NoiseParameters(torch.tensor([1.0, 8.0]), torch.tensor([0.0, 5.0]), torch.zeros(2), quantisation=0.0)
    ratio, clean = torch.tensor([10.0, 200.0]), torch.full((2, 4, 128, 128), 0.4)
    first, again = (simulate_capture(clean, ratio, noise, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, again)
    for capture, gain, read, r in zip(first, (1.0, 8.0), (0.0, 5.0), (10.0, 200.0), strict=True):
        white = 15583 / r
        assert abs(mean_z(capture, 0.4)) < BOUND
        assert abs(variance_z(capture, gain * 0.4 / white + (read / white) ** 2)) < BOUND


def test_figures_in_dn_refer_to_the_saturation() -> None:
    """The same sensor with four times the range of DN gives the same image."""
    noise = NoiseParameters(2 * ONE, 3 * ONE, 1 * ONE, colour_bias=torch.ones(1, 4))
    clean = torch.full((1, 4, 32, 32), 0.3)
    small, large = (
        simulate_capture(clean, RATIO, n, torch.Generator().manual_seed(1)) for n in (noise, noise.rescaled(4 * 15583))
    )
    torch.testing.assert_close(small, large)


def test_log_linear_law_has_its_mean_and_spread(generator: torch.Generator) -> None:
    law = LogLinear(slope=0.9, bias=-1.2, sigma=0.3)
    gain = torch.full((100_000,), 5.0)
    logs = law.sample(gain, generator).log().double()
    center = 0.9 * np.log(5.0) - 1.2
    assert abs(mean_z(logs, center)) < BOUND
    assert abs(variance_z(logs, 0.09)) < BOUND
    assert float(law.median(gain)[0]) == pytest.approx(np.exp(center), rel=1e-5)
    assert abs(variance_z(law.median(gain).log().double() + 0.1 * logs, 0.09)) > 2 * BOUND  # twin: no spread


def test_gains_are_log_uniform_in_their_range(generator: torch.Generator) -> None:
    gains = log_uniform(0.1, 30.0, 50_000, generator)
    assert gains.min() >= 0.1
    assert gains.max() <= 30.0
    assert stats.kstest(gains.log().numpy(), stats.uniform(np.log(0.1), np.log(300)).cdf).pvalue > 1e-5


@pytest.mark.parametrize(
    ("model", "tukey", "quantisation", "bias"),
    [
        (PoissonGaussian(), False, 0.0, False),
        (ELDNoise(), True, 1.0, False),
        (ELDNoise(colour_bias=True), True, 1.0, True),
    ],
)
def test_noise_models_draw_what_their_name_says(
    model: NoiseModel, tukey: bool, quantisation: float, bias: bool, generator: torch.Generator
) -> None:
    noise = model.parameters(40, generator)
    assert (noise.tukey_shape is not None, noise.quantisation, noise.colour_bias is not None) == (
        tukey,
        quantisation,
        bias,
    )
    assert bool((noise.row > 0).all()) == tukey
    assert noise.gain.shape == noise.read.shape == noise.row.shape == (40,)
    capture = simulate_capture(torch.rand(40, 4, 4, 4, generator=generator), torch.full((40,), 50.0), noise, generator)
    assert capture.isfinite().all()
    again = model.parameters(40, torch.Generator().manual_seed(20231004))
    assert torch.equal(again.read, noise.read)


def test_draws_come_from_the_calibration_of_one_camera(generator: torch.Generator) -> None:
    camera = calibrated_cameras()["NikonD850"]
    noise = ELDNoise((camera,), gain_range=None, colour_bias=True).parameters(4000, generator)
    assert noise.gain.min() >= camera.gain_iso_100
    assert noise.gain.max() <= camera.gain_iso_6400
    assert noise.tukey_shape is not None
    assert noise.colour_bias is not None
    assert set(noise.tukey_shape.tolist()) == set(torch.tensor(camera.tukey_shapes).tolist())
    assert {tuple(row) for row in noise.colour_bias.tolist()} == {
        tuple(torch.tensor(row).tolist()) for row in camera.colour_bias
    }
    for drawn, law in ((noise.read, camera.tukey_read), (noise.row, camera.row)):
        standard = (drawn.log() - law.slope * noise.gain.log() - law.bias).double() / law.sigma
        assert stats.kstest(standard.numpy(), "norm").pvalue > 1e-5


def test_the_plain_noise_model_cannot_draw() -> None:
    with pytest.raises(TypeError, match="abstract"):
        NoiseModel().parameters(1)  # pyright: ignore[reportAbstractUsage]


def test_every_image_gets_all_parameters_of_its_own_camera(generator: torch.Generator) -> None:
    cameras = tuple(calibrated_cameras()[name] for name in ("SonyA7S2", "CanonEOS70D"))
    settings = (800.0, 1600.0, 6400.0)
    noise = ELDNoise(cameras, iso=settings).parameters(4000, generator)
    assert noise.tukey_shape is not None
    for camera, other in (cameras, cameras[::-1]):
        own = torch.isin(noise.gain, torch.tensor([camera.gain(iso) for iso in settings]))
        assert abs(int(own.sum()) - 2000) < BOUND * np.sqrt(1000)
        assert set(noise.tukey_shape[own].tolist()) == set(torch.tensor(camera.tukey_shapes).tolist())

        def standard(law: LogLinear, drawn: Tensor, own: Tensor = own) -> np.ndarray:
            return ((drawn.log() - law.slope * noise.gain.log() - law.bias).double() / law.sigma)[own].numpy()

        assert stats.kstest(standard(camera.tukey_read, noise.read), "norm").pvalue > 1e-5
        assert stats.kstest(standard(camera.row, noise.row), "norm").pvalue > 1e-5
        assert stats.kstest(standard(other.row, noise.row), "norm").pvalue < 1e-9  # twin: the other camera's


def test_selected_parameters_are_those_of_their_place() -> None:
    first = NoiseParameters(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.1, 0.2, 0.3]), torch.zeros(3))
    second = replace(first, gain=10 * first.gain, quantisation=torch.tensor([4.0, 5.0, 6.0]))
    chosen = select_parameters([first, second], torch.tensor([1, 0, 1]))
    assert chosen.gain.tolist() == [10, 2, 30]
    assert chosen.read.tolist() == first.read.tolist()
    assert isinstance(chosen.quantisation, Tensor)
    assert chosen.quantisation.tolist() == [4, 1, 6]
    assert chosen.tukey_shape is chosen.colour_bias is None
    assert select_parameters([first, first], torch.tensor([1, 0, 1])).quantisation == 1.0
    striped = replace(first, column=torch.tensor([7.0, 8.0, 9.0]))
    columns = select_parameters([first, striped], torch.tensor([1, 0, 1])).column
    assert columns is not None
    assert columns.tolist() == [7, 0, 9]
    assert chosen.column is None
    some = chosen[1:]
    assert isinstance(some.quantisation, Tensor)
    assert (some.gain.tolist(), some.quantisation.tolist(), some.saturation) == ([2, 30], [1, 6], 15583)


def test_images_may_be_rounded_to_bits_of_their_own() -> None:
    noise = NoiseParameters(torch.ones(3), torch.zeros(3), torch.zeros(3), quantisation=torch.tensor([1.0, 4.0, 16.0]))
    clean, ratio = torch.zeros((3, 4, 96, 96)), torch.full((3,), 100.0)
    dn = simulate_capture(clean, ratio, noise, torch.Generator().manual_seed(2)).double() * 155.83
    for image, step, other in zip(dn, (1.0, 4.0, 16.0), (4.0, 16.0, 1.0), strict=True):
        assert abs(variance_z(image, step**2 / 12)) < BOUND
        assert image.abs().max() <= step / 2 + 1e-3
        assert abs(variance_z(image, other**2 / 12)) > 2 * BOUND  # twin: another image's
    assert noise.read_variance.tolist() == pytest.approx([1 / 12, 16 / 12, 256 / 12])
    finer = noise.rescaled(4 * 15583)
    assert isinstance(finer.quantisation, Tensor)
    assert finer.quantisation.tolist() == [4, 16, 64]


# ------------------------------------------------------------------------------------------------- invented cameras


def wide(count: int = 20_000, saturation: float = 15583.0) -> tuple[NoiseParameters, Tensor]:
    """Parameters of a camera of one gain and of invented cameras, and which are invented."""
    camera = replace(calibrated_cameras()["SonyA7S2"], saturation=saturation)
    noise = WideNoise((camera,), iso=(800.0,)).parameters(count, torch.Generator().manual_seed(7))
    return noise, noise.gain != torch.tensor(camera.gain(800.0))


def test_half_of_the_images_are_of_invented_cameras() -> None:
    noise, invented = wide()
    assert abs(int(invented.sum()) - 10_000) < BOUND * np.sqrt(5000)
    law = calibrated_cameras()["SonyA7S2"].tukey_read
    standard = ((noise.read.log() - law.slope * noise.gain.log() - law.bias).double() / law.sigma).numpy()
    assert stats.kstest(standard[~invented], "norm").pvalue > 1e-5
    assert stats.kstest(standard[invented], "norm").pvalue < 1e-9  # twin: the others are of no such camera
    assert isinstance(noise.quantisation, Tensor)
    assert noise.quantisation[~invented].unique().tolist() == [1]


def test_invented_cameras_are_as_wide_as_said() -> None:
    noise, invented = wide()
    assert noise.tukey_shape is not None
    of = {name: values[invented].double() for name, values in vars(noise).items() if isinstance(values, Tensor)}
    deviation = of["read"] * tukey_lambda_variance(of["tukey_shape"]).sqrt()

    def fits(values: Tensor, low: float, high: float) -> bool:
        assert low * (1 - 1e-5) <= values.min()
        assert values.max() <= high * (1 + 1e-5)
        return stats.kstest(values.log().numpy(), stats.uniform(np.log(low), np.log(high / low)).cdf).pvalue > 1e-5

    assert fits(of["gain"], 0.05, 30.0)
    assert fits(of["row"] / deviation, 0.01, 0.3)
    assert not fits((of["gain"] * 0.05).sqrt(), 0.05, 30.0)  # twin: in the lower half of the range
    assert stats.kstest(of["tukey_shape"].numpy(), stats.uniform(-0.25, 0.4).cdf).pvalue > 1e-5
    low, high = (((e * of["gain"]) ** 2 + after**2).sqrt() for e, after in ((0.7, 0.3), (6.0, 6.0)))
    assert (deviation >= low * (1 - 1e-4)).all()
    assert (deviation <= high * (1 + 1e-4)).all()
    assert (deviation / low).min() < 1.3
    assert (deviation / high).max() > 0.8
    steps, counts = of["quantisation"].unique(return_counts=True)
    assert steps.tolist() == [1, 4, 16]  # 14, 12 and 10 bits
    shares = np.diff(np.log([1, 3, 5, 6])) / np.log(6)
    assert stats.chisquare(counts.numpy(), shares * int(counts.sum())).pvalue > 1e-5


def test_invented_cameras_do_not_know_their_black() -> None:
    noise, invented = wide()
    assert noise.colour_bias is not None
    assert noise.black is not None
    assert noise.tukey_shape is not None
    deviation = noise.read * tukey_lambda_variance(noise.tukey_shape).float().sqrt()
    bias = (noise.colour_bias / deviation[:, None])[invented].double()
    for first, second in combinations(range(4), 2):
        assert abs(covariance_z(bias[:, first], bias[:, second], 0.01)) < BOUND  # of all planes,
        assert abs(covariance_z(bias[:, first], bias[:, second])) > BOUND
    for plane in bias.T:
        assert abs(mean_z(plane, 0.0)) < BOUND
        assert abs(variance_z(plane, 0.01 * 1.25)) < BOUND  # and of each
        assert abs(variance_z(plane, 0.01)) > BOUND
    torch.testing.assert_close(noise.black[invented], 0.11 * deviation[invented])


def test_invented_cameras_are_as_noisy_beside_a_camera_of_other_bits() -> None:
    """Figures in DN refer to one range of values, whatever the camera beside them has."""
    noise, coarse = wide()[0], wide(saturation=15583 / 4)[0]
    invented = wide()[1] & wide(saturation=15583 / 4)[1]
    assert coarse.saturation == 15583 / 4
    for name in ("gain", "read", "row", "quantisation", "colour_bias", "black"):
        first, second = (getattr(n, name)[invented] / n.saturation for n in (noise, coarse))
        torch.testing.assert_close(first, second)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_ends_of_the_uniform_generator_give_no_outlier(shape: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A uniform draw of exactly 0 comes once in 2^24; it stands for the last stretch of the tail, not for its end."""
    monkeypatch.setattr(noise_module, "fractions", lambda *_: torch.tensor([[0.0, 2.0**24 - 1]]))
    low, high = tukey_lambda(torch.tensor([shape]), (1, 2))[0].tolist()
    assert stats.tukeylambda(shape).ppf(2**-26) <= low <= stats.tukeylambda(shape).ppf(2**-24)
    assert stats.tukeylambda(shape).ppf(1 - 2**-23) <= high <= stats.tukeylambda(shape).ppf(1 - 2**-26)


@pytest.mark.parametrize("planes", [4, 9])
@pytest.mark.parametrize("ratio", [3.0, 100.0])
def test_the_noise_level_is_the_deviation_of_the_noise(planes: int, ratio: float) -> None:
    noise = NoiseParameters(2 * ONE, 3 * ONE, ONE)
    clean = torch.rand((1, planes, 1, 1), generator=torch.Generator().manual_seed(1)).expand(1, planes, 192, 192) * 0.5
    capture = simulate_capture(clean.contiguous(), ratio * ONE, noise, torch.Generator().manual_seed(2))
    said = float(noise_level(capture, ratio * ONE, noise))
    error = (capture - clean).double() / said
    assert abs(variance_z(error, 1.0)) < BOUND
    louder = float(noise_level(capture, ratio * ONE, replace(noise, gain=4 * ONE)))  # twin: twice the gain
    assert abs(variance_z(error * said / louder, 1.0)) > BOUND


def test_noise_around_black_and_highlights_do_not_count_as_light() -> None:
    read = NoiseParameters(2 * ONE, 5 * ONE, 0 * ONE, quantisation=0.0)
    dark = simulate_capture(torch.zeros(1, 4, 192, 192), RATIO, read, torch.Generator().manual_seed(3))
    assert float(noise_level(dark, RATIO, read)) == pytest.approx(5 * 100 / 15583, rel=0.02)
    white, lamp = torch.ones(1, 4, 8, 8), torch.full((1, 4, 8, 8), 40.0)
    assert torch.equal(noise_level(white, RATIO, read), noise_level(lamp, RATIO, read))


def test_each_image_has_its_noise_level() -> None:
    first, second = calibrated_cameras()["SonyA7S2"].at_iso(800), calibrated_cameras()["NikonD850"].at_iso(3200)
    images = torch.rand((2, 4, 8, 8), generator=torch.Generator().manual_seed(4))
    assert first.tukey_shape is not None
    assert second.tukey_shape is not None
    joint = NoiseParameters(
        torch.cat([first.gain, second.gain]),
        torch.cat([first.read, second.read]),
        torch.cat([first.row, second.row]),
        torch.cat([first.tukey_shape, second.tukey_shape]),
    )
    both = noise_level(images, torch.tensor([100.0, 30.0]), joint)
    single = [noise_level(images[:1], 100 * ONE, first), noise_level(images[1:], 30 * ONE, second)]
    torch.testing.assert_close(both, torch.cat(single))

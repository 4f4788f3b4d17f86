"""Simulated raw photographs: their moments are those of the parameters that they are said to have."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from exposurediffusion.physics.cameras.known import calibrated_cameras
from exposurediffusion.physics.cameras.profile import CameraProfile
from exposurediffusion.physics.mosaic import CFA, packed_shape
from exposurediffusion.physics.parameters import NoiseParameters
from exposurediffusion.physics.random import seed_of
from exposurediffusion.physics.sensor import RawFrame
from exposurediffusion.simulation.capture import (
    BLACK,
    WHITE,
    cut_scene,
    draw_noise,
    draw_shading,
    simulate_long,
    simulate_short,
)
from exposurediffusion.simulation.light import Panorama, Photograph
from exposurediffusion.simulation.scenes import known_noise, sid_time
from tests.statistics import BOUND, covariance_z, mean_z, variance_z

RGGB = CFA("RGGB")
NEUTRAL = (0.5, 1.0, 0.6)
SONY = calibrated_cameras()["SonyA7S2"]
SATURATION = WHITE - BLACK


def flat(level: float, planes: int = 4, side: int = 128) -> Tensor:
    return torch.full((planes, side, side), level)


def quiet(gain: float, read: float, **others: Tensor) -> NoiseParameters:
    """Shot and Gaussian read noise, DN."""
    return replace(NoiseParameters.gaussian(gain, read), **others)


def short(
    light: Tensor, ratio: float = 100.0, iso: float = 800.0, noise: NoiseParameters | None = None, **options: object
) -> tuple[RawFrame, NoiseParameters]:
    arguments = {"cfa": RGGB, "camera": SONY, "neutral": NEUTRAL, "generator": torch.Generator().manual_seed(6)}
    return simulate_short(light, ratio=ratio, iso=iso, noise=noise, **{**arguments, **options})  # type: ignore[arg-type]


def dn(frame: RawFrame) -> np.ndarray:
    """The planes in DN above black, float64."""
    return frame.planes.double().numpy() * SATURATION


@pytest.mark.parametrize(("level", "ratio"), [(0.05, 100.0), (0.6, 250.0), (0.0, 300.0)])
def test_short_times_ratio_is_the_long_exposure_on_average(level: float, ratio: float) -> None:
    frame, _ = short(flat(level), ratio, noise=quiet(0.8, 4.0))
    long = simulate_long(flat(level), RGGB, SONY, NEUTRAL)
    assert abs(float(long.planes.mean()) - level) < 0.51 / SATURATION
    assert abs(mean_z(dn(frame) * ratio / SATURATION, level)) < BOUND
    assert abs(mean_z(dn(frame) * ratio / SATURATION, level + 0.02)) > 2 * BOUND  # twin: brighter


@pytest.mark.parametrize(
    ("gain", "read", "level"), [(0.1, 0.8, 0.0), (0.1, 0.8, 0.2), (2.0, 5.0, 0.5), (8.0, 2.0, 1.5)]
)
def test_variance_is_that_of_the_parameters_rounding_included(gain: float, read: float, level: float) -> None:
    ratio = 100.0
    frame, noise = short(flat(level), ratio, noise=quiet(gain, read))
    assert noise.saturation == SATURATION
    assert noise.quantisation == 1.0
    expected = gain * level * SATURATION / ratio + read**2 + 1 / 12
    assert expected == pytest.approx(gain * level * SATURATION / ratio + float(noise.read_variance[0]), rel=1e-5)
    assert abs(variance_z(dn(frame), expected)) < BOUND
    assert abs(variance_z(dn(short(flat(level), ratio, noise=quiet(gain * 1.3, read * 1.3))[0]), expected)) > 2 * BOUND
    if read < 1 and level == 0:
        assert abs(variance_z(dn(frame), read**2)) > 2 * BOUND  # twin: rounding forgotten


def test_frames_are_whole_numbers_of_fourteen_bits(generator: torch.Generator) -> None:
    light = 2 * torch.rand((4, 40, 30), generator=generator)
    for frame in (simulate_long(light, RGGB, SONY, NEUTRAL), short(light)[0]):
        assert frame.mosaic.dtype == np.uint16
        assert frame.shape == (80, 60)
        assert frame.mosaic.max() <= WHITE
        assert (frame.sensor.white_level, set(frame.sensor.black_level)) == (WHITE, {BLACK})


def test_long_exposure_is_the_light_to_half_a_number_and_clips_at_white(generator: torch.Generator) -> None:
    light = 2 * torch.rand((4, 40, 30), generator=generator)
    planes = simulate_long(light, RGGB, SONY, NEUTRAL).planes
    assert (planes - light.clamp(max=1)).abs().max() < 0.51 / SATURATION
    assert torch.equal(planes == 1, light > 1 - 0.5 / SATURATION)


def test_short_exposure_is_clipped_at_white_but_not_at_black() -> None:
    dark, _ = short(flat(0.0), noise=quiet(1.0, 20.0))
    assert dark.mosaic.min() < BLACK - 60
    assert abs(mean_z(dark.mosaic, BLACK)) < BOUND
    assert abs(mean_z(np.maximum(dark.mosaic, BLACK), BLACK)) > 2 * BOUND  # twin: clipped
    bright, _ = short(flat(300.0), 100.0, noise=quiet(1.0, 20.0))
    assert (bright.mosaic == WHITE).all()
    very_dark, _ = short(flat(0.0), noise=quiet(1.0, 2000.0))
    assert very_dark.mosaic.min() == 0  # it does not wrap around
    assert very_dark.mosaic.max() < 3 * WHITE


def test_highlights_of_the_long_exposure_are_in_the_short_one() -> None:
    frame, _ = short(flat(4.0), 100.0, noise=quiet(1.0, 2.0))
    assert abs(mean_z(dn(frame), 0.04 * SATURATION)) < BOUND


@pytest.mark.parametrize(("ratio", "iso"), [(100.0, 800.0), (250.0, 1600.0), (300.0, 3200.0)])
def test_metadata_tell_the_ratio(ratio: float, iso: float) -> None:
    metadata = short(flat(0.1, side=8), ratio, iso)[0].metadata
    long = simulate_long(flat(0.1, side=8), RGGB, SONY, NEUTRAL).metadata
    assert (metadata.iso, long.iso) == (iso, 100)
    assert metadata.shutter is not None
    assert long.shutter is not None
    assert 100 * long.shutter / (iso * metadata.shutter) == pytest.approx(ratio)
    for each in (metadata, long):
        assert each.as_shot_neutral == NEUTRAL
        assert each.camera.endswith(SONY.exif_model.split(" ", 1)[1])
        assert each.colour_matrix == calibrated_cameras()["SonyA7S2"].colour_matrix


@pytest.mark.parametrize("name", calibrated_cameras())
def test_colour_bias_is_one_of_the_calibration_and_shifts_the_mean(name: str) -> None:
    camera = calibrated_cameras()[name]
    frame, noise = short(flat(0.0), camera=camera)
    assert noise.colour_bias is not None
    bias = noise.colour_bias[0]
    assert any(torch.allclose(bias, torch.tensor(row)) for row in camera.colour_bias)
    rows = dn(frame).mean(-1)  # a row shares its offset; rows are independent
    for plane in range(4):
        assert abs(mean_z(rows[plane], float(bias[plane]))) < BOUND


def test_given_colour_bias_is_added_in_numbers() -> None:
    bias = torch.tensor([[30.0, -20.0, 10.0, 0.0]])
    frame, noise = short(flat(0.1), noise=quiet(1.0, 5.0, colour_bias=bias))
    for plane, expected in zip(dn(frame), bias[0].tolist(), strict=True):
        assert abs(mean_z(plane, 0.001 * SATURATION + expected)) < BOUND
        if expected:
            assert abs(mean_z(plane, 0.001 * SATURATION)) > 2 * BOUND
    assert noise.colour_bias is not None
    assert torch.equal(noise.colour_bias, bias)


def test_noise_is_drawn_from_the_laws_at_the_iso() -> None:
    _, noise = short(flat(0.1, side=8), iso=1600)
    assert float(noise.gain[0]) == pytest.approx(SONY.gain(1600))
    assert noise.tukey_shape is not None
    assert float(noise.tukey_shape[0]) in torch.tensor(SONY.tukey_shapes).tolist()
    assert float(noise.row[0]) > 0


def test_rows_of_the_sensor_share_their_noise() -> None:
    row = torch.tensor([6.0])
    frame, noise = short(flat(0.0), noise=quiet(1.0, 1.0, row=row))
    red, green1, blue, green2 = dn(frame)
    assert abs(covariance_z(red.mean(1), green1.mean(1), 36)) < BOUND
    assert abs(covariance_z(blue.mean(1), green2.mean(1), 36)) < BOUND
    assert abs(covariance_z(red.mean(1), blue.mean(1), 0)) < BOUND
    assert float(noise.read_variance[0]) == pytest.approx(1 + 36 + 1 / 12)


@pytest.mark.parametrize("cfa", [CFA("GRBG"), CFA("XTRANS")], ids=lambda c: c.name)
def test_other_arrays(cfa: CFA) -> None:
    frame, noise = short(flat(0.3, cfa.planes, 24), 50.0, cfa=cfa)
    assert frame.sensor.cfa == cfa
    assert frame.planes.shape == (cfa.planes, 24, 24)
    assert (noise.colour_bias is not None) == cfa.is_bayer  # calibrated for Bayer planes only
    assert float(frame.planes.mean()) * 50 == pytest.approx(0.3, rel=0.2)


@pytest.mark.parametrize("name", ["RGGB", "GRBG", "GBRG", "BGGR"])
def test_a_frame_has_the_shape_wanted(name: str) -> None:
    cfa = CFA(name)
    light = torch.full((4, *packed_shape((48, 48), cfa)), 0.1)
    assert short(light, cfa=cfa, shape=(48, 48))[0].shape == (48, 48)
    assert simulate_long(light, cfa, SONY, NEUTRAL, (47, 48)).shape == (47, 48)


def test_camera_without_calibrated_bias_has_none() -> None:
    plain: CameraProfile = replace(SONY, colour_bias=())
    assert short(flat(0.1, side=8), camera=plain)[1].colour_bias is None


def test_one_seed_one_photograph() -> None:
    first, again, other = (
        short(flat(0.2, side=16), generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first[0].mosaic, again[0].mosaic)
    assert torch.equal(first[1].read, again[1].read)
    assert (first[0].mosaic != other[0].mosaic).any()


def test_noise_given_is_the_noise_that_would_be_drawn() -> None:
    noise = draw_noise(SONY, 1600, RGGB, torch.Generator().manual_seed(1))
    assert (noise.saturation, noise.quantisation) == (SATURATION, 1.0)
    frame, given = short(flat(0.1), noise=noise)
    assert torch.equal(given.read, noise.read)
    assert frame.metadata.iso == 800


def test_a_profile_of_another_bit_depth_is_scaled() -> None:
    twelve = replace(SONY, saturation=SONY.saturation / 4)
    generators = [torch.Generator().manual_seed(1) for _ in range(2)]
    plain, scaled = (draw_noise(c, 800, RGGB, g) for c, g in zip((SONY, twelve), generators, strict=True))
    for name in ("gain", "read", "row", "colour_bias"):
        torch.testing.assert_close(getattr(scaled, name), 4 * getattr(plain, name))
    assert (plain.quantisation, scaled.quantisation) == (1.0, 4.0)


def test_a_camera_of_twelve_bits_has_their_steps() -> None:
    twelve = replace(SONY, saturation=SONY.saturation / 4)
    frame, noise = short(flat(0.2), camera=twelve)
    assert noise.quantisation == 4.0
    assert not (frame.mosaic % 4).any()
    steady = replace(quiet(1.0, 5.0), quantisation=4.0)  # of 14 bits, in steps
    values = dn(short(flat(0.0), noise=steady)[0])
    assert abs(variance_z(values, 25 + 16 / 12)) < BOUND
    assert abs(variance_z(values, 25 + 1 / 12)) > BOUND  # twin: whole DN
    fine = replace(steady, quantisation=0.25)
    assert short(flat(0.0), noise=fine)[1].quantisation == 1.0


def test_shading_is_added_in_numbers() -> None:
    shading = torch.zeros((4, 128, 128))
    shading[:, :, 64:] = 25.0
    planes = dn(short(flat(0.1), noise=quiet(1.0, 5.0), shading=shading)[0])
    assert abs(mean_z(planes[..., :64], 0.001 * SATURATION)) < BOUND
    assert abs(mean_z(planes[..., 64:], 0.001 * SATURATION + 25)) < BOUND
    assert abs(mean_z(planes[..., 64:], 0.001 * SATURATION)) > 2 * BOUND  # twin: no shading


@pytest.mark.parametrize("cfa", [RGGB, CFA("XTRANS")], ids=lambda c: c.name)
def test_shading_has_its_amplitude(cfa: CFA, generator: torch.Generator) -> None:
    dark = draw_shading(3.0, cfa, 192, generator)
    slope, offset = dark.slope, dark.offset
    torch.testing.assert_close(dark.map(800), 800 * slope + offset)
    assert slope.shape == offset.shape == (cfa.planes, 192 // cfa.stride, 192 // cfa.stride)
    assert float((1600 * slope).std()) == pytest.approx(2.4, rel=1e-3)
    assert float(offset.std()) == pytest.approx(1.8, rel=1e-3)
    assert not draw_shading(0.0, cfa, 192, generator).map(1600).any()


@pytest.mark.parametrize("ratio", [1, 1.5, 7, 10, 33.3, 100, 128, 150, 200, 250, 299, 300])
def test_name_tells_the_ratio_by_the_rule_of_sid(ratio: float) -> None:
    assert min(10.0 / float(sid_time(ratio)), 300) == pytest.approx(ratio, rel=1e-6)


def test_usual_ratios_have_the_names_of_sid() -> None:
    assert [sid_time(ratio) for ratio in (100, 250, 300)] == ["0.1", "0.04", "0.033"]


def test_scene_of_a_photograph_is_most_of_it_averaged(generator: torch.Generator) -> None:
    ramp = torch.linspace(0, 1, 500).expand(3, 330, 500).half()
    for _ in range(20):
        scene = cut_scene(Photograph(ramp), 100, generator)
        assert scene.shape == (3, 100, 100)
        step = float((scene[0, 0, -1] - scene[0, 0, 0]) / 99 * 499)  # pixels of the photograph to one of the scene
        assert step == pytest.approx(round(step), abs=0.05)
        assert round(step) in (2, 3)


def test_scene_of_a_panorama_has_its_density(generator: torch.Generator) -> None:
    panorama = Panorama(torch.rand((3, 128, 256), generator=generator).half())
    assert cut_scene(panorama, 164, generator).shape == (3, 164, 164)
    with pytest.raises(ValueError, match="256 pixels wide gives scenes of at most 164 pixels, not 166"):
        cut_scene(panorama, 166, generator)


def test_too_small_a_photograph_is_refused(generator: torch.Generator) -> None:
    with pytest.raises(ValueError, match="60x50 pixels"):
        cut_scene(Photograph(torch.zeros((3, 50, 60)).half()), 52, generator)


def test_seeds_depend_on_every_part() -> None:
    seeds = {seed_of(*parts) for parts in ((0, 1), (1, 0), (0,), (0, "1", ""), (0, "a/b"), (0, "a", "c"))}
    assert len(seeds) == 6
    assert seed_of(0, "a") == seed_of("0", "a")
    torch.Generator().manual_seed(max(seeds))


def test_known_noise_needs_a_manifest(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file; only data sets of `expose simulate`"):
        known_noise(tmp_path)

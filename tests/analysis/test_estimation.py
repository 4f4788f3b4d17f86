"""Noise estimated from a single frame: simulated frames of known noise, mutant twins, and real frames."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from exposurediffusion.analysis import noise_curve
from exposurediffusion.analysis.estimation import FULL_WELL, black_offset, estimate_noise
from exposurediffusion.analysis.sources import noise_of
from exposurediffusion.physics.cameras.known import load_profile
from exposurediffusion.physics.mosaic import CFA, mosaic_from_rgb
from exposurediffusion.physics.sensor import SATURATION, MaskedArea, Metadata, RawFrame, Sensor

REAL = Path(__file__).parents[3] / "shared" / "data" / "real_raw"
BLACK = 512.0
X_TRANS = CFA("XTRANS", (1, 4))


def _scene(textured: bool, size: int, stride: int = 2) -> torch.Tensor:
    """A gradient in colour; half of it, if wanted, with texture of 20 % contrast as fine as planes resolve."""
    y, x = torch.meshgrid(torch.linspace(0, 1, size), torch.linspace(0, 1, size), indexing="ij")
    grey = 0.05 + 0.5 * x + 0.3 * y
    if textured:
        grain = torch.randn(
            1, 1, 2 * size // (3 * stride), 2 * size // (3 * stride), generator=torch.Generator().manual_seed(5)
        )
        smooth = torch.nn.functional.interpolate(grain, (size, size), mode="bicubic")[0, 0]
        grey = (grey * (1 + 0.2 * smooth * (y > 0.5))).clamp(0, 1)
    return torch.stack([0.6 * grey, grey, 0.4 * grey])


def _frame(
    gain: float, read: float, exposure: float = 1.0, cfa: CFA | None = None, textured: bool = False, size: int = 384,
    hot: float = 0.0, row: float = 0.0, seed: int = 0,
) -> tuple[RawFrame, float]:  # fmt: skip
    """A 14-bit integer frame of known noise, and its mean signal in DN."""
    generator = torch.Generator().manual_seed(seed)
    sensor = Sensor.uniform(cfa or CFA("RGGB"), BLACK, BLACK + SATURATION)
    clean = mosaic_from_rgb(_scene(textured, size, sensor.cfa.stride), sensor.cfa).double() * SATURATION * exposure
    signal = torch.poisson(clean / gain, generator=generator) * gain
    signal += read * torch.randn(clean.shape, generator=generator) + row * torch.randn(size, 1, generator=generator)
    mask = torch.rand(clean.shape, generator=generator) < hot
    signal[mask] = SATURATION * torch.rand(int(mask.sum()), generator=generator).double()
    digital = sensor.digitise((signal / SATURATION).float()).round().clip(0, sensor.white_level)
    return RawFrame(digital.astype(np.uint16), sensor), float(clean.mean())


def _total(gain: float, read: float, mean: float) -> float:
    return (gain * mean + read**2) ** 0.5


def _check(frame: RawFrame, mean: float, gain: float, read: float) -> None:
    """Gain within 15 % where shot noise is a good part of the noise; the total within 8 % always."""
    found = estimate_noise(frame)
    assert found.gain.shape == found.read.shape == found.row.shape == (1,)
    assert found.tukey_shape is None
    assert (found.quantisation, found.saturation) == (0, frame.sensor.saturation)
    truth = _total(gain, (read**2 + 1 / 12) ** 0.5, mean)
    assert _total(float(found.gain), float(found.read), mean) == pytest.approx(truth, rel=0.08)
    if gain * mean > 0.5 * truth**2:
        assert float(found.gain) == pytest.approx(gain, rel=0.15)


@pytest.mark.parametrize(("gain", "read"), [(0.2, 1.0), (0.2, 4.0), (1.0, 3.0), (2.0, 10.0), (6.0, 30.0), (20.0, 30.0)])
@pytest.mark.parametrize("exposure", [1.0, 0.05, 0.01, 0.001])
@pytest.mark.parametrize("cfa", [CFA("RGGB"), CFA("GBRG"), X_TRANS], ids=["RGGB", "GBRG", "XTRANS"])
def test_smooth_scene(gain: float, read: float, exposure: float, cfa: CFA) -> None:
    frame, mean = _frame(gain, read, exposure, cfa)
    _check(frame, mean, gain, read)


@pytest.mark.parametrize(("gain", "read"), [(0.5, 2.0), (4.0, 10.0), (20.0, 20.0)])
@pytest.mark.parametrize("exposure", [0.5, 0.02])
@pytest.mark.parametrize("cfa", [CFA("RGGB"), X_TRANS], ids=["RGGB", "XTRANS"])
def test_textured_scene_with_hot_pixels_and_row_noise(gain: float, read: float, exposure: float, cfa: CFA) -> None:
    frame, mean = _frame(gain, read, exposure, cfa, textured=True, hot=0.001, row=read / 3)
    _check(frame, mean, gain, read)


@pytest.mark.parametrize("size", [64, 65, 100])
def test_small_frames_get_the_total_right(size: int) -> None:
    frame, mean = _frame(2.0, 8.0, 0.05, size=size)
    found = estimate_noise(frame)
    assert _total(float(found.gain), float(found.read), mean) == pytest.approx(_total(2.0, 8.0, mean), rel=0.15)


def test_twin_of_double_gain_or_read_noise_is_separated() -> None:
    def found(gain: float, read: float, exposure: float) -> tuple[float, float]:
        parameters = estimate_noise(_frame(gain, read, exposure)[0])
        return float(parameters.gain), float(parameters.read)

    assert found(4.0, 5.0, 0.5)[0] / found(2.0, 5.0, 0.5)[0] == pytest.approx(2, rel=0.15)
    assert found(1.0, 20.0, 0.001)[1] / found(1.0, 10.0, 0.001)[1] == pytest.approx(2, rel=0.1)


def test_units_scale_with_the_data() -> None:
    frame, _ = _frame(2.0, 8.0, 0.05)
    values = frame.mosaic.astype(np.float32)
    one = estimate_noise(replace(frame, mosaic=values))
    two = estimate_noise(
        RawFrame(2 * values, Sensor.uniform(frame.sensor.cfa, 2 * BLACK, 2 * frame.sensor.white_level))
    )
    assert float(two.gain / one.gain) == pytest.approx(2, rel=0.01)
    assert float(two.read / one.read) == pytest.approx(2, rel=0.01)


@pytest.mark.parametrize("value", [0, 512, 700, 16095])
def test_constant_frame_gets_the_safe_minimum_and_says_so(value: int) -> None:
    sensor = Sensor.uniform(CFA("RGGB"), BLACK, BLACK + SATURATION)
    found = estimate_noise(RawFrame(np.full((128, 128), value, np.uint16), sensor))
    assert float(found.gain) == pytest.approx(SATURATION / FULL_WELL[1])
    assert float(found.read) == pytest.approx(12**-0.5)
    assert "no noise found" in found.source


def test_frame_smaller_than_a_patch_is_answered() -> None:
    found = estimate_noise(RawFrame(np.full((8, 8), 600, np.uint16), Sensor.uniform(CFA("RGGB"), BLACK, 16095)))
    assert "no noise found" in found.source


def test_noise_whose_tails_reach_zero_is_measured_and_twin_that_leaves_out_any_zero(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frame, mean = _frame(28.0, 185.0, 0.0005)  # black 512: one of 350 sites is 0
    found = estimate_noise(frame)
    assert _total(float(found.gain), float(found.read), mean) == pytest.approx(_total(28.0, 185.0, mean), rel=0.05)
    monkeypatch.setattr(noise_curve, "_STRAY", 0)
    assert float(estimate_noise(frame).read) < 1


def test_eight_bit_frame() -> None:
    generator = torch.Generator().manual_seed(0)
    clean = mosaic_from_rgb(_scene(False, 384), CFA("GRBG")) * 255
    noisy = torch.poisson(clean / 0.1, generator=generator) * 0.1 + 0.8 * torch.randn(clean.shape, generator=generator)
    frame = RawFrame(noisy.round().clamp(0, 255).to(torch.uint8).numpy(), Sensor.uniform(CFA("GRBG"), 0, 255))
    found = estimate_noise(frame)
    assert float(found.gain) == pytest.approx(0.1, rel=0.15)
    assert float(found.read) >= 12**-0.5


def test_large_frame_is_sampled_evenly() -> None:
    frame, mean = _frame(2.0, 8.0, 0.05, size=384)
    large = replace(frame, mosaic=np.tile(frame.mosaic, (6, 5)))
    _check(large, mean, 2.0, 8.0)
    shifted = replace(large, mosaic=large.mosaic[:, 1:], sensor=Sensor.uniform(CFA("GRBG"), BLACK, BLACK + SATURATION))
    _check(shifted, mean, 2.0, 8.0)


def _masked(offset: float, read: float, row: float, seed: int = 0, shape: tuple[int, int] = (400, 60)) -> MaskedArea:
    draw = np.random.default_rng(seed)
    values = draw.normal(offset, read, shape) + draw.normal(0, row, (shape[0], 1))
    values[draw.random(shape) < 0.001] = 3000
    return MaskedArea(values.round(), 0, -shape[1])


def test_masked_sites_give_offset_row_and_read_noise() -> None:
    frame, _ = _frame(2.0, 8.0, 0.0005)
    frame = replace(frame, optical_black=(_masked(-7.0, 8.0, 3.0), _masked(-7.0, 8.0, 3.0, 1)))
    found = estimate_noise(frame)
    assert float(found.row) == pytest.approx(3.0, rel=0.15)
    assert float(found.read) == pytest.approx(8.0, rel=0.05)
    assert "masked sites" in found.source
    assert "too dark to show its gain" in found.source
    assert "too dark" not in estimate_noise(_frame(2.0, 8.0)[0]).source
    quiet = replace(frame, optical_black=(_masked(0.0, 8.0, 0.0),))
    assert float(estimate_noise(quiet).row) == 0


def test_masked_sites_noisier_than_the_picture_are_not_believed() -> None:
    frame, _ = _frame(2.0, 8.0, 0.05)
    found = estimate_noise(replace(frame, optical_black=(_masked(0.0, 16.0, 0.0),)))
    assert "masked" not in found.source
    assert float(found.read) == pytest.approx(8.0, rel=0.15)


def test_lookup_order() -> None:
    frame, _ = _frame(2.0, 8.0, 0.05)
    assert noise_of(frame).source.startswith("estimated")
    profiled = replace(frame, metadata=Metadata(noise_profile=(4e-4, 1e-6, 2e-4, 1e-6, 4e-4, 1e-6)))
    found = noise_of(profiled)
    assert "NoiseProfile" in found.source
    assert float(found.gain) == pytest.approx(3e-4 * SATURATION)
    assert float(found.read) == pytest.approx(1e-3 * SATURATION)
    sony = Metadata(make="SONY", model="ILCE-7SM2", iso=1600, noise_profile=(4e-4, 1e-6))
    twelve = Sensor.uniform(CFA("RGGB"), 128, 128 + SATURATION / 4)
    found = noise_of(RawFrame(frame.mosaic, twelve, sony))
    expected = load_profile("SonyA7S2").at_iso(1600)
    assert "SonyA7S2" in found.source
    assert float(found.gain) == pytest.approx(float(expected.gain) / 4)
    assert found.saturation == twelve.saturation
    canon = load_profile("CanonEOS70D")
    assert "CanonEOS70D" in noise_of(replace(frame, metadata=sony), canon).source
    assert "NoiseProfile" in noise_of(replace(frame, metadata=replace(sony, iso=None))).source


def _photograph(size: int = 512) -> torch.Tensor:
    """Green light of a scene without a flat place: octaves of texture over a wide range of light."""
    generator = torch.Generator().manual_seed(3)
    log_light = torch.zeros(size, size)
    for octave in range(2, 9):
        grain = torch.randn(1, 1, 2**octave, 2**octave, generator=generator)
        log_light += 0.8**octave * 0.8 * torch.nn.functional.interpolate(grain, (size, size), mode="bicubic")[0, 0]
    return (0.002 * log_light.exp()).clamp(max=0.5)


def _gain_of_differences(frame: RawFrame) -> float:
    """Gain by the mutant: second differences of the greens, with nothing done about texture; least squares."""
    signal = frame.mosaic[::2, 1::2].astype(float) - BLACK
    residual = (2 * signal[:, 1:-1] - signal[:, 2:] - signal[:, :-2]) ** 2 / 6
    return float(np.polyfit(signal[:, 1:-1].ravel(), residual.ravel(), 1)[0])


def test_textured_all_over_and_twin_that_takes_texture_for_noise() -> None:
    green = _photograph() * SATURATION
    generator = torch.Generator().manual_seed(1)
    sensor = Sensor.uniform(CFA("RGGB"), BLACK, BLACK + SATURATION)
    noisy = torch.poisson(green / 2, generator=generator) * 2 + 6 * torch.randn(green.shape, generator=generator)
    frame = RawFrame((noisy + BLACK).round().numpy().astype(np.uint16), sensor)
    assert float(estimate_noise(frame).gain) == pytest.approx(2, rel=0.15)
    assert float(estimate_noise(frame).read) == pytest.approx(6, rel=0.25)
    assert _gain_of_differences(frame) > 2 * 1.15


@pytest.mark.parametrize(("factor", "word"), [(100.0, "too large"), (0.01, "too small"), (1.5, None), (0.7, None)])
def test_a_source_that_the_frame_contradicts_is_passed_over(factor: float, word: str | None) -> None:
    frame, _ = _frame(2.0, 8.0, 0.05)
    pair = (factor * 2 / SATURATION, factor * 64 / SATURATION**2)
    found = noise_of(replace(frame, metadata=Metadata(noise_profile=pair)))
    if word is None:
        assert found.source == "the file's NoiseProfile"
    else:
        assert word in found.source
        assert found.source.startswith("estimated")
        assert float(found.gain) == pytest.approx(2, rel=0.15)


def test_texture_does_not_overrule_a_true_profile() -> None:
    sensor = Sensor.uniform(CFA("RGGB"), BLACK, BLACK + SATURATION)
    noise = load_profile("SonyA7S2").at_iso(100)
    signal = _photograph() * 30 * SATURATION
    signal += (float(noise.gain) * signal).sqrt() * torch.randn(
        signal.shape, generator=torch.Generator().manual_seed(0)
    )
    mosaic = (signal + BLACK).round().clamp(0, sensor.white_level).numpy().astype(np.uint16)
    frame = RawFrame(mosaic, sensor, Metadata(make="SONY", model="ILCE-7SM2", iso=100))
    assert noise_of(frame).source == "profile SonyA7S2 at ISO 100"


def test_an_iso_outside_the_calibrated_ones_is_said() -> None:
    sensor = Sensor.uniform(CFA("RGGB"), BLACK, BLACK + SATURATION)
    black = np.full((64, 64), 0, np.uint16)  # clipped: says nothing against any profile
    sources = {iso: noise_of(RawFrame(black, sensor, Metadata(model="ILCE-7SM2", iso=iso))).source
               for iso in (99.0, 100.0, 6400.0, 25600.0)}  # fmt: skip
    assert ["extrapolated" in source for source in sources.values()] == [True, False, False, True]


@pytest.mark.parametrize("pairs", [(), (1e-4,), (-1e-4, 1e-6), (float("nan"), 1e-6), (0.0, 1e-6)])
def test_noise_profile_that_makes_no_sense_is_passed_over(pairs: tuple[float, ...]) -> None:
    frame, _ = _frame(2.0, 8.0, 0.05, size=128)
    assert noise_of(replace(frame, metadata=Metadata(noise_profile=pairs))).source.startswith("estimated")


@pytest.mark.skipif(not REAL.is_dir(), reason="real raw files are not here")
def test_real_frames() -> None:
    rawpy, tifffile = pytest.importorskip("rawpy"), pytest.importorskip("tifffile")
    with rawpy.imread(str(REAL / "canon_550d_colorchart.dng")) as raw:
        mosaic = raw.raw_image_visible.copy()
    dark = np.load(REAL / "canon_550d_optical_black.npz")["ob"] - 2056.0
    canon = RawFrame(mosaic, Sensor.uniform(CFA("RGGB"), 2056, 15000), optical_black=(MaskedArea(dark, 0, -144),))
    found, offset = estimate_noise(canon), black_offset(canon)
    assert 1.7 < float(found.gain) < 2.3
    assert 9 < float(found.read) < 12.5
    assert 0.5 < float(found.row) < 2.5
    assert offset == pytest.approx(-7.5, abs=1.0)
    gains = []
    for shutter in ("100ms", "250ms", "500ms"):
        mosaic = tifffile.imread(REAL / "flea3_icx655_550nm" / f"disks_550nm_{shutter}.tif")
        gains.append(float(estimate_noise(RawFrame(mosaic, Sensor.uniform(CFA("GBRG"), 0, 255))).gain))
    assert max(gains) / min(gains) < 1.35  # one camera at one gain


def _fits(path: Path) -> np.ndarray:
    """The picture of a FITS file with one header block and 16-bit integers."""
    data = path.read_bytes()
    cards = {data[i : i + 8].decode().strip(): data[i + 10 : i + 30].decode().strip() for i in range(0, 2880, 80)}
    shape = int(cards["NAXIS2"]), int(cards["NAXIS1"])
    pixels = np.frombuffer(data, ">i2", shape[0] * shape[1], 2880).reshape(shape)
    return (pixels.astype(int) + int(float(cards.get("BZERO", "0")))).astype(np.uint16)


@pytest.mark.skipif(not (REAL / "nikon_d7000_flats").is_dir(), reason="real raw files are not here")
def test_flat_fields_give_the_gain_of_photon_transfer() -> None:
    gains = []
    for path in sorted((REAL / "nikon_d7000_flats").glob("*.fit")):
        flat = _fits(path)
        if flat.mean() > 500:  # below, the black is clipped
            gains.append(float(estimate_noise(RawFrame(flat, Sensor.uniform(CFA("GRBG"), 0, 16383))).gain))
    assert len(gains) > 20
    assert np.median(gains) == pytest.approx(0.448, rel=0.05)
    assert max(abs(np.log(np.array(gains) / 0.448))) < 0.15

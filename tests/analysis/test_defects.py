"""Hot, warm and dead sites: found, mended, and distinguished from stars and texture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from exposurediffusion.analysis import defects, foretelling
from exposurediffusion.analysis.defects import defects_of_dark, find_defects, listed_defects
from exposurediffusion.analysis.mending import mend
from exposurediffusion.physics.mosaic import CFA, mosaic_from_rgb
from exposurediffusion.physics.noise import tukey_lambda
from exposurediffusion.physics.parameters import NoiseParameters
from exposurediffusion.physics.sensor import Metadata, RawFrame, Sensor

BLACK, WHITE, GAIN, READ = 512, 16383, 2.0, 6.0
NOISE = NoiseParameters.gaussian(GAIN, READ, WHITE - BLACK)
X_TRANS = CFA("XTRANS", (1, 2))
ARRAYS = [CFA("RGGB"), CFA("GRBG"), CFA("GBRG"), CFA("BGGR"), X_TRANS]
WHITE_LIGHT, SKY = (1.0, 1.0, 1.0), 20.0


def _light(cfa: CFA, shape: tuple[int, int] = (203, 301)) -> np.ndarray:
    """Slopes and a soft edge in colour, DN above black, (rows, columns)."""
    y, x = np.mgrid[: shape[0], : shape[1]] / max(shape)
    grey = 30 + 200 * x + 120 / (1 + np.exp(-60 * (y - 0.5 * x - 0.2)))
    return mosaic_from_rgb(torch.from_numpy(np.stack([0.5 * grey, grey, 0.7 * grey])), cfa).numpy()


def _frame(light: np.ndarray, cfa: CFA, seed: int = 0) -> RawFrame:
    draw = np.random.default_rng(seed)
    values = GAIN * draw.poisson(light / GAIN) + draw.normal(0, READ, light.shape) + BLACK
    return RawFrame(values.round().clip(0, WHITE).astype(np.uint16), Sensor.uniform(cfa, BLACK, WHITE))


def _with(frame: RawFrame, sites: np.ndarray, values: np.ndarray | float) -> RawFrame:
    mosaic = frame.mosaic.copy()
    mosaic[sites] = np.clip(values, 0, WHITE)
    return replace(frame, mosaic=mosaic)


def _hot(frame: RawFrame, share: float, mean: float, seed: int = 1) -> tuple[RawFrame, np.ndarray]:
    draw = np.random.default_rng(seed)
    sites = draw.random(frame.shape) < share
    return _with(frame, sites, frame.mosaic[sites] + draw.exponential(mean, int(sites.sum()))), sites


def _within(frame: RawFrame, light: np.ndarray, sites: np.ndarray) -> float:
    """Share of sites within three deviations of the truth."""
    error = np.abs(frame.mosaic[sites].astype(float) - BLACK - light[sites])
    return float((error <= 3 * np.sqrt(GAIN * light[sites] + READ**2)).mean())


def _stars(cfa: CFA, snr: float, fwhm: float) -> np.ndarray:
    """Light of 225 Gaussian stars of a matched-filter signal-to-noise ratio."""
    draw = np.random.default_rng(3)
    light, place = np.zeros((360, 360)), np.arange(360)
    for row, column in np.argwhere(np.ones((15, 15))) * 24 + 12 + draw.random((225, 2)):
        down, across = (np.exp(-(((place - at) * 2.355 / fwhm) ** 2) / 2) for at in (row, column))
        light += np.outer(down, across) / np.sqrt((down**2).sum() * (across**2).sum())
    return mosaic_from_rgb(torch.from_numpy(light).expand(3, -1, -1), cfa).numpy() * snr * (GAIN * SKY + READ**2) ** 0.5


def _kept(cfa: CFA, snr: float, fwhm: float) -> float:
    stars = _stars(cfa, snr, fwhm)
    frame = _frame(SKY + stars, cfa)
    lost = frame.mosaic.astype(float) - mend(frame, find_defects(frame, NOISE)).mosaic
    return 1 - float(lost[stars > 0.5].sum() / stars.sum())


@pytest.mark.parametrize("cfa", ARRAYS, ids=lambda cfa: cfa.name)
def test_hot_sites_are_mended(cfa: CFA) -> None:
    light = _light(cfa, (151, 203))
    frame, sites = _hot(_frame(light, cfa), 0.004, 1500)
    mended = mend(frame, find_defects(frame, NOISE))
    assert _within(frame, light, sites) < 0.1  # the twin: nothing mended
    assert _within(mended, light, sites) >= 0.95  # of 120 sites: some hardly stand out
    assert mended.mosaic.dtype == np.uint16
    assert mended.sensor == frame.sensor


def test_nearly_all_of_many_hot_sites_are_within_the_noise() -> None:
    light = _light(CFA("RGGB"), (768, 1024))
    frame, sites = _hot(_frame(light, CFA("RGGB")), 0.001, 1500)
    found = find_defects(frame, NOISE)
    assert _within(mend(frame, found), light, sites) >= 0.985
    assert (found & ~sites).mean() < 5e-4  # chance, where the noise is all that is lost


def test_warm_sites_lose_their_excess() -> None:
    light = _light(CFA("GRBG"), (512, 768))
    plain = _frame(light, CFA("GRBG"))
    frame, sites = _hot(plain, 0.002, 300)
    mended = mend(frame, find_defects(frame, NOISE))
    excess = frame.mosaic[sites].astype(float) - plain.mosaic[sites]
    left = mended.mosaic[sites].astype(float) - plain.mosaic[sites]
    assert left.sum() < 0.05 * excess.sum()


@pytest.mark.parametrize("cfa", [CFA("RGGB"), X_TRANS], ids=lambda cfa: cfa.name)
@pytest.mark.parametrize("value", [0, WHITE], ids=["dead", "white"])
def test_dead_and_stuck_sites_at_borders_in_corners_and_in_pairs(cfa: CFA, value: int) -> None:
    light = _light(cfa) + 300
    sites = np.zeros(light.shape, bool)
    for row, column in [(0, 0), (0, 300), (202, 0), (202, 300), (0, 150), (100, 0), (60, 60), (60, 62), (120, 200)]:
        sites[row, column] = True
    sites[150, 100:102] = sites[80:82, 220] = True  # side by side
    sites[[30, 31, 32], [30, 31, 30]] = True  # a cluster
    frame = _with(_frame(light, cfa), sites, value)
    found = find_defects(frame, NOISE)
    assert found[sites].mean() == 1
    assert (found & ~sites).mean() < 1e-3
    assert _within(mend(frame, found), light, sites) >= 0.9


def test_dead_sites_among_white_ones() -> None:
    frame = RawFrame(np.full((64, 64), WHITE, np.uint16), Sensor.uniform(CFA("RGGB"), BLACK, WHITE))
    frame.mosaic[20, 21] = 0
    found = find_defects(frame, NOISE)
    assert np.argwhere(found).tolist() == [[20, 21]]
    assert (mend(frame, found).mosaic == WHITE).all()


@pytest.mark.parametrize("cfa", [CFA("RGGB"), X_TRANS], ids=lambda cfa: cfa.name)
@pytest.mark.parametrize(("snr", "fwhm"), [(7, 2.0), (40, 1.6)])
def test_stars_keep_their_flux(cfa: CFA, snr: float, fwhm: float) -> None:
    assert _kept(cfa, snr, fwhm) > 0.95


def test_twin_without_the_look_at_adjacent_sites_eats_stars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(defects, "_LIGHT", 1e6)
    assert _kept(CFA("RGGB"), 40, 1.6) < 0.95


def test_stars_among_many_hot_sites_keep_their_flux() -> None:
    cfa = CFA("RGGB")
    stars = _stars(cfa, 7, 2.0)
    plain = _frame(SKY + stars, cfa)
    frame, sites = _hot(plain, 0.001, 1500)
    found = find_defects(frame, NOISE)
    assert found[sites].mean() > 0.9
    lost = (plain.mosaic.astype(float) - mend(frame, found).mosaic)[~sites].sum()
    assert lost < 0.05 * stars.sum()


def _found_among_stars() -> float:
    """Share of warm sites found in a field of bright stars that are too large to be taken for one."""
    frame, sites = _hot(_frame(SKY + _stars(CFA("RGGB"), 100, 2.5), CFA("RGGB")), 0.001, 300)
    found = find_defects(frame, NOISE)
    assert (found & ~sites).mean() < 1e-4
    return float(found[sites].mean())


def test_texture_that_is_foretold_is_no_company() -> None:
    assert _found_among_stars() > 0.4


def test_twin_that_foretells_the_mean_of_the_colour_finds_too_much_company(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foretelling, "fit_law", lambda *_: np.zeros(49))
    assert _found_among_stars() < 0.2


def _highlights() -> tuple[RawFrame, np.ndarray]:
    """Texture as fine as the sites: random glints of one to three sites on dark ground."""
    draw = np.random.default_rng(5)
    light = np.full((402, 402), 10.0)
    for row, column, kind in zip(*draw.integers(0, 400, (2, 6000)), draw.integers(0, 4, 6000), strict=True):
        light[row : row + (1, 1, 2, 2)[kind], column : column + (1, 2, 1, 2)[kind]] += draw.exponential(100)
    return _frame(light, CFA("RGGB")), light


def test_the_finest_texture_is_left_alone() -> None:
    frame, light = _highlights()
    found = find_defects(frame, NOISE)
    changed = mend(frame, found).mosaic - BLACK - light
    error = ((frame.mosaic - BLACK - light) ** 2).mean()
    assert abs(10 * np.log10((changed**2).mean() / error)) < 0.1
    assert found.mean() < 3e-4


def test_twin_without_company_eats_texture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(defects, "_company", lambda *_: np.zeros((2, 100, 100)))
    assert find_defects(_highlights()[0], NOISE).mean() > 1e-3


def test_heavy_tails_of_the_noise_are_few_defects() -> None:
    light = _light(CFA("RGGB"), (512, 768)) / 4
    draw, shape = np.random.default_rng(6), torch.tensor([-0.1])
    read = tukey_lambda(shape, (1, *light.shape), torch.Generator().manual_seed(0))[0].numpy() * 3
    values = GAIN * draw.poisson(light / GAIN) + read + BLACK
    frame = RawFrame(values.round().astype(np.uint16), Sensor.uniform(CFA("RGGB"), BLACK, WHITE))
    noise = NoiseParameters(torch.tensor([GAIN]), torch.tensor([3.0]), torch.zeros(1), shape, saturation=WHITE - BLACK)
    found = find_defects(frame, noise)
    assert found.mean() < 1e-3
    errors = [((f.mosaic - BLACK - light) ** 2).mean() for f in (frame, mend(frame, found))]
    assert errors[1] <= errors[0]


def test_listed_sites_and_sites_without_a_number_are_mended() -> None:
    light = _light(CFA("RGGB"))
    frame = _frame(light, CFA("RGGB"))
    mosaic = frame.mosaic.astype(np.float32)
    mosaic[10:15, 40] = np.nan
    mosaic[90, 90] = np.inf
    frame = replace(frame, mosaic=mosaic, defects=np.array([[50, 60], [0, 0]]), metadata=Metadata(iso=800))
    sites = listed_defects(frame)
    assert sites.sum() == 8
    found = find_defects(frame, NOISE)
    assert found[sites].all()
    assert found.sum() <= 16
    mended = mend(frame, found)
    assert mended.mosaic.dtype == np.float32
    assert np.isfinite(mended.mosaic).all()
    assert _within(mended, light, sites) == 1
    assert mended.metadata == frame.metadata
    np.testing.assert_array_equal(mended.mosaic[~found], frame.mosaic[~found])
    assert np.isnan(frame.mosaic[10, 40])  # the given frame is not changed


@pytest.mark.parametrize("cfa", [CFA("RGGB"), X_TRANS], ids=lambda cfa: cfa.name)
def test_a_hole_is_filled_from_its_rim_and_an_empty_frame_is_dark(cfa: CFA) -> None:
    light = np.full((48, 48), 1000.0)
    hole = np.zeros(light.shape, bool)
    hole[10:30, 12:32] = True
    frame = RawFrame(np.full((48, 48), 1000 + BLACK, np.uint16), Sensor.uniform(cfa, BLACK, WHITE))
    assert (mend(_with(frame, hole, 0), hole).mosaic == light + BLACK).all()
    assert (mend(frame, np.ones_like(hole)).mosaic == BLACK).all()
    assert mend(frame, np.zeros_like(hole)) is frame


def test_mending_goes_along_edges_that_the_colours_share() -> None:
    y, x = np.mgrid[:256, :256]
    light = 400 + 300 * np.sin((x + 0.6 * y) * 0.9)  # seven sites a wave: too fine for one colour of four
    frame = _frame(light, CFA("RGGB"))
    sites = np.random.default_rng(8).random(light.shape) < 0.005
    error = (mend(frame, sites).mosaic[sites] - BLACK - light[sites]).std()
    around = np.pad(frame.mosaic - BLACK, 2, mode="reflect").astype(float)
    mean = np.mean([around[2 + i : 258 + i, 2 + j : 258 + j] for i, j in ((-2, 0), (2, 0), (0, -2), (0, 2))], axis=0)
    assert error < 0.3 * (mean - light)[sites].std()


def test_hot_sites_of_a_dark_frame() -> None:
    frame, sites = _hot(_frame(np.zeros((200, 300)), CFA("GBRG")), 0.001, 1500)
    found = defects_of_dark(frame, NOISE)
    assert found.shape[1] == 2
    assert sites[tuple(found.T)].mean() > 0.9
    assert len(found) > 0.9 * sites.sum()
    with pytest.raises(ValueError, match="lens cap"):
        defects_of_dark(_frame(np.full((64, 64), 8000.0), CFA("RGGB")), NOISE)


def test_bands_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    frame, _ = _hot(_frame(_light(X_TRANS), X_TRANS), 0.003, 800)
    whole = find_defects(frame, NOISE)
    monkeypatch.setattr(defects, "_BAND", 20000)
    np.testing.assert_array_equal(find_defects(frame, NOISE), whole)


def _with_holes(cfa: CFA) -> RawFrame:
    """Hot sites, dead sites and sites without a number, at the borders too."""
    frame, _ = _hot(_frame(_light(cfa), cfa), 0.01, 800)
    mosaic, draw = frame.mosaic.astype(np.float32), np.random.default_rng(9)
    mosaic[draw.random(mosaic.shape) < 0.005] = BLACK
    mosaic[draw.random(mosaic.shape) < 0.05] = np.nan
    mosaic[:3, :40] = mosaic[100:, :2] = np.nan
    return replace(frame, mosaic=mosaic)


def _noticed(frame: RawFrame) -> np.ndarray:
    """Row, column and deviations of all sites that stand out, above and below."""
    band = next(defects._bands(frame, listed_defects(frame)))
    above, below = (np.stack(found) for found in defects._beyond(band, frame, defects._Noise.of(NOISE)).values())
    return np.concatenate([above[:, np.lexsort(above[:2])], below[:, np.lexsort(below[:2])]], axis=1)


def _all_suspected(
    tiles: np.ndarray, cfa: CFA, kind: int, noise: defects._Noise
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    y, x = np.nonzero(np.ones(defects._inner(tiles, cfa, kind).shape, bool))
    yield from ((sign, y, x) for sign in (1, -1))


@pytest.mark.parametrize("cfa", ARRAYS, ids=lambda cfa: cfa.name)
def test_the_first_look_loses_no_site(cfa: CFA, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = _with_holes(cfa)
    found = _noticed(frame)
    monkeypatch.setattr(defects, "_suspects", _all_suspected)
    np.testing.assert_array_equal(found, _noticed(frame))
    assert found.shape[1] > 500
    monkeypatch.undo()
    monkeypatch.setattr(defects, "_NOTICED_NEARLY", 6.0)  # the twin: a bound that is none
    assert _noticed(frame).shape[1] < found.shape[1]


@pytest.mark.parametrize("shape", [(2, 2), (6, 7), (9, 20)])
def test_tiny_frames(shape: tuple[int, int]) -> None:
    frame = RawFrame(np.full(shape, 600, np.uint16), Sensor.uniform(CFA("RGGB"), BLACK, WHITE))
    assert not find_defects(frame, NOISE).any()

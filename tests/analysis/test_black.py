"""Black levels from masked margins: what is believed, what is not, and what is said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from exposurediffusion.analysis.black import black_offset, with_black, with_true_black
from exposurediffusion.analysis.margins import dark_margins, masked_statistics
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.physics.sensor import MaskedArea, RawFrame, Sensor

GAIN, READ, STATED, WHITE = 2.0, 6.0, 512.0, 16383.0
BIAS = np.array([[0.0, 2.0], [-1.5, 1.0]])  # DN of each site


def tiled(tile: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    return np.tile(tile, (shape[0] // 2, shape[1] // 2))


def picture(error: float, light: float = 40.0, row: float = 0.0, shape: tuple[int, int] = (256, 384)) -> RawFrame:
    """A dark scene with shadows and edges, its black `error` DN above what is stated."""
    draw = np.random.default_rng(1)
    y, x = np.mgrid[: shape[0], : shape[1]] / 40.0
    scene = light * np.clip(np.sin(x) + np.cos(y), 0, None) * tiled(np.array([[0.5, 1.0], [1.0, 0.4]]), shape)
    signal = draw.poisson(scene / GAIN) * GAIN + draw.normal(0, READ, shape) + draw.normal(0, row, (shape[0], 1))
    mosaic = (signal + STATED + error).round().clip(0, WHITE)
    return RawFrame(mosaic.astype(np.uint16), Sensor.uniform(CFA("RGGB"), STATED, WHITE))


def margin(offset: float | np.ndarray, read: float = READ, row: float = 0.0, width: int = 64) -> MaskedArea:
    draw = np.random.default_rng(2)
    values = offset + draw.normal(0, read, (256, width)) + draw.normal(0, row, (256, 1))
    return MaskedArea(values.round().astype(np.float32), 0, -width - 6)


@pytest.mark.parametrize("error", [-100.0, -3.0, 0.0, 7.0, 100.0, 512.0])
def test_a_dark_margin_is_believed(error: float) -> None:
    frame = picture(error)
    frame = replace(frame, optical_black=dark_margins(frame, [margin(error)]))
    result = with_true_black(frame)
    np.testing.assert_allclose(result.sensor.black_level, STATED + error, atol=0.3)
    np.testing.assert_array_equal(result.mosaic, frame.mosaic)
    assert black_offset(result) == pytest.approx(0, abs=0.1)
    assert len(result.notes) == (abs(error) > 16)
    assert all("--black 512 " in note for note in result.notes)


def leaking(strength: float) -> np.ndarray:
    """White light that falls off from the picture's side, seen through the colour filters."""
    fall = np.exp(-np.arange(64)[::-1] / 20)
    return strength * fall * tiled(np.array([[0.5, 1.0], [1.0, 0.4]]), (256, 64))


def copied() -> MaskedArea:
    return MaskedArea(picture(100).mosaic[:, 64:128].astype(np.float32) - np.float32(STATED), 0, -70)


@pytest.mark.parametrize(
    "lit",
    [
        margin(100 + leaking(60)),  # a light leak on the true black
        margin(leaking(60)),
        margin(100 + 60 * tiled(np.array([[0.5, 1.0], [1.0, 0.4]]), (256, 64))),  # even light through the filters
        margin(130.0),  # brighter than the picture's shadows
        margin(100.0, read=9.0),  # noisier
        margin(-480.0),  # so dark that the picture's light would be too quiet for light
        margin(100.0, read=0.0),  # a filling
        margin(100.0, read=0.3),  # one that is hardly anything else
        margin(-STATED, read=0.0),
        MaskedArea(np.maximum(margin(-STATED).values, np.float32(-STATED)), 0, -70),  # noise clipped at 0
        copied(),
    ],
    ids=range(11),
)
def test_a_margin_that_is_not_plainly_dark_is_not_believed(lit: MaskedArea) -> None:
    frame = picture(100.0)
    assert dark_margins(frame, [lit]) == ()
    assert dark_margins(frame, [lit, margin(100.0)]) != ()  # the twin


def test_sites_have_offsets_of_their_own() -> None:
    """Wherever the margin begins; and one number for all where row noise hides the differences."""
    frame, values = picture(0.0), margin(tiled(BIAS, (256, 64))).values
    for down, right in ((0, 0), (1, 0), (0, 1), (1, 1)):
        area = MaskedArea(values[down:, right:], down, right - 70)
        levels = with_true_black(replace(frame, optical_black=(area,))).sensor.black_level
        np.testing.assert_allclose(levels, STATED + BIAS.ravel(), atol=0.3)
    noisy = with_true_black(replace(frame, optical_black=(margin(3 + tiled(BIAS, (256, 64)), row=4.0),)))
    assert np.ptp(noisy.sensor.black_level) == 0
    assert noisy.sensor.black_level[0] == pytest.approx(STATED + 3 + BIAS.mean(), abs=1.0)


def test_rows_that_are_off_do_not_count() -> None:
    values = margin(0.0).values.copy()
    values[:9] -= 30
    found = masked_statistics(replace(picture(0.0), optical_black=(MaskedArea(values, 0, -70),)))
    assert found is not None
    assert found.offset == pytest.approx(0, abs=0.2)


def test_black_offset() -> None:
    def offset(*areas: MaskedArea) -> float | None:
        return black_offset(replace(picture(0.0), optical_black=areas))

    assert offset() is None
    assert offset(MaskedArea(margin(3.0).values[:20, :20], 0, -70)) is None  # too few
    assert offset(MaskedArea(margin(1.0, read=40.0).values[:100], 0, -70)) is None  # too uncertain
    assert offset(MaskedArea(margin(9.0, read=40.0).values[:100], 0, -70)) == pytest.approx(9, abs=2.0)
    assert offset(margin(-7.2, row=0.5)) == pytest.approx(-7.2, abs=0.25)


def test_black_as_told() -> None:
    frame = replace(picture(0.0), optical_black=(margin(tiled(BIAS, (256, 64))),))
    stated = with_black(frame, (STATED + BIAS).ravel().tolist())
    assert stated.sensor.black_level == (512, 514, 510.5, 513)
    found = masked_statistics(stated)
    assert found is not None
    np.testing.assert_allclose(found.offsets, 0, atol=0.3)
    assert with_black(frame, [600]).sensor.black_level == (600,) * 4
    x_trans = RawFrame(frame.mosaic, Sensor.uniform(CFA("XTRANS"), STATED, WHITE))
    assert with_black(x_trans, [600]).sensor.black_level == (600,) * 36
    for levels in ([1, 2], [1] * 36, [], [-1], [float("nan")], [16383]):
        with pytest.raises(ValueError, match="black level"):
            with_black(frame, levels)


def test_a_frame_below_its_black_level_is_said() -> None:
    draw = np.random.default_rng(0)
    mosaic = draw.normal(100, 4, (96, 128)).round().clip(0).astype(np.uint16)

    def notes(black: float) -> tuple[str, ...]:
        return with_true_black(RawFrame(mosaic, Sensor.uniform(CFA("RGGB"), black, 16383))).notes

    below = with_true_black(RawFrame(np.zeros((96, 128), np.uint16), Sensor.uniform(CFA("RGGB"), 512, 16383))).notes
    assert any("--black" in text for text in below)
    assert any("--black" in text for text in notes(512))
    assert not notes(100)

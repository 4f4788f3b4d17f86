"""Black as raw files state it: by row and column, and in margins that contradict the tag."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from exposurediffusion.analysis.black import with_true_black
from exposurediffusion.files.tiff import LONG, SRATIONAL, Entry, entry
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.raw.read import read_raw
from tests.raw.test_read import camera_file

ROWS, COLUMNS = np.random.default_rng(3).integers(-8, 9, (2, 120))


def scene(shape: tuple[int, int] = (120, 120)) -> np.ndarray:
    draw = np.random.default_rng(4)
    return (draw.poisson(np.linspace(0, 40, shape[1]), shape) + draw.normal(512, 6, shape)).round().astype(np.uint16)


def deltas(values: np.ndarray) -> Entry:
    return entry(SRATIONAL, *(float(value) for value in values))


@pytest.mark.parametrize("origin", [(0, 0), (1, 0), (0, 1), (25, 31)])
@pytest.mark.parametrize("part", [0.0, 0.25])
def test_differences_of_rows_and_columns(tmp_path: Path, origin: tuple[int, int], part: float) -> None:
    """Numbered from the active area, of which LibRaw leaves out a first odd line; whole numbers stay whole."""
    top, left = origin
    rows, columns = ROWS[top:] + part, COLUMNS[left:] + 500.0
    seen = scene()
    mosaic = seen.astype(float)
    mosaic[top:, left:] += np.add.outer(rows, columns)
    mosaic[-1, -1] = seen[-1, -1] = 16383
    tags = {
        50829: entry(LONG, top, left, 120, 120),
        50715: deltas(columns),
        50716: deltas(rows),
    }
    frame = read_raw(camera_file(tmp_path / "a.dng", mosaic.round().astype(np.uint16), CFA("RGGB"), tags))
    assert frame.mosaic.dtype == np.uint16  # the quarter is the same in all rows
    light = frame.mosaic - frame.sensor.black_level[0]
    expected = seen[top + top % 2 :, left + left % 2 :] - 512.0
    np.testing.assert_allclose(light[:-1], expected[:-1], atol=0.5)
    assert frame.mosaic[-1, -1] == 16383
    assert frame.notes == ()


def test_fractions_and_negative_values_make_floats(tmp_path: Path) -> None:
    fractions = {50716: deltas(ROWS[:64] + 0.5 * (np.arange(64) % 2))}
    mosaic = scene((64, 64))
    frame = read_raw(camera_file(tmp_path / "a.dng", mosaic, CFA("RGGB"), fractions))
    assert frame.mosaic.dtype == np.float32
    lower = frame.mosaic - np.array(frame.sensor.black_level)[0]
    expected = mosaic - 512.0 - np.array(fractions[50716].numbers)[:, None]
    np.testing.assert_allclose(lower, expected, atol=1e-3)
    deep = {50716: deltas(np.where(np.arange(64) == 9, 900, 0))}
    frame = read_raw(camera_file(tmp_path / "a.dng", mosaic, CFA("RGGB"), deep))
    assert frame.mosaic.dtype == np.float32
    assert frame.mosaic[9].max() < 0


def test_differences_that_do_not_fit_are_left_out_and_said(tmp_path: Path) -> None:
    mosaic = scene((64, 64))
    frame = read_raw(camera_file(tmp_path / "a.dng", mosaic, CFA("RGGB"), {50716: deltas(ROWS[:63])}))
    np.testing.assert_array_equal(frame.mosaic, mosaic)
    assert frame.sensor.black_level == (512,) * 4
    assert "BlackLevelDelta" in frame.notes[0]


def test_margins_share_the_differences_of_their_rows(tmp_path: Path) -> None:
    rows = 8 * ROWS
    mosaic = scene((120, 160)).astype(float)
    mosaic[:, :40] = np.random.default_rng(5).normal(512, 6, (120, 40)).round()
    mosaic += rows[:, None]
    tags = {50829: entry(LONG, 0, 40, 120, 160), 50716: deltas(rows)}
    frame = read_raw(camera_file(tmp_path / "a.dng", mosaic.astype(np.uint16), CFA("RGGB"), tags))
    assert frame.optical_black[0].values.std() == pytest.approx(6, rel=0.1)
    assert frame.optical_black[0].values.mean() == pytest.approx(0, abs=0.5)


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("error", [100, 512])
def test_a_margin_that_contradicts_the_tag(tmp_path: Path, declared: bool, error: int) -> None:
    mosaic = scene((120, 160)) + error
    mosaic[:, :40] = np.random.default_rng(5).normal(512 + error, 6, (120, 40)).round()
    tags = {50829: entry(LONG, 0, 40, 120, 160)} | ({50830: entry(LONG, 0, 0, 120, 40)} if declared else {})
    frame = read_raw(camera_file(tmp_path / "a.dng", mosaic.astype(np.uint16), CFA("RGGB"), tags))
    assert frame.sensor.black_level == (512,) * 4
    result = with_true_black(frame)
    assert np.mean(result.sensor.black_level) == pytest.approx(512 + error, abs=0.5)
    assert "--black 512" in result.notes[0]
    mosaic[:, :40] += (np.arange(40) * 3).astype(np.uint16)  # the twin: light falls on it
    frame = read_raw(camera_file(tmp_path / "b.dng", mosaic.astype(np.uint16), CFA("RGGB"), tags))
    assert frame.optical_black == ()
    assert with_true_black(frame).sensor.black_level == (512,) * 4
    assert len(frame.notes) == declared
    assert all("--black" in note for note in frame.notes)


def test_declared_areas_alone_are_margins(tmp_path: Path) -> None:
    mosaic = scene((120, 160))
    mosaic[:, :40] = np.random.default_rng(5).normal(512, 6, (120, 40)).round()
    tags = {50829: entry(LONG, 0, 40, 120, 160), 50830: entry(LONG, 0, 10, 120, 30)}
    (area,) = read_raw(camera_file(tmp_path / "a.dng", mosaic, CFA("RGGB"), tags)).optical_black
    assert (area.values.shape, area.top, area.left) == ((120, 20), 0, -30)

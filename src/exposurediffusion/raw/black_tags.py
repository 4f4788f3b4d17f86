"""What a raw file says about black: levels, their differences by row and column, and the masked margins."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from exposurediffusion.analysis.black import NOTICEABLE
from exposurediffusion.analysis.margins import dark_margins
from exposurediffusion.decoding.raw import LibRawFile
from exposurediffusion.files.exif import FileTags
from exposurediffusion.files.metadata import BLACK_LEVEL, BLACK_REPEAT, active_shift
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.physics.sensor import MaskedArea, RawFrame

_DELTA_H, _DELTA_V, _MASKED = 50715, 50716, 50830
_LARGEST = 65536.0  # difference of black levels, DN
_EDGE, _GUARD = 2, 6  # lines dropped of a masked margin: at the sensor's rim, and beside the light


def black_levels(raw: LibRawFile, cfa: CFA, tags: FileTags) -> tuple[float, ...]:
    """DN at no light for each site of the visible area's first tile, at its most ordinary row and column.

    LibRaw rounds a DNG's black level, adds the means of BlackLevelDeltaH and V to it, puts its own measurement of
    MaskedAreas in its place, and rawpy hides the part of it that repeats over more than 2x2 sites: the tags say it all.
    They are believed if they agree with LibRaw to a few DN on average, or if LibRaw measured.
    """
    channel = raw.black_level_per_channel
    period = cfa.period
    libraw = [channel[raw.colour_of[i][j]] for i in range(period) for j in range(period)]
    if not tags.is_dng or BLACK_LEVEL not in tags.raw:
        return tuple(libraw)
    values = np.array(tags.raw[BLACK_LEVEL].numbers)
    repeat = tags.raw[BLACK_REPEAT].numbers if BLACK_REPEAT in tags.raw else (1.0, 1.0)
    rows, columns = (int(n) for n in (*repeat, 1, 1)[:2])
    if not (rows > 0 and columns > 0 and rows * columns == values.size and np.isfinite(values).all()):
        return tuple(libraw)
    table = values.reshape(rows, columns)
    down, right = active_shift(raw, tags)
    # A repeat that does not divide the array's own period is averaged over the sites that share a colour.
    y, x = (np.add.outer(np.arange(period) + start, np.arange(0, 12, period)) for start in (down, right))
    sites = np.array([[table[np.ix_(i % rows, j % columns)].mean() for j in x] for i in y])
    deltas = [np.array(tags.raw[tag].numbers) for tag in (_DELTA_V, _DELTA_H) if tag in tags.raw]
    expected = sites.mean() + sum(delta.mean() for delta in deltas)
    if abs(expected - np.mean(libraw)) > 2 + np.ptp(values) and _MASKED not in tags.raw:
        return tuple(libraw)
    usual = sum(_usual(delta) for delta in _deltas(raw, tags))
    return tuple(float(v + usual) for v in sites.ravel())


def with_black_of(frame: RawFrame, raw: LibRawFile, tags: FileTags) -> RawFrame:
    """The frame without its black differences of rows and columns, and with its masked margins.

    The mosaic stays uint16 where the differences are whole numbers and nothing becomes negative, else it is float32.
    Saturated sites stay as they are. Margins beside the picture share its rows or columns, and their differences.
    """
    rows, columns = (delta - _usual(delta) for delta in _deltas(raw, tags))
    notes = []
    if any(tag in tags.raw for tag in (_DELTA_H, _DELTA_V)) and not (rows.size and columns.size):
        notes.append("its BlackLevelDeltaH or V does not fit its ActiveArea and is left out: convert it to DNG anew")
    rows, columns = (
        delta if delta.size else np.zeros(n) for delta, n in zip((rows, columns), frame.shape, strict=True)
    )
    margins = _margins(raw, frame, tags, rows, columns)
    if rows.any() or columns.any():
        frame = replace(frame, mosaic=_without(frame, rows, columns))
    dark = dark_margins(frame, margins)
    difference = float(np.mean(raw.black_level_per_channel) - np.mean(frame.sensor.black_level))
    if _MASKED in tags.raw and not dark and abs(difference) > NOTICEABLE * frame.sensor.saturation:
        notes.append(
            f"its MaskedAreas differ from its BlackLevel by {difference:.0f} DN but are not plainly dark, and the tag "
            "is believed; if the result is too bright or too dark, give the level with --black DN"
        )
    return replace(frame, optical_black=dark, notes=frame.notes + tuple(notes))


def _deltas(raw: LibRawFile, tags: FileTags) -> tuple[np.ndarray, np.ndarray]:
    """BlackLevelDeltaV and H of the visible rows and columns, DN; both empty where one does not fit."""
    sizes, shift = raw.sizes, active_shift(raw, tags)
    found = []
    for tag, start, count in zip((_DELTA_V, _DELTA_H), shift, (sizes.height, sizes.width), strict=True):
        numbers = np.array(tags.raw[tag].numbers if tags.is_dng and tag in tags.raw else np.zeros(start + count))
        found.append(numbers[start : start + count])
        if len(found[-1]) != count or not np.all(np.abs(numbers) < _LARGEST):
            return np.empty(0), np.empty(0)
    return found[0], found[1]


def _usual(delta: np.ndarray) -> float:
    """A typical one of the values themselves, so that whole numbers stay whole."""
    return float(np.sort(delta)[delta.size // 2]) if delta.size else 0.0


def _without(frame: RawFrame, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The mosaic less the differences of its rows and columns."""
    mosaic = frame.mosaic
    lower = mosaic - np.add.outer(rows, columns).astype(np.float32)
    lower = np.where(mosaic >= frame.sensor.white_level, mosaic, lower).astype(np.float32)
    whole = np.issubdtype(mosaic.dtype, np.integer) and not ((rows % 1).any() or (columns % 1).any())
    return lower.astype(mosaic.dtype) if whole and lower.min() >= 0 and lower.max() < 65536 else lower


def _margins(
    raw: LibRawFile, frame: RawFrame, tags: FileTags, rows: np.ndarray, columns: np.ndarray
) -> list[MaskedArea]:
    """What lies outside the visible area, DN minus black, float32: where MaskedAreas are given, only these."""
    sizes, whole, period = raw.sizes, raw.raw_image, frame.sensor.cfa.period
    top, left = sizes.top_margin, sizes.left_margin
    bottom, right = top + sizes.height, left + sizes.width
    height, width = whole.shape
    numbers = tags.raw[_MASKED].numbers if _MASKED in tags.raw else (0, 0, height, width)
    declared = [[int(n) for n in numbers[i : i + 4]] for i in range(0, len(numbers) // 4 * 4, 4)]
    y_delta, x_delta = np.pad(rows, (top, height - bottom)), np.pad(columns, (left, width - right))
    areas = []
    for (y0, y1), (x0, x1) in (
        ((top, bottom), (_EDGE, left - _GUARD)),
        ((top, bottom), (right + _GUARD, width - _EDGE)),
        ((_EDGE, top - _GUARD), (_EDGE, width - _EDGE)),
        ((bottom + _GUARD, height - _EDGE), (_EDGE, width - _EDGE)),
    ):
        for t, l, b, r in declared:  # noqa: E741 - top, left, bottom, right
            ys, xs = np.arange(max(y0, t), min(y1, b)), np.arange(max(x0, l), min(x1, r))
            if min(ys.size, xs.size) >= period:
                piece = whole[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1].astype(np.float32)
                start = int(ys[0]) - top, int(xs[0]) - left
                black = frame.sensor.black(piece.shape, *start) + np.add.outer(y_delta[ys], x_delta[xs])
                areas.append(MaskedArea(piece - black.astype(np.float32), *start))
    return areas

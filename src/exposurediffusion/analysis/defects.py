"""Hot, warm and dead sites: found in the frame by their neighbours and the known noise.

A defect is one site that stands out of its own colour *and* stands alone: whatever comes through a lens, the smallest
star too, leaves light on adjacent sites, which have other colours. Texture finer than that is known by its company.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from exposurediffusion.analysis.foretelling import foretold_at
from exposurediffusion.analysis.neighbourhood import (
    FAR,
    REACH,
    SIDE,
    black_at,
    colours_around,
    kinds_of,
    nearest_of_colour,
    windows_at,
)
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.physics.parameters import NoiseParameters
from exposurediffusion.physics.sensor import RawFrame

_BAND = 1 << 18  # sites of a band, worked on at a time
_PART = 1 << 14  # windows worked on at a time
_BEYOND = {1: 4.0, -1: 5.0}  # deviations beyond the second of the neighbours, which lies 0.85 from their mean
_BEYOND_IF_MANY = {1: 2.5, -1: 5.0}
_AWAY = 4.0  # deviations away from what the sites around foretell
_COMPANY = 3.5  # deviations away from it from which a site is company
_TIMES, _TIMES_IF_MANY = 4.0, 2.0  # as far away as the company
_DOUBTFUL = 6.0  # deviations beyond the neighbours from which a site foretells nothing of others
_BORDER = 0.85  # deviations by which the second of three neighbours is less than that of eight
_PLAINLY = 8.0  # deviations away that are no chance
_NOTICED = 2.5  # deviations beyond it from which a site is looked at
_NOTICED_NEARLY = 2.499  # a bound that rounding does not cross
_RANGE = 1.7  # from the second to the seventh of eight Gaussian samples, in deviations
_CHANCE = 2.5  # deviations: one of eight adjacent sites exceeds it by chance once in 20 times
_LIGHT = 0.3  # of the excess: with more of it on adjacent sites it is light
_BRIGHT = 20.0  # deviations from which a star shows on more than two sites, so that two alone are two defects
_SHADE = 0.5  # of its light, at least, has a dark site lost
_CELL = 16  # side of the cells in sites; the company of a site is in three by three of them
_MANY, _FEWEST = 3e-5, 10  # of all sites; sites: with more plain defects, doubtful ones are taken for defects too
_UNEVEN = 1.5  # deviations of the noise by which places of a dark frame differ at most: more is a picture


class _Noise(NamedTuple):
    """Gain, DN per electron, and light-free variance, DN squared, of a frame."""

    gain: float
    variance: float

    @staticmethod
    def of(noise: NoiseParameters) -> _Noise:
        return _Noise(float(noise.gain), float(noise.read_variance))

    def deviation(self, light: np.ndarray) -> np.ndarray:
        """Standard deviation of the noise at a light in DN above black."""
        return np.sqrt(self.gain * np.maximum(light, 0) + self.variance)


def listed_defects(frame: RawFrame) -> np.ndarray:
    """Sites that the file lists as defective or has no number for: bool, (rows, columns)."""
    sites = ~np.isfinite(frame.mosaic)
    if frame.defects is not None:
        sites[tuple(frame.defects.T)] = True
    return sites


def find_defects(frame: RawFrame, noise: NoiseParameters) -> np.ndarray:
    """Hot, warm and dead sites of a frame, and those that are listed.

    A site is a defect if (1) it lies more than 4 deviations of the noise beyond all but one of its nearest neighbours
    of its colour, and away from what the sites around foretell; (2) its eight adjacent sites have no share of its
    excess; and (3) no site of its surroundings (24 sites or so) that fails (2) is a quarter as far from what is
    foretold there: that would be texture. In a frame with many plain defects, 2.5 deviations beyond the neighbours are
    enough, company of half as much is allowed, and one cell of the surroundings may hold more. Two adjacent sites of 20
    deviations and more are two defects; of less, they may be a star and stay. A dark defect stands out by 5 deviations
    and has lost half of its light.

    Args:
        frame: raw DN.
        noise: of the capture (b = 1), in DN of the frame's sensor: `noise_of(frame)`.

    Returns:
        bool, (rows, columns); `listed_defects` names those that were known before.
    """
    sites, known = listed_defects(frame), _Noise.of(noise)
    standing_out = [_beyond(band, frame, known) for band in _bands(frame, sites)]
    found, doubtful = sites.copy(), sites.copy()
    places = {sign: [np.concatenate(x) for x in zip(*(b[sign] for b in standing_out), strict=True)] for sign in (1, -1)}
    for row, column, far in places.values():
        doubtful[row[far > _DOUBTFUL], column[far > _DOUBTFUL]] = True
    for sign, (row, column, far) in places.items():
        foretold = foretold_at(frame, doubtful, row, column)
        away = frame.mosaic[row, column] - black_at(frame, row, column) - foretold
        away *= sign / known.deviation(foretold)
        kept = away > _COMPANY
        row, column, far, away = row[kept], column[kept], far[kept], away[kept]
        alone = _alone(frame, sites, known, sign, row, column)
        apart = sites.copy()
        apart[row[alone], column[alone]] = True  # in clusters of three, the ends are no light on the middle
        near = np.nonzero(~alone)[0]
        near = near[sliding_window_view(np.pad(apart, REACH), (SIDE, SIDE))[row[near], column[near]].any(axis=(1, 2))]
        alone[near] = _alone(frame, apart, known, sign, row[near], column[near])
        company = _company(frame, row[~alone], column[~alone], away[~alone])[:, row // _CELL, column // _CELL]
        defects = alone & (far > _BEYOND[sign]) & (away > np.maximum(_AWAY, _TIMES * company[0]))
        if (defects & (away > _PLAINLY)).sum() > max(_MANY * found.size, _FEWEST):
            defects = alone & (far > _BEYOND_IF_MANY[sign]) & (away > np.maximum(_AWAY, _TIMES_IF_MANY * company[1]))
        found[row[defects], column[defects]] = True
    return found


def defects_of_dark(dark: RawFrame, noise: NoiseParameters) -> np.ndarray:
    """Hot sites of a frame taken with the lens cap on, and those that it lists: row and column of each, (n, 2).

    Args:
        dark: raw DN, best of the exposure time and ISO of the frames to be mended.
        noise: of the dark frame (b = 1), in DN of its sensor: `noise_of(dark)`.

    Raises:
        ValueError: the frame is not dark.
    """
    sites = listed_defects(dark)
    light = dark.sensor.normalise(dark.mosaic).numpy() * dark.sensor.saturation
    rows, columns = (n // _CELL * _CELL for n in dark.shape)
    cells = light[:rows, :columns].reshape(rows // _CELL, _CELL, -1, _CELL)
    low, high = np.nanpercentile(np.nanmedian(cells, axis=(1, 3)), (1, 99)) if cells.size else (0.0, 0.0)
    if max(high - low, high) > _UNEVEN * float(noise.read_variance) ** 0.5:
        raise ValueError(f"the dark frame holds light, up to {high:.0f} DN: take it with the lens cap on")
    for band in _bands(dark, sites.copy()):
        row, column, far = _beyond(band, dark, _Noise.of(noise))[1]
        sites[row[far > _BEYOND[1]], column[far > _BEYOND[1]]] = True
    return np.argwhere(sites)


def _bands(frame: RawFrame, unknown: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Bands of whole tiles: first row, and DN above black sorted by kind of site, (period, period, tiles, tiles).

    Around each band are margins of tiles that hold the reach; NaN stands for what is unknown or outside the frame.
    """
    (rows, columns), period = frame.shape, frame.sensor.cfa.period
    margin = -(-REACH // period) * period
    across = -(-columns // period) * period + 2 * margin
    black = np.asarray(frame.sensor.black_level, np.float32).reshape(period, period, 1, 1)
    height = max(1, _BAND // (columns * period)) * period
    for top in range(0, rows, height):
        light = np.full((min(height, -(-(rows - top) // period) * period) + 2 * margin, across), np.nan, np.float32)
        start, stop = max(0, top - margin), min(rows, top + len(light) - margin)
        inside = light[start - top + margin : stop - top + margin, margin : margin + columns]
        inside[:] = frame.mosaic[start:stop]
        inside[unknown[start:stop]] = np.nan
        tiles = light.reshape(-1, period, across // period, period).transpose(1, 3, 0, 2)
        yield top, np.subtract(tiles, black, order="C")


def _beyond(band: tuple[int, np.ndarray], frame: RawFrame, noise: _Noise) -> dict[int, tuple[np.ndarray, ...]]:
    """Sites above (1) and below (-1) all but one of their nearest neighbours: row, column, by how many deviations."""
    (top, tiles), cfa = band, frame.sensor.cfa
    found: dict[int, list[tuple[np.ndarray, ...]]] = {1: [], -1: []}
    for kind in range(cfa.period**2):
        for sign, y, x in _suspects(tiles, cfa, kind, noise):
            light = np.stack([plane[y, x] for plane in _neighbours(tiles, cfa, kind)])
            ranked, count = np.sort(light, axis=0), np.isfinite(light).sum(axis=0)  # what is unknown comes last
            y, x, ranked, count = y[count > 1], x[count > 1], ranked[:, count > 1], count[count > 1]
            second, last_but_one = np.take_along_axis(ranked, count[None] - 2, axis=0)[0], ranked[1]
            limit, spread = second if sign > 0 else last_but_one, (second - last_but_one) / _RANGE
            value = _inner(tiles, cfa, kind)[y, x]
            far = sign * (value - limit) / np.maximum(noise.deviation(limit), spread)
            noticed = far > _NOTICED
            row, column = divmod(kind, cfa.period)
            place = top + y[noticed] * cfa.period + row, x[noticed] * cfa.period + column
            found[sign].append((*place, far[noticed] - _BORDER * _at_border(frame, *place)))
    return {sign: tuple(map(np.concatenate, zip(*places, strict=True))) for sign, places in found.items()}


def _suspects(tiles: np.ndarray, cfa: CFA, kind: int, noise: _Noise) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Sites that may be noticed: sign, row and column in tiles.

    The lesser of two neighbours is exceeded by one at least, so that the largest such value is a bound of the second
    of all, as the least of the greater ones is of the last but one: of one site in a hundred or so, all neighbours have
    to be ranked.
    """
    values, neighbours = _inner(tiles, cfa, kind), _neighbours(tiles, cfa, kind)
    pairs = list(zip(neighbours[::2], neighbours[1::2], strict=False))
    second, last_but_one = np.minimum(*pairs[0]), np.maximum(*pairs[0])
    for pair in pairs[1:]:
        np.fmax(second, np.minimum(*pair), out=second)
        np.fmin(last_but_one, np.maximum(*pair), out=last_but_one)
    gain, variance = (_NOTICED_NEARLY**2 * x for x in noise)
    for sign, beyond, darker in ((1, values - second, second), (-1, last_but_one - values, values)):
        excess = beyond * np.abs(beyond)
        excess -= gain * np.maximum(darker, 0)  # the darker: its noise is less
        y, x = np.nonzero(~(excess <= variance))  # true of what is unknown, too
        spread = (second[y, x] - last_but_one[y, x]) / _RANGE
        kept = ~(beyond[y, x] <= _NOTICED_NEARLY * spread)
        yield sign, y[kept], x[kept]


def _inner(tiles: np.ndarray, cfa: CFA, kind: int, down: int = 0, right: int = 0) -> np.ndarray:
    """The sites of one kind in a band without its margins, or those so many sites away from them, (tiles, tiles)."""
    margin = -(-REACH // cfa.period)
    (y, i), (x, j) = divmod(kind // cfa.period + down, cfa.period), divmod(kind % cfa.period + right, cfa.period)
    rows, columns = tiles.shape[2:]
    return tiles[i, j, margin + y : rows - margin + y, margin + x : columns - margin + x]


def _neighbours(tiles: np.ndarray, cfa: CFA, kind: int) -> list[np.ndarray]:
    """The nearest neighbours of all sites of one kind, each like `_inner`."""
    return [_inner(tiles, cfa, kind, down, right) for down, right in nearest_of_colour(cfa, kind)]


def _at_border(frame: RawFrame, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Whether places have fewer neighbours than others."""
    reach = frame.sensor.cfa.stride
    (rows, columns) = frame.shape
    return (row < reach) | (row >= rows - reach) | (column < reach) | (column >= columns - reach)


def _alone(
    frame: RawFrame, unknown: np.ndarray, noise: _Noise, sign: int, row: np.ndarray, column: np.ndarray
) -> np.ndarray:
    """Whether the sites adjacent to each place have no share of its excess over its colour around it, (n)."""
    alone = np.zeros(len(row), bool)
    kinds = kinds_of(frame.sensor.cfa, row, column)
    for kind in np.unique(kinds):
        colours, of_kind = colours_around(frame.sensor.cfa, int(kind)), np.nonzero(kinds == kind)[0]
        for part in np.split(of_kind, range(_PART, len(of_kind), _PART)):
            windows = windows_at(frame, unknown, row[part], column[part])
            level = np.empty_like(windows)
            for letter in "RGB":
                level[:, colours == letter] = _median(windows[:, (colours == letter) & (FAR > 1)])
            alone[part] = _judged(sign * (windows - level), level, noise, sign)
    return alone


def _median(values: np.ndarray) -> np.ndarray:
    """The median of each row, (n, 1); NaN where a row has no number."""
    ranked = np.sort(values, axis=1)  # what is unknown comes last
    middle = np.maximum(np.isfinite(values).sum(axis=1, keepdims=True) - 1, 0)
    low, high = (np.take_along_axis(ranked, at, axis=1) for at in (middle // 2, (middle + 1) // 2))
    return low + (high - low) / 2


def _judged(excess: np.ndarray, level: np.ndarray, noise: _Noise, sign: int) -> np.ndarray:
    """Whether the excess at the centre of windows is alone there, (n)."""
    deviation = noise.deviation(level)
    own, spread = excess[:, FAR == 0][:, 0], deviation[:, FAR == 0][:, 0]
    adjacent = np.sort(np.nan_to_num(excess[:, FAR == 1]), axis=1)
    chance = np.sqrt(np.nanmean(deviation[:, FAR == 1] ** 2, axis=1))
    shared = adjacent[:, :-2].sum(axis=1) > np.maximum(_CHANCE * chance * 6**0.5, _LIGHT * own)
    paired = adjacent[:, -1] > np.maximum(_CHANCE * spread, _LIGHT * own)
    third = adjacent[:, -2] > np.maximum(_CHANCE * spread, 0.2 * own)
    alone = ~(shared | (paired & (third | (own < _BRIGHT * spread))))
    if sign < 0:
        alone &= own > _SHADE * level[:, FAR == 0][:, 0]
    return alone


def _company(frame: RawFrame, row: np.ndarray, column: np.ndarray, away: np.ndarray) -> np.ndarray:
    """The largest and second largest of the deviations in three by three cells around each, (2, down, across)."""
    down, across = (size // _CELL + 1 for size in frame.shape)
    largest = np.zeros((down + 2, across + 2), np.float32)
    np.maximum.at(largest, (row // _CELL + 1, column // _CELL + 1), away)
    return np.sort([largest[i : i + down, j : j + across] for i in range(3) for j in range(3)], axis=0)[:-3:-1]

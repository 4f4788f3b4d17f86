"""Hot, warm and dead sites: found by how well all the sites around foretell each of them, and the known noise.

Whatever comes through a lens, the smallest star too, leaves light on adjacent sites, which have other colours. So a
defect is one site that stands out of what the sites around foretell, while they, without it, are foretold well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from exposurediffusion.physics.mending import kernel, law, mend
from exposurediffusion.physics.neighbourhood import DOWN, FAR, REACH, RIGHT, black_at, colours_around, kinds_of, windows_at
from exposurediffusion.physics.profile import NoiseParameters
from exposurediffusion.physics.sensor import RawFrame

_BAND = 1 << 20  # sites of a band, worked on at a time
_PASSES = 4  # the first of a cluster is found in the first pass, what it hid in the next ones
_CHANCE = 1.5  # deviations of the noise that the largest error of a few sites has by chance
_TEXTURE = 0.6  # of the third largest error of the 48 sites around counts as that of an adjacent site
_BRIGHT = 50.0  # deviations from which a star shows on more than two sites, so that two alone are two defects
_PAIR = 10.0  # times as far as the others must each of two stand out
_SHADE = 0.5  # of its light, at least, has a dark site lost
_MANY = 10, 1e-4  # plain defects, and their share of all sites: with more, doubtful ones are defects too
_PLAINLY = 10.0  # deviations beyond which it is no chance, even where read noise has heavy tails
_CELL = 8  # side of the cells in sites; the spread about a site is that of three by three of them
_TAIL = 6.0  # deviations that a site counts at most in the spread
_DARKEST = 0.1  # mean of a dark frame, of white: beyond it the lens cap was off


@dataclass(frozen=True)
class _Bar:
    """How far a defect stands out: hot and dark ones in deviations; and in errors of the sites around it."""

    far: float
    spread: float
    errors: float


_FEW, _MORE = _Bar(4.5, 3.0, 10.0), _Bar(3.4, 1.5, 4.0)  # in a frame of few defects, and of many


def listed_defects(frame: RawFrame) -> np.ndarray:
    """Sites that the file lists as defective or has no number for: bool, (rows, columns)."""
    sites = ~np.isfinite(frame.mosaic)
    if frame.defects is not None:
        sites[tuple(frame.defects.T)] = True
    return sites


def find_defects(frame: RawFrame, noise: NoiseParameters) -> np.ndarray:
    """Hot, warm and dead sites of a frame, and those that are listed.

    Every site is foretold by the linear law of `mend`. The error of a defect is (1) 4.5 deviations of the noise, and
    (2) 7.5 times the errors that the sites around it have when its own number is taken to be the foretold one: the
    largest of the eight adjacent sites, or 0.6 times the third largest within 7x7, each less the noise. In a frame
    with many plain defects, 3.5 deviations and 4.5 times are enough. A dark defect stands out by 5 deviations and has
    lost half of its light. Of 20 deviations and more, two adjacent sites are two defects; of less, they may be a star.

    Args:
        frame: raw DN.
        noise: of the capture (b = 1), in DN of the frame's sensor: `noise_of(frame)`.

    Returns:
        bool, (rows, columns); `listed_defects` tells those apart that were known before.
    """
    listed = listed_defects(frame)
    errors = _Errors.of(mend(frame, listed), noise)
    candidates = errors.candidates(_MORE)
    plain = (errors.relative[tuple(errors.stand_out(candidates, _FEW))] > _PLAINLY).sum()
    bar = _MORE if plain > max(_MANY[0], _MANY[1] * listed.size) else _FEW
    for _ in range(_PASSES):
        found = errors.stand_out(candidates, bar)
        listed[tuple(found)] = True
        near = errors.without(found, bar)
        every = [np.ravel_multi_index(tuple(places), listed.shape) for places in (candidates, near)]
        candidates = np.stack(np.unravel_index(np.union1d(*every), listed.shape))
    return listed


def defects_of_dark(dark: RawFrame, noise: NoiseParameters) -> np.ndarray:
    """Hot sites of a frame taken with the lens cap on, and those that it lists: row and column of each, (n, 2).

    Args:
        dark: raw DN, best of the exposure time and ISO of the frames to be mended.
        noise: of the dark frame (b = 1), in DN of its sensor: `noise_of(dark)`.

    Raises:
        ValueError: the frame is not dark.
    """
    sites = listed_defects(dark)
    mean = float(dark.sensor.normalise(dark.mosaic)[torch.from_numpy(~sites)].mean())
    if mean > _DARKEST:
        raise ValueError(f"not dark ({100 * mean:.0f} % of white on average): take it with the lens cap on")
    errors = _Errors.of(mend(dark, sites), noise)
    candidates = errors.candidates(_FEW)
    while candidates.size:  # no light, no texture: what stands out is a defect
        hot = candidates[:, errors.relative[tuple(candidates)] > _FEW.far]
        sites[tuple(hot)] = True
        candidates = errors.without(hot, _FEW)
    return np.argwhere(sites)


@dataclass(frozen=True)
class _Errors:
    """What the sites are more than foretold, in deviations of the noise (its own and the prediction's).

    Attributes:
        relative: errors in deviations, (rows, columns).
        deviation: DN, (rows, columns).
        shade: the error at which a site has lost half its light, in deviations, negative, (rows, columns).
        influence: of a site on those around it: DN foretold less for a DN less of it, by kind of site, (kinds, 49).
    """

    relative: np.ndarray
    deviation: np.ndarray
    frame: RawFrame
    influence: np.ndarray

    @classmethod
    def of(cls, frame: RawFrame, noise: NoiseParameters) -> _Errors:
        """Errors of all sites, band by band: a convolution for each site of the tile."""
        cfa, (rows, columns) = frame.sensor.cfa, frame.shape
        period, unknown = cfa.period, np.zeros(frame.shape, bool)
        kernels = np.stack([kernel(cfa, kind, law(frame, unknown, kind)) for kind in range(period**2)])
        margin = -(-REACH // period) * period
        down, across = (_indices(size, period, margin) for size in frame.shape)
        weights = torch.zeros(period**2, 1, period + 2 * margin, period + 2 * margin)
        for kind, values in enumerate(kernels):
            row, column = (place + margin - REACH for place in divmod(kind, period))
            size = 2 * REACH + 1
            weights[kind, 0, row : row + size, column : column + size] = torch.from_numpy(values.reshape(size, size))
        spread = torch.from_numpy(1 + (kernels**2).sum(1)).float().reshape(1, -1, 1, 1)
        black = np.asarray(frame.sensor.black_level, np.float32).reshape(period, period)
        gain, read = float(noise.gain), float(noise.read_variance)
        relative, deviation = np.empty(frame.shape, np.float32), np.empty(frame.shape, np.float32)
        height = max(1, _BAND // (columns * period)) * period
        for top in range(0, rows, height):
            band = frame.mosaic[down[top : top + height + 2 * margin]][:, across].astype(np.float32)
            band -= np.tile(black, [size // period for size in band.shape])
            light = torch.from_numpy(band)[None, None]
            foretold = F.conv2d(light, weights, stride=period)
            own = F.pixel_unshuffle(light[..., margin:-margin, margin:-margin], period)
            sigma = foretold.clamp(min=0).mul_(gain).add_(read).mul_(spread).sqrt_()
            place = slice(top, min(rows, top + height))
            for whole, part in ((relative, (own - foretold).div_(sigma)), (deviation, sigma)):
                whole[place] = F.pixel_shuffle(part, period)[0, 0, : place.stop - top, :columns].numpy()
        return cls(relative, deviation, frame, _influence(frame, kernels))

    def candidates(self, bar: _Bar) -> np.ndarray:
        """Sites that stand out, and more than all adjacent ones unless plainly: rows and columns, (2, n)."""
        far = torch.from_numpy(self.relative).abs()
        largest = F.max_pool2d(far[None, None], 3, 1, 1)[0, 0]
        return torch.nonzero((far > bar.far) & ((far == largest) | (far > _BRIGHT))).T.numpy()

    def stand_out(self, places: np.ndarray, bar: _Bar) -> np.ndarray:
        """Which of some places are defects: rows and columns, (2, m)."""
        spread = np.maximum(self._spread()[tuple(places // _CELL)], 1)
        far = np.abs(self.relative[tuple(places)]) > bar.far * spread**bar.spread
        row, column = places = places[:, far]
        own = self.relative[row, column]
        error = own * self.deviation[row, column]
        down, across, inside = self._around(row, column)
        around = self.relative[down, across] + self._shares(row, column) * error[:, None] / self.deviation[down, across]
        around = np.where(inside & (FAR > 0), np.abs(around), 0)
        third = _TEXTURE * np.partition(around, -3, axis=1)[:, -3]
        errors = np.maximum(around[:, FAR == 1].max(axis=1, initial=0), third)
        alone = np.abs(own) > bar.errors * np.sqrt(np.maximum(errors**2 - _CHANCE**2, 0))
        light = self.frame.mosaic[row, column] - black_at(self.frame, row, column)
        dark = (own < 0) & (light < _SHADE * (light - error))
        paired = np.nonzero(~alone & ((own > _BRIGHT * spread[far] ** 2) | dark))[0]
        alone[paired] = self._one_of_two(row[paired], column[paired])
        return places[:, alone & ((own > 0) | dark)]

    def _spread(self) -> np.ndarray:
        """Root mean square of the errors about each cell, deviations."""
        squares = torch.from_numpy(self.relative).clamp(-_TAIL, _TAIL).square_()[None, None]
        cells = F.avg_pool2d(squares, _CELL, ceil_mode=True)
        return F.avg_pool2d(cells, 3, 1, 1, count_include_pad=False)[0, 0].sqrt().numpy()

    def _one_of_two(self, row: np.ndarray, column: np.ndarray) -> np.ndarray:
        """Whether at most one adjacent site has a share of what a place is off the median of its colour; bool, (n)."""
        cfa, alone = self.frame.sensor.cfa, np.zeros(len(row), bool)
        kinds, unknown = kinds_of(cfa, row, column), np.zeros(self.frame.shape, bool)
        for kind in np.unique(kinds):
            colours, of_kind = colours_around(cfa, int(kind)), np.nonzero(kinds == kind)[0]
            windows = windows_at(self.frame, unknown, row[of_kind], column[of_kind])
            for letter in "RGB":
                same = colours == letter
                windows[:, same] -= np.nanmedian(windows[:, same & (FAR > 0)], axis=1, keepdims=True)
            windows = np.nan_to_num(np.abs(windows))
            second = np.partition(windows[:, FAR == 1], -2, axis=1)[:, -2]
            alone[of_kind] = windows[:, FAR == 0][:, 0] > _PAIR * second
        return alone

    def without(self, places: np.ndarray, bar: _Bar) -> np.ndarray:
        """Take places to be what is foretold of them, in place; those around them that stand out now, (2, n)."""
        row, column = places
        error = self.relative[row, column] * self.deviation[row, column]
        down, across, inside = self._around(row, column)
        change = self._shares(row, column) * error[:, None] / self.deviation[down, across]
        np.add.at(self.relative, (down[inside], across[inside]), change[inside])
        self.relative[row, column] = 0
        far = inside & (np.abs(self.relative[down, across]) > bar.far)
        return np.unique(np.stack([down[far], across[far]]), axis=1)

    def _around(self, row: np.ndarray, column: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        down, across = row[:, None] + DOWN, column[:, None] + RIGHT
        rows, columns = self.relative.shape
        inside = (down >= 0) & (down < rows) & (across >= 0) & (across < columns)
        return down.clip(0, rows - 1), across.clip(0, columns - 1), inside

    def _shares(self, row: np.ndarray, column: np.ndarray) -> np.ndarray:
        return self.influence[kinds_of(self.frame.sensor.cfa, row, column)]


def _influence(frame: RawFrame, kernels: np.ndarray) -> np.ndarray:
    cfa = frame.sensor.cfa
    shares = np.zeros(kernels.shape, np.float32)
    for kind in range(len(kernels)):
        row, column = divmod(kind, cfa.period)
        shares[kind] = kernels[kinds_of(cfa, row + DOWN, column + RIGHT), np.arange(len(DOWN))[::-1]]
    return shares


def _indices(size: int, period: int, margin: int) -> np.ndarray:
    """Rows (or columns) of whole tiles and a margin around them: outside the frame, sites of the same kind inside."""
    place = np.arange(-margin, -(-size // period) * period + margin)
    inner = place + 2 * margin * ((place < 0).astype(int) - (place >= size))
    return np.where((inner >= 0) & (inner < size), inner, np.minimum(place % period, size - 1))

"""Mending: sites whose number is lost get the one that the sites around them foretell."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from exposurediffusion.analysis.neighbourhood import FAR, black_at, colours_around, kinds_of, windows_at
from exposurediffusion.physics.sensor import RawFrame

_SAMPLES = 1 << 13  # sites of each kind that a law is fitted to; places predicted at a time
_RIDGE = 1e-3  # of the mean square difference: where there is nothing to learn, the law is the mean of the colour


def mend(frame: RawFrame, sites: np.ndarray) -> RawFrame:
    """The same frame with other numbers at `sites`, foretold by the 7x7 sites around, of all colours.

    What is foretold is the mean of the same colour, plus a linear law of how far every site around lies from the mean
    of *its* colour, kept within what the colour has there. The law is fitted to the frame itself, one for each site
    of the tile, so that edges and texture which the colours share go on. Clusters are filled from their rims.

    Args:
        frame: raw DN.
        sites: bool, (rows, columns): `find_defects(frame, noise)`.

    Returns:
        A frame of the same type (integers stay integers), with all else as it was. The given one is not changed.
    """
    row, column = np.nonzero(sites)
    if not len(row):
        return frame
    kinds, unknown = kinds_of(frame.sensor.cfa, row, column), sites.copy()
    laws = {int(kind): _law(frame, sites, int(kind)) for kind in np.unique(kinds)}
    whole = np.issubdtype(frame.mosaic.dtype, np.integer)
    mended = replace(frame, mosaic=frame.mosaic.copy())
    while len(row):
        values = np.full(len(row), np.nan, np.float32)
        for kind, law in laws.items():
            of_kind = np.nonzero(kinds == kind)[0]
            for part in np.split(of_kind, range(_SAMPLES, len(of_kind), _SAMPLES)):
                values[part] = _foretold(windows_at(mended, unknown, row[part], column[part]), frame, kind, law)
        known = np.isfinite(values)
        if not known.any():  # no site of these colours is left within reach: no light is the best guess
            values, known = np.zeros_like(values), ~known
        values = (values + black_at(frame, row, column))[known]
        if whole:
            values = values.round().clip(0, np.iinfo(frame.mosaic.dtype).max)
        mended.mosaic[row[known], column[known]] = values
        unknown[row[known], column[known]] = False
        row, column, kinds = row[~known], column[~known], kinds[~known]
    return mended


def _law(frame: RawFrame, unknown: np.ndarray, kind: int) -> np.ndarray:
    """Weights of the differences (49), by ridge regression over evenly spread sites of one kind."""
    period = frame.sensor.cfa.period
    first = divmod(kind, period)
    down, across = (-(-(size - start) // period) for size, start in zip(frame.shape, first, strict=True))
    chosen = np.arange(0, down * across, max(1, down * across // _SAMPLES))
    row, column = chosen // across * period + first[0], chosen % across * period + first[1]
    windows = windows_at(frame, unknown, row, column)
    mean, differences = _differences(windows, colours_around(frame.sensor.cfa, kind))
    target = windows[:, FAR == 0][:, 0] - mean
    usable = np.isfinite(target)
    differences, target = differences[usable].astype(float), target[usable].astype(float)
    moments = differences.T @ differences
    ridge = _RIDGE * np.trace(moments) / len(moments) + np.finfo(float).tiny
    return np.linalg.solve(moments + ridge * np.eye(len(moments)), differences.T @ target)


def _foretold(windows: np.ndarray, frame: RawFrame, kind: int, law: np.ndarray) -> np.ndarray:
    """DN above black at the centre of windows around sites of one kind, (n); NaN where none of its colour is known."""
    colours = colours_around(frame.sensor.cfa, kind)
    mean, differences = _differences(windows, colours)
    same = windows[:, (colours == frame.sensor.cfa.pattern()[kind]) & (FAR > 0)]
    return (mean + differences @ law).clip(np.fmin.reduce(same, axis=1), np.fmax.reduce(same, axis=1))


def _differences(windows: np.ndarray, colours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the centre's colour around it (n); each site less the mean of its colour (n, 49), 0 where unknown."""
    own, differences = np.empty(len(windows)), np.zeros_like(windows)
    for letter in "RGB":
        same = (colours == letter) & (FAR > 0)
        known = np.isfinite(windows[:, same])
        with np.errstate(invalid="ignore"):  # 0 / 0: none known
            mean = np.where(known, windows[:, same], 0).sum(axis=1) / known.sum(axis=1)
        differences[:, same] = np.where(known, windows[:, same] - mean[:, None], 0)
        if letter == colours[FAR == 0]:
            own = mean
    return own, differences

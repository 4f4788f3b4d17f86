"""What the sites around foretell of a site: a linear law of all colours, fitted to the frame itself."""

from __future__ import annotations

import numpy as np

from exposurediffusion.analysis.neighbourhood import FAR, colours_around, kinds_of, windows_at
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.physics.sensor import RawFrame

_SAMPLES = 1 << 13  # sites of each kind that a law is fitted to
_ENOUGH = 1 << 11  # of them where it is only looked who stands out: 36 kinds of an X-Trans frame take their time
_PART = 1 << 13  # places worked on at a time
_RIDGE = 1e-3  # of the mean square difference: where there is nothing to learn, the law is the mean of the colour


def fit_law(frame: RawFrame, unknown: np.ndarray, kind: int, samples: int = _SAMPLES) -> np.ndarray:
    """Weights of the differences of a window (49), by ridge regression over evenly spread sites of one kind."""
    period = frame.sensor.cfa.period
    first = divmod(kind, period)
    down, across = (-(-(size - start) // period) for size, start in zip(frame.shape, first, strict=True))
    chosen = np.arange(0, down * across, max(1, down * across // samples))
    row, column = chosen // across * period + first[0], chosen % across * period + first[1]
    windows = windows_at(frame, unknown, row, column)
    mean, differences = _differences(windows, colours_around(frame.sensor.cfa, kind))
    target = windows[:, FAR == 0][:, 0] - mean
    usable = np.isfinite(target)
    differences, target = differences[usable].astype(float), target[usable].astype(float)
    moments = differences.T @ differences
    ridge = _RIDGE * np.trace(moments) / len(moments) + np.finfo(float).tiny
    return np.linalg.solve(moments + ridge * np.eye(len(moments)), differences.T @ target)


def foretold(windows: np.ndarray, cfa: CFA, kind: int, law: np.ndarray) -> np.ndarray:
    """DN above black at the centre of windows around sites of one kind, (n); NaN where none of its colour is known.

    The mean of the same colour, plus the law of how far every site around lies from the mean of *its* colour, kept
    within what the colour has there.
    """
    colours = colours_around(cfa, kind)
    mean, differences = _differences(windows, colours)
    same = windows[:, (colours == cfa.pattern()[kind]) & (FAR > 0)]
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


def foretold_at(frame: RawFrame, unknown: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """DN above black that the sites around places foretell, (n) float32; NaN where none of the colour is known."""
    values, kinds = np.empty(len(row), np.float32), kinds_of(frame.sensor.cfa, row, column)
    for kind in np.unique(kinds):
        of_kind, law = np.nonzero(kinds == kind)[0], fit_law(frame, unknown, int(kind), _ENOUGH)
        for part in np.split(of_kind, range(_PART, len(of_kind), _PART)):
            values[part] = foretold(
                windows_at(frame, unknown, row[part], column[part]), frame.sensor.cfa, int(kind), law
            )
    return values

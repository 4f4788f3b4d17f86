"""The light around sites of a mosaic, whatever its colour filter array: windows of 7x7 sites."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.physics.sensor import RawFrame

REACH = 3  # sites to each side: in every array, 7x7 sites have eight neighbours of each colour
SIDE = 2 * REACH + 1

DOWN, RIGHT = (offset.ravel() for offset in np.mgrid[-REACH : REACH + 1, -REACH : REACH + 1])
"""Row and column of each site of a window less those of its centre, (49)."""
FAR = np.maximum(abs(DOWN), abs(RIGHT))
"""0: the centre, 1: adjacent to it (eight sites), 2 and 3: further out."""


def kinds_of(cfa: CFA, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Which site of the frame's first tile each place is like, in reading order."""
    return row % cfa.period * cfa.period + column % cfa.period


def colours_around(cfa: CFA, kind: int) -> np.ndarray:
    """Colour letters of the window around a site of the tile, (49)."""
    row, column = divmod(kind, cfa.period)
    return np.array(list(cfa.pattern()))[kinds_of(cfa, row + DOWN, column + RIGHT)]


@cache
def nearest_of_colour(cfa: CFA, kind: int) -> tuple[tuple[int, int], ...]:
    """Row and column offsets of the nearest neighbours of the same colour: eight, or as many as are no further."""
    distance = np.where(colours_around(cfa, kind) == cfa.pattern()[kind], np.hypot(DOWN, RIGHT), np.inf)
    near = (distance <= np.sort(distance)[8]) & (FAR > 0)
    return tuple(zip(DOWN[near].tolist(), RIGHT[near].tolist(), strict=True))


def black_at(frame: RawFrame, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Black level of each place, DN."""
    return np.asarray(frame.sensor.black_level, np.float32)[kinds_of(frame.sensor.cfa, row, column)]


def windows_at(frame: RawFrame, unknown: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """The window around each of some places of one kind: DN above black, (n, 49) float32.

    NaN stands for what is `unknown` or outside the frame.
    """
    light = np.empty((len(row), SIDE**2), np.float32)
    inner = np.minimum(row, frame.shape[0] - 1 - row) >= REACH
    inner &= np.minimum(column, frame.shape[1] - 1 - column) >= REACH
    if inner.any():
        first = row[inner] - REACH, column[inner] - REACH
        values, hidden = (sliding_window_view(x, (SIDE, SIDE))[first] for x in (frame.mosaic, unknown))
        light[inner] = np.where(hidden, np.float32(np.nan), values).reshape(-1, SIDE**2)
    down, right = row[~inner, None] + DOWN, column[~inner, None] + RIGHT
    places = down.clip(0, frame.shape[0] - 1), right.clip(0, frame.shape[1] - 1)
    outside = (places[0] != down) | (places[1] != right)
    light[~inner] = np.where(outside | unknown[places], np.float32(np.nan), frame.mosaic[places])
    return light - black_at(frame, row[:1, None] + DOWN, column[:1, None] + RIGHT)

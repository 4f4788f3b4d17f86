"""Mending: sites whose number is lost get the one that the sites around them foretell."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from exposurediffusion.analysis.foretelling import fit_law, foretold
from exposurediffusion.analysis.neighbourhood import black_at, kinds_of, windows_at
from exposurediffusion.physics.sensor import RawFrame

_PART = 1 << 13  # places worked on at a time


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
    laws = {int(kind): fit_law(frame, sites, int(kind)) for kind in np.unique(kinds)}
    whole = np.issubdtype(frame.mosaic.dtype, np.integer)
    mended = replace(frame, mosaic=frame.mosaic.copy())
    while len(row):
        values = np.full(len(row), np.nan, np.float32)
        for kind, law in laws.items():
            of_kind = np.nonzero(kinds == kind)[0]
            for part in np.split(of_kind, range(_PART, len(of_kind), _PART)):
                values[part] = foretold(
                    windows_at(mended, unknown, row[part], column[part]), frame.sensor.cfa, kind, law
                )
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

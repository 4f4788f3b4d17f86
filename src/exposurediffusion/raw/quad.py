"""Whether a mosaic that claims to be Bayer is a quad-Bayer one, whose 2x2 blocks have one colour each."""

from __future__ import annotations

import numpy as np

_DECISIVE, _IN_A_QUARTER = 200.0, 25.0  # of F with 3 and 12 degrees of freedom; the most in 5,000 frames of noise: 28
_GREENS = 0.25  # the greens of a quad may differ by this part of the colours' whole range


def is_quad_bayer(mosaic: np.ndarray) -> bool:
    """Whether the sites' means show that each 2x2 block has one colour, and each 4x4 cell the colours of a Bayer cell.

    The frame is averaged over all its 4x4 cells, so that sixteen means remain whatever the scene: a Bayer frame's come
    back after two sites, a quad-Bayer frame's in blocks, wherever in the cell these begin. Analysis of variance shows
    the two apart by orders of magnitude; noise alone, or a grey scene under grey light, says neither. Three of the
    frame's quarters must agree, so that no single object in a dark frame is taken for a pattern.

    Args:
        mosaic: (rows, columns), DN, labelled as Bayer.
    """
    rows, columns = (n // 8 for n in mosaic.shape)
    if min(rows, columns) < 4:
        return False
    cells = mosaic[: 8 * rows, : 8 * columns].reshape(2, rows, 4, 2, columns, 4).mean((1, 4), dtype=np.float64)
    quarters = cells.transpose(0, 2, 1, 3).reshape(4, 4, 4)
    for shift in ((0, 0), (0, 1), (1, 0), (1, 1)):
        found, greens_agree = _blocks(quarters.mean(0), shift)
        if found > _DECISIVE and greens_agree:
            return sum(bool(_blocks(quarter, shift)[0] > _IN_A_QUARTER) for quarter in quarters) >= 3
    return False


def _blocks(cells: np.ndarray, shift: tuple[int, int]) -> tuple[float, bool]:
    """F statistic of 4x4 means for 2x2 blocks from `shift` on; whether one diagonal of these agrees, as greens do."""
    blocks = np.roll(cells, (-shift[0], -shift[1]), (0, 1)).reshape(2, 2, 2, 2)
    colours = blocks.mean((1, 3))
    between = 4 * ((colours - colours.mean()) ** 2).sum() / 3
    within = ((blocks - colours[:, None, :, None]) ** 2).sum() / 12
    (a, b), (c, d) = colours
    greens_agree = min(abs(a - d), abs(b - c)) <= _GREENS * np.ptp(colours)
    return between / max(within, 1e-9 * between, np.finfo(float).tiny), bool(greens_agree)

"""What rounding may do to sampled exposures: the same run in other tiles, on other processors, by other kernels.

Sums that are made in another order differ in their last digits. A Poisson count is a step function of its rate, so that
a rate beside a step, changed in its last digits, may count one electron more or less. That happens at a handful of
sites, each of which then differs by what one electron makes; everything else is equal to rounding. A larger tolerance
for all would hide a fault that is everywhere; this finds it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

ROUNDING = 1e-6  # of images in [0, 1] after three evaluations of a small network: ten times what is measured
FEW = 10  # sites of some ten thousand whose counts may flip: none to one is measured


def flipped(first: ArrayLike, second: ArrayLike, electron: float) -> int:
    """The number of sites of sampled images at which a count fell on the other side of a step.

    Args:
        first: an image, 1 is white.
        second: of the same shape.
        electron: by how much one electron changes the images.

    Raises:
        AssertionError: a site differs by more than an electron makes, which rounding does not do.
    """
    difference = np.abs(np.asarray(first, dtype=float) - np.asarray(second, dtype=float))
    assert difference.max() <= ROUNDING + electron, f"{difference.max():.3g} at one site: no rounding does that"
    return int((difference > ROUNDING).sum())

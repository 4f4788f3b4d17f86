"""Random windows of packed frames, mirrored and turned so that the colour filter array stays what it was.

Mirroring packed planes alone would move the colours' sites against each other. Here the mosaic is mirrored or turned,
and cropped where the array begins as before: for every array one of its sites is such a place.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from exposurediffusion.physics.dark_shading import Window
from exposurediffusion.physics.mosaic import CFA, pack, unpack

_ALL, _UPRIGHT = tuple(range(8)), (0, 2, 4, 6)


@dataclass(frozen=True)
class Cut:
    """A patch of a frame.

    Attributes:
        window: what to read of the frame; whole tiles.
        turn: 0 to 7: quarter turns, and from 4 on mirrored after turning.
        size: side of the patch, packed pixels.
    """

    window: Window
    turn: int
    size: int

    def apply(self, planes: Float[Tensor, "planes h w"], cfa: CFA) -> Float[Tensor, "planes size size"]:
        """The patch, from the planes of the window; its array is the frame's."""
        if self.turn == 0:
            return planes[:, : self.size, : self.size].contiguous()
        array = cfa.tile  # planes begin with a whole tile, wherever the frame does
        top, left = _begin(array.name, self.turn)
        sites = self.size * cfa.stride
        mosaic = _turned(unpack(planes, array), self.turn)
        return pack(mosaic[top : top + sites, left : left + sites], array)


def draw_cut(shape: tuple[int, int], size: int, cfa: CFA, generator: torch.Generator, upright: bool = False) -> Cut:
    """A random window of a frame, in a random position of eight, or of the four that leave rows rows.

    Args:
        shape: rows and columns of the mosaic in sites.
        size: side of the patch, packed pixels.
        cfa: array of the frame.
        generator: of the draws.
        upright: mirrored only: a capture's row noise stays in rows.

    Raises:
        ValueError: the frame is too small, or `size` is odd and the array X-Trans; the message does not name the frame.
    """
    k = cfa.period // cfa.stride
    if size % k:
        raise ValueError(f"patches of X-Trans frames need an even number of packed pixels, not {size}")
    whole = [_tiles(length, start, cfa.period) for length, start in zip(shape, cfa.origin, strict=True)]
    tiles = size // k
    least = min(count for _, count in whole)
    if least < tiles:
        raise ValueError(f"{shape[1]}x{shape[0]} sites are too few for patches of {size} packed pixels")
    turns = _UPRIGHT if upright else _ALL
    if least == tiles:  # no room for another tile around it
        turns = tuple(turn for turn in turns if _begin(cfa.tile.name, turn) == (0, 0))
    u = torch.rand(3, generator=generator, dtype=torch.float64).tolist()
    turn = turns[int(u[0] * len(turns))]
    span = tiles + (_begin(cfa.tile.name, turn) != (0, 0))
    top, left = ((first + int(x * (count - span + 1))) * k for (first, count), x in zip(whole, u[1:], strict=True))
    return Cut((top, left, span * k, span * k), turn, size)


def largest_cut(shape: tuple[int, int], cfa: CFA) -> int:
    """Side in packed pixels of the largest patch that a frame of `shape` (rows, columns) sites holds."""
    _, _, down, across = whole_tiles(shape, cfa)
    return min(down, across)


def whole_tiles(shape: tuple[int, int], cfa: CFA) -> Window:
    """The part of a packed frame of `shape` (rows, columns) sites that `pack` has not completed."""
    k = cfa.period // cfa.stride
    (top, down), (left, across) = (_tiles(n, start, cfa.period) for n, start in zip(shape, cfa.origin, strict=True))
    return top * k, left * k, down * k, across * k


def _tiles(length: int, origin: int, period: int) -> tuple[int, int]:
    """First whole tile along an axis, and how many there are: `pack` completes the others by repeating sites."""
    first, end = -(-origin // period), (length + origin) // period
    return first, end - first


def _turned(mosaic: Tensor, turn: int) -> Tensor:
    mosaic = torch.rot90(mosaic, turn % 4, (-2, -1))
    return mosaic.flip(-1) if turn >= 4 else mosaic


@lru_cache
def _begin(array: str, turn: int) -> tuple[int, int]:
    """Where a turned frame of whole tiles first looks like the array: row and column inside the first tile."""
    cfa = CFA(array)
    letters = torch.as_tensor(["RGB".index(letter) for letter in cfa.pattern()]).reshape(cfa.period, cfa.period)
    turned = _turned(letters, turn).numpy()
    for row, column in np.ndindex(cfa.period, cfa.period):
        if np.array_equal(np.roll(turned, (-row, -column), (0, 1)), letters.numpy()):
            return row, column
    raise AssertionError(f"{array} is not symmetric under turn {turn}")  # both are

"""Colour filter arrays: one offset table, and everything that follows from it.

A *mosaic* is what a sensor delivers, one number per site. *Planes* are the same numbers sorted by colour, so that a
network sees a regular grid: 4 planes (R, G1, B, G2) of half the size for Bayer, 9 planes of a third of the size for
X-Trans. G1 is the green of the red rows; plane numbers of Bayer are LibRaw's colour indices.

A packed pixel is a part of the *tile*, RGGB or X-Trans, wherever the frame begins in it: the sites of its planes lie to
each other as networks learnt it, in every phase.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional as F

PHASES = {"RGGB": (0, 0), "GRBG": (0, 1), "GBRG": (1, 0), "BGGR": (1, 1)}
"""Row and column of the tile RGGB at which a Bayer array begins."""
# TABLE[name][plane, i, j] = (row, column) inside the repeating tile of sample (i, j) of that plane's cell.
# Bayer: R, G of R's row, B, G of B's row.
# X-Trans: planes 0..2 hold R, G, B of the tile's rows 0 and 3; 3 and 4 the remaining R and B; 5..8 the 2x2 greens.
TABLE: dict[str, np.ndarray] = {"RGGB": np.array([(0, 0), (0, 1), (1, 1), (1, 0)]).reshape(4, 1, 1, 2)}
TABLE["XTRANS"] = np.array(
    [
        [[(0, 0), (0, 4)], [(3, 1), (3, 3)]],
        [[(0, 2), (0, 5)], [(3, 2), (3, 5)]],
        [[(0, 1), (0, 3)], [(3, 0), (3, 4)]],
        [[(1, 2), (2, 5)], [(5, 2), (4, 5)]],
        [[(2, 2), (1, 5)], [(4, 2), (5, 5)]],
        [[(1, 0), (1, 3)], [(4, 0), (4, 3)]],
        [[(1, 1), (1, 4)], [(4, 1), (4, 4)]],
        [[(2, 0), (2, 3)], [(5, 0), (5, 3)]],
        [[(2, 1), (2, 4)], [(5, 1), (5, 4)]],
    ]
)
BAYER_COLOURS, XTRANS_COLOURS = "RGBG", "RGBRBGGGG"  # the colour of each plane


@dataclass(frozen=True)
class CFA:
    """A colour filter array: its repeating tile, and where a frame begins inside it.

    `name` is RGGB, BGGR, GRBG, GBRG or XTRANS. `origin` is the (row, column) of the tile, RGGB or X-Trans, at which the
    frame's first site lies. A Bayer array's follows from its name and need not be given.
    """

    name: str
    origin: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        if self.is_bayer and self.name not in PHASES:
            raise ValueError(f"unknown colour filter array {self.name!r}: one of {', '.join(PHASES)}, XTRANS")
        if self.is_bayer:
            if self.origin not in ((0, 0), PHASES[self.name]):
                raise ValueError(f"a Bayer array's phase is its name: {self.name} begins at {PHASES[self.name]}")
            object.__setattr__(self, "origin", PHASES[self.name])

    @property
    def tile(self) -> CFA:
        """The array of a frame that begins with the tile: RGGB, or X-Trans at (0, 0)."""
        return CFA("RGGB" if self.is_bayer else "XTRANS")

    @property
    def is_bayer(self) -> bool:
        """Whether the tile is 2x2."""
        return self.name != "XTRANS"

    @property
    def period(self) -> int:
        """Side of the repeating tile in sites: 2 or 6."""
        return 2 if self.is_bayer else 6

    @property
    def stride(self) -> int:
        """Sites per packed pixel along a side: 2 or 3."""
        return 2 if self.is_bayer else 3

    @property
    def colours(self) -> str:
        """The colour letter of each plane, e.g. RGBG."""
        return BAYER_COLOURS if self.is_bayer else XTRANS_COLOURS

    @property
    def planes(self) -> int:
        """Number of planes: 4 or 9."""
        return len(self.colours)

    @property
    def table(self) -> np.ndarray:
        """Offsets (planes, k, k, 2) into the tile; k = period / stride."""
        return TABLE[self.tile.name]

    def site_planes(self) -> np.ndarray:
        """The plane of each site of the *frame's* first tile, (period, period) integers."""
        tile = np.empty((self.period, self.period), dtype=int)
        for plane, offsets in enumerate(self.table.reshape(self.planes, -1, 2)):
            tile[offsets[:, 0], offsets[:, 1]] = plane
        return np.roll(tile, (-self.origin[0], -self.origin[1]), (0, 1))

    def pattern(self) -> str:
        """Colour letters of the frame's first tile in reading order, e.g. "GRBG" or 36 letters."""
        return "".join(self.colours[plane] for plane in self.site_planes().ravel())

    def shifted(self, rows: int, columns: int) -> CFA:
        """The array as seen by a frame that begins `rows` and `columns` further on."""
        return CFA.from_pattern(np.roll(list(map(list, _rows(self.pattern()))), (-rows, -columns), (0, 1)))

    @staticmethod
    def from_pattern(letters: Any) -> CFA:
        """Find the array whose first tile has these colour letters.

        Args:
            letters: 4 or 36 letters of R, G, B in reading order (a string or an array of letters).

        Raises:
            ValueError: no supported array looks like this (monochrome, four-colour, quad Bayer, ...).
        """
        wanted = "".join(np.asarray(list(letters) if isinstance(letters, str) else letters).ravel())
        if wanted in PHASES:
            return CFA(wanted)
        canonical = CFA("XTRANS")
        for row in range(6):
            for column in range(6):
                candidate = CFA("XTRANS", (row, column))
                if candidate.pattern() == wanted:
                    return candidate
        raise ValueError(
            f"colour filter pattern {wanted!r} is neither Bayer (RGGB, BGGR, GRBG, GBRG) "
            f"nor X-Trans ({canonical.pattern()} in any phase)"
        )


def _rows(pattern: str) -> list[str]:
    side = int(len(pattern) ** 0.5)
    return [pattern[i * side : (i + 1) * side] for i in range(side)]


def packed_shape(shape: tuple[int, int], cfa: CFA) -> tuple[int, int]:
    """Rows and columns of the planes of a mosaic of `shape` sites (partial tiles count whole)."""
    k = cfa.period // cfa.stride
    height, width = (-(-(n + o) // cfa.period) * k for n, o in zip(shape, cfa.origin, strict=True))
    return height, width


def pack(mosaic: Shaped[Tensor, "*b rows columns"], cfa: CFA) -> Shaped[Tensor, "*b planes h w"]:
    """Sort a mosaic into its colour planes.

    A frame that does not start or end on a tile is completed by values of the same colour (Bayer: by the row or column
    that a mirror shows); `unpack` takes the completion off again: `unpack(pack(x, cfa), cfa, x.shape[-2:]) == x` for
    every size >= one tile.

    Raises:
        ValueError: the mosaic is smaller than one tile.
    """
    rows, columns = mosaic.shape[-2:]
    period, k = cfa.period, cfa.period // cfa.stride
    if rows < period or columns < period:
        raise ValueError(f"a mosaic of {rows}x{columns} sites is smaller than one {period}x{period} tile")
    for axis, (size, origin) in enumerate(zip((rows, columns), cfa.origin, strict=True)):
        mosaic = _complete(mosaic, mosaic.ndim - 2 + axis, origin, -(size + origin) % period, period)
    height, width = mosaic.shape[-2] // period * k, mosaic.shape[-1] // period * k
    planes = mosaic.new_empty((*mosaic.shape[:-2], cfa.planes, height, width))
    for plane, i, j in np.ndindex(cfa.table.shape[:3]):
        y, x = cfa.table[plane, i, j]
        planes[..., plane, i::k, j::k] = mosaic[..., y::period, x::period]
    return planes


def _complete(x: Tensor, axis: int, before: int, after: int, period: int) -> Tensor:
    """Extend `axis` by whole-period repeats, so that every new site copies one of its own colour."""
    if before == 0 and after == 0:
        return x
    size = x.shape[axis]
    index = torch.arange(-before, size + after, device=x.device)
    index = torch.where(index < 0, index + period, index)
    index = torch.where(index >= size, index - period, index)
    return x.index_select(axis, index)


def unpack(
    planes: Shaped[Tensor, "*b planes h w"], cfa: CFA, shape: tuple[int, int] | None = None
) -> Shaped[Tensor, "*b rows columns"]:
    """Put colour planes back into a mosaic of `shape` sites. Inverse of `pack`.

    Args:
        planes: of a frame, its completion included.
        cfa: array of the frame.
        shape: rows and columns of the frame; None: all from the frame's first site to the last tile's end.

    Raises:
        ValueError: another number of planes than the array has, or too small for a frame of this shape.
    """
    period, k = cfa.period, cfa.period // cfa.stride
    if planes.shape[-3] != cfa.planes:
        raise ValueError(f"{cfa.name} has {cfa.planes} planes, not {planes.shape[-3]}")
    rows, columns = planes.shape[-2] // k * period, planes.shape[-1] // k * period
    mosaic = planes.new_empty((*planes.shape[:-3], rows, columns))
    for plane, i, j in np.ndindex(cfa.table.shape[:3]):
        y, x = cfa.table[plane, i, j]
        mosaic[..., y::period, x::period] = planes[..., plane, i::k, j::k]
    height, width = shape or (rows - cfa.origin[0], columns - cfa.origin[1])
    if height > rows - cfa.origin[0] or width > columns - cfa.origin[1]:
        size = "x".join(map(str, planes.shape[-2:]))
        raise ValueError(f"planes of {size} do not hold {height}x{width} sites of {cfa.name} at {cfa.origin}")
    return mosaic[..., cfa.origin[0] : cfa.origin[0] + height, cfa.origin[1] : cfa.origin[1] + width]


def pack_unmoved(mosaic: Shaped[Tensor, "*b rows columns"], cfa: CFA) -> Shaped[Tensor, "*b planes h w"]:
    """Sort each 2x2 cell by colour, cells counted from the frame's own first site: the packing of the published code.

    The same as `pack` for RGGB and X-Trans. In other phases the planes' sites lie mirrored to each other, which costs
    weights that were trained on RGGB 0.3 to 2.6 dB.
    """
    if not cfa.is_bayer:
        return pack(mosaic, cfa)
    for axis in (mosaic.ndim - 2, mosaic.ndim - 1):
        mosaic = _complete(mosaic, axis, 0, mosaic.shape[axis] % 2, 2)
    sites = np.argsort(cfa.site_planes(), axis=None)  # of R, G1, B, G2, in reading order
    return torch.stack([mosaic[..., site // 2 :: 2, site % 2 :: 2] for site in sites.tolist()], dim=-3)


def mosaic_from_rgb(rgb: Float[Tensor, "*b 3 rows columns"], cfa: CFA) -> Float[Tensor, "*b rows columns"]:
    """What a sensor with this array sees of a full-colour image: one channel per site."""
    rows, columns = rgb.shape[-2:]
    tile = torch.as_tensor(["RGB".index(letter) for letter in cfa.pattern()]).reshape(cfa.period, cfa.period)
    reps = (-(-rows // cfa.period), -(-columns // cfa.period))
    channel = tile.repeat(*reps)[:rows, :columns].to(rgb.device)
    return rgb.gather(-3, channel.expand(*rgb.shape[:-3], 1, rows, columns)).squeeze(-3)


def pad_planes(planes: Float[Tensor, "b c h w"], multiple: int) -> tuple[Float[Tensor, "b c h2 w2"], tuple[int, int]]:
    """Pad at the bottom and right by reflection (repetition where too small) to a multiple; also the original size."""
    height, width = planes.shape[-2:]
    right, bottom = -width % multiple, -height % multiple
    if right or bottom:
        mode = "reflect" if right < width and bottom < height else "replicate"
        planes = F.pad(planes, (0, right, 0, bottom), mode=mode)
    return planes, (height, width)

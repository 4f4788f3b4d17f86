"""Where the images of a batch look: squares of photographs, perspective views of panoramas, in all eight symmetries."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from exposurediffusion.data.pictures import Pictures
from exposurediffusion.data.synthesis import PANORAMA_FOCAL


@dataclass(frozen=True)
class Looks:
    """Where each image looks: a picture, a place in it, and one of the eight symmetries.

    Attributes:
        picture: number of the picture.
        place: a photograph's (top, left), a panorama's (tangent of pitch, yaw), from the least, 0, to the greatest, 1.
        mirror: 1, or -1 where (y, x) is mirrored.
        swap: whether rows and columns of the image are exchanged.
    """

    picture: Int64[Tensor, " b"]
    place: Float[Tensor, "b 2"]
    mirror: Float[Tensor, "b 2"]
    swap: Bool[Tensor, " b"]

    def __len__(self) -> int:
        return len(self.picture)

    def __getitem__(self, part: slice) -> Looks:
        return Looks(self.picture[part], self.place[part], self.mirror[part], self.swap[part])


Grid = tuple[slice, slice]
"""Which rows and columns of an image of `span` x `span` sites are wanted."""


def crops(pictures: Pictures, looks: Looks, span: int, grid: Grid) -> Int64[Tensor, "b rows columns"]:
    """The numbers of the pixels in squares of photographs, at the sites of a grid."""
    row, column = _crop_axes(pictures, looks, span)
    row, column = row.long() * pictures.columns[looks.picture, None], column.long()
    along = torch.where(looks.swap[:, None], column, row)[:, grid[0], None]
    across = torch.where(looks.swap[:, None], row, column)[:, None, grid[1]]
    return pictures.first[looks.picture, None, None] + along + across


def views(
    pictures: Pictures, looks: Looks, span: int, grid: Grid
) -> tuple[Float[Tensor, "b rows columns"], Float[Tensor, "b rows columns"]]:
    """Row and column, in pixels, of each ray of perspective views of panoramas; of photographs: those of `crops`.

    The views are those of `data.synthesis.Panorama.view`, with any yaw, and pitches mostly near the horizon.
    """
    rows, columns, panorama = (
        each[looks.picture, None, None] for each in (pictures.rows, pictures.columns, pictures.panorama)
    )
    tilt, turn = (2 * looks.place.T - 1)[..., None, None].unbind()
    pitch, yaw = torch.atan(1.2 * tilt), pi * turn
    y, x = (axis / (PANORAMA_FOCAL * columns) for axis in _spread(*_axes(looks, span), looks.swap, grid))
    up, forward = pitch.sin() - y * pitch.cos(), pitch.cos() + y * pitch.sin()
    longitude, latitude = torch.atan2(x, forward) + yaw, torch.atan2(up, torch.hypot(x, forward))
    row = ((0.5 - latitude / pi) * rows - 0.5).clamp(min=0).minimum(rows - 1)
    column = torch.remainder(longitude / (2 * pi) + 0.5, 1) * columns - 0.5
    flat_row, flat_column = _spread(*_crop_axes(pictures, looks, span), looks.swap, grid)
    return torch.where(panorama, row, flat_row), torch.where(panorama, column, flat_column)


def _axes(looks: Looks, span: int) -> tuple[Float[Tensor, "b span"], Float[Tensor, "b span"]]:
    """How far down, and how far right of the centre in the picture each row and column of the image lies."""
    axis = torch.arange(span, device=looks.mirror.device) - (span - 1) / 2
    down, right = looks.mirror.T[..., None] * axis
    return down, right


def _crop_axes(pictures: Pictures, looks: Looks, span: int) -> tuple[Float[Tensor, "b span"], Float[Tensor, "b span"]]:
    """Rows and columns of a photograph's pixels; beyond its edges, it is mirrored."""
    found = []
    for size, place, axis in zip(
        (pictures.rows, pictures.columns), looks.place.T[..., None], _axes(looks, span), strict=True
    ):
        side = size[looks.picture, None]
        free = (side - span).clamp(min=0)
        start = (place * (free + 1)).floor().minimum(free)
        beyond = torch.remainder(start + (span - 1) / 2 + axis, 2 * side)
        found.append(torch.minimum(beyond, 2 * side - 1 - beyond))
    return found[0], found[1]


def _spread(
    down: Float[Tensor, "b span"], right: Float[Tensor, "b span"], swap: Bool[Tensor, " b"], grid: Grid
) -> tuple[Float[Tensor, "b rows columns"], Float[Tensor, "b rows columns"]]:
    """What depends on the picture's row, and on its column, at the sites of a grid."""
    swap = swap[:, None, None]
    y = torch.where(swap, down[:, None, grid[1]], down[:, grid[0], None])
    x = torch.where(swap, right[:, grid[0], None], right[:, None, grid[1]])
    return y, x

"""Where the images of a batch look: squares of photographs, perspective views of panoramas, in all eight symmetries."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from math import pi

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from exposurediffusion.data.pictures import Pictures
from exposurediffusion.data.synthesis import PANORAMA_FOCAL


@dataclass(frozen=True)
class Looks:
    """Where images look: a picture, a place in it, one of the eight symmetries, and which samples are taken.

    Attributes:
        picture: number of the picture.
        place: a photograph's (top, left), a panorama's (tangent of pitch, yaw), from the least, 0, to the greatest, 1.
        mirror: 1, or -1 where (y, x) is mirrored.
        swap: 1 where rows and columns of the image are exchanged, else 0.
        step: pixels from one site to the next.
        start: (row, column) of the first site's pixel in an image of `step` times as many pixels a side.
    """

    picture: Int64[Tensor, " b"]
    place: Float[Tensor, "b 2"]
    mirror: Float[Tensor, "b 2"]
    swap: Float[Tensor, " b"]
    step: Int64[Tensor, " b"]
    start: Int64[Tensor, "b 2"]

    def __len__(self) -> int:
        return len(self.picture)

    def __getitem__(self, which: slice | Int64[Tensor, " n"]) -> Looks:
        return Looks(*(getattr(self, field.name)[which] for field in fields(self)))

    def halved(self, count: int) -> tuple[Looks, Int64[Tensor, " n"]]:
        """The first `count` at half the scale: four looks each, at the corners of squares of 2x2 pixels.

        Returns:
            The first corners of these images, their second, third and fourth corners, the other images; and the number
            of each one's image.
        """
        number = torch.arange(len(self) + 3 * count, device=self.picture.device)
        corner = number // max(count, 1)
        fine = number < 4 * count
        image = torch.where(fine, number % max(count, 1), number - 3 * count)
        start = torch.stack([corner // 2, corner % 2], dim=1) * fine[:, None]
        return replace(self[image], step=1 + fine.long(), start=start), image


def crops(pictures: Pictures, looks: Looks, side: int) -> Int64[Tensor, "b side side"]:
    """The numbers of the pixels that images of `side` x `side` sites see of photographs."""
    row, column = _crop_axes(pictures, looks, side)
    row, column = row.long() * pictures.columns[looks.picture, None], column.long()
    swap = looks.swap[:, None] > 0
    along, across = torch.where(swap, column, row), torch.where(swap, row, column)
    return (pictures.first[looks.picture, None] + along)[:, :, None] + across[:, None, :]


def views(
    pictures: Pictures, looks: Looks, side: int
) -> tuple[Float[Tensor, "b side side"], Float[Tensor, "b side side"]]:
    """Row and column, in pixels, of each ray of perspective views of panoramas; of photographs: those of `crops`.

    The views are those of `data.synthesis.Panorama.view`, with any yaw, and pitches mostly near the horizon. Columns
    lie between 0 and the number of columns, rows between the first and the last.
    """
    rows, columns, panorama = (
        each[looks.picture, None, None] for each in (pictures.rows, pictures.columns, pictures.panorama)
    )
    tilt, turn = (2 * looks.place.T - 1)[..., None, None].unbind()
    pitch, yaw = torch.atan(1.2 * tilt), pi * turn
    y, x = (axis / (PANORAMA_FOCAL * columns) for axis in _spread(*_axes(looks, side), looks.swap))
    up, forward = pitch.sin() - y * pitch.cos(), pitch.cos() + y * pitch.sin()
    longitude, latitude = torch.atan2(x, forward) + yaw, torch.atan2(up, torch.hypot(x, forward))
    row = ((0.5 - latitude / pi) * rows - 0.5).clamp(min=0).minimum(rows - 1)
    column = torch.remainder(longitude / (2 * pi) + (0.5 - 0.5 / columns), 1) * columns
    flat_row, flat_column = _spread(*_crop_axes(pictures, looks, side), looks.swap)
    return torch.lerp(flat_row, row, panorama.float()), torch.lerp(flat_column, column, panorama.float())


def _axes(looks: Looks, side: int) -> tuple[Float[Tensor, "b side"], Float[Tensor, "b side"]]:
    """How far, in pixels, the image's rows and columns lie below and right of its centre in the picture."""
    step, site = looks.step[:, None], torch.arange(side, device=looks.step.device)
    down, right = (
        mirror[:, None] * (step * site + start[:, None] - (step * side - 1) / 2)
        for mirror, start in zip(looks.mirror.T, looks.start.T, strict=True)
    )
    return down, right


def _crop_axes(pictures: Pictures, looks: Looks, side: int) -> tuple[Float[Tensor, "b side"], Float[Tensor, "b side"]]:
    """Rows and columns of a photograph's pixels; beyond its edges, it is mirrored."""
    found, span = [], looks.step[:, None] * side
    for sizes, place, axis in zip(
        (pictures.rows, pictures.columns), looks.place.T[..., None], _axes(looks, side), strict=True
    ):
        size = sizes[looks.picture, None]
        free = (size - span).clamp(min=0)
        first = (place * (free + 1)).floor().minimum(free)
        pixel = torch.remainder(first + (span - 1) / 2 + axis, 2 * size)
        found.append(torch.minimum(pixel, 2 * size - 1 - pixel))
    return found[0], found[1]


def _spread(
    down: Float[Tensor, "b side"], right: Float[Tensor, "b side"], swap: Float[Tensor, " b"]
) -> tuple[Float[Tensor, "b side side"], Float[Tensor, "b side side"]]:
    """What depends on the picture's row, and on its column, at each site."""
    swap = swap[:, None, None]
    y = torch.lerp(down[:, :, None], down[:, None, :], swap)
    x = torch.lerp(right[:, None, :], right[:, :, None], swap)
    return y, x

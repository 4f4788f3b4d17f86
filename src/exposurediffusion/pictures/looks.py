"""Where the images of a batch look: squares of photographs, perspective views of panoramas, in all eight symmetries."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import lru_cache
from math import pi

import torch
from jaxtyping import Float, Int32, Int64
from torch import Tensor

from exposurediffusion.pictures.prepared import Pictures
from exposurediffusion.simulation.light import PANORAMA_FOCAL


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
        image, step, start = _corners(len(self), count, self.picture.device)
        return replace(self[image], step=step, start=start), image


@lru_cache(maxsize=16)
def _corners(
    images: int, halved: int, device: torch.device
) -> tuple[Int64[Tensor, " n"], Int64[Tensor, " n"], Int64[Tensor, "n 2"]]:
    """Image, step and start of each look; kept on the device, since only their numbers change."""
    image = torch.cat([torch.arange(halved).repeat(4), torch.arange(halved, images)])
    corner = torch.cat([torch.arange(4).repeat_interleave(halved), torch.zeros(images - halved, dtype=torch.long)])
    step = 1 + (torch.arange(len(image)) < 4 * halved).long()
    start = torch.stack([corner // 2, corner % 2], dim=1)
    return image.to(device), step.to(device), start.to(device)


def crops(pictures: Pictures, looks: Looks, side: int) -> Int32[Tensor, "b side side"]:
    """The numbers of the pixels that images of `side` x `side` sites see of photographs."""
    row, column = _crop_axes(pictures, looks, _axes(looks, side)).int()
    first, columns = (each[looks.picture, None].int() for each in (pictures.first, pictures.columns))
    swap, row = looks.swap[:, None] > 0, row * columns
    along, across = torch.where(swap, column, row), torch.where(swap, row, column)
    return (first + along)[:, :, None] + across[:, None, :]


def views(
    pictures: Pictures, looks: Looks, side: int
) -> tuple[Float[Tensor, "b side side"], Float[Tensor, "b side side"]]:
    """Row and column, in pixels, of each ray of perspective views of panoramas; of photographs: those of `crops`.

    The views are those of `simulation.light.Panorama.view`, with any yaw, and pitches mostly near the horizon. Columns
    lie between 0 and the number of columns, rows between the first and the last.
    """
    rows, columns, panorama = (
        each[looks.picture, None, None].float() for each in (pictures.rows, pictures.columns, pictures.panorama)
    )
    tilt, turn = looks.place.T[..., None, None].unbind()
    pitch, axes = torch.atan(2.4 * tilt - 1.2), _axes(looks, side)
    sin, cos = pitch.sin(), pitch.cos()
    y, x = _spread(axes / (PANORAMA_FOCAL * columns[..., 0]), looks.swap)
    up, forward = sin - y * cos, cos + y * sin
    longitude, latitude = torch.atan2(x, forward), torch.atan2(up, torch.hypot(x, forward))
    row = ((rows - 1) / 2 - latitude * (rows / pi)).clamp(min=0).minimum(rows - 1)
    column = torch.remainder(longitude / (2 * pi) + (turn - 0.5 / columns), 1) * columns  # yaw: 2 pi turn - pi
    flat_row, flat_column = _spread(_crop_axes(pictures, looks, axes), looks.swap)
    return torch.lerp(flat_row, row, panorama), torch.lerp(flat_column, column, panorama)


def _axes(looks: Looks, side: int) -> Float[Tensor, "2 b side"]:
    """How far, in pixels, the image's rows and columns lie below and right of its centre in the picture."""
    step, site = looks.step[:, None], torch.arange(side, device=looks.step.device)
    return looks.mirror.T[..., None] * (step * (site - (side - 1) / 2) + looks.start.T[..., None] - (step - 1) / 2)


def _crop_axes(pictures: Pictures, looks: Looks, axes: Float[Tensor, "2 b side"]) -> Float[Tensor, "2 b side"]:
    """Rows and columns of a photograph's pixels; beyond its edges, it is mirrored."""
    size = torch.stack([pictures.rows, pictures.columns])[:, looks.picture, None]
    span = axes.shape[-1] * looks.step[:, None]
    free = (size - span).clamp(min=0)
    first = (looks.place.T[..., None] * (free + 1)).floor().minimum(free)
    pixel = torch.remainder(first + (span - 1) / 2 + axes, 2 * size)
    return torch.minimum(pixel, 2 * size - 1 - pixel)


def _spread(axes: Float[Tensor, "2 b side"], swap: Float[Tensor, " b"]) -> tuple[Tensor, Tensor]:
    """What depends on the picture's row, and on its column, at each site: two times (b, side, side)."""
    (down, right), swap = axes, swap[:, None, None]
    y = torch.lerp(down[:, :, None], down[:, None, :], swap)
    x = torch.lerp(right[:, None, :], right[:, :, None], swap)
    return y, x

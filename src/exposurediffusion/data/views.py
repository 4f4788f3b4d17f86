"""Clean light for training, a whole batch at a time: views of panoramas and crops of photographs, as cameras see them.

All is done by operations on whole tensors on the pictures' device, and nothing is read back, so that a graphics card
never waits. The light is sampled in the order of the planes, so that only a site's own colour is ever computed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil, log

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from exposurediffusion.data.colours import draw_matrices, of_planes, paint
from exposurediffusion.data.looks import Looks, crops, views
from exposurediffusion.data.pictures import Pictures
from exposurediffusion.data.synthesis import HIGHLIGHT, gain_for
from exposurediffusion.physics.mosaic import CFA, pack

HALVED = 3  # one image in so many is at half the scale


@dataclass(frozen=True)
class CleanViews:
    """Clean training light from pictures.

    Attributes:
        pictures: panoramas and photographs, at least one.
        cfa: colour filter array; patches begin with its tile.
        level: range of the mean level of the brightest colour (log-uniform), highlights counted as white.
    """

    pictures: Pictures
    cfa: CFA
    level: tuple[float, float] = (0.01, 0.4)

    @property
    def planes(self) -> int:
        """Colour planes of an image."""
        return self.cfa.planes

    @property
    def device(self) -> torch.device:
        """Where the pictures are and batches are made."""
        return self.pictures.pixels.device

    def to(self, device: torch.device | str) -> CleanViews:
        """The same on another device."""
        return replace(self, pictures=self.pictures.to(device))

    def batch(self, count: int, size: int, generator: torch.Generator) -> Float[Tensor, "b planes size size"]:
        """`count` images, `size` packed pixels a side; values above 1 are highlights.

        Every picture is equally likely. How many images may be of panoramas (the first ones), and which of these and of
        the others are at half the scale, depends on `count` alone; all else is drawn for each image.

        Args:
            count: number of images.
            size: side in packed pixels.
            generator: on the pictures' device.
        """
        wide, looks = self._draw(count, generator)
        colours = of_planes(draw_matrices(count, generator), self.cfa)
        parts = []
        for group, may_be_wide in ((slice(wide), True), (slice(wide, count), False)):
            looks_, colours_ = looks[group], colours[group]
            halved = len(looks_) // HALVED
            parts.append(self.light(looks_[:halved], colours_[:halved], size, may_be_wide, density=2))
            parts.append(self.light(looks_[halved:], colours_[halved:], size, may_be_wide, density=1))
        light = paint(torch.cat(parts).clamp(min=0), self.cfa, generator)
        u = torch.rand(count, generator=generator, device=generator.device)
        level = torch.exp(log(self.level[0]) + log(self.level[1] / self.level[0]) * u)
        return (light * gain_for(light.flatten(-2), level)[:, None, None, None]).clamp(max=HIGHLIGHT)

    def light(
        self, looks: Looks, colours: Float[Tensor, "b planes 3"], size: int, wide: bool, density: int
    ) -> Float[Tensor, "b planes size size"]:
        """What the sites of all planes see of the pictures.

        Args:
            looks: where.
            colours: how much of linear red, green and blue each plane sees.
            size: side in packed pixels.
            wide: whether some may be panoramas; photographs alone take a quarter of the time.
            density: samples per site along a side, whose mean is taken; the scale is smaller by as much.
        """
        span, look = size * self.cfa.stride * density, self._look if wide else self._cut
        grids = [(slice(i, None, density), slice(j, None, density)) for i in range(density) for j in range(density)]
        total = look(looks, colours, span, grids[0])
        for grid in grids[1:]:
            total = total + look(looks, colours, span, grid)
        return total / len(grids)

    def _cut(self, looks: Looks, colours: Tensor, span: int, grid: tuple[slice, slice]) -> Tensor:
        """One sample a site of photographs."""
        return self._take(pack(crops(self.pictures, looks, span, grid), self.cfa.tile), colours)

    def _look(self, looks: Looks, colours: Tensor, span: int, grid: tuple[slice, slice]) -> Tensor:
        """One sample a site of panoramas or photographs, interpolated."""
        y, x = (pack(axis, self.cfa.tile) for axis in views(self.pictures, looks, span, grid))
        first, rows, columns = (
            each[looks.picture, None, None, None]
            for each in (self.pictures.first, self.pictures.rows.int(), self.pictures.columns.int())
        )
        top, left = y.floor(), x.floor()
        down, right = y - top, x - left
        top, left = top.int(), left.int()
        below, beside = (top + 1).minimum(rows - 1), left + 1
        left, beside = torch.where(left < 0, columns - 1, left), torch.where(beside < columns, beside, 0)
        rows_ = [
            torch.lerp(
                self._take(first + (row * columns + left), colours),
                self._take(first + (row * columns + beside), colours),
                right,
            )
            for row in (top, below)
        ]
        return torch.lerp(rows_[0], rows_[1], down)

    @cached_property
    def _order(self) -> tuple[int, Int64[Tensor, " count"]]:
        """The number of panoramas, and the numbers of all pictures, panoramas first: read from the device once."""
        return int(self.pictures.panorama.sum()), self.pictures.panorama.logical_not().argsort(stable=True)

    def _draw(self, count: int, generator: torch.Generator) -> tuple[int, Looks]:
        """How many images may be of panoramas, and where all look."""
        panoramas, order = self._order
        expected = count * panoramas / len(order)
        wide = ceil(expected)
        u = torch.rand((7, count), generator=generator, device=generator.device)
        is_panorama = u[0] < expected / max(wide, 1)
        is_panorama[wide:] = False
        place = torch.where(is_panorama, panoramas * u[1], panoramas + (len(order) - panoramas) * u[1])
        picture = order[place.long().clamp(max=len(order) - 1)]
        mirror = torch.where(u[2:4] < 0.5, -1.0, 1.0)
        return wide, Looks(picture, u[4:6].T, mirror.T, u[6] < 0.5)

    def _take(
        self, index: Int64[Tensor, "b planes h w"], colours: Float[Tensor, "b planes 3"]
    ) -> Float[Tensor, "b planes h w"]:
        """What each plane sees of the pixels of these numbers."""
        red, green, blue = (
            channel.index_select(0, index.view(-1)).view(index.shape).float()
            for channel in self.pictures.pixels.unbind(-1)
        )
        of_red, of_green, of_blue = colours[..., None, None].unbind(-3)
        return torch.addcmul(torch.addcmul(red * of_red, green, of_green), blue, of_blue)

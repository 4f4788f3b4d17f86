"""Clean light for training, a whole batch at a time: views of panoramas and crops of photographs, as cameras see them.

All is done by operations on whole tensors on the pictures' device, and nothing is read back, so that a graphics card
never waits. The light is sampled in the order of the planes, so that only a site's own colour is ever computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import ceil, log

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from exposurediffusion.data.colours import draw_matrices, of_planes, paint
from exposurediffusion.data.looks import Looks, crops, views
from exposurediffusion.data.pictures import Pictures
from exposurediffusion.data.synthesis import HIGHLIGHT, gain_for
from exposurediffusion.physics.mosaic import CFA, pack

HALVED = 0.3  # share of images at half the scale


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
        parts = []
        for part, may_be_wide in ((looks[:wide], True), (looks[wide:], False)):
            halved = round(HALVED * len(part))
            parts.append(self.rgb(part[:halved], size, may_be_wide, density=2))
            parts.append(self.rgb(part[halved:], size, may_be_wide, density=1))
        matrices = of_planes(draw_matrices(count, generator), self.cfa)
        light = (torch.cat(parts) * matrices.transpose(1, 2)[..., None, None]).sum(1).clamp(min=0)
        light = paint(light, self.cfa, generator)
        u = torch.rand(count, generator=generator, device=generator.device)
        level = torch.exp(log(self.level[0]) + log(self.level[1] / self.level[0]) * u)
        return (light * gain_for(light.flatten(-2), level)[:, None, None, None]).clamp(max=HIGHLIGHT)

    def rgb(self, looks: Looks, size: int, wide: bool, density: int) -> Float[Tensor, "b 3 planes size size"]:
        """The pictures' linear light at the sites of all planes.

        Args:
            looks: where.
            size: side in packed pixels.
            wide: whether some may be panoramas; photographs alone take a quarter of the time.
            density: samples per site along a side, whose mean is taken; the scale is smaller by as much.
        """
        span = size * self.cfa.stride * density
        if not wide:
            return self._take(self._sites(crops(self.pictures, looks, span), density)).mean(2)
        row, column = (self._sites(each, density) for each in views(self.pictures, looks, span))
        first, rows, columns = (
            each[looks.picture, None, None, None, None]
            for each in (self.pictures.first, self.pictures.rows, self.pictures.columns)
        )
        top, left = row.floor(), column.floor()
        down, right = (row - top)[:, None], (column - left)[:, None]
        upper, lower = (first + y * columns for y in (top.long(), (top.long() + 1).minimum(rows - 1)))
        left, beside = (x.remainder(columns) for x in (left.long(), left.long() + 1))  # all the way round
        above = torch.lerp(self._take(upper + left), self._take(upper + beside), right)
        below = torch.lerp(self._take(lower + left), self._take(lower + beside), right)
        return torch.lerp(above, below, down).mean(2)

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

    def _sites(self, grid: Shaped[Tensor, "b rows columns"], density: int) -> Shaped[Tensor, "b n planes h w"]:
        """The samples of each site, sites sorted into planes."""
        samples = [grid[:, i::density, j::density] for i in range(density) for j in range(density)]
        return pack(torch.stack(samples, dim=1), self.cfa.tile)

    def _take(self, index: Int64[Tensor, "b n planes h w"]) -> Float[Tensor, "b 3 n planes h w"]:
        """The pixels of these numbers."""
        index = 3 * index[:, None] + torch.arange(3, device=index.device)[:, None, None, None, None]
        return self.pictures.pixels.view(-1).index_select(0, index.view(-1)).view(index.shape).float()

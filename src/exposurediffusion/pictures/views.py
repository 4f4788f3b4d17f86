"""Clean light for training, a whole batch at a time: views of panoramas and crops of photographs, as cameras see them.

All is done by operations on whole tensors on the pictures' device, and nothing is read back, so that a graphics card
never waits. The light is sampled in the order of the planes, so that only a site's own colour is ever computed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil, log

import torch
from jaxtyping import Float, Int32, Int64
from torch import Tensor

from exposurediffusion.physics.mosaic import CFA, pack
from exposurediffusion.pictures.colours import draw_matrices, of_planes, paint
from exposurediffusion.pictures.looks import Looks, crops, views
from exposurediffusion.pictures.prepared import Pictures
from exposurediffusion.simulation.light import HIGHLIGHT, gain_for

MOST = 1 << 31  # pixels of all pictures
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
    cfa: CFA = CFA("RGGB")
    level: tuple[float, float] = (0.01, 0.4)

    def __post_init__(self) -> None:
        if len(self.pictures.pixels) >= MOST:  # 32-bit numbers take half the time
            raise ValueError(
                f"the pictures have {len(self.pictures.pixels)} pixels, at most {MOST - 1}; use fewer of them"
            )

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
        light = torch.cat(
            [
                self.light(looks[part], colours[part], size, may_be_wide, part_size // HALVED)
                for part, part_size, may_be_wide in (
                    (slice(wide), wide, True),
                    (slice(wide, None), count - wide, False),
                )
            ]
        )
        light = paint(light.clamp(min=0), self.cfa, generator)
        u = torch.rand(count, generator=generator, device=generator.device)
        level = torch.exp(log(self.level[0]) + log(self.level[1] / self.level[0]) * u)
        return (light * gain_for(light.flatten(-2), level)[:, None, None, None]).clamp(max=HIGHLIGHT)

    def light(
        self, looks: Looks, colours: Float[Tensor, "b planes 3"], size: int, wide: bool, halved: int
    ) -> Float[Tensor, "b planes size size"]:
        """What the sites of all planes see of the pictures.

        Args:
            looks: where.
            colours: how much of linear red, green and blue each plane sees.
            size: side in packed pixels.
            wide: whether some may be panoramas; photographs alone take a fraction of the time.
            halved: how many, the first ones, are at half the scale: means of 2x2 samples.
        """
        samples, image = looks.halved(halved)
        look, side = self._look if wide else self._cut, size * self.cfa.stride
        light = look(samples, colours[image], side)
        corners, rest = light.tensor_split([4 * halved])
        return torch.cat([corners.unflatten(0, (4, halved)).mean(0), rest])

    def _cut(self, looks: Looks, colours: Tensor, side: int) -> Tensor:
        """What the planes see of photographs."""
        return self._take(pack(crops(self.pictures, looks, side), self.cfa.tile), colours)

    def _look(self, looks: Looks, colours: Tensor, side: int) -> Tensor:
        """What the planes see of panoramas or photographs, interpolated."""
        y, x = (pack(axis, self.cfa.tile) for axis in views(self.pictures, looks, side))
        first, rows, columns = (
            each[looks.picture, None, None, None].int()
            for each in (self.pictures.first, self.pictures.rows, self.pictures.columns)
        )
        top, left = y.floor(), x.floor().minimum(columns.float() - 1)
        below = (top + 1).minimum(rows.float() - 1)
        beside = (left + 1) * (left + 1 < columns.float())  # all the way round
        down, right = y - top, x - left
        left, beside = left.int(), beside.int()
        upper, lower = (
            torch.lerp(self._take(row + left, colours), self._take(row + beside, colours), right)
            for row in (first + each.int() * columns for each in (top, below))
        )
        return torch.lerp(upper, lower, down)

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
        is_panorama = (u[0] < expected / max(wide, 1)) & (torch.arange(count, device=u.device) < wide)
        place = torch.where(is_panorama, panoramas * u[1], panoramas + (len(order) - panoramas) * u[1])
        picture = order[place.long().clamp(max=len(order) - 1)]
        mirror = 2.0 * (u[2:4] < 0.5) - 1
        step = torch.ones_like(picture)
        return wide, Looks(picture, u[4:6].T, mirror.T, (u[6] < 0.5).float(), step, torch.stack([step, step], 1) - 1)

    def _take(
        self, index: Int32[Tensor, "b planes h w"], colours: Float[Tensor, "b planes 3"]
    ) -> Float[Tensor, "b planes h w"]:
        """What each plane sees of the pixels of these numbers."""
        red, green, blue = (
            channel.index_select(0, index.view(-1)).view(index.shape).float()
            for channel in self.pictures.pixels.unbind(-1)
        )
        of_red, of_green, of_blue = colours[..., None, None].unbind(-3)
        return torch.addcmul(torch.addcmul(red * of_red, green, of_green), blue, of_blue)

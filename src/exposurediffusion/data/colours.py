"""The colours of training light, drawn for whole batches on one device: cameras, lamps, and painted shapes.

Photographs hardly hold large areas of saturated light (neon, coloured diodes), which night scenes are full of; so some
images get such a light, and some a shape or a whole field of one colour.
"""

from __future__ import annotations

from functools import lru_cache
from math import pi

import torch
from jaxtyping import Float
from torch import Tensor

from exposurediffusion.data.synthesis import CAMERA_FROM_XYZ, camera_from_rgb
from exposurediffusion.physics.mosaic import CFA, pack

MIXED = 1 / 3  # share of images by a mixture of two cameras
TUNGSTEN_OR_SHADE = 0.05  # share of images with unusual white-balance gains
LIT = 0.15  # share of images in coloured light
TURNED = 0.10  # share of images with all hues turned
SHAPED = 0.15  # share of images with a painted shape
FIELD = 0.04  # share of images painted all over
BLURRED = 8.0  # width of a shape's edge in sites, at most
WEAKEST_LIGHT, WEAKEST_PAINT = 1 / 30, 1 / 300  # the least a channel keeps of it


@lru_cache(maxsize=4)
def _cameras(device: torch.device) -> Float[Tensor, "cameras 3 3"]:
    return torch.stack([camera_from_rgb(name) for name in CAMERA_FROM_XYZ]).to(device)


def draw_matrices(count: int, generator: torch.Generator) -> Float[Tensor, "b 3 3"]:
    """Linear sRGB to the raw RGB of random cameras, in random light: one matrix per image."""
    device = generator.device
    u = torch.rand((12, count), generator=generator, device=device)
    cameras = _cameras(device)
    first, second = cameras[torch.randint(len(cameras), (2, count), generator=generator, device=device)]
    camera = torch.lerp(first, second, (u[0] * (u[1] < MIXED))[:, None, None])
    eye, grey = torch.eye(3, device=device), torch.full((3, 3), 1 / 3, device=device)
    saturation = torch.lerp(grey, eye, (0.6 + 0.8 * u[2])[:, None, None])
    hue = (2 * pi * u[3] * (u[4] < TURNED))[:, None, None]
    cycle = eye.roll(1, 0)
    turn = grey + hue.cos() * (eye - grey) + hue.sin() * (cycle - cycle.T) / 3**0.5  # around the grey axis
    usual = torch.stack([1.4 + 1.2 * u[5], torch.ones_like(u[5]), 1.2 + 1.3 * u[6]], dim=1)
    wide = torch.stack([0.8 + 2.7 * u[5], torch.ones_like(u[5]), 0.8 + 2.7 * u[6]], dim=1)
    balance = torch.where((u[7] < TUNGSTEN_OR_SHADE)[:, None], wide, usual)
    lamp = WEAKEST_LIGHT ** u[8:11].T
    lamp = torch.where((u[11] < LIT)[:, None], lamp / lamp.amax(1, keepdim=True), torch.ones_like(lamp))
    return (lamp / balance)[:, :, None] * (turn @ camera @ saturation)


def paint(light: Float[Tensor, "b planes h w"], cfa: CFA, generator: torch.Generator) -> Float[Tensor, "b planes h w"]:
    """Paint a shape of one colour over some images: an ellipse, a rectangle, half of the image or all of it.

    Args:
        light: raw planes of any scale, RGGB or X-Trans.
        cfa: their colour filter array; the planes begin with its tile.
        generator: decides which images, and what they get.
    """
    count, _, size, _ = light.shape
    u = torch.rand((16, count), generator=generator, device=light.device)
    field = u[0] < FIELD
    large = field | (u[1] < 0.25)  # so large that at most one edge is seen: half of the image
    half_length, half_width = 40.0 * large + 0.15 * 6 ** u[2:4]  # in halves of the image
    x, y = 1.8 * u[4:6] - 0.9
    cos, sin = (2 * pi * u[6]).cos(), (2 * pi * u[6]).sin()
    centre = -cos * x - sin * y - half_length * (large & ~field)
    along = torch.stack([cos, sin, centre], dim=1) / half_length[:, None]
    across = torch.stack([-sin, cos, sin * x - cos * y], dim=1) / half_width[:, None]
    slope = 0.15 * u[7]
    shade = torch.stack([slope * (2 * pi * u[8]).cos(), slope * (2 * pi * u[8]).sin(), torch.ones_like(slope)], dim=1)
    places = _places(size, cfa, light.device)
    along, across, shade = (torch.stack([along, across, shade]) @ places).unflatten(-1, light.shape[1:])
    along, across = along.square(), across.square()
    rounded, painted, sharp = (
        each[:, None, None, None]
        for each in (
            ((u[9] < 0.5) & ~large).float(),
            (field | (u[10] < SHAPED)).float(),
            torch.minimum(half_length, half_width) * size * cfa.stride / 4 / BLURRED ** u[11],
        )
    )
    beyond = torch.addcmul(torch.maximum(along, across), torch.minimum(along, across), rounded)  # 1 at the edge
    cover = ((1 - beyond) * sharp + 0.5).clamp(0, 1) * painted
    colour = WEAKEST_PAINT ** u[12:15].T
    colour = colour / colour.amax(1, keepdim=True) * light.mean(dim=(1, 2, 3))[:, None] * 8 ** (2 * u[15, :, None] - 1)
    return torch.lerp(light, of_planes(colour, cfa)[..., None, None] * shade, cover)


def of_planes(colours: Float[Tensor, "b 3 *n"], cfa: CFA) -> Float[Tensor, "b planes *n"]:
    """What belongs to red, green and blue, for each plane."""
    return torch.stack([colours[:, "RGB".index(letter)] for letter in cfa.colours], dim=1)


def _places(size: int, cfa: CFA, device: torch.device) -> Float[Tensor, "3 n"]:
    """Where the sites of all planes lie: x and y from -1 to 1, and 1."""
    span = size * cfa.stride
    axis = (torch.arange(span, device=device) * 2 - (span - 1)) / span
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([pack(each, cfa.tile).flatten() for each in (x, y, torch.ones_like(x))])

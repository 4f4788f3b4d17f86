"""The colours of training light, drawn for whole batches on one device: cameras, lamps, and painted shapes.

Photographs hardly hold large areas of saturated light (neon, coloured diodes), which night scenes are full of; so some
images get such a light, and some a shape or a whole field of one colour.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil, pi

import torch
from jaxtyping import Float
from torch import Tensor

from exposurediffusion.files.develop import camera_from_rgb
from exposurediffusion.physics.cameras.known import calibrated_cameras
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
    cameras = calibrated_cameras().values()
    return torch.stack([camera_from_rgb(camera.colour_matrix) for camera in cameras if camera.colour_matrix]).to(device)


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
    share = FIELD + SHAPED
    count = ceil(share * len(light))  # only as many are touched: random ones, and some of them in vain
    order = torch.rand(len(light), generator=generator, device=light.device).argsort()[:count]
    cover, colour = _draw_shapes(light[order], share * len(light) / count, cfa, generator)
    return light.index_copy(0, order, torch.lerp(light[order], colour, cover))


def _draw_shapes(
    light: Float[Tensor, "b planes h w"], share: float, cfa: CFA, generator: torch.Generator
) -> tuple[Float[Tensor, "b planes h w"], Float[Tensor, "b planes h w"]]:
    """How much of each site is covered, and by what. A `share` of the images is covered somewhere."""
    size = light.shape[-1]
    u = torch.rand((15, len(light), 1, 1, 1), generator=generator, device=light.device)
    field = u[0] < FIELD / (FIELD + SHAPED)
    half = u[1] < 0.25
    large = (field | half).float()  # a rectangle so large that at most one edge is seen
    length, width = 40 * large + 0.15 * 6 ** u[2:4]  # half its sides, in halves of the image
    (y, x), (top, left) = _places(size, cfa, light.device), 1.8 * u[4:6] - 0.9
    cos, sin = (2 * pi * u[6]).cos(), (2 * pi * u[6]).sin()
    away = length * (half & ~field)  # of the middle, so that the edge is where the middle would be
    along = (x * (cos / length) + y * (sin / length) - (left * cos + top * sin + away) / length).square()
    across = (y * (cos / width) - x * (sin / width) - (top * cos - left * sin) / width).square()
    rounded = (u[7] < 0.5) * (1 - large)
    beyond = torch.addcmul(torch.maximum(along, across), torch.minimum(along, across), rounded)  # 1 at the edge
    edge = torch.minimum(length, width) * (size * cfa.stride / 4) / BLURRED ** u[8]
    cover = ((1 - beyond) * edge + 0.5).clamp(0, 1) * (u[9] < share)
    colour = WEAKEST_PAINT ** u[10:13, :, 0, 0, 0].T
    brightness = light.mean(dim=(1, 2, 3)) * 8 ** (2 * u[13, :, 0, 0, 0] - 1)
    colour = colour * (brightness / colour.amax(1))[:, None]
    shade = 1 + 0.15 * u[14] * (x * sin - y * cos)
    return cover, of_planes(colour, cfa)[..., None, None] * shade


def of_planes(colours: Float[Tensor, "b 3 *n"], cfa: CFA) -> Float[Tensor, "b planes *n"]:
    """What belongs to red, green and blue, for each plane."""
    return torch.stack([colours[:, "RGB".index(letter)] for letter in cfa.colours], dim=1)


@lru_cache(maxsize=4)
def _places(
    size: int, cfa: CFA, device: torch.device
) -> tuple[Float[Tensor, "planes h w"], Float[Tensor, "planes h w"]]:
    """Where the sites of all planes lie: y and x, from -1 to 1; kept, since they are always the same."""
    span = size * cfa.stride
    axis = (torch.arange(span, device=device) * 2 - (span - 1)) / span
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return pack(y, cfa.tile), pack(x, cfa.tile)

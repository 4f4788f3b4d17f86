"""Clean light from pictures: views of panoramas and crops of photographs, as a camera would record them.

Training and simulation share it: linear RGB -> the camera's colour space and inverse white balance -> mosaic -> planes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import atan2, pi, radians, tan
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from exposurediffusion.decoding.megapixels import MAX_MEGAPIXELS
from exposurediffusion.files.develop import camera_from_rgb
from exposurediffusion.files.images import read_linear
from exposurediffusion.physics.mosaic import CFA, mosaic_from_rgb, pack

HIGHLIGHT = 4.0  # where light is clipped, in units of white
PANORAMA_FOCAL = 240 / (2 * tan(radians(76) / 2)) / 1024  # pixels of focal length per pixel of panorama width


def record(
    rgb: Float[Tensor, "*b 3 rows columns"],
    colour_matrix: Sequence[float],
    white_balance: tuple[float, float],
    cfa: CFA,
    level: float,
    highlight: float = HIGHLIGHT,
) -> Float[Tensor, "*b planes h w"]:
    """The noise-free planes that a camera would record of a linear picture.

    Args:
        rgb: linear light, non-negative.
        colour_matrix: of the camera, XYZ (D65) -> camera RGB, 9 numbers.
        white_balance: gains of red and blue that the camera would need; its raw values are divided by them.
        cfa: colour filter array.
        level: mean green level wanted, highlights counted as white.
        highlight: clip of the light, in units of white.
    """
    camera_rgb = torch.einsum("ij,...jhw->...ihw", camera_from_rgb(colour_matrix), rgb).clamp(min=0)
    balance = torch.tensor([1 / white_balance[0], 1.0, 1 / white_balance[1]])[:, None, None]
    camera_rgb = camera_rgb * balance
    green = camera_rgb[..., 1:2, :, :].flatten(-2)
    gain = gain_for(green, torch.full(green.shape[:-2], level, dtype=torch.float64)).float()[..., None, None, None]
    return pack(mosaic_from_rgb((camera_rgb * gain).clamp(max=highlight), cfa), cfa)


def gain_for(light: Float[Tensor, "*b channels n"], level: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """The factors that bring the largest of the channels' means, clipped at white, to `level`; three steps suffice."""
    gain = level / light.mean(dim=-1).amax(dim=-1).clamp(min=1e-6)
    for _ in range(3):
        clipped = (light * gain.to(light.dtype)[..., None, None]).clamp(max=1)
        gain = gain * level / clipped.mean(dim=-1).amax(dim=-1).clamp(min=1e-6)
    return gain.clamp(max=1e6)


@dataclass(frozen=True)
class Panorama:
    """An equirectangular, scene-linear panorama, (3, rows, columns) float16."""

    pixels: Tensor
    name: str = ""

    def view(self, size: int, yaw: float, pitch: float, zoom: float = 1.0) -> Float[Tensor, "3 size size"]:
        """A perspective view (angles in radians) at the panorama's own density times `zoom` (below 1: smaller)."""
        if zoom < 1:  # sample densely, then average, so that nothing aliases
            factor = max(1, round(1 / zoom))
            return F.avg_pool2d(self.view(size * factor, yaw, pitch)[None], factor)[0]
        focal = PANORAMA_FOCAL * self.pixels.shape[-1] * zoom
        axis = (torch.arange(size) - (size - 1) / 2) / focal
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        up, forward = -y * np.cos(pitch) + np.sin(pitch), np.cos(pitch) + y * np.sin(pitch)
        longitude = torch.atan2(x, forward) + yaw
        latitude = torch.atan2(up, torch.hypot(x, forward))
        grid = torch.stack([torch.remainder(longitude / pi + 1, 2) - 1, -latitude * 2 / pi], dim=-1)
        wrapped = F.grid_sample(
            self.pixels[None].float(), grid[None].float(), "bilinear", padding_mode="border", align_corners=False
        )
        return wrapped[0]

    def sample(self, size: int, generator: torch.Generator) -> Float[Tensor, "3 size size"]:
        """A random view, mostly near the horizon."""
        yaw, tilt, shrink = torch.rand(3, generator=generator).tolist()
        return self.view(size, (2 * yaw - 1) * pi, atan2(2.4 * tilt - 1.2, 1.0), 0.5 if shrink < 0.25 else 1.0)


@dataclass(frozen=True)
class Photograph:
    """A photograph in linear light, already downscaled, (3, rows, columns) float16."""

    pixels: Tensor
    name: str = ""

    def sample(self, size: int, generator: torch.Generator) -> Float[Tensor, "3 size size"]:
        """A random crop, sometimes at half the scale."""
        rows, columns = self.pixels.shape[-2:]
        top, left, shrink = torch.rand(3, generator=generator).tolist()
        factor = 2 if shrink < 0.3 and min(rows, columns) >= 2 * size else 1
        span = size * factor
        top, left = int(top * (rows - span + 1)), int(left * (columns - span + 1))
        crop = self.pixels[:, top : top + span, left : left + span].float()
        return F.avg_pool2d(crop[None], factor)[0] if factor > 1 else crop


def load_clean(
    path: Path,
    downscale: int = 2,
    repaired: Callable[[str], None] | None = None,
    max_megapixels: float = MAX_MEGAPIXELS,
) -> Panorama | Photograph:
    """A clean source from a file: an HDR file twice as wide as high is a panorama, all else a photograph.

    Photographs are averaged `downscale` x `downscale` in linear light, which removes noise and compression.

    Args:
        path: the file.
        downscale: of PNG, JPEG and WebP.
        repaired: is given a message about values that were no numbers.
        max_megapixels: larger ones are refused before they are decoded.

    Raises:
        ValueError: not a picture, too large, or too small to be averaged.
    """
    image = torch.from_numpy(read_linear(path, repaired, max_megapixels)).permute(2, 0, 1)
    if min(image.shape[-2:]) < downscale:
        raise ValueError(f"{path}: too small ({image.shape[-1]} x {image.shape[-2]} pixels)")
    if path.suffix.lower() == ".hdr" and image.shape[-1] == 2 * image.shape[-2]:
        return Panorama(image.clamp(max=6e4).half(), str(path))
    if path.suffix.lower() not in (".hdr", ".tif", ".tiff"):
        image = F.avg_pool2d(image[None], downscale)[0]
    return Photograph(image.clamp(max=6e4).half(), str(path))

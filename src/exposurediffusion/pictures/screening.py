"""What is done to a picture before it is compressed for training, and which pictures are worth it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import log10, sqrt
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from exposurediffusion.decoding.megapixels import MAX_MEGAPIXELS
from exposurediffusion.files.develop import encode_srgb
from exposurediffusion.pictures.codec import BRIGHTEST, decode
from exposurediffusion.simulation.light import Panorama, load_clean

SMALLEST = 256
"""Short side of a picture that is of use, pixels."""
ALIKE = 0.99
"""Correlation of thumbnails from which on two pictures count as one."""
_THUMBNAIL = 16
_QUARTER = 0.25  # what the brighter quarter of a picture begins at, once it is exposed


def prepare(
    path: Path,
    downscale: int,
    megapixels: float,
    repaired: Callable[[str], None] | None = None,
    max_megapixels: float = MAX_MEGAPIXELS,
) -> tuple[Float32[Tensor, "3 rows columns"], bool]:
    """A clean picture, linear light, no larger than `megapixels`; and whether it is a panorama.

    Args:
        path: the file.
        downscale: photographs are averaged so much first, which removes noise and compression.
        megapixels: at most.
        repaired: is given a message about values that were no numbers.
        max_megapixels: files with more are refused.

    Raises:
        ValueError: unreadable, no picture, or too small to be of use.
    """
    source = load_clean(path, downscale, repaired, max_megapixels)
    light, panorama = source.pixels.float(), isinstance(source, Panorama)
    rows, columns = light.shape[-2:]
    if rows * columns > megapixels * 1e6:
        scale = sqrt(megapixels * 1e6 / (rows * columns))
        rows = int(rows * scale)
        light = shrink(light, rows, 2 * rows if panorama else int(columns * scale))
    rows, columns = light.shape[-2:]
    if min(rows, columns) < SMALLEST:
        raise ValueError(f"{path}: too small ({columns} x {rows} pixels, {SMALLEST} are needed)")
    if (light.amax((1, 2)) - light.amin((1, 2))).amax() <= 1e-3 * light.amax():
        raise ValueError(f"{path}: of one colour throughout")
    return light, panorama


def shrink(light: Float32[Tensor, "3 h w"], rows: int, columns: int) -> Float32[Tensor, "3 rows columns"]:
    """Make it smaller, sharply, without negative light."""
    planes = [Image.fromarray(plane).resize((columns, rows), Image.Resampling.HAMMING) for plane in light.numpy()]
    return torch.from_numpy(np.stack([np.asarray(plane) for plane in planes]))


def exposure_of(light: Float32[Tensor, "3 rows columns"]) -> float:
    """The factor that makes a common photograph of a picture: the brighter quarter of its green begins at 0.25.

    A picture without highlights is never darkened, so that its white stays, nor brightened more than 16 times.
    """
    peak = float(light.amax())
    factor = min(_QUARTER / max(float(np.quantile(light[1].numpy(), 0.75)), 1e-9), BRIGHTEST / peak)
    return factor if peak > 1 else min(max(factor, 1.0), 16.0)


def decibels(light: Float32[Tensor, "3 rows columns"], streams: Sequence[bytes], exposure: float) -> float:
    """What compression costs: signal-to-noise ratio of the exposed picture as sRGB has it, white as the peak, dB."""
    again = decode(streams, exposure, *light.shape[-2:]).T.reshape(light.shape)
    original, restored = (encode_srgb((of.float() * exposure).clamp(max=1).numpy()) for of in (light, again))
    error = float(np.square(original - restored).mean())
    return -10 * log10(max(error, 1e-12))


def thumbnail(light: Float32[Tensor, "3 rows columns"]) -> Float32[Tensor, " values"]:
    """A few colours that distinguish a picture; the scalar product of two thumbnails is their correlation."""
    colours = F.adaptive_avg_pool2d((light * exposure_of(light)).clamp(max=1).sqrt(), _THUMBNAIL).flatten()
    return F.normalize(colours - colours.mean(), dim=0)


def originals(thumbnails: Sequence[Float32[Tensor, " values"]], pixels: Sequence[int]) -> dict[int, int]:
    """Pictures that are nearly the same as a larger one, by their places: which one that is."""
    correlation = torch.stack(list(thumbnails)) @ torch.stack(list(thumbnails)).T
    kept: list[int] = []
    copies: dict[int, int] = {}
    for place in sorted(range(len(pixels)), key=lambda place: -pixels[place]):
        same = [other for other in kept if correlation[place, other] > ALIKE]
        if same:
            copies[place] = same[0]
        else:
            kept.append(place)
    return copies

"""Linear light, compressed without visible loss: JPEG 2000 of 16 bits on a curve that suits photon noise and the eye.

Three planes, luma and two colour differences, each a codestream. Pillow alone is needed.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from math import log10

import numpy as np
import torch
from jaxtyping import Float16, Float32
from PIL import Image
from torch import Tensor

BRIGHTEST = 6e4
"""Light is cut off here, so that it fits 16-bit floating point."""
_STEPS = 10000  # of the stored integers, from black to white; 65535 of them reach 6.6e4 times white
_YCC = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32)
_SPREAD = 4.6  # dB by which errors of the three planes grow together when they become red, green and blue


def curve(light: np.ndarray) -> np.ndarray:
    """Light on the scale that is stored: a square root up to white, a logarithm above; 0 to 6.5."""
    return np.where(light <= 1, np.sqrt(light.clip(0, 1)), 1 + np.log(light.clip(min=1)) / 2)


def encode(light: Float32[np.ndarray, "3 rows columns"], exposure: float, quality: float) -> list[bytes]:
    """Compress a picture.

    Args:
        light: linear, non-negative.
        exposure: factor that brings it to the levels of a common photograph.
        quality: signal-to-noise ratio of red, green and blue on the scale of `curve`, white as the peak, dB (about).

    Returns:
        Three codestreams.
    """
    planes = np.tensordot(_YCC, curve(light * np.float32(exposure)).astype(np.float32), 1) * _STEPS
    planes[1:] += 1 << 15
    decibels = quality + _SPREAD + 20 * log10(0xFFFF / _STEPS)
    return [_encode_plane(plane.round().clip(0, 0xFFFF).astype(np.uint16), decibels) for plane in planes]


def _encode_plane(plane: np.ndarray, decibels: float) -> bytes:
    stream = io.BytesIO()
    options = {"no_jp2": True, "irreversible": True, "quality_mode": "dB", "quality_layers": [decibels]}
    with all_cores():
        Image.fromarray(plane).save(stream, "JPEG2000", **options)
    return stream.getvalue()


def decode(streams: Sequence[bytes], exposure: float, rows: int, columns: int) -> Float16[Tensor, "n 3"]:
    """Inverse of `encode`: the pixels row by row.

    Raises:
        ValueError: the streams are damaged or of another size.
    """
    if len(streams) != 3:
        raise ValueError(f"{len(streams)} planes instead of 3")
    planes = np.empty((3, rows * columns), np.float32)
    for plane, stream in zip(planes, streams, strict=True):
        try:
            with Image.open(io.BytesIO(stream), formats=["JPEG2000"]) as image:
                if image.size != (columns, rows) or image.mode != "I;16":
                    raise ValueError("not a plane of this picture")
                plane[:] = np.asarray(image).reshape(-1)
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise ValueError(str(error)) from error
    planes[1:] -= 1 << 15
    digits = np.linalg.inv(_YCC) @ planes
    digits = np.clip(np.rint(digits, out=digits), 0, 0xFFFF, out=digits).astype(np.uint16)
    pixels, light = np.empty((rows * columns, 3), np.float16), _light(exposure)
    for channel in range(3):
        pixels[:, channel] = light[digits[channel]]
    return torch.from_numpy(pixels)


@lru_cache(maxsize=8)
def _light(exposure: float) -> np.ndarray:
    """Light of each stored integer, float16."""
    scale = np.arange(1 << 16) / _STEPS
    light = np.where(scale <= 1, scale**2, np.exp(2 * (scale - 1))) / exposure
    return light.clip(max=BRIGHTEST).astype(np.float16)


@contextmanager
def all_cores() -> Iterator[None]:
    """OpenJPEG works with as many threads as this variable says when a picture is begun; Pillow has no other way."""
    if "OPJ_NUM_THREADS" in os.environ:
        yield
        return
    os.environ["OPJ_NUM_THREADS"] = str(min(8, os.cpu_count() or 1))
    try:
        yield
    finally:
        os.environ.pop("OPJ_NUM_THREADS", None)

"""Small pictures of raw files; runs in a worker."""

from __future__ import annotations

import io
import os
from math import log2
from pathlib import Path

import numpy as np
from PIL import Image

from exposurediffusion.analysis.black import with_true_black
from exposurediffusion.decoding.process import DecodingError, decode
from exposurediffusion.enhancement.plan import auto_ratio
from exposurediffusion.enhancement.views import smaller
from exposurediffusion.raw.read import read_raw
from exposurediffusion.rendering.render import render, upright

LONGEST, DARK = 240, 40
"""Pixels of a thumbnail's longer side; mean of 255 below which an embedded picture shows too little."""


def begin() -> None:
    """Nothing has to be got ready."""


def thumbnail(path: Path) -> bytes:
    """A JPEG of the picture that a file brings along; of the brightened capture, where that is missing or dark."""
    picture = _embedded(path)
    if picture is None or np.asarray(picture.convert("L")).mean() < DARK:
        frame = smaller(with_true_black(read_raw(path)), LONGEST**2)
        picture = Image.fromarray(render(frame, exposure=log2(auto_ratio(frame)), tone="camera", quick=True).rgb8)
        picture.thumbnail((LONGEST, LONGEST))
    return jpeg(picture, 80)


def _embedded(path: Path) -> Image.Image | None:
    """The picture that a file brings along, small and upright."""
    try:
        answer = decode("embedded_picture", os.path.abspath(path), 2 * LONGEST)
    except (DecodingError, MemoryError):
        return None
    pixels, turned = answer.arrays[0], int(answer.value)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:  # what LibRaw gives of a damaged one
        return None
    picture = Image.fromarray(pixels)
    picture.thumbnail((LONGEST, LONGEST))
    return Image.fromarray(upright(np.asarray(picture), turned))


def jpeg(picture: Image.Image, quality: int = 95) -> bytes:
    """A picture as a JPEG of full colour resolution."""
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=quality, subsampling=0)
    return out.getvalue()

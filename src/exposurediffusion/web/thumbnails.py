"""Small pictures of raw files; runs in a worker."""

from __future__ import annotations

import io
from math import log2
from pathlib import Path

import numpy as np
import rawpy
from PIL import Image

from exposurediffusion.analysis.black import with_true_black
from exposurediffusion.enhancement.plan import auto_ratio
from exposurediffusion.enhancement.views import smaller
from exposurediffusion.files.exif import ORIENTATION
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
        with rawpy.imread(str(path)) as raw:
            found, turned = raw.extract_thumb(), {3: 3, 5: 8, 6: 6}.get(raw.sizes.flip, 1)
        if found.format == rawpy.ThumbFormat.JPEG:
            picture = Image.open(io.BytesIO(bytes(found.data)))
            picture.draft("RGB", (2 * LONGEST, 2 * LONGEST))
            turned = picture.getexif().get(ORIENTATION, turned)
            picture = picture.convert("RGB")
        else:
            picture = Image.fromarray(np.asarray(found.data))
    except (rawpy.LibRawError, OSError, ValueError):
        return None
    picture.thumbnail((LONGEST, LONGEST))
    return Image.fromarray(upright(np.asarray(picture), turned))


def jpeg(picture: Image.Image, quality: int = 95) -> bytes:
    """A picture as a JPEG of full colour resolution."""
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=quality, subsampling=0)
    return out.getvalue()

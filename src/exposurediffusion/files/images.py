"""Clean pictures in: scene-linear or photographs, as linear RGB. Maps of numbers out."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from exposurediffusion.files.atomic import SOFTWARE_NAME, atomic
from exposurediffusion.files.develop import srgb_to_linear
from exposurediffusion.files.megapixels import LARGER, MAX_MEGAPIXELS, too_large

_FORMATS = ("PNG", "JPEG", "WEBP")  # Pillow knows others, some of which start programs
_MOST_SAMPLES = 16  # of a TIFF's pixel
_RESOLUTION = re.compile(rb"\n[-+][XY] +(\d{1,18}) +[-+][XY] +(\d{1,18})\s")  # of a Radiance file: rows and columns
_opening = threading.Lock()
_LIGHT = ("MINISBLACK", "RGB", "YCBCR")  # what a TIFF's samples may be; the last is decoded to RGB


def read_linear(
    path: Path, repaired: Callable[[str], None] | None = None, max_megapixels: float = MAX_MEGAPIXELS
) -> np.ndarray:
    """Read a picture as linear RGB.

    HDR (Radiance) and floating-point TIFF are taken as scene-linear; PNG, JPEG and integer TIFF as sRGB.

    Args:
        path: the file.
        repaired: is given where values were no numbers or infinite, and became 0 or the brightest light.
        max_megapixels: larger pictures are refused before they are decoded.

    Returns:
        float32, (rows, columns, 3), non-negative; 1 is the white of an sRGB picture.

    Raises:
        ValueError: not a picture that we read; the message names the file.
    """
    try:
        if path.suffix.lower() == ".hdr":
            import imagecodecs  # machines that only train may lack it, and tifffile

            content = path.read_bytes()
            if resolution := _RESOLUTION.search(content[: 1 << 16]):
                _check_size(int(resolution[1]), int(resolution[2]), max_megapixels)
            pixels = imagecodecs.rgbe_decode(content)
        elif path.suffix.lower() in (".tif", ".tiff"):
            import tifffile

            with tifffile.TiffFile(path) as tif:
                page = tif.pages.first
                _check_size(page.imagelength * page.imagedepth, page.imagewidth, max_megapixels)
                if page.samplesperpixel > _MOST_SAMPLES:
                    raise ValueError(f"{page.samplesperpixel} samples a pixel; save it as RGB")
                if (kind := getattr(page.photometric, "name", page.photometric)) not in _LIGHT:
                    raise ValueError(f"its samples are {kind}, not grey or RGB; save it as RGB")
                pixels = np.moveaxis(page.asarray(), 0, -1) if page.axes == "SYX" else page.asarray()  # planar RGB
        else:
            with _opened(path) as image:  # 16-bit grey would be clipped by convert()
                _check_size(image.height, image.width, max_megapixels)
                pixels = np.asarray(image if image.mode.startswith("I") else image.convert("RGB"))
    except Exception as error:  # the decoders raise what they like at a damaged file
        raise ValueError(f"{path}: cannot be read as a picture ({error})") from error
    if pixels.dtype.kind not in "uf":
        raise ValueError(f"{path}: samples of type {pixels.dtype} are not supported")
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=-1)
    if pixels.ndim != 3 or pixels.shape[-1] < 3:
        raise ValueError(f"{path}: not an RGB picture (shape {pixels.shape})")
    pixels = pixels[..., :3]
    if np.issubdtype(pixels.dtype, np.floating):
        if repaired and (wrong := pixels.size - np.count_nonzero(np.isfinite(pixels))):
            repaired(f"{path}: {wrong} values are no finite numbers; taken as black, the infinite ones as brightest")
        return np.nan_to_num(pixels.astype(np.float32), posinf=65504.0).clip(min=0)
    most = np.iinfo(pixels.dtype).max
    if most > 0xFFFF:
        return srgb_to_linear(pixels.astype(np.float32) / most)
    return srgb_to_linear(np.arange(most + 1, dtype=np.float32) / most)[pixels]


def _check_size(rows: int, columns: int, most: float) -> None:
    if problem := too_large(rows, columns, most):
        raise ValueError(f"{problem}; {LARGER}")


def _opened(path: Path) -> Image.Image:
    """A picture that Pillow reads, its pixels not yet decoded; its own limit of their number is left aside for ours."""
    with _opening:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(path, formats=_FORMATS)
        finally:
            Image.MAX_IMAGE_PIXELS = before


def write_map(path: Path, values: np.ndarray) -> None:
    """Write one number for each site as a 32-bit floating-point TIFF, whole or not at all.

    Args:
        path: ends in .tif.
        values: (rows, columns).

    Raises:
        OSError: it cannot be written.
    """
    import tifffile

    values = values.astype(np.float32, copy=False)
    with atomic(path) as stream:
        options = {"photometric": "minisblack", "software": SOFTWARE_NAME, "metadata": None}
        tifffile.imwrite(stream, values, **options)  # pyright: ignore[reportArgumentType] - any seekable file will do

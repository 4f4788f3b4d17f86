"""Clean pictures in: scene-linear or photographs, as linear RGB. Maps of numbers out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from exposurediffusion.files.atomic import SOFTWARE_NAME, atomic
from exposurediffusion.files.develop import srgb_to_linear

_LIGHT = ("MINISBLACK", "RGB", "YCBCR")  # what a TIFF's samples may be; the last is decoded to RGB


def read_linear(path: Path, repaired: Callable[[str], None] | None = None) -> np.ndarray:
    """Read a picture as linear RGB.

    HDR (Radiance) and floating-point TIFF are taken as scene-linear; PNG, JPEG and integer TIFF as sRGB.

    Args:
        path: the file.
        repaired: is given where values were no numbers or infinite, and became 0 or the brightest light.

    Returns:
        float32, (rows, columns, 3), non-negative; 1 is the white of an sRGB picture.

    Raises:
        ValueError: not a picture that we read; the message names the file.
    """
    try:
        if path.suffix.lower() == ".hdr":
            import imagecodecs  # machines that only train may lack it, and tifffile

            pixels = imagecodecs.rgbe_decode(path.read_bytes())
        elif path.suffix.lower() in (".tif", ".tiff"):
            import tifffile

            with tifffile.TiffFile(path) as tif:
                page = tif.pages.first
                if (kind := getattr(page.photometric, "name", page.photometric)) not in _LIGHT:
                    raise ValueError(f"its samples are {kind}, not grey or RGB; save it as RGB")
                pixels = np.moveaxis(page.asarray(), 0, -1) if page.axes == "SYX" else page.asarray()  # planar RGB
        else:
            with Image.open(path) as image:  # 16-bit grey would be clipped by convert()
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
    return srgb_to_linear(pixels.astype(np.float32) / np.iinfo(pixels.dtype).max)


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

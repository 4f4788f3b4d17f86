"""Clean pictures in: scene-linear or photographs, as linear RGB. Maps of numbers out."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from exposurediffusion.decoding.megapixels import LARGER, MAX_MEGAPIXELS
from exposurediffusion.decoding.process import DecodingError, decode
from exposurediffusion.files.atomic import SOFTWARE_NAME, atomic
from exposurediffusion.files.develop import srgb_to_linear


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
        pixels = decode("picture", os.path.abspath(path), max_megapixels).arrays[0]
    except (DecodingError, MemoryError) as error:
        remedy = f"; {LARGER}" if isinstance(error, DecodingError) and "TooLargeError" in error.kinds else ""
        raise ValueError(f"{path}: cannot be read as a picture ({error}{remedy})") from error
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

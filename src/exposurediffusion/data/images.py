"""Clean pictures in: scene-linear or photographs, as linear RGB. Maps of numbers out."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from exposurediffusion.data.files import SOFTWARE_NAME, atomic

_LIGHT = ("MINISBLACK", "RGB", "YCBCR")  # what a TIFF's samples may be; the last is decoded to RGB
IMAGE_EXTENSIONS = (".hdr", ".tif", ".tiff", ".png", ".jpg", ".jpeg", ".webp")


def srgb_to_linear(x: np.ndarray) -> np.ndarray:
    """Inverse of the sRGB transfer curve (IEC 61966-2-1), [0, 1] to [0, 1]."""
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4).astype(np.float32)


def read_linear(path: Path, repaired: Callable[[str], None] | None = None) -> np.ndarray:
    """Read a picture as linear RGB.

    HDR (Radiance) and floating-point TIFF are taken as scene-linear; PNG, JPEG and integer TIFF as sRGB.

    Args:
        path: the file.
        repaired: is told where values were no numbers or infinite, and became 0 or the brightest light.

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


def find_images(folder: Path, problem: Callable[[str], None] = lambda _: None) -> list[Path]:
    """The pictures in a folder and below, sorted.

    Args:
        folder: links to folders in it are not followed.
        problem: is told of what cannot be looked at: folders that cannot be read, links that lead nowhere.
    """

    def closed(error: OSError) -> None:
        problem(f"{error.filename}: this folder cannot be read ({error.strerror}); left out")

    found = []
    for place, _, names in os.walk(folder, onerror=closed):
        for path in (Path(place, name) for name in names):
            if path.suffix.lower() not in IMAGE_EXTENSIONS:
                continue
            if os.path.isfile(path):
                found.append(path)
            elif path.is_symlink():
                problem(f"{path}: a link that leads nowhere, to {os.readlink(path)}; left out")
    return sorted(found)

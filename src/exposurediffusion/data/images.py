"""Clean pictures in: scene-linear or photographs, as linear RGB."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
from PIL import Image, UnidentifiedImageError

IMAGE_EXTENSIONS = (".hdr", ".tif", ".tiff", ".png", ".jpg", ".jpeg", ".webp")


def srgb_to_linear(x: np.ndarray) -> np.ndarray:
    """Inverse of the sRGB transfer curve (IEC 61966-2-1), [0, 1] to [0, 1]."""
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4).astype(np.float32)


def read_linear(path: Path) -> np.ndarray:
    """Read a picture as linear RGB.

    HDR (Radiance) and floating-point TIFF are taken as scene-linear; PNG, JPEG and integer TIFF as sRGB.

    Returns:
        float32, (rows, columns, 3), non-negative; 1 is the white of an sRGB picture.

    Raises:
        ValueError: not a picture that we read; the message names the file.
    """
    try:
        if path.suffix.lower() == ".hdr":
            return read_radiance(path)
        if path.suffix.lower() in (".tif", ".tiff"):
            pixels = tifffile.imread(path)
        else:
            with Image.open(path) as image:
                pixels = np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, tifffile.TiffFileError, OSError, ValueError, IndexError) as error:
        raise ValueError(f"{path}: cannot be read as a picture ({error})") from error
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=-1)
    if pixels.ndim != 3 or pixels.shape[-1] < 3:
        raise ValueError(f"{path}: not an RGB picture (shape {pixels.shape})")
    pixels = pixels[..., :3]
    if np.issubdtype(pixels.dtype, np.floating):
        return np.nan_to_num(pixels.astype(np.float32), posinf=65504.0).clip(min=0)
    return srgb_to_linear(pixels.astype(np.float32) / np.iinfo(pixels.dtype).max)


def read_radiance(path: Path) -> np.ndarray:
    """Read a Radiance RGBE picture; none of the libraries that we depend on does.

    Returns:
        float32, (rows, columns, 3), scene-linear.

    Raises:
        ValueError: not an RGBE picture in the usual orientation, or cut short.
    """
    data = path.read_bytes()
    header, _, body = data.partition(b"\n\n")
    size, _, pixels = body.partition(b"\n")
    words = size.split()
    if not header.startswith(b"#?") or len(words) != 4 or words[0] != b"-Y" or words[2] != b"+X":
        raise ValueError("not a Radiance picture stored from top to bottom")
    height, width = int(words[1]), int(words[3])
    rgbe = np.empty((height, 4, width), dtype=np.uint8)
    position = 0
    for row in range(height):
        if pixels[position : position + 4] != bytes((2, 2, width >> 8, width & 255)):
            flat = np.frombuffer(pixels, np.uint8, width * 4, position)  # not run-length encoded
            rgbe[row], position = flat.reshape(width, 4).T, position + 4 * width
            continue
        position += 4
        for channel in range(4):
            position = _decode_runs(pixels, position, rgbe[row, channel])
    scale = np.where(rgbe[:, 3] == 0, 0, np.exp2(rgbe[:, 3].astype(np.float32) - 136))
    return (rgbe[:, :3] * scale[:, None]).transpose(0, 2, 1).astype(np.float32)


def _decode_runs(data: bytes, position: int, out: np.ndarray) -> int:
    """Decode one channel of one scan line into `out`; the position after it."""
    filled = 0
    while filled < len(out):
        if position + 1 >= len(data):
            raise ValueError("the picture is cut short")
        count = data[position]
        if count > 128:  # a run of one value
            count -= 128
            out[filled : filled + count] = data[position + 1]
            position += 2
        else:
            out[filled : filled + count] = np.frombuffer(data, np.uint8, count, position + 1)
            position += 1 + count
        filled += count
    return position


def find_images(folder: Path) -> list[Path]:
    """The pictures in a folder and below, sorted."""
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_EXTENSIONS and p.is_file())

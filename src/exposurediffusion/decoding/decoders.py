"""Other people's decoders, as they are called in the decoding process. Imports nothing of ours that is heavy.

Each takes what JSON holds, and arrays; each returns what JSON holds, and arrays. What goes wrong is raised as it comes.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from exposurediffusion.decoding.limits import MEGABYTE, allow, fill_memory

if TYPE_CHECKING:
    import rawpy
    import tifffile

Answer = tuple[Any, Sequence[np.ndarray]]
_POISONS = (0xB6B6, 0x6D6D)  # what memory holds that no decoder wrote to
_LIGHT = ("MINISBLACK", "RGB", "YCBCR")  # what a TIFF's samples may be; the last is decoded to RGB


def libraw(path: str, pixels: bool, content: np.ndarray | None = None) -> Answer:
    """What LibRaw says about a raw file, and its image where `pixels` are wanted: see `decoding.raw.LibRawFile`.

    Args:
        path: of the file.
        pixels: whether to decode the image, too.
        content: uint8, bytes of a file to be read in place of the one at `path`.
    """
    size = os.path.getsize(path) if content is None else content.size
    source = _source(path) if content is None else content.tobytes()
    facts, image = _unpacked(source, pixels, size, _POISONS[0])
    if image is None:
        return {**facts, "unwritten": 0}, []
    # A value that the memory had before may also be one of the file's: the second time the memory has another.
    suspects = image == _POISONS[0]
    if suspects.any() and (again := _unpacked(source, pixels, size, _POISONS[1])[1]) is not None:
        top, left, height, width = (facts["sizes"][name] for name in ("top_margin", "left_margin", "height", "width"))
        lost = (suspects & (again == _POISONS[1]))[top : top + height, left : left + width]
        return {**facts, "unwritten": int(lost.sum())}, [image]
    return {**facts, "unwritten": 0}, [image]


def _unpacked(source: str | bytes, pixels: bool, size: int, poison: int) -> tuple[dict[str, Any], np.ndarray | None]:
    """What LibRaw says, and the image if it is wanted and has one number for each site."""
    import rawpy

    allow(256 * MEGABYTE + 2 * size)
    fill_memory(poison & 0xFF)
    try:
        with rawpy.imread(source if isinstance(source, str) else io.BytesIO(source)) as raw:
            sizes = raw.sizes
            if pixels:
                sites = max(sizes.raw_height * sizes.raw_width, sizes.height * sizes.width)
                allow(128 * MEGABYTE + 2 * size + 32 * sites, sites)
                raw.unpack()
            image = raw.raw_image.copy() if pixels and raw.raw_type == rawpy.RawType.Flat else None
            return _facts(raw, sizes), image
    finally:
        fill_memory(None)


def _source(path: str) -> str | bytes:
    """rawpy takes names in UTF-8 only, Unix allows any bytes."""
    try:
        path.encode()
    except UnicodeEncodeError:
        with open(path, "rb") as stream:
            return stream.read()
    return path


def _facts(raw: rawpy.RawPy, sizes: Any) -> dict[str, Any]:
    import rawpy

    try:
        pattern = raw.raw_pattern
    except NotImplementedError:
        pattern = None
    try:
        other = [float(getattr(raw.other, name)) for name in ("iso_speed", "shutter_speed", "aperture", "focal_length")]
    except (ValueError, OverflowError, OSError):  # rawpy fails on a timestamp that no calendar has
        other = None
    flat = raw.raw_type == rawpy.RawType.Flat
    # Asked for inside the visible area only: LibRaw's answer in the margins of an X-Trans sensor is not reliable.
    top, left = sizes.top_margin, sizes.left_margin
    rows, columns = (range(min(6, size) if flat and pattern is not None else 0) for size in (sizes.height, sizes.width))
    return {
        "sizes": {name: getattr(sizes, name) for name in sizes._fields},
        "flat": flat,
        "colours": raw.num_colors,
        "colour_names": raw.color_desc.decode(errors="replace"),
        "pattern_rows": None if pattern is None else len(pattern),
        "colour_of": [[int(raw.raw_color(top + i, left + j)) for j in columns] for i in rows],
        "black_level_per_channel": [float(v) for v in raw.black_level_per_channel],
        "white_level": None if raw.white_level is None else float(raw.white_level),
        "camera_white_level_per_channel": [float(v) for v in raw.camera_white_level_per_channel or ()],
        "camera_whitebalance": [float(v) for v in raw.camera_whitebalance],
        "rgb_xyz_matrix": np.asarray(raw.rgb_xyz_matrix, float).tolist(),
        "other": other,
        "lens": raw.lens.model,
    }


def embedded_picture(path: str, longest: int) -> Answer:
    """The picture that a raw file brings along: its EXIF orientation, or None where there is none; (h, w, 3) uint8."""
    import rawpy
    from PIL import Image

    size = os.path.getsize(path)
    allow(256 * MEGABYTE + 4 * size)
    source = _source(path)
    with rawpy.imread(source if isinstance(source, str) else io.BytesIO(source)) as raw:
        found, turned = raw.extract_thumb(), {3: 3, 5: 8, 6: 6}.get(raw.sizes.flip, 1)
    if found.format != rawpy.ThumbFormat.JPEG:
        return turned, [np.asarray(found.data)]
    with Image.open(io.BytesIO(bytes(found.data))) as picture:
        allow(128 * MEGABYTE + 16 * prod(picture.size), prod(picture.size))
        picture.draft("RGB", (longest, longest))
        return picture.getexif().get(0x0112, turned), [np.asarray(picture.convert("RGB"))]


def tiff_image(path: str, shape: Sequence[int] | None, photometric: int | None) -> Answer:
    """An image of a TIFF or DNG, in the file itself or in a sub-directory: None, and the array.

    Args:
        path: of the file.
        shape: that it must have; None: the first image is taken.
        photometric: that it must have, with `shape`.
    """
    import tifffile

    allow(256 * MEGABYTE)
    with tifffile.TiffFile(path) as file:  # what it logs goes where all goes that is printed here
        page = cast("tifffile.TiffPage", file.pages.first) if shape is None else _page(file, tuple(shape), photometric)
        return None, [_samples(path, page)]


def _page(file: tifffile.TiffFile, shape: tuple[int, ...], photometric: int | None) -> tifffile.TiffPage:
    import tifffile

    own = [cast("tifffile.TiffPage", page) for page in file.pages]
    for page in [*own, *(sub for parent in own for sub in parent.pages or ())]:
        if isinstance(page, tifffile.TiffPage) and page.photometric == photometric and page.shape == shape:
            return page
    raise ValueError("no image of the size that its tags say")


def _samples(path: str, page: tifffile.TiffPage) -> np.ndarray:
    allow(256 * MEGABYTE + 2 * os.path.getsize(path) + 24 * page.size, page.size)
    return page.asarray()


def picture(path: str) -> Answer:
    """A picture as it is stored: "linear" (Radiance HDR, or floats) or "sRGB"; (rows, columns, ...) numbers."""
    suffix, size = os.path.splitext(path)[1].lower(), os.path.getsize(path)
    if suffix == ".hdr":
        import imagecodecs

        allow(256 * MEGABYTE + 256 * size, 64 * size)  # a run of 127 takes two bytes
        with open(path, "rb") as stream:
            pixels = imagecodecs.rgbe_decode(stream.read())
    elif suffix in (".tif", ".tiff"):
        import tifffile

        allow(256 * MEGABYTE)
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            if (kind := getattr(page.photometric, "name", page.photometric)) not in _LIGHT:
                raise ValueError(f"its samples are {kind}, not grey or RGB; save it as RGB")
            pixels = _samples(path, cast("tifffile.TiffPage", page))
            pixels = np.moveaxis(pixels, 0, -1) if page.axes == "SYX" else pixels  # planar RGB
    else:
        from PIL import Image

        allow(256 * MEGABYTE)
        with Image.open(path) as image:
            allow(256 * MEGABYTE + 2 * size + 32 * prod(image.size), prod(image.size))
            # 16-bit grey would be clipped by convert()
            pixels = np.asarray(image if image.mode.startswith("I") else image.convert("RGB"))
    return None, [pixels]

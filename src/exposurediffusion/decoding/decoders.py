"""Other people's decoders, as they are called in the decoding process. Imports nothing of ours that is heavy.

Each takes what JSON holds, and arrays; each returns what JSON holds, and arrays. What goes wrong is raised as it comes.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from exposurediffusion.decoding.limits import MEGABYTE, allow, fill_memory
from exposurediffusion.decoding.megapixels import check_size

if TYPE_CHECKING:
    import rawpy
    import tifffile

Answer = tuple[Any, Sequence[np.ndarray]]
_POISONS = (0xB6B6, 0x6D6D)  # what memory holds that no decoder wrote to
_FORMATS = ("PNG", "JPEG", "WEBP")  # Pillow knows others, some of which start programs
_MOST_SAMPLES = 16  # of a TIFF's pixel
_RESOLUTION = re.compile(rb"\n[-+][XY] +(\d{1,18}) +[-+][XY] +(\d{1,18})\s")  # of a Radiance file: rows and columns
_LIGHT = ("MINISBLACK", "RGB", "YCBCR")  # what a TIFF's samples may be; the last is decoded to RGB


def libraw(path: str, most: float, pixels: bool, content: np.ndarray | None = None) -> Answer:
    """What LibRaw says about a raw file, and its image where `pixels` are wanted: see `decoding.raw.LibRawFile`.

    Args:
        path: of the file.
        most: megapixels that the image may have.
        pixels: whether to decode the image, too.
        content: uint8, bytes of a file to be read in place of the one at `path`.
    """
    size = os.path.getsize(path) if content is None else content.size
    source = _source(path) if content is None else content.tobytes()
    facts, image = _unpacked(source, most, pixels, size, _POISONS[0])
    if image is None:
        return {**facts, "unwritten": 0}, []
    # A value that the memory had before may also be one of the file's: the second time the memory has another.
    suspects = image == _POISONS[0]
    if suspects.any() and (again := _unpacked(source, most, pixels, size, _POISONS[1])[1]) is not None:
        top, left, height, width = (facts["sizes"][name] for name in ("top_margin", "left_margin", "height", "width"))
        lost = (suspects & (again == _POISONS[1]))[top : top + height, left : left + width]
        return {**facts, "unwritten": int(lost.sum())}, [image]
    return {**facts, "unwritten": 0}, [image]


def _unpacked(
    source: str | bytes, most: float, pixels: bool, size: int, poison: int
) -> tuple[dict[str, Any], np.ndarray | None]:
    """What LibRaw says, and the image if it is wanted and has one number for each site."""
    import rawpy

    allow(256 * MEGABYTE + 2 * size)
    fill_memory(poison & 0xFF)
    try:
        with rawpy.imread(source if isinstance(source, str) else io.BytesIO(source)) as raw:
            sizes = raw.sizes
            if pixels:
                check_size(sizes.raw_height, sizes.raw_width, most)
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
    with Image.open(io.BytesIO(bytes(found.data)), formats=["JPEG"]) as picture:
        allow(128 * MEGABYTE + 16 * prod(picture.size), prod(picture.size))
        picture.draft("RGB", (longest, longest))
        return picture.getexif().get(0x0112, turned), [np.asarray(picture.convert("RGB"))]


def tiff_image(path: str, most: float, shape: Sequence[int] | None, photometric: int | None) -> Answer:
    """An image of a TIFF or DNG, in the file itself or in a sub-directory: None, and the array.

    Args:
        path: of the file.
        most: megapixels that it may have.
        shape: that it must have; None: the first image is taken.
        photometric: that it must have, with `shape`.
    """
    import tifffile

    allow(256 * MEGABYTE)
    with tifffile.TiffFile(path) as file:  # what it logs goes where all goes that is printed here
        page = cast("tifffile.TiffPage", file.pages.first) if shape is None else _page(file, tuple(shape), photometric)
        return None, [_samples(path, page, most)]


def _page(file: tifffile.TiffFile, shape: tuple[int, ...], photometric: int | None) -> tifffile.TiffPage:
    import tifffile

    own = [cast("tifffile.TiffPage", page) for page in file.pages]
    for page in [*own, *(sub for parent in own for sub in parent.pages or ())]:
        if isinstance(page, tifffile.TiffPage) and page.photometric == photometric and page.shape == shape:
            return page
    raise ValueError("no image of the size that its tags say")


def _samples(path: str, page: tifffile.TiffPage, most: float) -> np.ndarray:
    check_size(page.imagelength * page.imagedepth, page.imagewidth, most)
    if page.samplesperpixel > _MOST_SAMPLES:
        raise ValueError(f"{page.samplesperpixel} samples a pixel; save it as RGB")
    allow(256 * MEGABYTE + 2 * os.path.getsize(path) + 24 * page.size, page.size)
    return page.asarray()


def picture(path: str, most: float) -> Answer:
    """A picture as it is stored: None, and (rows, columns, ...) numbers.

    Args:
        path: of the file.
        most: megapixels that it may have.
    """
    suffix, size = os.path.splitext(path)[1].lower(), os.path.getsize(path)
    allow(256 * MEGABYTE + 2 * size)
    if suffix == ".hdr":
        import imagecodecs

        with open(path, "rb") as stream:
            content = stream.read()
        pixels = 0
        if resolution := _RESOLUTION.search(content[: 1 << 16]):
            check_size(rows := int(resolution[1]), columns := int(resolution[2]), most)
            pixels = rows * columns
        allow(256 * MEGABYTE + 2 * size + 32 * pixels, pixels)
        found = imagecodecs.rgbe_decode(content)
    elif suffix in (".tif", ".tiff"):
        import tifffile

        with tifffile.TiffFile(path) as file:
            page = cast("tifffile.TiffPage", file.pages.first)
            if (kind := getattr(page.photometric, "name", page.photometric)) not in _LIGHT:
                raise ValueError(f"its samples are {kind}, not grey or RGB; save it as RGB")
            found = _samples(path, page, most)
            found = np.moveaxis(found, 0, -1) if page.axes == "SYX" else found  # planar RGB
    else:
        from PIL import Image

        Image.MAX_IMAGE_PIXELS = None  # there is a limit of our own
        with Image.open(path, formats=_FORMATS) as image:
            check_size(image.height, image.width, most)
            allow(256 * MEGABYTE + 2 * size + 32 * prod(image.size), prod(image.size))
            # 16-bit grey would be clipped by convert()
            found = np.asarray(image if image.mode.startswith("I") else image.convert("RGB"))
    return None, [found]

"""DNGs that are valid but that LibRaw does not read: BigTIFF, deflated or JPEG XL, of floats, with strips in any order.

tifffile decodes the image. The file is then wrapped anew, in memory and uncompressed, so that LibRaw still reports all
the rest: levels, colour filter array, margins and colours are read in one way, whatever the file.
"""

from __future__ import annotations

import os

import numpy as np

from exposurediffusion.decoding.process import DecodingError, decode
from exposurediffusion.files.exif import EXIF_IFD, FLOAT, GPS_IFD, SAMPLE_FORMAT, SUB_IFDS, FileTags
from exposurediffusion.files.tiff import LONG, SHORT, entry, tiff_bytes
from exposurediffusion.raw.refusal import (
    DEFLATE,
    JPEG,
    JPEG_XL,
    PLAIN,
    STRIPS,
    TILES,
    UNCOMPRESSED,
    RawError,
    in_order,
    jpeg_at,
    number,
)

_ROW_FIELDS, _COLUMN_FIELDS, _SUB_TILES = 50975, 52547, 50974  # DNG's RowInterleaveFactor and its kin
_CFA = 32803  # TIFF's PhotometricInterpretation of a mosaic
_HUGE = 1e3  # times white: a float that no light explains


def libraw_reads(name: str, tags: FileTags) -> bool:
    """Whether LibRaw decodes this file itself; only of DNGs it is known that it does not."""
    if not tags.is_dng or not tags.raw:
        return True
    compression = number(tags.raw, 259, 1)
    if compression == JPEG and _is_taken_for_several(name, tags):
        return False
    plain = compression not in (*DEFLATE, *JPEG_XL) and number(tags.raw, SAMPLE_FORMAT, 1) != FLOAT
    return plain and not tags.big and (compression != UNCOMPRESSED or TILES[0] in tags.raw or in_order(tags.raw))


def _is_taken_for_several(name: str, tags: FileTags) -> bool:
    """Whether a tile, by its columns, is what LibRaw takes for several pictures in one JPEG: it then reads too far."""
    chunks = TILES if TILES[0] in tags.raw else STRIPS
    with open(name, "rb") as stream:
        first = jpeg_at(stream, number(tags.raw, chunks[0], 0), number(tags.raw, chunks[1], 0))
    if first is None or first.components == 1:
        return False
    return first.columns * first.components**2 == number(tags.raw, 256, 0)


def decoded(name: str, tags: FileTags, most: float) -> np.ndarray:
    """The whole sensor's image of a DNG, margins included: (rows, columns), uint16, or float32 if the file has floats.

    Args:
        name: of the file.
        tags: its own.
        most: megapixels that it may have.

    Raises:
        RawError: damaged data, or a variant that is not supported.
    """
    raw = tags.raw
    shape = (number(raw, 257, 0), number(raw, 256, 0))
    if raw[_SUB_TILES].numbers not in ((1, 1), (0, 0)) if _SUB_TILES in raw else False:
        raise RawError(name, "its tiles are split in blocks, which is not supported", PLAIN)
    try:
        image = decode("tiff_image", os.path.abspath(name), most, shape, _CFA).arrays[0]
    except DecodingError as error:
        if {"ImportError", "NotImplementedError"} & set(error.kinds):
            raise RawError(name, f"its compression is not supported ({error})", PLAIN) from error
        raise
    if image.shape != shape or image.dtype.kind not in "uf" or (image.dtype.kind == "u" and image.dtype.itemsize > 2):
        raise RawError(name, f"its samples ({image.dtype}) are not supported", PLAIN)
    for axis, tag in ((0, _ROW_FIELDS), (1, _COLUMN_FIELDS)):
        image = _woven(image, axis, number(raw, tag, 1))
    return np.ascontiguousarray(image, np.float32 if image.dtype.kind == "f" else np.uint16)


def _woven(image: np.ndarray, axis: int, fields: int) -> np.ndarray:
    """Put lines that are stored by fields (all even ones, then all odd ones) in their places."""
    if not 1 < fields <= image.shape[axis]:
        return image
    order = np.concatenate([np.arange(field, image.shape[axis], fields) for field in range(fields)])
    return image.take(np.argsort(order), axis)


def rewrapped(tags: FileTags, image: np.ndarray | None) -> bytes:
    """A plain DNG that LibRaw reads, with the tags of another and this image (uint16; None or float: zeros)."""
    main = {tag: value for tag, value in (tags.main | tags.raw).items() if tag not in _REPLACED}
    rows, columns = number(tags.raw, 257, 0), number(tags.raw, 256, 0)
    size = 2 * rows * columns
    main |= {258: entry(SHORT, 16), 259: entry(SHORT, 1), 278: entry(LONG, rows), 279: entry(LONG, size)}
    head = tiff_bytes([main, *([tags.exif] if tags.exif else [])], {EXIF_IFD: [1]} if tags.exif else {}, [(0, [size])])
    plain = image is not None and image.dtype == np.uint16
    return head + (image.astype("<u2").tobytes() if image is not None and plain else bytes(size))


_REPLACED = {*STRIPS, *TILES, 317, 322, 323, SAMPLE_FORMAT, _ROW_FIELDS, _COLUMN_FIELDS}
_REPLACED |= {EXIF_IFD, GPS_IFD, SUB_IFDS}


def unusable(image: np.ndarray, white: float) -> np.ndarray:
    """Where a float image is not a number or beyond all light: (rows, columns) bool."""
    return ~(np.abs(image) <= _HUGE * max(abs(white), 1e-30))


def without_holes(mosaic: np.ndarray, holes: np.ndarray, period: int) -> np.ndarray:
    """A mosaic whose holes take the value of the last sound site of the same kind in their row, else of the median."""
    out = mosaic.copy()
    for i in range(period):
        for j in range(period):
            values, bad = out[i::period, j::period], holes[i::period, j::period]
            last = np.maximum.accumulate(np.where(bad, -1, np.arange(values.shape[1])), 1)
            typical = np.median(values[~bad]) if not bad.all() else 0
            values[bad] = np.where(last < 0, typical, np.take_along_axis(values, np.maximum(last, 0), 1))[bad]
    return out

"""How a mosaic is stored in a DNG: levels, rounding, tiles, compression.

Computed (float) frames are scaled so that black is at a sixteenth of the range: well above zero it keeps the negative
half of the noise. They are rounded with dither: an editor may brighten a clean, dark frame, and plain rounding would
then show as bands. As many bits are used as the rounding needs to stay unseen, with one EV to spare, since each bit
more is mere dither that no compression shrinks; where 16 do not suffice, floating point. Integer frames are stored
verbatim.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import imagecodecs
import numpy as np

from exposurediffusion.files.metadata import BLACK_LEVEL, BLACK_REPEAT, WHITE_LEVEL
from exposurediffusion.files.tiff import LONG, RATIONAL, SHORT, Tags, entry
from exposurediffusion.physics.sensor import RawFrame

Bits = Literal["auto", "16", "16f", "32f"]
Compression = Literal["none", "lossless"]
_FLOATS = {"16f": np.float16, "32f": np.float32}
_UNSEEN = 0.5 / 255 / 12.92  # half an sRGB code in the darks, in linear light of which 1 is white
_DITHER = 0.41  # root mean square of a dithered rounding, in steps
_SPARE = 1.0  # EV by which editors may brighten a frame further
_TILE = {2: 256, 6: 288}  # sides, by the period of the array: multiples of 16, as TIFF wants them
_CHUNK = 1 << 22  # sites converted at a time


@dataclass(frozen=True)
class Samples:
    """A mosaic as it is stored.

    Attributes:
        tags: of its directory: form of the samples, levels, tiles, compression.
        sizes: bytes of each tile, or of the one strip.
        blocks: their bytes, in pieces, for one pass.
    """

    tags: Tags
    sizes: tuple[int, ...]
    blocks: Iterable[bytes | memoryview]


def encode(frame: RawFrame, ev: float, bits: Bits, compression: Compression) -> Samples:
    """A frame's mosaic as samples of a DNG.

    Args:
        frame: uint16 mosaics are stored verbatim with their own levels, whatever `bits` says.
        ev: by how much editors will brighten it.
        bits: 16: integers; 16f, 32f: floating point; auto: by what the rounding would show.
        compression: none; lossless: JPEG as cameras write it, for floats Deflate.

    Raises:
        ValueError: levels that 16 bits cannot hold.
    """
    verbatim = frame.mosaic.dtype == np.uint16
    sensor = frame.sensor
    black, white = (sensor.black_level, sensor.white_level) if verbatim else levels(ev, bits)
    if min(black) < 0 or not 0 < white <= 65535:
        raise ValueError(f"a DNG holds levels from 0 to 65535, not black {min(black):g} and white {white:g}")
    is_float = not verbatim and white == 1
    kind = np.dtype(_FLOATS["16f" if bits == "auto" else bits] if is_float else np.uint16)
    tags = _level_tags(frame, black, white) | {258: entry(SHORT, 8 * kind.itemsize), 277: entry(SHORT, 1)}
    if is_float:
        tags[339] = entry(SHORT, 3)  # SampleFormat
    bands = _bands(frame, black[0], white, kind)
    side = _side(frame)
    if compression == "none" or frame.shape[1] < side:  # many a decoder ends a line of a tile with the picture
        size = kind.itemsize * frame.mosaic.size
        tags |= {259: entry(SHORT, 1), 278: entry(LONG, frame.shape[0]), 279: entry(LONG, size)}
        return Samples(tags, (size,), (np.ascontiguousarray(band).data.cast("B") for band in bands))
    tiles = _tiles(bands, side)
    tags |= {322: entry(LONG, side), 323: entry(LONG, side), 284: entry(SHORT, 1)}
    with ThreadPoolExecutor() as pool:
        if is_float:
            blocks = list(pool.map(_deflated, tiles))
            tags |= {259: entry(SHORT, 8), 317: entry(SHORT, 34894)}  # FloatingPointX2: each colour for itself
        else:
            blocks = list(pool.map(_lossless_jpeg, tiles))
            tags[259] = entry(SHORT, 7)
    sizes = tuple(map(len, blocks))
    return Samples(tags | {325: entry(LONG, *sizes)}, sizes, blocks)


def levels(ev: float, bits: Bits) -> tuple[tuple[float, ...], float]:
    """Black and white level of a computed frame that editors brighten by `ev`; white 1 means floating point."""
    if bits == "16":
        return (4096,), 65535
    step = _UNSEEN / _DITHER / 2 ** (ev + _SPARE)
    whites = [2**n - 1 for n in (14, 15, 16) if bits == "auto" and step * (2**n - 2 ** (n - 4)) > 1]
    return ((whites[0] // 16 + 1,), whites[0]) if whites else ((0,), 1)


def is_floating(ev: float, bits: Bits) -> bool:
    """Whether a computed frame that editors brighten by `ev` is stored in floating point."""
    return levels(ev, bits)[1] == 1


def _level_tags(frame: RawFrame, black: tuple[float, ...], white: float) -> Tags:
    period = frame.sensor.cfa.period if len(set(black)) > 1 else 1
    each = black if period > 1 else black[:1]
    return {
        BLACK_REPEAT: entry(SHORT, period, period),
        BLACK_LEVEL: entry(RATIONAL, *each) if any(level % 1 for level in each) else entry(SHORT, *each),
        WHITE_LEVEL: entry(LONG, round(white)),
    }


def _bands(frame: RawFrame, black: float, white: float, kind: np.dtype) -> Iterator[np.ndarray]:
    """The mosaic as it is stored, some rows of tiles at a time."""
    side = _side(frame)
    rows = max(1, _CHUNK // frame.shape[1] // side) * side
    dither = np.random.default_rng(0)  # one frame, one file
    for top in range(0, frame.shape[0], rows):
        part = frame.mosaic[top : top + rows]
        if part.dtype == np.uint16:
            yield part.astype("<u2", copy=False)
            continue
        values = frame.sensor.normalise(part).numpy()
        np.nan_to_num(values, copy=False, nan=0, posinf=1, neginf=0)
        values *= white - black
        if kind.kind == "f":
            yield np.clip(values, -65504, 65504, out=values).astype(kind.newbyteorder("<"))
            continue
        values += black
        values += dither.random(values.shape, dtype=np.float32)  # up or down at random, right on average
        yield np.clip(np.floor(values, out=values), 0, white, out=values).astype("<u2")


def _side(frame: RawFrame) -> int:
    """The side of a tile.

    LibRaw takes a tile whose columns times components are the picture's for one of several pictures in one JPEG.
    """
    side = _TILE[frame.sensor.cfa.period]
    return 2 * side if frame.shape[1] == side * _components(side) else side


def _components(side: int) -> int:
    """Of a pixel in a tile of this side: neighbours at this distance are mostly of one colour.

    Four of a Bayer array, three of X-Trans, where greens have greens so far.
    """
    return 3 if side % 6 == 0 else 4


def _tiles(bands: Iterable[np.ndarray], side: int) -> Iterator[np.ndarray]:
    """Square tiles in reading order; beyond the picture they are 0, which costs nothing."""
    for band in bands:
        whole = np.pad(band, [(0, -size % side) for size in band.shape])
        for row in np.split(whole, len(whole) // side):
            yield from np.split(row, row.shape[1] // side, axis=1)


def _lossless_jpeg(tile: np.ndarray) -> bytes:
    """A tile as one JPEG of process 14 (lossless), predictor 1: the left neighbour of the same colour.

    Neighbours are the components of a pixel.
    """
    pixels = np.ascontiguousarray(tile).reshape(len(tile), -1, _components(len(tile)))
    as_is = "RGB" if pixels.shape[2] == 3 else None  # no colours are converted
    return bytes(
        imagecodecs.jpeg8_encode(
            pixels, lossless=True, predictor=1, bitspersample=16, colorspace=as_is, outcolorspace=as_is
        )
    )


def _deflated(tile: np.ndarray) -> bytes:
    """A tile of floats, by the predictor of Adobe's Photoshop TIFF Technical Note 3 for each second value."""
    coded = imagecodecs.floatpred_encode(np.ascontiguousarray(tile), dist=2)
    return bytes(imagecodecs.zlib_encode(coded.tobytes(), 6))

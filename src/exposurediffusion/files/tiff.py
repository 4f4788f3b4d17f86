"""TIFF directories (IFDs), read leniently and written exactly.

Raw files, DNG, EXIF blocks and 16-bit TIFF pictures all share this container. tifffile cannot write EXIF or GPS
sub-directories ("extratags cannot be used to write IFD type tags"), and no other dependency keeps a tag's type when it
copies it, so the forty lines that it takes live here.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from io import BufferedIOBase
from itertools import accumulate

import numpy as np

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, SRATIONAL, DOUBLE = 1, 2, 3, 4, 5, 7, 10, 12
_FORMAT = {1: "u1", 2: "u1", 3: "u2", 4: "u4", 5: "u4", 6: "i1", 7: "u1", 8: "i2", 9: "i4", 10: "i4", 11: "f4",
           12: "f8", 13: "u4", 16: "u8", 17: "i8", 18: "u8"}  # fmt: skip
_BIG = (16, 18)  # BigTIFF's LONG8 and IFD8: read as LONG where they fit
_MAX_BYTES = 1 << 26  # of one value: nothing that is a tag is larger, and a damaged count must not exhaust memory
_MAX_NUMBERS = 1 << 20  # of one value, where its numbers are asked for
_LARGEST = 1 << 31  # of what a rational's numerator holds, signed or not


class TooMuch(ValueError):
    """A file claims more tags, or larger ones, than any photograph has."""


@dataclass
class Budget:
    """What the directories of a file may still hold, all together.

    Attributes:
        tags: their number.
        size: bytes of their values; a DNG may embed a whole raw file.
    """

    tags: int = 16_384
    size: int = 1 << 27

    def spend(self, size: int) -> None:
        """Account for a tag.

        Raises:
            TooMuch: nothing is left.
        """
        self.tags, self.size = self.tags - 1, self.size - size
        if min(self.tags, self.size) < 0:
            raise TooMuch("its directories claim more tags, or larger ones, than any photograph has")


@dataclass(frozen=True)
class Entry:
    """One tag's value: TIFF type and little-endian bytes, and where in a file they lay, from its TIFF header."""

    kind: int
    data: bytes
    place: int = field(default=0, compare=False)

    @property
    def count(self) -> int:
        """Number of values as TIFF counts them (a rational is one)."""
        return len(self.data) // _size(self.kind)

    @property
    def numbers(self) -> tuple[float, ...]:
        """The values as numbers; a rational with denominator zero is nan.

        Raises:
            TooMuch: there are more than a million.
        """
        if self.count > _MAX_NUMBERS:
            raise TooMuch(f"a tag of {self.count} numbers")
        values = np.frombuffer(self.data, "<" + _FORMAT[self.kind]).astype(float)
        if self.kind in (RATIONAL, SRATIONAL):
            with np.errstate(divide="ignore", invalid="ignore"):
                values = values[0::2] / values[1::2]
            values = np.where(np.isfinite(values), values, np.nan)
        return tuple(float(v) for v in values)

    @property
    def text(self) -> str:
        """The value as text, up to the first NUL, without outer blanks."""
        return self.data.split(b"\0")[0].decode("utf-8", "replace").strip()


Tags = dict[int, Entry]


def _size(kind: int) -> int:
    return np.dtype(_FORMAT[kind]).itemsize * (2 if kind in (RATIONAL, SRATIONAL) else 1)


def entry(kind: int, *values: float) -> Entry:
    """Numbers -> value of a type; rationals are the best ones with denominators up to a million, as far as they fit."""
    if kind not in (RATIONAL, SRATIONAL):
        return Entry(kind, np.asarray(values).astype("<" + _FORMAT[kind]).tobytes())
    most = [max(1, min(1_000_000, int(_LARGEST / max(abs(v), 1)))) for v in values]
    parts = [Fraction(float(v)).limit_denominator(m).as_integer_ratio() for v, m in zip(values, most, strict=True)]
    return Entry(kind, np.asarray(parts).astype("<" + _FORMAT[kind]).tobytes())


def text_entry(value: str) -> Entry:
    """Text -> NUL-terminated ASCII value (UTF-8 where the text is not ASCII, "?" for what no UTF-8 can say)."""
    return Entry(ASCII, value.replace("\0", " ").encode(errors="replace") + b"\0")


def read_header(stream: BufferedIOBase, base: int = 0) -> tuple[str, int, bool]:
    """Byte order ("<" or ">"), offset of the first directory, and whether it is a BigTIFF.

    Olympus and Panasonic raws differ from TIFF in the two bytes that follow the byte order, so these are not checked.

    Raises:
        ValueError: not a TIFF-like file.
    """
    stream.seek(base)
    head = stream.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 8:
        raise ValueError("no TIFF header")
    big = len(head) == 16 and struct.unpack(order + "HHH", head[2:8]) == (43, 8, 0)
    return order, int(struct.unpack(order + ("Q" if big else "I"), head[8:] if big else head[4:8])[0]), big


def read_ifd(
    stream: BufferedIOBase,
    offset: int,
    order: str,
    base: int = 0,
    *,
    big: bool = False,
    budget: Budget | None = None,
) -> Tags:
    """Read one directory; entries of an unknown type, or that lie outside the file, are left out.

    Args:
        stream: seekable binary file.
        offset: of the directory, from `base`.
        order: "<" or ">".
        base: position of the TIFF header in the file.
        big: whether the file is a BigTIFF.
        budget: what all directories of the file may hold together; None: of this one alone.

    Raises:
        TooMuch: they hold more.
    """
    budget, end = budget or Budget(), stream.seek(0, 2)
    counted, word, room = ("Q", "Q", 8) if big else ("H", "I", 4)
    stream.seek(base + offset)
    number = stream.read(struct.calcsize(order + counted))
    if len(number) < struct.calcsize(order + counted):
        return {}
    step = 4 + 2 * room
    table = stream.read(step * min(65535, struct.unpack(order + counted, number)[0]))
    tags: Tags = {}
    for start in range(0, len(table) - step + 1, step):
        tag, kind, count = struct.unpack_from(order + "HH" + word, table, start)
        if kind not in _FORMAT or not 0 < count * _size(kind) <= _MAX_BYTES or tag in tags:
            continue
        length, at, place = count * _size(kind), start + 4 + room, 0
        data = table[at : at + length]
        if length > room:
            place = int(struct.unpack_from(order + word, table, at)[0])
            if base + place + length > end:
                continue
            budget.spend(length)
            stream.seek(base + place)
            data = stream.read(length)
        else:
            budget.spend(0)
        if len(data) == length:
            values = np.frombuffer(data, order + _FORMAT[kind])
            if kind in _BIG and values.max() < 1 << 32:
                kind = LONG
            tags[tag] = Entry(kind, values.astype("<" + _FORMAT[kind]).tobytes(), place)
    return tags


def ifd_bytes(tags: Tags, offset: int) -> bytes:
    """A directory and its values, to be placed at `offset` (even) of a little-endian file."""
    values = b""
    table = struct.pack("<H", len(tags))
    room = offset + 2 + 12 * len(tags) + 4
    for tag, value in sorted(tags.items()):
        table += struct.pack("<HHI", tag, value.kind, value.count)
        if len(value.data) <= 4:
            table += value.data.ljust(4, b"\0")
        else:
            table += struct.pack("<I", room + len(values))
            values += value.data + b"\0" * (len(value.data) % 2)
    return table + struct.pack("<I", 0) + values


def rgb_tags(picture: np.ndarray) -> Tags:
    """What a directory must say of an uncompressed (h, w, 3) uint8 or uint16 picture, but for its strip's place."""
    height, width = picture.shape[:2]
    return {
        256: entry(LONG, width),
        257: entry(LONG, height),
        258: entry(SHORT, *(8 * picture.itemsize,) * 3),
        259: entry(SHORT, 1),  # no compression
        262: entry(SHORT, 2),  # RGB
        277: entry(SHORT, 3),
        278: entry(LONG, height),
        279: entry(LONG, picture.nbytes),
        282: entry(RATIONAL, 300),
        283: entry(RATIONAL, 300),
        284: entry(SHORT, 1),
        296: entry(SHORT, 2),
    }


STRIP_OFFSETS, TILE_OFFSETS, TILE_SIZES = 273, 324, 325


def tiff_bytes(
    directories: Sequence[Tags], links: Mapping[int, Sequence[int]], blocks: Sequence[tuple[int, Sequence[int]]]
) -> bytes:
    """Header and directories of a little-endian TIFF file whose data blocks follow in order, each from an even place.

    Args:
        directories: the first is IFD0, the others are its sub-directories.
        links: tag of IFD0 -> numbers of the directories that it points to.
        blocks: (number of a directory, lengths in bytes of its strips or tiles). Their offsets are added here, those of
            tiles where the directory has TileByteCounts; everything else must be in the directories.
    """
    filled = [dict(tags) for tags in directories]
    for tag, numbers in links.items():
        filled[0][tag] = entry(LONG, *(0 for _ in numbers))
    for number, lengths in blocks:
        filled[number][_offsets(filled[number])] = entry(LONG, *(0 for _ in lengths))
    starts, position = [], 8
    for tags in filled:
        starts.append(position)
        position += len(ifd_bytes(tags, position))
    for tag, numbers in links.items():
        filled[0][tag] = entry(LONG, *(starts[number] for number in numbers))
    for number, lengths in blocks:
        offsets = list(accumulate((length + length % 2 for length in lengths), initial=position))
        filled[number][_offsets(filled[number])] = entry(LONG, *offsets[:-1])
        position = offsets[-1]
    return b"II*\0" + struct.pack("<I", 8) + b"".join(map(ifd_bytes, filled, starts))


def _offsets(tags: Tags) -> int:
    return TILE_OFFSETS if TILE_SIZES in tags else STRIP_OFFSETS

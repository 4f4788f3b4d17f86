"""What makes a file unusable as a raw photograph before anything is decoded, and how that is said."""

from __future__ import annotations

import os
from dataclasses import dataclass
from io import BufferedIOBase

import numpy as np

from exposurediffusion.files.exif import FileTags
from exposurediffusion.files.tiff import Tags

COPY = "copy it again from the camera or card"
CONVERT = "convert it to DNG, or update rawpy"
MOSAIC = "give the camera's own raw file of a Bayer or X-Trans camera"
PLAIN = "save it anew as an uncompressed or losslessly compressed DNG"
"""What to do about a file, for the end of a message."""
STRIPS, TILES = (273, 279), (324, 325)
"""Tags of where an image's data are: offsets and byte counts."""
UNCOMPRESSED, JPEG, DEFLATE, JPEG_XL = 1, 7, (8, 32946), (50002, 52546)
"""Values of TIFF's Compression in DNGs."""
_LINEAR, _BACKWARD_VERSION = 34892, 50707
_HEAD = 4096  # bytes of a JPEG that its headers fit into


class RawError(ValueError):
    """A file that cannot be used as a raw photograph; the message is one line: the file, what is wrong, what to do."""

    def __init__(self, path: str | os.PathLike[str], problem: str, advice: str) -> None:
        super().__init__(f"{os.fspath(path)}: {problem}; {advice}".replace("\n", " "))


def check_tags(name: str, tags: FileTags) -> None:
    """Refuse what the file's own tags rule out, before anything is decoded.

    Raises:
        RawError: another kind of picture, truncated, or with a part of its image missing.
    """
    if tags.main and not tags.is_dng and (name.lower().endswith(".dng") or _BACKWARD_VERSION in tags.main):
        raise RawError(name, "damaged: its DNGVersion is missing, without which nothing else is sure", COPY)
    if not tags.raw:
        if tags.is_dng:
            raise RawError(name, "damaged: what describes its image is missing", COPY)
        return
    raw = tags.raw
    if tags.is_dng and raw[262].numbers[0] == _LINEAR:
        if number(raw, 277, 1) == 1:
            raise RawError(name, "monochrome (a sensor without colour filters)", MOSAIC)
        raise RawError(name, "already demosaiced (linear DNG)", MOSAIC)
    if tags.is_dng and 33421 in raw and raw[33421].numbers not in ((2, 2), (6, 6)):
        rows, columns = (f"{n:g}" for n in (*raw[33421].numbers, 0, 0)[:2])
        raise RawError(name, f"its colour filter pattern repeats over {rows}x{columns} sites", MOSAIC)
    size, needed = os.path.getsize(name), _needed_bytes(tags)
    if needed > size:
        raise RawError(name, f"truncated: it has {size} bytes and needs at least {needed}", COPY)
    if not tags.is_dng:
        return
    compression = number(raw, 259, 1)
    if compression not in (UNCOMPRESSED, JPEG, *DEFLATE, *JPEG_XL):
        raise RawError(name, f"its compression (number {compression}) is not supported", PLAIN)
    if not _chunks_are_there(name, raw, compression):
        raise RawError(name, "damaged: a part of the image data is missing", COPY)


def number(tags: Tags, tag: int, default: int) -> int:
    """The first number of a tag, whole; `default` where there is none."""
    return int(tags[tag].numbers[0]) if tag in tags and np.isfinite(tags[tag].numbers[0]) else default


def _needed_bytes(tags: FileTags) -> int:
    """Where the image data end, as far as the tags can be trusted: byte counts have other meanings outside DNG."""
    ends = [0.0]
    for start, length in (STRIPS, TILES):
        offsets, lengths = (np.array(tags.raw[tag].numbers if tag in tags.raw else ()) for tag in (start, length))
        if offsets.size and offsets.size == lengths.size:
            ends.append(float((offsets + (lengths if tags.is_dng else 1)).max()))
    return int(max(ends))


def _chunks_are_there(name: str, raw: Tags, compression: int) -> bool:
    """Whether all strips or tiles of an image lie in the file, none twice; those of lossless JPEG agree with the tags.

    LibRaw skips those that are missing or broken without a word and leaves unwritten memory in their place.
    """
    width, height, bits = number(raw, 256, 0), number(raw, 257, 0), number(raw, 258, 16)
    size = os.path.getsize(name)
    kinds = [kind for kind in (TILES, STRIPS) if kind[0] in raw]
    if not kinds or min(width, height) < 1 or (kinds[0] == TILES and not {322, 323} <= set(raw)):
        return False
    offsets = raw[kinds[0][0]].numbers
    across, down = (
        (number(raw, 322, 0), number(raw, 323, 0)) if kinds[0] == TILES else (width, number(raw, 278, height))
    )
    count = -(-width // across) * -(-height // down) if min(across, down) > 0 else 0
    if not 0 < count <= len(offsets) or not all(0 < at < size for at in offsets):
        return False
    lengths = raw[kinds[0][1]].numbers if kinds[0][1] in raw else ()
    if compression == UNCOMPRESSED and kinds[0] == STRIPS:
        if in_order(raw):  # LibRaw reads on from the first strip, whatever the others say
            return offsets[0] + width * height * bits / 8 <= size
        return len(lengths) == len(offsets) and sum(lengths) * 8 >= width * height * bits and _apart(offsets, lengths)
    if compression == UNCOMPRESSED:
        return max(offsets) + across * down * bits / 8 <= size
    if len(lengths) != len(offsets) or not min(lengths) > 0:
        return False
    if compression != JPEG:
        return True
    wanted = [across * down] * count
    if kinds[0] == STRIPS:
        wanted[-1] = across * (height - down * (count - 1))
    with open(name, "rb") as stream:
        pieces = zip(wanted, offsets, lengths, strict=False)
        return 8 <= bits <= 16 and all(_holds(stream, int(at), int(room), samples) for samples, at, room in pieces)


@dataclass(frozen=True)
class Jpeg:
    """What the headers of a JPEG say: size in pixels, components of each, and where its scan begins."""

    rows: int
    columns: int
    components: int
    scan: int


def _holds(stream: BufferedIOBase, offset: int, room: int, samples: int) -> bool:
    """Whether a JPEG there holds so many samples, of at least a bit each, in so many bytes."""
    found = jpeg_at(stream, offset, room)
    if found is None or found.rows * found.columns * found.components < samples:
        return False
    return (room - found.scan) * 8 >= samples


def jpeg_at(stream: BufferedIOBase, offset: int, room: int) -> Jpeg | None:
    """The headers of a JPEG in so many bytes of a file; None: it is none that a decoder begins to read."""
    stream.seek(offset)
    head = stream.read(min(room, _HEAD))
    at, frame, coded = 2, (0, 0, 0), False
    while head[:2] == b"\xff\xd8" and len(head) >= at + 4 and head[at] == 0xFF and 0 < head[at + 1] < 0xFF:
        length = int.from_bytes(head[at + 2 : at + 4], "big")
        kind, body, at = head[at + 1], head[at + 4 : at + 2 + length], at + 2 + length
        if length < 2 or len(body) != length - 2:
            return None
        if kind in (0xC0, 0xC1, 0xC3) and len(body) == 6 + 3 * body[5] and 2 <= body[0] <= 16:
            frame = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big"), body[5]
        coded |= kind == 0xC4 and _are_tables(body)
        if kind == 0xDA:
            sound = coded and min(frame) > 0 and len(body) == 4 + 2 * frame[2] and body[0] == frame[2]
            return Jpeg(*frame, scan=at) if sound else None
    return None


def _are_tables(body: bytes) -> bool:
    """Whether this is one Huffman table or several, whole."""
    while len(body) >= 17 and body[0] & ~0x13 == 0:
        codes = sum(body[1:17])
        if not 0 < codes <= len(body) - 17:
            return False
        body = body[17 + codes :]
    return not body


def in_order(raw: Tags) -> bool:
    """Whether the strips of an uncompressed image follow one another, as far as the tags say."""
    offsets, lengths = (np.array(raw[tag].numbers if tag in raw else ()) for tag in STRIPS)
    return offsets.size != lengths.size or bool(np.all(offsets[:-1] + lengths[:-1] == offsets[1:]))


def _apart(offsets: tuple[float, ...], lengths: tuple[float, ...]) -> bool:
    order = np.argsort(offsets)
    starts, ends = np.array(offsets)[order], (np.array(offsets) + np.array(lengths))[order]
    return bool(np.all(ends[:-1] <= starts[1:]) and min(lengths) > 0)

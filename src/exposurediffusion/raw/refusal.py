"""What makes a file unusable as a raw photograph before anything is decoded, and how that is said."""

from __future__ import annotations

import os
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
_LINEAR = 34892


class RawError(ValueError):
    """A file that cannot be used as a raw photograph; the message is one line: the file, what is wrong, what to do."""

    def __init__(self, path: str | os.PathLike[str], problem: str, advice: str) -> None:
        super().__init__(f"{os.fspath(path)}: {problem}; {advice}".replace("\n", " "))


def check_tags(name: str, tags: FileTags) -> None:
    """Refuse what the file's own tags rule out, before anything is decoded.

    Raises:
        RawError: another kind of picture, truncated, or with a part of its image missing.
    """
    if not tags.raw:
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
    """Whether a DNG has all strips or tiles of its image, none twice, and each of lossless JPEG begins like one.

    LibRaw skips those that are missing or broken without a word and leaves unwritten memory in their place.
    """
    width, height, bits = number(raw, 256, 0), number(raw, 257, 0), number(raw, 258, 16)
    kinds = [kind for kind in (TILES, STRIPS) if kind[0] in raw]
    if not kinds or min(width, height) < 1 or (kinds[0] == TILES and not {322, 323} <= set(raw)):
        return False
    offsets = raw[kinds[0][0]].numbers
    across, down = (
        (number(raw, 322, 0), number(raw, 323, 0)) if kinds[0] == TILES else (width, number(raw, 278, height))
    )
    if min(across, down) < 1 or len(offsets) < -(-width // across) * -(-height // down):
        return False
    if compression == UNCOMPRESSED and kinds[0] == STRIPS:
        lengths = raw[STRIPS[1]].numbers if STRIPS[1] in raw else ()
        if in_order(raw):  # LibRaw reads on from the first strip, whatever the others say
            return offsets[0] + width * height * bits / 8 <= os.path.getsize(name)
        return len(lengths) == len(offsets) and sum(lengths) * 8 >= width * height * bits and _apart(offsets, lengths)
    if compression != JPEG:
        return True
    with open(name, "rb") as stream:
        return all(_jpeg_samples(stream, int(at)) >= across * down for at in offsets[:-1]) and _jpeg_samples(
            stream, int(offsets[-1])
        ) >= across * (down if kinds[0] == TILES else height - down * (len(offsets) - 1))


def _jpeg_samples(stream: BufferedIOBase, offset: int) -> int:
    """How many samples a JPEG says that it holds; 0 if it is none."""
    stream.seek(offset)
    if stream.read(2) != b"\xff\xd8":
        return 0
    while len(head := stream.read(4)) == 4 and head[0] == 0xFF:
        length = int.from_bytes(head[2:], "big")
        if 0xC0 <= head[1] <= 0xCF and head[1] not in (0xC4, 0xC8, 0xCC):  # a frame header: precision, size, components
            body = stream.read(6)
            return (
                int.from_bytes(body[1:3], "big") * int.from_bytes(body[3:5], "big") * body[5] if len(body) == 6 else 0
            )
        stream.seek(length - 2, 1)
    return 0


def in_order(raw: Tags) -> bool:
    """Whether the strips of an uncompressed image follow one another, as far as the tags say."""
    offsets, lengths = (np.array(raw[tag].numbers if tag in raw else ()) for tag in STRIPS)
    return offsets.size != lengths.size or bool(np.all(offsets[:-1] + lengths[:-1] == offsets[1:]))


def _apart(offsets: tuple[float, ...], lengths: tuple[float, ...]) -> bool:
    order = np.argsort(offsets)
    starts, ends = np.array(offsets)[order], (np.array(offsets) + np.array(lengths))[order]
    return bool(np.all(ends[:-1] <= starts[1:]) and min(lengths) > 0)

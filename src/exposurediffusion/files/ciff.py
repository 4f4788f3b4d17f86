"""Canon's CIFF (CRW), as far as it takes to know the camera and the hour: LibRaw knows them, rawpy does not say."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from io import BufferedIOBase

from exposurediffusion.files.tiff import Tags, text_entry

_CAMERA, _TIME = 0x080A, 0x180E
_STRUCTURES = (0x2800, 0x3000)  # types of the records that hold other records
_INLINE = 0xC000  # set where a record's value is in the directory itself
_MAX_HEAPS = 32  # a damaged file may hold itself


def read_ciff(stream: BufferedIOBase) -> tuple[Tags, Tags]:
    """IFD0 (make, model, date) and EXIF (date) that a CRW file's records amount to.

    Raises:
        ValueError, struct.error: not a CIFF file, or a damaged one.
    """
    stream.seek(0)
    head = stream.read(14)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or head[6:] != b"HEAPCCDR":
        raise ValueError("no CIFF header")
    end = stream.seek(0, 2)
    records = _records(stream, order, struct.unpack(order + "I", head[2:6])[0], end)
    main: Tags = {}
    exif: Tags = {}
    names = [n.decode("ascii", "replace").strip() for n in records.get(_CAMERA, b"").split(b"\0")[:2]]
    main |= {tag: text_entry(name) for tag, name in zip((271, 272), names, strict=False) if name}
    if len(time := records.get(_TIME, b"")) >= 4 and any(time[:4]):
        # Seconds since 1970 by the camera's own clock, which knows no time zone.
        moment = datetime.fromtimestamp(struct.unpack(order + "I", time[:4])[0], UTC)
        main[306] = exif[36867] = text_entry(moment.strftime("%Y:%m:%d %H:%M:%S"))
    return main, exif


def _records(stream: BufferedIOBase, order: str, start: int, end: int) -> dict[int, bytes]:
    """The wanted records of a heap and of the heaps inside it; each ends with the offset of its directory."""
    heaps = [(start, end)]
    found: dict[int, bytes] = {}
    for start, end in heaps:  # grows while it is walked
        stream.seek(end - 4)
        stream.seek(start + struct.unpack(order + "I", stream.read(4))[0])
        (number,) = struct.unpack(order + "H", stream.read(2))
        table = stream.read(10 * number)
        for at in range(0, len(table) - 9, 10):
            kind, length, offset = struct.unpack_from(order + "HII", table, at)
            if kind & 0x3800 in _STRUCTURES and not kind & _INLINE and len(heaps) < _MAX_HEAPS:
                heaps.append((start + offset, start + offset + length))
            elif kind in (_CAMERA, _TIME):
                stream.seek(start + offset)
                found[kind] = stream.read(min(length, 256))
    return found

"""DNG's opcode lists: corrections that a camera asks for. Which of them still hold for our files, and what they do.

List 1 works on stored values, margins included; its bad pixels become a frame's defects, which are mended, and so are
not corrected again. List 2 works on linear values, list 3 on the demosaiced picture; both count from the first site of
the active area, which our files keep as it is, and so they go on being true (DNG specification, "Opcode List
Processing"). Only where LibRaw leaves out the first line of an active area must they be moved by it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from exposurediffusion.files.exif import FileTags
from exposurediffusion.files.tiff import UNDEFINED, Entry, Tags

LISTS = (51008, 51009, 51022)
"""Tags of OpcodeList1, 2, 3."""
_BAD_CONSTANT, _BAD_LIST, _GAIN_MAP = 4, 5, 9
_NAMES = {1: "WarpRectilinear", 2: "WarpFisheye", 3: "FixVignetteRadial", _BAD_CONSTANT: "FixBadPixelsConstant",
          _BAD_LIST: "FixBadPixelsList", 6: "TrimBounds", 7: "MapTable", 8: "MapPolynomial", _GAIN_MAP: "GainMap",
          10: "DeltaPerRow", 11: "DeltaPerColumn", 12: "ScalePerRow", 13: "ScalePerColumn",
          14: "WarpRectilinear2"}  # fmt: skip
_CENTRED, _AREAS = (1, 2, 3), (7, 8, _GAIN_MAP)  # those that `_moved` can move: by their last two numbers, their first
_MAX_OPCODES, _MAX_RECTANGLES = 256, 10_000  # beyond any camera's: a hostile file must not keep us busy
_LARGEST_GAIN = 1e4  # of a GainMap; lenses' are below 100
_LINEARISATION, _ACTIVE_AREA = 50712, 50829


@dataclass(frozen=True)
class Opcode:
    """One correction: the DNG specification's number, version, flags, and parameters (big-endian)."""

    number: int
    version: int
    flags: int
    data: bytes

    @property
    def name(self) -> str:
        """The specification's name."""
        return _NAMES.get(self.number, f"opcode {self.number}")


def read_opcodes(entry: Entry | None) -> list[Opcode]:
    """The opcodes of a list; of a damaged one, those before the damage."""
    data = entry.data if entry else b""
    found: list[Opcode] = []
    number = min(int.from_bytes(data[:4], "big"), _MAX_OPCODES)
    position = 4
    while len(found) < number and position + 16 <= len(data):
        kind, version, flags, length = struct.unpack_from(">4I", data, position)
        position += 16 + length
        if position > len(data):
            break
        found.append(Opcode(kind, version, flags, data[position - length : position]))
    return found


def opcode_entry(opcodes: Iterable[Opcode]) -> Entry:
    """A list as the value of its tag. Inverse of `read_opcodes`."""
    parts = [struct.pack(">4I", o.number, o.version, o.flags, len(o.data)) + o.data for o in opcodes]
    return Entry(UNDEFINED, struct.pack(">I", len(parts)) + b"".join(parts))


def lasting(tags: FileTags, shape: tuple[int, int]) -> Tags:
    """OpcodeList2 and 3 of a DNG as they hold for a frame that was read from it.

    Args:
        tags: of the DNG; of any other file nothing is found.
        shape: rows and columns of the frame.

    Returns:
        The lists by tag, without those that became empty; nothing if the frame is not the file's active area.
    """
    if not tags.is_dng:
        return {}
    top, left, rows, columns = _area(tags)
    shift = (rows - shape[0], columns - shape[1])
    # LibRaw begins on an even line of a Bayer sensor.
    if any(lost not in (0, start % 2) for lost, start in zip(shift, (top, left), strict=True)):
        return {}
    kept: Tags = {}
    for tag in LISTS[1:]:
        opcodes = [o for o in read_opcodes(tags.raw.get(tag)) if o.number not in (_BAD_CONSTANT, _BAD_LIST)]
        moved = [m for o in opcodes if (m := _moved(o, shift, (rows, columns)))] if any(shift) else opcodes
        if moved:
            kept[tag] = opcode_entry(moved)
    return kept


def opcode_notes(tags: FileTags, shape: tuple[int, int]) -> tuple[str, ...]:
    """What a reader should know of the corrections that a file asks for, a sentence each; arguments as `lasting`'s."""
    kept = {o.name for entry in lasting(tags, shape).values() for o in read_opcodes(entry)}
    asked = {o.name for tag in LISTS for o in read_opcodes(tags.raw.get(tag))} if tags.is_dng else set()
    lost = asked - kept - {_NAMES[_BAD_CONSTANT], _NAMES[_BAD_LIST]}
    notes = []
    if unapplied := kept - {_NAMES[_GAIN_MAP]}:
        notes.append(
            f"its corrections {', '.join(sorted(unapplied))} are kept in the DNG, for the editor, but not applied to "
            "pictures that are rendered here"
        )
    if lost:
        notes.append(f"its corrections {', '.join(sorted(lost))} do not hold for other values, and are left out")
    return tuple(notes)


def listed_defects(
    tags: FileTags, stored: np.ndarray, origin: tuple[int, int], shape: tuple[int, int]
) -> np.ndarray | None:
    """The sites that FixBadPixelsConstant and FixBadPixelsList name.

    Args:
        tags: of the DNG.
        stored: (rows, columns) the whole sensor's values, margins included, as LibRaw gives them.
        origin: row and column of the frame's first site in them.
        shape: rows and columns of the frame.

    Returns:
        (n, 2) row and column in the frame; None: the file has no list.
    """
    top, left, *_ = _area(tags)
    marked = np.zeros(stored.shape, bool)
    listed = False
    for tag, (down, across) in ((LISTS[0], (0, 0)), (LISTS[1], (top, left))):
        for opcode in read_opcodes(tags.raw.get(tag)) if tags.is_dng else ():
            numbers = np.frombuffer(opcode.data[: len(opcode.data) // 4 * 4], ">u4").astype(np.int64)
            if opcode.number == _BAD_CONSTANT and numbers.size >= 1:
                listed, marked = True, marked | (stored == _linear(tags, int(numbers[0])))
            elif opcode.number == _BAD_LIST and numbers.size >= 3:
                listed = True
                _mark(marked, numbers, down, across)
    if not listed:
        return None
    return np.argwhere(marked[origin[0] : origin[0] + shape[0], origin[1] : origin[1] + shape[1]])


def _mark(marked: np.ndarray, numbers: np.ndarray, down: int, across: int) -> None:
    """Mark what a FixBadPixelsList names: its phase, two counts, points (row, column), rectangles (t, l, b, r)."""
    points, rectangles = (int(n) for n in numbers[1:3])
    places = numbers[3 : 3 + 2 * points]
    places = places[: len(places) // 2 * 2].reshape(-1, 2) + np.array([down, across], np.int64)
    places = places[(places < marked.shape).all(1)]
    marked[places[:, 0], places[:, 1]] = True
    boxes = numbers[3 + 2 * points :][: 4 * min(rectangles, _MAX_RECTANGLES)]
    for t, left, b, r in boxes[: len(boxes) // 4 * 4].reshape(-1, 4):
        marked[t + down : b + down, left + across : r + across] = True


def apply_gain_maps(values: np.ndarray, lists: Tags) -> None:
    """Multiply a mosaic by the GainMaps of OpcodeList2, in place; what they brighten stops at white.

    Args:
        values: (rows, columns) normalised, float32.
        lists: from `lasting`, for this mosaic.
    """
    for opcode in read_opcodes(lists.get(LISTS[1])):
        if opcode.number == _GAIN_MAP and (found := _gains(opcode, values.shape)):
            part, gains = found
            values[part] = np.minimum(values[part] * gains, 1)


def has_gain_maps(lists: Tags) -> bool:
    """Whether `apply_gain_maps` would do anything."""
    return any(opcode.number == _GAIN_MAP for opcode in read_opcodes(lists.get(LISTS[1])))


def _gains(opcode: Opcode, shape: tuple[int, ...]) -> tuple[tuple[slice, slice], np.ndarray] | None:
    """The sites of a GainMap and the gain of each, float32: bilinear between its points, constant beyond them."""
    if len(opcode.data) < 76:
        return None
    top, left, bottom, right, plane, planes, down, across, rows, columns = struct.unpack_from(">10I", opcode.data)
    *grid, map_planes = struct.unpack_from(">4dI", opcode.data, 40)
    size = rows * columns * map_planes
    table = np.frombuffer(opcode.data[76 : 76 + 4 * size], ">f4").astype(np.float32)
    sound = bool(np.all(np.abs(table) <= _LARGEST_GAIN) and np.isfinite(grid).all())
    if not (sound and 0 < size == table.size and plane == 0 < planes and min(down, across) > 0):
        return None
    table = table.reshape(rows, columns, map_planes)[:, :, 0]
    part = slice(top, bottom, down), slice(left, right, across)
    for axis, (window, spacing, origin) in enumerate(zip(part, grid[:2], grid[2:], strict=True)):
        sites = np.arange(shape[axis])[window]
        last = table.shape[axis] - 1
        # Relative coordinates, as the map's: the middle of the first site is half a site from the image's edge.
        at = ((sites + 0.5) / shape[axis] - origin) / spacing if spacing > 0 else np.zeros(sites.size)
        low = np.clip(np.floor(at), 0, max(last - 1, 0)).astype(int)
        share = np.clip(at - low, 0, 1).astype(np.float32).reshape((-1, 1) if axis == 0 else (1, -1))
        table = table.take(low, axis) * (1 - share) + table.take(np.minimum(low + 1, last), axis) * share
    return part, table


def _moved(opcode: Opcode, shift: tuple[int, int], shape: tuple[int, int]) -> Opcode | None:
    """An opcode for an image that lacks its first `shift` rows and columns of `shape`; None: not possible."""
    data = bytearray(opcode.data)
    sizes = [(length, length - lost, lost) for length, lost in zip(shape, shift, strict=True)]
    if opcode.number in _CENTRED and len(data) >= 16:  # centre, across and down, in parts of the image
        centre = struct.unpack(">2d", data[-16:])
        data[-16:] = struct.pack(">2d", *((c * o - s) / n for c, (o, n, s) in zip(centre, sizes[::-1], strict=True)))
        return replace(opcode, data=bytes(data))
    if opcode.number not in _AREAS or len(data) < (76 if opcode.number == _GAIN_MAP else 32):
        return None
    box, pitch = list(struct.unpack_from(">4I", data)), struct.unpack_from(">2I", data, 24)
    if min(pitch) < 1:
        return None
    for axis in (0, 1):
        start, end = box[axis] - shift[axis], max(0, box[axis + 2] - shift[axis])
        box[axis], box[axis + 2] = start if start >= 0 else start + pitch[axis], end
    struct.pack_into(">4I", data, 0, *box)
    if opcode.number == _GAIN_MAP:
        grid = struct.unpack_from(">4d", data, 40)
        spacing = [g * o / n for g, (o, n, _) in zip(grid[:2], sizes, strict=True)]
        origin = [(g * o - s) / n for g, (o, n, s) in zip(grid[2:], sizes, strict=True)]
        struct.pack_into(">4d", data, 40, *spacing, *origin)
    return replace(opcode, data=bytes(data))


def _area(tags: FileTags) -> tuple[int, int, int, int]:
    """Top, left, rows and columns of the active area."""
    whole = [tags.raw[tag].numbers[0] if tag in tags.raw else 0.0 for tag in (257, 256)]
    area = tags.raw[_ACTIVE_AREA].numbers if _ACTIVE_AREA in tags.raw else ()
    top, left, bottom, right = (int(n) for n in (area if len(area) == 4 else (0, 0, *whole)))
    return top, left, bottom - top, right - left


def _linear(tags: FileTags, value: int) -> int:
    """What a stored value has become in LibRaw's hands."""
    table = tags.raw[_LINEARISATION].numbers if _LINEARISATION in tags.raw else ()
    return int(table[min(value, len(table) - 1)]) if table else value

"""Raw files in: LibRaw decodes, and everything that a `RawFrame` needs is collected and checked.

LibRaw is careful with damaged files but not proof against hostile ones; it runs in this process.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import rawpy

from exposurediffusion.data.black import black_levels, with_black_of
from exposurediffusion.data.exif import FileTags, read_tags
from exposurediffusion.data.metadata import metadata_of, white_level
from exposurediffusion.data.tiff import Tags
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.physics.sensor import Metadata, RawFrame, Sensor

RAW_EXTENSIONS = frozenset(
    {".3fr", ".ari", ".arw", ".cap", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".gpr", ".iiq", ".k25"}
    | {".kdc", ".mef", ".mos", ".mrw", ".nef", ".nrw", ".orf", ".ori", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2"}
    | {".srf", ".srw", ".x3f"}
)
"""Extensions (lower case) of the raw formats that LibRaw knows."""

_TAIL_ROWS = 16  # if most of the last rows (or of the frame) is exactly zero below a black level, data are missing
_stderr_lock = threading.Lock()


class RawError(ValueError):
    """A file that cannot be used as a raw photograph; the message is one line: the file, what is wrong, what to do."""

    def __init__(self, path: str | os.PathLike[str], problem: str, advice: str) -> None:
        super().__init__(f"{os.fspath(path)}: {problem}; {advice}".replace("\n", " "))


def read_raw(path: str | os.PathLike[str]) -> RawFrame:
    """Read the mosaic of a raw file, with its levels, colour filter array and metadata.

    Args:
        path: any Bayer or X-Trans raw file that LibRaw decodes.

    Returns:
        The visible area as uint16 DN (rows, columns), not rotated (see `Metadata.orientation`), and the masked margins.

    Raises:
        RawError: empty, unknown, damaged or truncated file, or a sensor without a Bayer or X-Trans mosaic.
        OSError: the file cannot be opened.
    """
    name = os.fspath(path)
    with _opened(name) as (raw, tags):
        raw.unpack()
        return _frame(name, raw, tags)


def read_metadata(path: str | os.PathLike[str]) -> Metadata:
    """What a raw file says about its frame, without decoding it: as `read_raw(path).metadata`, in milliseconds.

    Raises:
        RawError: empty or unknown file, or one that is damaged at its start.
        OSError: the file cannot be opened.
    """
    name = os.fspath(path)
    with _opened(name) as (raw, tags):
        return metadata_of(name, raw, tags)


@contextmanager
def _opened(name: str) -> Iterator[tuple[rawpy.RawPy, FileTags]]:
    """A raw file with its tags; whatever goes wrong inside the block becomes a `RawError`."""
    with open(name, "rb") as stream:
        if not stream.read(1):
            raise RawError(name, "the file is empty", "copy it again from the camera or card")
    tags = read_tags(name)
    _check_tags(name, tags)
    with _captured_stderr() as noise:
        try:
            with _open(name) as raw:
                yield raw, tags
        except rawpy.LibRawFileUnsupportedError as error:
            raise RawError(name, "not a raw photograph that LibRaw knows, or damaged at its start", _CONVERT) from error
        except rawpy.LibRawError as error:
            raise RawError(name, f"damaged or truncated ({_reason(error)})", _COPY) from error
        except RawError:
            raise
        except (ValueError, ArithmeticError, LookupError, RuntimeError) as error:
            raise RawError(name, f"its metadata are damaged ({error})", _COPY) from error
        except MemoryError as error:
            raise RawError(name, "too large for this machine's memory", "crop it, or use a larger machine") from error
    if any(word in "".join(noise) for word in ("Unexpected end of file", "data corrupted")):
        raise RawError(name, "damaged or truncated (LibRaw met corrupt data)", _COPY)


def find_raws(folder: str | os.PathLike[str]) -> list[Path]:
    """The raw files directly in a folder, by extension in any case, sorted by name; hidden files are left out.

    Raises:
        OSError: no such folder.
    """
    files = (p for p in Path(folder).iterdir() if p.suffix.lower() in RAW_EXTENSIONS and not p.name.startswith("."))
    return sorted((p for p in files if p.is_file()), key=lambda p: (p.name.lower(), p.name))


_COPY = "copy it again from the camera or card"
_CONVERT = "convert it to DNG, or update rawpy"
_MOSAIC = "give the camera's own raw file of a Bayer or X-Trans camera"


def _open(name: str) -> rawpy.RawPy:
    try:
        return rawpy.imread(name)
    except UnicodeEncodeError:  # rawpy takes names in UTF-8 only, Unix allows any bytes
        with open(name, "rb") as stream:
            return rawpy.imread(stream)


def _reason(error: Exception) -> str:
    reason = error.args[0] if error.args else type(error).__name__
    return reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)


@contextmanager
def _captured_stderr() -> Iterator[list[str]]:
    """Collect what C code writes to the process's standard error: LibRaw reports corrupt data nowhere else."""
    text: list[str] = []
    with _stderr_lock:
        try:
            sys.stderr.flush()
            saved = os.dup(2)
        except (OSError, AttributeError, ValueError):  # no standard error (a windowed program): nothing to keep clean
            yield text
            return
        with tempfile.TemporaryFile() as sink:
            os.dup2(sink.fileno(), 2)
            try:
                yield text
            finally:
                os.dup2(saved, 2)
                os.close(saved)
                sink.seek(0)
                text.append(sink.read().decode(errors="replace"))


def _check_tags(name: str, tags: FileTags) -> None:
    """Refuse what the file's own tags rule out, before anything is decoded."""
    if not tags.raw:
        return
    if tags.is_dng and tags.raw[262].numbers[0] != 32803:
        raise RawError(name, "already demosaiced (linear DNG)", _MOSAIC)
    if tags.is_dng and 33421 in tags.raw and tags.raw[33421].numbers not in ((2, 2), (6, 6)):
        rows, columns = (f"{n:g}" for n in (*tags.raw[33421].numbers, 0, 0)[:2])
        raise RawError(name, f"its colour filter pattern repeats over {rows}x{columns} sites", _MOSAIC)
    size, needed = os.path.getsize(name), _needed_bytes(tags)
    if needed > size:
        raise RawError(name, f"truncated: it has {size} bytes and needs at least {needed}", _COPY)
    if tags.is_dng and not _chunks_are_there(name, tags.raw):
        raise RawError(name, "damaged: a part of the image data is missing", _COPY)


_STRIPS, _TILES = (273, 279), (324, 325)  # offsets and byte counts


def _needed_bytes(tags: FileTags) -> int:
    """Where the image data end, as far as the tags can be trusted: byte counts have other meanings outside DNG."""
    ends = [0.0]
    for start, length in (_STRIPS, _TILES):
        offsets, lengths = (np.array(tags.raw[tag].numbers if tag in tags.raw else ()) for tag in (start, length))
        if offsets.size and offsets.size == lengths.size:
            ends.append(float((offsets + (lengths if tags.is_dng else 1)).max()))
    return int(max(ends))


def _chunks_are_there(name: str, raw: Tags) -> bool:
    """Whether a DNG has all strips or tiles of its image, and each of lossless JPEG begins like one.

    LibRaw skips those that are missing or broken without a word and leaves unwritten memory in their place.
    """

    def number(tag: int, default: float) -> int:
        return int(raw[tag].numbers[0]) if tag in raw and np.isfinite(raw[tag].numbers[0]) else int(default)

    width, height, compression = number(256, 0), number(257, 0), number(259, 1)
    if _TILES[0] in raw:
        offsets = raw[_TILES[0]].numbers
        expected = -(-width // max(1, number(322, width))) * -(-height // max(1, number(323, height)))
    elif _STRIPS[0] in raw:
        offsets = raw[_STRIPS[0]].numbers
        if compression == 1:  # LibRaw reads on from the first strip, whatever the others say
            return offsets[0] + width * height * number(258, 16) / 8 <= os.path.getsize(name)
        expected = -(-height // max(1, number(278, height)))
    else:
        return False
    if len(offsets) < expected:
        return False
    if compression != 7:
        return True
    with open(name, "rb") as stream:
        return all(stream.seek(int(at)) >= 0 and stream.read(2) == b"\xff\xd8" for at in offsets)


def _frame(name: str, raw: rawpy.RawPy, tags: FileTags) -> RawFrame:
    cfa = _cfa(name, raw)
    sizes = raw.sizes
    top, left, height, width = sizes.top_margin, sizes.left_margin, sizes.height, sizes.width
    whole = raw.raw_image
    if min(height, width) < cfa.period:
        raise RawError(name, f"its image of {width}x{height} sites is too small", _MOSAIC)
    if top + height > whole.shape[0] or left + width > whole.shape[1]:
        raise RawError(name, "its sensor is rotated by 45 degrees (Super-CCD), which is not supported", _MOSAIC)
    mosaic = whole[top : top + height, left : left + width].copy()
    black, white = black_levels(raw, cfa, tags), white_level(raw, tags)
    if not mosaic.any():
        raise RawError(name, "the image data are missing (every value is zero)", _COPY)
    filled = min(np.count_nonzero(part) / part.size for part in (mosaic, mosaic[-_TAIL_ROWS:]))
    if min(black) > 0 and filled < 0.5:
        raise RawError(name, "truncated: a part of the image data is missing", _COPY)
    try:
        sensor = Sensor(cfa, black, white)
    except ValueError as error:
        raise RawError(name, str(error), "its levels are damaged: convert it to DNG anew") from error
    return with_black_of(RawFrame(mosaic, sensor, metadata_of(name, raw, tags)), raw, tags)


def _cfa(name: str, raw: rawpy.RawPy) -> CFA:
    """The colour filter array of the visible area."""
    if raw.raw_type != rawpy.RawType.Flat:
        raise RawError(name, "no mosaic: already demosaiced (linear DNG, sRAW) or a layered sensor (Foveon)", _MOSAIC)
    try:
        pattern = raw.raw_pattern
    except NotImplementedError:
        pattern = None
    if pattern is None or pattern.shape[0] not in (2, 4, 6, 16):
        raise RawError(name, "monochrome, or without a colour filter mosaic", _MOSAIC)
    if raw.num_colors != 3:
        raise RawError(name, f"a sensor of {raw.num_colors} colours is not supported", _MOSAIC)
    names, period, sizes = raw.color_desc.decode(), 6 if pattern.shape[0] == 6 else 2, raw.sizes

    # Asked for inside the visible area only: LibRaw's answer in the margins of an X-Trans sensor is not reliable.
    def letter(row: int, column: int) -> str:
        return names[raw.raw_color(sizes.top_margin + row, sizes.left_margin + column)]

    try:
        cfa = CFA.from_pattern([letter(i, j) for i in range(period) for j in range(period)])
        if pattern.shape[0] in (4, 16):
            raise ValueError(f"its colour filter pattern repeats over {pattern.shape[0]} sites")
    except (ValueError, IndexError) as error:
        raise RawError(name, str(error), _MOSAIC) from error
    return cfa

"""Raw files in: LibRaw decodes, and everything that a `RawFrame` needs is collected and checked.

LibRaw is careful with damaged files but not proof against hostile ones; it runs in this process.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import rawpy

from exposurediffusion.dng.opcodes import listed_defects, opcode_notes
from exposurediffusion.files.exif import FileTags, read_tags
from exposurediffusion.files.megapixels import LARGER, MAX_MEGAPIXELS, too_large
from exposurediffusion.files.metadata import metadata_of, odd_numbers, white_level
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.physics.sensor import Metadata, RawFrame, Sensor
from exposurediffusion.raw.black_tags import black_levels, with_black_of
from exposurediffusion.raw.decode import decoded, libraw_reads, rewrapped, unusable, without_holes
from exposurediffusion.raw.quad import is_quad_bayer
from exposurediffusion.raw.refusal import CONVERT, COPY, MOSAIC, RawError, check_tags, number
from exposurediffusion.raw.white_balance import NO_WHITE

_TAIL_ROWS = 16  # if most of the last rows (or of the frame) is exactly zero below a black level, data are missing
_MOST_HOLES = 0.05  # part of a float image that may be no number: more is no photograph
_BINNED = "give a file that the camera binned or remosaiced (its lower resolution)"
_stderr_lock = threading.Lock()


def read_raw(path: str | os.PathLike[str], max_megapixels: float = MAX_MEGAPIXELS) -> RawFrame:
    """Read the mosaic of a raw file, with its levels, colour filter array and metadata.

    Args:
        path: any Bayer or X-Trans raw file that LibRaw decodes, or a DNG that tifffile does.
        max_megapixels: larger ones are refused before they are decoded.

    Returns:
        The visible area as uint16 DN (rows, columns), float32 if the file has floats, not rotated (see
        `Metadata.orientation`), the masked margins, the defects that the file lists, and what is odd about it.

    Raises:
        RawError: empty, unknown, damaged or truncated file, or a sensor without a Bayer or X-Trans mosaic.
        OSError: the file cannot be opened.
        TypeError: no path; open files and bytes have to be written to a file first.
    """
    name = _name(path)
    with _opened(name, max_megapixels, pixels=True) as (raw, tags, floats):
        raw.unpack()
        return _frame(name, raw, tags, floats)


def read_metadata(path: str | os.PathLike[str]) -> Metadata:
    """What a raw file says about its frame, without decoding it: as `read_raw(path).metadata`, in milliseconds.

    Raises:
        RawError: empty or unknown file, or one that is damaged at its start.
        OSError: the file cannot be opened.
        TypeError: no path; open files and bytes have to be written to a file first.
    """
    name = _name(path)
    with _opened(name, MAX_MEGAPIXELS, pixels=False) as (raw, tags, _):
        return metadata_of(name, raw, tags)


def _name(path: object) -> str:
    if not isinstance(path, str | os.PathLike):
        kind = type(path).__name__
        raise TypeError(f"a raw is read from its path, not from {kind}: write it to a file, and give the file's path")
    return os.fsdecode(path)


@contextmanager
def _opened(name: str, most: float, *, pixels: bool) -> Iterator[tuple[rawpy.RawPy, FileTags, np.ndarray | None]]:
    """A raw file with its tags, and its image where that is of floats; what goes wrong inside becomes a `RawError`.

    Where LibRaw does not read the file, its image is decoded here, if `pixels` are wanted. What takes memory for more
    than `most` megapixels is refused.
    """
    with open(name, "rb") as stream:
        if not stream.read(1):
            raise RawError(name, "the file is empty", COPY)
    with _captured_stderr() as noise:
        try:
            tags = read_tags(name)
            check_tags(name, tags)
            known = libraw_reads(name, tags)
            if not known and (claimed := too_large(number(tags.raw, 257, 0), number(tags.raw, 256, 0), most)):
                raise RawError(name, claimed, LARGER)
            image = None if known or not pixels else decoded(name, tags)
            with _open(name) if known else rawpy.imread(io.BytesIO(rewrapped(tags, image))) as raw:
                if pixels and (claimed := too_large(raw.sizes.raw_height, raw.sizes.raw_width, most)):
                    raise RawError(name, claimed, LARGER)
                yield raw, tags, image if image is not None and image.dtype == np.float32 else None
        except rawpy.LibRawFileUnsupportedError as error:
            raise RawError(name, "not a raw photograph that LibRaw knows, or damaged at its start", CONVERT) from error
        except rawpy.LibRawError as error:
            raise RawError(name, f"damaged or truncated ({_reason(error)})", COPY) from error
        except RawError:
            raise
        except (ValueError, ArithmeticError, LookupError, RuntimeError) as error:
            raise RawError(name, f"its metadata are damaged ({error})", COPY) from error
        except MemoryError as error:
            raise RawError(name, "too large for this machine's memory", "crop it, or use a larger machine") from error
    if any(word in "".join(noise) for word in ("Unexpected end of file", "data corrupted")):
        raise RawError(name, "damaged or truncated (LibRaw met corrupt data)", COPY)


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


def _frame(name: str, raw: rawpy.RawPy, tags: FileTags, floats: np.ndarray | None) -> RawFrame:
    cfa = _cfa(name, raw)
    sizes = raw.sizes
    top, left, height, width = sizes.top_margin, sizes.left_margin, sizes.height, sizes.width
    whole = raw.raw_image if floats is None else floats
    if min(height, width) < cfa.period:
        raise RawError(name, f"its image of {width}x{height} sites is too small", MOSAIC)
    if top + height > whole.shape[0] or left + width > whole.shape[1]:
        raise RawError(name, "its sensor is rotated by 45 degrees (Super-CCD), which is not supported", MOSAIC)
    mosaic = whole[top : top + height, left : left + width].copy()
    black, white = black_levels(raw, cfa, tags), white_level(raw, tags)
    holes = unusable(mosaic, white) if floats is not None else np.zeros((0, 0), bool)
    if holes.sum() > _MOST_HOLES * mosaic.size:
        raise RawError(name, f"{holes.sum()} of its {mosaic.size} values are not numbers, or beyond all light", COPY)
    if holes.any():
        mosaic = without_holes(mosaic, holes, cfa.period)
    if not mosaic.any():
        raise RawError(name, "the image data are missing (every value is zero)", COPY)
    filled = min(np.count_nonzero(part) / part.size for part in (mosaic, mosaic[-_TAIL_ROWS:]))
    if min(black) > 0 and filled < 0.5:
        raise RawError(name, "truncated: a part of the image data is missing", COPY)
    try:
        sensor = Sensor(cfa, black, white)
    except ValueError as error:
        raise RawError(name, str(error), "its levels are damaged: convert it to DNG anew") from error
    if cfa.is_bayer and is_quad_bayer(mosaic):
        raise RawError(name, "a quad-Bayer mosaic (2x2 sites of each colour) that is labelled as Bayer", _BINNED)
    metadata = metadata_of(name, raw, tags)
    notes = ((NO_WHITE,) if metadata.as_shot_neutral is None else ()) + opcode_notes(tags, mosaic.shape)
    notes += odd_numbers(tags)
    listed = listed_defects(tags, whole, (top, left), mosaic.shape)
    defects = np.argwhere(holes) if listed is None else np.concatenate([listed, np.argwhere(holes)])
    known = None if listed is None and not holes.any() else np.unique(defects, axis=0)
    return with_black_of(RawFrame(mosaic, sensor, metadata, (), known, notes, tags.carried), raw, tags)


def _cfa(name: str, raw: rawpy.RawPy) -> CFA:
    """The colour filter array of the visible area."""
    if raw.raw_type != rawpy.RawType.Flat:
        raise RawError(name, "no mosaic: already demosaiced (linear DNG, sRAW) or a layered sensor (Foveon)", MOSAIC)
    try:
        pattern = raw.raw_pattern
    except NotImplementedError:
        pattern = None
    if pattern is None or pattern.shape[0] not in (2, 4, 6, 16):
        raise RawError(name, "monochrome, or without a colour filter mosaic", MOSAIC)
    if raw.num_colors != 3:
        raise RawError(name, f"a sensor of {raw.num_colors} colours is not supported", MOSAIC)
    names, period, sizes = raw.color_desc.decode(), 6 if pattern.shape[0] == 6 else 2, raw.sizes

    # Asked for inside the visible area only: LibRaw's answer in the margins of an X-Trans sensor is not reliable.
    def letter(row: int, column: int) -> str:
        return names[raw.raw_color(sizes.top_margin + row, sizes.left_margin + column)]

    try:
        cfa = CFA.from_pattern([letter(i, j) for i in range(period) for j in range(period)])
        if pattern.shape[0] in (4, 16):
            raise ValueError(f"its colour filter pattern repeats over {pattern.shape[0]} sites")
    except (ValueError, IndexError) as error:
        raise RawError(name, str(error), MOSAIC) from error
    return cfa

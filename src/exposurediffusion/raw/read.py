"""Raw files in: LibRaw decodes, and everything that a `RawFrame` needs is collected and checked.

LibRaw is careful with damaged files but not proof against hostile ones; it runs in a process of its own (`decoding`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from exposurediffusion.decoding.megapixels import LARGER, MAX_MEGAPIXELS, too_large
from exposurediffusion.decoding.process import DecodingError
from exposurediffusion.decoding.raw import LibRawFile, libraw
from exposurediffusion.dng.opcodes import listed_defects, opcode_notes
from exposurediffusion.files.exif import FileTags, read_tags
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
    with _refusing(name):
        raw, tags, floats = _decoded(name, max_megapixels, pixels=True)
        return _frame(name, raw, tags, floats)


def read_metadata(path: str | os.PathLike[str]) -> Metadata:
    """What a raw file says about its frame, without decoding it: as `read_raw(path).metadata`, in milliseconds.

    Raises:
        RawError: empty or unknown file, or one that is damaged at its start.
        OSError: the file cannot be opened.
        TypeError: no path; open files and bytes have to be written to a file first.
    """
    name = _name(path)
    with _refusing(name):
        raw, tags, _ = _decoded(name, MAX_MEGAPIXELS, pixels=False)
        return metadata_of(name, raw, tags)


def _name(path: object) -> str:
    if not isinstance(path, str | os.PathLike):
        kind = type(path).__name__
        raise TypeError(f"a raw is read from its path, not from {kind}: write it to a file, and give the file's path")
    return os.fsdecode(path)


def _decoded(name: str, most: float, *, pixels: bool) -> tuple[LibRawFile, FileTags, np.ndarray | None]:
    """LibRaw's view of a raw file, its tags, and its image where that is of floats.

    Where LibRaw does not read the image, tifffile does, if `pixels` are wanted. What takes memory for more than `most`
    megapixels is refused.
    """
    with open(name, "rb") as stream:
        if not stream.read(1):
            raise RawError(name, "the file is empty", COPY)
    tags = read_tags(name)
    check_tags(name, tags)
    if libraw_reads(name, tags):
        raw, image = libraw(name, most, pixels=pixels), None
    elif claimed := too_large(number(tags.raw, 257, 0), number(tags.raw, 256, 0), most):
        raise RawError(name, claimed, LARGER)
    else:
        image = decoded(name, tags, most) if pixels else None
        raw = libraw(name, most, pixels=pixels, content=rewrapped(tags, image))
    if raw.unwritten:
        raise RawError(name, f"damaged: {raw.unwritten:,} of its sites are not in the file", COPY)
    if any(word in raw.printed for word in ("Unexpected end of file", "data corrupted")):
        raise RawError(name, "damaged or truncated (LibRaw met corrupt data)", COPY)
    return raw, tags, image if image is not None and image.dtype == np.float32 else None


@contextmanager
def _refusing(name: str) -> Iterator[None]:
    """What goes wrong inside becomes a `RawError`."""
    try:
        yield
    except RawError:
        raise
    except DecodingError as error:
        if "TooLargeError" in error.kinds:
            problem, advice = str(error), LARGER
        elif "LibRawFileUnsupportedError" in error.kinds:
            problem, advice = "not a raw photograph that LibRaw knows, or damaged at its start", CONVERT
        else:
            problem, advice = (f"damaged or truncated ({error})" if error.kinds else f"damaged: {error}"), COPY
        raise RawError(name, problem, advice) from error
    except (ValueError, ArithmeticError, LookupError, RuntimeError) as error:
        raise RawError(name, f"its metadata are damaged ({error})", COPY) from error
    except MemoryError as error:
        raise RawError(name, "too large for this machine's memory", "crop it, or use a larger machine") from error


def _frame(name: str, raw: LibRawFile, tags: FileTags, floats: np.ndarray | None) -> RawFrame:
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


def _cfa(name: str, raw: LibRawFile) -> CFA:
    """The colour filter array of the visible area."""
    if not raw.flat:
        raise RawError(name, "no mosaic: already demosaiced (linear DNG, sRAW) or a layered sensor (Foveon)", MOSAIC)
    rows = raw.pattern_rows
    if rows not in (2, 4, 6, 16):
        raise RawError(name, "monochrome, or without a colour filter mosaic", MOSAIC)
    if raw.colours != 3:
        raise RawError(name, f"a sensor of {raw.colours} colours is not supported", MOSAIC)
    period = range(6 if rows == 6 else 2)
    try:
        cfa = CFA.from_pattern([raw.colour_names[raw.colour_of[i][j]] for i in period for j in period])
        if rows in (4, 16):
            raise ValueError(f"its colour filter pattern repeats over {rows} sites")
    except (ValueError, IndexError) as error:
        raise RawError(name, str(error), MOSAIC) from error
    return cfa

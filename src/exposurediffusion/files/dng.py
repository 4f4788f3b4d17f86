"""DNG out: a frame as a 16-bit mosaic that raw editors open like the camera's own file.

IFD0 holds a thumbnail and what is true of the photograph, its SubIFD the mosaic, beside the EXIF and GPS directories.
Computed (float) frames are scaled to `OUTPUT_BLACK` ... `OUTPUT_WHITE`: black well above zero keeps the negative half
of the noise (down to -6.7 % of white), and a step is a quarter of a 14-bit camera's. They are rounded with dither: an
editor may brighten a clean, dark frame three-hundredfold, and plain rounding would then show as bands. Integer frames
are written verbatim, with the levels that they came with.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np

from exposurediffusion.files.atomic import SOFTWARE_NAME, atomic
from exposurediffusion.files.colour_matrices import ANALOG_BALANCE, COLOUR_SETS, dng_matrix
from exposurediffusion.files.develop import colour_matrix, neutral, preview
from exposurediffusion.files.exif import (
    DATETIME,
    EXIF_IFD,
    GPS_IFD,
    LENS_INFO,
    MAKE,
    MODEL,
    ORIENTATION,
    SOFTWARE,
    SUB_IFDS,
    FileTags,
    capture_tags,
)
from exposurediffusion.files.metadata import (
    BASELINE_EXPOSURE,
    BLACK_LEVEL,
    BLACK_REPEAT,
    CROP_ORIGIN,
    CROP_SIZE,
    DEFAULT_SCALE,
    DEFAULT_USER_CROP,
    WHITE_LEVEL,
)
from exposurediffusion.files.opcodes import lasting
from exposurediffusion.files.tiff import (
    ASCII,
    BYTE,
    LONG,
    RATIONAL,
    SHORT,
    SRATIONAL,
    Entry,
    Tags,
    entry,
    rgb_tags,
    text_entry,
    tiff_bytes,
)
from exposurediffusion.physics.sensor import Metadata, RawFrame

OUTPUT_BLACK, OUTPUT_WHITE = 4096, 65535
"""Black and white level of a DNG that is written from a float frame."""
_THUMBNAIL = 512  # pixels along the longer side
_CHUNK = 1 << 22  # sites converted at a time
_PHOTOGRAPHERS = (700, 51109)  # XMP (ratings, captions, edits) and BaselineExposureOffset
_CALIBRATION_EXTRAS = (50931, 50932, 50735, 50736)  # signatures, camera serial number, lens


def write_dng(path: str | os.PathLike[str], frame: RawFrame, *, baseline_exposure: float | None = None) -> Path:
    """Write a frame as an uncompressed 16-bit CFA DNG.

    Args:
        path: the file to write; it appears only when it is complete.
        frame: uint16 mosaics are written verbatim with their own levels, float ones scaled as the module says, and
            values beyond the 16 bits clipped. Of its tags, EXIF, GPS, XMP, colour calibration, and corrections that
            still hold (see `opcodes`) are carried over.
        baseline_exposure: EV by which editors brighten the frame; default: as in the frame's metadata.

    Returns:
        The path.

    Raises:
        OSError: the file cannot be written (nothing is left behind).
        ValueError: levels that 16 bits cannot hold.
    """
    with atomic(path) as stream:
        for chunk in dng_chunks(frame, baseline_exposure=baseline_exposure):
            stream.write(chunk)
    return Path(path)


def dng_chunks(frame: RawFrame, *, baseline_exposure: float | None = None) -> Iterator[bytes | memoryview]:
    """The bytes of a DNG, piece by piece; arguments as for `write_dng`."""
    metadata, sensor = frame.metadata, frame.sensor
    tags: FileTags = frame.tags or FileTags()
    verbatim = frame.mosaic.dtype == np.uint16
    black, white = (sensor.black_level, sensor.white_level) if verbatim else ((OUTPUT_BLACK,), OUTPUT_WHITE)
    if min(black) < 0 or not 0 < white <= OUTPUT_WHITE:
        raise ValueError(f"a DNG holds levels from 0 to 65535, not black {min(black):g} and white {white:g}")
    ev = metadata.baseline_exposure if baseline_exposure is None else baseline_exposure
    picture = preview(frame, ev - metadata.baseline_exposure, longest=_THUMBNAIL)
    main, exif, gps = capture_tags(metadata, tags)
    main |= {254: entry(LONG, 1)} | rgb_tags(picture) | _camera_tags(metadata, tags, main, ev)
    raw = _mosaic_tags(frame, black, white) | lasting(tags, frame.shape)
    subs = [(SUB_IFDS, raw), *((tag, t) for tag, t in ((EXIF_IFD, exif), (GPS_IFD, gps)) if t)]
    head = tiff_bytes(
        [main, *(t for _, t in subs)],
        {tag: number for number, (tag, _) in enumerate(subs, 1)},
        [(0, picture.nbytes), (1, 2 * frame.mosaic.size)],
    )
    yield head
    yield picture.tobytes() + b"\0" * (picture.nbytes % 2)
    dither = np.random.default_rng(0)  # one frame, one file
    rows = max(sensor.cfa.period, _CHUNK // frame.shape[1] // sensor.cfa.period * sensor.cfa.period)
    for top in range(0, frame.shape[0], rows):
        part = frame.mosaic[top : top + rows]
        yield np.ascontiguousarray(part if verbatim else _sixteen_bits(part, frame, dither), dtype="<u2").data.cast("B")


def _sixteen_bits(mosaic: np.ndarray, frame: RawFrame, dither: np.random.Generator) -> np.ndarray:
    """Rows of a float mosaic that begin on a tile -> uint16: up or down at random, right on average."""
    values = frame.sensor.normalise(mosaic).numpy()
    values *= OUTPUT_WHITE - OUTPUT_BLACK
    values += OUTPUT_BLACK
    np.nan_to_num(values, copy=False, nan=OUTPUT_BLACK, posinf=65535, neginf=0)
    values += dither.random(values.shape, dtype=np.float32)
    return np.clip(np.floor(values, out=values), 0, 65535, out=values).astype(np.uint16)


def _camera_tags(metadata: Metadata, source: FileTags, main: Tags, ev: float) -> Tags:
    """What DNG wants to know of camera and colour."""
    camera = metadata.camera or "Unknown camera"
    tags: Tags = {
        ORIENTATION: entry(SHORT, metadata.orientation),
        SOFTWARE: text_entry(SOFTWARE_NAME),
        DATETIME: main.get(DATETIME) or text_entry(datetime.now().strftime("%Y:%m:%d %H:%M:%S")),
        MAKE: main.get(MAKE) or text_entry("Unknown"),
        MODEL: main.get(MODEL) or text_entry(camera),
        50706: entry(BYTE, 1, 4, 0, 0),  # DNGVersion
        50707: entry(BYTE, 1, 3, 0, 0),  # DNGBackwardVersion
        50708: text_entry(camera),  # UniqueCameraModel
        50728: entry(RATIONAL, *neutral(metadata)),  # AsShotNeutral
        BASELINE_EXPOSURE: entry(SRATIONAL, ev),
    }
    if metadata.source:
        # OriginalRawFileName: on Unix a name may be any bytes, and these find the file again.
        tags[50827] = Entry(ASCII, os.fsencode(os.path.basename(metadata.source)) + b"\0")
    matrix = colour_matrix(metadata)
    known = dng_matrix(source) if source.is_dng else None
    if known and np.allclose(known[0], matrix, atol=1e-4):  # the frame's matrix is the source's: keep all that it has
        carried = (ANALOG_BALANCE, *(tag for tags_of_set in COLOUR_SETS for tag in tags_of_set), *_CALIBRATION_EXTRAS)
        tags |= {tag: source.main[tag] for tag in carried if tag in source.main}
        for colour, _, light, _ in COLOUR_SETS:  # some writers forget it, and editors then guess
            if colour in tags:
                tags.setdefault(light, entry(SHORT, metadata.illuminant))
    else:
        tags[COLOUR_SETS[0][0]] = entry(SRATIONAL, *matrix.ravel())
        tags[COLOUR_SETS[0][2]] = entry(SHORT, metadata.illuminant)
    tags |= {tag: source.main[tag] for tag in _PHOTOGRAPHERS if tag in source.main}
    if LENS_INFO in source.exif:
        tags.setdefault(50736, source.exif[LENS_INFO])
    return tags


def _mosaic_tags(frame: RawFrame, black: tuple[float, ...], white: float) -> Tags:
    cfa, (rows, columns) = frame.sensor.cfa, frame.shape
    left, top, width, height = frame.metadata.crop or (0, 0, columns, rows)
    period = cfa.period if len(black) > 1 and len(set(black)) > 1 else 1
    levels = black if period > 1 else black[:1]
    aspect, shown = frame.metadata.pixel_aspect, frame.metadata.user_crop
    scale = {DEFAULT_SCALE: entry(RATIONAL, max(1, aspect), max(1, 1 / aspect))} if aspect != 1 else {}
    return (
        scale
        | ({DEFAULT_USER_CROP: entry(RATIONAL, *shown)} if shown else {})
        | {
            254: entry(LONG, 0),
            256: entry(LONG, columns),
            257: entry(LONG, rows),
            258: entry(SHORT, 16),
            259: entry(SHORT, 1),
            262: entry(SHORT, 32803),  # CFA
            277: entry(SHORT, 1),
            278: entry(LONG, rows),
            279: entry(LONG, 2 * rows * columns),
            284: entry(SHORT, 1),
            33421: entry(SHORT, cfa.period, cfa.period),
            33422: entry(BYTE, *("RGB".index(letter) for letter in cfa.pattern())),
            50710: entry(BYTE, 0, 1, 2),  # CFAPlaneColor
            50711: entry(SHORT, 1),  # CFALayout: rectangular
            BLACK_REPEAT: entry(SHORT, period, period),
            BLACK_LEVEL: entry(RATIONAL, *levels) if any(b % 1 for b in levels) else entry(SHORT, *levels),
            WHITE_LEVEL: entry(LONG, round(white)),
            CROP_ORIGIN: entry(LONG, left, top),
            CROP_SIZE: entry(LONG, width, height),
            50829: entry(LONG, 0, 0, rows, columns),  # ActiveArea
        }
    )

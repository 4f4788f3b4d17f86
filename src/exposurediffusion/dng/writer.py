"""DNG out: a frame as a mosaic that raw editors open like the camera's own file.

IFD0 holds a thumbnail and what is true of the photograph; its SubIFDs are the mosaic (`dng_samples`) and, of a computed
frame, a preview at half its size; beside them lie the EXIF and GPS directories.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from exposurediffusion.dng.opcodes import lasting
from exposurediffusion.dng.storage import Bits, Compression, encode
from exposurediffusion.dng.tags import camera_tags, history_tags, placing_tags
from exposurediffusion.files.atomic import atomic
from exposurediffusion.files.develop import preview
from exposurediffusion.files.exif import EXIF_IFD, GPS_IFD, SUB_IFDS, FileTags, capture_tags
from exposurediffusion.files.tiff import LONG, SHORT, Tags, entry, rgb_tags, tiff_bytes
from exposurediffusion.physics.sensor import RawFrame

_THUMBNAIL = 512  # pixels along the longer side
_QUALITY = 90  # of the preview


def write_dng(
    path: str | os.PathLike[str],
    frame: RawFrame,
    *,
    baseline_exposure: float | None = None,
    bits: Bits = "auto",
    compression: Compression = "lossless",
) -> Path:
    """Write a frame as a CFA DNG.

    Args:
        path: the file to write, .dng; it appears only when it is complete.
        frame: uint16 mosaics are written verbatim with their own levels, float ones as `bits` says. Of its tags, EXIF,
            GPS, XMP, colour calibration, and corrections that still hold (see `opcodes`) are carried over. If it has a
            history, it is noted in the XMP, and so is the noise that is left.
        baseline_exposure: EV by which editors brighten the frame; default: as in the frame's metadata.
        bits: of a float frame: 16: dithered integers; 16f, 32f: floating point; auto: integers of 14 to 16 bits where
            their rounding cannot be seen, else 16f. Not every editor opens floating point.
        compression: lossless, as cameras write it; none.

    Returns:
        The path.

    Raises:
        OSError: the file cannot be written (nothing is left behind).
        ValueError: another extension, or levels that 16 bits cannot hold.
    """
    if Path(path).suffix.lower() != ".dng":
        raise ValueError(f"{os.fspath(path)}: a DNG has a name that ends in .dng")
    with atomic(path) as stream:
        for chunk in dng_chunks(frame, baseline_exposure=baseline_exposure, bits=bits, compression=compression):
            stream.write(chunk)
    return Path(path)


def dng_chunks(
    frame: RawFrame,
    *,
    baseline_exposure: float | None = None,
    bits: Bits = "auto",
    compression: Compression = "lossless",
) -> Iterator[bytes | memoryview]:
    """The bytes of a DNG, piece by piece; arguments as for `write_dng`."""
    metadata = frame.metadata
    tags: FileTags = frame.tags or FileTags()
    ev = metadata.baseline_exposure if baseline_exposure is None else baseline_exposure
    samples = encode(frame, ev, bits, compression)
    brighter = ev - metadata.baseline_exposure
    picture = preview(frame, brighter, longest=_THUMBNAIL)
    main, exif, gps = capture_tags(metadata, tags)
    main |= {254: entry(LONG, 1)} | rgb_tags(picture) | camera_tags(metadata, tags, main, ev)
    raw = placing_tags(frame) | samples.tags | history_tags(frame) | lasting(tags, frame.shape)
    parts = [(picture.nbytes,), samples.sizes]
    pictures = [raw]
    shown = b""
    if frame.mosaic.dtype != np.uint16:
        half, shown = _preview(frame, brighter)
        pictures.append(half)
        parts.append((len(shown),))
    others = {tag: directory for tag, directory in ((EXIF_IFD, exif), (GPS_IFD, gps)) if directory}
    links = {SUB_IFDS: range(1, 1 + len(pictures))}
    links |= {tag: [1 + len(pictures) + number] for number, tag in enumerate(others)}
    yield tiff_bytes([main, *pictures, *others.values()], links, list(enumerate(parts)))
    yield picture.tobytes() + b"\0" * (picture.nbytes % 2)
    for block in samples.blocks:
        yield block
        yield b"\0" * (len(block) % 2)
    yield shown


def _preview(frame: RawFrame, brighter: float) -> tuple[Tags, bytes]:
    """The frame at half its size (X-Trans: a third) as a JPEG, and its directory."""
    picture = preview(frame, brighter)
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "JPEG", quality=_QUALITY)
    code = out.getvalue()
    tags = rgb_tags(picture) | {
        254: entry(LONG, 1),
        259: entry(SHORT, 7),  # JPEG
        262: entry(SHORT, 6),  # YCbCr
        279: entry(LONG, len(code)),
        50970: entry(LONG, 2),  # PreviewColorSpace: sRGB
        530: entry(SHORT, 2, 2),  # YCbCrSubSampling
    }
    return tags, code

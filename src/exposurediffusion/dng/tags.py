"""What a DNG says besides its mosaic: camera, colour, place of the picture, and how it came about."""

from __future__ import annotations

import os

import numpy as np

from exposurediffusion.analysis.remaining import remaining_noise
from exposurediffusion.dng.xmp import XMP, packet
from exposurediffusion.files.atomic import SOFTWARE_NAME
from exposurediffusion.files.colour_matrices import ANALOG_BALANCE, COLOUR_SETS, dng_matrix
from exposurediffusion.files.develop import colour_matrix, neutral
from exposurediffusion.files.exif import (
    LENS_INFO,
    MAKE,
    MAKER_NOTE_SAFETY,
    MODEL,
    ORIENTATION,
    PRIVATE_DATA,
    SOFTWARE,
    FileTags,
)
from exposurediffusion.files.metadata import (
    BASELINE_EXPOSURE,
    CROP_ORIGIN,
    CROP_SIZE,
    DEFAULT_SCALE,
    DEFAULT_USER_CROP,
)
from exposurediffusion.files.tiff import (
    ASCII,
    BYTE,
    DOUBLE,
    LONG,
    RATIONAL,
    SHORT,
    SRATIONAL,
    Entry,
    Tags,
    entry,
    text_entry,
)
from exposurediffusion.physics.sensor import Metadata, RawFrame

NOISE_PROFILE, NOISE_REDUCTION_APPLIED = 51041, 50935
_LEAST_SLOPE = 1e-12  # Adobe's DNG SDK takes a profile with a slope of 0 for invalid
_BASELINE_EXPOSURE_OFFSET = 51109  # what the photographer set
_CALIBRATION_EXTRAS = (50931, 50932, 50735, 50736)  # signatures, camera serial number, lens


def camera_tags(metadata: Metadata, source: FileTags, main: Tags, ev: float) -> Tags:
    """What DNG wants to know of camera and colour."""
    camera = metadata.camera or "Unknown camera"
    tags: Tags = {
        ORIENTATION: entry(SHORT, metadata.orientation),
        SOFTWARE: text_entry(SOFTWARE_NAME),
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
    kept = (_BASELINE_EXPOSURE_OFFSET, PRIVATE_DATA, MAKER_NOTE_SAFETY)
    tags |= {tag: source.main[tag] for tag in kept if tag in source.main}
    if (said := packet(source.main.get(XMP), metadata.history)) is not None:
        tags[XMP] = said
    if LENS_INFO in source.exif:
        tags.setdefault(50736, source.exif[LENS_INFO])
    return tags


def placing_tags(frame: RawFrame) -> Tags:
    """Where the picture lies in the mosaic, and its colour filter array."""
    cfa, (rows, columns) = frame.sensor.cfa, frame.shape
    left, top, width, height = frame.metadata.crop or (0, 0, columns, rows)
    aspect, shown = frame.metadata.pixel_aspect, frame.metadata.user_crop
    tags: Tags = {
        254: entry(LONG, 0),
        256: entry(LONG, columns),
        257: entry(LONG, rows),
        262: entry(SHORT, 32803),  # CFA
        284: entry(SHORT, 1),
        33421: entry(SHORT, cfa.period, cfa.period),
        33422: entry(BYTE, *("RGB".index(letter) for letter in cfa.pattern())),
        50710: entry(BYTE, 0, 1, 2),  # CFAPlaneColor
        50711: entry(SHORT, 1),  # CFALayout: rectangular
        CROP_ORIGIN: entry(LONG, left, top),
        CROP_SIZE: entry(LONG, width, height),
        50829: entry(LONG, 0, 0, rows, columns),  # ActiveArea
    }
    if aspect != 1:
        tags[DEFAULT_SCALE] = entry(RATIONAL, max(1, aspect), max(1, 1 / aspect))
    if shown:
        tags[DEFAULT_USER_CROP] = entry(RATIONAL, *shown)
    return tags


def history_tags(frame: RawFrame) -> Tags:
    """What editors need in order not to denoise a cleaned frame once more: (none for a frame as it was taken)."""
    if not frame.metadata.history:
        return {}
    profile = (number for slope, offset in remaining_noise(frame) for number in (max(slope, _LEAST_SLOPE), offset))
    return {
        NOISE_REDUCTION_APPLIED: entry(RATIONAL, 1),
        NOISE_PROFILE: entry(DOUBLE, *profile),
    }

"""LibRaw's view of a raw file, as the decoding process reports it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from exposurediffusion.decoding.process import decode


@dataclass(frozen=True)
class Sizes:
    """Of a raw file's image, in sites; as rawpy's `ImageSizes`."""

    raw_height: int
    raw_width: int
    height: int
    width: int
    top_margin: int
    left_margin: int
    flip: int
    crop_left_margin: int
    crop_top_margin: int
    crop_width: int
    crop_height: int


@dataclass(frozen=True)
class LibRawFile:
    """What LibRaw says; what is not told here is named and meant as in rawpy.

    Attributes:
        pixel_aspect: width of a site over its height.
        flat: whether there is one number for each site.
        unwritten: visible sites that the decoder did not write, since the file does not hold them.
        raw_image: (rows, columns) uint16, DN, margins included; of no site where it was not decoded, or is not flat.
        pattern_rows: rows after which the colour filter array repeats; None: there is none.
        colour_of: indices of the colours of the first 6x6 visible sites; empty without a colour filter array.
        colours: how many there are.
        colour_names: letters of the colours by index.
        iso, shutter, aperture, focal_length: 0 where unknown; shutter in seconds, focal length in millimetres.
        printed: what LibRaw wrote on the standard streams: it reports corrupt data nowhere else.
    """

    sizes: Sizes
    pixel_aspect: float
    flat: bool
    unwritten: int
    raw_image: np.ndarray
    pattern_rows: int | None
    colour_of: tuple[tuple[int, ...], ...]
    colours: int
    colour_names: str
    black_level_per_channel: tuple[float, ...]
    white_level: float
    camera_white_level_per_channel: tuple[float, ...]
    camera_whitebalance: tuple[float, ...]
    rgb_xyz_matrix: np.ndarray
    iso: float
    shutter: float
    aperture: float
    focal_length: float
    lens: str
    printed: str


def libraw(path: str, most: float, *, pixels: bool, content: bytes | None = None) -> LibRawFile:
    """Let LibRaw read a raw file, in the decoding process.

    Args:
        path: of the file.
        most: megapixels that its image may have.
        pixels: whether its image is wanted, too.
        content: of a file that is to be read in the place of the one at `path`.

    Raises:
        DecodingError: LibRaw cannot read it, or the process died.
        MemoryError: too large for what its size allows.
    """
    arrays = [] if content is None else [np.frombuffer(content, np.uint8)]
    answer = decode("libraw", os.path.abspath(path), most, pixels, arrays=arrays)
    said: dict[str, Any] = answer.value
    sizes = said["sizes"]
    pattern = said["pattern_rows"]
    return LibRawFile(
        sizes=Sizes(*[int(sizes[name]) for name in Sizes.__annotations__]),
        pixel_aspect=float(sizes["pixel_aspect"]),
        flat=bool(said["flat"]),
        unwritten=int(said["unwritten"]),
        raw_image=answer.arrays[0] if answer.arrays else np.zeros((0, 0), np.uint16),
        pattern_rows=None if pattern is None else int(pattern),
        colour_of=tuple(tuple(int(index) for index in row) for row in said["colour_of"]),
        colours=int(said["colours"]),
        colour_names=str(said["colour_names"]),
        black_level_per_channel=_numbers(said["black_level_per_channel"]),
        white_level=float(said["white_level"] or 0),
        camera_white_level_per_channel=_numbers(said["camera_white_level_per_channel"]),
        camera_whitebalance=_numbers(said["camera_whitebalance"]),
        rgb_xyz_matrix=np.array(said["rgb_xyz_matrix"], float).reshape(-1, 3),
        **dict(zip(("iso", "shutter", "aperture", "focal_length"), _numbers(said["other"] or (0,) * 4), strict=True)),
        lens=str(said["lens"]),
        printed=answer.printed,
    )


def _numbers(values: Sequence[Any]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)

"""Pictures as training holds them: all in one tensor."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float16, Int64
from torch import Tensor


@dataclass(frozen=True)
class Pictures:
    """Clean pictures in linear light, one after the other; all tensors are on one device.

    Attributes:
        pixels: the pixels of all pictures, row by row.
        first: the number of each picture's first pixel.
        rows: height of each picture in pixels.
        columns: width of each picture in pixels.
        panorama: whether it is an equirectangular panorama, else a photograph.
        names: what messages call each picture.
    """

    pixels: Float16[Tensor, "n 3"]
    first: Int64[Tensor, " count"]
    rows: Int64[Tensor, " count"]
    columns: Int64[Tensor, " count"]
    panorama: Bool[Tensor, " count"]
    names: tuple[str, ...]

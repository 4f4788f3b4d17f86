"""From the planes of a frame to a small sRGB picture, without LibRaw: previews, thumbnails, colour arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from exposurediffusion.physics.mosaic import CFA, pack_unmoved
from exposurediffusion.physics.sensor import Metadata, RawFrame

XYZ_FROM_SRGB = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
"""Linear sRGB -> CIE XYZ, white D65 (IEC 61966-2-1)."""
GENERIC_MATRIX = (0.9020, -0.2890, -0.0715, -0.4535, 1.2436, 0.2348, -0.0934, 0.1919, 0.7086)
"""XYZ -> camera of an ordinary sensor (a Nikon D750), for frames whose file says nothing."""


def colour_matrix(metadata: Metadata) -> np.ndarray:
    """XYZ -> camera RGB, 3x3; the generic one where the file says nothing."""
    return np.reshape(metadata.colour_matrix or GENERIC_MATRIX, (3, 3)).astype(float)


def neutral(metadata: Metadata) -> np.ndarray:
    """Camera RGB of a neutral as shot, green = 1; of daylight where the file says nothing."""
    if metadata.as_shot_neutral:
        return np.asarray(metadata.as_shot_neutral, dtype=float)
    daylight = colour_matrix(metadata) @ XYZ_FROM_SRGB.sum(1)
    usable = bool(np.all(daylight > 0))
    return daylight / daylight[1] if usable else np.ones(3)


def srgb_from_camera(metadata: Metadata) -> np.ndarray:
    """White-balanced camera RGB -> linear sRGB, 3x3, rows summing to one: a neutral stays neutral.

    As dcraw has it: the matrix sRGB -> XYZ -> camera with its rows scaled to send (1, 1, 1) to (1, 1, 1), inverted.
    """
    camera_from_srgb = colour_matrix(metadata) @ XYZ_FROM_SRGB
    white = camera_from_srgb.sum(1, keepdims=True)
    if np.any(white <= 0) or abs(np.linalg.det(camera_from_srgb)) < 1e-9:
        return np.eye(3)  # a nonsensical matrix: better dull colours than none
    return np.linalg.inv(camera_from_srgb / white)


def encode_srgb(linear: np.ndarray) -> np.ndarray:
    """Linear 0..1 (clipped) -> sRGB's transfer curve, 0..1."""
    x = np.clip(linear, 0, 1)
    return np.where(x <= 0.0031308, 12.92 * x, 1.055 * np.power(x, 1 / 2.4) - 0.055)


_ENCODED16 = np.rint(65535 * encode_srgb(np.arange(65536) / 65535)).astype(np.uint16)
_ENCODED = np.rint(255 * encode_srgb(np.arange(65536) / 65535)).astype(np.uint8)


def preview(frame: RawFrame, exposure: float = 0.0, longest: int | None = None) -> np.ndarray:
    """A quick picture: each cell of the mosaic (2x2, X-Trans 3x3) becomes one pixel.

    Args:
        frame: any.
        exposure: EV by which to brighten, besides the frame's own baseline exposure.
        longest: at most this many pixels along the longer side (whole cells are left out; default: all are used).

    Returns:
        (h, w, 3) uint8 sRGB, as the sensor lies (not turned upright), cut to what is to be shown, with square pixels.
    """
    frame = cropped(frame)
    cells = max(frame.shape) // frame.sensor.cfa.stride
    small = _thinned(frame, max(1, -(-cells // longest))) if longest else frame
    return squared(_ENCODED[_light_codes(small, exposure)], frame.metadata.pixel_aspect)


def preview16(frame: RawFrame, exposure: float) -> np.ndarray:
    """`preview` in 16 bits, uint16."""
    frame = cropped(frame)
    return squared(_ENCODED16[_light_codes(frame, exposure)], frame.metadata.pixel_aspect)


def _light_codes(frame: RawFrame, exposure: float) -> np.ndarray:
    """Linear sRGB of each cell of a frame in codes of 16 bits, (h, w, 3)."""
    planes = pack_unmoved(frame.sensor.normalise(frame.mosaic), frame.sensor.cfa)
    linear = develop(camera_rgb(planes, frame.sensor.cfa).permute(1, 2, 0).numpy(), frame.metadata, exposure)
    np.nan_to_num(linear, copy=False)
    return np.rint(np.clip(linear, 0, 1) * 65535).astype(np.uint16)


def develop(rgb: np.ndarray, metadata: Metadata, exposure: float = 0.0) -> np.ndarray:
    """Normalised camera RGB (..., 3) -> linear sRGB; highlights are clipped where the first channel saturates."""
    white = neutral(metadata)
    gain = 2.0 ** (exposure + metadata.baseline_exposure) * white.max() / white
    return np.clip(rgb * gain.astype(rgb.dtype), 0, 1) @ srgb_from_camera(metadata).T.astype(rgb.dtype)


def camera_rgb(planes: Float[Tensor, "planes h w"], cfa: CFA) -> Float[Tensor, "3 h w"]:
    """The mean of each colour in each cell."""
    index = [[i for i, letter in enumerate(cfa.colours) if letter == colour] for colour in "RGB"]
    return torch.stack([planes[i].mean(0) for i in index])


def squared(picture: np.ndarray, aspect: float) -> np.ndarray:
    """Stretch an (h, w, 3) picture, uint8 or uint16, so that its pixels, `aspect` as wide as high, become square."""
    if abs(aspect - 1) < 1e-3:
        return picture
    height, width = picture.shape[:2]
    size = (round(width * max(1, aspect)), round(height * max(1, 1 / aspect)))
    planes = [
        Image.fromarray(picture[..., i].astype(np.float32)).resize(size, Image.Resampling.BICUBIC) for i in range(3)
    ]
    stretched = np.rint(np.stack([np.asarray(plane) for plane in planes], -1))
    return np.clip(stretched, 0, np.iinfo(picture.dtype).max).astype(picture.dtype)


def shown_window(metadata: Metadata, shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, width, height of what is to be shown of a frame of `shape`: its crop, and within it the user's."""
    left, top, width, height = metadata.crop or (0, 0, shape[1], shape[0])
    if metadata.user_crop is None:
        return left, top, width, height
    up, west, down, east = metadata.user_crop
    x0, x1 = round(left + west * width), round(left + east * width)
    y0, y1 = round(top + up * height), round(top + down * height)
    return x0, y0, max(1, x1 - x0), max(1, y1 - y0)


def cropped(frame: RawFrame) -> RawFrame:
    """The part of the frame that is to be shown; all of it if less than a tile would be left."""
    left, top, width, height = shown_window(frame.metadata, frame.shape)
    if (width, height) == frame.shape[::-1] or min(width, height) < frame.sensor.cfa.period:
        return frame
    return _window(frame, frame.mosaic[top : top + height, left : left + width], top, left)


def _thinned(frame: RawFrame, step: int) -> RawFrame:
    """Every `step`-th tile in each direction: what is quick for a thumbnail, though not the smoothest."""
    period = frame.sensor.cfa.period
    rows, columns = (np.flatnonzero(np.arange(n) // period % step == 0) for n in frame.shape)
    return _window(frame, frame.mosaic[np.ix_(rows, columns)], 0, 0)


def _window(frame: RawFrame, mosaic: np.ndarray, top: int, left: int) -> RawFrame:
    return RawFrame(mosaic, frame.sensor.shifted(top, left), replace(frame.metadata, crop=None, user_crop=None))


def srgb_to_linear(x: np.ndarray) -> np.ndarray:
    """Inverse of the sRGB transfer curve (IEC 61966-2-1), [0, 1] to [0, 1]."""
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4).astype(np.float32)


def camera_from_rgb(matrix: Sequence[float]) -> Float[Tensor, "3 3"]:
    """Linear sRGB to white-balanced camera RGB, by the camera's matrix from XYZ (9 numbers): white stays white."""
    camera = np.reshape(matrix, (3, 3)) @ XYZ_FROM_SRGB
    return torch.from_numpy(camera / camera.sum(axis=1, keepdims=True)).float()

"""From a frame to a finished picture: LibRaw's demosaicing and colour at full size, or a quick preview."""

from __future__ import annotations

import io
import os
import struct
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import imagecodecs
import numpy as np
import rawpy
from PIL import Image, ImageCms, PngImagePlugin

from exposurediffusion.dng.opcodes import apply_gain_maps, has_gain_maps, lasting
from exposurediffusion.dng.writer import dng_chunks
from exposurediffusion.files.atomic import SOFTWARE_NAME, atomic
from exposurediffusion.files.develop import preview, preview16, shown_window, squared
from exposurediffusion.files.exif import EXIF_IFD, GPS_IFD, SOFTWARE, FileTags, capture_tags, exif_block
from exposurediffusion.files.tiff import UNDEFINED, Entry, rgb_tags, text_entry, tiff_bytes
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.physics.sensor import Metadata, RawFrame
from exposurediffusion.rendering.tone import HEADROOM, camera_tone

_SURROUNDINGS = 24  # sites around a window; LibRaw leaves the outermost to a simpler demosaicing
_PNG_HEADER = 33  # bytes of the signature and the IHDR chunk
PICTURE_EXTENSIONS = frozenset({".png", ".tif", ".tiff", ".jpg", ".jpeg"})
"""What `Rendering.save` can write."""


@dataclass(frozen=True)
class Rendering:
    """A finished picture.

    Attributes:
        rgb: (h, w, 3) sRGB, upright, uint16 (uint8 for a quick one).
        metadata, tags: of the frame that it was made from.
    """

    rgb: np.ndarray
    metadata: Metadata
    tags: FileTags | None = None

    @property
    def rgb8(self) -> np.ndarray:
        """The picture in 8 bits."""
        wide = self.rgb.dtype == np.uint16
        return ((self.rgb.astype(np.uint32) + 128) // 257).astype(np.uint8) if wide else self.rgb

    def resized(self, longest: int) -> Rendering:
        """The picture with at most so many pixels along its longer side; a smaller one as it is."""
        height, width = self.rgb.shape[:2]
        if max(height, width) <= longest:
            return self
        size = max(1, round(width * longest / max(height, width))), max(1, round(height * longest / max(height, width)))
        planes = [Image.fromarray(self.rgb[..., i].astype(np.float32)) for i in range(3)]  # Pillow has no 16-bit RGB
        small = np.stack([np.asarray(plane.resize(size, Image.Resampling.LANCZOS)) for plane in planes], axis=-1)
        top = np.iinfo(self.rgb.dtype).max
        return replace(self, rgb=np.rint(small).clip(0, top).astype(self.rgb.dtype))

    def save(self, path: str | os.PathLike[str], *, quality: int = 95) -> Path:
        """Write the picture, with an sRGB profile and the EXIF of the raw that it came from.

        Args:
            path: .jpg or .jpeg (8 bit), .png or .tif or .tiff (16 bit, a quick rendering 8; TIFF uncompressed).
            quality: of a JPEG, 1..100.

        Raises:
            ValueError: another extension.
            OSError: the file cannot be written (nothing is left behind).
        """
        suffix = Path(path).suffix.lower()
        if suffix not in PICTURE_EXTENSIONS:
            raise ValueError(f"{os.fspath(path)}: unknown picture format; use {', '.join(sorted(PICTURE_EXTENSIONS))}")
        with atomic(path) as stream:
            if suffix in (".tif", ".tiff"):
                for chunk in self._tiff():
                    stream.write(chunk)
                return Path(path)
            exif = exif_block(self.metadata, self.tags, SOFTWARE_NAME)
            stream.write(self._png(exif) if suffix == ".png" else self._jpeg(exif, quality))
        return Path(path)

    def _jpeg(self, exif: bytes, quality: int) -> memoryview:
        out = io.BytesIO()
        profile = _srgb_profile()
        Image.fromarray(self.rgb8).save(out, "JPEG", icc_profile=profile, exif=exif, quality=quality, subsampling=0)
        return out.getbuffer()

    def _png(self, exif: bytes) -> memoryview:
        """Pillow writes no 16-bit colour: imagecodecs compresses, and the chunks that it leaves out go in here."""
        encoded = imagecodecs.png_encode(np.ascontiguousarray(self.rgb), level=4)
        out = io.BytesIO()
        out.write(encoded[:_PNG_HEADER])
        PngImagePlugin.putchunk(out, b"iCCP", b"sRGB\0\0" + zlib.compress(_srgb_profile()))
        PngImagePlugin.putchunk(out, b"eXIf", exif.removeprefix(b"Exif\0\0"))
        out.write(encoded[_PNG_HEADER:])
        return out.getbuffer()

    def _tiff(self) -> tuple[bytes, memoryview]:
        main, exif, gps = capture_tags(self.metadata, self.tags)
        picture = np.ascontiguousarray(self.rgb, dtype=self.rgb.dtype.newbyteorder("<"))
        main |= rgb_tags(picture) | {SOFTWARE: text_entry(SOFTWARE_NAME), 34675: Entry(UNDEFINED, _srgb_profile())}
        subs = [(tag, t) for tag, t in ((EXIF_IFD, exif), (GPS_IFD, gps)) if t]
        links = {tag: [number] for number, (tag, _) in enumerate(subs, 1)}
        return tiff_bytes([main, *(t for _, t in subs)], links, [(0, [picture.nbytes])]), picture.data.cast("B")


def render(
    frame: RawFrame,
    *,
    exposure: float = 0.0,
    tone: Literal["linear", "camera"] = "linear",
    quick: bool = False,
    window: tuple[int, int, int, int] | None = None,
) -> Rendering:
    """Develop a frame: white balance as shot, the camera's colours to sRGB, highlights clipped, brightness as it is.

    The GainMaps of the DNG that the frame was read from are applied; corrections of the lens's geometry are not.

    Args:
        frame: any; its baseline exposure is applied.
        exposure: EV by which to brighten besides.
        tone: linear, or with the gentle contrast and shoulder of a camera's own pictures (see `tone`), which shows
            2 EV above white where the frame holds them.
        quick: a preview at half the size (X-Trans: a third) without demosaicing, in 8 bits if it is linear.
        window: left, top, width and height of a part, in sites of the frame; None: what is to be shown of it.

    Returns:
        The picture, cut to the window, with square pixels, turned upright.
    """
    frame = evened(frame)
    if window is not None:
        frame = _part(frame, window)
    metadata = frame.metadata
    room = HEADROOM if tone == "camera" else 0.0
    if quick:
        rgb = camera_tone(preview16(frame, exposure - room)) if tone == "camera" else preview(frame, exposure)
        return Rendering(upright(rgb, metadata.orientation), metadata, frame.tags)
    # The exposure goes into the mosaic, in float: LibRaw's own brightness would stretch 16-bit integers.
    values = frame.sensor.normalise(frame.mosaic).mul_(2.0 ** (exposure + metadata.baseline_exposure - room))
    plain = replace(
        metadata,
        make=None,
        model=None,
        source=None,
        orientation=1,
        crop=None,
        user_crop=None,
        pixel_aspect=1.0,
        baseline_exposure=0.0,
    )  # a camera's name would invite LibRaw's special treatment of that camera's files
    bright = RawFrame(_extended(frame.sensor.digitise(values), frame.sensor.cfa), frame.sensor, plain)
    del values
    with rawpy.imread(io.BytesIO(b"".join(dng_chunks(bright, bits="16", compression="none")))) as raw:
        rgb = raw.postprocess(
            use_camera_wb=True,
            output_color=rawpy.ColorSpace.sRGB,
            output_bps=16,
            gamma=(2.4, 12.92),
            no_auto_bright=True,
            adjust_maximum_thr=0.0,
            highlight_mode=rawpy.HighlightMode.Clip,
            user_flip=0,
        )
    rgb = camera_tone(rgb) if tone == "camera" else rgb
    left, top, width, height = shown_window(metadata, frame.shape)
    rgb = squared(rgb[top : top + height, left : left + width], metadata.pixel_aspect)
    return Rendering(upright(rgb, metadata.orientation), metadata, frame.tags)


def _part(frame: RawFrame, window: tuple[int, int, int, int]) -> RawFrame:
    """A window of a frame with the surroundings that demosaicing sees, the window as its crop."""
    left, top, width, height = window
    x, y = (max(0, start - _SURROUNDINGS) for start in (left, top))
    mosaic = frame.mosaic[y : top + height + _SURROUNDINGS, x : left + width + _SURROUNDINGS]
    metadata = replace(frame.metadata, crop=(left - x, top - y, width, height), user_crop=None)
    return replace(frame, mosaic=mosaic, sensor=frame.sensor.shifted(y, x), metadata=metadata)


def evened(frame: RawFrame) -> RawFrame:
    """The frame under the GainMaps of its file."""
    lists = lasting(frame.tags or FileTags(), frame.shape)
    if not has_gain_maps(lists):
        return frame
    values = frame.sensor.normalise(frame.mosaic)
    apply_gain_maps(values.numpy(), lists)
    return replace(frame, mosaic=frame.sensor.digitise(values))


def _extended(mosaic: np.ndarray, cfa: CFA) -> np.ndarray:
    """Repeat the last tile where the mosaic is smaller than LibRaw's demosaicing takes (512 sites for X-Trans)."""
    least, period = (64, 2) if cfa.is_bayer else (512, 6)
    for axis, size in enumerate(mosaic.shape):
        if size < least:
            index = np.arange(least)
            index[size:] = size - period + (index[size:] - size) % period
            mosaic = mosaic.take(index, axis)
    return mosaic


def upright(picture: np.ndarray, orientation: int) -> np.ndarray:
    """Turn an (h, w, ...) picture as its EXIF orientation (1..8) says."""
    if orientation in (5, 6, 7, 8):
        picture = picture.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        picture = picture[::-1]
    if orientation in (2, 3, 6, 7):
        picture = picture[:, ::-1]
    return np.ascontiguousarray(picture)


def _srgb_profile() -> bytes:
    """The ICC profile, with a fixed date in its header (bytes 24 to 35): a picture written twice is the same file."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile[:24] + struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + profile[36:]

"""A decoded frame on disk: its planes, read by windows, and what its record says of it."""

from __future__ import annotations

import io
import math
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from exposurediffusion.physics.dark_shading import Window
from exposurediffusion.physics.mosaic import CFA, pack, packed_shape, unpack
from exposurediffusion.physics.plain import build, fitting
from exposurediffusion.physics.sensor import Metadata, RawFrame, Sensor


@dataclass(frozen=True)
class CachedFrame:
    """A packed frame on disk. Nothing is open between calls, so that it can be sent to other processes.

    Attributes:
        array: the .npy file.
        sensor: levels and colour filter array of the frame.
        shape: rows and columns of the mosaic in sites.
        metadata: of the raw file.
        checksum: of the .npy.
    """

    array: Path
    sensor: Sensor
    shape: tuple[int, int]
    metadata: Metadata
    checksum: int

    @property
    def cfa(self) -> CFA:
        """Colour filter array."""
        return self.sensor.cfa

    @property
    def source(self) -> str:
        """Path of the raw file."""
        return self.metadata.source or str(self.array)

    def planes(self, window: Window | None = None) -> Float[Tensor, "planes h w"]:
        """Normalised planes (black 0, white 1, not clipped), float32, of a window that begins with a tile; None: all.

        Raises:
            ValueError: the file is gone, or damaged.
        """
        digits = self._digits()
        top, left, height, width = window or (0, 0, *digits.shape[1:])
        part = digits[:, top : top + height, left : left + width].astype(np.float32)
        black = _black(self.sensor)
        if (k := black.shape[1]) > 1:
            rows, columns = part.shape[1:]
            black = black.repeat(1, -(-rows // k), -(-columns // k))[:, :rows, :columns]
        return torch.from_numpy(part).sub_(black).div_(self.sensor.white_level - black)

    def frame(self) -> RawFrame:
        """The whole frame as it was read, without its masked margins."""
        digits = torch.from_numpy(self._digits().view(np.int16).copy())
        mosaic = unpack(digits, self.cfa, self.shape)
        return RawFrame(mosaic.numpy().view(np.uint16), self.sensor, self.metadata)

    @property
    def is_whole(self) -> bool:
        """Whether the .npy is as large as the planes; their checksum is looked at later."""
        return self.array.stat().st_size == len(self._head) + 2 * math.prod(self._packed)

    @property
    def _packed(self) -> tuple[int, int, int]:
        return (self.cfa.planes, *packed_shape(self.shape, self.cfa))

    @property
    def _head(self) -> bytes:
        return npy_header(self._packed)

    def _digits(self) -> np.ndarray:
        try:
            changed = self.array.stat().st_mtime_ns
            if not (self.is_whole and _is_sound(self.array, self._head, self.checksum, changed)):
                raise ValueError(f"not the planes of {self.source}")
            return np.memmap(self.array, "<u2", "r", len(self._head), self._packed)
        except (OSError, ValueError) as error:
            self.array.with_suffix(".json").unlink(missing_ok=True)
            raise ValueError(f"{self.array}: damaged or gone ({error}); start again, it is then made anew") from error


@lru_cache
def _black(sensor: Sensor) -> Float[Tensor, "planes k k"]:
    """DN at no light of each plane, which repeats; of equal levels one number each."""
    cfa = sensor.cfa
    top, left = cfa.origin
    black = pack(torch.from_numpy(sensor.black((cfa.period, cfa.period), -top, -left)).float(), cfa.tile)
    return black[:, :1, :1] if bool((black == black[:, :1, :1]).all()) else black


def npy_header(shape: tuple[int, ...]) -> bytes:
    """The header of an .npy of planes in DN."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<u2", "fortran_order": False, "shape": shape})
    return stream.getvalue()


@lru_cache(1 << 16)
def _is_sound(array: Path, head: bytes, checksum: int, changed: int) -> bool:
    """Whether a file of planes, last changed then, has its header and checksum; each process looks once."""
    content = np.memmap(array, np.uint8, "r")
    return bytes(content[: len(head)]) == head and zlib.adler32(content.data) == checksum


def restored(stored: dict[str, Any], array: Path) -> CachedFrame:
    """The frame that a record describes.

    Raises:
        ValueError: a field is of another kind, or a number out of its range.
    """
    sensor = build(Sensor, {name: stored[name] for name in ("cfa", "black_level", "white_level")})
    shape = fitting(stored["shape"], tuple[int, int], "shape")
    if not 0 < min(shape) <= max(shape) < 1 << 20:
        raise ValueError(f"a mosaic of {shape[1]}x{shape[0]} sites")
    metadata = build(Metadata, stored["metadata"], "metadata")
    return CachedFrame(array, sensor, shape, metadata, fitting(stored["checksum"], int, "checksum"))

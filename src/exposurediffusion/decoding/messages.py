"""What the two processes say to each other: a header of JSON, then the bytes of arrays. Nothing is ever unpickled."""

from __future__ import annotations

import json
from collections.abc import Sequence
from io import BufferedIOBase
from math import prod
from typing import Any

import numpy as np

_LONGEST = 1 << 24  # bytes of a header
_NUMBERS = "biuf"  # kinds of NumPy types: numbers, and never objects


def send(stream: BufferedIOBase, value: Any, arrays: Sequence[np.ndarray] = ()) -> None:
    """Write a message: anything that JSON holds, and arrays."""
    arrays = [np.ascontiguousarray(array) for array in arrays]
    header = json.dumps([value, [(array.dtype.str, array.shape) for array in arrays]]).encode()
    stream.write(len(header).to_bytes(8, "little") + header)
    for array in arrays:
        stream.write(array.data.cast("B") if array.size else b"")
    stream.flush()


def receive(stream: BufferedIOBase) -> tuple[Any, list[np.ndarray]]:
    """Read a message.

    Raises:
        EOFError: there is none, or it is cut short.
        ValueError: it is not one of ours.
    """
    length = int.from_bytes(_exactly(stream, 8), "little")
    if length > _LONGEST:
        raise ValueError("a header that is too long")
    value, described = json.loads(_exactly(stream, length))
    arrays = []
    for dtype, shape in described:
        if np.dtype(dtype).kind not in _NUMBERS or not all(isinstance(n, int) and n >= 0 for n in shape):
            raise ValueError("an array of another kind")
        array = np.empty(shape, dtype)
        if prod(shape):
            _fill(stream, array.data.cast("B"))
        arrays.append(array)
    return value, arrays


def _exactly(stream: BufferedIOBase, count: int) -> bytes:
    buffer = bytearray(count)
    _fill(stream, memoryview(buffer))
    return bytes(buffer)


def _fill(stream: BufferedIOBase, view: memoryview) -> None:
    while view:
        count = stream.readinto(view)  # type: ignore[attr-defined]
        if not count:
            raise EOFError("the other process is gone")
        view = view[count:]

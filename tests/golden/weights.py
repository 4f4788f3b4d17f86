"""State dicts with the authors' names and shapes, filled by the formula of README.md; and the golden figures."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]
NAFNET1: dict[str, Any] = {"encoders": (), "middle": 1, "decoders": ()}
NAFNET2: dict[str, Any] = {"encoders": (2, 2, 4, 4), "middle": 12, "decoders": (2, 2, 2, 2)}


def golden() -> dict[str, np.ndarray]:
    """All figures by key."""
    with np.load(Path(__file__).parent / "official.npz", allow_pickle=False) as file:
        return dict(file)


def filled(shapes: Shapes) -> dict[str, Tensor]:
    """A state dict of these shapes, each parameter a function of its name."""
    return {name: torch.from_numpy(_fill(name, shape)) for name, shape in shapes.items()}


def _fill(name: str, shape: tuple[int, ...]) -> np.ndarray:
    x = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)
    if len(shape) == 4 and shape[0] != 1:
        return x * np.float32(np.sqrt(2 / np.prod(shape[1:])))
    offset = 1.0 if "norm" in name and name.endswith("weight") else 0.0
    return x * np.float32(0.05) + np.float32(offset)


def unet_shapes(in_channels: int, out_channels: int, width: int = 32) -> Shapes:
    """Names and shapes of the authors' UNet."""
    shapes: Shapes = {}
    before = in_channels
    for level in range(5):
        channels = width * 2**level
        shapes |= _convolution(f"conv{level + 1}_1", channels, before, 3)
        shapes |= _convolution(f"conv{level + 1}_2", channels, channels, 3)
        before = channels
    for level in range(6, 10):
        channels = width * 2 ** (9 - level)
        shapes |= {f"upv{level}.weight": (2 * channels, channels, 2, 2), f"upv{level}.bias": (channels,)}
        shapes |= _convolution(f"conv{level}_1", channels, 2 * channels, 3)
        shapes |= _convolution(f"conv{level}_2", channels, channels, 3)
    return shapes | _convolution("conv10_1", out_channels, width, 1)


def nafnet_shapes(
    in_channels: int,
    out_channels: int,
    width: int = 16,
    encoders: Sequence[int] = (),
    middle: int = 1,
    decoders: Sequence[int] = (),
) -> Shapes:
    """Names and shapes of the authors' NAFNet."""
    shapes = _convolution("intro", width, in_channels, 3)
    channels = width
    for level, count in enumerate(encoders):
        for block in range(count):
            shapes |= _block(f"encoders.{level}.{block}", channels)
        shapes |= _convolution(f"downs.{level}", 2 * channels, channels, 2)
        channels *= 2
    for block in range(middle):
        shapes |= _block(f"middle_blks.{block}", channels)
    for level, count in enumerate(decoders):
        shapes[f"ups.{level}.0.weight"] = (2 * channels, channels, 1, 1)
        channels //= 2
        for block in range(count):
            shapes |= _block(f"decoders.{level}.{block}", channels)
    return shapes | _convolution("ending", out_channels, width, 3)


def _block(name: str, channels: int) -> Shapes:
    shapes: Shapes = {f"{name}.beta": (1, channels, 1, 1), f"{name}.gamma": (1, channels, 1, 1)}
    shapes |= _convolution(f"{name}.conv1", 2 * channels, channels, 1)
    shapes |= _convolution(f"{name}.conv2", 2 * channels, 1, 3)
    shapes |= _convolution(f"{name}.conv3", channels, channels, 1)
    shapes |= _convolution(f"{name}.sca.1", channels, channels, 1)
    shapes |= _convolution(f"{name}.conv4", 2 * channels, channels, 1)
    shapes |= _convolution(f"{name}.conv5", channels, channels, 1)
    for norm in ("norm1", "norm2"):
        shapes |= {f"{name}.{norm}.weight": (channels,), f"{name}.{norm}.bias": (channels,)}
    return shapes


def _convolution(name: str, out_channels: int, in_channels: int, side: int) -> Shapes:
    return {f"{name}.weight": (out_channels, in_channels, side, side), f"{name}.bias": (out_channels,)}

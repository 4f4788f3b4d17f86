"""Another white balance than the file's: daylight, what the frame itself suggests, or given multipliers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from exposurediffusion.files.develop import camera_rgb, cropped, neutral
from exposurediffusion.physics.sensor import RawFrame

NO_WHITE = (
    "it has no as-shot white balance: daylight is assumed (that of an ordinary camera, if it has no colour matrix "
    "either); choose another with --white-balance daylight|auto|R,G,B"
)
"""The note of a frame for which nobody has chosen a white balance."""
_BLOCK = 16  # cells along a side that are averaged: noise must not choose the colour
_CLIPPED = 0.8  # of white: a block this bright may hold clipped sites, whose colour is not the light's
_OUTER = 0.05  # darkest and brightest part of the blocks that is left out


def white_balance(frame: RawFrame, choice: str | Sequence[float]) -> RawFrame:
    """The same frame with another `Metadata.as_shot_neutral`: pictures and the DNG show it in that white balance.

    Args:
        frame: any.
        choice: "shot" (as it is), "daylight" (what the colour matrix says of D65), "auto" (the world is grey on
            average: robust, wrong for scenes of one colour), or three multipliers of red, green and blue, as numbers
            or as "R,G,B" (only their ratios count).

    Raises:
        ValueError: another word, or multipliers that are not three positive numbers.
    """
    if choice == "shot":
        return frame
    if choice == "daylight":
        found = neutral(replace(frame.metadata, as_shot_neutral=None))
    elif choice == "auto":
        found = _grey_world(frame)
    else:
        found = 1 / multipliers(choice)
    red, green, blue = (float(v) for v in found)
    metadata = replace(frame.metadata, as_shot_neutral=(red / green, 1.0, blue / green))
    return replace(frame, metadata=metadata, notes=tuple(text for text in frame.notes if text != NO_WHITE))


def multipliers(choice: str | Sequence[float]) -> np.ndarray:
    """Three multipliers from "R,G,B", or from numbers.

    Raises:
        ValueError: not three positive numbers.
    """
    try:
        parts = choice.split(",") if isinstance(choice, str) else choice
        values = np.array([float(part) for part in parts])
    except ValueError:
        values = np.zeros(0)
    if values.size != 3 or not (np.isfinite(values).all() and values.min() > 0):
        said = choice if isinstance(choice, str) else ",".join(map(str, choice))
        raise ValueError(f"white balance {said!r}: use shot, daylight, auto, or three positive numbers R,G,B")
    return values


def _grey_world(frame: RawFrame) -> np.ndarray:
    """Mean camera RGB of the blocks neither clipped nor among the darkest or brightest; daylight if there are none."""
    shown = cropped(frame)
    rgb = camera_rgb(shown.planes, shown.sensor.cfa).numpy()
    rows, columns = (max(n // _BLOCK, 1) for n in rgb.shape[1:])
    down, across = (n // k for n, k in zip(rgb.shape[1:], (rows, columns), strict=True))
    cut = rgb[:, : rows * down, : columns * across].reshape(3, rows, down, columns, across)
    blocks = cut.mean((2, 4), dtype=np.float64).reshape(3, -1)
    blocks = blocks[:, blocks.max(0) < _CLIPPED]
    if blocks.shape[1]:
        low, high = np.quantile(blocks[1], (_OUTER, 1 - _OUTER))
        mean = blocks[:, (blocks[1] >= low) & (blocks[1] <= high)].mean(1)
        if mean.min() > 0:
            return mean
    return neutral(replace(frame.metadata, as_shot_neutral=None))

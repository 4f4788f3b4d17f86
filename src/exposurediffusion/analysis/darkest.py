"""The darkest parts of a frame, and what they say about its black level.

Light is never negative: a true black level lies at or below the mean of every part of the picture, so darkest parts
that are significantly negative prove that the stated level is too high. And light is never quiet: n electrons vary by
sqrt(n), so darkest parts of much signal and little noise prove that it is too low.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from exposurediffusion.physics.sensor import RawFrame

_SIDE = 16  # of the smallest blocks that bound the black level, in samples of a plane; the others have 32 and 64
_FEWEST = 16  # blocks of a plane
_PART = 0.01  # of the blocks that may be below the level: dead clusters, dust, a dark corner
_CERTAIN = 2.5  # standard errors
_FULL_WELL, _ISO = 200_000.0, 200.0  # electrons at saturation that no camera exceeds, up to this ISO and as 1 / ISO on
_NOISE = 0.3  # DN squared: less is rounding, or no noise at all


@dataclass(frozen=True)
class Darkest:
    """The darkest blocks of one plane of same sites, DN above the stated black.

    Attributes:
        level: what the mean of the darkest `_PART` of the blocks would be without the luck of the draw: unbiased where
            all the plane is dark, too high where it is not.
        error: standard error of `level`.
        noise: variance of the samples of one column about their neighbours' line (row noise is part of it), DN squared.
    """

    level: float
    error: float
    noise: float


def site_planes(frame: RawFrame) -> Iterator[tuple[np.ndarray, float]]:
    """The sites of each kind of the frame's first tile, in reading order.

    Yields:
        Their values in DN above the stated black, float32, and that level.
    """
    for rows, columns, black in frame.sensor.sites:
        yield frame.mosaic[rows, columns].astype(np.float32, order="C") - np.float32(black), black


def block_means(plane: np.ndarray, black: float, side: int) -> np.ndarray:
    """Means of the whole blocks of a plane, (rows, columns), in DN above the stated black.

    Infinite where a block is no picture: it reaches down to a raw value of 0 (clipped, dead), or is all alike (filled).

    Args:
        plane: DN above the stated black.
        black: that level.
        side: of the blocks, samples.
    """
    down, across = (n // side for n in plane.shape)
    strips = plane[: down * side, : across * side].reshape(down, side, across * side)
    means = strips.mean(axis=1).reshape(down, across, side).mean(axis=2)
    lowest = strips.min(axis=1).reshape(down, across, side).min(axis=2)
    highest = strips.max(axis=1).reshape(down, across, side).max(axis=2)
    return np.where((lowest > -black) & (lowest < highest), means, np.inf)


def darkest(plane: np.ndarray, means: np.ndarray, side: int, fewest: int = _FEWEST) -> Darkest | None:
    """The darkest blocks of a plane.

    Args:
        plane: DN above the stated black.
        means: of its blocks, from `block_means`.
        side: of the blocks, samples.
        fewest: finite means without which there is no answer.
    """
    count = int(np.isfinite(means).sum())
    if count < fewest:
        return None
    order = np.argsort(means, axis=None)[: max(8, -(-count // 50))][:count]
    corners = np.stack(np.unravel_index(order, means.shape), axis=1) * side
    dark = np.stack([plane[y : y + side, x : x + side] for y, x in corners]).astype(np.float64)
    rows, columns = (_variance(dark.mean(axis=axis)[..., None]) for axis in (2, 1))
    noise = _variance(dark)
    pixels = _variance(np.swapaxes(_bends(dark), 1, 2))  # of white noise alone
    variance = max((rows + columns) / side - pixels / side**2, pixels / side**2)
    rank = max(1, round(_PART * count))
    part = (rank - 0.375) / (count + 0.25)  # Blom: the expected place of an order statistic
    quantile = float(ndtri(part))
    density = np.exp(-(quantile**2) / 2) / np.sqrt(2 * np.pi)
    error = np.sqrt(variance * part * (1 - part) / count) / density
    return Darkest(float(means.flat[order[rank - 1]] - quantile * np.sqrt(variance)), float(error), noise)


def lower_bounds(frame: RawFrame) -> np.ndarray:
    """How much lower than stated the black level of each site must be, because light is never negative.

    Returns:
        DN, at most 0, one for each site of the frame's first tile; only what is certain (2.5 standard errors).
    """
    bounds = []
    for plane, black in site_planes(frame):
        means, bound = block_means(plane, black, _SIDE), 0.0
        for side in (_SIDE, 2 * _SIDE, 4 * _SIDE):
            if part := darkest(plane, means, side):
                bound = min(bound, part.level + _CERTAIN * part.error)
            rows, columns = (n // 2 for n in means.shape)
            means = means[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2).mean(axis=(1, 3))
        bounds.append(bound)
    return np.array(bounds)


def most_light(noise: float, frame: RawFrame) -> float:
    """The most light (DN) that can have a noise of this variance (DN squared): `noise / gain` of the lowest gain.

    Infinite where there is no noise to judge by.
    """
    electrons = _FULL_WELL * min(1.0, _ISO / (frame.metadata.iso or 1))
    return noise * electrons / frame.sensor.saturation if noise > _NOISE else float("inf")


def is_below_black(frame: RawFrame) -> bool:
    """Whether nine tenths of the sites lie below the stated black: of no light, and noise alone, half do."""
    planes = (plane[::4, ::4] for plane, _ in site_planes(frame))  # enough to see it
    return max(float(np.nanpercentile(plane, 90)) if np.isfinite(plane).any() else -np.inf for plane in planes) < 0


def is_too_quiet(frame: RawFrame) -> bool:
    """Whether the darkest parts of every site hold more signal than their noise allows: the black level is too low.

    Fog, snow and bright walls are as noisy as their light, and pass. Nothing is said of frames without noise, and of
    those whose darkest parts are bright enough to be clipped.
    """
    for plane, black in site_planes(frame):
        part = darkest(plane, block_means(plane, black, _SIDE), _SIDE)
        if part is None or not most_light(part.noise, frame) < part.level < frame.sensor.saturation / 2:
            return False
    return True


def _bends(blocks: np.ndarray) -> np.ndarray:
    """Second differences down the columns, of the variance of the samples if these are independent."""
    return (blocks[:, 2:] - 2 * blocks[:, 1:-1] + blocks[:, :-2]) / 6**0.5


def _variance(blocks: np.ndarray) -> float:
    """The variance about a straight line down the columns, typical of the blocks."""
    return float(np.median(np.mean(_bends(blocks) ** 2, axis=(1, 2))))

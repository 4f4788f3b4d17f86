"""The noise that remains in a cleaned frame, which editors want to know."""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls
from scipy.stats import chi2

from exposurediffusion.physics.sensor import RawFrame

_BLOCK = 8  # planes' pixels along a side
_BLOCKS = 50_000  # at most, of each colour
_LEVELS = 16  # brightnesses between which the noise is compared
_FLAT = 0.1  # part of the blocks of a brightness that is taken for flat: texture only ever adds
_FREE = _BLOCK * (_BLOCK - 2) * 0.6  # degrees of freedom of a block's variance: neighbouring differences share pixels


def remaining_noise(frame: RawFrame) -> tuple[tuple[float, float], ...]:
    """Slope and offset of the variance of each colour, R, G, B: `variance = slope * x + offset`, 1 = white (DNG 1.4).

    By second differences along the rows of each plane in blocks: the flattest tenth of each brightness shows the noise,
    as the quantile of a chi-squared distribution that it is. What is smooth over several pixels is not seen.

    Args:
        frame: any; the values of its mosaic may be integers.
    """
    planes = frame.planes.numpy()
    colours = frame.sensor.cfa.colours
    return tuple(_line([planes[i] for i, letter in enumerate(colours) if letter == colour]) for colour in "RGB")


def _line(planes: list[np.ndarray]) -> tuple[float, float]:
    blocks = [_blocks(plane) for plane in planes]
    mean, variance = (np.concatenate([block[i] for block in blocks]) for i in (0, 1))
    if not len(mean):
        return 0.0, 0.0
    order = np.argsort(mean)
    groups = [group for group in np.array_split(order, _LEVELS) if len(group)]
    signal = np.array([max(0.0, mean[group].mean()) for group in groups])
    found = np.array([np.quantile(variance[group], _FLAT) for group in groups]) * _FREE / chi2.ppf(_FLAT, _FREE)
    trust = 1 / np.maximum(found, 1e-14)
    terms = np.stack([signal, np.ones_like(signal)], axis=1)
    slope, offset = nnls(terms * trust[:, None], found * trust)[0]
    return float(slope), float(offset)


def _blocks(plane: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean of each block, and of its squared second differences; blocks that may be clipped are left out."""
    down, across = (size // _BLOCK for size in plane.shape)
    step = max(1, int((down * across / _BLOCKS) ** 0.5))
    cut = plane[: down * _BLOCK, : across * _BLOCK].reshape(down, _BLOCK, across, _BLOCK)[::step, :, ::step]
    second = (2 * cut[..., 1:-1] - cut[..., :-2] - cut[..., 2:]) / 6**0.5
    mean, variance = cut.mean((1, 3)), (second**2).mean((1, 3), dtype=np.float64)
    kept = (cut.max((1, 3)) < 0.98) & np.isfinite(variance)
    return mean[kept], variance[kept]

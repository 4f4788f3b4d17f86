"""Noise variance against mean brightness, measured in one frame that may be textured all over.

A frame is looked at through windows of 8x8 sites. Of all unit filters on a window, those with the least output are
learnt from the frame itself (the smallest principal components of its windows; Pyatykh et al., "Image noise level
estimation by principal component analysis", IEEE TIP 22(2), 2013): texture is strong in few components, white noise is
equal in all. Blocks are measured with filters that were learnt in the other blocks, so that nothing is fitted to the
noise that is measured. The next components, independent of the measured ones, identify windows free of texture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from exposurediffusion.physics.sensor import RawFrame

_SIDE = 8  # of a window, in sites
_BLOCKS, _BLOCK = 128, {2: 128, 6: 120}  # number of blocks at most; their side in sites, by the period of the array
_STEP = {2: (8, 2), 6: (6, 6)}  # sites between measured windows and between windows that are learnt from
_LEARN = 100_000  # windows to learn from, about
_LEAST, _MOST, _JUDGES = 12, 36, 10  # measured components: fewest, most; those after them judge texture
_PRIOR, _SMOOTH = 1000.0, 0.97  # windows' worth of a smooth scene's covariance; its correlation of neighbouring sites
_BINS, _BIN_GROUPS, _FEWEST = 40, 40, 8  # bins of equal width in sqrt(mean); groups of a bin, and fewest that count
_STRAY = 1  # sites at 0 DN that a window may hold, as tails of the noise leave them; more are clipped noise
_FLATTEST = 0.1  # quantile (1.2816 normal deviations) of the energies that the search for flat groups starts from


@dataclass(frozen=True)
class NoiseCurve:
    """Noise variance (DN squared) against mean (DN above black); all (points).

    Texture only ever adds variance, so the true one may lie further below the measured one than above it: `error` is
    the relative error downwards, `chance` that upwards.
    """

    mean: np.ndarray
    variance: np.ndarray
    error: np.ndarray
    chance: np.ndarray


@dataclass(frozen=True)
class _Groups:
    """Squares of 2x2 measured windows, and the windows to learn from.

    Attributes:
        windows: components of each window, (blocks, down, across, 4, components).
        colours: mean of each colour in each group, DN, (blocks, down, across, colours).
        clipped: groups that hold clipped noise, (blocks, down, across).
        fold: 0 or 1, (blocks).
        learnt: components of the windows to learn from, (windows, components); their means, DN, and their folds.
    """

    windows: np.ndarray
    colours: np.ndarray
    clipped: np.ndarray
    fold: np.ndarray
    learnt: np.ndarray
    learnt_mean: np.ndarray
    learnt_fold: np.ndarray


def noise_curve(
    frame: RawFrame, offset: float, floor: float, fit: Callable[[NoiseCurve], tuple[float, float]]
) -> NoiseCurve:
    """Measure the noise of a frame at the signals that occur in it.

    Offsets of rows and columns, and black errors of a colour, are no part of it.

    Args:
        frame: DN; neither denoised nor demosaiced. Clipped places are left out.
        offset: DN to subtract besides the black level.
        floor: least variance that is believed, DN squared, above 0.
        fit: gain (DN per electron) and read deviation (DN) of a curve.

    Returns:
        The curve, by rising mean; empty where the frame is smaller than 16 sites or clipped.
    """
    colours = _colours(frame)
    basis = _basis(colours)
    groups = _groups(frame, offset, colours, basis)
    if groups is None:
        return NoiseCurve(*np.empty((4, 0)))
    y, x = np.divmod(np.arange(_SIDE**2), _SIDE)
    smooth = basis.T @ _SMOOTH ** np.hypot(y[:, None] - y, x[:, None] - x) @ basis
    filters = [np.linalg.eigh(smooth)[1]] * 2
    curve = _measure(groups, colours, basis, filters, _LEAST, floor)
    for _ in range(2):
        gain, read = fit(curve)
        if (groups.fold == 1).any():
            filters = [_learn(groups, fold, gain, read, smooth) for fold in (0, 1)]
        count = _equal_components(groups, filters, gain, read)
        curve = _measure(groups, colours, basis, filters, count, floor)
    return curve


def _colours(frame: RawFrame) -> np.ndarray:
    """Which sites of a window that begins with a tile have the same colour, (colours, sites) of 0 and 1."""
    period = frame.sensor.cfa.period
    y, x = np.divmod(np.arange(_SIDE**2), _SIDE)
    if frame.sensor.cfa.is_bayer:  # the two greens apart: they may have a black level each
        return np.stack([(y % 2 == a) & (x % 2 == b) for a in (0, 1) for b in (0, 1)]).astype(np.float32)
    letters = np.array(list(frame.sensor.cfa.tile.pattern()))[y % period * period + x % period]
    return np.stack([letters == colour for colour in "RGB"]).astype(np.float32)


def _basis(colours: np.ndarray) -> np.ndarray:
    """Orthonormal filters that see neither rows, nor columns, nor a colour as a whole, (sites, components)."""
    lines = np.kron(np.eye(_SIDE), np.ones(_SIDE)), np.kron(np.ones(_SIDE), np.eye(_SIDE))
    _, values, vectors = np.linalg.svd(np.concatenate([*lines, colours]))
    return vectors[int((values > 1e-6).sum()) :].T.astype(np.float32)


def _blocks(frame: RawFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Blocks on a regular grid that begin with a tile: DN above black, raw DN, and their fold by a chequerboard."""
    period, origin = frame.sensor.cfa.period, frame.sensor.cfa.origin
    free = [n - -o % period for n, o in zip(frame.shape, origin, strict=True)]
    side = [min(_BLOCK[period], n // period * period) for n in free]
    if min(side) < 2 * _SIDE:
        return None
    down, across = (n // s for n, s in zip(free, side, strict=True))
    if down * across > _BLOCKS:
        down = max(1, min(down, round((_BLOCKS * free[0] / free[1]) ** 0.5)))
        across = max(1, min(across, _BLOCKS // down))
    ys, xs = (
        np.linspace(0, n - s, count).astype(int) // period * period + -o % period
        for n, s, count, o in zip(free, side, (down, across), origin, strict=True)
    )
    raw = np.stack([frame.mosaic[y : y + side[0], x : x + side[1]] for y in ys for x in xs]).astype(np.float32)
    black = frame.sensor.black((side[0], side[1]), -origin[0], -origin[1]).astype(np.float32)
    fold = np.add.outer(np.arange(down), np.arange(across)).ravel() % 2
    return raw - black, raw, fold


def _windows(blocks: np.ndarray, step: int) -> np.ndarray:
    """All windows at a step, (blocks, down, across, sites)."""
    views = np.lib.stride_tricks.sliding_window_view(blocks, (_SIDE, _SIDE), (1, 2))[:, ::step, ::step]
    return views.reshape(*views.shape[:3], -1)


def _groups(frame: RawFrame, offset: float, colours: np.ndarray, basis: np.ndarray) -> _Groups | None:
    blocks = _blocks(frame)
    if blocks is None:
        return None
    signal, raw, fold = blocks[0] - np.float32(offset), *blocks[1:]
    bright = raw >= frame.sensor.white_level - 0.03 * frame.sensor.saturation
    step, fine = _STEP[frame.sensor.cfa.period]

    def clipped(step: int) -> np.ndarray:
        return _windows(bright, step).max(-1) | (_windows(raw <= 0, step).sum(-1) > _STRAY)

    def grouped(values: np.ndarray) -> np.ndarray:
        down, across = values.shape[1] // 2, values.shape[2] // 2
        pairs = values[:, : 2 * down, : 2 * across].reshape(len(values), down, 2, across, 2, -1)
        return pairs.swapaxes(2, 3).reshape(len(values), down, across, 4, -1)

    measured = _windows(signal, step)
    share = (colours / colours.sum(1, keepdims=True)).T
    total = np.prod([(n - _SIDE) // fine + 1 for n in signal.shape[1:]]) * len(signal)
    fine *= max(1, int((total / _LEARN) ** 0.5))
    learnt, good = _windows(signal, fine), ~clipped(fine)
    return _Groups(
        windows=grouped(measured @ basis),
        colours=grouped(measured @ share).mean(3),
        clipped=grouped(clipped(step)).max((3, 4)),
        fold=fold,
        learnt=learnt[good] @ basis,
        learnt_mean=learnt[good].mean(-1),
        learnt_fold=np.broadcast_to(fold[:, None, None], good.shape)[good],
    )


def _learn(groups: _Groups, fold: int, gain: float, read: float, smooth: np.ndarray) -> np.ndarray:
    """Principal components of the blocks outside a fold, the smallest first: (components, filters).

    Every window counts relative to its noise, and no more than its noise if it is busy, so that neither bright places
    nor edges decide alone.
    """
    outside = groups.learnt_fold != fold
    values, noise = groups.learnt[outside], gain * groups.learnt_mean[outside].clip(0) + read**2
    energy = (values**2).mean(1)
    values = values / np.sqrt(noise + (energy - 2 * noise).clip(0))[:, None]
    covariance = values.T @ values
    prior = smooth / np.trace(smooth) * np.trace(covariance) / max(len(values), 1)
    return np.linalg.eigh(covariance + _PRIOR * prior)[1].astype(np.float32)


def _energies(groups: _Groups, filters: list[np.ndarray]) -> np.ndarray:
    """Mean square of each filter's output in each group, (blocks, down, across, filters)."""
    out = np.empty((*groups.windows.shape[:3], groups.windows.shape[-1]), dtype=np.float32)
    for fold in (0, 1):
        own = groups.fold == fold
        out[own] = ((groups.windows[own] @ filters[fold].astype(np.float32)) ** 2).mean(3)
    return out


def _equal_components(groups: _Groups, filters: list[np.ndarray], gain: float, read: float) -> int:
    """How many of the smallest components are alike in the quieter half of the frame: those that hold noise alone."""
    energies, good = _energies(groups, filters), ~groups.clipped
    noise = gain * groups.colours[good].mean(-1).clip(0) + read**2
    relative = energies[good] / noise[:, None]
    if not len(relative):
        return _LEAST
    total = relative.mean(1)
    quiet = relative[total <= np.median(total)]
    level = np.convolve(quiet.mean(0), np.ones(3) / 3, "same")
    tolerance = 1.03 + 1.5 * np.sqrt(2 / (4 * len(quiet)))
    above = np.nonzero(level[_LEAST:_MOST] > tolerance * quiet[:, :_LEAST].mean())[0]
    return _LEAST + int(above[0]) if len(above) else _MOST


def _measure(
    groups: _Groups, colours: np.ndarray, basis: np.ndarray, filters: list[np.ndarray], count: int, floor: float
) -> NoiseCurve:
    """The curve that the `count` smallest components give, those after them showing where texture is."""
    energies = _energies(groups, filters)
    variance, judge = energies[..., :count].mean(-1), energies[..., count : count + _JUDGES].mean(-1)
    mean = np.empty_like(variance)
    for fold in (0, 1):
        own = groups.fold == fold
        weights = colours @ (basis @ filters[fold][:, :count]) ** 2  # what each colour has in the filters' noise
        mean[own] = groups.colours[own] @ weights.mean(1)
    good = ~groups.clipped
    if min(mean.shape[1:]) >= 3 and good.any():  # so that the noise of the means does not flatten the curve
        noise = max(float(np.quantile(variance[good], 0.2)), floor) / (4 * _SIDE**2)
        mean = _steadied(mean, noise)
    return _binned(mean.ravel(), variance.ravel(), judge.ravel(), groups.clipped.ravel(), 4 * count, floor)


def _steadied(mean: np.ndarray, noise: float) -> np.ndarray:
    """Means drawn towards those of their neighbours as far as noise of this variance explains their difference."""
    near, square = (
        F.avg_pool2d(torch.as_tensor(x), 3, 1, padding=1, count_include_pad=False).numpy() for x in (mean, mean**2)
    )
    return near + (1 - noise / np.maximum(square - near**2, 1e-30)).clip(0) * (mean - near)


def _binned(
    mean: np.ndarray, variance: np.ndarray, judge: np.ndarray, clipped: np.ndarray, freedom: int, floor: float
) -> NoiseCurve:
    """Bin the groups by their mean and measure the noise of each bin."""
    order = np.argsort(mean, kind="stable")
    mean, variance, judge, clipped = (x[order] for x in (mean, variance, judge, clipped))
    step = max(float(mean[int(0.999 * len(mean))]), 0.0) ** 0.5 / _BINS
    least = max(_BIN_GROUPS, len(mean) // 100)
    points: list[tuple[float, float, float, float]] = []
    start = 0
    while start < len(mean):
        stop = int(np.searchsorted(mean, (max(mean[start], 0.0) ** 0.5 + step) ** 2, "right"))
        stop = max(stop, start + least)
        part = slice(start, stop if len(mean) - stop >= least // 2 else len(mean))
        start = part.stop
        good = ~clipped[part]
        if good.sum() < _FEWEST or good.mean() < 0.8:  # too few; the noise itself is clipped
            continue
        flat, value, error, chance = _flat_noise(variance[part][good], judge[part][good], freedom)
        points.append((max(float(mean[part][good][flat].mean()), 0.0), max(value, floor), error, chance))
    return NoiseCurve(*np.array(points).reshape(-1, 4).T)


def _flat_noise(variance: np.ndarray, judge: np.ndarray, freedom: int) -> tuple[np.ndarray, float, float, float]:
    """Which groups of a bin are flat, their noise variance, and its relative error down and up.

    Where the components that judge are no stronger than those that measure, there is no texture, and all groups count
    but gross ones: a narrower choice would cut off the tails of the read noise. Elsewhere the groups count in which the
    judges are not above the noise; the fewer they are, and the stronger the judges still, the larger the error.
    """
    judges = 4 * _JUDGES
    both = (variance * freedom + judge * judges) / (freedom + judges)
    value = float(np.quantile(both, _FLATTEST))
    third = 2 / (9 * (freedom + judges))  # the quantile of a chi-square law over its mean, by Wilson and Hilferty
    value /= (1 - third - 1.2816 * third**0.5) ** 3
    limit = 1 + 1.5 * np.sqrt(2 / judges)
    half = torch.tensor([judges / 2, judges / 2 + 1])
    inside, below = torch.special.gammainc(half, limit * half[:1]).tolist()  # share, and share of energy, below it
    flat = np.ones(len(both), dtype=bool)
    for _ in range(12):
        chosen = (judge <= limit * value) & (variance <= (1 + 3.5 * np.sqrt(2 / freedom)) * value)
        if chosen.sum() < _FEWEST:
            break
        flat, previous, value = chosen, value, float(variance[chosen].mean())
        if abs(value - previous) <= 1e-4 * value:
            break
    wide = both <= 3 * value
    ratio = judge[wide].mean() / max(float(variance[wide].mean()), 1e-30) if wide.any() else np.inf
    chance = np.sqrt(4 * (1 / judges + 1 / freedom) / max(int(wide.sum()), 1))
    if wide.mean() > 0.7 and ratio < 1.02 + 2 * chance:
        error = float(np.hypot(np.sqrt(3 / (freedom * wide.sum())), 0.01))
        return wide, float(variance[wide].mean()), error, error
    excess = judge[flat].mean() / (below / inside) / max(value, 1e-30) - 1 - 2 * np.sqrt(2 / (judges * flat.sum()))
    texture = 0.5 * max(float(excess), 0.0) + 0.25 * max(0.0, 0.5 - flat.mean() / inside)
    chance = float(np.hypot(np.sqrt(3 / (freedom * flat.sum())), 0.03))
    return flat, value, float(np.hypot(chance, texture)), chance

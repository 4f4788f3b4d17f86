"""Mean and variance of evenly lit frames of one ISO.

Two frames of one exposure are subtracted, so that fixed pattern and vignetting do not count. Their difference is looked
at in blocks of each colour.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from exposurediffusion.calibration.shots import NotEnough, Shot, above_black, check_alike
from exposurediffusion.physics.sensor import RawFrame

_SAME_LIGHT = 0.03  # relative difference of the means of two frames of one exposure
_BLOCK = 32  # side of a block, in sites of a colour
_BLOCKS = 16  # blocks along a side, at most
_AT_THE_END = 0.002  # part of a block's sites at the last value from which on it is clipped
_PILE = 8  # values that are no accident
_STRAY = 12.0  # robust standard deviations from which on a difference is no noise, of heavy tails either
_UNEVEN = 0.5  # spread of the blocks' means over their mean from which on a flat is none
_MOVED = 2.0  # ratio of the blocks' mean difference to that of noise from which on the picture has moved


@dataclass(frozen=True)
class FlatPairs:
    """Blocks of all pairs of one ISO; arrays of (blocks).

    Attributes:
        iso: the setting.
        pairs: number of pairs.
        mean: DN above black.
        variance: of the noise of one frame, DN squared.
        sites: that a block's figures are of.
        site: of the first tile, whose colour the block is of.
        limit: DN above black at which values end; infinite where none did.
        gaps: signals above which values are missing between those that occur, DN above black; infinite: nowhere.
    """

    iso: float
    pairs: int
    mean: np.ndarray
    variance: np.ndarray
    sites: np.ndarray
    site: np.ndarray
    limit: float
    gaps: float


def pair_up(shots: Sequence[Shot], problem: Callable[[str], None]) -> list[tuple[Shot, Shot]]:
    """Neighbouring shots of the same exposure time, in the order of their names, two by two.

    Args:
        shots: of one ISO. Those without an exposure time are paired as they come.
        problem: is given a line for each that stays alone.
    """
    groups: dict[float | None, list[Shot]] = {}
    for shot in shots:
        groups.setdefault(shot.shutter, []).append(shot)
    pairs = []
    for shutter, group in groups.items():
        pairs += list(zip(group[::2], group[1::2], strict=False))
        if len(group) % 2:
            of = f"of {shutter:g} s" if shutter else "of this ISO"
            problem(f"{group[-1].path}: the only frame {of} without a partner; flats are shot in pairs")
    return pairs


def measure_flats(
    shots: Sequence[Shot],
    first: Shot,
    like: RawFrame,
    black: np.ndarray,
    hot: np.ndarray | None,
    problem: Callable[[str], None],
    tick: Callable[[], None],
) -> FlatPairs:
    """Measure the flat frames of one ISO, two frames at a time.

    Args:
        shots: of one ISO.
        first, like: a shot and its frame, whose camera, size and levels the others have to share.
        black: level of each site of the first tile, DN above that of `like`, (sites).
        hot: sites to leave out, (rows, columns) bool; None: none.
        problem: is given a line for each pair that is left out.
        tick: is called after each reading.

    Raises:
        NotEnough: no usable pair.
        ValueError: another camera, size or filter array.
    """
    figures, limits, gaps = [], [], []
    for one, two in pair_up(shots, problem):
        try:
            frames = [shot.read() for shot in (one, two)]
        except (ValueError, OSError) as error:
            problem(str(error))
            continue
        finally:
            tick()
            tick()
        for shot, frame in zip((one, two), frames, strict=True):
            check_alike(shot, frame, first, like)
        pair = tuple(above_black(frame, like.sensor) for frame in frames)
        try:
            blocks, limit = _measure_pair(one, two, pair, like, black, hot)
        except ValueError as error:
            problem(str(error))
            continue
        limits.append(limit)
        gaps += [_gaps(pair[0][rows, columns]) for rows, columns, _ in like.sensor.sites]
        if not len(blocks):
            problem(f"{one.path}, {two.path}: clipped all over: expose less")
            continue
        figures.append(blocks)
    if not figures:
        raise NotEnough(f"ISO {shots[0].iso:g}: no usable pair of flat frames")
    finest = min(step for step, _, _ in gaps)
    mean, variance, sites, site = np.concatenate(figures).T
    first_gap = min(low if step > finest else gap for step, gap, low in gaps)
    return FlatPairs(shots[0].iso, len(figures), mean, variance, sites, site.astype(int), min(limits), first_gap)


def _measure_pair(
    one: Shot, two: Shot, pair: tuple[np.ndarray, ...], like: RawFrame, black: np.ndarray, hot: np.ndarray | None
) -> tuple[np.ndarray, float]:
    """Mean, variance, number of sites and site of each block, (blocks, 4); where values end, DN above black."""
    found, limits, moved, spread = [], [], [], 0.0
    for site, ((rows, columns, _), own) in enumerate(zip(like.sensor.sites, black, strict=True)):
        colour = [values[rows, columns] - np.float32(own) for values in pair]
        use = ~hot[rows, columns] if hot is not None else np.ones(colour[0].shape, bool)
        means = [float(values[use].mean()) for values in colour]
        if abs(means[0] - means[1]) > _SAME_LIGHT * max(*means, 1.0):
            off = 100 * abs(means[0] - means[1]) / max(*means, 1.0)
            raise ValueError(
                f"{one.path}, {two.path}: their light differs by {off:.0f} %: shoot pairs at once, in steady light"
            )
        scale = max(means[0], 1e-9) / max(means[1], 1e-9)
        low, end = _ends(colour[0][use])
        blocks = list(_blocks(colour, use, scale, low, end))
        found += [(*block[:3], site) for block in blocks]
        if len(blocks) > 1:
            means_of = np.array([block[0] for block in blocks])
            spread = max(spread, float(means_of.std() / max(means_of.mean(), 1.0)))
        moved += [(block[3], block[1] * (1 + scale**2) / block[2]) for block in blocks]
        limits.append(end)
    if spread > _UNEVEN:
        raise ValueError(f"{one.path}, {two.path}: not flat: photograph one evenly lit area, out of focus")
    squares = np.array(moved)
    if len(squares) > 8 * len(like.sensor.sites) and np.median(squares[:, 0] / squares[:, 1]) > _MOVED:
        raise ValueError(f"{one.path}, {two.path}: the picture changed between them: tripod, steady light, no motif")
    return np.array(found).reshape(-1, 4), min(limits)


def _blocks(
    colour: Sequence[np.ndarray], use: np.ndarray, scale: float, low: float, end: float
) -> Iterator[tuple[float, float, int, float]]:
    """Mean, variance, number of sites and squared mean difference of each block that is not clipped."""
    parts = [min(_BLOCKS, max(1, n // _BLOCK)) for n in use.shape]
    edges = [np.linspace(0, n, count + 1).astype(int) for n, count in zip(use.shape, parts, strict=True)]
    for top, bottom in pairwise(edges[0]):
        for left, right in pairwise(edges[1]):
            block = (slice(top, bottom), slice(left, right))
            a, b = (values[block][use[block]] for values in colour)
            if len(a) < 64 or ((a >= end) | (a <= low)).mean() > _AT_THE_END:
                continue
            difference = a - scale * b
            off = np.abs(difference - np.median(difference))
            stray = off > _STRAY * 1.4826 * max(float(np.median(off)), 0.5)
            a, b, difference = a[~stray], b[~stray], difference[~stray]
            variance = float(difference.var(ddof=1, dtype=np.float64)) / (1 + scale**2)
            yield float(a.mean() + b.mean()) / 2, variance, len(difference), float(difference.mean()) ** 2


def _ends(values: np.ndarray) -> tuple[float, float]:
    """DN at which values pile up, below and above; infinite where they do not."""
    codes, counts = np.unique(values, return_counts=True)
    ends = []
    for last, next_to, nowhere in ((0, 1, -np.inf), (-1, -2, np.inf)):
        piled = len(codes) < 2 or counts[last] > max(_PILE, 3 * counts[next_to], _AT_THE_END * values.size)
        ends.append(float(codes[last]) if piled else nowhere)
    return ends[0], ends[1]


def _gaps(values: np.ndarray) -> tuple[float, float, float]:
    """Step between the values of a flat frame; the signal at which many of those between are missing; any signal, DN.

    Of codes that each N sites are expected to have, a part of 1 - exp(-N) occurs.
    """
    codes, counts = np.unique(values, return_counts=True)
    if len(codes) < 3:
        return 1.0, float("inf"), float(codes[0])
    step = float(np.diff(codes).min())
    low, high = (float(x) for x in np.quantile(values, (0.25, 0.75)))
    middle = (codes >= low) & (codes <= high)
    span = (high - low) / step + 1
    expected = span * (1 - np.exp(-counts[middle].sum() / span))
    missing = counts[middle].sum() > span > 8 and middle.sum() < 0.67 * expected
    return step, low if missing else float("inf"), low

"""What a stack of dark frames of one ISO says: black, read noise, rows, columns, hot sites, the mean dark frame.

Everything is measured on what differs from frame to frame: the mean frame, taken first, holds the fixed pattern.
Offsets of rows and columns are separated from the noise of single sites by an analysis of variance. Every figure is one
of each frame, and their scatter gives its interval.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from exposurediffusion.calibration.dark_stack import SPECTRUM, DarkStack
from exposurediffusion.calibration.shots import NotEnough, Shot, above_black, check_alike, readable
from exposurediffusion.calibration.tukey import ProbabilityPlot, TukeyFit
from exposurediffusion.physics.sensor import RawFrame, Sensor

_BRIGHTEST = 0.02  # mean of a dark frame above black, of white: beyond it there was light
_HOT = 8.0  # robust standard deviations by which a hot site stands out of the mean frame
_BLOCK = 32  # side in sites of a colour: what is smooth over it is shading, not a hot site
_SAMPLE = 100_000  # sites of each frame whose law is looked at
_CLIPPED = 0.02  # part of the sites at the least value from which on black is clipped


@dataclass(frozen=True)
class _Average:
    """The first reading of a stack.

    Attributes:
        shots: those that can be used.
        mean: frame, DN above black.
        hot: sites that stand out of it.
        quantisation: width of the steps of the values, DN.
        floor: DN at which values end; minus infinity: they do not.
        share: part of the sites above the floor.
    """

    shots: list[Shot]
    mean: np.ndarray
    hot: np.ndarray
    quantisation: float
    floor: float
    share: float


@dataclass(frozen=True)
class _Spread:
    """How the sites of a frame differ from the mean frame; DN, and DN squared.

    Attributes:
        level: mean of each site of the first tile.
        noise, row, column: variances of single sites, of the offsets of rows and of columns.
        rows, columns: the offsets.
    """

    level: np.ndarray
    noise: float
    row: float
    column: float
    rows: np.ndarray
    columns: np.ndarray


def measure_darks(
    shots: Sequence[Shot], first: Shot, like: RawFrame, problem: Callable[[str], None], tick: Callable[[], None]
) -> DarkStack:
    """Measure the dark frames of one ISO; each file is read twice, and one is held at a time.

    Args:
        shots: of one ISO.
        first, like: a shot and its frame, whose camera, size and levels the others have to share.
        problem: is given a line for each file that is left out.
        tick: is called after each reading.

    Raises:
        NotEnough: fewer than two usable frames.
        ValueError: another camera, size or filter array.
    """
    average = _average(shots, first, like, problem, tick)
    kept = np.flatnonzero(~average.hot.ravel())
    random = np.random.default_rng(0)
    chosen = random.choice(kept, min(_SAMPLE, len(kept)), replace=False)
    dither = random.random(len(chosen), np.float32) - np.float32(0.5)
    plot: ProbabilityPlot | None = None
    spreads: list[_Spread] = []
    fits: list[TukeyFit] = []
    sample = np.zeros(0)
    spectra = np.zeros((2, SPECTRUM))
    for _, values in _read(average.shots, first, like, problem, tick):
        # Where no mean frame is taken off, values are whole steps: they are spread over the steps' widths.
        sample = values.ravel()[chosen] + average.quantisation * dither
        spread = _spread(values, like.sensor, average)
        if average.share == 1:
            sample = values.ravel()[chosen]
        plot = plot or ProbabilityPlot(len(sample), *_added(spread, average, sample))
        spreads.append(spread)
        fits.append(plot.fit(sample, above=average.floor + average.quantisation / 2))
        spectra += [_spectrum(spread.rows), _spectrum(spread.columns)]
    assert plot is not None
    stack = _stack(shots[0].iso, like.sensor, average, spreads, fits)
    return replace(stack, spectra=spectra / len(fits), plot=plot.points(sample, fits[-1].shape))


def _stack(iso: float, sensor: Sensor, average: _Average, spreads: list[_Spread], fits: list[TukeyFit]) -> DarkStack:
    """The figures of each frame. The mean frame holds a part of each frame's own noise, and lessens it."""
    count, black = len(spreads), np.array([black for _, _, black in sensor.sites])
    lessened = (1 - 1 / count) * average.share**2
    noise, row, column = np.array([(s.noise, s.row, s.column) for s in spreads]).T / lessened
    if average.share == 1:
        below = [average.mean[rows, columns][~average.hot[rows, columns]].mean() for rows, columns, _ in sensor.sites]
        level = np.array([spread.level for spread in spreads]) + below
        variance = noise - average.quantisation**2 / 12
    else:
        level = np.array([[fit.centre] * len(black) for fit in fits])
        variance = np.array([fit.deviation**2 for fit in fits])
    return DarkStack(
        iso=iso,
        frames=count,
        level=level + black,
        variance=variance,
        row=row,
        column=column,
        fits=tuple(fits),
        quantisation=average.quantisation,
        clipped=bool(average.share < 1),
        hot=average.hot,
        mean=average.mean,
    )


def _average(
    shots: Sequence[Shot], first: Shot, like: RawFrame, problem: Callable[[str], None], tick: Callable[[], None]
) -> _Average:
    total, before = np.zeros(like.shape, np.float32), np.zeros(0)
    used: list[Shot] = []
    step, floor, above, deviation = 1.0, -np.inf, 0.0, 0.0
    for shot, values in _read(shots, first, like, problem, tick):
        if (mean := float(values.mean())) > _BRIGHTEST * like.sensor.saturation:
            part = 100 * mean / like.sensor.saturation
            problem(f"{shot.path}: not dark ({part:.0f} % of white above black): take it with the lens cap on")
            continue
        if not used:
            step, floor = _codes(values, like.sensor)
        some = values[: 16 * like.sensor.cfa.period].copy()
        if len(used) == 1:
            deviation = 1.4826 / 2**0.5 * float(np.median(np.abs(some - before - np.median(some - before))))
        before = some
        # What is rounded to the step above the end was half above the middle between them.
        above += np.count_nonzero(values > floor) + 0.5 * np.count_nonzero(values == floor + step)
        total += values
        used.append(shot)
    if len(used) < 2:
        raise NotEnough(
            f"ISO {shots[0].iso:g}: {len(used)} usable dark frames, and noise is what differs between them: shoot 16"
        )
    total /= len(used)
    hot = np.zeros(like.shape, bool)
    for rows, columns, _ in like.sensor.sites:
        hot[rows, columns] = stands_out(total[rows, columns], deviation)
    return _Average(used, total, hot, step, floor, float(above / len(used) / total.size))


def _read(
    shots: Sequence[Shot], first: Shot, like: RawFrame, problem: Callable[[str], None], tick: Callable[[], None]
) -> Iterator[tuple[Shot, np.ndarray]]:
    """Shots with their DN above black; those that cannot be read are named."""
    for shot, frame in readable(shots, problem, tick):
        check_alike(shot, frame, first, like)
        yield shot, above_black(frame, like.sensor)


def _codes(values: np.ndarray, sensor: Sensor) -> tuple[float, float]:
    """Width of the steps between the values of a dark frame, and where they end below, DN above black."""
    steps, ends = [], []
    for rows, columns, _ in sensor.sites:
        codes, numbers = np.unique(values[rows, columns], return_counts=True)
        if len(codes) > 1:
            usual = codes[numbers > 1e-4 * numbers.sum()]
            steps.append(float(np.min(np.diff(usual), initial=np.inf)))
            if numbers[0] > max(numbers[1], _CLIPPED * numbers.sum()):
                ends.append(float(codes[0]))
    step = min(steps, default=1.0)
    return step if np.isfinite(step) else 1.0, max(ends) if len(ends) > len(sensor.sites) / 2 else -np.inf


def stands_out(mean: np.ndarray, deviation: float) -> np.ndarray:
    """Sites of one colour that stand out of a mean dark frame: by more than its own grain and the noise of one frame.

    Args:
        mean: (rows, columns), DN.
        deviation: standard deviation of the noise of a single frame, DN.
    """
    edges = [np.linspace(0, n, max(1, n // _BLOCK) + 1).astype(int) for n in mean.shape]
    smooth = np.empty_like(mean)
    for top, bottom in pairwise(edges[0]):
        for left, right in pairwise(edges[1]):
            smooth[top:bottom, left:right] = np.median(mean[top:bottom, left:right])
    off = np.abs(mean - smooth)
    return off > max(_HOT * 1.4826 * float(np.median(off)), deviation)


def _spread(values: np.ndarray, sensor: Sensor, average: _Average) -> _Spread:
    """Analysis of variance by rows and columns; takes from `values` the mean frame and all offsets."""
    values -= average.mean
    values[average.hot] = 0
    level = np.array([values[rows, columns].mean() for rows, columns, _ in sensor.sites])
    for (rows, columns, _), own in zip(sensor.sites, level, strict=True):
        values[rows, columns] -= np.float32(own)
    (height, width), period = values.shape, sensor.cfa.period
    by_row, by_column = values.mean(axis=1, dtype=np.float64), values.mean(axis=0, dtype=np.float64)
    values -= by_row.astype(np.float32)[:, None]
    values -= by_column.astype(np.float32)
    freedom = height * width - (height - period) - (width - period) - period**2
    noise = float(np.vdot(values, values)) / freedom / (1 - float(average.hot.mean()))
    row = float(by_row @ by_row) / (height - period) - noise / width
    column = float(by_column @ by_column) / (width - period) - noise / height
    return _Spread(level, noise, row, column, by_row, by_column)


def _added(spread: _Spread, average: _Average, sample: np.ndarray) -> tuple[float, float]:
    """What is in a sample besides read noise, in its standard deviations: width of rounding, deviation of the rest."""
    count, rounding = len(average.shots), average.quantisation**2 / 12
    if average.share == 1:  # the means that were taken off had noise of their own
        read = spread.noise / (1 - 1 / count) - rounding
        rest = read * (1 / (count - 1) + sum(1 / n for n in average.mean.shape))
    else:
        grain = float(np.var(average.mean[~average.hot])) - spread.noise / (count - 1)
        rest = (max(spread.row, 0) + max(spread.column, 0) + max(grain, 0)) / average.share**2
        whole = ProbabilityPlot(len(sample)).fit(sample, above=average.floor + average.quantisation / 2)
        read = whole.deviation**2 - rest - rounding
    read = max(read, 1e-6)
    return average.quantisation / read**0.5, max(rest, 0) ** 0.5 / read**0.5


def _spectrum(offsets: np.ndarray) -> np.ndarray:
    """Power over frequency from 0 to a half per line, averaged to `SPECTRUM` figures."""
    power = np.abs(np.fft.rfft(offsets))[1:-1] ** 2 / len(offsets)  # the ends are 0: colours have no mean
    return np.interp(np.linspace(0, 1, SPECTRUM), np.linspace(0, 1, len(power)), power)

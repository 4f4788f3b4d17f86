"""The black level of a frame: from its masked margins, else as far as its darkest parts prove, else as it is told.

A black level that is wrong by a few DN is a colour cast after an amplification by 100, and one that is wrong by
hundreds is a white or black picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from exposurediffusion.physics.darkest import Darkest, darkest, is_too_quiet, lower_bounds, most_light, site_planes
from exposurediffusion.physics.sensor import MaskedArea, RawFrame

MASKED_SITES = 1000  # fewest light-free sites that are made use of
_ROUNDING = 12**-0.5  # standard deviation of rounding to whole DN
_PRECISE = 0.1  # DN: a standard error that is good enough whatever the value
_USUAL, NOTICEABLE = 0.005, 0.001  # of saturation: offsets that need no proof; those that are worth a word


@dataclass(frozen=True)
class MaskedStatistics:
    """What the masked sites say.

    Attributes:
        sites: their number.
        variance: within rows, DN squared.
        row: standard deviation of the row offsets, DN.
        offset, error: mean above the stated black and its standard error, DN.
        offsets, errors: the same for each site of the frame's first tile; NaN and infinity where there is none.
    """

    sites: int
    variance: float
    row: float
    offset: float
    error: float
    offsets: np.ndarray
    errors: np.ndarray


def masked_statistics(frame: RawFrame) -> MaskedStatistics | None:
    """Statistics of the optical black, outliers clipped at five robust deviations; None with too few sites."""
    pieces = [area.values.astype(np.float64) for area in frame.optical_black]
    values = np.concatenate([piece.ravel() for piece in pieces] or [np.empty(0)])
    if values.size < MASKED_SITES:
        return None
    centre, limit = _centre(values)
    kept = values[np.abs(values - centre) <= limit]
    variance, degrees, row_variance, pairs, lines = 0.0, 0, 0.0, 0, 0
    for piece in pieces:
        good = np.abs(piece - centre) <= limit
        count = good.sum(axis=1).clip(1)
        means = np.where(good, piece, 0).sum(axis=1) / count
        freedom = int((count - 1).sum())
        within = float((np.where(good, piece - means[:, None], 0) ** 2).sum())
        variance, degrees, lines = variance + within, degrees + freedom, lines + len(piece)
        period = frame.sensor.cfa.period
        if piece.shape[1] >= 8 and len(piece) >= 4 * period:
            steps = means[period:] - means[:-period]  # between rows of the same colours: a slow drift cancels
            spread = 1.4826 * float(np.median(np.abs(steps)))
            row_variance += len(steps) * (spread**2 / 2 - within / max(freedom, 1) / float(np.median(count)))
            pairs += len(steps)
    variance, row_variance = variance / max(degrees, 1), row_variance / max(pairs, 1)
    chance = 8 * variance * lines / kept.size / np.sqrt(max(pairs, 1))  # a row variance that need not be there
    row = row_variance**0.5 if row_variance > chance else 0.0
    measured = centre, limit, max(variance, _ROUNDING**2), row
    (offset,), (error,) = _by_site(frame.optical_black, 1, *measured)
    offsets, errors = _by_site(frame.optical_black, frame.sensor.cfa.period, *measured)
    return MaskedStatistics(kept.size, variance, row, float(offset), float(error), offsets, errors)


def _centre(values: np.ndarray) -> tuple[float, float]:
    """The median, and how far from it a value is no outlier."""
    centre = float(np.median(values))
    return centre, 5 * max(1.4826 * float(np.median(np.abs(values - centre))), 2 * _ROUNDING)


def _by_site(
    areas: Sequence[MaskedArea], period: int, centre: float, limit: float, variance: float, row: float
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard error of each site of a tile of this period, from the means of rows.

    A row counts by its precision, not by its length, and not at all where it is off by five deviations: the first rows
    of many sensors are.
    """
    offsets, errors = np.full(period**2, np.nan), np.full(period**2, np.inf)
    for site in range(period**2):
        means, counts = [], []
        for area in areas:
            top, left = (site // period - area.top) % period, (site % period - area.left) % period
            part = area.values[top::period, left::period].astype(np.float64)
            good = np.abs(part - centre) <= limit
            counts.append(good.sum(axis=1))
            means.append(np.where(good, part, 0).sum(axis=1) / counts[-1].clip(1))
        mean, count = np.concatenate(means), np.concatenate(counts)
        mean, spread = mean[count > 0], row**2 + variance / count[count > 0]
        if mean.size:
            weights = (np.abs(mean - np.median(mean)) <= 5 * spread**0.5) / spread
            offsets[site], errors[site] = np.average(mean, weights=weights), weights.sum() ** -0.5
    return offsets, errors


def black_offset(frame: RawFrame) -> float | None:
    """How far the true black lies above the black level that the file states, one number for all sites.

    Returns:
        DN to subtract besides the black level; None without optical black, with fewer than 1000 masked sites, or where
        the standard error is 0.1 DN or more and the offset is no three of them.
    """
    masked = masked_statistics(frame)
    return masked.offset if masked is not None and _is_known(masked) else None


def _is_known(masked: MaskedStatistics) -> bool:
    return masked.error < max(_PRECISE, abs(masked.offset) / 3)


def dark_margins(frame: RawFrame, areas: Iterable[MaskedArea]) -> tuple[MaskedArea, ...]:
    """The margins that are light-free: noise around black, not light, and no filling.

    A margin must vary, though no more than the darkest parts of the picture and evenly; it may not be brighter than
    these; and one that leaves them more light than their noise allows is not black either. An offset of over 0.5 % of
    the saturation needs more proof: it must be the same at all colours, with a spread that rounding does not explain.

    Args:
        frame: the picture.
        areas: margins outside the picture, DN minus the stated black.
    """
    pairs = zip(site_planes(frame), frame.sensor.black_level, strict=True)
    parts = [part for plane, black in pairs if (part := darkest(plane, black, 8, fewest=1))]
    return tuple(area for area in areas if _is_dark(area, frame, parts))


def _is_dark(area: MaskedArea, frame: RawFrame, parts: list[Darkest]) -> bool:
    saturation, values = frame.sensor.saturation, area.values.astype(np.float64)
    low, median, high = np.percentile(values, (2, 50, 98))
    if high <= low or max(median - low, high - median) >= 0.1 * saturation or _clipped(area, frame) > 0.01:
        return False
    centre, limit = _centre(values)
    good = np.where(np.abs(values - centre) <= limit, values, np.nan)
    offset, variance = float(np.nanmean(good)), float(np.nanvar(good))
    offsets = _by_site([area], frame.sensor.cfa.period, centre, limit, variance, variance**0.5)[0]
    colours = float(np.nanmax(offsets) - np.nanmin(offsets))
    usual = abs(offset) < _USUAL * saturation
    if not _is_even(good, (variance + colours**2) ** 0.5) or not (usual or colours < 0.1 * abs(offset)):
        return False
    if not parts:
        return usual
    noise = float(np.median([part.noise for part in parts]))
    lowest = min(parts, key=lambda part: part.level)
    if variance > 1.5 * noise + colours**2 + 1 or lowest.level + 3 * lowest.error + variance**0.5 / 2 < offset:
        return False
    light = min(part.level - offset - most_light(part.noise, frame) for part in parts)
    return usual or (light <= 0 and variance >= min(1.0, noise / 4))


def _clipped(area: MaskedArea, frame: RawFrame) -> float:
    """The part of a margin whose raw values are 0."""
    period = frame.sensor.cfa.period
    rows, columns = (
        (start + np.arange(n)) % period for start, n in zip((area.top, area.left), area.values.shape, strict=True)
    )
    black = np.reshape(frame.sensor.black_level, (period, period))[np.ix_(rows, columns)]
    return float(np.mean(area.values + black <= 0))


def _is_even(values: np.ndarray, deviation: float) -> bool:
    """Whether stretches of 16 lines and more are alike, along both axes: light falls off, and has shapes."""
    for axis in (0, 1):
        stretches = np.array_split(values, max(1, min(8, values.shape[axis] // 16)), axis)
        if np.std([np.nanmean(stretch) for stretch in stretches]) > 0.5 * deviation:
            return False
    return True


def with_black(frame: RawFrame, levels: Sequence[float]) -> RawFrame:
    """The frame with other black levels; its masked margins are counted from these.

    Args:
        frame: any raw frame.
        levels: DN at no light: one number for all sites, or one for each site of the frame's first tile in reading
            order (4; X-Trans 36).

    Raises:
        ValueError: another number of levels, a level that is negative or not finite, or one not below white.
    """
    period = frame.sensor.cfa.period
    sites = tuple(float(level) for level in levels) * (period**2 if len(levels) == 1 else 1)
    if len(sites) != period**2:
        raise ValueError(f"a frame of {frame.sensor.cfa.name} has 1 or {period**2} black levels, not {len(levels)}")
    if not all(np.isfinite(level) and level >= 0 for level in sites):
        raise ValueError(f"black levels are DN from 0 on, not {', '.join(f'{level:g}' for level in sites)}")
    change = np.subtract(sites, frame.sensor.black_level).astype(np.float32).reshape(period, period)

    def moved(area: MaskedArea) -> MaskedArea:
        rows, columns = ((start + np.arange(n)) % period
                         for start, n in zip((area.top, area.left), area.values.shape, strict=True))  # fmt: skip
        return replace(area, values=area.values - change[np.ix_(rows, columns)])

    sensor = replace(frame.sensor, black_level=sites)
    return replace(frame, sensor=sensor, optical_black=tuple(map(moved, frame.optical_black)))


def with_true_black(frame: RawFrame) -> RawFrame:
    """The frame with the black level that it shows itself, where it shows one.

    Masked margins tell it: of each site, where all are known to 0.1 DN, else one offset for all. Without them a level
    is lowered as far as the picture's darkest parts prove it too high (light is never negative). A change of over 0.1 %
    of the saturation, and a level that is implausible and cannot be mended, are said in `notes`.
    """
    masked, stated = masked_statistics(frame), np.array(frame.sensor.black_level)
    if masked is not None and _is_known(masked):
        offsets, witness = np.full(stated.size, masked.offset), "its masked margin is"
        if (masked.errors < _PRECISE).all():
            offsets = masked.offsets
    else:
        offsets, witness = lower_bounds(frame), "its darkest parts are at most"
    levels = np.maximum(stated + offsets, 0)
    result = with_black(frame, levels.tolist()) if offsets.any() else frame
    note = ()
    if np.abs(offsets).max() > NOTICEABLE * frame.sensor.saturation:
        text = f"the file says that black is {_listed(stated)} DN, {witness} {_listed(levels.round(1))} DN, which is "
        note = (f"{text}believed; --black {_listed(stated)} goes by the file",)
    elif is_too_quiet(result):
        least = min(float(np.percentile(plane, 0.1)) for plane in site_planes(result)) + levels.min()
        text = f"the file says that black is {_listed(levels)} DN, but its darkest parts, at {least:.0f} DN, have too "
        note = (f"{text}little noise to be light; if the result is too bright, give the level with --black DN",)
    return replace(result, notes=result.notes + note)


def _listed(levels: np.ndarray) -> str:
    """One number where it says it all, or where there are too many."""
    few = levels[:1] if np.ptp(levels) == 0 else levels if len(levels) <= 4 else levels.mean(keepdims=True).round(1)
    return ",".join(f"{level:g}" for level in few)

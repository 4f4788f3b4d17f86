"""Masked margins: which of them are dark, and what they say about noise and black."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from exposurediffusion.analysis.darkest import Darkest, block_means, darkest, most_light, site_planes
from exposurediffusion.physics.sensor import MaskedArea, RawFrame

MASKED_SITES = 1000  # fewest light-free sites that are made use of
_ROUNDING = 12**-0.5  # standard deviation of rounding to whole DN
_SIDE = 8  # of the blocks among which the darkest are sought, in samples of a plane
_USUAL = 0.005  # of saturation: offsets up to it need no further proof


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


def dark_margins(frame: RawFrame, areas: Sequence[MaskedArea]) -> tuple[MaskedArea, ...]:
    """The margins that are light-free: noise around black, not light, and no filling.

    A margin must vary, though no more than the darkest parts of the picture and evenly; it may not be brighter than
    these; and one that leaves them more light than their noise allows is not black either. An offset of over 0.5 % of
    the saturation needs more proof: it must be the same at all colours, with a spread that rounding does not explain.

    Args:
        frame: the picture.
        areas: margins outside the picture, DN minus the stated black.
    """
    if not areas:
        return ()
    found = (darkest(plane, block_means(plane, black, _SIDE), _SIDE, 1) for plane, black in site_planes(frame))
    parts = [part for part in found if part]
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
    return float(np.mean(area.values + frame.sensor.black(area.values.shape, area.top, area.left) <= 0))


def _is_even(values: np.ndarray, deviation: float) -> bool:
    """Whether stretches of 16 lines and more are alike, along both axes: light falls off, and has shapes."""
    for axis in (0, 1):
        stretches = np.array_split(values, max(1, min(8, values.shape[axis] // 16)), axis)
        if np.std([np.nanmean(stretch) for stretch in stretches]) > 0.5 * deviation:
            return False
    return True

"""The black level of a frame: from its masked margins, else as far as its darkest parts prove, else as it is given.

A black level that is wrong by a few DN is a colour cast after an amplification by 100, and one that is wrong by
hundreds is a white or black picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from exposurediffusion.analysis.darkest import is_below_black, is_too_quiet, lower_bounds, site_planes
from exposurediffusion.analysis.margins import MaskedStatistics, masked_statistics
from exposurediffusion.physics.sensor import MaskedArea, RawFrame

NOTICEABLE = 0.001  # of saturation: differences that are worth a word
_EVEN = 0.7  # of the mean: a proof that is weaker says that light hides the error of this colour
_PRECISE = 0.1  # DN: a standard error that is good enough whatever the value


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
    sensor = replace(frame.sensor, black_level=sites)

    def moved(area: MaskedArea) -> MaskedArea:
        new, old = (s.black(area.values.shape, area.top, area.left) for s in (sensor, frame.sensor))
        return replace(area, values=area.values - (new - old).astype(np.float32))

    return replace(frame, sensor=sensor, optical_black=tuple(map(moved, frame.optical_black)))


def with_true_black(frame: RawFrame) -> RawFrame:
    """The frame with the black level that it shows itself, where it shows one.

    Masked margins show it: of each site, where all are known to 0.1 DN, else one offset for all. Without them a level
    is lowered as far as the picture's darkest parts prove it too high (light is never negative); where light hides the
    error of some colours, all by the least that is proved of any, because half a correction is a cast.

    A change of over 0.1 % of the saturation, and a level that is implausible and cannot be mended, are said in `notes`.
    """
    masked, stated = masked_statistics(frame), np.array(frame.sensor.black_level)
    if masked is not None and _is_known(masked):
        offsets, witness = np.full(stated.size, masked.offset), "its masked margin is"
        if (masked.errors < _PRECISE).all():
            offsets = masked.offsets
    else:
        bounds, witness = lower_bounds(frame), "its darkest parts are at most"
        offsets = bounds if bounds.max() <= _EVEN * bounds.mean() else np.full(stated.size, bounds.max())
    levels = np.maximum(stated + offsets, 0)
    result = with_black(frame, levels.tolist()) if offsets.any() else frame
    note = ()
    if np.abs(offsets).max() > NOTICEABLE * frame.sensor.saturation:
        text = f"the file says that black is {_listed(stated)} DN, {witness} {_listed(levels.round(1))} DN, which is "
        note = (f"{text}believed; --black {_listed(stated)} goes by the file",)
    elif is_below_black(result):
        text = f"nearly all of the frame is darker than its black level of {_listed(levels)} DN; "
        note = (f"{text}give the right one with --black DN",)
    elif is_too_quiet(result):
        least = min(float(np.nanpercentile(plane, 0.1)) for plane, _ in site_planes(result)) + levels.min()
        text = f"the file says that black is {_listed(levels)} DN, but its darkest parts, at {least:.0f} DN, have too "
        note = (f"{text}little noise to be light; if the result is too bright, give the level with --black DN",)
    return replace(result, notes=result.notes + note)


def _listed(levels: np.ndarray) -> str:
    """One number where it says it all, or where there are too many."""
    few = levels[:1] if np.ptp(levels) == 0 else levels if len(levels) <= 4 else levels.mean(keepdims=True).round(1)
    return ",".join(f"{level:g}" for level in few)

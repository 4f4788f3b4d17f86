"""Banding: an offset that a whole sensor row (or column) shares, separated from the scene and taken out of a frame.

One number for thousands of sites: a network sees some tens of them, the frame all. Light-free columns beside the
picture give the offsets of its rows directly. Without them, means of capture - estimate along each line do, in which
the scene hardly shows: what a network keeps of an edge is in its estimate. Two things separate the offset of a line
from what the network got wrong: it is the same in every part of the line, so that strips of it agree; and it is
independent of other lines', so that it has the same power at every frequency, while blinds and shading have theirs at
some.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from exposurediffusion.physics.mosaic import CFA, pack
from exposurediffusion.physics.parameters import NoiseParameters
from exposurediffusion.physics.sensor import RawFrame

STRIPS = 8  # parts of a line that have to agree
PLAIN = 1.5  # least power of the offsets, in that of the error of a line's mean
_OUTLIER = 4.0  # deviations: of a site from the estimate, of a line from the others
_EDGE = 1.0  # deviations of a site's noise between same-coloured neighbours of the estimate that make an edge
_BRIGHT = 0.9  # of white: beyond it noise is clipped
_SMOOTH = 9  # frequencies averaged in a power spectrum
_FEWEST = 16  # lines of each phase from which anything is estimated
_LONGEST = 64.0  # lines of the period at which half is trusted
_RESPONSE = (0.1, 1.0)  # what is believed of the part of an offset that an estimate shows
_CHANCE, _PRUDENCE = 2.0, 2.0  # power over the expected at which trust in a frequency ends, and how fast


def masked_row_offsets(frame: RawFrame) -> np.ndarray | None:
    """The offset of each row, from the light-free columns left or right of it; shrunk by what chance would give.

    Args:
        frame: with `optical_black`; areas beside the frame that reach over all of its rows count.

    Returns:
        DN to subtract, (rows) float64 of mean zero (`analysis.black.black_offset` gives the mean); None without
        such areas, or where rows differ by no more than their means do by chance.
    """
    rows, columns = frame.shape
    beside = [
        area.values[-area.top : rows - area.top].astype(np.float64)
        for area in frame.optical_black
        if (area.left < 0 or area.left >= columns) and area.top <= 0 and area.top + len(area.values) >= rows
    ]
    if not beside:
        return None
    values = np.concatenate(beside, axis=1)
    away = np.abs(values - np.median(values, axis=1, keepdims=True))
    kept = away <= _OUTLIER * max(1.4826 * float(np.median(away)), 1.0)  # whole DN, quiet sensors: not fewer than one
    count = kept.sum(axis=1).clip(1)
    means = np.where(kept, values, 0).sum(axis=1) / count
    within = np.where(kept, values - means[:, None], 0)
    error = (within**2).sum() / max(int((count - 1).sum()), 1) / count
    power = means.var() - error.mean()
    return (means - means.mean()) * power / (power + error) if power > error.mean() else None


def line_planes(offsets: np.ndarray, cfa: CFA, shape: tuple[int, int], axis: int = 0) -> Float[Tensor, "planes h w"]:
    """Offsets of sensor rows (axis 0) or columns (axis 1) of a frame of `shape` sites, on its packed planes."""
    lines = torch.as_tensor(offsets, dtype=torch.float32)
    return pack((lines[:, None] if axis == 0 else lines[None, :]).expand(shape), cfa)


def strip_means(
    capture: Float[Tensor, "planes h w"],
    estimate: Float[Tensor, "planes h w"],
    cfa: CFA,
    noise: NoiseParameters,
    ratio: float,
    axis: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Means of capture - estimate over parts of each sensor line, weighted by the noise of each site.

    Left out are sites near white, those off by more than four deviations of their noise, and edges of the estimate
    across the lines, where a network's error is that of many sites together.

    Args:
        capture, estimate: at reference brightness.
        cfa: of the frame; lines are those of whole tiles.
        noise: of the capture, b = 1.
        ratio: amplification.
        axis: 0 for rows, 1 for columns.

    Returns:
        Means at reference brightness, and the inverses of their variances; both (lines, `STRIPS`).
    """
    table, period, cell = cfa.table, cfa.period, cfa.period // cfa.stride
    if axis == 1:
        capture, estimate, table = capture.mT, estimate.mT, table.transpose(0, 2, 1, 3)[..., ::-1]
    unit = ratio / noise.saturation
    shot, read = float(noise.gain) * unit, float(noise.read_variance) * unit**2
    sums = torch.zeros(2, -(-capture.shape[-2] // cell) * period, STRIPS, dtype=torch.float64)
    for plane, i, j in np.ndindex(table.shape[:3]):
        light = estimate[plane, i::cell, j::cell]
        residual = capture[plane, i::cell, j::cell] - light
        variance = light.clamp(min=0).mul_(shot).add_(read)
        usable = (light < _BRIGHT) & (residual.square() < _OUTLIER**2 * variance)
        edge = light.diff(dim=0).square_() > _EDGE**2 * torch.minimum(variance[1:], variance[:-1])
        usable[1:] &= ~edge
        usable[:-1] &= ~edge
        weight = usable / variance
        strip = torch.arange(light.shape[1]) * STRIPS // light.shape[1]
        lines = torch.arange(len(light)) * period + int(table[plane, i, j, 0])
        for total, values in zip(sums, (weight * residual, weight), strict=True):
            total[lines] += torch.zeros(len(light), STRIPS).index_add_(1, strip, values).double()
    weighted, precision = sums.numpy()
    return weighted / np.maximum(precision, 1e-12), precision


@dataclass(frozen=True)
class LineFilter:
    """Takes the offsets of lines out of their residual means.

    At each frequency the power of the means is that of the offsets, of the means' error, which the strips' disagreement
    says, and of what is wrong with the estimate. Offsets are independent: their power is the same at every frequency.

    Attributes:
        power: of the means by frequency, averaged over neighbours, (lines // 2 + 1).
        error: of it, that of the means' error.
        level: of it, that of the offsets, a number: of most lines and most frequencies.
        usable: lines that can be estimated, (lines); the others get no offset.
        stride: of the colour filter array: lines of one phase are the same planes', whose shading is no offset.
    """

    power: np.ndarray
    error: np.ndarray
    level: float
    usable: np.ndarray
    stride: int

    @staticmethod
    def of(means: np.ndarray, precision: np.ndarray, stride: int) -> LineFilter | None:
        """From the strips' means of a first estimate (`strip_means`); None where no offsets are plain."""
        total = precision.sum(axis=1)
        usable = total > 0.05 * np.median(total)
        if min(usable[phase::stride].sum() for phase in range(stride)) < _FEWEST:
            return None
        mean = line_means(means, precision)
        strips = np.where(precision > 0, means - mean[:, None], 0)
        mean = _levelled(mean, usable, stride)
        usable &= np.abs(mean) <= _OUTLIER * 1.4826 * np.median(np.abs(mean))
        apart = np.abs(np.fft.rfft(strips * usable[:, None], axis=0)) ** 2
        error = _smooth(apart.sum(axis=1) / (STRIPS * (STRIPS - 1)))
        power = np.abs(np.fft.rfft(mean * usable)) ** 2
        even = float(np.median(power)) / np.log(2)  # the mean of an exponential law; what is periodic has few of them
        power = _smooth(power)
        step = (mean[stride:] - mean[:-stride])[usable[stride:] & usable[:-stride]]
        most = len(mean) / 2 * (1.4826 * float(np.median(np.abs(step)))) ** 2 if len(step) else 0.0
        level = min(even, most) - float(np.median(error))  # most lines have it, not a few
        plain = level > max(PLAIN * float(np.median(error)), 0)
        return LineFilter(power, error, level, usable, stride) if plain else None

    def spectrum(self, means: np.ndarray, precision: np.ndarray) -> np.ndarray:
        """What the means of an estimate show of the offsets, by frequency.

        Each is trusted by row^2 / (row^2 + error), less where it has more power than that, and not where the shading
        of a plane lies: near 0 and near the multiples of 1 / stride.
        """
        mean = _levelled(line_means(means, precision), self.usable, self.stride)
        frequency = np.fft.rfftfreq(len(mean))
        frequency = _LONGEST * (frequency - np.round(frequency * self.stride) / self.stride)
        trust = frequency**4 / (1 + frequency**4) * self.level / (self.level + self.error)
        return np.fft.rfft(mean * self.usable) * trust * self._like_offsets(np.ones(1))

    def offsets(self, shown: np.ndarray, rest: np.ndarray | None = None) -> np.ndarray:
        """The offset of each line.

        Args:
            shown: spectrum that a first estimate showed; the other part of the offsets is in the estimate.
            rest: spectrum that is still shown after `offsets(shown)` were subtracted. It shows how large a part that
                is (the secant method); where it is small, much of what was shown is the network's own error.
        """
        if rest is not None:
            change = _smooth(np.real((shown - rest) * np.conj(shown)))
            part = np.clip(change / np.maximum(_smooth(np.abs(shown) ** 2), 1e-30), *_RESPONSE)
            shown = shown / part * self._like_offsets(part)
        return np.fft.irfft(shown, len(self.usable)) * self.usable

    def _like_offsets(self, part: np.ndarray) -> np.ndarray:
        """1 at frequencies with as much power as offsets have of which `part` is shown, 0 where it is a lot more."""
        typical = np.median(part**2)  # at which the level was found
        ratio = self.power / (part**2 / typical * (self.level + self.error))
        return np.clip(1 - _PRUDENCE * (ratio - _CHANCE), 0, 1)


def line_means(means: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """The mean of each line from those of its strips."""
    return (means * precision).sum(axis=1) / np.maximum(precision.sum(axis=1), 1e-12)


def _levelled(mean: np.ndarray, usable: np.ndarray, stride: int) -> np.ndarray:
    """Means of lines without the median of each phase, by which a network is off in one colour."""
    phases = np.arange(len(mean)) % stride
    levels = [np.median(mean[usable & (phases == phase)]) for phase in range(stride)]
    return mean - np.array(levels)[phases]


def _smooth(power: np.ndarray) -> np.ndarray:
    reach = _SMOOTH // 2
    return np.convolve(np.pad(power, reach, mode="reflect"), np.ones(_SMOOTH) / _SMOOTH, "valid")

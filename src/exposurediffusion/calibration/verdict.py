"""Whether the frames of a calibration sufficed, and what to shoot more of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from exposurediffusion.calibration.calibration import Calibration
from exposurediffusion.calibration.interval import Interval

_DARKS, _PAIRS = 16, 8  # that one wants at each ISO
_GAIN, _READ = 0.02, 0.03  # relative half widths of intervals that are good enough
_TUKEY = 0.99  # squared correlation below which the noise follows no Tukey-lambda law
_MULTIPLIED = 1.04  # ratio of two colours' gains that no chance makes


@dataclass(frozen=True)
class Finding:
    """A sentence: `good`, or what to do about it (`poor` where the figures cannot be relied on)."""

    kind: Literal["good", "fair", "poor"]
    text: str


def verdict(calibration: Calibration) -> list[Finding]:
    """What is to be said, the worst first."""
    findings = [Finding("poor", text) for text in calibration.lacking]
    findings += [Finding("fair", text) for text in calibration.problems]
    for iso in calibration.gains:
        findings += [*_of_darks(calibration, iso), *_of_flats(calibration, iso)]
    if 0 < len(calibration.darks) < 3:
        text = f"dark frames at {len(calibration.darks)} ISO: three or more show how noise grows with it"
        findings.append(Finding("fair", text))
    order = ("poor", "fair", "good")
    return sorted(findings, key=lambda finding: order.index(finding.kind))


def _of_darks(calibration: Calibration, iso: float) -> list[Finding]:
    dark = calibration.darks.get(iso)
    if dark is None:
        others = "the other ISOs" if calibration.darks else "the calibrated cameras"
        return [Finding("fair", f"ISO {iso:g}: no dark frames; rows, tails and black there follow {others}")]
    found = []
    if dark.frames < _DARKS:
        found.append(Finding("fair", f"ISO {iso:g}: {dark.frames} dark frames; {_DARKS} or more are better"))
    if dark.clipped:
        text = "black is clipped: read noise is known from its upper half, fixed pattern and dark shading are not"
        found.append(Finding("fair", f"ISO {iso:g}: {text}; if the camera has a raw format that keeps black, use it"))
    if dark.quantisation > 1:
        text = f"values in steps of {dark.quantisation:g} DN: fewer bits than the format holds"
        found.append(Finding("fair", f"ISO {iso:g}: {text}; set the camera to its highest bit depth"))
    if dark.read.value < 0.4 * dark.quantisation:
        text = f"read noise of {dark.read.value:.2g} DN is below half a step of the values, and not known better"
        found.append(Finding("fair", f"ISO {iso:g}: {text}"))
    straight = float(np.mean([fit.r_squared for fit in dark.fits]))
    if straight < _TUKEY:
        text = f"read noise follows no Tukey-lambda law (R^2 {straight:.4f}): was noise reduction on?"
        found.append(Finding("poor", f"ISO {iso:g}: {text}"))
    expected = (dark.read.value**2 / dark.mean.size + max(float(np.mean(dark.row)), 0) / dark.mean.shape[0]) ** 0.5
    if dark.drift > max(5 * expected, 0.1 * dark.read.value):
        text = f"black wanders by {dark.drift:.2g} DN from frame to frame"
        found.append(Finding("fair", f"ISO {iso:g}: {text}; let the camera warm up first"))
    if not found and dark.read.relative < _READ:
        found.append(Finding("good", f"ISO {iso:g}: {dark.frames} dark frames, read noise {_sure(dark.read)} DN"))
    return found


def _of_flats(calibration: Calibration, iso: float) -> list[Finding]:
    transfer, pairs = calibration.transfers.get(iso), calibration.flats.get(iso)
    if transfer is None or pairs is None:
        return []
    found = []
    if pairs.pairs < _PAIRS:
        found.append(Finding("fair", f"ISO {iso:g}: {pairs.pairs} pairs of flats; {_PAIRS} or more are better"))
    if transfer.gain.relative > _GAIN:
        text = f"gain {_sure(transfer.gain)} DN/e: shoot more flats, from a tenth to four fifths of white"
        found.append(Finding("fair", f"ISO {iso:g}: {text}"))
    if np.isfinite(pairs.gaps):
        text = f"values are missing above {pairs.gaps:.0f} DN: the raw files are compressed with loss; switch that off"
        found.append(Finding("poor", f"ISO {iso:g}: {text}"))
    saturation = calibration.frame.sensor.saturation
    if transfer.bend:
        text = f"the photon transfer bends, by 4 % at {transfer.linear_to:.0f} DN: the gain is that at little light"
        found.append(Finding("fair", f"ISO {iso:g}: {text}"))
    elif transfer.linear_to < 0.9 * min(saturation, pairs.limit) and transfer.linear_to < 0.98 * pairs.mean.max():
        text = f"the sensor is linear up to {transfer.linear_to:.0f} DN above black; what is brighter was left out"
        found.append(Finding("fair", f"ISO {iso:g}: {text}"))
    if pairs.limit < 0.98 * saturation:
        text = f"values end at {pairs.limit:.0f} DN above black, before the white level of the file ({saturation:.0f})"
        found.append(Finding("fair", f"ISO {iso:g}: {text}"))
    gains = [gain for gain in transfer.gains if gain is not None]
    least, most = (choose(gains, key=lambda gain: gain.value, default=transfer.gain) for choose in (min, max))
    if most.low > least.high and most.value > _MULTIPLIED * least.value:
        text = f"colours have gains from {least.value:.3g} to {most.value:.3g} DN/e: the camera multiplies some of them"
        found.append(Finding("fair", f"ISO {iso:g}: {text}; the profile has one for all"))
    if not found:
        found.append(Finding("good", f"ISO {iso:g}: {pairs.pairs} pairs of flats, gain {_sure(transfer.gain)} DN/e"))
    return found


def _sure(interval: Interval) -> str:
    return f"{interval.value:.4g} +- {100 * interval.relative:.1f} %"

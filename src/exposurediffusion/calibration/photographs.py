"""What ordinary photographs of a camera tell of its noise, together: no darks, no flats.

One frame gives its gain roughly, a dark one hardly at all. Frames of one camera share a gain that is in proportion to
the ISO, and a read noise at each ISO: their medians are surer than any one of them. Only frames that show the one or
the other count for it; an ISO whose frames are all bright has no figures, and is left to the law of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from exposurediffusion.analysis.estimation import estimate_noise
from exposurediffusion.calibration.shots import NotEnough, Shot, readable
from exposurediffusion.physics.cameras.figures import Figure
from exposurediffusion.physics.sensor import RawFrame

_SHOWS = 1.0  # shot noise in the brightest tenth over light-free noise (variances) from which on a frame shows its gain
_HIDES = 0.5  # the same in the darkest tenth, from which on a frame hides its light-free noise
_ENOUGH = 1 / 3  # part of an ISO's frames that show it: fewer are those that were estimated wrongly


def figures_of_photographs(
    shots: Sequence[Shot], problem: Callable[[str], None], tick: Callable[[], None]
) -> tuple[list[Figure], RawFrame]:
    """Gain and light-free noise at each ISO, for `profile_of_figures`; and one of the frames.

    Args:
        shots: photographs of one camera, as it wrote them.
        problem: is given a line for each file that cannot be used.
        tick: is called after each.

    Raises:
        NotEnough: none can be used, or none is bright enough to show the gain, or dark enough to show read noise.
        ValueError: photographs of different cameras.
    """
    rates: list[float] = []
    reads: dict[float, list[float]] = {}
    counts: dict[float, int] = {}
    first: tuple[Shot, RawFrame] | None = None
    for shot, frame in readable(shots, problem, tick):
        first = first or (shot, frame)
        if shot.camera != first[0].camera:
            others = f"{shot.path} ({shot.camera}) and {first[0].path} ({first[0].camera})"
            raise ValueError(f"{others} differ: one camera at a time")
        noise = estimate_noise(frame)
        gain, variance = float(noise.gain), float(noise.read_variance)
        counts[shot.iso] = counts.get(shot.iso, 0) + 1
        dark, bright = (float(q) for q in np.quantile(frame.planes.numpy()[:, ::4, ::4], (0.1, 0.9)))
        if gain * bright * frame.sensor.saturation > _SHOWS * variance:
            rates.append(gain / shot.iso)
        if gain * dark * frame.sensor.saturation < _HIDES * variance:
            reads.setdefault(shot.iso, []).append(variance**0.5)
    if first is None:
        raise NotEnough("none of the photographs can be used")
    if not rates:
        raise NotEnough("none of the photographs is bright enough to show the camera's gain: add some of daylight")
    reads = {iso: values for iso, values in reads.items() if len(values) >= _ENOUGH * counts[iso]}
    if not reads:
        raise NotEnough("none of the photographs is dark enough to show the camera's read noise: add some of the night")
    rate = float(np.exp(np.median(np.log(rates))))
    figures = [(iso, rate * iso, float(np.exp(np.median(np.log(values))))) for iso, values in sorted(reads.items())]
    return figures, first[1]

"""Who says how noisy a frame is, in the order of trust, and whether the frame agrees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

import numpy as np

from exposurediffusion.analysis.estimation import ROUNDING, black_deviation, estimate_with_curve
from exposurediffusion.analysis.margins import masked_statistics
from exposurediffusion.analysis.noise_curve import NoiseCurve
from exposurediffusion.physics.cameras.known import find_camera
from exposurediffusion.physics.cameras.profile import CameraProfile
from exposurediffusion.physics.parameters import NoiseParameters
from exposurediffusion.physics.sensor import RawFrame

_FEWEST = 3  # points of a noise curve that make a line
_TRUSTED = 0.1  # relative error of a variance by which other sources are judged
_WRONG = 3.0  # factor in variance by which a source must be off before the frame overrules it


@dataclass(frozen=True)
class NoiseSource:
    """What one source says of the noise of a frame.

    Attributes:
        noise: of the capture (b = 1), in DN of the frame's sensor; `noise.source` names the source.
        variance: of that noise at the frame's mean light, DN squared; without offsets of rows.
        factor: by which its variance exceeds that of the frame's flat places; None: these are too few to say.
        is_estimate: it is the estimate from the frame itself.
    """

    noise: NoiseParameters
    variance: float
    factor: float | None
    is_estimate: bool = False

    @property
    def agrees(self) -> bool:
        """Whether the frame does not contradict it."""
        return _is_near(self.factor)


def noise_of(
    frame: RawFrame, camera: CameraProfile | None = None, others: Sequence[NoiseParameters] = ()
) -> NoiseParameters:
    """Noise of a frame by the most trusted source that the frame does not contradict; see `noise_sources`.

    Args:
        frame: any raw frame.
        camera: profile to use; None: the calibrated one of the frame's camera, where there is one.
        others: what else says something of this frame's noise.

    Returns:
        Parameters of one capture (b = 1) in DN of the frame's sensor. A profile is read at the frame's ISO and scaled
        to the frame's bit depth; without a usable ISO it is passed over. `source` says which it was, what the frame
        overruled, and when the ISO is outside the calibrated ones.
    """
    return chosen_noise(frame, noise_sources(frame, camera, others))


def noise_sources(
    frame: RawFrame, camera: CameraProfile | None = None, others: Sequence[NoiseParameters] = ()
) -> tuple[NoiseSource, ...]:
    """All that is said of a frame's noise, the most trusted first; arguments as for `noise_of`.

    A calibrated profile, the file's NoiseProfile, the estimate from the frame itself, others; but others go before an
    estimate that has nothing to go by, as in a dark frame that is clipped at black.
    """
    estimate, curve = estimate_with_curve(frame)
    light = max(0.0, float(np.nanmean(frame.mosaic)) - float(np.mean(frame.sensor.black_level)))

    def judged(noise: NoiseParameters) -> NoiseSource:
        variance = float(_variance(noise, np.array([light]))[0])
        return NoiseSource(noise, variance, _factor(noise, estimate, curve), noise is estimate)

    stated = _from_profile(frame, camera), _from_file(frame)
    has_line = len(curve.mean) >= _FEWEST
    ordered = (*stated, estimate, *others) if has_line else (*stated, *others, estimate)
    return tuple(judged(noise) for noise in ordered if noise is not None)


def chosen(sources: Sequence[NoiseSource]) -> NoiseSource:
    """The first that the frame does not contradict; it never contradicts the estimate."""
    return next(source for source in sources if source.agrees)


def chosen_noise(frame: RawFrame, sources: Sequence[NoiseSource]) -> NoiseParameters:
    """The noise of the chosen source, with what the frame overruled in its `source` and what is known of black."""
    best, before = chosen(sources), takewhile(lambda one: not one.agrees, sources)
    overruled = [f"{one.noise.source}, {_off(one.factor)} in variance" for one in before]
    text = f"{best.noise.source}; passed over: {', '.join(overruled)}" if overruled else best.noise.source
    return replace(best.noise, source=text, black=black_deviation(masked_statistics(frame), best.noise))


def disagreement(sources: Sequence[NoiseSource]) -> str | None:
    """A sentence for people where sources are further apart than three times in variance; None where none are.

    The frame is the judge of those that are trusted more than its own estimate; where it shows too little to judge,
    they are compared with each other at its mean light.
    """
    best, before = chosen(sources), takewhile(lambda one: not one.is_estimate, sources)
    factors = [(one, one.variance / best.variance if best.factor is None else one.factor) for one in before]
    wrong = [f"{one.noise.source} is {_off(factor)}" for one, factor in factors if not _is_near(factor)]
    if not wrong:
        return None
    return (
        f"what is said of its noise disagrees (in variance: {', '.join(wrong)}); used: {best.noise.source}; "
        "expose info lists all, --camera or --gain and --read decide"
    )


def noise_of_line(slope: float, offset: float, saturation: float, source: str) -> NoiseParameters:
    """Noise whose variance is `slope x + offset` of normalised x, slope > 0; it is never below that of rounding."""
    read = max(np.sqrt(max(offset, 0)) * saturation, ROUNDING)
    return NoiseParameters.gaussian(slope * saturation, read, saturation, source)


def _from_profile(frame: RawFrame, camera: CameraProfile | None) -> NoiseParameters | None:
    """The noise that a profile gives at the frame's ISO; None without one or the other."""
    iso, profile = frame.metadata.iso, camera or find_camera(frame.metadata.camera)
    if profile is None or not iso:
        return None
    try:
        noise = profile.at_iso(iso).rescaled(frame.sensor.saturation)
    except ValueError:  # an ISO outside the profile's line
        return None
    low, high = profile.iso_range
    if low <= iso <= high:
        return noise
    measured = f"at ISO {low:g}" if low == high else f"from ISO {low:g} to {high:g}"
    return replace(noise, source=f"{noise.source}, extrapolated: it is calibrated {measured}")


def _from_file(frame: RawFrame) -> NoiseParameters | None:
    """The noise that the file's NoiseProfile gives, averaged over the colours; None where it has none that can be."""
    pairs = np.asarray(frame.metadata.noise_profile or (), dtype=float)
    if len(pairs) < 2 or len(pairs) % 2:
        return None
    slopes, offsets = pairs.reshape(-1, 2).T
    weights = (1, 2, 1) if len(slopes) == 3 else (1,) * len(slopes)  # of R, G, B: half of the sites are green
    slope, offset = (float(np.average(numbers, weights=weights)) for numbers in (slopes, offsets))
    if not (np.isfinite(slope) and np.isfinite(offset) and slope > 0):
        return None
    return noise_of_line(slope, offset, frame.sensor.saturation, "the file's NoiseProfile")


def _variance(noise: NoiseParameters, light: np.ndarray) -> np.ndarray:
    """Variance at signals in DN above black; rows and columns are no part of what a frame's flat places show."""
    return float(noise.gain) * light + float(noise.read_variance - noise.line_variance)


def _factor(stated: NoiseParameters, estimate: NoiseParameters, curve: NoiseCurve) -> float | None:
    """Median factor by which the stated variances exceed those of the frame's flat places; None: these are too few.

    Both the places and the line through them have to contradict; what is nearer to 1 counts.
    """
    trusted = curve.error < _TRUSTED
    if trusted.sum() < max(_FEWEST, len(trusted) / 4):
        return None
    light = curve.mean[trusted]
    shown = curve.variance[trusted], _variance(estimate, light)
    factors = [np.median(_variance(stated, light) / variance) for variance in shown]
    return float(min(factors, key=lambda factor: abs(np.log(factor))))


def _is_near(factor: float | None) -> bool:
    return factor is None or 1 / _WRONG <= factor <= _WRONG


def _off(factor: float | None) -> str:
    factor = factor or 1.0
    return f"{factor:.2g} times too large" if factor > 1 else f"{1 / factor:.2g} times too small"

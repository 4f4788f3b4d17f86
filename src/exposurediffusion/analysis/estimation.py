"""Noise of an unknown camera from a single frame.

A line through noise variance against mean (Foi et al., "Practical Poissonian-Gaussian noise modeling and fitting for
single-image raw-data", IEEE TIP 17(10), 2008), which `noise_curve.py` measures. Masked sites give read noise, row noise
and black level. The same curve judges what others say of the noise (`sources.py`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from exposurediffusion.analysis.black import black_offset
from exposurediffusion.analysis.margins import MaskedStatistics, masked_statistics
from exposurediffusion.analysis.noise_curve import NoiseCurve, noise_curve
from exposurediffusion.physics.cameras.known import calibrated_cameras
from exposurediffusion.physics.parameters import NoiseParameters
from exposurediffusion.physics.sensor import SATURATION, RawFrame

FULL_WELL = (30.0, 500_000.0)  # electrons at saturation that are believed of any camera at any ISO: bounds of the gain
ROUNDING = 12**-0.5  # standard deviation of rounding to whole DN
_DRIFT = 0.1  # DN: by which black may differ between the margins and the picture


def _prior_gain(read: np.ndarray, saturation: float) -> np.ndarray:
    """Logarithm of the gain that calibrated cameras have at a read noise (DN), averaged over them."""
    scale = saturation / SATURATION
    laws = [profile.gaussian_read for profile in calibrated_cameras().values()]
    return np.mean([(np.log(read / scale) - law.bias) / law.slope for law in laws], axis=0) + np.log(scale)


def _fit(curve: NoiseCurve, saturation: float, floor: float, masked_variance: float | None) -> tuple[float, float]:
    """Gain and read deviation (DN) that fit `variance = gain * mean + read**2` best.

    A nested grid search over both logarithms, because the robust cost has local minima. Texture only ever adds
    variance, so points above the line are trusted less than points below it. The prior on the gain (a factor e, one
    standard deviation) decides where the data do not.
    """
    low, high = (float(np.log(saturation / electrons)) for electrons in reversed(FULL_WELL))
    top = max(2 * floor, float(curve.variance.max(initial=0)), masked_variance or 0)
    k, r = np.linspace(low, high, 41), np.linspace(np.log(floor), np.log(top * 1.1), 41) / 2
    best = (low, float(r[0]))
    for _ in range(4):
        model = np.exp(k)[:, None, None] * curve.mean + np.exp(2 * r)[None, :, None]
        z = np.log(curve.variance) - np.log(model)
        z /= np.where(z > 0, curve.error, curve.chance)
        cost = np.where(z > 0, 2 * np.log1p(z**2 / 2), np.where(z > -3, z**2, -6 * z - 9)).sum(-1)
        cost += (k[:, None] - _prior_gain(np.exp(r), saturation)) ** 2
        if masked_variance is not None:
            cost += ((np.log(masked_variance) - 2 * r) / 0.05) ** 2
        i, j = np.unravel_index(np.argmin(cost), cost.shape)
        best = (float(k[i]), float(r[j]))
        k, r = (np.linspace(max(x - 3 * (g[1] - g[0]), g[0]), min(x + 3 * (g[1] - g[0]), g[-1]), 41)
                for x, g in zip(best, (k, r), strict=True))  # fmt: skip
    return float(np.exp(best[0])), float(np.exp(best[1]))


def estimate_noise(frame: RawFrame) -> NoiseParameters:
    """Gain and light-free noise of an unknown camera from one frame.

    `variance = gain * mean + read**2` is fitted to what `noise_curve` measures in up to two megapixels of the frame.
    Masked sites, where there are any, add the row noise and the black level, and the read noise too unless the
    darkest parts of the picture are quieter (then the file's picture was processed). In a frame so dark that gain and
    read noise cannot be separated, the gain follows calibrated cameras of that read noise; the sum of both stays
    right at the signals that occur in the frame.

    Args:
        frame: at least 64x64 sites, DN; neither denoised nor demosaiced.

    Returns:
        Parameters of one capture (b = 1): Gaussian read noise that includes the rounding (`quantisation` is 0), row
        noise, `saturation` of the frame's sensor. A frame without noise gets the smallest gain and read noise that
        are believed of a camera. `source` says how it went.
    """
    return estimate_with_curve(frame)[0]


def estimate_with_curve(frame: RawFrame) -> tuple[NoiseParameters, NoiseCurve]:
    """The estimate (see `estimate_noise`), and the noise curve that it is of."""
    saturation, floor = frame.sensor.saturation, _floor(frame)
    masked = masked_statistics(frame)
    offset = black_offset(frame) or 0.0
    curve = noise_curve(frame, offset, floor, lambda curve: _fit(curve, saturation, floor, None))
    row = masked.row if masked else 0.0
    with_masked = masked is not None and masked.variance > floor
    if masked is not None and len(curve.mean):
        with_masked &= masked.variance < 1.25 * curve.variance[: max(3, len(curve.mean) // 4)].min()
    if (curve.variance > floor).any() or with_masked:
        gain, read = _fit(curve, saturation, floor, masked.variance if masked and with_masked else None)
        how = "local variance" if len(curve.mean) else "all clipped"
        if gain * curve.mean.max(initial=0) < 0.3 * read**2:
            how += "; too dark to show its gain, which follows similar cameras"
        if masked and with_masked:
            how += f"; read noise from {masked.sites:,} masked sites"
        source = f"estimated from the frame ({how})"
    else:
        gain, read = saturation / FULL_WELL[1], floor**0.5
        source = "no noise found in the frame: the smallest believed of a camera"
    parameters = NoiseParameters.gaussian(gain, read, saturation, source)
    return replace(parameters, row=torch.tensor([row]), black=black_deviation(masked, parameters)), curve


def black_deviation(masked: MaskedStatistics | None, noise: NoiseParameters) -> Float[Tensor, "1"]:
    """Standard deviation of what is unknown of the black level, DN: by masked sites, a profile, or other cameras."""
    if masked is not None:
        return torch.tensor([max(masked.error, _DRIFT)])
    if noise.black is not None:
        return noise.black
    usual = np.mean([profile.black_deviation**2 for profile in calibrated_cameras().values()]) ** 0.5
    return torch.tensor([float(usual) * noise.saturation / SATURATION])


def _floor(frame: RawFrame) -> float:
    """The least variance that is believed of a frame, DN squared: that of rounding, where it holds whole DN."""
    integer = np.issubdtype(frame.mosaic.dtype, np.integer)
    return ROUNDING**2 if integer else (1e-6 * frame.sensor.saturation) ** 2

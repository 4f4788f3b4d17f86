"""Noise of an unknown camera from a single frame, and the lookup order that `expose enhance` follows.

Local variance against local mean on patches free of texture (Foi et al., "Practical Poissonian-Gaussian noise modeling
and fitting for single-image raw-data", IEEE TIP 17(10), 2008). Texture is told from noise by what neighbouring colour
planes share: the scene is common to them, noise is not. Masked sites give read noise, row noise and black level.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from exposurediffusion.physics.black import black_offset
from exposurediffusion.physics.margins import masked_statistics
from exposurediffusion.physics.profile import CameraProfile, NoiseParameters, calibrated_cameras, find_camera
from exposurediffusion.physics.sensor import SATURATION, RawFrame

FULL_WELL = (30.0, 500_000.0)  # electrons at saturation that are believed of any camera at any ISO: bounds of the gain
_ROUNDING = 12**-0.5  # standard deviation of rounding to whole DN
_BLOCK, _BLOCKS = 252, 32  # side in sites (whole tiles of every array) and number of the blocks looked at
_PATCH, _STRIDE = 8, 4  # side and step of the patches, in samples of one plane
# A patch's variance of white noise: degrees of freedom (its 64 residuals are correlated), and the median and the 20 %
# quantile of their gamma law over its mean.
_FREEDOM, _MEDIAN, _LOW = 19.3, 0.9657, 0.7241
_BINS, _BIN_PATCHES = 40, 12  # bins of equal width in sqrt(mean); the fewest patches that make a point of the curve


@dataclass(frozen=True)
class _Curve:
    """Noise variance (DN squared) against mean (DN above black), and the relative error of each variance; (points)."""

    mean: np.ndarray
    variance: np.ndarray
    error: np.ndarray


def _crops(frame: RawFrame) -> tuple[np.ndarray, np.ndarray]:
    """The whole frame, or equal blocks on a regular grid of a large one; raw DN from a whole tile on, black level off.

    Returns:
        Crops of DN above black, and the same crops of raw DN, both (crops, height, width).
    """
    cfa, (rows, columns) = frame.sensor.cfa, frame.shape
    period = cfa.period
    first = [-o % period for o in cfa.origin]
    if rows * columns <= _BLOCKS * _BLOCK**2:
        corners, height, width = [(first[0], first[1])], rows - first[0], columns - first[1]
    else:
        height, width = min(_BLOCK, rows - period), min(_BLOCK, columns - period)
        down = max(1, min(rows // height, round((_BLOCKS * rows / columns) ** 0.5)))
        across = max(1, min(columns // width, _BLOCKS // down))
        ys = np.linspace(0, rows - height - period, down).astype(int) // period * period + first[0]
        xs = np.linspace(0, columns - width - period, across).astype(int) // period * period + first[1]
        corners = [(int(y), int(x)) for y in ys for x in xs]
    raw = np.stack([frame.mosaic[y : y + height, x : x + width] for y, x in corners]).astype(np.float32)
    tile = np.asarray(frame.sensor.black_level, dtype=np.float32).reshape(period, period)
    tile = np.roll(tile, (-first[0], -first[1]), (0, 1))
    black = np.tile(tile, (-(-height // period), -(-width // period)))[:height, :width]
    return raw - black, raw


def _lattices(crops: np.ndarray, frame: RawFrame) -> Tensor:
    """Four same-colour grids of crops that begin with a tile, (4, crops, h, w).

    Bayer: its planes. X-Trans: the four planes of its 2x2 greens, the only ones on a regular grid.
    """
    stride = frame.sensor.cfa.stride
    ys, xs = ((0, 1), (0, 1)) if frame.sensor.cfa.is_bayer else ((1, 2), (0, 1))
    h, w = crops.shape[1] // stride, crops.shape[2] // stride
    return torch.as_tensor(np.stack([crops[:, y::stride, x::stride][:, :h, :w] for y in ys for x in xs]))


def _patches(frame: RawFrame) -> list[np.ndarray]:
    """Mean (DN), residual variance (DN squared), correlation, usable, censored: one entry per patch and plane."""
    crops, raw_crops = _crops(frame)
    signal, raw = _lattices(crops, frame), _lattices(raw_crops, frame)
    if min(signal.shape[-2:]) < _PATCH + 2:
        return [np.empty(0, dtype) for dtype in (float, float, float, bool, bool)]
    # A second difference along both axes: white noise keeps its variance (after the division); planes, straight edges
    # along the grid, and row offsets vanish.
    across = signal[..., 2:] - 2 * signal[..., 1:-1] + signal[..., :-2]
    residual = (across[..., 2:, :] - 2 * across[..., 1:-1, :] + across[..., :-2, :]) / 6

    def pool(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, _PATCH, _STRIDE)

    mean, variance = pool(signal[..., 1:-1, 1:-1]), pool(residual**2)
    pairs = list(combinations(range(4), 2))
    shared = torch.zeros_like(mean[0])
    for i, j in pairs:
        shared += pool(residual[i] * residual[j]) / (variance[i] * variance[j]).sqrt().clamp(min=1e-12)
    peak = F.max_pool2d(residual.abs(), _PATCH, _STRIDE)
    clipped = (raw <= 0) | (raw >= frame.sensor.white_level - 0.03 * frame.sensor.saturation)
    censored = F.avg_pool2d(clipped.float(), _PATCH + 2, _STRIDE) > 0
    usable = (peak**2 <= 20 * variance) & ~censored  # a peak of 4.5 deviations is a hot pixel or an edge
    return [x.flatten().numpy() for x in (mean, variance, (shared / len(pairs)).expand_as(mean), usable, censored)]


def _curve(patches: list[np.ndarray], offset: float, floor: float) -> _Curve:
    """Bin the patches by their mean and tell the noise of each bin, by its flat patches."""
    mean, variance, correlation, usable, censored = patches
    points: list[tuple[float, float, float]] = []
    order = np.argsort(mean)
    mean = mean[order] - offset
    variance, correlation, usable, censored = (x[order] for x in (variance, correlation, usable, censored))
    step = np.sqrt(np.clip(mean, 0, None).max(initial=0)) / _BINS
    start = 0
    while start < len(mean):
        # wide enough that the noise of the means does not sort the patches, which would flatten the curve
        scatter = np.sqrt(np.median(variance[start : start + 200])) / _PATCH
        low = mean[start]
        stop = int(np.searchsorted(mean, max((max(low, 0) ** 0.5 + step) ** 2, low + 6 * scatter), "right"))
        part = slice(start, max(stop, start + 4 * _BIN_PATCHES))
        start = part.stop
        inside = usable[part]
        flat = inside & (correlation[part] < 0.1)
        if flat.sum() < _BIN_PATCHES or censored[part].mean() > 0.2:  # too few; the noise itself is clipped
            continue
        values = variance[part][flat]
        textured = np.median(correlation[part][inside]) > 0.03
        value = np.quantile(values, 0.2) / _LOW if textured else np.median(values) / _MEDIAN
        error = np.hypot(np.sqrt(8 / (_FREEDOM * flat.sum())), 0.25 if textured else 0.03)
        points.append((max(float(np.median(mean[part][flat])), 0.0), max(float(value), floor), float(error)))
    if not points and (~censored).any():  # texture everywhere: its quietest places bound the noise from above
        points = [(max(float(np.median(mean)), 0.0), max(float(np.quantile(variance[~censored], 0.02)), floor), 0.5)]
    columns = np.array(points).reshape(-1, 3).T
    return _Curve(*columns)


def _prior_gain(read: np.ndarray, saturation: float) -> np.ndarray:
    """Logarithm of the gain that calibrated cameras have at a read noise (DN), averaged over them."""
    scale = saturation / SATURATION
    laws = [profile.gaussian_read for profile in calibrated_cameras().values()]
    return np.mean([(np.log(read / scale) - law.bias) / law.slope for law in laws], axis=0) + np.log(scale)


def _fit(curve: _Curve, saturation: float, floor: float, masked_variance: float | None) -> tuple[float, float]:
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
        z = (np.log(curve.variance) - np.log(model)) / curve.error
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

    `variance = gain * mean + read**2` is fitted to local variances of flat patches in up to two megapixels of the
    frame. Masked sites, where there are any, add the row noise and the black level, and the read noise too unless the
    darkest parts of the picture are quieter (then the file's picture was processed). In a frame so dark that gain and
    read noise cannot be told apart, the gain follows calibrated cameras of that read noise; the sum of both stays
    right at the signals that occur in the frame.

    Args:
        frame: at least 64x64 sites, DN; neither denoised nor demosaiced.

    Returns:
        Parameters of one capture (b = 1): Gaussian read noise that includes the rounding (`quantisation` is 0), row
        noise, `saturation` of the frame's sensor. A frame without noise gets the smallest gain and read noise that
        are believed of a camera. `source` says how it went.
    """
    saturation = frame.sensor.saturation
    integer = np.issubdtype(frame.mosaic.dtype, np.integer)
    floor = _ROUNDING**2 if integer else (1e-6 * saturation) ** 2
    masked = masked_statistics(frame)
    curve = _curve(_patches(frame), black_offset(frame) or 0.0, floor)
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
    return replace(parameters, row=torch.tensor([row]))


def noise_of(frame: RawFrame, camera: CameraProfile | None = None) -> NoiseParameters:
    """Noise of a frame: from a calibrated profile, else from the file's NoiseProfile, else from the frame itself.

    Args:
        frame: any raw frame.
        camera: profile to use; None: the calibrated one of the frame's camera, where there is one.

    Returns:
        Parameters of one capture (b = 1) in DN of the frame's sensor. A profile is read at the frame's ISO and scaled
        to the frame's bit depth; without a usable ISO it is passed over. `source` says which it was.
    """
    saturation, metadata = frame.sensor.saturation, frame.metadata
    profile = camera or find_camera(metadata.camera)
    if profile is not None and metadata.iso:
        try:
            return profile.at_iso(metadata.iso).rescaled(saturation)
        except ValueError:  # an ISO outside the profile's line
            pass
    pairs = np.asarray(metadata.noise_profile or (), dtype=float)
    if len(pairs) >= 2 and len(pairs) % 2 == 0:
        slopes, offsets = pairs.reshape(-1, 2).T
        weights = (1, 2, 1) if len(slopes) == 3 else (1,) * len(slopes)  # of R, G, B: half of the sites are green
        slope, offset = np.average(slopes, weights=weights), np.average(offsets, weights=weights)
        if np.isfinite(slope) and np.isfinite(offset) and slope > 0:
            read = max(np.sqrt(max(offset, 0)) * saturation, _ROUNDING)
            return NoiseParameters.gaussian(slope * saturation, read, saturation, "the file's NoiseProfile")
    return estimate_noise(frame)

"""A camera profile from published figures: gain and read noise at one ISO setting, or at several.

What such figures do not tell is filled by the calibrated cameras: their means where one value is needed, their spread
where a profile has one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, pairwise
from math import exp, inf, log, log2

import numpy as np
import torch

from exposurediffusion.physics.cameras.known import calibrated_cameras
from exposurediffusion.physics.cameras.profile import CameraProfile, LogLinear, Setting
from exposurediffusion.physics.parameters import tukey_lambda_variance
from exposurediffusion.physics.sensor import SATURATION

Figure = tuple[float, float, float]
"""ISO setting, gain K (DN per electron), and standard deviation of the whole light-free noise (DN)."""
_CARE = 0.05  # relative error of a published read noise
_LEAST = 0.1  # part of a light-free variance that is left when that of rounding has been taken off


def profile_of_figures(
    name: str, figures: Sequence[Figure], saturation: float = SATURATION, exif_model: str = ""
) -> CameraProfile:
    """A profile that has these figures, with what is unknown filled by the calibrated cameras.

    The gain is a line in ISO through the figures, in proportion to ISO if there is one. The read noise follows a power
    of the gain, whose exponent the figures decide as far as they can, within the spread over the cameras. Row noise,
    tails (Tukey-lambda shapes), spreads and black level errors are those of the cameras; `source` says so.

    Args:
        name: of the profile.
        figures: ISO, gain and read noise, in any order.
        saturation: white - black of the raw files that the figures are of, DN.
        exif_model: make and model as files give them; empty: the profile is found by its name alone.

    Raises:
        ValueError: no figures, one that makes no sense, an ISO twice, or a gain that falls with the ISO.
    """
    figures = sorted(figures)
    _check(figures, saturation)
    iso, gain, read = np.array(figures, dtype=float).T
    cameras = list(calibrated_cameras().values())
    scale = 2.0 ** round(log2(saturation / SATURATION))  # of DN, for another number of bits
    middle = torch.tensor([exp(np.log(gain).mean()) / scale])
    shares = [log(float(camera.row.median(middle) / camera.gaussian_read.median(middle))) for camera in cameras]
    share = exp(np.mean(shares))  # of the row noise in that of pixels
    pixel = np.sqrt(np.maximum(read**2 - 1 / 12, _LEAST * read**2) / (1 + share**2))
    shape = float(np.median([np.median(camera.tukey_shapes) for camera in cameras]))
    unit = float(tukey_lambda_variance(shape)) ** 0.5
    law, (low, high) = _law(gain, pixel), _line(iso, gain)
    row_sigma = float(np.sqrt(np.mean([camera.row.sigma**2 for camera in cameras]) + np.var(shares)))
    return CameraProfile(
        name,
        exif_model,
        low,
        high,
        gaussian_read=law,
        tukey_read=replace(law, bias=law.bias - log(unit)),
        row=LogLinear(law.slope, law.bias + log(share), row_sigma),
        tukey_shapes=tuple(chain.from_iterable(camera.tukey_shapes for camera in cameras)),
        colour_bias=tuple(tuple(scale * e for e in row) for camera in cameras for row in camera.colour_bias),
        saturation=saturation,
        source=_source(iso, len(cameras)),
        settings=tuple(
            Setting(i, k, s, s / unit, shape, row=share * s)
            for i, k, s in zip(iso.tolist(), gain.tolist(), pixel.tolist(), strict=True)
        ),
    )


def _check(figures: Sequence[Figure], saturation: float) -> None:
    if not figures:
        raise ValueError("no figures: gain and read noise at one ISO setting are needed at least")
    for figure in figures:
        for name, value in zip(("ISO", "gain", "read noise"), figure, strict=True):
            if not 0 < value < inf:
                raise ValueError(f"{name}: a positive number is wanted, not {value:g}")
    if not 1 <= saturation < inf:
        raise ValueError(f"saturation: white less black in DN is wanted, not {saturation:g}")
    for (iso, gain, _), (other, more, _) in pairwise(figures):
        if iso == other:
            raise ValueError(f"two figures for ISO {iso:g}: one is wanted")
        if more < gain:
            raise ValueError(
                f"the gain falls from ISO {iso:g} to {other:g}: DN per electron are wanted, and some tables have "
                "electrons per DN"
            )


def _law(gain: np.ndarray, scale: np.ndarray) -> LogLinear:
    """The power of the gain through noise scales, its exponent drawn to those of the cameras as theirs are alike."""
    laws = [camera.gaussian_read for camera in calibrated_cameras().values()]
    slopes = [law.slope for law in laws]
    x, y = np.log(gain), np.log(scale)
    spread, weight = x - x.mean(), _CARE**2 / np.var(slopes, ddof=1)
    slope = float((spread @ y + weight * np.mean(slopes)) / (spread @ spread + weight))
    sigma = float(np.sqrt(np.mean([law.sigma**2 for law in laws])))
    return LogLinear(slope, float(y.mean() - slope * x.mean()), sigma)


def _line(iso: np.ndarray, gain: np.ndarray) -> tuple[float, float]:
    """The gains at ISO 100 and 6400 of the line with the least relative errors; in proportion to ISO if it fails."""
    if len(iso) > 1:
        slope, offset = np.polyfit(iso, gain, 1, w=1 / gain)
        if slope > 0 and offset + slope * min(100, iso[0]) > 0:
            return float(offset + 100 * slope), float(offset + 6400 * slope)
    rate = exp(np.log(gain / iso).mean())
    return 100 * rate, 6400 * rate


def _source(iso: np.ndarray, cameras: int) -> str:
    """What the figures say, and what they do not."""
    filled = "row noise, tails, spreads and black level errors"
    if len(iso) == 1:
        filled = f"the exponent of the read noise, {filled}"
    isos = ", ".join(f"{value:g}" for value in iso)
    return f"figures of gain and read noise at ISO {isos}; {filled} are those of {cameras} calibrated cameras"

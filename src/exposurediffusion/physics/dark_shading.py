"""What a sensor shows in the dark, and how a pair of exposures is made brighter: the two parts of PMN.

Feng et al., "Learnability Enhancement for Low-light Raw Denoising: Where Paired Real Data Meets Noise Modeling"
(ACM MM 2022): dark shading correction takes away the noise that is the same in every frame, shot-noise augmentation
makes more pairs from the pairs at hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

Window = tuple[int, int, int, int]
"""Top, left, height, width of a part of a frame, in packed pixels."""


@dataclass(frozen=True)
class DarkShading:
    """The mean dark frame of a sensor at any ISO: `BLE(ISO) + k(x, y) ISO + b(x, y)`, DN above the black level.

    Attributes:
        slope: k, DN per unit of ISO, on packed planes.
        offset: b, DN.
        black_level_error: (ISO, DN) in rising order; linear between them, held beyond them.
        saturation: white - black, DN.
    """

    slope: Float[Tensor, "planes h w"]
    offset: Float[Tensor, "planes h w"]
    black_level_error: tuple[tuple[float, float], ...]
    saturation: float

    def map(self, iso: float, window: Window | None = None) -> Float[Tensor, "planes h2 w2"]:
        """The dark shading at an ISO, DN: of the whole frame, or of a window of it."""
        _check_iso(iso)
        top, left, height, width = window or (0, 0, *self.slope.shape[-2:])
        part = (..., slice(top, top + height), slice(left, left + width))
        return torch.add(self.offset[part], self.slope[part], alpha=iso).add_(self.black_level_at(iso))

    def black_level_at(self, iso: float) -> float:
        """The black level error of the whole frame at an ISO, DN."""
        isos, errors = zip(*self.black_level_error, strict=True)
        return float(np.interp(iso, isos, errors))

    def correct(
        self, planes: Float[Tensor, "*b planes h w"], iso: float, ratio: float = 1.0, window: Window | None = None
    ) -> Float[Tensor, "*b planes h w"]:
        """Planes without the dark shading.

        Args:
            planes: of a capture, amplified by `ratio`: normalised (1), or at reference brightness.
            iso: of the capture.
            ratio: amplification.
            window: what part of the frame the planes are; None: all of it.

        Raises:
            ValueError: the planes are of another size than the dark frames were, or the window leaves them.
        """
        shading = self.map(iso, window)
        if planes.shape[-3:] != shading.shape or (window is not None and window[2:] != shading.shape[-2:]):
            (count, rows, columns), (own, *size) = planes.shape[-3:], self.slope.shape
            raise ValueError(
                f"{count} planes of {rows}x{columns} do not fit a dark shading of {own} planes of {size[0]}x{size[1]}"
                f"{f' at {window}' if window else ''}: take the dark frames with the same camera and picture size"
            )
        return planes - shading.to(planes).mul_(ratio / self.saturation)

    @staticmethod
    def fit(stacks: Mapping[float, Float[Tensor, "n planes h w"]], saturation: float) -> DarkShading:
        """From dark frames, in DN above the black level, stacked by ISO; see `from_means`."""
        return DarkShading.from_means({iso: stack.mean(dim=0) for iso, stack in stacks.items()}, saturation)

    @staticmethod
    def from_means(means: Mapping[float, Float[Tensor, "planes h w"]], saturation: float) -> DarkShading:
        """From the mean dark frame of each ISO, by least squares over the ISO in each pixel.

        Black level errors are medians over the frame, which hot pixels do not move; a hot pixel spoils no other. With
        one ISO only there is no slope: the shading is that ISO's at every ISO.

        Args:
            means: mean dark frames, DN above the black level, by ISO.
            saturation: white - black, DN.

        Raises:
            ValueError: no frames, frames of different sizes, or an impossible ISO.
        """
        if not means:
            raise ValueError("no dark frames: a dark shading needs some, best at several ISO settings")
        if len(shapes := {tuple(mean.shape) for mean in means.values()}) > 1:
            raise ValueError(f"dark frames of different sizes: {sorted(shapes)}")
        isos = np.array(sorted(means), dtype=float)
        for iso in isos:
            _check_iso(iso)
        spread = isos - isos.mean()
        rise = spread / max(float(spread @ spread), 1e-12)  # weights of the ISOs in the slope, and in the offset
        level = 1 / len(isos) - isos.mean() * rise
        errors = [float(means[iso].median()) for iso in isos]
        first = means[isos[0]]
        slope, offset = torch.zeros_like(first), torch.zeros_like(first)
        for iso, error, up, across in zip(isos, errors, rise.tolist(), level.tolist(), strict=True):
            slope.add_(means[iso] - error, alpha=up)
            offset.add_(means[iso] - error, alpha=across)
        # The median of a pattern that grows with the ISO does not grow in a straight line: what the line left is its.
        errors = [float((means[iso] - offset).sub_(slope, alpha=iso).median()) for iso in isos]
        return DarkShading(slope, offset, tuple(zip(isos.tolist(), errors, strict=True)), float(saturation))


def _check_iso(iso: float) -> None:
    if not (isfinite(iso) and iso > 0):
        raise ValueError(f"an ISO setting is a positive number, got {iso:g}")

"""The figures of the dark frames of one ISO, each with the interval that their scatter from frame to frame gives."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from exposurediffusion.calibration.interval import Interval
from exposurediffusion.calibration.tukey import TukeyFit
from exposurediffusion.physics.parameters import tukey_lambda_variance

SPECTRUM = 512
"""Figures of a spectrum that are kept."""
_OF_READ, _OF_SHAPE, _HALF, _OF_LINES = 0.002, 0.0015, 4.0, 0.15
"""What the method errs by, on simulated sensors: of the read noise; of lambda; times this where black is clipped; and
then of the offsets of rows and columns."""


@dataclass(frozen=True)
class DarkStack:
    """Of one ISO.

    Attributes:
        iso: the setting.
        frames: number of frames.
        level: black of each site of the first tile, DN, a figure of each frame, (frames, sites).
        variance: of the read noise without rows, columns and rounding, DN squared, (frames).
        row, column: variance of the offsets of rows and columns, DN squared, (frames); may be below 0 by chance.
        fits: the Tukey-lambda law of each frame.
        quantisation: width of the steps of the values, DN.
        clipped: the values end at black, so that half of the noise is lost. The rest is known from the other half; of
            the fixed pattern nothing is.
        hot: sites that stand out, (rows, columns) bool.
        mean: mean frame, DN above the black level that the file says, (rows, columns) float32.
        spectra: mean power of the offsets of rows and of columns over frequency, DN squared, (2, figures).
        plot: probability plot of the last frame: quantiles of the law of unit deviation, of the sample (DN).
    """

    iso: float
    frames: int
    level: np.ndarray
    variance: np.ndarray
    row: np.ndarray
    column: np.ndarray
    fits: tuple[TukeyFit, ...]
    quantisation: float
    clipped: bool
    hot: np.ndarray
    mean: np.ndarray
    spectra: np.ndarray = field(default_factory=lambda: np.zeros((2, SPECTRUM)))
    plot: tuple[np.ndarray, np.ndarray] = (np.zeros(0), np.zeros(0))

    @property
    def black(self) -> list[Interval]:
        """Black of each site of the first tile, DN."""
        return [Interval.of_mean(values) for values in self.level.T]

    @property
    def read(self) -> Interval:
        """Standard deviation of the read noise, DN."""
        found = Interval.of_mean(self.variance).root
        return found.widened(self._method * _OF_READ * found.value)

    @property
    def shape(self) -> Interval:
        """Of the Tukey-lambda law."""
        return Interval.of_mean(np.array([fit.shape for fit in self.fits])).widened(self._method * _OF_SHAPE)

    @property
    def scale(self) -> Interval:
        """Of the Tukey-lambda law, DN: the read noise over the law's own deviation."""
        units = np.array([float(tukey_lambda_variance(fit.shape)) for fit in self.fits])
        found = Interval.of_mean(np.sqrt(self.variance.clip(min=0) / units))
        return found.widened(self._method * (_OF_READ + 2 * _OF_SHAPE) * found.value)

    @property
    def rows(self) -> Interval:
        """Standard deviation of the offsets of rows, DN."""
        return self._of_lines(self.row)

    @property
    def columns(self) -> Interval:
        """Standard deviation of the offsets of columns, DN."""
        return self._of_lines(self.column)

    def _of_lines(self, variances: np.ndarray) -> Interval:
        found = Interval.of_mean(variances).root
        return found.widened(_OF_LINES * found.value) if self.clipped else found

    @property
    def _method(self) -> float:
        """How much more than with open black the method errs."""
        return _HALF if self.clipped else 1.0

    @property
    def drift(self) -> float:
        """Standard deviation of the black level from frame to frame, DN."""
        return float(np.std(self.level.mean(axis=1), ddof=1))

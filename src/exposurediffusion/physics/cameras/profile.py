"""A camera's profile: how a sensor's noise follows its gain, and the noise parameters of one shot."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from math import log
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from exposurediffusion.physics.cameras.profile_schema import read_fields
from exposurediffusion.physics.parameters import NoiseParameters, tukey_lambda_variance
from exposurediffusion.physics.sensor import SATURATION

NORMAL_SHAPE = 0.1349
"""Shape of the Tukey-lambda law that is nearest to the normal one: it has its kurtosis."""


@dataclass(frozen=True)
class LogLinear:
    """`log s = slope * log K + bias + sigma * N(0, 1)`: how a noise scale (DN) follows the gain."""

    slope: float
    bias: float
    sigma: float

    def median(self, gain: Tensor) -> Tensor:
        """The scale at `gain` without its spread."""
        return torch.exp(self.slope * torch.log(gain) + self.bias)

    def sample(self, gain: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A random scale for each gain."""
        spread = torch.randn(gain.shape, generator=generator, device=gain.device)
        return self.median(gain) * torch.exp(self.sigma * spread)


@dataclass(frozen=True)
class Setting:
    """What calibration measured at one ISO setting.

    Attributes:
        iso: the setting.
        gain: system gain K, DN per electron.
        gaussian_read: standard deviation of the read noise, without rows and columns, DN.
        tukey_read, tukey_shape: scale (DN) and shape of the Tukey-lambda law that fits the read noise best.
        row, column: standard deviations of the offsets of rows and columns, DN.
        quantisation: width of the steps of the values, DN.
    """

    iso: float
    gain: float
    gaussian_read: float
    tukey_read: float
    tukey_shape: float
    row: float = 0.0
    column: float = 0.0
    quantisation: float = 1.0


@dataclass(frozen=True)
class CameraProfile:
    """A calibrated camera.

    Attributes:
        name: short name, e.g. "SonyA7S2".
        exif_model: make and model as files give them.
        gain_iso_100, gain_iso_6400: K at the two ends, DN per electron; linear in ISO between and beyond.
        gaussian_read, tukey_read, row: log-linear laws of the scales.
        tukey_shapes: shapes seen in calibration.
        colour_bias: black level errors seen in calibration, DN per plane (R, G1, B, G2; nine of X-Trans).
        colour_matrix: XYZ (D65) -> camera RGB, row by row; empty: unknown.
        saturation: white - black of the calibration, DN.
        source: origin of the figures.
        defects: row and column of each defective site, of the profile of a single camera.
        settings: what was measured at each ISO, by rising ISO; empty: the laws alone are known.
        dark_shading: file of the dark shading (`datasets.dark_frames`), beside the profile; empty: none.
    """

    name: str
    exif_model: str
    gain_iso_100: float
    gain_iso_6400: float
    gaussian_read: LogLinear
    tukey_read: LogLinear
    row: LogLinear
    tukey_shapes: tuple[float, ...] = ()
    colour_bias: tuple[tuple[float, ...], ...] = ()
    colour_matrix: tuple[float, ...] = ()
    saturation: float = SATURATION
    source: str = ""
    defects: tuple[tuple[int, int], ...] = ()
    settings: tuple[Setting, ...] = ()
    dark_shading: str = ""

    @property
    def iso_range(self) -> tuple[float, float]:
        """First and last ISO setting of the calibration: those measured, else 100 and 6400."""
        return (self.settings[0].iso, self.settings[-1].iso) if self.settings else (100.0, 6400.0)

    def gain(self, iso: float) -> float:
        """K at an ISO setting, DN per electron: between measured settings in log-log, else by the line in ISO.

        Beyond the measured settings the line is scaled, so that it goes on from the last one.

        Raises:
            ValueError: ISO is not positive, or so low that the line gives no positive gain.
        """
        if not self.settings:
            return self._line(iso)
        end = self._held(iso)
        gain = self._measured(end, "gain")
        return gain if iso == end else gain * self._line(iso) / self._line(end)

    def _line(self, iso: float) -> float:
        """K by the line in ISO alone."""
        slope = (self.gain_iso_6400 - self.gain_iso_100) / 6300
        gain = self.gain_iso_100 + slope * (iso - 100)
        if not (iso > 0 and gain > 0):
            raise ValueError(f"no gain for ISO {iso:g} in the profile {self.name}")
        return gain

    def _held(self, iso: float) -> float:
        """The ISO, or the first or last measured setting where it is beyond them."""
        return min(max(iso, self.settings[0].iso), self.settings[-1].iso)

    def _measured(self, iso: float, name: str) -> float:
        """A field of `Setting`, between settings a power of the ISO, beyond them that of the last one.

        The shape, and what is not positive at both, is linear in the logarithm of the ISO.
        """
        index = bisect_right([setting.iso for setting in self.settings], iso) - 1
        low, high = self.settings[max(index, 0)], self.settings[min(index + 1, len(self.settings) - 1)]
        first, last = getattr(low, name), getattr(high, name)
        if first == last or iso <= low.iso:
            return first
        part = log(iso / low.iso) / log(high.iso / low.iso)
        if name == "tukey_shape" or min(first, last) <= 0:
            return first + part * (last - first)
        return first * (last / first) ** part

    def _scale(self, iso: float, name: Literal["gaussian_read", "tukey_read", "row", "column"]) -> float:
        """A scale of the noise by what was measured, DN; beyond the settings it follows its law from the last one.

        Columns have no law of their own: they follow that of the rows.
        """
        end, law = self._held(iso), self.row if name == "column" else getattr(self, name)
        return self._measured(end, name) * (self.gain(iso) / self.gain(end)) ** law.slope

    def _nearest(self, iso: float) -> Setting:
        """The measured setting that is nearest in the logarithm."""
        return min(self.settings, key=lambda setting: abs(log(setting.iso / iso)))

    @property
    def shapes(self) -> tuple[float, ...]:
        """Tukey-lambda shapes of the read noise: those listed, else those measured, else the normal law's."""
        return self.tukey_shapes or tuple(setting.tukey_shape for setting in self.settings) or (NORMAL_SHAPE,)

    @property
    def _tukey_law(self) -> LogLinear:
        """Of the scale that goes with `shapes`."""
        if self.tukey_shapes or self.settings:
            return self.tukey_read
        law, unit = self.gaussian_read, float(tukey_lambda_variance(NORMAL_SHAPE)) ** 0.5
        return replace(law, bias=law.bias - log(unit))

    @property
    def black_deviation(self) -> float:
        """Root mean square of the black level errors seen in calibration, DN; 0 without any."""
        errors = [value for row in self.colour_bias for value in row]
        return (sum(e**2 for e in errors) / max(1, len(errors))) ** 0.5

    def at_iso(self, iso: float, read: Literal["tukey", "gaussian"] = "tukey") -> NoiseParameters:
        """The typical noise at an ISO, with an unknown black level error: what was measured, else medians of the laws.

        Between measured settings scales are powers of the ISO, the shape is linear in its logarithm, and the rounding
        is that of the nearest; beyond them scales follow the laws from the last one. A profile without settings has
        the median of its shapes at every ISO; one without shapes has Gaussian tails, one
        without colour bias says nothing of its black level.

        Raises:
            ValueError: as for `gain`.
        """
        gain = torch.tensor([self.gain(iso)])
        tukey = read == "tukey"
        noise = NoiseParameters(
            gain,
            (self._tukey_law if tukey else self.gaussian_read).median(gain),
            self.row.median(gain),
            torch.tensor(self.shapes).median().reshape(1) if tukey else None,
            black=torch.tensor([self.black_deviation]) if self.colour_bias else None,
            saturation=self.saturation,
            source=f"profile {self.name} at ISO {iso:g}",
        )
        if not self.settings:
            return noise
        return replace(
            noise,
            read=torch.tensor([self._scale(iso, "tukey_read" if tukey else "gaussian_read")]),
            row=torch.tensor([self._scale(iso, "row")]),
            column=torch.tensor([self._scale(iso, "column")]) if self._has_columns else None,
            tukey_shape=torch.tensor([self._measured(iso, "tukey_shape")]) if tukey else None,
            quantisation=self._nearest(iso).quantisation,
        )

    def sample(
        self,
        gain: Float[Tensor, "b"],
        read: Literal["tukey", "gaussian"] = "tukey",
        colour_bias: bool = False,
        generator: torch.Generator | None = None,
    ) -> NoiseParameters:
        """Random parameters of a batch of captures at the given gains, drawn from the laws.

        The rounding is that of the measured setting with the nearest gain, and so is the deviation of columns, which
        follows the law of the rows from there. Black level errors are a row of the
        calibration's; of a profile without such rows for the four planes of a Bayer frame, normal with their deviation.
        """
        law = self._tukey_law if read == "tukey" else self.gaussian_read
        scale, row = law.sample(gain, generator), self.row.sample(gain, generator)
        return NoiseParameters(
            gain,
            scale,
            row,
            _choose(self.shapes, gain, generator) if read == "tukey" else None,
            quantisation=self._nearest_to(gain, "quantisation") if self.settings else 1.0,
            colour_bias=self._bias(gain, generator) if colour_bias else None,
            black=torch.full_like(gain, self.black_deviation) if colour_bias else None,
            saturation=self.saturation,
            source=f"drawn from the profile {self.name}",
            column=self._columns(gain) if self._has_columns else None,
        )

    @property
    def _has_columns(self) -> bool:
        return any(setting.column for setting in self.settings)

    def _columns(self, gain: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        """Standard deviation of the offsets of columns at each gain, DN."""
        return self._nearest_to(gain, "column") * (gain / self._nearest_to(gain, "gain")) ** self.row.slope

    def _nearest_to(self, gain: Float[Tensor, "b"], name: str) -> Float[Tensor, "b"]:
        """A field of the measured setting whose gain is nearest to each of these, in the logarithm."""
        gains, values = torch.tensor([(one.gain, getattr(one, name)) for one in self.settings], device=gain.device).T
        return values[(gain[:, None] / gains).log().abs().argmin(dim=1)]

    def _bias(self, gain: Float[Tensor, "b"], generator: torch.Generator | None) -> Float[Tensor, "b planes"]:
        """A black level error per plane of a Bayer frame, DN."""
        if self.colour_bias and len(self.colour_bias[0]) == 4:
            return _choose(self.colour_bias, gain, generator)
        return self.black_deviation * torch.randn((len(gain), 4), generator=generator, device=gain.device)

    def to_json(self) -> str:
        """The profile as JSON text, lists of numbers in one line each."""
        text = json.dumps(asdict(self), indent=1)
        return re.sub(r"\[\s+([-+.\d][^][{}\"]*?)\s+\]", lambda found: f"[{' '.join(found[1].split())}]", text)

    @staticmethod
    def from_json(text: str) -> CameraProfile:
        """Inverse of `to_json`.

        Raises:
            ValueError: it breaks the schema of profiles; the message names each field, and says what is wanted.
        """
        return CameraProfile.from_fields(read_fields(text))

    @staticmethod
    def from_fields(fields: Mapping[str, Any]) -> CameraProfile:
        """From fields that are known to be right, as the shipped profiles' are."""
        built = dict(fields)
        for law in ("gaussian_read", "tukey_read", "row"):
            built[law] = LogLinear(**fields[law])
        for name in ("tukey_shapes", "colour_matrix"):
            built[name] = tuple(fields.get(name, ()))
        built["colour_bias"] = tuple(tuple(row) for row in fields.get("colour_bias", ()))
        built["defects"] = tuple((int(row), int(column)) for row, column in fields.get("defects", ()))
        built["settings"] = tuple(Setting(**one) for one in fields.get("settings", ()))
        return CameraProfile(**built)


def _choose(rows: tuple, gain: Tensor, generator: torch.Generator | None) -> Tensor:
    """One random row of a calibration list per capture."""
    index = torch.randint(len(rows), gain.shape, generator=generator, device=gain.device)
    return torch.tensor(rows, device=gain.device)[index]

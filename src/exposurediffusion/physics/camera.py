"""Camera profiles: how a sensor's noise follows its gain, and the noise parameters of one shot.

The five calibrated cameras inside the package carry the figures of ELD (Wei et al., CVPR 2020 / TPAMI 2021; MIT).
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib import resources
from math import isfinite, log2, pi
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from exposurediffusion.physics.sensor import SATURATION


def tukey_lambda_variance(shape: float | Tensor) -> Float[Tensor, "*b"]:
    """Variance of the Tukey-lambda distribution of unit scale; infinite for shape <= -1/2 (pi^2/3 at 0)."""
    given = torch.as_tensor(shape, dtype=torch.float64)
    # The closed form cancels near 0, and has no value at and below -1/2.
    safe = torch.where((given.abs() < 1e-4) | (given <= -0.5), 1.0, given)
    ratio = torch.exp(2 * torch.lgamma(safe + 1) - torch.lgamma(2 * safe + 2))
    variance = 2 / safe**2 * (1 / (1 + 2 * safe) - ratio)
    variance = torch.where(given.abs() < 1e-4, pi**2 / 3, variance)
    return torch.where(given <= -0.5, torch.inf, variance)


@dataclass(frozen=True)
class NoiseParameters:
    """Noise of a batch of captures. All but `gain` and `tukey_shape` in DN of a camera with `saturation`.

    Attributes:
        gain: system gain K, DN per electron, shape (b).
        read: standard deviation (Gaussian) or scale (Tukey-lambda) of the read noise, (b).
        row: standard deviation of the offset of each sensor row, (b).
        tukey_shape: Tukey-lambda shape of the read noise, (b); None: Gaussian.
        quantisation: width of the uniform rounding error, DN; one for all or one for each.
        colour_bias: black level error per plane, (b, planes); None: none.
        black: standard deviation of an unknown error of the black level, (b); None: it is known to be right.
        saturation: white - black, DN.
        source: where these come from, for people.
    """

    gain: Float[Tensor, "b"]
    read: Float[Tensor, "b"]
    row: Float[Tensor, "b"]
    tukey_shape: Float[Tensor, "b"] | None = None
    quantisation: float | Float[Tensor, "b"] = 1.0
    colour_bias: Float[Tensor, "b planes"] | None = None
    black: Float[Tensor, "b"] | None = None
    saturation: float = SATURATION
    source: str = "given"

    @property
    def read_variance(self) -> Float[Tensor, "b"]:
        """Variance of everything that does not depend on light (read, row, rounding), DN squared."""
        unit = torch.ones_like(self.read)
        if self.tukey_shape is not None:
            unit = tukey_lambda_variance(self.tukey_shape).to(self.read)
        return self.read**2 * unit + self.row**2 + self.quantisation**2 / 12

    def __getitem__(self, images: slice) -> NoiseParameters:
        """Of some images of the batch."""
        own = {name: value[images] for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **own)

    @staticmethod
    def gaussian(gain: float, read: float, saturation: float = SATURATION, source: str = "given") -> NoiseParameters:
        """Shot noise and Gaussian read noise of a single capture; `read` is the whole light-free deviation in DN."""
        g, r = torch.tensor([float(gain)]), torch.tensor([float(read)])
        return NoiseParameters(g, r, torch.zeros(1), quantisation=0.0, saturation=saturation, source=source)

    def to(self, device: torch.device | str) -> NoiseParameters:
        """The same parameters on another device."""
        moved = {k: v.to(device, non_blocking=True) for k, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **moved)

    def rescaled(self, saturation: float) -> NoiseParameters:
        """The same noise for a raw with another range of DN.

        A difference of whole bits is another bit depth, by which every figure in DN is scaled; what remains (cameras
        of 14 bits have ranges from 13,000 to 16,000 DN) is a different full well, with the same DN.
        """
        s = 2.0 ** round(log2(saturation / self.saturation))
        return replace(
            self,
            gain=self.gain * s,
            read=self.read * s,
            row=self.row * s,
            quantisation=self.quantisation * s,
            colour_bias=None if self.colour_bias is None else self.colour_bias * s,
            black=None if self.black is None else self.black * s,
            saturation=saturation,
        )


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
        colour_bias: black level errors seen in calibration, DN per plane (R, G1, B, G2).
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

    def gain(self, iso: float) -> float:
        """K at an ISO setting, DN per electron.

        Raises:
            ValueError: ISO is not positive, or so low that the line gives no positive gain.
        """
        slope = (self.gain_iso_6400 - self.gain_iso_100) / 6300
        gain = self.gain_iso_100 + slope * (iso - 100)
        if not (iso > 0 and gain > 0):
            raise ValueError(f"no gain for ISO {iso:g} in the profile {self.name}")
        return gain

    @property
    def colours(self) -> tuple[float, ...]:
        """The colour matrix of simulated captures: its own, or the Sony A7S II's where it is unknown."""
        return self.colour_matrix or calibrated_cameras()["SonyA7S2"].colour_matrix

    @property
    def black_deviation(self) -> float:
        """Root mean square of the black level errors seen in calibration, DN; 0 without any."""
        errors = [value for row in self.colour_bias for value in row]
        return (sum(e**2 for e in errors) / max(1, len(errors))) ** 0.5

    def at_iso(self, iso: float, read: Literal["tukey", "gaussian"] = "tukey") -> NoiseParameters:
        """The typical noise at an ISO: medians of the laws, the median shape, an unknown black level error."""
        gain = torch.tensor([self.gain(iso)])
        law = self.tukey_read if read == "tukey" else self.gaussian_read
        shape = torch.tensor(self.tukey_shapes).median().reshape(1) if read == "tukey" else None
        return NoiseParameters(
            gain,
            law.median(gain),
            self.row.median(gain),
            shape,
            black=torch.tensor([self.black_deviation]),
            saturation=self.saturation,
            source=f"profile {self.name} at ISO {iso:g}",
        )

    def sample(
        self,
        gain: Float[Tensor, "b"],
        read: Literal["tukey", "gaussian"] = "tukey",
        colour_bias: bool = False,
        generator: torch.Generator | None = None,
    ) -> NoiseParameters:
        """Random parameters of a batch of captures at the given gains, drawn from the laws."""
        law = self.tukey_read if read == "tukey" else self.gaussian_read
        return NoiseParameters(
            gain,
            law.sample(gain, generator),
            self.row.sample(gain, generator),
            _choose(self.tukey_shapes, gain, generator) if read == "tukey" else None,
            colour_bias=_choose(self.colour_bias, gain, generator) if colour_bias else None,
            black=torch.full_like(gain, self.black_deviation) if colour_bias else None,
            saturation=self.saturation,
            source=f"drawn from the profile {self.name}",
        )

    def to_json(self) -> str:
        """The profile as JSON text."""
        return json.dumps(asdict(self), indent=1)

    @staticmethod
    def from_json(text: str) -> CameraProfile:
        """Inverse of `to_json`.

        Raises:
            ValueError: not JSON, a field missing or unknown, or a number that makes no sense.
        """
        try:
            fields = json.loads(text)
            for law in ("gaussian_read", "tukey_read", "row"):
                fields[law] = LogLinear(**fields[law])
            fields["tukey_shapes"] = tuple(fields.get("tukey_shapes", ()))
            fields["colour_bias"] = tuple(tuple(row) for row in fields.get("colour_bias", ()))
            fields["colour_matrix"] = tuple(fields.get("colour_matrix", ()))
            fields["defects"] = tuple((int(row), int(column)) for row, column in fields.get("defects", ()))
            fields["settings"] = tuple(Setting(**one) for one in fields.get("settings", ()))
            profile = CameraProfile(**fields)
            laws = (profile.gaussian_read, profile.tukey_read, profile.row)
            numbers = [value for law in laws for value in (law.slope, law.bias, law.sigma)]
            numbers += [
                *profile.tukey_shapes,
                *profile.colour_matrix,
                *(value for row in profile.colour_bias for value in row),
            ]
            if not all(isfinite(value) for value in [profile.gain_iso_100, profile.gain_iso_6400, *numbers]):
                raise ValueError("a number is not finite")
            if len(profile.colour_matrix) not in (0, 9):
                raise ValueError("colour_matrix has 9 numbers")
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            raise ValueError(f"not a camera profile ({error})") from error
        if not (0 < profile.gain_iso_100 < profile.gain_iso_6400 and profile.saturation > 0):
            raise ValueError("not a camera profile (gains must be positive and rise with ISO)")
        return profile


def _choose(rows: tuple, gain: Tensor, generator: torch.Generator | None) -> Tensor:
    """One random row of a calibration list per capture."""
    index = torch.randint(len(rows), gain.shape, generator=generator, device=gain.device)
    return torch.tensor(rows, device=gain.device)[index]


@cache
def calibrated_cameras() -> dict[str, CameraProfile]:
    """The profiles inside the package, by name."""
    files = sorted(resources.files("exposurediffusion.physics").joinpath("cameras").iterdir(), key=lambda f: f.name)
    profiles = [CameraProfile.from_json(f.read_text()) for f in files if f.name.endswith(".json")]
    return {profile.name: profile for profile in profiles}


def find_camera(model: str) -> CameraProfile | None:
    """The calibrated profile whose camera a file's make and model name, or None. Ignores case and punctuation."""

    def plain(text: str) -> str:
        return re.sub(r"[^a-z0-9]", "", text.lower())

    wanted = plain(model)
    for profile in calibrated_cameras().values():
        if wanted and wanted in (plain(profile.name), plain(profile.exif_model)):
            return profile
        if wanted and wanted.endswith(plain(profile.exif_model.split(" ", 1)[-1])):
            return profile
    return None


def load_profile(name_or_file: str) -> CameraProfile:
    """A profile by name ("SonyA7S2"), by the camera's model, or from a JSON file.

    Raises:
        ValueError: neither; the message lists what is known.
    """
    if (profile := find_camera(name_or_file)) is not None:
        return profile
    path = Path(name_or_file)
    if path.is_file():
        try:
            profile = CameraProfile.from_json(path.read_text())
        except (ValueError, OSError) as error:
            raise ValueError(f"{path}: {error}") from error
        beside = profile.dark_shading and str(path.resolve().parent / profile.dark_shading)
        return replace(profile, dark_shading=beside)
    known = ", ".join(calibrated_cameras())
    raise ValueError(f"no camera profile {name_or_file!r}: give a JSON file or one of {known}")

"""The sensor, a raw frame, and the units between them: digital numbers (DN), normalised values, electrons.

Normalised: black level 0, white level 1; a value may be negative (noise around black) and is never clipped here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from exposurediffusion.physics.mosaic import CFA, pack, unpack

SATURATION = 15583.0
"""White minus black in DN that the published experiments fix for 14-bit cameras."""

LARGEST_LEVEL = 1e9
"""Black and white levels that are beyond it, DN, are no sensor's."""


@dataclass(frozen=True)
class Sensor:
    """What is needed to read a mosaic.

    Attributes:
        cfa: the colour filter array of the frame.
        black_level: DN at no light, one per site of the frame's first tile, in reading order (4 or 36 numbers).
        white_level: DN at which the sensor saturates.
    """

    cfa: CFA
    black_level: tuple[float, ...]
    white_level: float

    def __post_init__(self) -> None:
        sites = self.cfa.period**2
        if len(self.black_level) != sites:
            raise ValueError(f"{self.cfa.name} needs {sites} black levels, got {len(self.black_level)}")
        if not all(abs(level) <= LARGEST_LEVEL for level in (*self.black_level, self.white_level)):
            levels = ", ".join(f"{level:g}" for level in (*self.black_level[:4], self.white_level))
            raise ValueError(f"black and white levels {levels} are not all numbers up to {LARGEST_LEVEL:g}")
        if not self.white_level > max(self.black_level):
            raise ValueError(f"white level {self.white_level:g} is not above the black level {max(self.black_level):g}")

    @staticmethod
    def uniform(cfa: CFA, black_level: float, white_level: float) -> Sensor:
        """A sensor with one black level for every site."""
        return Sensor(cfa, (float(black_level),) * cfa.period**2, float(white_level))

    @property
    def saturation(self) -> float:
        """White minus mean black, DN."""
        return self.white_level - float(np.mean(self.black_level))

    def normalise(self, mosaic: np.ndarray) -> Float[Tensor, "rows columns"]:
        """DN -> normalised, float32."""
        out = torch.as_tensor(np.ascontiguousarray(mosaic).astype(np.float32))
        for rows, columns, black in self.sites:
            out[rows, columns] = (out[rows, columns] - black) / (self.white_level - black)
        return out

    def digitise(self, values: Float[Tensor, "rows columns"]) -> np.ndarray:
        """Normalised -> DN, float32, neither rounded nor clipped. Inverse of `normalise`."""
        out = values.detach().to("cpu", torch.float32).clone()
        for rows, columns, black in self.sites:
            out[rows, columns] = out[rows, columns] * (self.white_level - black) + black
        return out.numpy()

    def shifted(self, rows: int, columns: int) -> Sensor:
        """The sensor as seen by a frame that begins `rows` and `columns` further on."""
        black = self.black((self.cfa.period, self.cfa.period), rows, columns)
        return Sensor(self.cfa.shifted(rows, columns), tuple(black.ravel().tolist()), self.white_level)

    def black(self, shape: tuple[int, int], top: int = 0, left: int = 0) -> np.ndarray:
        """DN at no light of each site of a window of `shape`, (rows, columns) float64.

        Args:
            shape: rows and columns of the window.
            top, left: its first site, counted from the first site of the frame; may be negative.
        """
        period = self.cfa.period
        rows, columns = ((start + np.arange(n)) % period for start, n in zip((top, left), shape, strict=True))
        return np.reshape(self.black_level, (period, period))[np.ix_(rows, columns)]

    @property
    def sites(self) -> list[tuple[slice, slice, float]]:
        """Rows and columns of the sites that are like one of the first tile, and their black, DN; in reading order."""
        period = self.cfa.period
        return [
            (slice(i // period, None, period), slice(i % period, None, period), black)
            for i, black in enumerate(self.black_level)
        ]


@dataclass(frozen=True)
class Metadata:
    """What a file says about its frame; None where it says nothing.

    Attributes:
        make, model: of the camera.
        iso: sensitivity setting.
        shutter: exposure time in seconds.
        aperture, focal_length: f-number; millimetres.
        lens: model of the lens.
        orientation: EXIF orientation, 1..8.
        as_shot_neutral: camera RGB of a neutral at the shot's white balance, green = 1 (DNG's AsShotNeutral).
        colour_matrix: 3x3 from CIE XYZ to camera RGB (DNG's ColorMatrix), rows flattened.
        illuminant: EXIF LightSource code for which `colour_matrix` holds (21 = D65).
        baseline_exposure: EV by which a viewer should brighten the frame.
        noise_profile: DNG NoiseProfile, pairs (S, O) so that variance = S x + O of normalised x.
        crop: left, top, width, height of the part to show, in sites of the frame; None: all.
        user_crop: top, left, bottom, right of what the photographer chose to show, parts (0..1) of `crop`; None: all.
        pixel_aspect: width of a site over its height.
        source: path of the file.
        history: how a computed frame came about, names to values; None: it is as it was taken.
    """

    make: str | None = None
    model: str | None = None
    iso: float | None = None
    shutter: float | None = None
    aperture: float | None = None
    focal_length: float | None = None
    lens: str | None = None
    orientation: int = 1
    as_shot_neutral: tuple[float, float, float] | None = None
    colour_matrix: tuple[float, ...] | None = None
    illuminant: int = 21
    baseline_exposure: float = 0.0
    noise_profile: tuple[float, ...] | None = None
    crop: tuple[int, int, int, int] | None = None
    user_crop: tuple[float, float, float, float] | None = None
    pixel_aspect: float = 1.0
    source: str | None = None
    history: Mapping[str, str] | None = None

    @property
    def camera(self) -> str:
        """Make and model in one line, the make not said twice."""
        make, model = (self.make or "").strip(), (self.model or "").strip()
        return model if model.lower().startswith(make.lower()) else f"{make} {model}".strip()


@dataclass(frozen=True)
class MaskedArea:
    """A light-free margin of the sensor.

    Attributes:
        values: (rows, columns) float32, DN minus the black level of each site.
        top, left: row and column of its first site, counted from the first site of the visible frame (may be negative).
    """

    values: np.ndarray
    top: int
    left: int


@dataclass(frozen=True)
class RawFrame:
    """One raw photograph: the visible mosaic in DN, the sensor that reads it, and what the file says.

    Attributes:
        mosaic: (rows, columns), uint16 as read or float32 as computed, DN including the black level.
        sensor: colour filter array and levels.
        metadata: from the file.
        optical_black: the masked (light-free) margins; empty where the file has none.
        defects: row and column of each site that the file lists as defective, (n, 2) integers; None: no list.
        notes: what is odd about the file and what to do about it, a sentence each, for people.
        tags: what else the file says, for those that are written from the frame (`files.exif.FileTags`); None: nothing.
    """

    mosaic: np.ndarray
    sensor: Sensor
    metadata: Metadata = field(default_factory=Metadata)
    optical_black: tuple[MaskedArea, ...] = ()
    defects: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    tags: Any = None

    def __post_init__(self) -> None:
        if self.mosaic.ndim != 2:
            raise ValueError(f"a mosaic has two dimensions, not shape {self.mosaic.shape}")

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns in sites."""
        return int(self.mosaic.shape[0]), int(self.mosaic.shape[1])

    @property
    def planes(self) -> Float[Tensor, "planes h w"]:
        """The normalised colour planes (computed anew at each access)."""
        return pack(self.sensor.normalise(self.mosaic), self.sensor.cfa)

    def with_planes(self, planes: Float[Tensor, "planes h w"], **metadata: Any) -> RawFrame:
        """The same frame with other normalised values (float32 DN), and changed metadata fields."""
        values = unpack(planes, self.sensor.cfa, self.shape)
        return replace(self, mosaic=self.sensor.digitise(values), metadata=replace(self.metadata, **metadata))


def electrons_per_unit(
    ratio: Float[Tensor, "b"] | float, gain: Float[Tensor, "b"] | float, saturation: float = SATURATION
) -> Float[Tensor, "b"] | float:
    """Electrons that the *capture* collected where an image at reference brightness has the value 1.

    Args:
        ratio: amplification lambda_ref / lambda_T, >= 1.
        gain: K, DN per electron.
        saturation: white - black, DN.
    """
    return saturation / (ratio * gain)


def photon_counts(
    state: Float[Tensor, "b c h w"],
    exposure: Float[Tensor, "b"],
    ratio: Float[Tensor, "b"],
    gain: Float[Tensor, "b"],
    saturation: float = SATURATION,
) -> Float[Tensor, "b c h w"]:
    """Electrons of a state at reference brightness: `state * exposure * saturation / (ratio * gain)`."""
    return state * (exposure * electrons_per_unit(ratio, gain, saturation)).reshape(-1, 1, 1, 1)

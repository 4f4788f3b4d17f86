"""Sensors whose every parameter is known: dark and flat frames in memory, and cameras that nobody made."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import exp, log
from pathlib import Path

import numpy as np
import torch

from exposurediffusion.calibration.shots import Shot
from exposurediffusion.physics.cameras.figures import profile_of_figures
from exposurediffusion.physics.cameras.profile import CameraProfile
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.physics.noise import tukey_lambda
from exposurediffusion.physics.poisson import poisson
from exposurediffusion.physics.sensor import Metadata, RawFrame, Sensor


@dataclass(frozen=True)
class HeldShot(Shot):
    """A shot whose frame is in memory."""

    frame: RawFrame | None = None

    def read(self) -> RawFrame:
        """The frame, as it is."""
        assert self.frame is not None
        return self.frame


@dataclass
class SimulatedSensor:
    """A sensor at one ISO.

    Attributes:
        seed: of its fixed pattern and of every draw.
        shape: rows and columns.
        gain: DN per electron.
        scale, tukey: of the Tukey-lambda read noise, DN.
        row, column: standard deviations of the offsets, DN.
        black, white: levels that its files say, DN.
        errors: of the black level of each site of the first tile, DN; one for all, or one for each.
        grain, shading: standard deviation of the fixed pattern, and its rise from the first row to the last, DN.
        hot: number of hot sites.
        step: width of the steps of its values, DN.
        floor: DN below which nothing is recorded.
        bend: part of the signal that is lost at white, in proportion to the signal below.
        iso: that its files say.
        cfa: colour filter array.
    """

    seed: int
    shape: tuple[int, int] = (128, 128)
    gain: float = 1.5
    scale: float = 1.8
    tukey: float = -0.1
    row: float = 0.6
    column: float = 0.3
    black: float = 512.0
    white: float = 16383.0
    errors: tuple[float, ...] = (0.0,)
    grain: float = 0.5
    shading: float = 2.0
    hot: int = 30
    step: float = 1.0
    floor: float = 0.0
    bend: float = 0.0
    iso: float = 800.0
    cfa: str = "RGGB"
    hot_sites: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        random = np.random.default_rng(self.seed)
        self._generator = torch.Generator().manual_seed(self.seed)
        self.sensor = Sensor.uniform(CFA(self.cfa), self.black, self.white)
        pattern = random.normal(0, self.grain, self.shape) + self.shading * np.linspace(0, 1, self.shape[0])[:, None]
        errors = np.resize(np.array(self.errors), len(self.sensor.sites))
        for (rows, columns, _), error in zip(self.sensor.sites, errors, strict=True):
            pattern[rows, columns] += error
        self.hot_sites = np.zeros(self.shape, bool)
        self.hot_sites.ravel()[random.choice(pattern.size, self.hot, replace=False)] = True
        pattern[self.hot_sites] += random.uniform(40, 0.1 * self.white, self.hot) * self.scale
        self._pattern = torch.from_numpy(pattern)

    def frame(self, electrons: np.ndarray | float = 0.0) -> RawFrame:
        """A frame of so many expected electrons at each site."""
        generator, (height, width) = self._generator, self.shape
        light = torch.as_tensor(electrons, dtype=torch.float32).expand(self.shape).contiguous()
        values = self.gain * poisson(light, generator).double() if float(light.max()) > 0 else light.double()
        values = values * (1 - self.bend * (values / (self.white - self.black)).clamp(0, 1))
        values += self._pattern + self.black
        values += self.scale * tukey_lambda(torch.tensor([self.tukey]), (1, height, width), generator)[0]
        values += self.row * torch.randn((height, 1), generator=generator)
        values += self.column * torch.randn((1, width), generator=generator)
        recorded = (values / self.step).round() * self.step
        mosaic = recorded.clamp(self.floor, self.white).numpy().astype(np.uint16)
        return RawFrame(mosaic, self.sensor, Metadata(make="Acme", model="Acme One", iso=self.iso))

    def darks(self, count: int) -> list[Shot]:
        """Dark frames."""
        return [self.shot(f"dark-{number:03}", self.frame()) for number in range(count)]

    def flats(self, pairs: int, fullest: float = 0.7, falloff: float = 0.3) -> list[Shot]:
        """Pairs of flat frames, the brightest `fullest` of white, each pair 1.35 times as bright as that before.

        The corner is darker than the middle by `falloff`; pairs differ by half a percent in light.
        """
        y, x = (np.linspace(-1, 1, n) ** 2 for n in self.shape)
        lit = 1 - falloff * np.add.outer(y, x) / 2
        full = fullest * (self.white - self.black) / self.gain
        shots = []
        for pair in range(pairs):
            for number, flicker in enumerate((1.0, 1.005)):
                electrons = full * 1.35 ** (pair + 1 - pairs) * flicker
                shutter = 1 / 2 ** (pairs - pair)
                shots.append(self.shot(f"flat-{pair:02}-{number}", self.frame(electrons * lit), shutter))
        return shots

    def shot(self, name: str, frame: RawFrame, shutter: float | None = None) -> HeldShot:
        """A frame as one of the shots of this ISO."""
        return HeldShot(Path(f"{name}.dng"), self.iso, shutter, "Acme One", frame=frame)


def drawn_camera(seed: int) -> CameraProfile:
    """A camera that is none of the calibrated ones: gain, read noise, tails and rows as `WideNoise` invents them."""
    random = np.random.default_rng(seed)
    rate, electrons, after = (exp(random.uniform(log(a), log(b))) for a, b in ((3e-4, 6e-3), (0.7, 6.0), (0.3, 6.0)))
    figures = [(iso, rate * iso, ((electrons * rate * iso) ** 2 + after**2) ** 0.5) for iso in (100.0, 800.0, 6400.0)]
    return profile_of_figures(f"drawn {seed}", figures)

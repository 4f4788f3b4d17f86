"""`expose calibrate` on sensors whose every parameter is known: do the intervals hold what they say?

    python benchmarks/profiles.py [--draws 100] [--side 512] [--darks 32] [--pairs 16]
    python benchmarks/profiles.py --stack 200 --megapixels 24

The first draws sensors (half of them from the five calibrated cameras, half far from all of them; with hot sites,
shading, rows and columns; of 12 and 14 bits; one in four clips black), calibrates each, and prints for every parameter
how often its 95 % interval holds the truth, and the errors. The second calibrates one large stack of dark frames and
prints the time and the peak of memory; frames are made as they are read.
"""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass
from math import exp, log
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from common import machine
from sensors import HeldShot, SimulatedSensor

from exposurediffusion.calibration.calibrate import calibrate
from exposurediffusion.calibration.darks import measure_darks
from exposurediffusion.calibration.interval import Interval
from exposurediffusion.physics.camera import calibrated_cameras, tukey_lambda_variance
from exposurediffusion.physics.sensor import RawFrame


def draw(seed: int, side: int) -> SimulatedSensor:
    """A sensor: every second one of a calibrated camera at a random ISO."""
    random = np.random.default_rng(seed)

    def between(low: float, high: float) -> float:
        return exp(random.uniform(log(low), log(high)))

    clipped = seed % 4 == 3
    black = 600.0 if clipped else 512.0
    common: dict[str, Any] = {"shape": (side, side), "hot": side * side // 2000, "black": black}
    common |= {"floor": black if clipped else 0.0, "shading": 0.0 if clipped else between(0.2, 5.0)}
    common |= {"grain": between(0.1, 0.5), "column": between(0.05, 0.5)}
    errors = (0.0,) if clipped else tuple(random.normal(0, 1.0, 4))
    if seed % 2:
        names = sorted(calibrated_cameras())
        camera = calibrated_cameras()[names[seed // 2 % len(names)]]
        generator = torch.Generator().manual_seed(seed)
        noise = camera.sample(torch.tensor([camera.gain(between(100, 6400))]), "tukey", False, generator)
        drawn = (float(x) for x in (noise.gain, noise.read, noise.tukey_shape, noise.row))
        gain, scale, tukey, row = drawn
        return SimulatedSensor(seed, gain=gain, scale=scale, tukey=tukey, row=row, errors=errors, **common)
    bits = 12 if seed % 4 == 2 else 14
    white = 2.0**bits - 1
    common |= {"black": 128.0 if bits == 12 else black, "white": white}
    tukey = float(random.uniform(-0.25, 0.14))
    deviation = between(0.7, 12.0)
    scale = deviation / float(tukey_lambda_variance(tukey)) ** 0.5
    row = deviation * between(0.02, 0.3)
    return SimulatedSensor(seed, gain=between(0.05, 4.0), scale=scale, tukey=tukey, row=row, errors=errors, **common)


def judge(sensor: SimulatedSensor, darks: int, pairs: int) -> dict[str, tuple[Interval, float]]:
    """Interval and truth of each parameter."""
    made = calibrate(sensor.darks(darks), sensor.flats(pairs))
    dark = made.darks[sensor.iso]
    deviation = sensor.scale * float(tukey_lambda_variance(sensor.tukey)) ** 0.5
    level = sensor.black + np.resize(np.array(sensor.errors), 4) + sensor.shading / 2
    found = {
        "gain": (made.gains[sensor.iso], sensor.gain),
        "read noise": (dark.read, deviation),
        "scale": (dark.scale, sensor.scale),
        "lambda": (dark.shape, sensor.tukey),
        "rows": (dark.rows, sensor.row),
        "columns": (dark.columns, sensor.column),
    }
    # The grain's own mean is part of the black level, and is not known exactly.
    slack = 3 * sensor.grain / np.sqrt(np.prod(sensor.shape) / 4)
    black = dark.black[0]
    found["black"] = (Interval(black.value, black.low - slack, black.high + slack), float(level[0]))
    return found


@dataclass(frozen=True)
class _Endless(HeldShot):
    """A shot whose frame is made when it is read."""

    sensor_of: SimulatedSensor | None = None

    def read(self) -> RawFrame:
        """Another frame each time."""
        assert self.sensor_of is not None
        return self.sensor_of.frame()


def measure_stack(count: int, megapixels: float) -> None:
    """Time and memory of a stack."""
    side = int((megapixels * 1e6) ** 0.5) // 2 * 2
    sensor = SimulatedSensor(1, shape=(side, side), hot=2000)
    started = time.perf_counter()
    sensor.frame()
    making = time.perf_counter() - started
    shots = [_Endless(Path(f"{number}.dng"), 800.0, sensor_of=sensor) for number in range(count)]
    started = time.perf_counter()
    dark = measure_darks(shots, shots[0], sensor.frame(), print, lambda: None)
    wall = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{count} dark frames of {side}x{side}: read noise {dark.read}, lambda {dark.shape}")
    print(f"{wall:.0f} s, of which making the frames twice took about {2 * count * making:.0f} s; peak {peak:.2f} GB")


def main(draws: int = 100, side: int = 512, darks: int = 32, pairs: int = 16, stack: int = 0, megapixels: float = 24):
    """Run it; see the module's docstring."""
    print(machine())
    if stack:
        measure_stack(stack, megapixels)
        return
    inside: dict[str, list[bool]] = {}
    errors: dict[str, list[float]] = {}
    for seed in range(draws):
        for name, (interval, truth) in judge(draw(seed, side), darks, pairs).items():
            inside.setdefault(name, []).append(interval.low <= truth <= interval.high)
            off = interval.value - truth
            errors.setdefault(name, []).append(off if name in ("lambda", "black") else off / truth)
    print(f"{draws} sensors of {side}x{side}, {darks} darks and {pairs} pairs of flats each")
    for name, hits in inside.items():
        off = np.abs(errors[name])
        kind = "" if name in ("lambda", "black") else " of it"
        print(f"{name:10} in its interval {sum(hits):3} of {len(hits)}; error: median {np.median(off):.4f}{kind}, "
              f"95 % below {np.quantile(off, 0.95):.4f}, largest {off.max():.4f}")  # fmt: skip


if __name__ == "__main__":
    tyro.cli(main)

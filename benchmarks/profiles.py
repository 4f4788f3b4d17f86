"""`expose calibrate` on sensors whose every parameter is known: do the intervals hold what they say?

    python benchmarks/profiles.py [--draws 100] [--side 512] [--darks 32] [--pairs 16]
    python benchmarks/profiles.py --stack 200 [--megapixels 24] [--isos 8]
    python benchmarks/profiles.py --photographs FOLDER [--draws 5] [--decibels]

The first draws sensors (half of them from the five calibrated cameras, half far from all of them; with hot sites,
shading, rows and columns; of 12 and 14 bits; one in four clips black), calibrates each, and prints for every parameter
how often its 95 % interval holds the truth, and the errors. The second calibrates one large stack of dark frames and
prints the time and the peak of memory; frames are made as they are read.
"""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass
from functools import cache
from math import exp, log
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from common import machine
from estimation import cases, loss
from sensors import HeldShot, SimulatedSensor, drawn_camera

from exposurediffusion.analysis.estimation import estimate_noise
from exposurediffusion.calibration.calibration import calibrate, readings
from exposurediffusion.calibration.interval import Interval
from exposurediffusion.calibration.photographs import figures_of_photographs
from exposurediffusion.calibration.shots import Shot
from exposurediffusion.physics.cameras.figures import profile_of_figures
from exposurediffusion.physics.cameras.known import calibrated_cameras
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.physics.parameters import tukey_lambda_variance
from exposurediffusion.physics.sensor import RawFrame, Sensor
from exposurediffusion.weights.file import load


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
        assert noise.tukey_shape is not None
        gain, scale, tukey, row = (float(x) for x in (noise.gain, noise.read, noise.tukey_shape, noise.row))
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


_HELD = 4_000_037  # normal numbers that frames are made of: a prime, so that rows differ


@cache
def _normals() -> np.ndarray:
    return np.random.default_rng(0).standard_normal(_HELD, np.float32)


@dataclass(frozen=True)
class _Quick(Shot):
    """A frame of normal noise that is made when it is read, `electrons` bright; the noise is the same, moved along."""

    shape: tuple[int, int] = (0, 0)
    electrons: float = 0.0

    def read(self) -> RawFrame:
        """Another frame each time."""
        gain = self.iso / 400
        values = np.resize(np.roll(_normals(), np.random.default_rng().integers(_HELD)), self.shape)
        values *= (16 * gain + gain**2 * self.electrons) ** 0.5
        values += 512 + gain * self.electrons
        return RawFrame(np.rint(values, out=values).astype(np.uint16), Sensor.uniform(CFA("RGGB"), 512, 16383))


def measure_stack(count: int, megapixels: float, isos: int) -> None:
    """Time and memory of dark frames at several ISOs, with four pairs of flats at each."""
    side = int((megapixels * 1e6) ** 0.5) // 2 * 2
    shape, settings = (side, side), [100.0 * 2**number for number in range(isos)]
    darks = [_Quick(Path(f"{n}.dng"), settings[n * isos // count], shape=shape) for n in range(count)]
    flats = [
        _Quick(Path(f"{iso}-{n}.dng"), iso, 1.0 + n // 2, shape=shape, electrons=400 / iso * 1000 * (1 + n // 2))
        for iso in settings
        for n in range(8)
    ]
    _normals()
    started = time.perf_counter()
    darks[0].read()
    making = time.perf_counter() - started
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    made = calibrate(darks, flats)
    profile, shading = made.profile(), made.shading
    wall = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{count} dark frames and {len(flats)} flats of {side}x{side}, {isos} ISOs")
    print(f"{len(profile.settings)} settings, {'a' if shading else 'no'} dark shading")
    read = readings(darks, flats)
    print(f"{wall:.0f} s for {read} readings, of which making them took about {read * making:.0f} s; "
          f"peak {peak:.2f} GB ({before:.2f} before)")  # fmt: skip


def measure_photographs(folder: Path, draws: int) -> None:
    """Relative errors of gain and light-free noise: single frames, and all of a camera."""
    cameras = calibrated_cameras() | {f"drawn {seed}": drawn_camera(seed) for seed in range(draws)}
    singles: list[tuple[float, float]] = []
    print(
        "camera, frames: error of gain and of read noise (light-free, without rows) by all frames, % (read: worst ISO)"
    )
    for name, camera in cameras.items():
        shots, truths = [], {}
        for place, (_, iso, _, short, noise) in enumerate(cases(folder, {name: camera})):
            shots.append(HeldShot(Path(f"{place}.dng"), float(iso), frame=short))
            truth = float(noise.gain), float(noise.read_variance - noise.row**2) ** 0.5
            truths.setdefault(float(iso), []).append(truth)
            found = estimate_noise(short)
            read = float(found.read_variance - found.row**2) ** 0.5
            singles.append((log(float(found.gain) / truth[0]), log(read / truth[1])))
        figures, _ = figures_of_photographs(shots, print, lambda: None)
        gain = max(abs(log(own / truths[iso][0][0])) for iso, own, _ in figures)
        reads = [(iso, log(own / np.median([truth for _, truth in truths[iso]]))) for iso, _, own in figures]
        told = ", ".join(f"{100 * off:+.1f} % at ISO {iso:g}" for iso, off in reads)
        print(f"{name:14} {len(shots):3} frames: gain {100 * gain:5.1f} %, read noise {told}", flush=True)
    off = 100 * np.abs(np.array(singles))
    for place, what in enumerate(("gain", "read noise")):
        median, most = np.quantile(off[:, place], (0.5, 0.9))
        print(f"single frames, {what}: median {median:.1f} %, 90 % below {most:.1f} %")


def measure_decibels(folder: Path, draws: int) -> None:
    """PSNR that `enhance` (T = 0) loses by what it is told of the noise, on cameras drawn far from the calibrated ones.

    Told: an estimate of the frame alone; the profile of all photographs of the camera; the profile of another camera.
    """
    model, another = load("default"), calibrated_cameras()["SonyA7S2"]
    lost: dict[str, list[float]] = {"the frame's estimate": [], "profile of photographs": [], "another camera's": []}
    for seed in range(draws):
        every = list(cases(folder, {f"drawn {seed}": drawn_camera(seed)}))
        shots = [HeldShot(Path(f"{place}.dng"), float(case[1]), frame=case[3]) for place, case in enumerate(every)]
        profile = profile_of_figures("photographs", figures_of_photographs(shots, print, lambda: None)[0])
        for case in every[:: len(every) // 10 + 1]:
            iso, saturation = float(case[1]), case[3].sensor.saturation
            told = [own.at_iso(iso).rescaled(saturation) for own in (profile, another)]
            for own, noise in zip(lost.values(), (estimate_noise(case[3]), *told), strict=True):
                own.append(loss(case, model, noise))
        print(f"drawn {seed}: " + ", ".join(f"{name} {np.mean(own):.2f}" for name, own in lost.items()), flush=True)
    for name, own in lost.items():
        print(f"{name}: {np.mean(own):.2f} dB lost on average of {len(own)} frames, at worst {np.max(own):.2f}")


def main(
    draws: int = 100,
    side: int = 512,
    darks: int = 32,
    pairs: int = 16,
    stack: int = 0,
    megapixels: float = 24,
    isos: int = 8,
    photographs: Path | None = None,
    decibels: bool = False,
):
    """Run it; see the module's docstring."""
    print(machine())
    if stack:
        measure_stack(stack, megapixels, isos)
        return
    if photographs:
        (measure_decibels if decibels else measure_photographs)(photographs, draws)
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

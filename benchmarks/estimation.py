"""The noise that is estimated from one frame against the true one, on scenes that were not trained on.

    python benchmarks/estimation.py --images FOLDER [--draws N] [--every N] [--decibels]

Each scene of `heldout.py` is recorded by the five calibrated cameras at five ISOs, dark as in SID, and bright at base
ISO; with `--draws` by as many cameras that were drawn far from these five instead. Printed by setting: quantiles (5,
50, 95 %) of the estimated over the true gain, light-free deviation, and deviation of the frame's mean signal; shares
within 15 % (gain) and 25 % (light-free); with `--decibels` the PSNR that `enhance` (T = 0) loses by the estimate: mean
and worst. A frame without masked sites does not show its row noise, so this is left out of the light-free deviation.
`wrongly`: frames whose estimate overruled the camera's profile.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from math import exp, log
from pathlib import Path

import numpy as np
import torch
import tyro
from heldout import scenes
from sensors import drawn_camera

from exposurediffusion.analysis.estimation import estimate_noise
from exposurediffusion.analysis.sources import noise_of
from exposurediffusion.enhancement.frame import enhance
from exposurediffusion.evaluation.metrics import illuminance_correction, psnr
from exposurediffusion.physics.cameras.known import calibrated_cameras, colours_of
from exposurediffusion.physics.cameras.profile import CameraProfile
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.physics.parameters import NoiseParameters
from exposurediffusion.physics.sensor import RawFrame
from exposurediffusion.simulation.capture import LEVEL, simulate_long, simulate_short
from exposurediffusion.simulation.light import record
from exposurediffusion.weights.file import TrainedDenoiser, load

SETTINGS = ((1, 100), (30, 400), (100, 800), (250, 1600), (300, 6400))  # ratio, ISO
Case = tuple[int, int, RawFrame, RawFrame, NoiseParameters]


def cases(folder: Path, cameras: Mapping[str, CameraProfile] | None = None) -> Iterator[Case]:
    """Ratio, ISO, long and short exposure, and true noise; seeded by scene and camera."""
    cfa = CFA("RGGB")
    for name, rgb in scenes(folder):
        for camera, profile in (cameras or calibrated_cameras()).items():
            generator = torch.Generator().manual_seed(zlib.crc32(f"{name}{camera}noise".encode()))
            level, red, blue = torch.rand(3, generator=generator).tolist()
            balance = (1.5 + red, 1.3 + blue)
            neutral = (1 / balance[0], 1.0, 1 / balance[1])
            brightness = exp(log(LEVEL[0]) + level * log(LEVEL[1] / LEVEL[0]))
            light = record(rgb, colours_of(profile), balance, cfa, brightness)
            long = simulate_long(light, cfa, profile, neutral)
            for ratio, iso in SETTINGS:
                short, noise = simulate_short(light, cfa, profile, neutral, float(ratio), float(iso), generator)
                yield ratio, iso, long, short, noise


def ratios(case: Case, found: NoiseParameters) -> tuple[float, float, float]:
    """Estimated over true: gain, light-free deviation (without rows), deviation at the frame's mean."""
    long, noise = case[2], case[4]
    signal = float(long.planes.clamp(0, 1).mean()) * noise.saturation / case[0]
    gain, true = float(found.gain / noise.gain), float(noise.read_variance - noise.line_variance)
    read = float(found.read_variance - found.line_variance)
    total = (float(found.gain) * signal + read) / (float(noise.gain) * signal + true)
    return gain, (read / true) ** 0.5, total**0.5


def loss(case: Case, model: TrainedDenoiser, found: NoiseParameters) -> float:
    """PSNR with the true noise less that with the estimate, dB."""
    ratio, _, long, short, true = case
    target = long.planes[None].clamp(0, 1)
    figures = []
    for noise in (true, found):
        estimate = enhance(short, model, ratio=float(ratio), steps=0, noise=noise).planes[None]
        figures.append(psnr(illuminance_correction(estimate, target)[0], target[0]))
    return figures[0] - figures[1]


def main(images: Path, draws: int = 0, every: int = 1, decibels: bool = False) -> None:
    """Measure and print a table.

    Args:
        images: folder of held-out pictures.
        draws: cameras to draw; 0: the five calibrated ones.
        every: only each such case (coprime to 5, else settings are missing).
        decibels: also what the estimates cost `enhance` in PSNR.
    """
    model = load("default")
    rows: dict[tuple[int, int], list[tuple[float, ...]]] = {}
    drawn = {f"drawn {seed}": drawn_camera(seed) for seed in range(draws)}
    for index, case in enumerate(cases(images, drawn)):
        if index % every:
            continue
        found = estimate_noise(case[3])
        wrongly = float("passed over" in noise_of(case[3]).source)
        lost = loss(case, model, found) if decibels else float("nan")
        rows.setdefault(case[:2], []).append((*ratios(case, found), wrongly, lost))
    everything = [row for some in rows.values() for row in some]
    for (ratio, iso), some in [*rows.items(), ((0, 0), everything)]:
        gain, read, total, wrongly, lost = np.array(some).T
        spread = [" / ".join(f"{q:.2f}" for q in np.quantile(x, (0.05, 0.5, 0.95))) for x in (gain, read, total)]
        shares = f"{np.mean(abs(gain - 1) < 0.15):.2f} | {np.mean(abs(read - 1) < 0.25):.2f}"
        name = f"x{ratio} ISO {iso}" if ratio else "all"
        print(
            f"| {name} | {' | '.join(spread)} | {shares} | {lost.mean():+.2f} / {lost.max():+.2f} | {wrongly.sum():g} |"
        )


if __name__ == "__main__":
    tyro.cli(main)

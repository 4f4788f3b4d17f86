"""The embedded weights on simulated captures of scenes that were not trained on.

    python benchmarks/heldout.py --images FOLDER [--weights NAME] [--steps 0 1 2] [--bm3d] [--pictures DIR]

Each scene is recorded by a Sony A7S II and a Nikon D850 at x100 (ISO 800), x250 (ISO 1600) and x300 (ISO 3200) with the
full ELD noise and a calibrated colour bias (`simulation/capture.py`). Printed: PSNR and SSIM in raw space, whole frame,
correction `final` (one scalar at the end); the mean gain over the capture, and the worst scene.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import exp, log, pi
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro
from torch import Tensor

from exposurediffusion.baselines.bm3d import denoise_bm3d
from exposurediffusion.enhancement.frame import enhance
from exposurediffusion.evaluation.metrics import illuminance_correction, psnr, ssim
from exposurediffusion.physics.cameras.known import calibrated_cameras, colours_of
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.physics.parameters import NoiseParameters
from exposurediffusion.physics.sensor import RawFrame
from exposurediffusion.rendering.render import render
from exposurediffusion.simulation.capture import LEVEL, SID_SETTINGS, simulate_long, simulate_short
from exposurediffusion.simulation.light import Panorama, load_clean, record
from exposurediffusion.weights.file import TrainedDenoiser, load

SETTINGS = tuple((round(ratio), iso) for ratio, iso in SID_SETTINGS)
CAMERAS = ("SonyA7S2", "NikonD850")
NoiseSource = Literal["known", "profile", "estimated"]
VIEW = 384  # side of a panorama's views, in sites


@dataclass(frozen=True)
class Case:
    """One capture with its reference."""

    scene: str
    camera: str
    ratio: int
    long: RawFrame
    short: RawFrame
    noise: NoiseParameters


def scenes(folder: Path, crop: int = 1024) -> Iterator[tuple[str, Tensor]]:
    """Name and linear RGB: three views of each panorama, the centre of each picture (at most `crop` pixels a side)."""
    for path in sorted(folder.iterdir()):
        source = load_clean(path)
        if isinstance(source, Panorama):
            for view in range(3):
                yield f"{path.stem}-{view}", source.view(VIEW, 2 * pi * view / 3, 0.1)
        else:
            pixels = source.pixels.float()
            height, width = (min(crop, n // 16 * 16) for n in pixels.shape[-2:])
            top, left = (pixels.shape[-2] - height) // 2, (pixels.shape[-1] - width) // 2
            yield path.stem, pixels[:, top : top + height, left : left + width]


def cases(folder: Path, crop: int = 1024) -> Iterator[Case]:
    """All captures, seeded by scene and camera."""
    cfa = CFA("RGGB")
    for name, rgb in scenes(folder, crop):
        for camera in CAMERAS:
            profile = calibrated_cameras()[camera]
            generator = torch.Generator().manual_seed(zlib.crc32((name + camera).encode()))
            level, red, blue = torch.rand(3, generator=generator).tolist()
            balance = (1.5 + red, 1.3 + blue)
            neutral = (1 / balance[0], 1.0, 1 / balance[1])
            brightness = exp(log(LEVEL[0]) + level * log(LEVEL[1] / LEVEL[0]))
            light = record(rgb, colours_of(profile), balance, cfa, brightness)
            long = simulate_long(light, cfa, profile, neutral)
            for ratio, iso in SETTINGS:
                short, noise = simulate_short(light, cfa, profile, neutral, float(ratio), float(iso), generator)
                yield Case(name, camera, ratio, long, short, noise)


def bm3d(case: Case) -> Tensor:
    """BM3D of the capture, given the true mean deviation of each plane."""
    scale = case.ratio / case.noise.saturation
    signal = case.long.planes.clamp(0, 1).mean(dim=(1, 2))
    variance = case.noise.gain * scale * signal + case.noise.read_variance * scale**2
    return denoise_bm3d(case.short.planes * case.ratio, variance.sqrt())


def estimates(
    case: Case, model: TrainedDenoiser, steps: tuple[int, ...], with_bm3d: bool, noise: NoiseSource
) -> Iterator[tuple[str, Tensor]]:
    """Every method's name and its planes at reference brightness."""
    yield "capture", case.short.planes * case.ratio
    frame = case.short
    if noise == "estimated":
        frame = replace(frame, metadata=replace(frame.metadata, make=None, model=None, iso=None))
    for count in steps:
        known = case.noise if noise == "known" else None
        yield f"T = {count}", enhance(frame, model, ratio=float(case.ratio), steps=count, noise=known).planes
    if with_bm3d:
        yield "BM3D", bm3d(case)


def main(
    images: Path,
    weights: str = "default",
    steps: tuple[int, ...] = (0, 1, 2),
    bm3d: bool = False,
    crop: int = 1024,
    noise: NoiseSource = "known",
    pictures: Path | None = None,
    output: Path | None = None,
) -> None:
    """Measure, print a table, and write every figure as JSON if asked.

    Args:
        images: folder of held-out pictures.
        weights: name or file.
        steps: numbers of simulated exposures to try.
        bm3d: also BM3D with the noise level known (slow: a smaller crop helps).
        crop: largest side of a scene in sites.
        noise: what the network is given: the parameters drawn, those of the camera's profile at the ISO, or an estimate
            from the frame as for a camera that nobody calibrated.
        pictures: folder for renderings of captures, estimates and references.
        output: JSON file.
    """
    model = load(weights)
    rows: dict[tuple[str, int, str], dict[str, tuple[float, float]]] = {}
    for case in cases(images, crop):
        target = case.long.planes[None].clamp(0, 1)
        for name, estimate in estimates(case, model, steps, bm3d, noise):
            corrected = illuminance_correction(estimate[None], target)[0]
            figures = psnr(corrected, target[0]), ssim(corrected, target[0])
            rows.setdefault((case.camera, case.ratio, name), {})[case.scene] = figures
            if pictures is not None:
                bright = replace(case.short, metadata=replace(case.short.metadata, baseline_exposure=1.5))
                render(bright.with_planes(estimate)).save(_folder(pictures) / f"{_slug(case)}-{name}.png")
        if pictures is not None:
            render(case.long, exposure=1.5).save(_folder(pictures) / f"{_slug(case)}-reference.png")
    for (camera, ratio, name), figures in sorted(rows.items()):
        print(_line(camera, ratio, name, figures, rows[camera, ratio, "capture"]), flush=True)
    if output is not None:
        listed = [
            {"camera": camera, "ratio": ratio, "method": name, "scene": scene, "psnr": p, "ssim": s}
            for (camera, ratio, name), figures in sorted(rows.items())
            for scene, (p, s) in figures.items()
        ]
        output.write_text(json.dumps(listed, indent=1))


def _line(
    camera: str, ratio: int, name: str, figures: dict[str, tuple[float, float]], base: dict[str, tuple[float, float]]
) -> str:
    mean, structure = np.mean(list(figures.values()), axis=0)
    gains = {scene: figures[scene][0] - base[scene][0] for scene in figures}
    worst = min(gains, key=lambda scene: gains[scene])
    return (
        f"| {camera} | x{ratio} | {name} | {mean:.2f} / {structure:.3f} | {np.mean(list(gains.values())):+.2f} "
        f"| {gains[worst]:+.2f} ({worst}) |"
    )


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def _slug(case: Case) -> str:
    return f"{case.scene}-{case.camera}-x{case.ratio}"


if __name__ == "__main__":
    tyro.cli(main)

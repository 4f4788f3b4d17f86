"""`expose demo`: the main job on a simulated capture, end to end, with real files between the stages."""

from __future__ import annotations

import io
from math import log2
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from skimage import data

from exposurediffusion.apps.console import Summary, progress
from exposurediffusion.apps.enhance import best_device, plan, run_plan, tile_count
from exposurediffusion.apps.planning import check_ratio
from exposurediffusion.data.dng import write_dng
from exposurediffusion.data.files import atomic, make_folder
from exposurediffusion.data.images import srgb_to_linear
from exposurediffusion.data.raw import read_raw
from exposurediffusion.data.render import Rendering, render
from exposurediffusion.data.simulation import simulate_long, simulate_short
from exposurediffusion.data.synthesis import record
from exposurediffusion.learn.evaluation import illuminance_correction, psnr, ssim
from exposurediffusion.learn.weights import load
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.physics.profile import load_profile

CAMERA, ISO = "SonyA7S2", 800.0
WHITE_BALANCE = (2.0, 1.6)
LEVEL = 0.15  # mean green of the long exposure


def run_demo(output: Path, ratio: float, seed: int, summary: Summary) -> None:
    """Simulate, write, read, enhance, write, render, compare.

    Args:
        output: folder for the files.
        ratio: of the long exposure to the capture.
        seed: of the noise.
        summary: gets PSNR and SSIM (raw space, whole frame) of the capture and of the result.
    """
    check_ratio(ratio)
    make_folder(output)
    camera, cfa = load_profile(CAMERA), CFA("RGGB")
    neutral = (1 / WHITE_BALANCE[0], 1.0, 1 / WHITE_BALANCE[1])
    photograph = srgb_to_linear(data.astronaut().astype(np.float32) / 255)  # NASA, public domain
    light = record(torch.from_numpy(photograph).permute(2, 0, 1), CAMERA, WHITE_BALANCE, cfa, LEVEL)
    generator = torch.Generator().manual_seed(seed)
    long = simulate_long(light, cfa, camera, neutral)
    short, _ = simulate_short(light, cfa, camera, neutral, ratio, ISO, generator)
    capture = read_raw(write_dng(output / "capture.dng", short))

    model = load().to(best_device())
    decided = plan(capture, model, ratio=ratio)
    with progress("enhancing", tile_count(model, decided)) as bar:
        result = run_plan(model, decided, tick=lambda: bar.advance(bar.task_ids[0])).frame
    enhanced = read_raw(write_dng(output / "enhanced.dng", result))

    dark, bright = render(capture, exposure=log2(ratio)), render(enhanced)
    dark.save(output / "capture.png")
    bright.save(output / "enhanced.png")
    buffer = io.BytesIO()
    Image.fromarray(side_by_side([dark, bright, render(long)])).save(buffer, format="PNG")
    with atomic(output / "side-by-side.png") as stream:
        stream.write(buffer.getbuffer())
    target = long.planes[None].clamp(0, 1)
    for name, estimate in (("capture", capture.planes[None] * ratio), ("enhanced", enhanced.planes[None])):
        corrected = illuminance_correction(estimate, target)
        figures = {"psnr": psnr(corrected[0], target[0]), "ssim": ssim(corrected[0], target[0])}
        line = f"{name:<9} PSNR {figures['psnr']:.2f} dB  SSIM {figures['ssim']:.3f}"
        summary.add(line, name=name, file=str(output / f"{name}.dng"), **figures)
    if not summary.as_json:
        print(f"simulated {camera.exif_model} at ISO {ISO:g}, x{ratio:g}, T = {decided.sampling.steps}; raw space,")
        print(f"whole frame, correction 'final'. Look at {output / 'side-by-side.png'}")


def side_by_side(pictures: list[Rendering], gap: int = 8) -> np.ndarray:
    """Pictures of one height in a row, white between them, (h, w, 3) uint8."""
    height = min(picture.rgb8.shape[0] for picture in pictures)
    spacer = np.full((height, gap, 3), 255, dtype=np.uint8)
    parts = [part for picture in pictures for part in (picture.rgb8[:height], spacer)]
    return np.concatenate(parts[:-1], axis=1)

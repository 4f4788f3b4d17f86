"""`expose demo`: the main job on a simulated capture, end to end, with real files between the stages."""

from __future__ import annotations

import io
from math import log2
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from skimage import data

from exposurediffusion.cli.console import Flag, Output, Summary, as_usage, progress
from exposurediffusion.dng.writer import write_dng
from exposurediffusion.enhancement.frame import plan, run_plan, tile_count
from exposurediffusion.enhancement.options import EnhanceOptions
from exposurediffusion.evaluation.metrics import illuminance_correction, psnr, ssim
from exposurediffusion.files.atomic import atomic, make_folder
from exposurediffusion.files.develop import srgb_to_linear
from exposurediffusion.models.device import best_device
from exposurediffusion.physics.cameras.known import calibrated_cameras, colours_of
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.raw.read import read_raw
from exposurediffusion.rendering.render import Rendering, render
from exposurediffusion.simulation.capture import simulate_long, simulate_short
from exposurediffusion.simulation.light import record
from exposurediffusion.weights.file import load

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
    camera, cfa = calibrated_cameras()[CAMERA], CFA("RGGB")
    with as_usage():
        options = EnhanceOptions(ratio=ratio, camera=camera)  # whatever profile of it the user may have
    make_folder(output)
    neutral = (1 / WHITE_BALANCE[0], 1.0, 1 / WHITE_BALANCE[1])
    photograph = srgb_to_linear(data.astronaut().astype(np.float32) / 255)  # NASA, public domain
    light = record(torch.from_numpy(photograph).permute(2, 0, 1), colours_of(camera), WHITE_BALANCE, cfa, LEVEL)
    generator = torch.Generator().manual_seed(seed)
    long = simulate_long(light, cfa, camera, neutral)
    short, _ = simulate_short(light, cfa, camera, neutral, ratio, ISO, generator)
    capture = read_raw(write_dng(output / "capture.dng", short))

    model = load().to(best_device())
    decided = plan(capture, model, options)
    with progress("enhancing", tile_count(model, decided)) as tick:
        result = run_plan(model, decided, tick=tick).frame
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


def demo(output: Output = Path("demo"), ratio: float = 100.0, seed: int = 0, json: Flag = False) -> int:
    """Simulate a dark capture of a photograph, write it as a raw file, enhance it, and compare.

    Leaves capture.dng, enhanced.dng, a PNG of each, and side-by-side.png.

    Args:
        output: folder.
        ratio: how much darker than the photograph the capture is.
        seed: of the noise.
        json: print the figures as JSON.
    """
    summary = Summary(json)
    run_demo(output, ratio, seed, summary)
    return summary.finish()

"""Does the spread of `expose enhance --samples` predict the error? Spread against true error on simulated captures.

    python benchmarks/uncertainty.py --images FOLDER [--weights NAME|FILE] [--samples 8] [--steps 1 2] [--output DIR]

Views cut from the pictures are recorded by calibrated cameras at x100 (ISO 800), x250 (ISO 1600) and x300 (ISO 3200)
with the full noise (`captures.py`); the network is given the true noise. The error is that of the mean of the
samples against the noise-free long exposure, uncorrected. Written: uncertainty.json and uncertainty.png.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from calibration import (
    Calibration,
    attainable,
    blocks,
    calibrate,
    sampled_estimate,
)
from captures import SimulatedCapture, simulated_captures
from common import machine
from scipy.stats import spearmanr
from torch import Tensor

from exposurediffusion.evaluation.metrics import illuminance_correction, psnr
from exposurediffusion.models.denoiser import noise_map
from exposurediffusion.rendering.plotting import GREY, canvas, legend_below, look
from exposurediffusion.simulation.capture import SID_SETTINGS
from exposurediffusion.weights.file import TrainedDenoiser, load

THIN = 4  # every 4th pixel along both axes; neighbours are correlated


@dataclass(frozen=True)
class Maps:
    """Errors and what may foretell them, of one capture at one T; flat arrays of pixels, or of blocks (`_8`)."""

    steps: int
    setting: str
    error: np.ndarray
    local: np.ndarray
    spread: np.ndarray
    noise: np.ndarray
    error_8: np.ndarray
    spread_8: np.ndarray
    psnr: tuple[float, float]


def main(
    images: Path,
    weights: str = "default",
    samples: int = 8,
    steps: tuple[int, ...] = (1, 2),
    cameras: tuple[str, ...] = ("SonyA7S2", "NikonD850"),
    views: int = 2,
    seed: int = 0,
    threads: int | None = None,
    output: Path = Path("runs/uncertainty"),
) -> None:
    """Measure, print a table, and plot.

    Args:
        images: folder of clean pictures that the weights were not trained on.
        weights: name or file.
        samples: of each capture.
        steps: numbers of simulated exposures to try; the first is plotted.
        cameras: profiles to take the noise of.
        views: of each picture.
        seed: of everything drawn.
        threads: of PyTorch; None: its own choice.
        output: folder.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    output.mkdir(parents=True, exist_ok=True)
    model = load(weights)
    cases = simulated_captures(images, views=views, settings=SID_SETTINGS, cameras=cameras, seed=seed)
    found = [maps for case in cases for maps in measured(model, case, samples, steps)]
    rows: list[dict[str, Any]] = []
    print("| T | captures | error / spread | offsets taken off | rank | attainable | noise map | 8x8 blocks | PSNR |")
    print("|---|---|---|---|---|---|---|---|---|")
    settings = [*dict.fromkeys(maps.setting for maps in found)]
    plotted: dict[str, Calibration] = {}
    for count in steps:
        for setting in [*settings, "all"]:
            chosen = [m for m in found if m.steps == count and setting in (m.setting, "all")]
            row, calibration = summary(count, setting, chosen)
            rows.append(row)
            if count == steps[0]:
                plotted[setting] = calibration
    plot_calibration(output / "uncertainty.png", plotted)
    content = {"machine": machine(), "weights": weights, "samples": samples, "seed": seed, "rows": rows}
    (output / "uncertainty.json").write_text(json.dumps(content, indent=1) + "\n")


def measured(model: TrainedDenoiser, case: SimulatedCapture, samples: int, steps: tuple[int, ...]) -> Iterator[Maps]:
    """The maps of one capture at each T."""
    print(f"  {case.picture}, view {case.view}, {case.camera} x{case.ratio:g}", flush=True)
    for count in steps:
        mean, spread = sampled_estimate(model, case, samples, count)
        single = case.expose(case.denoiser(model), replace(model.card.sampling, steps=count))
        error = mean - case.clean
        yield Maps(
            steps=count,
            setting=f"x{case.ratio:g}",
            error=thin(error),
            local=thin(error - error.mean(dim=(2, 3), keepdim=True)),
            spread=thin(spread),
            noise=thin(noise_map(mean, torch.ones(1), case.conditions)),
            error_8=blocks(error).ravel(),
            spread_8=blocks(spread).ravel(),
            psnr=(final(single, case.clean), final(mean, case.clean)),
        )


def thin(planes: Tensor) -> np.ndarray:
    return planes[..., ::THIN, ::THIN].numpy().ravel()


def final(estimate: Tensor, clean: Tensor) -> float:
    return psnr(illuminance_correction(estimate, clean)[0], clean[0])


def summary(steps: int, setting: str, chosen: list[Maps]) -> tuple[dict[str, Any], Calibration]:
    """A row of the table, printed, and the calibration."""

    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(maps, name) for maps in chosen])

    error, spread = joined("error"), joined("spread")
    calibration, local = calibrate(error, spread), calibrate(joined("local"), spread)
    row = {
        "steps": steps,
        "setting": setting,
        "captures": len(chosen),
        "factor": calibration.factor,
        "factor_without_offsets": local.factor,
        "rank": calibration.rank,
        "rank_attainable": attainable(spread),
        "rank_of_noise_map": float(spearmanr(joined("noise"), np.abs(error)).statistic),  # pyright: ignore[reportAttributeAccessIssue]
        "rank_of_blocks": float(spearmanr(joined("spread_8"), joined("error_8")).statistic),  # pyright: ignore[reportAttributeAccessIssue]
        "psnr_mean_increment": float(np.mean([maps.psnr[0] for maps in chosen])),
        "psnr_mean_of_samples": float(np.mean([maps.psnr[1] for maps in chosen])),
        "bins": {name: getattr(calibration, name).tolist() for name in ("spread", "error", "count")},
    }
    print(
        f"| {steps} | {setting} ({len(chosen)}) | {row['factor']:.2f} | {row['factor_without_offsets']:.2f} "
        f"| {row['rank']:.2f} | {row['rank_attainable']:.2f} | {row['rank_of_noise_map']:.2f} "
        f"| {row['rank_of_blocks']:.2f} | {row['psnr_mean_increment']:.2f} / {row['psnr_mean_of_samples']:.2f} |",
        flush=True,
    )
    return row, calibration


def plot_calibration(path: Path, calibrations: Mapping[str, Calibration]) -> None:
    """Root mean square error against spread, a curve for each calibration; on the diagonal a spread is the error.

    Args:
        path: of the PNG file.
        calibrations: by name.

    Raises:
        ValueError: matplotlib is not installed.
    """
    with canvas(path, 1, (6, 5)) as (panel,):
        for index, (name, found) in enumerate(calibrations.items()):
            seen = found.spread > 0  # pixels that all samples clip have no place on a logarithmic axis
            label = f"{name}: error = {found.factor:.2g} x spread"
            panel.plot(found.spread[seen], found.error[seen], label=label, **look(index))
        ends = [min(c.spread[c.spread > 0].min() for c in calibrations.values())]
        ends.append(max(c.error.max() for c in calibrations.values()))
        panel.plot(ends, ends, color=GREY, linestyle="--", label="error = spread")
        panel.set(xscale="log", yscale="log", xlabel="spread of the samples, 1 = white", ylabel="rms error, 1 = white")
        legend_below([panel], 2)


if __name__ == "__main__":
    tyro.cli(main)

"""Plots of training logs: loss and validation against iterations and against time.

    python benchmarks/curves.py docs/results/training/*.jsonl -o docs/results/training

A log is the `log.jsonl` of a run, named after its preset. Time is that of the training steps, from the logged speed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import matplotlib as mpl
import tyro

mpl.use("Agg")
from matplotlib import pyplot as plt

BATCH = 8  # patches per iteration, of all runs


def main(logs: tyro.conf.Positional[tuple[Path, ...]], output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]) -> None:
    """Write loss.png and validation.png, and print the last figures as a Markdown table.

    Args:
        logs: files.
        output: folder.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4))
    loss_figure, axis = plt.subplots(figsize=(6, 4))
    print("| run | iterations | minutes | patches/s | x100 | x250 | x300 |\n|---|---|---|---|---|---|---|")
    for path in logs:
        entries = [json.loads(line) for line in path.read_text().splitlines()]
        training = [entry for entry in entries if entry["kind"] == "training"]
        validation = [entry for entry in entries if entry["kind"] == "validation"]
        minutes, elapsed, before = {0: 0.0}, 0.0, 0
        for entry in training:
            elapsed += (entry["iteration"] - before) * BATCH / entry["images_per_second"] / 60
            before = entry["iteration"]
            minutes[before] = elapsed
        axis.plot([e["iteration"] for e in training], [e["loss"] for e in training], label=path.stem, linewidth=0.8)
        psnr = [entry["psnr_x300"] for entry in validation]
        left.plot([entry["iteration"] for entry in validation], psnr, label=path.stem)
        right.plot([minutes[entry["iteration"]] for entry in validation], psnr, label=path.stem)
        last = validation[-1]
        figures = [f"{last[f'psnr_x{ratio}']:.2f} / {last[f'ssim_x{ratio}']:.3f}" for ratio in (100, 250, 300)]
        speed = last["iteration"] * BATCH / elapsed / 60
        print(f"| {path.stem} | {last['iteration']:,} | {elapsed:.0f} | {speed:.0f} | {' | '.join(figures)} |")
    left.set(xlabel="iterations", ylabel="validation PSNR at x300, dB")
    right.set(xlabel="minutes of training", ylabel="validation PSNR at x300, dB")
    axis.set(xlabel="iterations", ylabel="training loss (of its own objective)", yscale="log")
    for each in (left, right, axis):
        each.legend(fontsize=7)
        each.grid(alpha=0.3)
    figure.tight_layout()
    loss_figure.tight_layout()
    figure.savefig(output / "validation.png", dpi=110)
    loss_figure.savefig(output / "loss.png", dpi=110)


if __name__ == "__main__":
    tyro.cli(main)

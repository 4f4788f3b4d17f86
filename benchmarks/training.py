"""How much of a training step is the network's: images a second of whole steps over those of the network alone.

    python benchmarks/training.py [--networks default nafnet1] [--batch 8] [--patch 64] [--repeats 3] [--threads 2]
                                  [--pictures pictures.safetensors] [--output results.json]

Both on the same network, batch, precision and threads, in turn: the whole step cuts views, makes captures, computes
the loss and its gradient, and updates weights and their average; the network alone computes the loss of one batch that
stays the same, its gradient and the update. Feed-forward steps: unrolled ones leave the network a larger share. Without
`--pictures` the views are of scikit-image's photographs. Medians of the repeats.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Literal

import torch
import tyro
from common import machine, training_rates
from skimage import data

from exposurediffusion.files.develop import srgb_to_linear
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.pictures.prepared import in_memory, read_pictures
from exposurediffusion.pictures.views import CleanViews
from exposurediffusion.simulation.light import Photograph
from exposurediffusion.training.execution import Execution
from exposurediffusion.training.presets import find_preset
from exposurediffusion.training.recipe import Recipe
from exposurediffusion.training.run import Run

Network = Literal["default", "fine", "embedded", "nafnet1", "nafnet2", "unet"]


def recipe_of(network: Network, batch: int, patch: int) -> Recipe:
    """A preset with this network, feed-forward."""
    name = network if network in ("default", "fine", "embedded") else f"eld-{network}-exposure"
    recipe = find_preset(name).recipe
    return replace(recipe, batch=batch, patch=patch, objective=replace(recipe.objective, steps=0))


def photographs() -> CleanViews:
    """Views of the photographs that scikit-image brings along."""
    sources = [
        Photograph(torch.from_numpy(srgb_to_linear(picture() / 255)).permute(2, 0, 1).half(), name)
        for name, picture in (("astronaut", data.astronaut), ("chelsea", data.chelsea), ("coffee", data.coffee))
    ]
    return CleanViews(in_memory(sources), CFA("RGGB"))


def main(
    networks: tuple[Network, ...] = ("default", "nafnet1"),
    batch: int = 8,
    patch: int = 64,
    repeats: int = 3,
    seconds: float = 5.0,
    threads: int | None = None,
    device: Literal["cpu", "cuda"] = "cpu",
    pictures: Path | None = None,
    output: Path | None = None,
) -> None:
    """Measure in turn and print medians.

    Args:
        networks: of presets.
        batch: images per step.
        patch: side, packed pixels.
        repeats: of each measurement.
        seconds: of each measurement.
        threads: of PyTorch; None: its own choice.
        device: where it is computed.
        pictures: prepared pictures to cut views of.
        output: JSON file.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    views = (photographs() if pictures is None else CleanViews(read_pictures(pictures), CFA("RGGB"))).to(device)
    results = {}
    for network in networks:
        run = Run(recipe_of(network, batch, patch), Execution(device=device))
        found = [training_rates(run, views, seconds) for _ in range(repeats)]
        row = {name: round(median(one[name] for one in found), 3) for name in found[0]}
        results[network] = {**row, "runs": found}
        print(
            f"{network:<9} whole {row['whole']:8.2f} images/s, network alone {row['network']:8.2f}, "
            f"data alone {row['data']:8.2f}; share {row['share']:.3f}",
            flush=True,
        )
    if output is not None:
        content = {"machine": machine(device), "batch": batch, "patch": patch, "seconds": seconds, "results": results}
        output.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    tyro.cli(main)

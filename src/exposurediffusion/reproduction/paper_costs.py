"""What the networks of the paper cost, and those that stand in for them: Tables 5b and 7b."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from exposurediffusion.baselines.diffusion import ConditionalDiffusion
from exposurediffusion.evaluation.cost import Cost, cost, multiply_adds
from exposurediffusion.evaluation.summary import Cell, Table
from exposurediffusion.models.denoiser import ExposureDenoiser
from exposurediffusion.reproduction.provenance import described
from exposurediffusion.reproduction.runs import Runs
from exposurediffusion.training.loss import loss_of
from exposurediffusion.training.presets import find_preset

_PAPER = ("paper: parameters", "paper: FLOPs", "paper: time")


def full_size(preset: str, device: torch.device) -> ExposureDenoiser | ConditionalDiffusion:
    """The untrained network of a preset, as large as in the paper."""
    return loss_of(find_preset(preset).recipe).denoiser.to(device)


def cost_table(runs: Runs, title: str, presets: Mapping[str, str], paper: Mapping[str, Cost]) -> Table:
    """Parameters, multiply-adds and time of one evaluation, of the paper's networks and of those measured here."""
    rows: list[list[Cell]] = []
    for name, preset in presets.items():
        networks = {name: full_size(preset, runs.device)}
        if (here := runs.model(preset, "diffusion" in preset)) is not None and here.config != networks[name].config:
            networks[f"stand-in: {described(here)}"] = here
        for label, model in networks.items():
            mine, published = cost(model, 512, repeats=3), paper[name] if label == name else None
            counted = multiply_adds(model, 512, as_published=True)
            rows.append(
                [
                    label,
                    f"{mine.parameters:,}",
                    f"{mine.multiply_adds / 1e9:.2f} G",
                    f"{counted / 1e9:.2f} G",
                    None if mine.seconds is None else f"{mine.seconds:.2f} s",
                    published and f"{published.parameters:,}",
                    published and f"{published.multiply_adds / 1e9:g} G",
                    published and published.seconds and f"{published.seconds:.4f} s",
                ]
            )
    header = ["network", "parameters", "multiply-adds", "counted as published", "time", *_PAPER]
    note = "One evaluation of 512x512 packed pixels; time: median of 3 on this machine, fp32."
    return Table(f"{title}: cost", header, rows, [note])

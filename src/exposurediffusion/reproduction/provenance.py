"""What a number is of: the network that was really run, how long it was trained, how it was run and measured."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from exposurediffusion.baselines.diffusion import DiffusionConfig
from exposurediffusion.evaluation.cost import parameters
from exposurediffusion.evaluation.methods import Diffusion, Network
from exposurediffusion.evaluation.summary import Cell, Score, Table
from exposurediffusion.models.denoiser import ExposureDenoiser
from exposurediffusion.reproduction.budget import Budget
from exposurediffusion.training.presets import find_preset
from exposurediffusion.weights.file import TrainedDenoiser, TrainedDiffusion

Facts = Mapping[str, Any]
"""Name of a column of the CSV -> plain value."""
COLUMNS = (
    *("run", "network", "backbone", "width", "parameters", "stand-in", "iterations", "batch", "patch"),
    *("seeds", "steps", "schedule", "transition", "increment", "clamp", "weights"),
    *("dataset", "root", "split", "subset", "camera", "noise", "dark_shading", "crop", "correction", "clip"),
)
"""What is said of every number, beside its images; all that is known of it."""
_NAMES = {"unet": "UNet", "nafnet": "NAFNet", "resunet": "ResUNet"}


def described(model: TrainedDenoiser | TrainedDiffusion) -> str:
    """A network by its real size, such as "UNet, width 8, 0.49 M"."""
    return f"{_kind(model)}, width {_width(model)}, {_size(parameters(model))}"


def facts(method: Network | Diffusion, preset: str, matched: bool = False, seed: int = 0) -> Facts:
    """All that is known of a run: its network, its training, and how it is run.

    Args:
        method: the weights and how they are run.
        preset, matched: the row of the paper that they are to be; what is smaller or trained for less is a stand-in.
        seed: of the run.
    """
    model, training = method.model, method.model.card.training
    paper, recipe = Budget().recipe(find_preset(preset), matched), training.get("recipe", {})
    trained = {
        "iterations": training.get("iterations"),
        **{name: recipe.get(name) for name in ("batch", "patch")},
    }
    less = [name for name, value in trained.items() if value is not None and value != getattr(paper, name)]
    sampling = asdict(method.sampling) if isinstance(method, Network) else {"steps": method.steps}
    return {
        "run": method.weights,
        "network": described(model),
        "backbone": _kind(model),
        "width": _width(model),
        "parameters": parameters(model),
        "stand-in": "yes" if less or model.config != (paper.diffusion or paper.denoiser) else "no",
        **trained,
        "seeds": seed,
        **sampling,
        "weights": method.digest,
    }


def of_seeds(found: Sequence[Facts]) -> Facts:
    """The facts of several seeds of a run, as one."""
    return {**found[0], **{name: " ".join(str(of[name]) for of in found) for name in ("seeds", "weights")}}


def stand_in(of: Facts) -> str:
    """What a stand-in is, in brackets; nothing for what is as large, and was trained as long, as the paper's."""
    if of.get("stand-in") != "yes":
        return ""
    iterations = "" if of["iterations"] is None else f", {of['iterations']} iterations"
    return f" (stand-in: {of['network']}{iterations})"


def named(label: str, scores: Mapping[Any, Score]) -> str:
    """The name of a row, with what stands in for it."""
    return label + stand_in(next((score.of for score in scores.values()), {}))


def what_was_run(used: Iterable[Facts]) -> list[Table]:
    """A table of the runs behind the numbers, a row each; nothing where there are none."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for of in used:
        trained = " x ".join("?" if of[name] is None else str(of[name]) for name in ("iterations", "batch", "patch"))
        run = ", ".join(f"{of[name]}" for name in ("schedule", "transition", "increment", "clamp") if name in of)
        row = str(of["run"]), str(of["network"]), trained, str(of["seeds"]), run or "DDIM", str(of["weights"])
        groups.setdefault(row, []).append(str(of["steps"]))
    rows: list[list[Cell]] = [
        [*row[:4], " ".join(sorted(set(steps), key=int)), *row[4:]] for row, steps in sorted(groups.items())
    ]
    header = ["run", "network", "iterations x batch x patch", "seeds", "T", "schedule, transition, increment, clamp"]
    return [Table("What was run", [*header, "weights"], rows)] if rows else []


def to_csv(tables: Iterable[Table]) -> str:
    """The numbers of tables of figures, each in a line with all that it is of; other tables follow as they are."""
    out, others = io.StringIO(), []
    writer = csv.DictWriter(out, _HEAD + COLUMNS, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for table in tables:
        if any(isinstance(cell, Score) for row in table.rows for cell in row):
            writer.writerows(_lines(table))
        else:
            others.append(f"\n{table.csv()}")
    return out.getvalue() + "".join(others)


_HEAD = ("table", "row", "column", "value", "PSNR", "SSIM", "spread", "images")


def _lines(table: Table) -> Iterable[dict[str, Any]]:
    """A line for each cell that has a number; the columns before the first numbers name the row."""
    columns = zip(*table.rows, strict=True)
    texts = [all(isinstance(cell, str | int) for cell in column) for column in columns]
    heads = texts.index(False)
    for row in table.rows:
        label = ", ".join(str(cell) for cell in row[:heads])
        for column, cell in zip(table.header[heads:], row[heads:], strict=True):
            line = {"table": table.title, "row": label, "column": column}
            if isinstance(cell, Score):
                numbers = {"PSNR": cell.psnr, "SSIM": cell.ssim, "spread": cell.spread, "images": cell.images or None}
                yield line | numbers | dict(cell.of)
            elif cell is not None:
                yield line | {"value": cell}


def _kind(model: TrainedDenoiser | TrainedDiffusion) -> str:
    return _NAMES.get(model.config.backbone, model.config.backbone) if isinstance(model, ExposureDenoiser) else "DDPM"


def _width(model: TrainedDenoiser | TrainedDiffusion) -> str:
    config = model.config
    if isinstance(config, DiffusionConfig):
        widths = config.channels
    else:
        widths = config.options.get("widths", (config.options.get("width", "?"),))
    return "-".join(map(str, widths))


def _size(count: int) -> str:
    return f"{count / 1e6:.2f} M" if count >= 1e5 else f"{count / 1e3:.1f} k"

"""`expose train`: a preset, its fields overridden by name, on a data set, with a summary beside the paper's figure."""

from __future__ import annotations

import json as jsonlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.table import Table

from exposurediffusion.apps.console import UsageError, note, progress
from exposurediffusion.learn.execution import Execution
from exposurediffusion.learn.journal import read_log
from exposurediffusion.learn.presets import PRESETS, Preset, find_preset
from exposurediffusion.learn.recipe import Recipe
from exposurediffusion.learn.sources import Source

_Flag = tyro.conf.FlagCreatePairsOff[bool]
_Flat = tyro.conf.arg(name="")
_Output = tyro.conf.arg(aliases=["-o"])
Kind = Literal["auto", "sid-sony", "sid-fuji", "eld", "pairs", "raws", "images"]


def command_for(arguments: list[str]) -> Callable[..., int]:
    """The command `train`, whose defaults are those of the preset that the arguments name.

    Raises:
        UsageError: there is no such preset; the nearest names are told.
    """
    name = _named_preset(arguments)
    try:
        preset = None if name is None else find_preset(name)
    except ValueError as error:
        raise UsageError(str(error)) from error

    def train(
        preset: str = "",
        data: Path | None = None,
        output: Annotated[Path | None, _Output] = None,
        recipe: Annotated[Recipe, _Flat, tyro.conf.AvoidSubcommands] = preset.recipe if preset else Recipe(),
        execution: Annotated[Execution, _Flat] = Execution(),
        dataset: Kind = "auto",
        validation: Path | None = None,
        dark_shading: Path | None = None,
        initial: str | None = None,
        pairs: Path | None = None,
        cache: Path | None = None,
        on_problem: Literal["continue", "stop"] = "continue",
        dry_run: _Flag = False,
        listing: Annotated[_Flag, tyro.conf.arg(name="list")] = False,
    ) -> int:
        """Train a row of the paper, or one's own model; the same command goes on where it was stopped.

        Any field of the preset can be overridden by its name: --optimizer.lr 2e-4 --iterations 30000. Several
        processes: accelerate launch -m exposurediffusion train ..., or torchrun -m exposurediffusion train ...

        Example: expose train --preset eld-nafnet1-exposure --data SID -o runs/eld --batch 8 --patch 128

        Args:
            preset: a name; --list shows them all.
            data: SID or ELD, pairs, raw files, or pictures.
            output: folder of the run: checkpoint, weights, log, pictures of the validation.
            recipe: what is computed; the preset gives the defaults.
            execution: how it is computed.
            dataset: kind of `data`; auto: by what lies there.
            validation: another folder to validate on; without it scenes of `data` are held out (SID: its own split).
            dark_shading: a map (.safetensors) or a folder of dark frames, subtracted from the captures of pairs (PMN).
            initial: weights to begin from, a name or a .safetensors file of the same network.
            pairs: a CSV with the columns short,long[,ratio], for pairs whose names do not tell.
            cache: folder for decoded frames; by default beside the data.
            on_problem: files that are missing or unreadable: continue without them, or stop.
            dry_run: print the resolved configuration as JSON, and do nothing.
            listing: list the presets with the paper's figures.
        """
        if listing:
            return _list_presets()
        found = PRESETS.get(preset)
        if found is None:
            raise UsageError("--preset NAME is missing; --list shows them all")
        if dry_run:
            print(jsonlib.dumps({"preset": preset, "about": found.about, **recipe.to_dict()}, indent=1))
            return 0
        if data is None or output is None:
            raise UsageError("--data DIR and -o RUN are needed")
        if not data.is_dir():
            raise UsageError(f"{data}: no such folder")
        source = Source(data, dataset, validation, dark_shading, pairs, cache, on_problem)
        patches, unseen = source.open(recipe, note)
        provenance = {"preset": preset, "data": data.name}
        return _run(found, preset, recipe, patches, unseen, output, execution, provenance, initial)

    return train


def _named_preset(arguments: list[str]) -> str | None:
    for place, word in enumerate(arguments):
        if word == "--preset" and place + 1 < len(arguments):
            return arguments[place + 1]
        if word.startswith("--preset="):
            return word.removeprefix("--preset=")
    return None


def _run(
    found: Preset,
    name: str,
    recipe: Recipe,
    patches: Any,
    unseen: Any,
    output: Path,
    execution: Execution,
    provenance: dict[str, str],
    initial: str | None,
) -> int:
    from exposurediffusion.learn import run, trainer  # bring in accelerate, which no other command wants

    main = os.environ.get("RANK", "0") == "0"  # torchrun and accelerate number their processes so; one of them talks
    if main:
        note(f"{name}: {found.about}; {recipe.iterations:,} iterations; Ctrl-C keeps a checkpoint in {output}")
    images = recipe.batch * int(os.environ.get("WORLD_SIZE", "1"))  # an iteration, of all processes
    mean, first, begun = 0.0, 0, time.monotonic()

    def tick(iteration: int, loss: float) -> None:
        nonlocal mean, first
        mean, first = 0.99 * mean + 0.01 * loss if mean else loss, first or iteration - 1
        speed = (iteration - first) * images / (time.monotonic() - begun)
        bar.update(bar.task_ids[0], completed=iteration, description=f"loss {mean:.4f}, {speed:.0f} images/s")

    try:
        with progress(name, recipe.iterations, shown=main) as bar:
            weights = trainer.train(
                recipe,
                patches,
                output,
                validation=unseen,
                execution=execution,
                provenance=provenance,
                initial=initial,
                tick=tick,
            )
    except (trainer.Interrupted, run.NonFiniteLoss, run.WorkerLost) as error:
        note(str(error))
        return 1
    if main:
        _summarise(found, output)
        print(weights)
    return 0


def _summarise(preset: Preset, output: Path) -> None:
    """The last validation, with the paper's figure beside it."""
    entries = read_log(output, "validation")
    if not entries:
        return
    last = entries[-1]
    table = Table("ratio", "PSNR", "SSIM", "uncorrected", "the paper on SID", title="Validation (correction: final)")
    for ratio in sorted(int(key.removeprefix("psnr_x")) for key in last if key.startswith("psnr_x")):
        there = preset.expected.get(ratio)
        paper = f"{there[0]:.2f} / {there[1]:.3f}" if there else "-"
        psnr, ssim, plain = (last[f"{name}_x{ratio}"] for name in ("psnr", "ssim", "psnr_none"))
        table.add_row(f"x{ratio}", f"{psnr:.2f}", f"{ssim:.3f}", f"{plain:.2f}", paper)
    console = Console()
    console.print(table)
    console.print("The paper's figures are of SID Sony's test scenes, centre crop, oracle correction: other scenes.")


def _list_presets() -> int:
    table = Table("preset", "what", "paper", "x100", "x250", "x300")
    for name, preset in PRESETS.items():
        figures = [preset.expected.get(ratio) for ratio in (100, 250, 300)]
        cells = [f"{f[0]:.2f} / {f[1]:.3f}" if f else "-" for f in figures]
        table.add_row(name, preset.about, ", ".join(preset.tables), *cells)
    Console().print(table)
    print("PSNR in dB / SSIM that the paper reports on SID Sony (centre crop, oracle correction).")
    return 0

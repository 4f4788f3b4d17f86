"""`expose reproduce`: a table or figure of the paper, from a folder of trained weights to the printed rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from exposurediffusion.cli import console
from exposurediffusion.cli.console import Flag, Flat, Output, Summary, UsageError, as_usage, note, progress, show
from exposurediffusion.evaluation.measure import Correction, Protocol
from exposurediffusion.evaluation.results import write_text
from exposurediffusion.evaluation.selection import Selection
from exposurediffusion.evaluation.summary import Table
from exposurediffusion.files.atomic import make_folder
from exposurediffusion.files.made import MadeOtherwise
from exposurediffusion.models.device import find_device
from exposurediffusion.reproduction import paper_tables
from exposurediffusion.reproduction.budget import Budget
from exposurediffusion.reproduction.provenance import to_csv, what_was_run
from exposurediffusion.reproduction.runs import Runs
from exposurediffusion.reproduction.scorer import Scorer, Tick

Artefact = Literal[
    "table2", "table3", "table4", "table5", "table6", "table7", "fig4", "fig5", "fig6", "fig8", "ablations"
]  # fmt: skip


def reproduce(
    artefacts: Annotated[
        tuple[Artefact, ...], tyro.conf.Positional, tyro.conf.arg(metavar="NAME ...", help_behavior_hint="")
    ],
    /,
    selection: Annotated[Selection, Flat],
    weights: Path,
    output: Output,
    eld: Path | None = None,
    budget: str = "evening",
    train: Flag = False,
    seeds: int = 1,
    rates: tuple[float, ...] = (),
    corrections: tuple[Correction, ...] = ("none", "final", "oracle"),
    crop: int | Literal["auto", "whole"] = "auto",
    scene: str | None = None,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    json: Flag = False,
) -> int:
    """Make tables and figures of the paper anew: ours beside its numbers, as Markdown, CSV and plots.

    Runs are looked for in the folder of weights, as PRESET/weights.safetensors; PRESET+compute is a feed-forward run of
    equal compute (three times the iterations), PRESET+seed1 one of another seed. What is missing is a dash, or trained.
    Nothing is measured twice. Progress is of all runs that a table still needs.

    Example: expose reproduce table5 fig4 --root SID --weights runs --train --budget evening -o results

    Args:
        artefacts: table2 to table7, fig4, fig5, fig6, fig8, and ablations: choices in training and inference.
        selection: the data: measured on, and its training split trained on.
        weights: folder of runs.
        output: folder for NAME.md, NAME.csv, NAME.png and all figures that were taken.
        eld: ELD's root, for table3.
        budget: of what is trained: paper, its own recipes; evening, small networks and 2000 iterations of 4 patches of
            64x64; or another number of iterations of that kind.
        train: train what is missing.
        seeds: runs of each preset, for mean and spread.
        rates: learning rates to try every run at, as PRESET@RATE, such as 0.001 0.003; the best on the validation split
            is measured. By default the budget's own.
        corrections: of brightness by the reference: none; final, once; oracle, after every step, as published.
        crop: side of the centre crop in packed pixels, or whole; auto: 512 for SID, whole for others.
        scene: of fig5; by default the one with most highlights.
        device: where networks run.
        json: print the summary as JSON.
    """
    _check(artefacts, selection.root, weights, eld, train, seeds, rates)
    with as_usage():
        side = selection.crop if crop == "auto" else None if crop == "whole" else crop
        protocol, found = Protocol(side, corrections), find_device(device)
        size = Budget.parse(budget)
    shading, plain = selection.dark_shading or _darks(selection.root), replace(selection, dark_shading=None)
    summary = Summary(json)
    for artefact in artefacts:
        with progress(artefact, 1) as bar:
            # Anew for each: what is missing is reported for it alone.
            scorer = Scorer(plain, output, protocol, note, _ticker(bar, artefact))
            runs = Runs(weights, scorer, size, seeds, rates, training=train, device=found, dark_shading=shading)
            try:
                tables = _make(artefact, runs, output, eld, scene)
                tables += [*paper_tables.rates(runs), *what_was_run(runs.used)]
            except MadeOtherwise:
                raise
            except ValueError as error:
                absent = (
                    f" (no weights of {', '.join(runs.missing)} in {weights}; --train trains them)"
                    if runs.missing
                    else ""
                )
                summary.fail(f"{artefact}: {error}{absent}", artefact=artefact)
                continue
        _keep(artefact, tables, runs, output, summary)
    return summary.finish()


def _check(
    artefacts: tuple[Artefact, ...],
    root: Path,
    weights: Path,
    eld: Path | None,
    train: bool,
    seeds: int,
    rates: tuple[float, ...],
) -> None:
    """Raise UsageError at what cannot be done."""
    if not artefacts:
        raise UsageError("name what to reproduce, such as table4 or fig6")
    if not root.is_dir():
        raise UsageError(f"{root}: no such folder")
    if "table3" in artefacts and eld is None:
        raise UsageError(
            "table3 is measured on ELD: give its folder by --eld, real or of `expose simulate --layout eld`"
        )
    if not train and not weights.is_dir():
        raise UsageError(f"{weights}: no such folder; give the folder of trained runs, or --train")
    if seeds < 1:
        raise UsageError("--seeds is at least 1")
    if any(rate <= 0 for rate in rates) or len(set(rates)) < len(rates):
        raise UsageError("--rates are different numbers above 0")


def _ticker(bar: console.Tick, artefact: str) -> Tick:
    return lambda what, done, of: bar(done=done, total=of, text=f"{artefact}: {what}")


def _darks(root: Path) -> Path | None:
    """Dark frames as `expose simulate --darks` leaves them."""
    return next((folder for folder in (root / "Sony" / "dark", root / "dark") if folder.is_dir()), None)


def _make(artefact: Artefact, runs: Runs, output: Path, eld: Path | None, scene: str | None) -> list[Table]:
    make_folder(output)
    if artefact == "table3":
        assert eld is not None  # was checked
        return paper_tables.table3(runs, eld)
    if artefact.startswith("table"):
        return getattr(paper_tables, artefact)(runs)
    from exposurediffusion.reproduction import paper_figures

    path = output / f"{artefact}.png"
    if artefact == "fig5":
        return paper_figures.figure5(runs, path, scene)
    made = {
        "fig4": paper_figures.figure4,
        "fig6": paper_figures.figure6,
        "fig8": paper_figures.figure8,
        "ablations": paper_figures.ablations,
    }
    return made[artefact](runs, path)


def _keep(artefact: str, tables: list[Table], runs: Runs, output: Path, summary: Summary) -> None:
    missing = ""
    if runs.missing:
        missing = f"\nNot trained, so missing: {', '.join(runs.missing)}. `--train` trains them.\n"
        note(f"{artefact}: no weights of {', '.join(runs.missing)} in {runs.weights}; --train trains them")
    write_text(output / f"{artefact}.md", "\n".join(table.markdown() for table in tables) + missing)
    write_text(output / f"{artefact}.csv", to_csv(tables))
    if not summary.as_json:
        for table in tables:
            show(table)
    summary.add(str(output / f"{artefact}.md"), artefact=artefact, missing=runs.missing)

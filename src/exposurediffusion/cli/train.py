"""`expose train`: a preset, its fields overridden by name, on a data set, with a summary beside the paper's figure."""

from __future__ import annotations

import json as jsonlib
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from math import inf, nan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from exposurediffusion.cli.console import (
    INTERRUPTED,
    Flag,
    Flat,
    Summary,
    Tick,
    UsageError,
    as_usage,
    complain,
    is_main,
    note,
    on_terminal,
    print_table,
    progress,
)
from exposurediffusion.datasets.open import DatasetOptions, kind_of
from exposurediffusion.files.atomic import make_folder
from exposurediffusion.models.denoiser import backbone_options
from exposurediffusion.models.device import find_device
from exposurediffusion.physics.cameras.known import load_profiles, user_cameras
from exposurediffusion.training.execution import Execution
from exposurediffusion.training.log import read_log
from exposurediffusion.training.presets import PRESETS, Preset, find_preset
from exposurediffusion.training.recipe import Prelude, Recipe
from exposurediffusion.training.source import Source
from exposurediffusion.weights.file import load_any

if TYPE_CHECKING:
    from exposurediffusion.training.run import Run

EVERY = 30.0
"""Seconds between two lines about a run whose messages go to a file."""
PARTS = 1000


def command_for(arguments: list[str]) -> Callable[..., int]:
    """The command `train`, whose defaults are those of the preset that the arguments name.

    Raises:
        UsageError: there is no such preset; the message has the nearest names.
    """
    name = _named("--preset", arguments)
    with as_usage():
        preset = None if name is None else find_preset(name)

    default = preset.recipe if preset else Recipe()
    if _named("--initial", arguments) is not None:
        default = replace(default, prelude=Prelude())
    backbone = _named("--denoiser.backbone", arguments)
    if backbone not in (None, default.denoiser.backbone):  # the preset's options are those of its own backbone
        denoiser = replace(default.denoiser, backbone=backbone, options=backbone_options(backbone))
        default = replace(default, denoiser=denoiser)

    def train(
        preset: str = "",
        data: Path | None = None,
        output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
        recipe: Annotated[Recipe, Flat, tyro.conf.AvoidSubcommands] = default,
        execution: Annotated[Execution, Flat] = Execution(),
        reading: Annotated[DatasetOptions, Flat] = DatasetOptions(),
        validation: Path | None = None,
        initial: str | None = None,
        minutes: float | None = None,
        dry_run: Flag = False,
        listing: Annotated[Flag, tyro.conf.arg(name="list")] = False,
        json: Flag = False,
    ) -> int:
        """Train a row of the paper, or one's own model; the same command goes on where it was stopped.

        Any field of the preset can be overridden by its name: --optimizer.lr 2e-4 --iterations 30000. Several
        processes: accelerate launch -m exposurediffusion train ..., or torchrun -m exposurediffusion train ...

        Example: expose train --preset eld-nafnet1-exposure --data SID -o runs/eld --batch 8 --patch 128

        Args:
            preset: a name; --list shows them all.
            data: SID or ELD, pairs, raw files, pictures, or a file of pictures from `expose prepare`.
            output: folder of the run: checkpoint, weights, log, pictures of the validation.
            recipe: what is computed; the preset gives the defaults.
            execution: how it is computed.
            reading: how the data is read.
            validation: another folder to validate on; without it scenes of `data` are held out (SID: its own split).
            initial: weights to begin from, a name or a .safetensors file of the same network. The preset's feed-forward
                beginning is left out then, unless --prelude.share says otherwise.
            minutes: end within this time instead of after --iterations, with the learning rate's course fitted to it.
            dry_run: print the resolved configuration as JSON, which --config takes, and do nothing.
            listing: list the presets with the paper's figures.
            json: print the list as JSON.
        """
        if listing:
            return _list_presets(json)
        found = PRESETS.get(preset)
        if found is None:
            raise UsageError("--preset NAME is missing; --list shows them all")
        if recipe.capture.camera is not None:
            user_cameras(note)
            with as_usage():
                load_profiles(recipe.capture.camera)
        if dry_run:
            parts = {name: part for name, part in asdict(recipe).items() if part is not None}
            print(jsonlib.dumps({"preset": preset, **parts}, indent=1))
            return 0
        if data is None or output is None:
            raise UsageError("--data DIR and -o RUN are needed")
        _check(data, minutes, execution, reading, initial)
        make_folder(output)
        if not is_main():
            warnings.simplefilter("ignore")  # the main process says the same
        source = Source(data, validation=validation, **vars(reading))
        with progress("decoding", None, shown=is_main()) as bar:
            patches, unseen = source.open(recipe, note, lambda done, total: bar(done=done, total=total))
        job = _Job(found, preset, recipe, output, execution, initial, minutes)
        return _run(job, patches, unseen, {"preset": preset, "data": data.name})

    return train


def _check(
    data: Path, minutes: float | None, execution: Execution, reading: DatasetOptions, initial: str | None
) -> None:
    """Raise UsageError, before anything is begun, where data, time, device or weights cannot be."""
    if not data.exists():
        raise UsageError(f"{data}: no such folder or file")
    if minutes is not None and not 0 < minutes < inf:
        raise UsageError(f"--minutes {minutes:g}: a run needs more than 0, and an end")
    with as_usage():
        find_device(execution.device)
        kind_of(data, reading.dataset)
        if initial is not None:
            load_any(initial)


def _named(option: str, arguments: list[str]) -> str | None:
    """The value that the arguments give an option."""
    for place, word in enumerate(arguments):
        if word == option and place + 1 < len(arguments):
            return arguments[place + 1]
        if word.startswith(f"{option}="):
            return word.removeprefix(f"{option}=")
    return None


@dataclass(frozen=True)
class _Job:
    """What the command was asked for."""

    preset: Preset
    name: str
    recipe: Recipe
    output: Path
    execution: Execution
    initial: str | None
    minutes: float | None


def _run(job: _Job, patches: Any, unseen: Any, provenance: dict[str, str]) -> int:
    from exposurediffusion.training import checkpoints, execution, trainer

    length = f"{job.recipe.iterations:,} iterations" if job.minutes is None else f"{job.minutes:g} minutes"
    note(f"{job.name}: {job.preset.about}; {length}; Ctrl-C keeps a checkpoint in {job.output}")
    try:
        with progress(job.name, PARTS, shown=is_main()) as bar:
            weights = trainer.train(
                job.recipe,
                patches,
                job.output,
                validation=unseen,
                execution=job.execution,
                provenance=provenance,
                initial=job.initial,
                minutes=job.minutes,
                report=note,
                tick=_Reporter(bar, note),
            )
    except trainer.Interrupted as error:
        note(str(error))
        return INTERRUPTED
    except (checkpoints.NonFiniteLoss, execution.WorkerLost) as error:
        complain(str(error))
        return 1
    if is_main():
        _summarise(job.preset, job.output)
        print(weights)
    return 0


class _Reporter:
    """Reports how far a run is: at each reading on a terminal, every half minute where messages go to a file.

    The loss is the mean of all iterations since the last report, or of at least a hundred on a terminal.
    """

    def __init__(self, bar: Tick, report: Callable[[str], None]) -> None:
        self.bar, self.report = bar, report
        self.begun = self.reported = time.monotonic()
        self.first = self.at = -1
        self.done = 0.0
        self.total, self.count, self.shown = 0.0, 0, ""

    def __call__(self, run: Run, loss: float) -> None:
        """A reading of a run, and the mean loss since the one before."""
        if self.at < 0:  # speed and time left are known from what follows
            self.at = self.first = run.iteration
            self.begun, self.done = time.monotonic(), run.done
        count, self.at = max(1, run.iteration - self.at), run.iteration
        self.total, self.count = self.total + loss * count, self.count + count
        now = time.monotonic()
        due = self.count >= 100 if on_terminal() else now - self.reported > EVERY
        if due or run.done >= 1:
            self.shown = f"loss {self.total / self.count:.4f}"
            speed = (run.iteration - self.first) * run.images / max(now - self.begun, 1e-9)
            if not on_terminal():
                left = (now - self.begun) * (1 - run.done) / max(run.done - self.done, 1e-9) / 60
                part = f"iteration {run.iteration:,}, {100 * run.done:.1f} %, {run.clock.spent:.1f} minutes"
                self.report(f"{part}, {self.shown}, {speed:.0f} images/s, {left:.1f} minutes left")
            self.shown += f", {speed:.0f} images/s"
            self.total, self.count, self.reported = 0.0, 0, now
        self.bar(done=int(PARTS * run.done), text=self.shown)


def _summarise(preset: Preset, output: Path) -> None:
    """The last validation, with the paper's figure beside it."""
    entries = read_log(output, "validation")
    if not entries:
        return
    last = entries[-1]
    rows = []
    ratios = [int(digits) for key in last if (digits := key.removeprefix("psnr_x")).isdecimal()]
    for ratio in sorted(ratios):
        there = preset.expected.get(ratio)
        paper = f"{there[0]:.2f} / {there[1]:.3f}" if there else "-"
        psnr, ssim, plain = (last.get(f"{name}_x{ratio}", nan) for name in ("psnr", "ssim", "psnr_none"))
        rows.append([f"x{ratio}", f"{psnr:.2f}", f"{ssim:.3f}", f"{plain:.2f}", paper])
    header = ["ratio", "PSNR", "SSIM", "uncorrected", "the paper on SID"]
    print_table(header, rows, "Validation (correction: final)")
    print("The paper's figures are of SID Sony's test scenes, centre crop, oracle correction: other scenes.")


def _list_presets(json: bool) -> int:
    summary = Summary(json)
    rows = []
    for name, preset in PRESETS.items():
        expected = {f"x{ratio}": list(figures) for ratio, figures in preset.expected.items()}
        summary.add(None, preset=name, about=preset.about, tables=list(preset.tables), paper=expected)
        figures = [preset.expected.get(ratio) for ratio in (100, 250, 300)]
        cells = [f"{f[0]:.2f} / {f[1]:.3f}" if f else "-" for f in figures]
        rows.append([name, preset.about, ", ".join(preset.tables), *cells])
    if not json:
        print_table(["preset", "what", "paper", "x100", "x250", "x300"], rows)
        print("PSNR in dB / SSIM that the paper reports on SID Sony (centre crop, oracle correction).")
    return summary.finish()

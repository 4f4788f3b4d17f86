"""Training: one visible loop."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from safetensors.torch import save

from exposurediffusion.data.files import atomic
from exposurediffusion.learn.batches import Batch, Patches
from exposurediffusion.learn.execution import Execution
from exposurediffusion.learn.journal import Journal
from exposurediffusion.learn.recipe import Recipe
from exposurediffusion.learn.run import NonFiniteLoss, Run
from exposurediffusion.learn.validation import Validation


class Interrupted(Exception):
    """Ctrl-C or SIGTERM: the checkpoint has been written."""


def train(
    recipe: Recipe,
    patches: Patches,
    output: Path,
    *,
    validation: Patches | None = None,
    execution: Execution = Execution(),
    provenance: dict[str, Any] | None = None,
    initial: str | Path | None = None,
    tick: Callable[[int, float], None] = lambda iteration, loss: None,
) -> Path:
    """Train a recipe, or go on where a run in `output` stopped.

    Args:
        recipe: what to train.
        patches: the data.
        output: folder of the run: checkpoint.pt, weights (.safetensors), log.jsonl, validation pictures.
        validation: scenes that are not trained on; None: no validation.
        execution: device, precision, workers, intervals.
        provenance: more for the header of the weights, e.g. preset and data.
        initial: weights to begin from, a name or file; of the same network.
        tick: called after each iteration with its number and loss.

    Returns:
        The final weights file.

    Raises:
        ValueError: data and recipe do not go together, or the checkpoint is of another recipe.
        Interrupted: by Ctrl-C or SIGTERM, after a checkpoint.
        NonFiniteLoss: with the weights of the last checkpoint left whole, and the batch in nonfinite.safetensors.
        WorkerLost: another process of a distributed run has ended.
    """
    if patches.planes != recipe.planes:
        raise ValueError(
            f"the network has {recipe.planes} planes, the data {patches.planes} (4: Bayer, 9: X-Trans): "
            f"add --denoiser.planes {patches.planes}"
        )
    run = Run(recipe, execution)
    checkpoint = output / "checkpoint.pt"
    if checkpoint.exists():
        run.restore(checkpoint)
    elif initial is not None:
        run.begin_from(initial)
    judge = (
        None
        if validation is None or not run.is_main
        else Validation(validation, recipe, size=execution.validation_patch)
    )
    with _stop_signals() as stop, _journal(run, output, execution) as journal:
        progress = _Progress(journal, run.iteration)
        for batch in run.batches(patches, execution.workers):
            try:
                loss, stopping = run.step(batch, bool(stop))
            except NonFiniteLoss as error:
                kept = _keep(batch, output, run)
                raise NonFiniteLoss(f"{error}; the batch is kept in {kept}") from error
            progress.add(loss, len(batch.numbers) * run.accelerator.num_processes)
            tick(run.iteration, loss)
            last = run.iteration == recipe.iterations
            if run.iteration % 100 == 0 or last or stopping:
                progress.write(run.iteration, recipe.rate_at(run.iteration - 1))
            if last or (execution.validate_every and run.iteration % execution.validate_every == 0):
                _validate(run, judge, journal)
            if stopping or last or progress.minutes > execution.checkpoint_minutes:
                run.save(checkpoint)
                run.export(output / "checkpoint.safetensors", provenance)
                progress.saved()
            if stopping:
                raise Interrupted(f"stopped at iteration {run.iteration}; run the same command to go on")
    run.export(output / "weights.safetensors", provenance)
    run.accelerator.wait_for_everyone()
    return output / "weights.safetensors"


class _Progress:
    """Mean loss and speed since the last line of the log, and the time since the last checkpoint."""

    def __init__(self, journal: Journal | None, iteration: int) -> None:
        self.journal, self.count, self.images, self.total = journal, 0, 0, 0.0
        self.since = self.checkpoint = time.monotonic()

    def add(self, loss: float, images: int) -> None:
        self.total, self.count, self.images = self.total + loss, self.count + 1, self.images + images

    def write(self, iteration: int, rate: float) -> None:
        elapsed = time.monotonic() - self.since
        if self.journal is not None:
            self.journal.write(
                "training", iteration, loss=self.total / self.count, lr=rate, images_per_second=self.images / elapsed
            )
        self.total, self.count, self.images, self.since = 0.0, 0, 0, time.monotonic()

    @property
    def minutes(self) -> float:
        return (time.monotonic() - self.checkpoint) / 60

    def saved(self) -> None:
        self.checkpoint = time.monotonic()


def _journal(run: Run, folder: Path, execution: Execution) -> AbstractContextManager[Journal | None]:
    return Journal(folder, run.iteration, execution.tensorboard) if run.is_main else nullcontext()


def _validate(run: Run, judge: Validation | None, journal: Journal | None) -> None:
    """Measure the averaged weights; the main process alone does, the others wait at their next step."""
    if judge is None or journal is None:
        return
    with run.averaged() as denoiser:
        figures, pictures = judge(denoiser)
    journal.write("validation", run.iteration, **figures)
    for name, pixels in pictures.items():
        journal.picture(name, run.iteration, pixels)


def _keep(batch: Batch, folder: Path, run: Run) -> Path:
    """Save the batch that ruined a step, captures included, for whoever looks into it."""
    captures = run.capture(batch.to(run.device))
    tensors = {**batch.tensors(), "capture": captures.capture, "target": captures.target}
    path = folder / f"nonfinite-{run.accelerator.process_index}.safetensors"
    with atomic(path) as stream:
        content = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        stream.write(save(content, metadata={"iteration": str(run.iteration), "patches": str(list(batch.numbers))}))
    return path


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """The signals SIGINT and SIGTERM that have come: they end the run after its present step."""
    came: list[int] = []
    handlers = {s: signal.signal(s, lambda number, _: came.append(number)) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)

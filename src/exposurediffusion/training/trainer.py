"""Training: one visible loop."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, NoReturn

from safetensors.torch import save

from exposurediffusion.files.atomic import alone_in, atomic
from exposurediffusion.pictures.views import CleanViews
from exposurediffusion.training.batches import Batch, Patches
from exposurediffusion.training.checkpoints import DamagedError, NonFiniteLoss, earlier, kept
from exposurediffusion.training.execution import Execution
from exposurediffusion.training.log import RunLog
from exposurediffusion.training.recipe import Recipe
from exposurediffusion.training.run import Run
from exposurediffusion.training.source import fitting, validation_side
from exposurediffusion.training.validation import Validation

READ_EVERY = 20
"""Iterations between two readings of a GPU, each of which waits for it; a CPU is read at each."""


class Interrupted(Exception):
    """Ctrl-C or SIGTERM: the checkpoint has been written."""


def train(
    recipe: Recipe,
    patches: Patches | CleanViews,
    output: Path,
    *,
    validation: Patches | CleanViews | None = None,
    execution: Execution = Execution(),
    provenance: dict[str, Any] | None = None,
    initial: str | Path | None = None,
    minutes: float | None = None,
    report: Callable[[str], None] = lambda _: None,
    tick: Callable[[Run, float], None] = lambda run, loss: None,
) -> Path:
    """Train a recipe, or go on where a run in `output` stopped.

    Args:
        recipe: what to train; its patches are made smaller where the frames do not hold them.
        patches: the data.
        output: folder of the run: checkpoint.pt, weights (.safetensors), log.jsonl, validation pictures.
        validation: scenes that are not trained on; None: no validation.
        execution: device, precision, workers, intervals.
        provenance: more for the header of the weights, e.g. preset and data.
        initial: weights to begin from, a name or file; of the same network.
        minutes: end within this time, all sessions together, the schedule at its end; None: after `iterations`.
        report: is given what people should read.
        tick: called now and then with the run and its mean loss since the last call.

    Returns:
        The final weights file.

    Raises:
        ValueError: data and recipe do not go together, the checkpoint is of another recipe, or another run writes here.
        Interrupted: by Ctrl-C or SIGTERM, after a checkpoint.
        NonFiniteLoss: the batch is in nonfinite-0.safetensors, and the checkpoint is never of ruined weights.
        WorkerLost: another process of a distributed run has ended.
    """
    _check_planes(recipe, patches)
    recipe = fitting(recipe, patches, report)
    run = Run(recipe, execution, minutes, report)
    checkpoint, weights = output / "checkpoint.pt", output / "weights.safetensors"
    _begin(run, checkpoint, initial, report)
    validate = _validation(run, validation, execution, report)
    if isinstance(patches, CleanViews):
        patches = patches.to(run.device)
    every = 1 if run.device.type == "cpu" else READ_EVERY
    with _stop_signals() as stop, _alone(run, output), _log(run, output, execution) as log:
        progress = _Progress(log, run.iteration)
        if minutes is not None and run.done < 1:
            _rehearse(run, checkpoint, validate, log)
        for batch in run.batches(patches, execution.workers):
            run.step(batch)
            last = run.done >= 1 and minutes is None
            due = execution.validate_every and run.iteration % execution.validate_every == 0
            if not (run.iteration % every == 0 or last or due):
                continue
            reading = run.read(bool(stop))
            if reading.ruined is not None:
                _leave_out(run, patches, reading.ruined, checkpoint)
            progress.add(reading.loss, run.iteration, run.images)
            tick(run, reading.loss)
            last = run.done >= 1
            if last or reading.stopping or progress.iterations >= 100:
                progress.write(run.iteration, run.rate)
            if last:
                run.export(weights, provenance)  # first: a disk may have room for the result alone
            if reading.stopping or last:
                _write(run, output, provenance)
            elif progress.minutes > execution.checkpoint_minutes:
                _write_if_possible(run, output, provenance, report)
                progress.saved()
            if last or due:
                _validate(run, validate, log)
            if last:
                break
            if reading.stopping:
                raise Interrupted(f"stopped at iteration {run.iteration}; run the same command to go on")
        else:  # nothing was left to do
            run.export(weights, provenance)
    run.accelerator.wait_for_everyone()
    return weights


def _check_planes(recipe: Recipe, patches: Patches | CleanViews) -> None:
    if patches.planes != recipe.planes:
        raise ValueError(
            f"the network has {recipe.planes} planes, the data {patches.planes} (4: Bayer, 9: X-Trans): "
            f"add --denoiser.planes {patches.planes}"
        )


def _begin(run: Run, checkpoint: Path, initial: str | Path | None, report: Callable[[str], None]) -> None:
    """From the checkpoint, if there is one, else from the initial weights, if they are given."""
    if checkpoint.exists():
        try:
            run.restore(checkpoint)
        except DamagedError as error:
            if not earlier(checkpoint).exists():
                raise
            report(f"{checkpoint}: damaged; the one before it is taken ({error})")
            checkpoint = earlier(checkpoint)
            run.restore(checkpoint)
        report(f"going on from {checkpoint}: {run.iteration:,} iterations done in {run.clock.spent:.1f} minutes")
    elif initial is not None:
        run.begin_from(initial)


def _validation(
    run: Run, patches: Patches | CleanViews | None, execution: Execution, report: Callable[[str], None]
) -> Validation | None:
    """None without patches, and in all processes but the main one."""
    if patches is None or not run.is_main:
        return None
    return Validation(patches, run.recipe, size=validation_side(execution.validation_patch, patches, report))


def _rehearse(run: Run, checkpoint: Path, validate: Validation | None, log: RunLog | None) -> None:
    """Write a checkpoint and validate once, so that a run by the clock keeps time for both at its end."""
    begun = time.monotonic()
    run.save(checkpoint)  # a disk that cannot hold it is better known now
    _validate(run, validate, log)
    run.clock.reserve = 2 * (time.monotonic() - begun) / 60


def _write(run: Run, output: Path, provenance: dict[str, Any] | None) -> None:
    run.save(output / "checkpoint.pt")
    run.export(output / "checkpoint.safetensors", provenance)


def _write_if_possible(
    run: Run, output: Path, provenance: dict[str, Any] | None, report: Callable[[str], None]
) -> None:
    """A checkpoint on the way: a full disk, which may have room again the next time, does not end the run."""
    try:
        _write(run, output, provenance)
    except OSError as error:
        checkpoint = output / "checkpoint.pt"
        there = "the last one is whole" if checkpoint.exists() else "there is none yet"
        report(f"{checkpoint}: not written ({error.strerror or error}); {there}, going on")


class _Progress:
    """Mean loss and speed since the last line of the log, and the time since the last checkpoint."""

    def __init__(self, log: RunLog | None, iteration: int) -> None:
        self.log, self.at, self.iterations, self.images, self.total = log, iteration, 0, 0, 0.0
        self.since = self.checkpoint = time.monotonic()

    def add(self, loss: float, iteration: int, images: int) -> None:
        """The mean loss of the iterations up to this one, of so many images each."""
        count, self.at = iteration - self.at, iteration
        self.total, self.iterations = self.total + loss * count, self.iterations + count
        self.images += images * count

    def write(self, iteration: int, rate: float) -> None:
        elapsed = time.monotonic() - self.since
        if self.log is not None:
            speed, mean = self.images / elapsed, self.total / self.iterations
            self.log.write("training", iteration, loss=mean, lr=rate, images_per_second=speed)
        self.total, self.iterations, self.images, self.since = 0.0, 0, 0, time.monotonic()

    @property
    def minutes(self) -> float:
        return (time.monotonic() - self.checkpoint) / 60

    def saved(self) -> None:
        self.checkpoint = time.monotonic()


def _alone(run: Run, folder: Path) -> AbstractContextManager[None]:
    return alone_in(folder) if run.is_main else nullcontext()


def _log(run: Run, folder: Path, execution: Execution) -> AbstractContextManager[RunLog | None]:
    return RunLog(folder, run.iteration, execution.tensorboard) if run.is_main else nullcontext()


def _validate(run: Run, validate: Validation | None, log: RunLog | None) -> None:
    """Measure the averaged weights; the main process alone does, the others wait at their next step."""
    if validate is None or log is None:
        return
    with run.averaged() as denoiser:
        figures, pictures = validate(denoiser)
    log.write("validation", run.iteration, **figures)
    for name, pixels in pictures.items():
        log.picture(name, run.iteration, pixels)


def _leave_out(run: Run, patches: Patches | CleanViews, iteration: int, checkpoint: Path) -> NoReturn:
    """End a run at a batch that gave no numbers: so that it goes on after it, unless the weights are to blame."""
    batch = _keep(run.batch(patches, iteration), iteration, checkpoint.parent, run)
    text = f"a loss or gradient was no number at iteration {iteration}; the batch is kept in {batch}"
    if not run.is_sound(run.batch(patches, run.iteration)):
        raise NonFiniteLoss(f"{text}; nor is that of the next batch, the weights have diverged; {kept(checkpoint)}")
    run.save(checkpoint)
    raise NonFiniteLoss(
        f"{text}; the same command goes on without it; if that fails too, lower --optimizer.lr in another folder"
    )


def _keep(batch: Batch, iteration: int, folder: Path, run: Run) -> Path:
    """Save the batch that ruined a step, captures included, for whoever looks into it."""
    captures = run.capture(batch.to(run.device), iteration, run.accelerator.process_index)
    tensors = {**batch.tensors(), "capture": captures.capture, "target": captures.target}
    path = folder / f"nonfinite-{run.accelerator.process_index}.safetensors"
    with atomic(path) as stream:
        content = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        stream.write(save(content, metadata={"iteration": str(iteration), "patches": str(list(batch.numbers))}))
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

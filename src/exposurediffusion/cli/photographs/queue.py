"""`expose enhance`: one file after the other; meanwhile the next is decoded, and the last is written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

from exposurediffusion.cli.console import Summary, note, progress, reason
from exposurediffusion.cli.photographs.jobs import Job
from exposurediffusion.cli.photographs.outputs import ResultOptions, write_result
from exposurediffusion.enhancement.frame import Enhanced, run_plan, tile_count
from exposurediffusion.enhancement.options import EnhanceOptions
from exposurediffusion.enhancement.plan import EnhancePlan, plan
from exposurediffusion.files.atomic import make_folder
from exposurediffusion.physics.sensor import RawFrame
from exposurediffusion.raw.read import read_raw
from exposurediffusion.raw.white_balance import white_balance
from exposurediffusion.weights.file import TrainedDenoiser


@dataclass(frozen=True)
class Queue:
    """All that is the same for every job.

    Attributes:
        model: on its device.
        options: of `enhance`.
        results: how they are written.
        debug: let errors through.
        summary: is given what was done, kept, and failed.
    """

    model: TrainedDenoiser
    options: EnhanceOptions
    results: ResultOptions
    debug: bool
    summary: Summary

    def run(self, jobs: list[Job]) -> None:
        """Do each job; one that fails is reported, and the others are done."""
        due = list(self._due(jobs))
        writing: Future[None] | None = None
        with ThreadPoolExecutor(1) as writer, progress("", len(due) or None) as tick:
            for number, (job, reading) in enumerate(_read_ahead(due)):
                label = f"{number + 1}/{len(due)} {job.source.name}"
                tick(done=number, text=label)
                with self._reporting(job):
                    started = perf_counter()
                    frame = white_balance(reading.result(), self.options.white_balance)
                    decided = self._plan(job, frame)
                    tiles = tile_count(self.model, decided)
                    result = run_plan(self.model, decided, lambda share=1 / tiles: tick(share))
                    if writing is not None:
                        writing.result()  # at most one result waits
                    writing = writer.submit(self._finish, job, frame, decided, result, started)
                tick(done=number + 1)
            if writing is not None:
                writing.result()  # what nobody expected, or --debug lets through, is not lost in its thread

    def _due(self, jobs: list[Job]) -> Iterator[Job]:
        """The jobs that are to be done: not those whose result is kept, or that something else is in the way of."""
        taken: dict[Path, Path] = {}
        for job in jobs:
            with self._reporting(job):
                self._check_free(job, taken)
                taken |= dict.fromkeys(self.results.files(job), job.source)
                if self._keeps(job):
                    self.summary.keep(job.target, input=str(job.source))
                else:
                    yield job

    def _keeps(self, job: Job) -> bool:
        return job.target.exists() and not self.results.overwrite

    def _check_free(self, job: Job, taken: Mapping[Path, Path]) -> None:
        """Raise a ValueError where a job would replace an input, the result of another, or a file unasked."""
        for path in self.results.files(job):
            if path in taken:
                raise ValueError(f"{job.source}: it would overwrite the result of {taken[path]}: enhance it alone")
            if path.exists() and path.samefile(job.source):
                raise ValueError(f"{path} exists already: it is the input")
            if path.exists() and not (self.results.overwrite or self._keeps(job)):
                raise ValueError(f"{path} exists already: use --overwrite to replace it")

    @contextmanager
    def _reporting(self, job: Job) -> Iterator[None]:
        """Report what goes wrong with a job."""
        try:
            yield
        except (ValueError, OSError, MemoryError, RuntimeError) as error:
            if self.debug:
                raise
            text = reason(error)
            if not any(str(path) in text for path in (job.source, job.target, job.target.parent)):
                text = f"{job.source}: {text}"
            self.summary.fail(text, input=str(job.source))

    def _plan(self, job: Job, frame: RawFrame) -> EnhancePlan:
        options = self.options
        if options.exposure == "auto" and not self.results.needs_headroom(job):
            options = replace(options, exposure="reference")
        decided = plan(frame, self.model, options)
        for text in (describe(decided), *decided.frame.notes):
            note(f"{job.source.name}: {text}")
        return decided

    def _finish(self, job: Job, capture: RawFrame, decided: EnhancePlan, result: Enhanced, started: float) -> None:
        """Write a result, and report it; in a thread of its own."""
        with self._reporting(job):
            make_folder(job.target.parent)
            write_result(job, capture, decided.ratio, result, self.results)
            self._add(job, decided, result, perf_counter() - started)

    def _add(self, job: Job, decided: EnhancePlan, result: Enhanced, seconds: float) -> None:
        """Report a result that is written."""
        offsets = {"rows": result.row_offsets, "columns": result.column_offsets}
        lines = {name: round(float(values.std()), 2) for name, values in offsets.items() if values is not None}
        for name, deviation in lines.items():
            note(f"{job.source.name}: offsets of {name} taken out, {deviation:g} DN in standard deviation")
        samples, ev = decided.options.samples, result.frame.metadata.baseline_exposure
        many = f" {samples} samples," if samples > 1 else ""
        brighter = f" {ev:+.3g} EV in editors that obey BaselineExposure," if job.format == "dng" and ev else ""
        self.summary.add(
            f"{job.target}  x{decided.ratio:g}, T = {decided.sampling.steps},{many}{brighter} {seconds:.1f} s",
            input=str(job.source),
            output=str(job.target),
            ratio=decided.ratio,
            steps=decided.sampling.steps,
            noise_level=decided.noise_level,
            exposure=decided.options.exposure,
            baseline_exposure=ev,
            gain=float(decided.noise.gain),
            read_noise=float(decided.noise.read_variance) ** 0.5,
            noise_source=decided.noise.source,
            black_level=list(decided.frame.sensor.black_level),
            offsets_taken_out=lines,
            mended={"found": decided.found, "listed": decided.listed},
            notes=list(decided.frame.notes),
            seconds=round(seconds, 2),
            **({"samples": samples} if samples > 1 else {}),
            **{name: str(path) for name, path in job.maps.items()},
        )


def _read_ahead(jobs: list[Job]) -> Iterator[tuple[Job, Future[RawFrame]]]:
    """Each job with its frame; while it is worked on, the next is decoded."""
    with ThreadPoolExecutor(1) as reader:
        ahead = [reader.submit(read_raw, job.source) for job in jobs[:1]]
        for number, job in enumerate(jobs):
            reading = ahead.pop()
            reading.exception()  # it is done, and its error is for the one who asks for the frame
            ahead = [reader.submit(read_raw, later.source) for later in jobs[number + 1 : number + 2]]
            yield job, reading


def describe(decided: EnhancePlan) -> str:
    """What is about to be done, in one line."""
    noise, frame = decided.noise, decided.frame
    mended = f"; hot and dead sites mended: {decided.found:,}" if decided.found else ""
    mended += f"; listed defects mended: {decided.listed:,}" if decided.listed else ""
    mended += "; dark shading taken out" if decided.shaded else ""
    return (
        f"{frame.metadata.camera or 'unknown camera'}, {frame.shape[1]}x{frame.shape[0]} "
        f"{frame.sensor.cfa.name}, x{decided.ratio:g}; gain {float(noise.gain):.3g} DN/e, "
        f"read noise {float(noise.read_variance) ** 0.5:.3g} DN ({noise.source}){mended}"
    )

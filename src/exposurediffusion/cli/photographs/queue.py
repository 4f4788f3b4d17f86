"""`expose enhance`: one file after the other; meanwhile the next is decoded, and the last is written."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from exposurediffusion.cli.console import Summary, note, progress
from exposurediffusion.enhancement.plan import EnhancePlan
from exposurediffusion.photographs.enhancer import Enhancer, Made, failure
from exposurediffusion.photographs.failures import ERRORS
from exposurediffusion.photographs.photograph import Job
from exposurediffusion.physics.sensor import RawFrame


@dataclass(frozen=True)
class Queue:
    """All that is the same for every job.

    Attributes:
        enhancer: of one photograph.
        debug: let errors through.
        summary: is given what was done, kept, and failed.
    """

    enhancer: Enhancer
    debug: bool
    summary: Summary

    def run(self, jobs: list[Job]) -> None:
        """Do each job; one that fails is reported, and the others are done."""
        due = list(self._due(jobs))
        writing: Future[None] | None = None
        with ThreadPoolExecutor(1) as writer, progress("", len(due) or None) as tick:
            for number, (job, reading) in enumerate(self._read_ahead(due)):
                label = f"{number + 1}/{len(due)} {job.source.name}"
                tick(done=number, text=label)
                with self._reporting(job):
                    started = perf_counter()
                    capture = reading.result()
                    decided = self.enhancer.plan(job, capture)
                    for text in (describe(decided), *decided.frame.notes):
                        note(f"{job.source.name}: {text}")
                    made = self.enhancer.run(job, capture, decided, tick)
                    if writing is not None:
                        writing.result()  # at most one result waits
                    writing = writer.submit(self._finish, made, started)
                tick(done=number + 1)
            if writing is not None:
                writing.result()  # what nobody expected, or --debug lets through, is not lost in its thread

    def _due(self, jobs: list[Job]) -> Iterator[Job]:
        """The jobs that are to be done: not those whose result is kept, or that something else is in the way of."""
        taken: dict[Path, Path] = {}
        for job in jobs:
            with self._reporting(job):
                self.enhancer.check_free(job, taken)
                taken |= dict.fromkeys(self.enhancer.results.files(job), job.source)
                if self.enhancer.keeps(job):
                    self.summary.keep(job.target, input=str(job.source))
                else:
                    yield job

    def _read_ahead(self, jobs: list[Job]) -> Iterator[tuple[Job, Future[RawFrame]]]:
        """Each job with its frame; while it is worked on, the next is decoded."""
        read = self.enhancer.read
        with ThreadPoolExecutor(1) as reader:
            ahead = [reader.submit(read, job) for job in jobs[:1]]
            for number, job in enumerate(jobs):
                reading = ahead.pop()
                reading.exception()  # it is done, and its error is for the one who asks for the frame
                ahead = [reader.submit(read, later) for later in jobs[number + 1 : number + 2]]
                yield job, reading

    @contextmanager
    def _reporting(self, job: Job) -> Iterator[None]:
        """Report what goes wrong with a job."""
        try:
            yield
        except ERRORS as error:
            if self.debug:
                raise
            self.summary.fail(failure(error, job), input=str(job.source))

    def _finish(self, made: Made, started: float) -> None:
        """Write a result, and report it; in a thread of its own."""
        with self._reporting(made.job):
            self.enhancer.write(made)
            self._add(made, perf_counter() - started)

    def _add(self, made: Made, seconds: float) -> None:
        """Report a result that is written."""
        job, decided = made.job, made.decided
        for name, deviation in made.lines.items():
            note(f"{job.source.name}: offsets of {name} taken out, {deviation:g} DN in standard deviation")
        samples, ev = decided.options.samples, made.result.frame.metadata.baseline_exposure
        many = f" {samples} samples," if samples > 1 else ""
        brighter = f" {ev:+.3g} EV in editors that obey BaselineExposure," if job.format == "dng" and ev else ""
        self.summary.add(
            f"{job.target}  x{decided.ratio:g}, T = {decided.sampling.steps},{many}{brighter} {seconds:.1f} s",
            **made.facts(),
            seconds=round(seconds, 2),
        )


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

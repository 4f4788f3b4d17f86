"""One photograph after the same recipe, whoever asks for it: plan, run, write."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from exposurediffusion.decoding.megapixels import MAX_MEGAPIXELS
from exposurediffusion.enhancement.frame import Enhanced, run_plan, tile_count
from exposurediffusion.enhancement.options import EnhanceOptions
from exposurediffusion.enhancement.plan import EnhancePlan, plan
from exposurediffusion.files.atomic import make_folder
from exposurediffusion.photographs.failures import reason
from exposurediffusion.photographs.outputs import ResultOptions, write_result
from exposurediffusion.photographs.photograph import Job
from exposurediffusion.physics.sensor import RawFrame
from exposurediffusion.raw.read import read_raw
from exposurediffusion.raw.white_balance import white_balance
from exposurediffusion.weights.file import TrainedDenoiser


@dataclass(frozen=True)
class Made:
    """What became of a photograph.

    Attributes:
        job: its files.
        capture: as read, in the white balance of the result.
        decided: the plan.
        result: what came of it.
    """

    job: Job
    capture: RawFrame
    decided: EnhancePlan
    result: Enhanced

    @property
    def lines(self) -> dict[str, float]:
        """Standard deviation of the offsets that were taken out of rows and columns, DN; empty: none were."""
        offsets = {"rows": self.result.row_offsets, "columns": self.result.column_offsets}
        return {name: round(float(values.std()), 2) for name, values in offsets.items() if values is not None}

    def facts(self) -> dict[str, Any]:
        """What was done, for a machine."""
        job, decided, samples = self.job, self.decided, self.decided.options.samples
        return {
            "input": str(job.source),
            "output": str(job.target),
            "ratio": decided.ratio,
            "steps": decided.sampling.steps,
            "noise_level": decided.noise_level,
            "exposure": decided.options.exposure,
            "baseline_exposure": self.result.frame.metadata.baseline_exposure,
            "gain": float(decided.noise.gain),
            "read_noise": float(decided.noise.read_variance) ** 0.5,
            "noise_source": decided.noise.source,
            "black_level": list(decided.frame.sensor.black_level),
            "offsets_taken_out": self.lines,
            "mended": {"found": decided.found, "listed": decided.listed},
            "notes": list(decided.frame.notes),
            **({"samples": samples} if samples > 1 else {}),
            **{name: str(path) for name, path in job.maps.items()},
        }


@dataclass(frozen=True)
class Enhancer:
    """All that is the same for every photograph.

    Attributes:
        model: on its device.
        options: of the enhancement.
        results: how they are written.
        max_megapixels: larger photographs are refused.
    """

    model: TrainedDenoiser
    options: EnhanceOptions
    results: ResultOptions
    max_megapixels: float = MAX_MEGAPIXELS

    @property
    def maps(self) -> tuple[str, ...]:
        """Names of the maps that are written beside each result."""
        wanted = {"overruled": self.options.maps, "spread": self.options.samples > 1}
        return tuple(name for name, is_wanted in wanted.items() if is_wanted)

    def keeps(self, job: Job) -> bool:
        """Whether the result is there already, and stays."""
        return job.target.exists() and not self.results.overwrite

    def check_free(self, job: Job, taken: Mapping[Path, Path]) -> None:
        """Raise a ValueError where a job would replace an input, the result of another, or a file unasked.

        Args:
            job: that is to be done.
            taken: files that other jobs write, and the sources of these.
        """
        for path in self.results.files(job):
            if path in taken:
                raise ValueError(f"{job.source}: it would overwrite the result of {taken[path]}: enhance it alone")
            if path.exists() and path.samefile(job.source):
                raise ValueError(f"{path} exists already: it is the input")
            if path.exists() and not (self.results.overwrite or self.keeps(job)):
                raise ValueError(f"{path} exists already: use --overwrite to replace it")

    def read(self, job: Job) -> RawFrame:
        """The capture, in the white balance of the result."""
        return white_balance(read_raw(job.source, self.max_megapixels), self.options.white_balance)

    def plan(self, job: Job, capture: RawFrame) -> EnhancePlan:
        """What is to be done with a capture that was read."""
        options = self.options
        if options.exposure == "auto" and not self.results.needs_headroom(job):
            options = replace(options, exposure="reference")
        return plan(capture, self.model, options)

    def run(
        self, job: Job, capture: RawFrame, decided: EnhancePlan, tick: Callable[[float], None] = lambda _: None
    ) -> Made:
        """Carry the plan out; `tick` is given the share of the work that each step of it was."""
        share = 1 / tile_count(self.model, decided)
        return Made(job, capture, decided, run_plan(self.model, decided, lambda: tick(share)))

    def write(self, made: Made) -> None:
        """Write a result, whole or not at all."""
        make_folder(made.job.target.parent)
        write_result(made.job, made.capture, made.decided.ratio, made.result, self.results)

    def __call__(self, job: Job, tick: Callable[[float], None] = lambda _: None) -> Made:
        """All of it in turn.

        Raises:
            ValueError, OSError, MemoryError, RuntimeError: it cannot be read or enhanced, or its result not be written.
        """
        capture = self.read(job)
        made = self.run(job, capture, self.plan(job, capture), tick)
        self.write(made)
        return made


def failure(error: BaseException, job: Job) -> str:
    """What went wrong with a job, which is named."""
    text = reason(error)
    places = {str(path) for path in (job.source, job.target, job.target.parent)} - {"."}  # any text may hold that
    named = any(place in text for place in places)
    return text if named else f"{job.source}: {text}"

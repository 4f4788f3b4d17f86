"""`expose enhance`: which files go in, where the results go, and one file after the other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

from exposurediffusion.cli.console import Summary, UsageError, note, progress, reason
from exposurediffusion.datasets.listing import find_raws
from exposurediffusion.enhancement.corrections import with_hot_sites_of
from exposurediffusion.enhancement.frame import EnhancePlan, plan, run_plan, tile_count
from exposurediffusion.files.atomic import make_folder
from exposurediffusion.files.dng import write_dng
from exposurediffusion.files.images import write_map
from exposurediffusion.files.render import render
from exposurediffusion.physics.camera import CameraProfile
from exposurediffusion.physics.sensor import RawFrame
from exposurediffusion.process.sampling import Sampling
from exposurediffusion.raw.read import read_raw
from exposurediffusion.raw.white_balance import white_balance
from exposurediffusion.weights.file import TrainedDenoiser

Format = Literal["dng", "tiff", "png", "jpeg"]
SUFFIXES: dict[Format, str] = {"dng": ".dng", "tiff": ".tif", "png": ".png", "jpeg": ".jpg"}
_FORMATS: dict[str, Format] = {
    ".dng": "dng", ".tif": "tiff", ".tiff": "tiff", ".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg",
}  # fmt: skip


@dataclass(frozen=True)
class EnhanceOptions:
    """What the user asked for; what is None or auto is decided for each frame.

    Attributes:
        white_balance: of `raw.white_balance`.
        dark: a frame taken with the lens cap on, whose hot sites are known defects.
        ratio, ...: of `plan`.
    """

    white_balance: str = "shot"
    dark: RawFrame | None = None
    ratio: float | Literal["auto"] = "auto"
    steps: int | Literal["auto"] = "auto"
    sampling: Sampling | None = None
    camera: CameraProfile | None = None
    black: tuple[float, ...] | Literal["auto"] = "auto"
    defects: bool = True
    exposure: Literal["auto", "capture", "reference"] = "auto"
    strength: float = 1.0
    faithful: bool = True
    maps: bool = False
    tile: int | Literal["auto"] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    seed: int = 0
    samples: int = 1

    def of_plan(self) -> dict[str, Any]:
        """The arguments of `plan`."""
        return {name: value for name, value in vars(self).items() if name not in ("white_balance", "dark")}

    @property
    def kept_maps(self) -> tuple[str, ...]:
        """Names of the maps that are written."""
        wanted = {"overruled": self.maps and self.faithful, "spread": self.samples > 1}
        return tuple(name for name, is_wanted in wanted.items() if is_wanted)


@dataclass(frozen=True)
class Job:
    """One raw file, and the file to make of it."""

    source: Path
    target: Path
    format: Format

    def outputs(self, options: EnhanceOptions) -> list[Path]:
        """The files that it writes: the result, and beside it the maps."""
        return [self.target, *(self.map(name) for name in options.kept_maps)]

    def map(self, name: str) -> Path:
        """The file of a map, beside the result."""
        return self.target.with_name(f"{self.target.stem}-{name}.tif")


def find_jobs(inputs: tuple[Path, ...], output: Path | None, format: Format | None, summary: Summary) -> list[Job]:
    """Pair inputs with outputs; inputs that are not there are reported and left out.

    A folder stands for the raw files in it. Without `output` a result lies beside its raw, as `<name>-enhanced`.

    Raises:
        UsageError: one output file for several inputs, or an extension that is not a format.
    """
    several = len(inputs) > 1 or any(path.is_dir() for path in inputs)
    is_folder = output is not None and (output.is_dir() or several or not output.suffix)
    if output is not None and several and output.suffix.lower() in _FORMATS and not output.is_dir():
        raise UsageError(f"{output} is one file, but there are several inputs: give a folder")
    if output is not None and not is_folder:
        known = _FORMATS.get(output.suffix.lower())
        if known is None:
            raise UsageError(f"{output}: unknown extension; use .dng, .tif, .png or .jpg")
        if format not in (None, known):
            raise UsageError(f"{output} is not a {format} file: leave --format out, or change the name")
        format = known
    chosen = format or "dng"
    jobs = []
    for source in _sources(inputs, summary):
        if output is None:
            target = source.with_name(f"{source.stem}-enhanced{SUFFIXES[chosen]}")
        else:
            target = output / f"{source.stem}{SUFFIXES[chosen]}" if is_folder else output
        jobs.append(Job(source, target, chosen))
    return jobs


def _sources(inputs: tuple[Path, ...], summary: Summary) -> list[Path]:
    sources: list[Path] = []
    for path in inputs:
        if path.is_dir():
            found = [raw for raw in find_raws(path) if not raw.stem.endswith("-enhanced")]
            if not found:
                summary.fail(f"{path}: no raw files in this folder", input=str(path))
            sources.extend(found)
        elif path.exists():
            sources.append(path)
        else:
            summary.fail(f"{path}: no such file", input=str(path))
    return list(dict.fromkeys(sources))


def enhance_files(
    jobs: list[Job], model: TrainedDenoiser, options: EnhanceOptions, overwrite: bool, debug: bool, summary: Summary
) -> None:
    """Do each job; one that fails is reported, and the others are done."""
    taken: dict[Path, Path] = {}
    for number, job in enumerate(jobs, 1):
        try:
            outputs = job.outputs(options)
            for path in outputs:
                if path in taken:
                    raise ValueError(f"{job.source}: it would overwrite the result of {taken[path]}: enhance it alone")
                _check_free(path, job.source, overwrite)
            _enhance_file(job, model, options, f"{number}/{len(jobs)} {job.source.name}", summary)
            taken.update(dict.fromkeys(outputs, job.source))
        except (ValueError, OSError, MemoryError, RuntimeError) as error:
            if debug:
                raise
            text = reason(error)
            if not any(str(path) in text for path in (job.source, job.target, job.target.parent)):
                text = f"{job.source}: {text}"
            summary.fail(text, input=str(job.source))


def _check_free(path: Path, source: Path, overwrite: bool) -> None:
    """Raise a ValueError where a file is in the way."""
    if path.exists() and (path.samefile(source) or not overwrite):
        advice = "it is the input" if path.samefile(source) else "use --overwrite to replace it"
        raise ValueError(f"{path} exists already: {advice}")


def _enhance_file(job: Job, model: TrainedDenoiser, options: EnhanceOptions, label: str, summary: Summary) -> None:
    started = perf_counter()
    frame = white_balance(read_raw(job.source), options.white_balance)
    if options.dark is not None:
        frame = with_hot_sites_of(options.dark, frame)
    exposure = options.exposure
    if exposure == "auto":
        exposure = "capture" if job.format == "dng" else "reference"
    decided = plan(frame, model, **{**options.of_plan(), "exposure": exposure})
    for text in (describe(decided), *decided.frame.notes):
        note(f"{job.source.name}: {text}")
    make_folder(job.target.parent)
    with progress(label, tile_count(model, decided)) as tick:
        result = run_plan(model, decided, tick=tick)
    maps = {name: job.map(name) for name in options.kept_maps}
    for name, path in maps.items():
        write_map(path, getattr(result, name))
    if job.format == "dng":
        write_dng(job.target, result.frame)
    else:
        render(result.frame).save(job.target)
    offsets = {"rows": result.row_offsets, "columns": result.column_offsets}
    lines = {name: round(float(values.std()), 2) for name, values in offsets.items() if values is not None}
    for name, deviation in lines.items():
        note(f"{job.source.name}: offsets of {name} taken out, {deviation:g} DN in standard deviation")
    seconds = perf_counter() - started
    many = f" {decided.samples} samples," if decided.samples > 1 else ""
    summary.add(
        f"{job.target}  x{decided.ratio:g}, T = {decided.sampling.steps},{many} {seconds:.1f} s",
        input=str(job.source),
        output=str(job.target),
        ratio=decided.ratio,
        steps=decided.sampling.steps,
        noise_level=decided.noise_level,
        exposure=exposure,
        gain=float(decided.noise.gain),
        read_noise=float(decided.noise.read_variance) ** 0.5,
        noise_source=decided.noise.source,
        black_level=list(decided.frame.sensor.black_level),
        offsets_taken_out=lines,
        mended={"found": decided.found, "listed": decided.listed},
        notes=list(decided.frame.notes),
        seconds=round(seconds, 2),
        **({"samples": decided.samples} if decided.samples > 1 else {}),
        **{name: str(path) for name, path in maps.items()},
    )


def describe(decided: EnhancePlan) -> str:
    """What is about to be done, in one line."""
    noise, frame = decided.noise, decided.frame
    mended = f"; hot and dead sites mended: {decided.found:,}" if decided.found else ""
    mended += f"; listed defects mended: {decided.listed:,}" if decided.listed else ""
    return (
        f"{frame.metadata.camera or 'unknown camera'}, {frame.shape[1]}x{frame.shape[0]} "
        f"{frame.sensor.cfa.name}, x{decided.ratio:g}; gain {float(noise.gain):.3g} DN/e, "
        f"read noise {float(noise.read_variance) ** 0.5:.3g} DN ({noise.source}){mended}"
    )

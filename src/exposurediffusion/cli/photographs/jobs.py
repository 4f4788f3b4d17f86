"""`expose enhance`: which files go in, and where the results go."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from exposurediffusion.cli.console import Summary, UsageError
from exposurediffusion.datasets.listing import find_raws
from exposurediffusion.photographs.photograph import FORMATS, Format, Job

_KNOWN = ("dng", "tif", "tiff", "png", "jpg", "jpeg")


def find_jobs(
    inputs: tuple[Path, ...],
    output: Path | None,
    format: Format | None,
    recursive: bool,
    summary: Summary,
    kept_maps: tuple[str, ...] = (),
) -> list[Job]:
    """Pair inputs with outputs; inputs that are not there are reported and left out.

    A folder stands for the raw files in it. Without `output` a result lies beside its raw, as `<name>-enhanced`.

    Raises:
        UsageError: one output file for several inputs, or an extension that is not a format.
    """
    several = len(inputs) > 1 or any(path.is_dir() for path in inputs)
    is_folder = output is not None and (output.is_dir() or several or not output.suffix)
    format = None if format is None else FORMATS.get(format, format)
    if output is not None and several and _format_of(output) and not output.is_dir():
        raise UsageError(f"{output} is one file, but there are several inputs: give a folder")
    if output is not None and not is_folder:
        known = _format_of(output)
        if known is None:
            raise UsageError(f"{output}: unknown extension; use .dng, .tif, .png or .jpg")
        if format not in (None, known):
            raise UsageError(f"{output} is not a {format} file: leave --format out, or change the name")
        format = known
    chosen = format or "dng"
    jobs = []
    for source, folder in find_sources(inputs, recursive, summary, output if is_folder else None).items():
        job = Job.beside(source, chosen, kept_maps)
        if output is not None and is_folder:
            job = replace(job, target=output / source.relative_to(folder).with_suffix(job.target.suffix))
        elif output is not None:
            job = replace(job, target=output)
        jobs.append(job)
    return jobs


def _format_of(path: Path) -> Format | None:
    name = path.suffix.lower().removeprefix(".")
    return next((FORMATS.get(known, known) for known in _KNOWN if known == name), None)


def find_sources(
    inputs: tuple[Path, ...], recursive: bool, summary: Summary, output: Path | None = None
) -> dict[Path, Path]:
    """The raw files, each once, with the folder below which it keeps its place.

    Of a folder, results of `expose enhance` are no input: what is named so, and what lies in `output`, a folder below.
    """
    sources: dict[Path, Path] = {}
    for path in inputs:
        if path.is_dir():
            found = [raw for raw in find_raws(path, recursive) if not raw.stem.endswith("-enhanced")]
            if output is not None and path.resolve() in output.resolve().parents:
                found = [raw for raw in found if output.resolve() not in raw.resolve().parents]
            if not found:
                below = "or below it" if recursive else "(--recursive looks into its subfolders)"
                summary.fail(f"{path}: no raw files in this folder {below}", input=str(path))
            sources |= {raw: path for raw in found if raw not in sources}
        elif path.exists():
            sources.setdefault(path, path.parent)
        else:
            summary.fail(f"{path}: no such file", input=str(path))
    return sources

"""`expose enhance`: its arguments."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from exposurediffusion.cli.console import (
    Flag,
    Flat,
    Inputs,
    MaxMegapixels,
    OnOff,
    Optional,
    Summary,
    UsageError,
    as_usage,
    note,
)
from exposurediffusion.cli.photographs.jobs import find_jobs
from exposurediffusion.cli.photographs.queue import Queue
from exposurediffusion.datasets.dark_frames import load_dark_shading
from exposurediffusion.decoding.megapixels import MAX_MEGAPIXELS
from exposurediffusion.enhancement.engines import choose_engine
from exposurediffusion.enhancement.options import EnhanceOptions
from exposurediffusion.enhancement.plan import ratio_of
from exposurediffusion.models.device import find_device
from exposurediffusion.photographs.enhancer import Enhancer
from exposurediffusion.photographs.outputs import ResultOptions
from exposurediffusion.photographs.photograph import Format
from exposurediffusion.physics.cameras.known import load_profile, user_cameras
from exposurediffusion.raw.read import read_raw
from exposurediffusion.weights.file import load


@dataclass(frozen=True, kw_only=True)
class Options(EnhanceOptions):
    """`EnhanceOptions` in the words of a command line."""

    ratio: tyro.conf.Suppress[float | Literal["auto"]] = "auto"
    noise: tyro.conf.Suppress[None] = None
    camera: Annotated[str, tyro.conf.arg(metavar="auto|NAME|FILE")] = "auto"
    black: Annotated[str, tyro.conf.arg(metavar="auto|DN[,DN,DN,DN]")] = "auto"
    white_balance: Annotated[str, tyro.conf.arg(metavar="shot|daylight|auto|R,G,B")] = "shot"
    defects: OnOff = True
    dark: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    dark_shading: Annotated[str, tyro.conf.arg(metavar="auto|off|FILE|DIR")] = "auto"
    iso: Annotated[float | None, Optional] = None
    gain: Annotated[float | None, Optional] = None
    read: Annotated[float | None, Optional] = None
    luma: Annotated[float | None, Optional] = None
    chroma: Annotated[float | None, Optional] = None
    exposure: Literal["auto", "reference", "capture"] = "auto"
    faithful: OnOff = True
    maps: Flag = False


@dataclass(frozen=True, kw_only=True)
class Results(ResultOptions):
    """`ResultOptions` in the words of a command line."""

    sidecar: Flag = False
    size: Annotated[int | None, tyro.conf.arg(metavar="PIXELS", help_behavior_hint="")] = None
    before_after: Flag = False
    overwrite: Flag = False


def enhance(
    inputs: Inputs,
    /,
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="FILE|DIR", help_behavior_hint="")] = None,
    format: Format | Literal["auto"] = "auto",
    ratio: float | Literal["auto", "same"] = "auto",
    weights: str = "default",
    options: Annotated[Options, Flat] = Options(),
    results: Annotated[Results, Flat] = Results(),
    recursive: Flag = False,
    max_megapixels: MaxMegapixels = MAX_MEGAPIXELS,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    json: Flag = False,
    debug: Flag = False,
) -> int:
    """Turn dark raw photographs into clean, bright ones.

    A folder can be done again after an interruption: results that are there already are kept.

    Examples:
        expose enhance night.ARW -o night.dng
        expose enhance PHOTOS/ -o CLEAN/ --recursive --ratio same

    Args:
        inputs: raw files, or folders of them.
        output: file, or folder (what has no extension is one), where results have the names of their raws; without it
            beside each input, as NAME-enhanced.
        format: of the output; auto: from its name, else dng.
        ratio: amplification, 1 (denoising alone) to 1000; auto: from the frame's histogram, 1 to 300; same: one for all
            files, the median of what auto would choose, so that a series does not flicker.
        weights: a name, or a .safetensors file.
        recursive: take the raw files in subfolders too; with an output folder they keep their places.
        max_megapixels: larger photographs are refused before they are decoded: a small file may claim any size.
        device: where the network runs.
        json: print the summary as JSON.
        debug: show tracebacks.
    """
    if not inputs:
        raise UsageError("no input: give raw files or folders")
    summary = Summary(json)
    user_cameras(note)
    with as_usage():
        options = replace(options, ratio="auto" if ratio == "same" else ratio)
        if options.camera != "auto":
            load_profile(options.camera)
        model = load(weights).to(find_device(device))
        choose_engine(options.engine, model, options.precision, 0)  # one that cannot serve is refused once
        if options.dark is not None and not options.dark.is_file():
            raise UsageError(f"--dark {options.dark}: no such file")
        dark = None if options.dark is None else read_raw(options.dark, max_megapixels)
        shading = options.dark_shading
        shading = shading if shading in ("auto", "off") else load_dark_shading(shading)
        asked = EnhanceOptions(**{**vars(options), "dark": dark, "dark_shading": shading})
    wanted = {"overruled": asked.maps, "spread": asked.samples > 1}
    maps = tuple(name for name, is_wanted in wanted.items() if is_wanted)
    jobs = find_jobs(inputs, output, None if format == "auto" else format, recursive, summary, maps)
    if ratio == "same" and jobs:
        asked = replace(asked, ratio=common_ratio([job.source for job in jobs], asked, max_megapixels))
        note(f"the same ratio for all: x{asked.ratio:g}")
    Queue(Enhancer(model, asked, results, max_megapixels), debug, summary).run(jobs)
    return summary.finish()


def common_ratio(sources: list[Path], options: EnhanceOptions, max_megapixels: float = MAX_MEGAPIXELS) -> float:
    """The median of the automatic ratios; files that cannot be read are left out here, and complained of later."""
    ratios = []
    for source in sources:
        try:
            ratios.append(ratio_of(read_raw(source, max_megapixels), options))
        except (ValueError, OSError, MemoryError):
            continue
    return sorted(ratios)[len(ratios) // 2] if ratios else 1.0

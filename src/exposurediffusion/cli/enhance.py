"""`expose enhance`: its arguments."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import tyro

from exposurediffusion.cli.console import Flag, Flat, Inputs, MaxMegapixels, Summary, UsageError, note
from exposurediffusion.cli.photographs.jobs import find_jobs
from exposurediffusion.cli.photographs.options import (
    AnyFormat,
    Device,
    Options,
    Ratio,
    Results,
    make_enhancer,
    middle,
)
from exposurediffusion.cli.photographs.queue import Queue
from exposurediffusion.decoding.megapixels import MAX_MEGAPIXELS
from exposurediffusion.enhancement.options import EnhanceOptions
from exposurediffusion.enhancement.plan import ratio_of
from exposurediffusion.raw.read import read_raw


def enhance(
    inputs: Inputs,
    /,
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="FILE|DIR", help_behavior_hint="")] = None,
    format: AnyFormat = "auto",
    ratio: Ratio = "auto",
    weights: str = "default",
    options: Annotated[Options, Flat] = Options(),
    results: Annotated[Results, Flat] = Results(),
    recursive: Flag = False,
    max_megapixels: MaxMegapixels = MAX_MEGAPIXELS,
    device: Device = "auto",
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
    enhancer = make_enhancer(ratio, weights, options, results, device, max_megapixels)
    jobs = find_jobs(inputs, output, None if format == "auto" else format, recursive, summary, enhancer.maps)
    if ratio == "same" and jobs:
        same = common_ratio([job.source for job in jobs], enhancer.options, max_megapixels)
        enhancer = replace(enhancer, options=replace(enhancer.options, ratio=same))
        note(f"the same ratio for all: x{same:g}")
    Queue(enhancer, debug, summary).run(jobs)
    return summary.finish()


def common_ratio(sources: list[Path], options: EnhanceOptions, max_megapixels: float = MAX_MEGAPIXELS) -> float:
    """The median of the automatic ratios; files that cannot be read are left out here, and complained of later."""
    ratios = []
    for source in sources:
        try:
            ratios.append(ratio_of(read_raw(source, max_megapixels), options))
        except (ValueError, OSError, MemoryError):
            continue
    return middle(ratios)

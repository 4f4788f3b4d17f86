"""`expose batch`: its arguments."""

from __future__ import annotations

import json as json_text
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Annotated

import tyro

from exposurediffusion.cli.console import Flag, Flat, MaxMegapixels, Summary, UsageError
from exposurediffusion.cli.photographs.options import Device, Options, Ratio, Results, make_enhancer
from exposurediffusion.cluster.token import draw
from exposurediffusion.decoding.megapixels import MAX_MEGAPIXELS
from exposurediffusion.files.atomic import make_folder
from exposurediffusion.photographs.photograph import FORMATS, Format

JOURNAL = "batch.jsonl"


def batch(
    inputs: Annotated[
        tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PATH|URL ...", help_behavior_hint="")
    ],
    /,
    output: Annotated[str, tyro.conf.arg(aliases=["-o"], metavar="DIR|URL")],
    format: Format = "dng",
    ratio: Ratio = "auto",
    weights: str = "default",
    options: Annotated[Options, Flat] = Options(),
    results: Annotated[Results, Flat] = Results(),
    recursive: Flag = False,
    max_megapixels: MaxMegapixels = MAX_MEGAPIXELS,
    device: Device = "auto",
    address: Annotated[str | None, tyro.conf.arg(metavar="HOST:PORT|auto", help_behavior_hint="")] = None,
    workers: Annotated[int | None, tyro.conf.arg(metavar="NUMBER", help_behavior_hint="")] = None,
    journal: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None,
    retry: Flag = False,
    json: Flag = False,
) -> int:
    """Enhance very many photographs, on all processors and GPUs of a machine or of a Ray cluster.

    The results are those of `expose enhance`. A journal has a line for each photograph that came to its end; the same
    command, given again after whatever ended it, goes on where it stopped, and does nothing twice.

    Examples:
        expose batch PHOTOS/ -o CLEAN/ --recursive
        expose batch 's3://bucket/night/*.ARW' -o s3://bucket/clean --journal night.jsonl --address auto

    Args:
        inputs: raw files, folders of them, globs, or URLs of these.
        output: folder or URL, where results have the names of their raws.
        format: of the results.
        ratio: amplification, 1 (denoising alone) to 1000; auto: from each frame's histogram, 1 to 300; same: one for
            all, the median of what auto would choose, for which all are read once more.
        weights: a name, or a .safetensors file.
        recursive: take the raw files in subfolders too; they keep their places.
        max_megapixels: larger photographs are refused before they are decoded: a small file may claim any size.
        device: where the networks run; auto: on GPUs where a machine has some, else on its processors.
        address: of a cluster's head, from one of its machines; auto: the cluster that this machine is part of; without
            it this machine works alone.
        workers: on each machine; without it two for each GPU, or one for each processor as far as memory goes.
        journal: what has become of each photograph; without it OUTPUT/batch.jsonl.
        retry: do those that failed before once more.
        json: print the summary as JSON.
    """
    if address is None:
        draw()
    try:
        from exposurediffusion.cli.photographs.batches import Batch, find_all, is_url, place, settings_of
    except ModuleNotFoundError as error:
        if error.name not in ("ray", "fsspec", "filelock"):
            raise
        raise UsageError("batches need the extra `cluster`: pip install 'exposurediffusion[cluster]'") from error
    if not inputs:
        raise UsageError("no input: give raw files, folders, globs or URLs")
    if workers is not None and workers < 1:
        raise UsageError(f"--workers is at least 1, got {workers}")
    output, format, began = place(output), FORMATS.get(format, format), monotonic()
    if journal is None and is_url(output):
        raise UsageError("results at a URL need --journal FILE, a file on this machine that says what is done")
    enhancer = make_enhancer(ratio, weights, options, replace(results, overwrite=True), "cpu", max_megapixels)
    if not is_url(output):
        make_folder(Path(output))
    missing = Summary(json)
    work = Batch(
        sources=find_all(inputs, recursive, output, missing),
        output=output,
        format=format,
        enhancer=enhancer,
        journal=journal or Path(output) / JOURNAL,
        settings=settings_of(enhancer, options, ratio, output, format),
    )
    counts = work.run(results.overwrite, retry, address, device, workers)
    counts["failed"] += missing.failed
    if json:
        print(json_text.dumps({**counts, "seconds": round(monotonic() - began, 2), "journal": str(work.journal)}))
    else:
        told = "{done} done, {before} done before, {failed} failed".format(**counts)
        print(f"{told}; journal: {work.journal}")
    return 1 if counts["failed"] else 0

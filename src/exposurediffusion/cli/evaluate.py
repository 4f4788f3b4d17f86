"""`expose evaluate`: weights and baselines on a data set, under one protocol, into tables."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Annotated, Any, Literal

import torch

from exposurediffusion.cli.console import Flag, Flat, Output, Summary, UsageError, as_usage, note, progress, show
from exposurediffusion.datasets.samples import PairDataset
from exposurediffusion.evaluation.measure import Correction, Protocol
from exposurediffusion.evaluation.methods import BlockMatching, Capture, Diffusion, Method, Network
from exposurediffusion.evaluation.results import Results, for_json, write_text
from exposurediffusion.evaluation.score import score
from exposurediffusion.evaluation.selection import Selection
from exposurediffusion.evaluation.summary import by_correction, summarise
from exposurediffusion.files.atomic import alone_in
from exposurediffusion.models.device import find_device
from exposurediffusion.weights.file import TrainedDiffusion, load_any, weights_name

BASELINES: dict[str, Method] = {
    "capture": Capture(),
    "bm3d": BlockMatching(),
    "a-bm3d": BlockMatching(anscombe=True),
}


def evaluate(
    selection: Annotated[Selection, Flat],
    output: Output,
    weights: tuple[str, ...] = (),
    baselines: tuple[str, ...] = ("capture",),
    steps: tuple[int | Literal["auto"], ...] = (),
    schedule: Literal["auto", "paper", "official"] = "auto",
    transition: Literal["auto", "markov", "restart"] = "auto",
    increment: Literal["auto", "mean", "sampled"] = "auto",
    clamp: Literal["auto", "none", "unit"] = "auto",
    faithful: tuple[Literal["off", "on"], ...] = ("off", "on"),
    corrections: tuple[Correction, ...] = ("none", "final", "oracle"),
    crop: int | Literal["auto", "whole"] = "auto",
    srgb: Flag = False,
    seeds: int = 1,
    pictures: tuple[str, ...] = (),
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    overwrite: Flag = False,
    json: Flag = False,
    debug: Flag = False,
) -> int:
    """Measure weights and baselines on SID, ELD or pairs: PSNR and SSIM per ratio, in three corrections.

    Figures are taken in raw space, on packed planes, range 255, clipped to [0, 1]. Run again, it goes on where it was
    stopped; other weights and steps may be added to the same folder.

    Example: expose evaluate --root SID --weights default runs/mine/weights.safetensors --steps 0 2 -o results

    Args:
        selection: the data.
        output: folder for images.csv, summary.md, summary.csv, summary.json and pictures.
        weights: names, or .safetensors files.
        baselines: capture, itself; bm3d; a-bm3d, behind the Anscombe transformation (both: extra `baselines`).
        steps: numbers of simulated exposures T, each a row (of a diffusion model: of DDIM steps); auto: by the noise of
            each capture, if the weights have a rule for it; by default the T that the weights were made for.
        schedule: paper ends at the reference exposure, official one step before it; auto: of the weights.
        transition: markov exposes on from the newest state, restart from the capture; auto: of the weights.
        increment: mean, or sampled with shot noise; auto: of the weights.
        clamp: of capture and states: none, or unit, to [0, 1] as published; auto: of the weights.
        faithful: off: the network alone; on: its last estimate brought back into what the capture says, as `enhance`
            does. Each named is a row.
        corrections: of brightness by the reference: none; final, once; oracle, after every step, as published.
        crop: side of the centre crop in packed pixels, or whole; auto: 512 for SID, whole for others.
        srgb: measure a fixed sRGB rendering, too.
        seeds: of sampled increments and of DDIM: mean and spread over so many.
        pictures: scenes to keep pictures of: reference, estimates, error maps, masks; `all`: all.
        device: where networks run.
        overwrite: forget figures that are in the folder.
        json: print the summary as JSON.
        debug: show tracebacks.
    """
    sampling: dict[str, Any] = {"schedule": schedule, "transition": transition, "increment": increment}
    if clamp != "auto":
        sampling["clamp"] = (0.0, 1.0) if clamp == "unit" else None
    sampling = {name: value for name, value in sampling.items() if value != "auto"}
    if not selection.root.is_dir():
        raise UsageError(f"{selection.root}: no such folder")
    if unknown := [name for name in baselines if name not in BASELINES]:
        raise UsageError(f"--baselines: no baseline {unknown[0]!r}; there are {', '.join(BASELINES)}")
    with as_usage():
        side = selection.crop if crop == "auto" else None if crop == "whole" else crop
        protocol = Protocol(side, corrections, seeds, srgb)
        networks = _networks(weights, steps, sampling, faithful, find_device(device))
    methods = [*(BASELINES[name] for name in baselines), *networks]
    if not methods:
        raise UsageError("nothing to measure: give --weights, or --baselines")
    opened = _open(selection, pictures)
    summary = Summary(json)
    for path in opened.unreadable:
        summary.fail(f"{path}: cannot be decoded; its captures are not in the figures", input=str(path))
    results = Results(output, {"data": selection.describe(), **protocol.to_dict()}, overwrite)

    def failed(file: str, why: str) -> None:
        summary.fail(why if file in why else f"{file}: {why}", input=file)

    with alone_in(output), progress("measuring", len(opened.pairs) * len(methods)) as tick:
        score(opened, methods, protocol, results, pictures=pictures, failed=None if debug else failed, tick=tick)
    largest = max(max(pair.short.shape) // pair.short.cfa.stride for pair in opened.pairs)
    cropped = side if side and side < largest else f"whole, {side} were asked for" if side else "whole"
    facts = selection.describe() | protocol.to_dict() | {"crop": cropped}
    _conclude(results, methods, facts, summary)
    return summary.finish()


def _open(selection: Selection, pictures: Sequence[str]) -> PairDataset:
    """The data, which has the scenes that pictures are wanted of."""
    with progress("decoding", None) as bar:
        opened = selection.open(note, lambda done, total: bar(done=done, total=total))
    scenes = list(dict.fromkeys(pair.scene for pair in opened.pairs))
    if unknown := [scene for scene in pictures if scene not in ("all", *scenes)]:
        raise UsageError(f"--pictures: no scene {unknown[0]} is measured; there are {', '.join(scenes)}")
    return opened


def _conclude(results: Results, methods: Sequence[Method], facts: dict[str, Any], summary: Summary) -> None:
    """Write and show the means: a table for each correction, and what they have to be read with."""
    figures = [
        {"method": name, "ratio": ratio, "correction": correction}
        | {field: for_json(value) for field, value in asdict(figure).items() if field not in ("digits", "of")}
        for (name, ratio, correction), figure in summarise(results.records).items()
    ]
    counts = {figure.images for figure in summarise(results.records).values()}
    facts = facts | {"images": "/".join(map(str, sorted(counts)))}
    described = "; ".join(f"{name} {value}" for name, value in facts.items() if value)
    settings = [f"{method.name}: {_settings(method)}" for method in methods if len(method.settings) > 1]
    names = [method.name for method in methods]
    tables = by_correction(results.records, names, [f"PSNR in dB / SSIM; {described}.", *settings])
    folder = results.folder
    write_text(folder / "summary.md", "\n".join(table.markdown() for table in tables))
    write_text(folder / "summary.csv", "\n".join(table.csv() for table in tables))
    write_text(folder / "summary.json", jsonlib.dumps({"settings": results.settings, "figures": figures}, indent=1))
    for figure in figures:
        summary.add(None, **figure)
    if not summary.as_json:
        for table in tables:
            show(table)
        print(folder / "summary.md")


def _settings(method: Method) -> str:
    return ", ".join(f"{name} {value}" for name, value in method.settings.items() if name != "method")


def _networks(
    weights: Sequence[str],
    steps: Sequence[int | Literal["auto"]],
    sampling: dict[str, Any],
    faithful: Sequence[Literal["off", "on"]],
    device: torch.device,
) -> list[Method]:
    """A method for each of the weights and numbers of steps, with and without faithfulness.

    Raises:
        ValueError: no such weights, or steps that they cannot take.
    """
    found: list[Method] = []
    for name in weights:
        model = load_any(name, device)
        called = weights_name(name), model.digest
        if isinstance(model, TrainedDiffusion):
            counts = [count for count in steps if count != "auto"] or [model.config.steps]
            found += [Diffusion(model, len(model.config.times(count)), *called) for count in counts]
            continue
        base = replace(model.card.sampling, **sampling)
        for count in steps or (base.steps,):
            if count == "auto":
                if model.card.rule is None or base != model.card.sampling:
                    raise ValueError(f"{name}: no rule for the number of steps, or not for this sampling; name --steps")
                network = Network(model, base, *called, rule=model.card.rule)
            elif not 0 <= count <= 100:
                raise ValueError(f"--steps lie between 0 and 100, got {count}")
            else:
                network = Network(model, replace(base, steps=count), *called)
                if count and not model.card.sampling.steps:
                    note(f"{name}: made for T = 0 (feed-forward), so T = {count} is nothing that it was trained for")
            found += [replace(network, faithful=word == "on") for word in dict.fromkeys(faithful)]
    names = [method.name for method in found]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"two weights are called {twice[0]!r}: rename a file or its folder")
    return found

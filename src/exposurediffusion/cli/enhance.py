"""`expose enhance`: arguments, checks, and the run over all files."""

from __future__ import annotations

from dataclasses import asdict, replace
from math import inf
from pathlib import Path
from typing import Annotated, Literal

import tyro

from exposurediffusion.cli.console import Flag, Positional, Summary, UsageError, as_usage
from exposurediffusion.cli.jobs import EnhanceOptions, Format, enhance_files, find_jobs
from exposurediffusion.enhancement.plan import check_ratio, check_samples
from exposurediffusion.models.device import find_device
from exposurediffusion.physics.camera import load_profile
from exposurediffusion.process.sampling import Sampling
from exposurediffusion.raw.read import read_raw
from exposurediffusion.raw.white_balance import multipliers
from exposurediffusion.weights.file import load


def enhance(
    inputs: Positional[tuple[Path, ...]],
    /,
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="FILE|DIR")] = None,
    ratio: float | Literal["auto"] = "auto",
    steps: int | Literal["auto"] = "auto",
    schedule: Literal["auto", "paper", "official"] = "auto",
    transition: Literal["auto", "markov", "restart"] = "auto",
    increment: Literal["auto", "mean", "sampled"] = "auto",
    weights: str = "default",
    camera: str = "auto",
    format: Format | Literal["auto"] = "auto",
    exposure: Literal["auto", "capture", "reference"] = "auto",
    strength: float = 1.0,
    white_balance: Annotated[str, tyro.conf.arg(metavar="shot|daylight|auto|R,G,B")] = "shot",
    black: Annotated[str, tyro.conf.arg(metavar="auto|DN[,DN,DN,DN]")] = "auto",
    defects: Literal["on", "off"] = "on",
    dark: Path | None = None,
    faithful: Literal["on", "off"] = "on",
    maps: Flag = False,
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    tile: int | Literal["auto"] = "auto",
    seed: int = 0,
    samples: int = 1,
    overwrite: Flag = False,
    json: Flag = False,
    debug: Flag = False,
) -> int:
    """Turn dark raw photographs into clean, bright ones.

    Example: expose enhance night.ARW -o night.dng

    Args:
        inputs: raw files, or folders of them.
        output: file or folder; without it beside each input, as NAME-enhanced.
        ratio: amplification, 1.5 to 1000; auto: from the histogram, at most 300.
        steps: simulated exposures; the network runs once more than that. auto: by the frame's noise level and the rule
            that the weights bring along, as long as schedule, transition and increment are theirs; without a rule what
            they were made for.
        schedule: paper ends at the reference exposure, official one step before it; auto: of the weights.
        transition: markov exposes on from the newest state, restart from the capture; auto: of the weights.
        increment: mean, or sampled with shot noise; auto: of the weights.
        weights: a name, or a .safetensors file.
        camera: noise profile, a name or a JSON file; auto: by the camera's name, else the raw's own noise profile,
            else estimated from the frame.
        format: of the output; auto: from its name, else dng.
        exposure: reference: brightened by the ratio, as a long exposure; capture: as dark as it was, highlights kept,
            with the brightening noted for editors; auto: capture for DNG, reference otherwise.
        strength: 1 is the clean image, 0 the capture, between is a blend.
        white_balance: of the pictures, and for editors: as shot, daylight, from the frame's own mean colour, or
            multipliers of red, green and blue.
        black: level of black in DN, or one for each site of the first 2x2; auto: by the light-free margins of the
            frame, else by the file, lowered as far as the darkest parts prove.
        defects: on: hot, warm and dead sites are found and mended.
        dark: a raw file taken with the lens cap on, whose hot sites are mended too.
        faithful: on: nothing that the light says clearly is overruled by the network, at any scale (colours of large
            areas, small lights); off: the network alone.
        maps: write beside the output, as NAME-overruled.tif, where and by how much the network was overruled (32-bit
            float, 1 = white of the output).
        device: where the network runs.
        precision: of the network; auto: bf16 where the device is good at it.
        tile: side of a tile in packed pixels; auto: by memory. It changes the result by rounding alone.
        seed: of sampled increments.
        samples: how many sampled exposures to average (the network runs 1 + samples x steps times); from 2 on their
            spread, the standard deviation at each site, is written beside the output as NAME-spread.tif (32-bit float,
            1 = white of the output).
        overwrite: replace results that exist.
        json: print the summary as JSON.
        debug: show tracebacks.
    """
    if not inputs:
        raise UsageError("no input: give raw files or folders")
    summary = Summary(json)
    with as_usage():
        model = load(weights)
        profile = None if camera == "auto" else load_profile(camera)
        if ratio != "auto":
            check_ratio(ratio)
        if steps != "auto" and not 0 <= steps <= 100:
            raise UsageError(f"--steps lies between 0 and 100, got {steps}")
        if not 0 <= strength <= 1:
            raise UsageError(f"--strength lies between 0 and 1, got {strength:g}")
        if tile != "auto" and tile < 16:
            raise UsageError(f"--tile is at least 16, got {tile}")
        check_samples(samples, steps, increment)
        if maps and faithful == "off":
            raise UsageError("--maps shows where the network was overruled, which --faithful off never does: give one")
        if white_balance not in ("shot", "daylight", "auto"):
            multipliers(white_balance)
        named = {"schedule": schedule, "transition": transition, "increment": increment}
        sampling = _sampling(model.card.sampling, {name: v for name, v in named.items() if v != "auto"}, samples)
        target = find_device(device)
        levels = "auto" if black == "auto" else black_levels(black)
        if dark is not None and not dark.is_file():
            raise UsageError(f"--dark {dark}: no such file")
        covered = None if dark is None else read_raw(dark)
    jobs = find_jobs(inputs, output, None if format == "auto" else format, summary)
    options = EnhanceOptions(
        white_balance=white_balance,
        ratio=ratio,
        steps=steps,
        sampling=sampling,
        dark=covered,
        camera=profile,
        black=levels,
        defects=defects == "on",
        exposure=exposure,
        strength=strength,
        faithful=faithful == "on",
        maps=maps,
        tile=tile,
        precision=precision,
        seed=seed,
        samples=samples,
    )
    enhance_files(jobs, model.to(target), options, overwrite, debug, summary)
    return summary.finish()


def black_levels(text: str) -> tuple[float, ...]:
    """Levels from "DN" or "DN,DN,DN,DN".

    Raises:
        ValueError: not numbers from 0 on.
    """
    try:
        levels = tuple(float(part) for part in text.split(","))
    except ValueError:
        levels = ()
    if not levels or not all(0 <= level < inf for level in levels):
        raise ValueError(f"--black {text}: give a number in DN from 0 on, or one for each site of the first 2x2")
    return levels


def _sampling(made_for: Sampling, named: dict[str, str], samples: int) -> Sampling | None:
    """What the user asked for; None: nothing but what the weights were made for, which leaves T to their rule."""
    asked = Sampling.from_dict({**asdict(made_for), **named})
    if asked == made_for:
        return None
    return replace(asked, increment="sampled") if samples > 1 else asked

"""The rule behind `expose enhance --steps auto`: fitted on half of the scenes, evaluated on the other half.

    python benchmarks/steps.py --images FOLDER [--weights NAME|FILE] [--output DIR] [--write]

Views cut from the pictures are recorded by calibrated cameras at random ratios (2 to 300) and ISO settings (100 to
6400) with the full noise (`captures.py`). Pictures are dealt in turn to the two halves: no picture is in both.
Written: steps.json, every capture's figures, and steps.png. `--write` stores the rule in the header of the weights.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from captures import SimulatedCapture, simulated_captures
from common import machine
from step_rule import (
    REFERENCE,
    TOLERANCE,
    RuleRow,
    StepFigures,
    evaluate_rule,
    fit_rule,
    measure_steps,
)

from exposurediffusion.process.sampling import StepRule
from exposurediffusion.rendering.plotting import COLOURS, GREY, canvas, legend_below, look
from exposurediffusion.weights.file import PRETRAINED, load, store_rule

_TICKS = (-1, -0.5, -0.2, -0.1, -0.05, 0, 0.05, 0.1, 0.2, 0.5, 1)  # dB

_LINEAR = 0.1  # dB: beyond it the axis is logarithmic, or the gains at little noise would flatten all else


def main(
    images: Path,
    weights: str = "default",
    steps: tuple[int, ...] = (0, 1, 2),
    tolerance: float = TOLERANCE,
    views: int = 8,
    shots: int = 16,
    seed: int = 0,
    threads: int | None = None,
    figures: Path | None = None,
    levels: tuple[float, ...] = (),
    counts: tuple[int, ...] = (),
    output: Path = Path("runs/steps"),
    write: bool = False,
) -> None:
    """Measure, fit, evaluate, and store the rule if asked.

    Args:
        images: folder of clean pictures that the weights were not trained on.
        weights: name or file.
        steps: numbers of simulated exposures to measure.
        tolerance: average loss against T = 2 that the rule may have where it is fitted, dB.
        views: of each picture.
        shots: captures of each view.
        seed: of everything drawn.
        threads: of PyTorch; None: its own choice.
        figures: a steps.json of before: fit and evaluate again, measure nothing.
        levels: noise levels of a rule of one's own, which is evaluated and stored instead of the fitted one.
        counts: its T below the first, between each two, and above the last.
        output: folder.
        write: store the rule in the header of the weights.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    output.mkdir(parents=True, exist_ok=True)
    if figures is None:
        rows = measured(weights, simulated_captures(images, views=views, shots=shots, seed=seed), steps)
        about: dict[str, Any] = {"machine": machine(), "weights": weights, "seed": seed}
        about["pictures"] = sorted({row["picture"] for row in rows})
    else:
        about = json.loads(figures.read_text())
        rows = about.pop("captures")
    halves = [half(rows, about["pictures"][n::2]) for n in (0, 1)]
    rule = fit_rule(halves[0], tolerance)
    print(f"fitted on {len(halves[0].levels)} captures: {rule}")
    if levels or counts:
        rule = StepRule(levels, counts)
    found: dict[str, Any] = {"rule": asdict(rule)}
    for name, part in zip(("fitted on", "evaluated on"), halves, strict=True):
        found[name] = report(name, rule, part)
    other = fit_rule(halves[1], tolerance)
    print(f"with the halves exchanged: {other}")
    found["exchanged"] = {"rule": asdict(other), "evaluated on": report("evaluated on", other, halves[0])}
    content = {**about, **found, "captures": rows}
    (output / "steps.json").write_text(json.dumps(content, indent=1) + "\n")
    plot_steps(output / "steps.png", rule, evaluate_rule(rule, halves[1])[1])
    if write:
        store(weights, rule)


def measured(weights: str, captures: Iterable[SimulatedCapture], steps: tuple[int, ...]) -> list[dict[str, Any]]:
    """Each capture: what it is, its noise level, and its PSNR by T."""
    model, rows = load(weights), []
    for case in captures:
        level, values = measure_steps(model, case, steps)
        psnr = {str(count): round(value, 4) for count, value in zip(steps, values, strict=True)}
        facts = {"picture": case.picture, "view": case.view, "camera": case.camera}
        rows.append({**facts, "ratio": round(case.ratio, 2), "iso": round(case.iso), "level": level, "psnr": psnr})
        if len(rows) % 50 == 0:
            print(f"{len(rows)} captures measured", flush=True)
    return rows


def half(rows: list[dict[str, Any]], pictures: list[str]) -> StepFigures:
    """The figures of some pictures."""
    chosen = [row for row in rows if row["picture"] in pictures]
    steps = tuple(int(count) for count in chosen[0]["psnr"])
    values = np.array([[row["psnr"][str(count)] for count in steps] for row in chosen])
    return StepFigures(np.array([row["level"] for row in chosen]), values, steps)


def report(name: str, rule: StepRule, part: StepFigures) -> dict[str, Any]:
    """Print what a rule does on captures, all of them and by noise level, as a Markdown table; the figures for JSON."""
    whole, parts = evaluate_rule(rule, part)
    fixed = list(whole.fixed)
    print(f"\n{name}: {whole.captures} captures\n")
    print("| noise level | captures | " + " | ".join(f"T = {count}" for count in fixed) + " | rule | evaluations |")
    print("|---" * (len(fixed) + 4) + "|")
    for label, row in [*((f"{r.levels[0]:.4f} - {r.levels[1]:.4f}", r) for r in parts), ("all", whole)]:
        print(line(label, row))
    print(f"loss against T = {REFERENCE} in dB; below 0: a gain\n", flush=True)
    return {"all": asdict(whole), "by level": [asdict(row) for row in parts]}


def line(label: str, row: RuleRow) -> str:
    fixed = " | ".join(f"{loss:+.3f}" for loss in row.fixed.values())
    return f"| {label} | {row.captures} | {fixed} | {row.loss:+.3f} ± {row.error:.3f} | {row.evaluations:.2f} |"


def store(weights: str, rule: StepRule) -> None:
    """Into the header of a file, or of embedded weights."""
    import exposurediffusion.weights

    folder = Path(exposurediffusion.weights.__file__).parent / "pretrained"
    path = folder / PRETRAINED[weights] if weights in PRETRAINED else Path(weights)
    store_rule(path, rule)
    print(f"{path}: {rule}")


def plot_steps(path: Path, rule: StepRule, rows: Sequence[RuleRow]) -> None:
    """Loss against T = 2 and network evaluations, of each fixed T and of the rule, against the noise level.

    Args:
        path: of the PNG file.
        rule: in question.
        rows: of `evaluate_rule`, by noise level.

    Raises:
        ValueError: matplotlib is not installed.
    """
    centres = [(row.levels[0] * row.levels[1]) ** 0.5 for row in rows]
    ends = rows[0].levels[0], rows[-1].levels[1]
    style = {"color": COLOURS[-1], "linewidth": 3.5, "alpha": 0.5, "zorder": 1}
    with canvas(path, 2, (10, 4.2)) as (left, right):
        for index, count in enumerate(rows[0].fixed):
            left.plot(centres, [row.fixed[count] for row in rows], label=f"T = {count}", **look(index))
            right.plot(ends, [count + 1] * 2, color=COLOURS[index])
        errors = [2 * row.error for row in rows]
        left.errorbar(centres, [row.loss for row in rows], errors, label="rule, 2 standard errors", **style)
        levels = np.geomspace(*ends, 500)
        right.plot(levels, [rule.steps(level) + 1 for level in levels.tolist()], **style)
        for panel in (left, right):
            panel.set(xscale="log", xlabel="noise level of the capture, rms, 1 = white")
            for level in rule.levels:
                panel.axvline(level, color=GREY, linestyle=":", linewidth=1)
        low = min(min(row.fixed.values()) for row in rows)
        high = max(max(row.fixed.values()) for row in rows)
        left.set_yscale("symlog", linthresh=_LINEAR)
        left.set_yticks(_TICKS, [f"{tick:+g}" if tick else "0" for tick in _TICKS], minor=False)
        left.set_ylim(1.3 * min(low, -_LINEAR / 2), 1.3 * max(high, _LINEAR / 2))
        left.set(ylabel=f"loss against T = {REFERENCE}, dB (below 0: a gain)")
        right.set_yticks([count + 1 for count in rows[0].fixed])
        right.set(ylabel="network evaluations", ylim=(0, max(rows[0].fixed) + 1.5))
        legend_below([left], 5)


if __name__ == "__main__":
    tyro.cli(main)

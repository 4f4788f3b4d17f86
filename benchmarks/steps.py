"""The rule behind `expose enhance --steps auto`: fitted on half of the scenes, judged on the other half.

    python benchmarks/steps.py --images FOLDER [--weights NAME|FILE] [--output DIR] [--write]

Views cut from the pictures are recorded by calibrated cameras at random ratios (2 to 300) and ISO settings (100 to
6400) with the full noise (`learn/scenes.py`). Pictures are dealt in turn to the two halves: no picture is in both.
Written: steps.json, every capture's figures, and steps.png. `--write` stores the rule in the header of the weights.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from common import machine

from exposurediffusion.apps.steps import plot_steps
from exposurediffusion.learn.scenes import SimulatedCapture, simulated_captures
from exposurediffusion.learn.steps import (
    REFERENCE,
    TOLERANCE,
    RuleRow,
    StepFigures,
    fit_rule,
    judge_rule,
    measure_steps,
)
from exposurediffusion.learn.weights import PRETRAINED, load, store_rule
from exposurediffusion.process.steps import StepRule


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
    output: Path = Path("runs/steps"),
    write: bool = False,
) -> None:
    """Measure, fit, judge, and store the rule if asked.

    Args:
        images: folder of clean pictures that the weights were not trained on.
        weights: name or file.
        steps: numbers of simulated exposures to measure.
        tolerance: average loss against T = 2 that the rule may have where it is fitted, dB.
        views: of each picture.
        shots: captures of each view.
        seed: of everything drawn.
        threads: of PyTorch; None: its own choice.
        figures: a steps.json of before: fit and judge again, measure nothing.
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
    found: dict[str, Any] = {"rule": rule.to_dict()}
    for name, part in zip(("fitted on", "judged on"), halves, strict=True):
        found[name] = report(name, rule, part)
    other = fit_rule(halves[1], tolerance)
    print(f"with the halves exchanged: {other}")
    found["exchanged"] = {"rule": other.to_dict(), "judged on": report("judged on", other, halves[0])}
    plot_steps(output / "steps.png", rule, judge_rule(rule, halves[1])[1])
    content = {**about, **found, "captures": rows}
    (output / "steps.json").write_text(json.dumps(content, indent=1) + "\n")
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
    whole, parts = judge_rule(rule, part)
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
    import exposurediffusion.learn

    folder = Path(exposurediffusion.learn.__file__).parent / "pretrained"
    path = folder / PRETRAINED[weights] if weights in PRETRAINED else Path(weights)
    store_rule(path, rule)
    print(f"{path}: {rule}")


if __name__ == "__main__":
    tyro.cli(main)

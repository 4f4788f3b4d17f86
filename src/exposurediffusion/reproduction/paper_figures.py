"""The paper's figures from runs: what is measured for each, and the plot and the table of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from exposurediffusion.datasets.samples import Sample
from exposurediffusion.evaluation.cost import cost
from exposurediffusion.evaluation.measure import cropped
from exposurediffusion.evaluation.metrics import illuminance_correction, psnr
from exposurediffusion.evaluation.paper import FIGURE5
from exposurediffusion.evaluation.summary import Cell, Score, Table
from exposurediffusion.reproduction.capacity import Point, plot_capacity
from exposurediffusion.reproduction.paper_tables import BACKBONES, RATIOS
from exposurediffusion.reproduction.plots import (
    error_change,
    plot_ablation_heat,
    plot_convergence,
    plot_residual_layer,
    plot_steps_curves,
)
from exposurediffusion.reproduction.provenance import facts, named, stand_in
from exposurediffusion.reproduction.runs import Runs, load_method
from exposurediffusion.reproduction.scorer import Scores

EXPOSURES = (0, 1, 2, 3, 4, 6, 9)
DDIM_STEPS = (1, 2, 5, 10, 20, 50)
HIGHLIGHT = 0.9
CORRECTION = "final"
TRAININGS = ("exposure", "feedforward")


def figure4(runs: Runs, path: Path) -> list[Table]:
    """Small networks with the method against large ones without: parameters, multiply-adds, time."""
    runs.expect([(f"p+g-{b}-{kind}", kind == "feedforward") for b in BACKBONES.values() for kind in TRAININGS])
    points: list[Point] = []
    names: list[str] = []
    for label, backbone in BACKBONES.items():
        for method in (False, True):
            preset = f"p+g-{backbone}-{'exposure' if method else 'feedforward'}"
            if (model := runs.model(preset, not method)) is None:
                continue
            found = runs.scores(preset, not method)
            names.append(named(label, found))
            shown = label if names[-1] == label else f"{label}, stand-in"
            spent = cost(model, 512, repeats=3)
            points.append(Point(shown, method, spent, 3 if method else 1, _of_ratio(found)))
    plot_capacity(points, path)
    rows: list[list[Cell]] = [
        [
            name,
            "with the method" if point.method else "feed-forward, equal compute",
            f"{point.cost.parameters:,}",
            f"{point.evaluations * point.cost.multiply_adds / 1e9:.2f} G",
            point.seconds,
            *(point.scores.get(ratio) for ratio in RATIOS),
        ]
        for name, point in zip(names, points, strict=True)
    ]
    header = [
        "network",
        "training",
        "parameters",
        "multiply-adds of an inference",
        "seconds",
        *map("x{}".format, RATIOS),
    ]
    return [Table("Figure 4: small with the method against large without", header, rows, _notes(runs))]


def figure5(runs: Runs, path: Path, scene: str | None = None) -> list[Table]:
    """Mask and error change of the adaptive residual layer on a scene; by default the one with most highlights."""
    presets = {"with": "p+g-nafnet1-exposure", "without": "p+g-nafnet1-exposure-no-residual"}
    runs.expect([(preset, False) for preset in presets.values()], seeds=1)
    paths = {name: found for name, preset in presets.items() if (found := runs.path(preset)) is not None}
    if len(paths) < len(presets):  # all were asked for, so all that miss are noted
        return []
    opened, _ = runs.scorer.open(runs.scorer.selection)
    samples = [(pair.scene, cropped(opened[i], runs.scorer.protocol.crop)) for i, pair in enumerate(opened.pairs)]
    sample = _brightest(samples, scene)
    clean = sample.clean.clamp(0, 1)
    rows: list[list[Cell]] = []
    maps, mask, captions = {}, torch.zeros(1, *clean.shape[1:]), {}
    for name, weights in paths.items():
        method = load_method(weights, runs.device)
        runs.used.append(facts(method, presets[name]))
        prediction = method(sample)
        first, last = (
            illuminance_correction(image[None], clean[None])[0]
            for image in (prediction.first, prediction.estimate)
            if image is not None
        )
        maps[name], mask = error_change(first, last, clean), mask if prediction.mask is None else prediction.mask
        bright = clean.amax(dim=0) > HIGHLIGHT
        captions[name] = f"{name} the layer, {psnr(last, clean):.2f} dB"
        inside = float(maps[name][bright].mean()) if bool(bright.any()) else None
        change = float(maps[name].mean())
        rows.append([f"{name} the layer", psnr(first, clean), psnr(last, clean), change, inside, FIGURE5[name]])
    given = ("low-light capture", f"reference ({sample.name}, x{sample.ratio:g})", "adaptive mask M")
    assert sample.capture is not None  # pairs have one
    plot_residual_layer(
        sample.capture,
        clean,
        mask,
        maps["without"],
        maps["with"],
        path,
        (*given, captions["without"], captions["with"]),
    )
    header = [
        "network",
        "PSNR, first step",
        "PSNR, last step",
        "mean error change",
        f"of it where the reference > {HIGHLIGHT}",
        "paper: PSNR (its scene)",
    ]
    title = f"Figure 5: the adaptive residual layer on scene {sample.name}{stand_in(runs.used[-1])}"
    return [Table(title, header, rows, _notes(runs))]


def _brightest(samples: Sequence[tuple[str, Sample]], scene: str | None) -> Sample:
    """The scene with most highlights, at its highest ratio; or the one that is named."""
    chosen = [sample for name, sample in samples if scene in (None, name)]
    if not chosen:
        raise ValueError(
            f"--scene: no scene {scene!r}; there are {', '.join(dict.fromkeys(name for name, _ in samples))}"
        )
    return max(chosen, key=lambda s: (float((s.clean > HIGHLIGHT).float().mean()), s.ratio or 1))


def figure6(runs: Runs, path: Path) -> list[Table]:
    """Quality against the number of steps, NAFNet-1, ELD noise: with the method's training and without."""
    plain = "eld-nafnet1-feedforward"
    runs.expect([(plain, True), (f"{plain}-photons", True), ("eld-nafnet1-exposure", False)])
    curves = {
        "feed-forward training (equal compute)": _curve(lambda t: runs.scores(plain, True, steps=t), EXPOSURES),
        "... with photon planes": _curve(lambda t: runs.scores(f"{plain}-photons", True, steps=t), EXPOSURES),
        "with the method": _curve(lambda t: runs.scores("eld-nafnet1-exposure", steps=t), EXPOSURES),
    }
    plot_steps_curves({r: {k: _at(c, r) for k, c in curves.items() if c} for r in RATIOS}, path, trained=2)
    title = _named("Figure 6: quality against steps T, NAFNet-1", curves["with the method"])
    return [_table(runs, title, "T", curves, EXPOSURES)]


def figure8(runs: Runs, path: Path) -> list[Table]:
    """Convergence over network evaluations at x100: the method against DDIM."""
    sizes = ("small", "large")
    runs.expect([("p+g-unet-exposure", False), *((f"p+g-diffusion-{size}", True) for size in sizes)])
    ours = _curve(lambda n: runs.scores("p+g-unet-exposure", steps=n - 1), tuple(t + 1 for t in EXPOSURES))
    curves = {_named("the method, UNet", ours): ours}
    for size in sizes:
        curve = _curve(lambda n, size=size: runs.scores(f"p+g-diffusion-{size}", True, steps=n), DDIM_STEPS)
        curves[_named(f"conditional diffusion, {size}", curve)] = curve
    found = {label.replace(" (", "\n("): _at(curve, 100) for label, curve in curves.items() if curve}
    plot_convergence(found, path, "x100, P+G noise in training")
    steps = tuple(sorted({n for curve in curves.values() for n in curve}))
    return [_table(runs, "Figure 8: convergence", "network evaluations", curves, steps)]


def ablations(runs: Runs, path: Path) -> list[Table]:
    """What its readers ask for: choices in training, choices in inference, T in training against T in inference."""
    base = "eld-nafnet1-exposure"
    kinds = ("", "-t1", "-t3", "-no-residual", "-markov", "-mean", "-kl", "-unclamped", "-corrected")
    runs.expect([(f"{base}{kind}", False) for kind in kinds])
    trained = {f"{base}{kind}": runs.scores(f"{base}{kind}") for kind in kinds}
    inference: dict[str, Scores] = {}
    for transition in ("restart", "markov"):
        for increment in ("sampled", "mean"):
            for schedule in ("official", "paper"):
                inference[f"{transition}, {increment} increments, schedule {schedule}"] = runs.scores(
                    base, transition=transition, increment=increment, schedule=schedule
                )
    inference["capture and states not clamped"] = runs.scores(base, clamp=None)
    heat = {
        (t, steps): runs.scores(base + ("" if t == 2 else f"-t{t}"), steps=steps)
        for t in (1, 2, 3)
        for steps in (0, 1, 2, 3, 4)
    }
    plot_ablation_heat(
        {key: (f.psnr if (f := scores.get((300, CORRECTION))) else None) for key, scores in heat.items()},
        path,
        title="PSNR at x300, NAFNet-1, ELD noise",
    )
    crossed = {f"trained with T = {t}, run with T = {steps}": scores for (t, steps), scores in heat.items()}
    return [
        _rows(runs, "Ablation: choices in training", trained),
        _rows(runs, f"Ablation: choices in inference ({base})", inference),
        _rows(runs, "Ablation: T in training against T in inference", crossed),
    ]


def _curve(run: Callable[[int], Scores], steps: Sequence[int]) -> dict[int, Scores]:
    found = {step: run(step) for step in steps}
    return {step: scores for step, scores in found.items() if scores}


def _named(label: str, curve: Mapping[int, Scores]) -> str:
    return named(label, next(iter(curve.values()), {}))


def _at(curve: Mapping[int, Scores], ratio: int) -> dict[int, Score | None]:
    return {step: scores.get((ratio, CORRECTION)) for step, scores in curve.items()}


def _of_ratio(scores: Scores) -> dict[int, Score | None]:
    return {ratio: scores.get((ratio, CORRECTION)) for ratio in RATIOS}


def _rows(runs: Runs, title: str, found: Mapping[str, Scores]) -> Table:
    rows = [[name, *_of_ratio(scores).values()] for name, scores in found.items()]
    title = named(title, next(filter(None, found.values()), {}))
    return Table(title, ["", *map("x{}".format, RATIOS)], rows, _notes(runs))


def _table(
    runs: Runs, title: str, head: str, curves: Mapping[str, Mapping[int, Scores]], steps: Sequence[int]
) -> Table:
    rows: list[list[Cell]] = [
        [label, step, *_of_ratio(curve[step]).values()]
        for label, curve in curves.items()
        for step in steps
        if step in curve
    ]
    return Table(title, ["", head, *map("x{}".format, RATIOS)], rows, _notes(runs))


def _notes(runs: Runs) -> list[str]:
    return [f"PSNR in dB / SSIM, correction {CORRECTION}. Measured: {runs.describe()}."]

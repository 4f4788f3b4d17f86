"""The paper's tables again: ours in its layout, its own figures beside them, a table for each correction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import isnan, sqrt
from pathlib import Path

from exposurediffusion.evaluation.measure import Correction
from exposurediffusion.evaluation.methods import BlockMatching, Capture
from exposurediffusion.evaluation.paper import (
    TABLE2,
    TABLE3,
    TABLE4,
    TABLE5A,
    TABLE5B,
    TABLE6,
    TABLE7A,
    TABLE7B,
    PaperTable,
)
from exposurediffusion.evaluation.selection import Selection
from exposurediffusion.evaluation.summary import Cell, Score, Table
from exposurediffusion.reproduction.paper_costs import cost_table
from exposurediffusion.reproduction.provenance import named
from exposurediffusion.reproduction.runs import Runs
from exposurediffusion.reproduction.scorer import Scores

RATIOS = (100, 250, 300)
ORDER: tuple[Correction, ...] = ("final", "oracle", "none")
NOISES = {"P+G": "p+g", "Paired data": "paired", "ELD": "eld", "PMN": "pmn"}
BACKBONES = {"UNet": "unet", "NAFNet-1": "nafnet1", "NAFNet-2": "nafnet2"}
EQUAL = {False: "equal iterations", True: "equal compute"}
PRINTED = {"run": "the paper's", "correction": "oracle"}
COMPARED = (
    "feed-forward, equal iterations", "feed-forward, equal compute", "with the method",
    "gain (equal iterations)", "gain (equal compute)", "paper: baseline", "paper: with the method",
)  # fmt: skip


def table2(runs: Runs) -> list[Table]:
    """Methods."""
    learned = ("noise2noise-unet-feedforward", "p+g-unet-feedforward")
    runs.expect([*((preset, matched) for preset in learned for matched in EQUAL), ("p+g-unet-exposure", False)])
    rows: list[tuple[str, str | None, Scores]] = [
        ("the capture itself", None, runs.scorer.scores(Capture())),
        ("BM3D", "BM3D", _classical(runs, False)),
        ("A-BM3D", "A-BM3D", _classical(runs, True)),
        *((f"N2N, {EQUAL[m]}", "N2N", runs.scores("noise2noise-unet-feedforward", m)) for m in (False, True)),
        *((f"P+G, {EQUAL[m]}", "P+G", feedforward(runs, "p+g-unet", m)[0]) for m in (False, True)),
        ("Ours", "Ours", runs.scores("p+g-unet-exposure")),
    ]
    return _listing(runs, TABLE2, [(name, (row,) if row else None, found) for name, row, found in rows])


def _classical(runs: Runs, anscombe: bool, selection: Selection | None = None) -> Scores:
    try:
        return runs.scorer.scores(BlockMatching(anscombe), selection)
    except ValueError as error:  # the extra is not installed
        runs.scorer.report(str(error))
        return {}


def table3(runs: Runs, root: Path) -> list[Table]:
    """Methods on the cameras of ELD, in `root`."""
    runs.expect([("noise2noise-unet-feedforward", True), ("p+g-unet-feedforward", True), ("p+g-unet-exposure", False)])
    cells: dict[tuple[tuple[str, ...], str], Scores] = {}
    cameras = list(dict.fromkeys(camera for camera, _ in TABLE3.rows))
    for camera in cameras:
        if not (root / camera).is_dir():
            runs.scorer.report(f"{root}: no folder {camera}; its rows stay empty")
            continue
        chosen = replace(runs.scorer.selection, root=root, dataset="eld", camera=camera, split="auto", subset="auto")
        found = {
            "BM3D": _classical(runs, False, chosen),
            "N2N": runs.scores("noise2noise-unet-feedforward", True, selection=chosen),
            "P+G": runs.scores("p+g-unet-feedforward", True, selection=chosen),
            "Ours": runs.scores("p+g-unet-exposure", selection=chosen),
        }
        cells |= {((camera,), column): scores for column, scores in found.items()}
    columns = TABLE3.columns
    measured = {column: found for (_, column), found in cells.items() if found}
    header = ["camera", "ratio", *(named(column, measured.get(column, {})) for column in columns)]
    header += [f"paper: {column}" for column in columns]

    def rows(correction: Correction) -> list[list[Cell]]:
        return [
            [camera, ratio]
            + [cells.get(((camera,), c), {}).get((int(ratio[1:]), correction)) for c in columns]
            + [_paper(TABLE3, (camera, ratio), c) for c in columns]
            for camera, ratio in TABLE3.rows
        ]

    data = replace(runs.scorer.selection, root=root, dataset="eld").title
    return _by_correction(runs, f"Table 3: methods on {data} (learned ones at equal compute)", header, rows)


def table4(runs: Runs) -> list[Table]:
    """Training data and noise models, UNet."""
    rows = {(f"x{ratio}", name): (f"{noise}-unet", ratio) for ratio in RATIOS for name, noise in NOISES.items()}
    return _comparison(runs, TABLE4, "Baseline", "w/ Ours", rows)


def table5(runs: Runs) -> list[Table]:
    """Backbones (5a), and what they cost (5b)."""
    rows = {
        (f"x{ratio}", noise, name): (f"{NOISES[noise]}-{backbone}", ratio)
        for ratio in RATIOS
        for noise in ("P+G", "ELD")
        for name, backbone in BACKBONES.items()
    }
    presets = {name: f"p+g-{backbone}-exposure" for name, backbone in BACKBONES.items()}
    return [*_comparison(runs, TABLE5A, "Baseline", "w/ Ours", rows), cost_table(runs, "Table 5b", presets, TABLE5B)]


def table6(runs: Runs) -> list[Table]:
    """Trained at x100 alone, PMN, NAFNet-2."""
    rows = {(f"x{ratio}", ""): ("pmn-nafnet2", ratio) for ratio in (250, 300)}
    return _comparison(runs, TABLE6, "Baseline", "Ours", rows, "-x100")


def table7(runs: Runs) -> list[Table]:
    """Against conditional diffusion (7a), and what it costs (7b)."""
    named = {
        "UNet": ("p+g-unet-exposure", False),
        "Diffusion-based-1": ("p+g-diffusion-large", True),
        "Diffusion-based-2": ("p+g-diffusion-small", True),
    }
    runs.expect(named.values())
    rows = [(name, (name,), runs.scores(preset, matched)) for name, (preset, matched) in named.items()]
    presets = dict(zip(TABLE7B, (preset for preset, _ in named.values()), strict=True))
    return [*_listing(runs, TABLE7A, rows), cost_table(runs, "Table 7b", presets, TABLE7B)]


def feedforward(runs: Runs, stem: str, matched: bool, ending: str = "") -> tuple[Scores, bool]:
    """The better of a feed-forward baseline's two input variants, and whether it is the one with photon planes.

    Better is a higher PSNR (correction `final`) in the mean over the ratios, on the very scenes that are reported:
    what doubt there is favours the baseline.
    """
    plain = runs.scores(f"{stem}-feedforward{ending}", matched)
    if ending or not runs.are_there(f"{stem}-feedforward-photons", matched):
        return plain, False  # an optional row: only where somebody has trained it
    photons = runs.scores(f"{stem}-feedforward-photons", matched)
    return (photons, True) if _level(photons) > _level(plain) else (plain, False)


def _level(scores: Scores) -> float:
    found = [score.psnr for (_, correction), score in scores.items() if correction == "final"]
    return sum(found) / len(found) if found else float("-inf")


def _comparison(
    runs: Runs,
    paper: PaperTable,
    baseline: str,
    method: str,
    rows: Mapping[tuple[str, ...], tuple[str, int]],
    ending: str = "",
) -> list[Table]:
    """With the method against without: a row for each stem of presets and ratio."""
    found: dict[str, tuple[Scores, Scores, Scores]] = {}
    photons_used: list[str] = []
    stems = list(dict.fromkeys(stem for stem, _ in rows.values()))
    kinds = ("feedforward", False), ("feedforward", True), ("exposure", False)
    runs.expect([(f"{stem}-{kind}{ending}", matched) for stem in stems for kind, matched in kinds])
    for stem in stems:
        few, photons = feedforward(runs, stem, False, ending)
        many, more = feedforward(runs, stem, True, ending)
        found[stem] = few, many, runs.scores(f"{stem}-exposure{ending}")
        photons_used += [f"{stem}, {EQUAL[m]}" for m, used in ((False, photons), (True, more)) if used]
    met = {stem: ours or few or many for stem, (few, many, ours) in found.items()}  # whose network names a row

    def cells(correction: Correction) -> list[list[Cell]]:
        filled: list[list[Cell]] = []
        for labels, (stem, ratio) in rows.items():
            few, many, ours = (scores.get((ratio, correction)) for scores in found[stem])
            measured = few, many, ours, _gain(ours, few), _gain(ours, many)
            names = [named(label, met[stem]) if label in BACKBONES else label for label in labels if label]
            filled.append([*names, *measured, *_published(paper, labels, baseline, method)])
        return filled

    heads = [head for head, label in zip(paper.heads, next(iter(rows)), strict=True) if label]
    notes = (
        [f"Baselines that were better with photon planes, and are shown so: {'; '.join(photons_used)}."]
        if photons_used
        else []
    )
    title = paper.title(runs.scorer.selection.title)
    if not any(label in BACKBONES for labels in rows for label in labels):  # one network for all
        title = named(title, next(filter(None, met.values()), {}))
    return _by_correction(runs, title, [*heads, *COMPARED], cells, notes)


def _gain(ours: Score | None, baseline: Score | None) -> str | None:
    """The difference in dB, and its standard error if both have several seeds."""
    if ours is None or baseline is None:
        return None
    gain = f"{ours.psnr - baseline.psnr:+.2f}"
    if ours.spread is None or baseline.spread is None:
        return gain
    return f"{gain} ±{sqrt(ours.spread**2 / ours.seeds + baseline.spread**2 / baseline.seeds):.2f}"


def _published(paper: PaperTable, labels: tuple[str, ...], baseline: str, method: str) -> list[Cell]:
    if labels[-1]:
        return [_paper(paper, labels, column) for column in (baseline, method)]
    return [_paper(paper, (labels[0], name), paper.columns[0]) for name in (baseline, method)]  # Table 6 has them below


def _listing(runs: Runs, paper: PaperTable, rows: Sequence[tuple[str, tuple[str, ...] | None, Scores]]) -> list[Table]:
    """A row for each method, ratios across."""

    def published(row: tuple[str, ...] | None, ratio: int) -> Cell:
        if row is None:
            return None
        if f"x{ratio}" in paper.columns:
            return _paper(paper, row, f"x{ratio}")
        return _paper(paper, (f"x{ratio}", *row), paper.columns[0])

    def cells(correction: Correction) -> list[list[Cell]]:
        return [
            [named(name, found), *(found.get((r, correction)) for r in RATIOS), *(published(row, r) for r in RATIOS)]
            for name, row, found in rows
        ]

    header = ["model", *(f"x{ratio}" for ratio in RATIOS), *(f"paper x{ratio}" for ratio in RATIOS)]
    return _by_correction(runs, paper.title(runs.scorer.selection.title), header, cells)


def _by_correction(
    runs: Runs,
    title: str,
    header: Sequence[str],
    rows: Callable[[Correction], list[list[Cell]]],
    notes: Sequence[str] = (),
) -> list[Table]:
    chosen: list[Correction] = [correction for correction in ORDER if correction in runs.scorer.protocol.corrections]
    below = [
        f"PSNR in dB / SSIM. Measured: {runs.describe()}.",
        "The paper's figures are of SID or ELD, correction oracle; what was not measured is a dash.",
        *notes,
    ]
    return [
        Table(f"{title} (correction: {each})", header, rows(each), below if each == chosen[-1] else ())
        for each in chosen
    ]


def rates(runs: Runs) -> list[Table]:
    """What the search for learning rates found; nothing if there was none."""
    if not runs.trials:
        return []
    rows: list[list[Cell]] = [
        [
            name,
            *(None if isnan(trial.scores[rate]) else f"{trial.scores[rate]:.2f}" for rate in runs.rates),
            None if trial.rate is None else f"{trial.rate:g}",
        ]
        for name, trial in sorted(runs.trials.items())
    ]
    note = "PSNR in dB on the validation split, correction final, seed 0; further seeds are trained at the chosen rate."
    return [Table("Learning rates", ["run", *(f"{rate:g}" for rate in runs.rates), "chosen"], rows, [note])]


def _paper(table: PaperTable, row: tuple[str, ...], column: str) -> Cell:
    found = table.get(row, column)
    return None if found is None else Score(found.psnr, found.ssim, digits=table.digits, of=PRINTED)

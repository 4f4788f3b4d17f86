"""What stands with every number: the real network, its training, how it was run and measured; stand-ins so called."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from exposurediffusion.evaluation.measure import Protocol
from exposurediffusion.evaluation.methods import Capture, Network
from exposurediffusion.evaluation.selection import Selection
from exposurediffusion.evaluation.summary import Score, Table
from exposurediffusion.reproduction.budget import Budget
from exposurediffusion.reproduction.paper_tables import table2
from exposurediffusion.reproduction.provenance import (
    COLUMNS,
    described,
    facts,
    named,
    of_seeds,
    stand_in,
    to_csv,
    what_was_run,
)
from exposurediffusion.reproduction.runs import Runs
from exposurediffusion.reproduction.scorer import Scorer
from exposurediffusion.training.presets import find_preset
from exposurediffusion.weights.file import ModelCard, TrainedDenoiser
from tests.simulated import DRAWN, weights_like

RUN = "p+g-unet-exposure"


def method(budget: Budget, preset: str = RUN, matched: bool = False, **training: Any) -> Network:
    """An untrained network with the header that training at this budget leaves."""
    recipe = budget.recipe(find_preset(preset), matched)
    origin = {"recipe": asdict(recipe), "iterations": recipe.iterations, **training}
    model = TrainedDenoiser(ModelCard(recipe.denoiser, recipe.sampling, training=origin))
    return Network(model, recipe.sampling, preset, "0123456789ab")


@pytest.mark.parametrize(
    ("preset", "words"),
    [
        (RUN, "UNet, width 8, 0.49 M, 2000 iterations"),
        ("eld-nafnet1-exposure", "NAFNet, width 16, 4.8 k, 2000 iterations"),
        ("pmn-nafnet2-exposure-x100", "NAFNet, width 8, 0.29 M, 2000 iterations"),
    ],
)
def test_a_stand_in_is_called_so_by_its_real_size(preset: str, words: str) -> None:
    of = facts(method(Budget(2000), preset), preset)
    assert stand_in(of) == f" (stand-in: {words})"
    assert named("Ours", {100: Score(30, 0.5, of=of)}) == f"Ours (stand-in: {words})"


def test_what_is_as_in_the_paper_is_no_stand_in() -> None:
    for matched in (False, True):
        of = facts(method(Budget(), matched=matched), RUN, matched)
        assert of["iterations"] == (3 if matched else 1) * 386_400
        assert (of["network"], of["stand-in"], stand_in(of)) == ("UNet, width 32, 7.76 M", "no", "")
    assert named("Ours", {100: Score(30, 0.5, of=of)}) == "Ours"
    assert named("Ours", {}) == "Ours"


@pytest.mark.parametrize("less", [{"iterations": 386_399}, {"recipe": {"batch": 1, "patch": 64}}])
def test_the_whole_network_with_less_training_is_a_stand_in(less: dict[str, Any]) -> None:
    assert facts(method(Budget(), **less), RUN)["stand-in"] == "yes"
    assert facts(method(Budget()), RUN, matched=True)["stand-in"] == "yes"  # a third of equal compute


def test_converted_weights_whose_training_is_unknown_are_judged_by_their_network() -> None:
    whole = method(Budget())
    bare = TrainedDenoiser(ModelCard(whole.model.config, whole.sampling))
    of = facts(replace(whole, model=bare), RUN)
    assert (of["stand-in"], of["iterations"], of["batch"]) == ("no", None, None)


def test_runs_have_a_row_each_with_all_their_steps() -> None:
    one = facts(method(Budget(2000)), RUN)
    three = of_seeds([{**one, "seeds": seed, "weights": f"digest{seed}"} for seed in (0, 1, 2)])
    (table,) = what_was_run([three, {**three, "steps": 10}, {**three, "steps": 9}, {**one, "clamp": None}])
    assert [list(row) for row in table.rows] == [
        [RUN, "UNet, width 8, 0.49 M", "2000 x 4 x 64", "0", "2", "official, restart, sampled, None", "0123456789ab"],
        [
            *(RUN, "UNet, width 8, 0.49 M", "2000 x 4 x 64", "0 1 2", "2 9 10"),
            *("official, restart, sampled, (0.0, 1.0)", "digest0 digest1 digest2"),
        ],
    ]
    assert what_was_run([]) == []


def test_a_line_of_the_csv_has_all_that_its_number_is_of() -> None:
    of = {name: f"its {name}" for name in COLUMNS}
    ours, paper = Score(30.25, 0.5, 0.125, images=7, of=of), Score(31, 0.75)
    header = ["Ratio", "T", "ours", "gain", "paper"]
    rows = [["x100", 2, ours, "+1.00", paper], ["x300", 2, None, None, paper]]
    plain = Table("Costs", ["network", "time"], [["UNet", "1 s"]])
    content = to_csv([Table("Title", header, rows), plain])
    lines, others = content.split("\n\n")
    first, gain, *papers = csv.DictReader(io.StringIO(lines))
    numbers = {"value": "", "PSNR": "30.25", "SSIM": "0.5", "spread": "0.125", "images": "7"}
    assert first == {"table": "Title", "row": "x100, 2", "column": "ours", **numbers, **of}
    assert (gain["column"], gain["value"], gain["PSNR"]) == ("gain", "+1.00", "")
    assert [(line["row"], line["column"], line["PSNR"], line["run"]) for line in papers] == [
        ("x100, 2", "paper", "31", ""),
        ("x300, 2", "paper", "31", ""),
    ]
    assert others == "network,time\nUNet,1 s\n"


@pytest.fixture
def runs(simsid: Path, tmp_path: Path) -> Runs:
    for seed, name in enumerate((RUN, f"{RUN}+seed1")):
        weights_like(tmp_path / "runs" / name / "weights.safetensors", DRAWN, seed)
    chosen, protocol = Selection(simsid, ratios=(100,)), Protocol(24, corrections=("none", "final"))
    return Runs(tmp_path / "runs", Scorer(chosen, tmp_path / "out", protocol), Budget(2), seeds=2)


def test_figures_that_were_measured_know_what_they_are_of(runs: Runs) -> None:
    scores = runs.scores(RUN, steps=1, clamp=None)
    assert {correction: score.of["correction"] for (_, correction), score in scores.items()} == {
        "none": "none",
        "final": "final",
    }
    of = scores[100, "final"].of
    known = {name: of[name] for name in COLUMNS}
    assert described(runs.model(RUN)) == known["network"] == "UNet, width 4, 1.9 k"  # type: ignore[arg-type]
    assert (known["seeds"], known["steps"], known["clamp"], known["crop"]) == ("0 1", 1, None, 24)
    assert (known["schedule"], known["transition"], known["increment"]) == ("official", "restart", "sampled")
    digests = [runs.model(RUN, seed=seed).digest for seed in (0, 1)]  # type: ignore[union-attr]
    assert known["weights"] == " ".join(digests)
    assert (known["split"], known["subset"], known["clip"]) == ("test", "all", "[0, 1]")
    assert runs.scorer.scores(Capture())[100, "final"].of["run"] == "capture"
    assert [used["steps"] for used in runs.used] == [1]
    for part in ("split test", "subset all", "crop 24", "clip [0, 1]", "images 2 at x100", "corrections none, final;"):
        assert part in runs.describe()


def test_no_row_is_called_ours_alone(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exposurediffusion.reproduction.paper_tables._classical", lambda *_: {})
    for table in table2(runs):
        assert table.rows[-1][0] == "Ours (stand-in: UNet, width 4, 1.9 k)"

"""`expose reproduce`: tables and figures from a folder of weights to files, what is missing, and bad input."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from exposurediffusion.cli.main import main
from exposurediffusion.evaluation.cost import cost
from exposurediffusion.evaluation.methods import BlockMatching, Network
from exposurediffusion.reproduction import paper_costs, paper_figures, paper_tables
from exposurediffusion.reproduction.budget import Budget
from exposurediffusion.training import trainer
from exposurediffusion.training.presets import PRESETS
from tests.simulated import DRAWN, SMALL, STEADY, simulate, weights_like
from tests.tiny import PLAIN

Call = Callable[..., tuple[int, str, str]]
NOISES = ("p+g", "eld")
BACKBONES = ("unet", "nafnet1", "nafnet2")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained weights of all that the tables need, but for PMN and paired data, which nobody has trained."""
    folder = tmp_path_factory.mktemp("runs")
    names = [f"{n}-{b}-feedforward{c}" for n in NOISES for b in BACKBONES for c in ("", "+compute")]
    names += [f"{n}-{b}-exposure" for n in NOISES for b in BACKBONES]
    names += ["noise2noise-unet-feedforward", "noise2noise-unet-feedforward+compute"]
    names += ["eld-nafnet1-feedforward-photons+compute", "p+g-nafnet1-exposure-no-residual"]
    names += ["eld-nafnet1-exposure-t1", "eld-nafnet1-exposure-no-residual"]
    for seed, name in enumerate(names):
        sampling = DRAWN if "exposure" in name else replace(STEADY, steps=0)
        weights_like(folder / name / "weights.safetensors", sampling, seed)
    return folder


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """Call `expose reproduce` at x100 and x300, `final` alone, costs of small frames: exit code, stdout, stderr."""
    monkeypatch.setenv("COLUMNS", "400")
    for module in (paper_costs, paper_figures):
        monkeypatch.setattr(module, "cost", lambda model, size, repeats: cost(model, size // 16, repeats=1))

    def call(*options: Any) -> tuple[int, str, str]:
        try:
            code = main(["reproduce", *map(str, options)])
        except SystemExit as leave:
            code = int(leave.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, " ".join(captured.err.split())

    return call


def options(simsid: Path, runs: Path, output: Path, *ratios: int) -> list[Any]:
    return [
        "--root",
        simsid,
        "--weights",
        runs,
        "-o",
        output,
        "--corrections",
        "final",
        "--ratios",
        *(ratios or (100, 300)),
    ]


def table(path: Path, *labels: str) -> list[str]:
    """The cells of the row that begins so, stand-ins or not."""
    start = re.escape("| ") + re.escape(" | ").join(rf"{re.escape(label)}(?: \(stand-in: [^|]*\))?" for label in labels)
    lines = path.read_text().partition("## What was run")[0].splitlines()
    (line,) = [line for line in lines if re.match(rf"{start} \|", line)]
    return line.strip("| ").split(" | ")[len(labels) :]


def is_picture(path: Path) -> bool:
    with Image.open(path) as picture:
        return min(picture.size) > 200 and len(np.unique(np.asarray(picture.convert("L")))) > 10


# ----------------------------------------------------------------------------------------------------------- tables


def test_table4_and_figure4(simsid: Path, runs: Path, run: Call, tmp_path: Path) -> None:
    code, out, error = run("table4", "fig4", *options(simsid, runs, tmp_path))
    assert code == 0, error
    there = {path.name for path in tmp_path.iterdir()}
    assert there == {"table4.md", "table4.csv", "fig4.md", "fig4.csv", "fig4.png", "measured"}
    assert is_picture(tmp_path / "fig4.png")
    row = table(tmp_path / "table4.md", "x100", "ELD")
    assert row[-2:] == ["39.27 / 0.914", "39.37 / 0.917"]
    assert all(" / " in cell for cell in row[:3])
    gains = [float(row[2].split()[0]) - float(row[i].split()[0]) for i in (0, 1)]
    assert [float(cell) for cell in row[3:5]] == pytest.approx(gains, abs=0.011)
    assert table(tmp_path / "table4.md", "x250", "ELD")[:5] == ["-"] * 5  # no such captures
    assert table(tmp_path / "table4.md", "x300", "PMN")[:5] == ["-"] * 5  # no such weights
    content = (tmp_path / "table4.md").read_text()
    assert "Not trained, so missing: " in content
    assert "pmn-unet-exposure" in content
    assert "--train trains them" in error
    assert "sid-sony, simulated" in content
    assert "Table 4" in out
    assert (tmp_path / "table4.csv").read_text().splitlines()[0].startswith("table,row,column,")
    assert "stand-in: UNet, width 4" in content
    assert "## What was run" in content
    assert "missing" not in (tmp_path / "fig4.md").read_text()  # is of this artefact alone
    assert table(tmp_path / "fig4.md", "NAFNet-1", "with the method")[-2] == "-"


def test_what_was_measured_is_not_measured_again(
    simsid: Path, runs: Path, run: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("table4", *options(simsid, runs, tmp_path, 300))[0] == 0
    first = (tmp_path / "table4.md").read_text()

    def again(*_: Any, **__: Any) -> Any:
        raise AssertionError("measured twice")

    monkeypatch.setattr(Network, "__call__", again)
    assert run("table4", *options(simsid, runs, tmp_path, 300))[0] == 0
    assert (tmp_path / "table4.md").read_text() == first


def test_summary_as_json(simsid: Path, runs: Path, run: Call, tmp_path: Path) -> None:
    code, out, _ = run("table6", "table4", "--json", *options(simsid, runs, tmp_path, 300))
    assert code == 0
    content = json.loads(out)
    assert [entry["artefact"] for entry in content["results"]] == ["table6", "table4"]
    pmn = ["pmn-nafnet2-feedforward-x100", "pmn-nafnet2-feedforward-x100+compute", "pmn-nafnet2-exposure-x100"]
    assert content["results"][0]["missing"] == pmn
    assert content["failed"] == 0


def test_tables_2_and_5(simsid: Path, runs: Path, run: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paper_costs, "multiply_adds", lambda *_, **__: 1e9)
    monkeypatch.setattr(BlockMatching, "__call__", lambda self, sample, *_: _none())
    code, out, error = run("table2", "table5", *options(simsid, runs, tmp_path, 300))
    assert code == 0, error
    assert "pip install exposurediffusion[baselines]" in error  # is reported; the other rows are there
    assert table(tmp_path / "table2.md", "BM3D")[:3] == ["-", "-", "-"]
    assert " / " in table(tmp_path / "table2.md", "the capture itself")[2]
    assert " / " in table(tmp_path / "table2.md", "N2N, equal compute")[2]
    assert " / " in table(tmp_path / "table5.md", "x300", "P+G", "NAFNet-2")[1]
    assert "stand-in: UNet, width 4, 1.9 k" in out
    assert "missing" not in (tmp_path / "table5.md").read_text()


def _none() -> Any:
    raise ValueError("this baseline needs the library bm3d: pip install exposurediffusion[baselines]")


def test_table3_of_a_simulated_eld(
    simsid: Path, runs: Path, photographs: Path, run: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BlockMatching, "__call__", lambda self, sample, *_: _none())
    eld = simulate(photographs, tmp_path / "eld", "--layout", "eld", "--scenes", 1)
    code, _, error = run("table3", "--eld", eld, *options(simsid, runs, tmp_path / "out", 100))
    assert code == 0, error
    row = table(tmp_path / "out" / "table3.md", "SonyA7S2", "x100")
    assert row[0] == "-"
    assert all(" / " in cell for cell in row[1:])
    assert table(tmp_path / "out" / "table3.md", "SonyA7S2", "x200")[1] == "-"  # left out by --ratios
    assert "no folder NikonD850" in error
    assert (tmp_path / "out" / "measured-SonyA7S2" / "images.csv").is_file()


# ---------------------------------------------------------------------------------------------------------- figures


def test_figure5_of_a_scene(simsid: Path, runs: Path, run: Call, tmp_path: Path) -> None:
    code, _, error = run("fig5", "--scene", "10002", *options(simsid, runs, tmp_path))
    assert code == 0, error
    assert is_picture(tmp_path / "fig5.png")
    assert "on scene 10002" in (tmp_path / "fig5.md").read_text()
    assert float(table(tmp_path / "fig5.md", "with the layer")[1]) > 0
    paper = [table(tmp_path / "fig5.md", f"{name} the layer")[-1] for name in ("without", "with")]
    assert paper == ["32.57", "35.44"]
    code, _, error = run("fig5", "--scene", "10009", *options(simsid, runs, tmp_path))
    assert code == 1
    assert "--scene: no scene '10009'; there are 10001, 10002" in error


def test_figure5_without_weights_tells_all_that_is_missing(simsid: Path, run: Call, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    code, _, error = run("fig5", *options(simsid, tmp_path / "runs", tmp_path / "out"))
    assert code == 0
    assert "no weights of p+g-nafnet1-exposure, p+g-nafnet1-exposure-no-residual in" in error


def test_figure6_has_a_point_for_each_number_of_steps(simsid: Path, runs: Path, run: Call, tmp_path: Path) -> None:
    code, _, error = run("fig6", *options(simsid, runs, tmp_path, 300))
    assert code == 0, error
    assert is_picture(tmp_path / "fig6.png")
    found = {steps: table(tmp_path / "fig6.md", "with the method", str(steps))[2] for steps in paper_figures.EXPOSURES}
    assert all(" / " in cell for cell in found.values())
    assert " / " in table(tmp_path / "fig6.md", "... with photon planes", "9")[2]


def test_figure8_without_diffusion(simsid: Path, runs: Path, run: Call, tmp_path: Path) -> None:
    code, _, error = run("fig8", *options(simsid, runs, tmp_path, 100))
    assert code == 0, error
    assert is_picture(tmp_path / "fig8.png")
    assert " / " in table(tmp_path / "fig8.md", "the method, UNet", "1")[0]
    assert "p+g-diffusion-small+compute, p+g-diffusion-large+compute" in error


def test_ablations(simsid: Path, runs: Path, run: Call, tmp_path: Path) -> None:
    code, _, error = run("ablations", *options(simsid, runs, tmp_path, 300))
    assert code == 0, error
    assert is_picture(tmp_path / "ablations.png")
    path = tmp_path / "ablations.md"
    assert " / " in table(path, "eld-nafnet1-exposure")[2]
    assert " / " in table(path, "markov, mean increments, schedule paper")[2]
    assert table(path, "eld-nafnet1-exposure-kl")[2] == "-"
    assert " / " in table(path, "eld-nafnet1-exposure-no-residual")[2]
    assert " / " in table(path, "trained with T = 1, run with T = 4")[2]
    assert table(path, "trained with T = 3, run with T = 0")[2] == "-"


@pytest.mark.parametrize("artefact", ["table2", "table4", "table6", "fig4", "fig6", "fig8", "ablations"])
def test_nothing_is_trained_and_all_is_dashes(
    artefact: str, simsid: Path, run: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BlockMatching, "__call__", lambda self, sample, *_: _none())
    (tmp_path / "runs").mkdir()
    code, _, error = run(artefact, *options(simsid, tmp_path / "runs", tmp_path / "out", 300))
    assert code == 0, error
    assert "Not trained, so missing: " in (tmp_path / "out" / f"{artefact}.md").read_text()
    if not artefact.startswith("table"):
        assert (tmp_path / "out" / f"{artefact}.png").is_file()


# --------------------------------------------------------------------------------------------------------- training


def test_missing_runs_are_trained_if_asked(
    simsid: Path, run: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, train = Budget.recipe, trainer.train

    def quick(self: Budget, *arguments: Any) -> Any:
        whole = recipe(self, *arguments)
        return replace(
            whole, batch=2, patch=16, denoiser=replace(whole.denoiser, backbone="unet", options=SMALL.options)
        )

    monkeypatch.setattr(Budget, "recipe", quick)
    monkeypatch.setattr(trainer, "train", lambda *a, execution, **o: train(*a, execution=PLAIN, **o))
    chosen = [*options(simsid, tmp_path / "runs", tmp_path / "out", 100), "--train", "--budget", 2]
    code, _, error = run("table6", *chosen)
    assert code == 0, error
    assert "training run 2 of 3, pmn-nafnet2-feedforward-x100+compute: 6 iterations" in error
    assert len(list((tmp_path / "runs").rglob("weights.safetensors"))) == 3
    assert all(" / " in cell for cell in table(tmp_path / "out" / "table6.md", "x250")[-2:])
    assert "missing" not in (tmp_path / "out" / "table6.md").read_text()
    assert "stand-in: UNet, width 4, 1.9 k, 2 iterations" in (tmp_path / "out" / "table6.md").read_text()
    assert (tmp_path / "out" / "measured-dark-shading").is_dir()  # the dark frames of the tree are found
    code, _, error = run("table6", *chosen)
    assert (code, "training" in error) == (0, False)


def test_rates_are_tried_and_told(simsid: Path, run: Call, tmp_path: Path) -> None:
    for seed, name in enumerate(("pmn-nafnet2-exposure-x100@0.001", "pmn-nafnet2-exposure-x100@0.006")):
        weights_like(tmp_path / "runs" / name / "weights.safetensors", DRAWN, seed)
    chosen = options(simsid, tmp_path / "runs", tmp_path / "out", 250)
    code, out, error = run("table6", "--rates", 0.001, "6e-3", *chosen)
    assert code == 0, error
    tried = table(tmp_path / "out" / "table6.md", "pmn-nafnet2-exposure-x100")
    assert tried[2] == ("0.001" if float(tried[0]) > float(tried[1]) else "0.006")
    assert "Learning rates" in out
    assert "no weights of pmn-nafnet2-feedforward-x100, pmn-nafnet2-feedforward-x100+compute in" in error


# --------------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name what to reproduce"),
        (["table9"], "table9"),
        (["table3"], "give its folder by --eld"),
        (["table4", "--root", "nowhere"], "nowhere: no such folder"),
        (["table4", "--weights", "nowhere"], "nowhere: no such folder; give the folder of trained runs, or --train"),
        (["table4", "--seeds", 0], "--seeds is at least 1"),
        (["table4", "--rates", 0.001, 0], "--rates are different numbers above 0"),
        (["table4", "--rates", 0.001, "1e-3"], "--rates are different numbers above 0"),
        (["table4", "--budget", "night"], "--budget is paper, evening, or a number"),
        (["table4", "--crop", 3], "a crop of at least 7"),
    ],
)
def test_wrong_usage(words: list[Any], message: str, simsid: Path, run: Call, tmp_path: Path) -> None:
    given = {"--root": simsid, "--weights": tmp_path, "-o": tmp_path / "out"}
    code, _, error = run(*words, *(part for item in given.items() if item[0] not in words for part in item))
    assert code == 2
    assert message in error


def test_an_output_that_cannot_be_written(simsid: Path, runs: Path, run: Call, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, _, error = run("table4", *options(simsid, runs, tmp_path / "file"))
    assert code == 1
    assert str(tmp_path / "file") in error


def test_every_run_that_a_table_wants_is_a_preset() -> None:
    wanted = [f"{noise}-unet-exposure" for noise in paper_tables.NOISES.values()]
    wanted += [f"p+g-{backbone}-exposure" for backbone in paper_tables.BACKBONES.values()]
    assert set(wanted) <= PRESETS.keys()

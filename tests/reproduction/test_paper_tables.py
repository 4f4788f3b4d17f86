"""The paper's tables again: which runs stand where, its numbers beside ours, dashes for what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import nan
from pathlib import Path
from typing import Any

import pytest

from exposurediffusion.evaluation.cost import cost
from exposurediffusion.evaluation.measure import CORRECTIONS, Correction, Protocol
from exposurediffusion.evaluation.methods import Method
from exposurediffusion.evaluation.selection import Selection
from exposurediffusion.evaluation.summary import Score, Table, text
from exposurediffusion.reproduction import paper_costs, paper_tables
from exposurediffusion.reproduction.budget import Budget, run_name
from exposurediffusion.reproduction.runs import Runs, Trial
from exposurediffusion.reproduction.scorer import Scorer, Scores
from exposurediffusion.training.presets import find_preset
from tests.simulated import tiny, tiny_diffusion

SHIFT = {"none": 0.0, "final": 1.0, "oracle": 2.0}


@dataclass
class Known:
    """PSNR of each run at x100 without correction; less at higher ratios.

    Attributes:
        psnr: run or baseline -> PSNR.
        asked: what was asked for.
    """

    psnr: dict[str, float]
    protocol: Protocol
    asked: list[str] = field(default_factory=list)

    def scores(self, name: str) -> Scores:
        self.asked.append(name)
        if name not in self.psnr:
            return {}
        ratios = {100: 0.0, 200: 3.0, 250: 4.0, 300: 5.0}
        chosen: list[Correction] = [c for c in CORRECTIONS if c in self.protocol.corrections]
        return {(r, c): Score(self.psnr[name] - less + SHIFT[c], 0.5) for r, less in ratios.items() for c in chosen}


@dataclass
class KnownScorer(Scorer):
    """Knows the scores of baselines beforehand."""

    known: Known = field(kw_only=True)

    def scores(self, method: Method, selection: Selection | None = None) -> Scores:
        if selection is not None and selection.camera == "NikonD850":
            raise ValueError("this baseline needs the library bm3d")
        return self.known.scores(method.name)


@dataclass
class KnownRuns(Runs):
    """Knows the scores of runs beforehand."""

    known: Known = field(kw_only=True)

    def scores(self, preset: str, matched: bool = False, **_: Any) -> Scores:
        find_preset(preset)  # which says so if there is none
        name = run_name(preset, matched)
        if not (found := self.known.scores(name)):
            self.missing.append(name)
        return found

    def model(self, preset: str, matched: bool = False, seed: int = 0) -> Any:
        return None


def make(simsid: Path, folder: Path, corrections: Sequence[Any] = CORRECTIONS, **psnr: float) -> KnownRuns:
    protocol = Protocol(corrections=corrections)
    known = Known(psnr, protocol)
    scorer = KnownScorer(Selection(simsid), folder / "out", protocol, known=known)
    return KnownRuns(folder, scorer, Budget(2), known=known)


def shown(table: Table) -> list[list[str]]:
    return [[text(cell) for cell in row] for row in table.rows]


def cells(table: Table, *labels: str) -> list[str]:
    (row,) = [row for row in shown(table) if row[: len(labels)] == list(labels)]
    return row[len(labels) :]


def test_table4_compares_each_noise_at_both_budgets(simsid: Path, tmp_path: Path) -> None:
    known = {"p+g-unet-feedforward": 30, "p+g-unet-feedforward+compute": 31, "p+g-unet-exposure": 33.5}
    runs = make(simsid, tmp_path, **known)
    tables = paper_tables.table4(runs)
    assert [table.title.rpartition("(")[2] for table in tables] == [f"correction: {c})" for c in paper_tables.ORDER]
    assert all("Table 4: Training data and noise models on SimSID Sony, UNet" in table.title for table in tables)
    final, oracle, none = tables
    first = ["30.00 / 0.500", "31.00 / 0.500", "33.50 / 0.500", "+3.50", "+2.50", "38.31 / 0.884", "38.89 / 0.902"]
    assert cells(none, "x100", "P+G") == first
    assert cells(final, "x100", "P+G")[:5] == ["31.00 / 0.500", "32.00 / 0.500", "34.50 / 0.500", "+3.50", "+2.50"]
    assert cells(oracle, "x300", "P+G") == [
        "27.00 / 0.500",
        "28.00 / 0.500",
        "30.50 / 0.500",
        "+3.50",
        "+2.50",
        "33.37 / 0.730",
        "34.99 / 0.808",
    ]
    assert cells(final, "x250", "PMN") == ["-", "-", "-", "-", "-", "37.68 / 0.892", "37.90 / 0.896"]
    assert len(none.rows) == 3 * 4
    assert list(final.notes) == []
    assert "correction oracle; what was not measured is a dash" in " ".join(none.notes)
    assert simsid.name in none.notes[0]
    names = {f"{noise}-unet-{mode}" for noise in ("paired", "eld", "pmn") for mode in ("feedforward", "exposure")}
    assert set(runs.missing) == names | {f"{noise}-unet-feedforward+compute" for noise in ("paired", "eld", "pmn")}


@pytest.mark.parametrize("spread", [0.3, None])
def test_a_gain_has_a_standard_error_where_both_have_seeds(spread: float | None, simsid: Path, tmp_path: Path) -> None:
    runs = make(simsid, tmp_path, ("final",))
    ours, baseline = Score(33.5, 0.5, 0.4, seeds=3), Score(31, 0.5, spread, seeds=2)
    runs.scores = lambda preset, *_, **__: {(100, "final"): ours if "exposure" in preset else baseline}  # type: ignore[method-assign]
    (table,) = paper_tables.table4(runs)
    error = "" if spread is None else f" ±{(0.4**2 / 3 + 0.3**2 / 2) ** 0.5:.2f}"
    assert cells(table, "x100", "ELD")[3:5] == [f"+2.50{error}"] * 2


def test_the_search_for_learning_rates_is_shown(simsid: Path, tmp_path: Path) -> None:
    runs = make(simsid, tmp_path)
    assert paper_tables.rates(runs) == []
    runs.rates = (1e-3, 6e-3)
    runs.trials = {
        "eld-unet-exposure": Trial({1e-3: 31.234, 6e-3: nan}, 1e-3),
        "a": Trial({1e-3: nan, 6e-3: nan}, None),
    }
    (table,) = paper_tables.rates(runs)
    assert table.header == ["run", "0.001", "0.006", "chosen"]
    assert shown(table) == [["a", "-", "-", "-"], ["eld-unet-exposure", "31.23", "-", "0.001"]]
    assert "validation" in table.notes[0]


def test_only_the_corrections_that_were_taken_are_shown(simsid: Path, tmp_path: Path) -> None:
    (table,) = paper_tables.table4(make(simsid, tmp_path, ("oracle",)))
    assert "correction: oracle" in table.title
    assert table.notes


@pytest.mark.parametrize(("photons", "used"), [(32.0, True), (29.0, False), (None, False)])
def test_a_baseline_has_the_better_of_its_inputs(
    photons: float | None, used: bool, simsid: Path, tmp_path: Path
) -> None:
    known = {"eld-unet-feedforward": 30.0, "eld-unet-feedforward+compute": 33.0}
    if photons is not None:
        there = tmp_path / "eld-unet-feedforward-photons" / "weights.safetensors"
        there.parent.mkdir()
        there.touch()
        known["eld-unet-feedforward-photons"] = photons
    runs = make(simsid, tmp_path, ("final",), **known)
    scores, better = paper_tables.feedforward(runs, "eld-unet", False)
    assert better is used
    assert scores[100, "final"].psnr == (photons if used and photons else 30.0) + SHIFT["final"]
    (table,) = paper_tables.table4(runs)
    note = "Baselines that were better with photon planes, and are shown so: eld-unet, equal iterations."
    assert (note in table.notes) is used
    assert cells(table, "x100", "ELD")[1] == "34.00 / 0.500"  # of equal compute there is no such run
    assert "eld-unet-feedforward-photons+compute" not in runs.known.asked


def test_table2_lists_methods(simsid: Path, tmp_path: Path) -> None:
    runs = make(simsid, tmp_path, ("final",), **{"capture": 20, "BM3D": 25, "p+g-unet-exposure": 33})
    (table,) = paper_tables.table2(runs)
    assert table.header == ["model", "x100", "x250", "x300", "paper x100", "paper x250", "paper x300"]
    assert cells(table, "the capture itself") == ["21.00 / 0.500", "17.00 / 0.500", "16.00 / 0.500", "-", "-", "-"]
    assert cells(table, "BM3D")[2:4] == ["21.00 / 0.500", "32.92 / 0.758"]
    assert cells(table, "A-BM3D")[0] == "-"
    assert cells(table, "Ours") == [
        "34.00 / 0.500",
        "30.00 / 0.500",
        "29.00 / 0.500",
        "38.89 / 0.902",
        "36.02 / 0.832",
        "35.00 / 0.808",
    ]
    assert cells(table, "N2N, equal compute") == ["-", "-", "-", "37.42 / 0.853", "33.48 / 0.725", "32.37 / 0.686"]
    assert "noise2noise-unet-feedforward+compute" in runs.missing


def test_table3_is_of_the_cameras_that_are_there(simsid: Path, tmp_path: Path) -> None:
    root = tmp_path / "eld"
    (root / "SonyA7S2").mkdir(parents=True)
    (root / "NikonD850").mkdir()
    messages: list[str] = []
    runs = make(simsid, tmp_path, ("final",), **{"BM3D": 25, "p+g-unet-exposure": 33})
    runs.scorer.report = messages.append
    (table,) = paper_tables.table3(runs, root)
    assert table.header == [
        "camera",
        "ratio",
        *("BM3D", "N2N", "P+G", "Ours"),
        *("paper: BM3D", "paper: N2N", "paper: P+G", "paper: Ours"),
    ]
    sony = cells(table, "SonyA7S2", "x100")
    assert sony[:4] == ["26.00 / 0.500", "-", "-", "34.00 / 0.500"]
    assert all("/" in cell for cell in sony[4:])
    assert cells(table, "SonyA7S2", "x200")[3] == "31.00 / 0.500"
    nikon = cells(table, "NikonD850", "x100")
    assert nikon[0] == "-"  # and why is reported
    assert nikon[3] == "34.00 / 0.500"
    assert any("needs the library bm3d" in line for line in messages)
    absent = {camera for camera, _ in paper_tables.TABLE3.rows} - {"SonyA7S2", "NikonD850"}
    assert absent
    for camera in absent:
        assert any(f"no folder {camera}" in line for line in messages)
        assert cells(table, camera, "x100")[:4] == ["-"] * 4


def test_table6_is_of_what_saw_x100_alone(simsid: Path, tmp_path: Path) -> None:
    (tmp_path / "pmn-nafnet2-feedforward-photons").mkdir()  # another row's: of all ratios
    known = {"pmn-nafnet2-exposure-x100": 33, "pmn-nafnet2-feedforward-x100": 32}
    runs = make(simsid, tmp_path, ("final",), **known)
    (table,) = paper_tables.table6(runs)
    assert table.header[0] == "Ratio"
    assert [row[0] for row in shown(table)] == ["x250", "x300"]
    assert cells(table, "x250") == [
        "29.00 / 0.500",
        "-",
        "30.00 / 0.500",
        "+1.00",
        "-",
        "37.37 / 0.8741",
        "37.73 / 0.8846",
    ]
    assert cells(table, "x300")[-2:] == ["36.31 / 0.8512", "36.83 / 0.8650"]
    assert set(runs.known.asked) == {*known, "pmn-nafnet2-feedforward-x100+compute"}


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Costs of a small frame, timed not at all."""
    monkeypatch.setattr(paper_costs, "cost", lambda model, size, repeats: cost(model, size // 8, repeats=0))
    counted = paper_costs.multiply_adds
    monkeypatch.setattr(
        paper_costs,
        "multiply_adds",
        lambda model, size, as_published: counted(model, size // 8, as_published=as_published),
    )


@pytest.mark.usefixtures("cheap")
def test_table5_has_backbones_and_costs(simsid: Path, tmp_path: Path) -> None:
    known = {"eld-nafnet1-feedforward+compute": 30, "eld-nafnet1-exposure": 32}
    runs = make(simsid, tmp_path, ("final",), **known)
    table, costs = paper_tables.table5(runs)
    assert len(table.rows) == 3 * 2 * 3
    assert cells(table, "x100", "ELD", "NAFNet-1") == [
        "-",
        "31.00 / 0.500",
        "33.00 / 0.500",
        "-",
        "+2.00",
        "35.92 / 0.848",
        "36.87 / 0.879",
    ]
    assert [row[0] for row in costs.rows] == ["UNet", "NAFNet-1", "NAFNet-2"]
    unet = dict(zip(costs.header, map(text, costs.rows[0]), strict=True))
    assert float(unet["parameters"].replace(",", "")) == pytest.approx(7.762e6, rel=0.001)
    assert (unet["time"], unet["paper: parameters"], unet["paper: FLOPs"]) == ("-", "7,762,000", "55.17 G")
    assert unet["paper: time"] == "0.1243 s"
    assert shown(costs)[1][-3:] == ["4,697", "1.124 G", "0.0468 s"]
    assert float(unet["counted as published"].split()[0]) == pytest.approx(55.17 / 64, rel=0.02)


@pytest.mark.usefixtures("cheap")
def test_costs_of_stand_ins_stand_below_the_papers(
    simsid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(KnownRuns, "model", lambda *_: tiny())
    costs = paper_tables.table5(make(simsid, tmp_path, ("final",)))[-1]
    names = [row[0] for row in shown(costs)]
    assert names[:2] == ["UNet", "stand-in: UNet, width 4, 1.9 k"]
    here = shown(costs)[1]
    assert int(here[1].replace(",", "")) == sum(p.numel() for p in tiny().parameters())
    assert here[5:] == ["-", "-", "-"]


@pytest.mark.usefixtures("cheap")
def test_table7_has_diffusion_at_equal_compute(simsid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("diffusers")
    full = paper_costs.full_size
    large = {"p+g-unet-exposure"}  # the diffusion models take seconds to make
    monkeypatch.setattr(
        paper_costs, "full_size", lambda p, device: full(p, device) if p in large else tiny(config=tiny_diffusion())
    )
    known = {"p+g-unet-exposure": 33, "p+g-diffusion-small+compute": 22}
    table, costs = paper_tables.table7(make(simsid, tmp_path, ("final",), **known))
    assert cells(table, "Diffusion-based-2") == [
        "23.00 / 0.500",
        "19.00 / 0.500",
        "18.00 / 0.500",
        "25.13 / 0.539",
        "24.79 / 0.529",
        "22.65 / 0.527",
    ]
    assert cells(table, "UNet")[3] == "38.88 / 0.901"
    assert [row[0] for row in costs.rows] == ["Ours (UNet-based)", "Diffusion-based-1", "Diffusion-based-2"]
    assert shown(costs)[1][5:] == ["8,619,000", "367.15 G", "-"]


def test_gains_are_against_both_budgets(simsid: Path, tmp_path: Path) -> None:
    """Against equal iterations alone they would be larger, and unjust."""
    known = {"p+g-unet-feedforward": 25, "p+g-unet-feedforward+compute": 34, "p+g-unet-exposure": 33}
    (table,) = paper_tables.table4(make(simsid, tmp_path, ("final",), **known))
    assert cells(table, "x100", "P+G")[3:5] == ["+8.00", "-1.00"]
    assert "gain (equal compute)" in table.header

"""Runs found, missing or trained, measured once, over seeds; what distinguishes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exposurediffusion.datasets.open import open_dataset
from exposurediffusion.evaluation.measure import Protocol
from exposurediffusion.evaluation.methods import Capture, Diffusion, Network
from exposurediffusion.evaluation.results import Results
from exposurediffusion.evaluation.score import score
from exposurediffusion.evaluation.selection import Selection
from exposurediffusion.evaluation.summary import Table, summarise
from exposurediffusion.reproduction import budget as budgets
from exposurediffusion.reproduction import paper_figures, paper_tables
from exposurediffusion.reproduction import runs as runs_module
from exposurediffusion.reproduction.budget import Budget
from exposurediffusion.reproduction.paper_costs import full_size
from exposurediffusion.reproduction.runs import Runs, load_method
from exposurediffusion.reproduction.scorer import Scorer
from exposurediffusion.training import trainer
from exposurediffusion.training.checkpoints import NonFiniteLoss
from exposurediffusion.training.presets import Preset, find_preset
from exposurediffusion.training.recipe import Recipe
from exposurediffusion.weights.file import TrainedDenoiser, load
from tests.simulated import DRAWN, SMALL, STEADY, weights_like
from tests.tiny import PLAIN

RUN = "p+g-unet-exposure"
Make = Callable[..., Runs]


@pytest.fixture
def make(simsid: Path, tmp_path: Path) -> Make:
    """Runs that are measured on x100 alone, with one correction."""

    def make(
        selection: Selection | None = None,
        output: Path = tmp_path / "out",
        report: Callable[[str], None] = lambda _: None,
        **changes: Any,
    ) -> Runs:
        chosen = selection or Selection(simsid, ratios=(100,))
        scorer = Scorer(chosen, output, Protocol(corrections=("final",)), report)
        return Runs(tmp_path / "runs", scorer, Budget(2), **changes)

    return make


def put(folder: Path, name: str, seed: int = 0, **options: Any) -> Path:
    return weights_like(
        folder / "runs" / name / "weights.safetensors", options.pop("sampling", STEADY), seed, **options
    )


def test_a_run_is_measured_with_what_its_weights_were_made_for(make: Make, tmp_path: Path) -> None:
    path = put(tmp_path, RUN)
    runs = make()
    scores = runs.scores(RUN)
    assert set(scores) == {(100, "final")}
    _, results = runs.scorer.open(runs.scorer.selection)
    records = results.of(f"{RUN}, T = 1")
    assert [record.scene for record in records] == ["10001", "10002"]
    assert scores[100, "final"].psnr == pytest.approx(np.mean([record.psnr for record in records]))
    assert runs.missing == []
    method = load_method(path, runs.device)
    assert isinstance(method, Network)
    assert method.sampling == STEADY
    assert len(method.digest) == 12


def test_missing_runs_are_noted_once_and_further_seeds_are_a_bonus(make: Make) -> None:
    runs = make(seeds=3)
    assert runs.scores(RUN) == {}
    assert runs.scores(RUN, True) == {}
    assert runs.model(RUN) is None
    assert runs.missing == [RUN, f"{RUN}+compute"]


def test_choices_of_sampling_are_measured_beside_each_other(make: Make, tmp_path: Path) -> None:
    put(tmp_path, RUN, sampling=DRAWN)
    runs = make()
    found = [
        runs.scores(RUN),
        runs.scores(RUN, steps=0),
        runs.scores(RUN, transition="markov"),
        runs.scores(RUN, clamp=None),
    ]
    assert len({scores[100, "final"].psnr for scores in found}) == 4
    _, results = runs.scorer.open(runs.scorer.selection)
    names = {record.method for record in results.records}
    assert names == {f"{RUN}, T = {end}" for end in ("2", "0", "2, transition markov", "2, clamp None")}


def test_seeds_are_merged_into_mean_and_spread(make: Make, tmp_path: Path) -> None:
    for seed in (0, 1, 2):
        put(tmp_path, RUN + (f"+seed{seed}" if seed else ""), seed)
    alone = [make(output=tmp_path / f"out{n}").scores(RUN)[100, "final"].psnr for n in (0,)]
    runs = make(seeds=3)
    score = runs.scores(RUN)[100, "final"]
    _, results = runs.scorer.open(runs.scorer.selection)
    names = [f"{RUN}{end}, T = 1" for end in ("", "+seed1", "+seed2")]
    means = [np.mean([record.psnr for record in results.of(name)]) for name in names]
    assert means[0] == pytest.approx(alone[0])
    assert score.psnr == pytest.approx(np.mean(means))
    assert score.spread == pytest.approx(np.std(means, ddof=1))
    assert score.images == 2
    assert "seeds 3" in runs.describe()


def test_nothing_is_measured_twice(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, RUN)
    measured: list[str] = []
    original = Network.__call__

    def counted(self: Network, *arguments: Any, **options: Any) -> Any:
        measured.append(self.name)
        return original(self, *arguments, **options)

    monkeypatch.setattr(Network, "__call__", counted)
    first = make()
    scores = first.scores(RUN)
    assert first.scores(RUN) == scores
    assert len(measured) == 2  # captures
    assert make().scores(RUN) == scores  # another process
    assert len(measured) == 2


def test_weights_that_were_trained_anew_are_not_mixed_up(make: Make, tmp_path: Path) -> None:
    put(tmp_path, RUN, 0)
    make().scores(RUN)
    put(tmp_path, RUN, 1)
    with pytest.raises(ValueError, match=r"was measured with other settings.*remove it, or choose another"):
        make().scores(RUN)


def test_dark_shading_is_taken_off_for_pmn_alone(make: Make, simsid: Path, tmp_path: Path) -> None:
    for name in (RUN, "pmn-unet-exposure"):
        put(tmp_path, name)
    runs = make(dark_shading=simsid / "Sony" / "dark")
    first, second = runs.scores(RUN), runs.scores("pmn-unet-exposure")
    assert first[100, "final"].psnr != second[100, "final"].psnr  # the very same weights
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"measured", "measured-dark-shading"}
    assert make(output=tmp_path / "other").scores("pmn-unet-exposure") == first


def test_baselines_need_no_weights(make: Make, simsid: Path) -> None:
    runs, messages = make(), []
    runs.scorer.tick = lambda *progress: messages.append(progress)
    scores = runs.scorer.scores(Capture())
    assert scores[100, "final"].images == 2
    assert messages == [("capture", 1, 2), ("capture", 2, 2)]
    assert simsid.name in runs.describe()
    assert "correction" in runs.describe()
    assert "crop whole" in runs.describe()


def test_diffusion_models(make: Make, tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    path = put(tmp_path, "p+g-diffusion-small+compute", diffusion=True)
    runs = make()
    method = load_method(path, runs.device)
    assert isinstance(method, Diffusion)
    assert method.steps == 2
    assert runs.scores("p+g-diffusion-small", True, steps=1)[100, "final"].psnr > 0
    assert full_size("p+g-diffusion-small", runs.device).config == find_preset("p+g-diffusion-small").recipe.diffusion


# -------------------------------------------------------------------------------------------------- learning rates

RATES = (0.001, 0.003)


def validation(runs: Runs, name: str) -> dict[int, float]:
    """PSNR of a run on the validation split, by ratio, measured apart from the scorer's own."""
    unseen = replace(runs.scorer.selection, split="validation", ratios=())
    (path,) = runs.weights.glob(f"{name}/weights.safetensors")
    results = Results(runs.scorer.output / f"independent-{name}", {})
    score(unseen.open(), [load_method(path, runs.device)], runs.scorer.protocol, results)
    return {ratio: found.psnr for (_, ratio, _), found in summarise(results.records).items()}


@pytest.mark.parametrize("preset", [RUN, "pmn-nafnet2-exposure-x100"])
def test_the_rate_is_chosen_on_validation_at_the_ratios_trained(make: Make, tmp_path: Path, preset: str) -> None:
    for seed, rate in enumerate(RATES):
        put(tmp_path, f"{preset}@{rate}", seed)
    runs = make(rates=RATES)
    score = runs.scores(preset)[100, "final"]
    found = {rate: validation(runs, f"{preset}@{rate}") for rate in RATES}
    assert all(set(scores) == {100, 250, 300} for scores in found.values())
    only = (100,) if preset.endswith("x100") else (100, 250, 300)
    levels = {rate: np.mean([scores[ratio] for ratio in only]) for rate, scores in found.items()}
    trial = runs.trials[preset]
    assert trial.scores == pytest.approx(levels)
    assert trial.rate == max(levels, key=lambda rate: levels[rate])
    _, results = runs.scorer.open(runs.scorer.selection)
    assert {record.method for record in results.records} == {f"{preset}@{trial.rate}, T = 1"}  # no other was tested
    assert score.psnr == pytest.approx(np.mean([record.psnr for record in results.records]))
    assert (tmp_path / "out" / "validation" / "measured" / "images.csv").is_file()


def test_a_rate_is_never_chosen_on_what_is_measured(make: Make, simsid: Path, tmp_path: Path) -> None:
    """As SID's published subset, which has scenes of its validation split."""
    put(tmp_path, f"{RUN}@0.003")
    runs = make(rates=RATES, selection=Selection(simsid, split="all", ratios=(100,)))
    with pytest.raises(ValueError, match=r"all validation scenes are among those that are measured.*leave out --rates"):
        runs.scores(RUN)


def test_scenes_that_are_left_out_do_not_count_even_if_measured_before(make: Make) -> None:
    scorer = make().scorer
    both = scorer.records(Capture(), scorer.selection)
    left, kept = sorted({record.scene for record in both})
    scorer = replace(scorer, without=frozenset({left}))  # with the same scores on disk
    assert {pair.scene for pair in scorer.open(scorer.selection)[0].pairs} == {kept}
    assert {record.scene for record in scorer.records(Capture(), scorer.selection)} == {kept}
    alone = np.mean([record.psnr for record in both if record.scene == kept])
    assert scorer.scores(Capture())[100, "final"].psnr == pytest.approx(alone)


def test_further_seeds_take_the_rate_that_was_chosen(make: Make, tmp_path: Path) -> None:
    for seed, rate in enumerate(RATES):
        put(tmp_path, f"{RUN}@{rate}", seed)
        put(tmp_path, f"{RUN}+seed1@{rate}", seed)
    runs = make(rates=RATES, seeds=2)
    assert runs.scores(RUN)[100, "final"].spread is not None
    _, results = runs.scorer.open(runs.scorer.selection)
    chosen = runs.trials[RUN].rate
    names = {record.method for record in results.records}
    assert names == {f"{RUN}{seed}@{chosen}, T = 1" for seed in ("", "+seed1")}


def test_rates_that_nobody_trained_are_missing(make: Make, tmp_path: Path) -> None:
    runs = make(rates=RATES)
    assert not runs.are_there(RUN)
    assert runs.scores(RUN) == {}
    assert runs.missing == [RUN]
    put(tmp_path, f"{RUN}@0.003")
    put(tmp_path, RUN)  # of the budget's own rate: is no candidate
    runs = make(rates=RATES)
    assert runs.are_there(RUN)
    assert runs.path(RUN) == tmp_path / "runs" / f"{RUN}@0.003" / "weights.safetensors"
    assert runs.missing == [f"{RUN}@0.001"]
    assert np.isnan(runs.trials[RUN].scores[0.001])


# --------------------------------------------------------------------------------------------------------- training


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two iterations of patches of 16x16; the devices that are asked for."""
    original = budgets.Budget.recipe

    def recipe(self: Budget, preset: Preset, *others: Any) -> Recipe:
        whole = original(self, preset, *others)
        return replace(
            whole, batch=2, patch=16, denoiser=replace(whole.denoiser, backbone="unet", options=SMALL.options)
        )

    asked: list[str] = []

    def train(*arguments: Any, execution: Any, **options: Any) -> Path:
        asked.append(execution.device)
        chosen = replace(PLAIN, device=execution.device, validation_patch=execution.validation_patch)
        return original_train(*arguments, execution=chosen, **options)

    original_train = trainer.train
    monkeypatch.setattr(budgets.Budget, "recipe", recipe)
    monkeypatch.setattr(trainer, "train", train)
    return asked


def test_what_is_missing_is_trained_once(make: Make, quick: list[str], tmp_path: Path) -> None:
    messages: list[str] = []
    for _ in range(2):
        runs = make(training=True, report=messages.append)
        assert runs.scores(RUN)[100, "final"].images == 2
        assert runs.scores("paired-unet-feedforward", True)[100, "final"].images == 2
        assert runs.missing == []
    assert quick == ["cpu", "cpu"]
    assert sum("training" in line for line in messages) == 2
    model = load(tmp_path / "runs" / RUN / "weights.safetensors")
    assert isinstance(model, TrainedDenoiser)
    assert model.card.training["preset"] == RUN
    assert model.card.training["iterations"] == 2
    twin = load(tmp_path / "runs" / "paired-unet-feedforward+compute" / "weights.safetensors")
    assert twin.card.training["iterations"] == 6


def test_frames_smaller_than_a_patch_are_trained_on(make: Make, quick: list[str], tmp_path: Path) -> None:
    """Those of the tree have 32x32 packed pixels: fewer than the patches of 128 that are validated on else."""
    messages: list[str] = []
    assert make(training=True, report=messages.append).scores(RUN)[100, "final"].images == 2
    assert any("--validation-patch is 32 instead of 128" in text for text in messages)


def test_each_seed_is_trained(make: Make, quick: list[str], tmp_path: Path) -> None:
    score = make(training=True, seeds=2).scores(RUN)[100, "final"]
    assert score.spread is not None
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {RUN, f"{RUN}+seed1"}
    seeds = [load(p).card.training["recipe"]["seed"] for p in sorted((tmp_path / "runs").rglob("weights.safetensors"))]
    assert seeds == [0, 1]


def test_each_rate_is_trained_and_one_that_diverges_is_left_out(
    make: Make, quick: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, trained, messages = trainer.train, [], []

    def train(recipe: Recipe, *arguments: Any, **options: Any) -> Path:
        trained.append((recipe.optimizer.lr, recipe.seed))
        if recipe.optimizer.lr > 0.5:
            raise NonFiniteLoss("the loss is not finite at iteration 1")
        return kind(recipe, *arguments, **options)

    monkeypatch.setattr(trainer, "train", train)
    runs = make(training=True, seeds=2, rates=(0.001, 1.0), report=messages.append)
    assert runs.scores(RUN)[100, "final"].spread is not None
    assert trained == [(0.001, 0), (1.0, 0), (0.001, 1)]
    assert f"{RUN}@1 is out of the choice of rates: the loss is not finite at iteration 1" in messages
    monkeypatch.setattr(budgets, "_rate", lambda _: 1.0)
    with pytest.raises(ValueError, match="the loss is not finite"):  # without a choice, it is an error
        make(training=True).scores(RUN)


@dataclass
class Untrained(Runs):
    """Notes what it is asked to train, and trains nothing."""

    asked: set[str] = field(default_factory=set)

    def _train(self, preset: str, matched: bool, seed: int, rate: float | None) -> None:
        self.asked.add(budgets.run_name(preset, matched, seed, rate))


@pytest.mark.parametrize(
    "make_artefact",
    [
        *(paper_tables.table2, paper_tables.table4, paper_tables.table5, paper_tables.table6, paper_tables.table7),
        *(paper_figures.figure4, paper_figures.figure5, paper_figures.figure6, paper_figures.figure8),
        paper_figures.ablations,
    ],
    ids=lambda artefact: artefact.__name__,
)
def test_the_runs_that_are_expected_are_those_that_are_trained(
    make_artefact: Callable[..., Any], make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Scorer, "scores", lambda *_: {})  # of baselines
    monkeypatch.setattr(paper_tables, "cost_table", lambda *_: Table("costs", [], []))
    seeds = 1 if make_artefact is paper_figures.figure4 else 3  # it asks for further ones if the first is there
    runs = Untrained(tmp_path / "runs", make().scorer, Budget(2), seeds, training=True)
    arguments = (runs,) if make_artefact.__module__.endswith("tables") else (runs, tmp_path / "figure.png")
    make_artefact(*arguments)
    assert len(runs._expected) == len(runs.asked) > 0


def test_progress_is_of_all_runs(make: Make, quick: list[str], tmp_path: Path) -> None:
    ticks: list[tuple[str, int, int]] = []
    runs = make(training=True)
    runs.scorer.tick = lambda *tick: ticks.append(tick)
    runs.expect([(RUN, False), ("p+g-unet-feedforward", True)])
    assert runs.path(RUN) is not None
    assert runs.path("p+g-unet-feedforward", True) is not None
    training = [tick for tick in ticks if tick[0].startswith("run ")]
    assert training[0] == (f"run 1 of 2, {RUN}", 1, 2 + 6)
    assert training[-1] == ("run 2 of 2, p+g-unet-feedforward+compute", 2 + 6, 2 + 6)
    runs = make(training=True, rates=(0.001, 0.003), seeds=2)
    runs.expect([(RUN, False)])
    assert runs._expected == [2, 2, 2]  # both rates, and one of them with the other seed


def test_training_that_is_stopped_says_how_to_go_on(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: Any, **__: Any) -> Path:
        raise trainer.Interrupted("stopped at iteration 7; run the same command to go on")

    def opened(*_: Any) -> Any:
        runs = make()
        return (open_dataset(runs.scorer.selection.root, want="pairs"),) * 2

    monkeypatch.setattr(trainer, "train", stopped)
    monkeypatch.setattr(runs_module.Source, "open", opened)
    with pytest.raises(ValueError, match=f"training {RUN.replace('+', '.')}: stopped at iteration 7; run the same"):
        make(training=True).scores(RUN)

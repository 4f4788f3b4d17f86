"""Training: a run is its recipe, stopped or not; and what it draws, logs and leaves behind."""

from __future__ import annotations

import json
import math
import pickle
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from torch import Tensor

from exposurediffusion.data.synthesis import CleanPatches
from exposurediffusion.learn.presets import EMBEDDED, NOISE_MODELS, PRESETS, Phase, Recipe
from exposurediffusion.learn.trainer import Interrupted, NonFiniteLoss, Run, draw_ratios, train
from exposurediffusion.learn.weights import load
from exposurediffusion.models.denoiser import DenoiserConfig, ExposureDenoiser
from exposurediffusion.process.sampling import Sampling
from tests.statistics import BOUND, mean_z, quantile_z, variance_z

RECIPE = Recipe(
    phases=(
        Phase(3, steps=0, lr=(1e-2, 1e-2), batch=2, patch=16),
        Phase(3, steps=2, lr=(5e-3, 1e-4), batch=2, patch=8),
    ),
    denoiser=DenoiserConfig("unet", {"width": 4, "depth": 1}, origin=True, noise_map=True),
    sampling=Sampling(steps=2, increment="sampled", clamp=(-4.0, 2.0)),
    noise="eld+bias",
    gain_range=None,
    ratio=(1.5, 300.0),
    ratio_law="mixed",
    uncertainty=0.1,
    balance=0.02,
    ema=0.9,
    warmup=2,
    seed=5,
)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures: a photograph and scene-linear light."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(2)
    Image.fromarray(random.integers(0, 256, (80, 90, 3)).astype(np.uint8)).save(folder / "a.png")
    tifffile.imwrite(folder / "b.tif", random.gamma(1, 0.3, (40, 48, 3)).astype(np.float32), photometric="rgb")
    return folder


def go(recipe: Recipe, images: Path, output: Path, **options: Any) -> Path:
    return train(recipe, images, output, **{"workers": 0, "autocast": False, **options})


@pytest.fixture(scope="module")
def whole(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted run."""
    return go(RECIPE, images, tmp_path_factory.mktemp("runs") / "whole").parent


def parameters(file: Path) -> dict[str, Tensor]:
    return load(file).state_dict()


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def at_iteration(number: int, action: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `action` happen during the step that completes iteration `number`."""
    step = Run.step

    def patched(self: Run, clean: Tensor, autocast: bool) -> float:
        if self.iteration + 1 == number:
            action()
        return step(self, clean, autocast)

    monkeypatch.setattr(Run, "step", patched)


def test_trains_and_writes_weights_that_load(whole: Path) -> None:
    model = load(whole / "weights.safetensors")
    assert model.config == RECIPE.denoiser
    assert model.card.sampling == RECIPE.sampling
    assert model.card.name == "whole"
    assert model.card.training["iterations"] == 6
    assert model.card.training["recipe"] == json.loads(json.dumps(RECIPE.to_dict()))
    torch.manual_seed(RECIPE.seed)
    untrained = ExposureDenoiser(RECIPE.denoiser).state_dict()
    assert not same(model.state_dict(), untrained)
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())
    assert not [p for p in whole.iterdir() if p.name.startswith(".")]


def test_log_has_iteration_loss_and_rate(whole: Path) -> None:
    entries = log(whole)
    assert [entry["iteration"] for entry in entries] == [3, 6]  # the ends of the phases
    for entry in entries:
        assert {"iteration", "loss", "lr"} <= set(entry)
        assert 0 < entry["loss"] < 10
    assert entries[0]["lr"] == pytest.approx(1e-2)
    assert 1e-4 < entries[1]["lr"] < 5e-3


def test_each_phase_leaves_its_weights(whole: Path) -> None:
    middle, end = (load(whole / f"iteration-{number}.safetensors") for number in (3, 6))
    assert (middle.card.training["iterations"], end.card.training["iterations"]) == (3, 6)
    assert not same(middle.state_dict(), end.state_dict())
    assert same(end.state_dict(), parameters(whole / "weights.safetensors"))


@pytest.mark.parametrize("stop", [2, 3, 5])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_and_resumed_is_uninterrupted_to_the_bit(
    stop: int, number: signal.Signals, whole: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        at_iteration(stop, lambda: signal.raise_signal(number), patch)
        with pytest.raises(Interrupted, match=f"stopped at iteration {stop}; run the same command to go on"):
            go(RECIPE, images, tmp_path)
    assert signal.getsignal(number) is before
    assert not (tmp_path / "weights.safetensors").exists()
    assert load(tmp_path / "checkpoint.safetensors").card.training["iterations"] == stop
    torch.manual_seed(99)  # the global source has no say
    resumed = go(RECIPE, images, tmp_path)
    assert same(parameters(resumed), parameters(whole / "weights.safetensors"))
    first, second = (torch.load(folder / "checkpoint.pt", weights_only=True) for folder in (tmp_path, whole))
    assert same(first["model"], second["model"])
    for mine, other in zip(first["optimizer"]["state"].values(), second["optimizer"]["state"].values(), strict=True):
        assert same(mine, other)
    assert [entry["iteration"] for entry in log(tmp_path)] == sorted({stop, 3, 6})
    assert log(tmp_path)[-1]["lr"] == log(whole)[-1]["lr"]


def test_another_seed_is_another_run(whole: Path, images: Path, tmp_path: Path) -> None:
    other = go(replace(RECIPE, seed=6), images, tmp_path)
    assert not same(parameters(other), parameters(whole / "weights.safetensors"))


def test_finished_training_only_writes_its_weights_again(
    whole: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "checkpoint.pt").write_bytes((whole / "checkpoint.pt").read_bytes())
    monkeypatch.setattr(Run, "step", lambda *_: pytest.fail("it trains on"))
    assert same(parameters(go(RECIPE, images, tmp_path)), parameters(whole / "weights.safetensors"))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_and_leaves_the_last_checkpoint(
    value: float, whole: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss = Run._loss

    def broken(self: Run, light: Tensor, phase: Phase, autocast: bool) -> Tensor:
        return loss(self, light, phase, autocast) * (value if self.iteration == 4 else 1.0)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "_loss", broken)
        with pytest.raises(NonFiniteLoss, match=f"the loss became {value} at iteration 4"):
            go(RECIPE, images, tmp_path, checkpoint_minutes=0.0)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["iteration"] == 4
    assert all(tensor.isfinite().all() for tensor in state["model"].values())
    assert load(tmp_path / "checkpoint.safetensors").card.training["iterations"] == 4
    assert same(parameters(go(RECIPE, images, tmp_path)), parameters(whole / "weights.safetensors"))


def test_a_gradient_that_is_no_number_never_reaches_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, clean = easy()
    run = Run(recipe, CPU)
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    loss = Run._loss

    def steep(self: Run, light: Tensor, phase: Phase, autocast: bool) -> Tensor:
        first = next(self.model.parameters())
        return loss(self, light, phase, autocast) + (0 * first).sum().sqrt()  # 0, with an infinite slope

    monkeypatch.setattr(Run, "_loss", steep)
    with pytest.raises(NonFiniteLoss, match="the gradient became nan at iteration 0"):
        run.step(clean, autocast=False)
    assert same(run.model.state_dict(), before)


def test_no_batch_comes_twice(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A phase goes on counting where the one before it, or a stopped run, has ended."""
    indices: list[int] = []
    batch = CleanPatches.batch

    def counted(self: CleanPatches, index: int, count: int) -> Tensor:
        indices.append(index)
        return batch(self, index, count)

    monkeypatch.setattr(CleanPatches, "batch", counted)
    with monkeypatch.context() as patch:
        at_iteration(5, lambda: signal.raise_signal(signal.SIGTERM), patch)
        with pytest.raises(Interrupted):
            go(RECIPE, images, tmp_path)
    go(RECIPE, images, tmp_path)
    assert indices == list(range(6))


def test_checkpoint_of_another_recipe_is_refused(whole: Path, images: Path, tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes((whole / "checkpoint.pt").read_bytes())
    with pytest.raises(ValueError, match=r"checkpoint\.pt is of another recipe"):
        go(replace(RECIPE, seed=6), images, tmp_path)
    assert (tmp_path / "checkpoint.pt").read_bytes() == (whole / "checkpoint.pt").read_bytes()


def test_a_failed_checkpoint_leaves_the_one_before(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(RECIPE, CPU)
    run.save(tmp_path, "checkpoint")
    before = (tmp_path / "checkpoint.pt").read_bytes()

    def fails_half_way(state: object, file: Path) -> None:
        Path(file).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", fails_half_way)
    with pytest.raises(OSError, match="disk full"):
        run.save(tmp_path, "checkpoint")
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


class Bomb:
    """An object that leaves a trace when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.trace,))


@pytest.mark.parametrize("zipped", [True, False])
def test_checkpoints_are_read_by_the_restricted_loader(zipped: bool, images: Path, tmp_path: Path) -> None:
    content = {**Run(RECIPE, CPU).state(), "extra": Bomb(tmp_path / "trace")}
    torch.save(content, tmp_path / "checkpoint.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"checkpoint\.pt: not a checkpoint"):
        go(RECIPE, images, tmp_path)
    assert not (tmp_path / "trace").exists()
    pickle.loads(pickle.dumps(content["extra"]))
    assert (tmp_path / "trace").exists()  # the bomb does go off where it is let


def test_pictures_have_to_do_for_every_phase(images: Path, tmp_path: Path) -> None:
    growing = replace(RECIPE, phases=(Phase(1, steps=0, batch=1, patch=8), Phase(1, steps=0, batch=1, patch=32)))
    with pytest.raises(ValueError, match=r"a\.png: smaller than a training patch of 64 pixels"):
        go(growing, images, tmp_path)
    assert not (tmp_path / "checkpoint.pt").exists()  # told before anything is trained


def test_xtrans_planes(images: Path, tmp_path: Path) -> None:
    recipe = replace(
        RECIPE,
        phases=(Phase(1, steps=1, batch=1, patch=8),),
        denoiser=replace(RECIPE.denoiser, planes=9),
        noise="eld",
        sampling=Sampling(steps=1),
    )
    assert load(go(recipe, images, tmp_path, autocast=True)).config.planes == 9


# ---------------------------------------------------------------------------------------- learning rate and phases


def rates(recipe: Recipe) -> list[float]:
    run = Run(recipe, CPU)
    found = []
    for run.iteration in range(recipe.iterations):
        found.append(run.learning_rate())
    return found


def test_learning_rate_warms_up_and_follows_a_cosine() -> None:
    phases = (Phase(50, lr=(4e-4, 4e-4)), Phase(100, lr=(2e-4, 1e-6)))
    found = rates(replace(RECIPE, phases=phases, warmup=10))
    assert found[:10] == pytest.approx([4e-5 * n for n in range(1, 11)])
    assert found[10:50] == pytest.approx([4e-4] * 40)
    assert found[50] == pytest.approx(2e-4)
    assert found[100] == pytest.approx((2e-4 + 1e-6) / 2)
    assert found[75] == pytest.approx(1e-6 + 1.99e-4 * (1 + math.sqrt(0.5)) / 2)
    assert 1e-6 < found[-1] < 1.1e-6
    assert (np.diff(found[50:]) < 0).all()
    assert rates(replace(RECIPE, phases=phases, warmup=0))[0] == pytest.approx(4e-4)


def test_phases_follow_each_other() -> None:
    first, second = RECIPE.phases
    assert RECIPE.iterations == 6
    run = Run(RECIPE, CPU)
    expected = [(first, 0), (first, 1), (first, 2), (second, 0), (second, 1), (second, 2)]
    for run.iteration, phase in enumerate(expected):
        assert run.phase() == phase
    run.iteration = 6
    with pytest.raises(IndexError, match="finished"):
        run.phase()


def test_phases_unroll_as_many_steps_as_they_say(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int, int]] = []
    forward = ExposureDenoiser.forward

    def counted(self: ExposureDenoiser, state: Tensor, *others: Any) -> Any:
        seen.append((len(state), state.shape[1], state.shape[2]))
        return forward(self, state, *others)

    monkeypatch.setattr(ExposureDenoiser, "forward", counted)
    go(RECIPE, images, tmp_path)
    assert seen == [(2, 4, 16)] * 3 + [(2, 4, 8)] * 9  # T = 0, then T = 2: three evaluations a step


# ----------------------------------------------------------------------------------------------- draws and progress


def test_uniform_ratios(generator: torch.Generator) -> None:
    recipe = replace(RECIPE, ratio=(20.0, 300.0), ratio_law="uniform")
    ratios = draw_ratios(recipe, 40_000, generator).double()
    assert 20 <= ratios.min() < 20.1
    assert 299.9 < ratios.max() <= 300
    assert abs(mean_z(ratios, 160)) < BOUND
    assert abs(variance_z(ratios, 280**2 / 12)) < BOUND


def test_mixed_ratios_are_one_quarter_log_uniform(generator: torch.Generator) -> None:
    ratios = draw_ratios(RECIPE, 40_000, generator).double()
    uniform = draw_ratios(replace(RECIPE, ratio_law="uniform"), 40_000, generator).double()
    assert 1.5 <= ratios.min() < 1.51
    assert ratios.max() <= 300
    for value in (3.0, 20.0, 60.0, 160.0, 250.0):
        share = 0.25 * math.log(value / 1.5) / math.log(200) + 0.75 * max(0.0, (value - 20) / 280)
        assert abs(quantile_z(ratios, value, share)) < BOUND
        if value < 100:
            assert abs(quantile_z(uniform, value, share)) > 2 * BOUND  # twin: the other law


def easy() -> tuple[Recipe, Tensor]:
    recipe = Recipe(
        (Phase(60, steps=0, lr=(5e-3, 5e-3), batch=2, patch=16),),
        RECIPE.denoiser,
        noise="p+g",
        gain_range=(0.5, 0.6),
        ratio=(20.0, 25.0),
        warmup=1,
        ema=0.5,
    )
    return recipe, torch.rand((2, 4, 16, 16), generator=torch.Generator().manual_seed(1)) * 0.2 + 0.5


@pytest.mark.parametrize("steps", [0, 2])
@pytest.mark.parametrize("pixel", ["l1", "kl"])
def test_loss_falls_on_an_easy_problem(steps: int, pixel: str) -> None:
    recipe, clean = easy()
    recipe = replace(recipe, phases=(replace(recipe.phases[0], steps=steps),), pixel=pixel)  # type: ignore[arg-type]
    run = Run(recipe, CPU)
    losses = [run.step(clean, autocast=False) for _ in range(60)]
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_weights_are_the_exponential_average(ema: float, tmp_path: Path) -> None:
    recipe, clean = easy()
    run = Run(replace(recipe, ema=ema), CPU)
    average = {name: p.detach().clone() for name, p in run.model.named_parameters()}
    for count in range(1, 8):
        run.step(clean, autocast=False)
        decay = min(ema, (1 + count) / (10 + count))
        for name, p in run.model.named_parameters():
            average[name] = decay * average[name] + (1 - decay) * p.detach()
    run.save(tmp_path, "a")
    saved = parameters(tmp_path / "a.safetensors")
    for name, tensor in average.items():
        torch.testing.assert_close(saved[name], tensor)
    assert same(saved, run.model.state_dict()) == (ema == 0)


def test_gradient_is_clipped_and_the_step_is_small() -> None:
    recipe, clean = easy()
    run = Run(replace(recipe, clip_norm=1e-3), CPU)
    run.step(clean, autocast=False)
    norm = torch.stack([p.grad.norm() for p in run.model.parameters() if p.grad is not None]).norm()
    assert float(norm) == pytest.approx(1e-3, rel=1e-3)


def test_uncertainty_changes_what_the_network_is_told_and_not_the_capture(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, clean = easy()
    told: list[tuple[Tensor, Tensor, Tensor]] = []
    forward = ExposureDenoiser.forward

    def listening(self: ExposureDenoiser, state: Tensor, exposure: Tensor, conditions: Any) -> Any:
        told.append((state, conditions.gain, conditions.read_variance))
        return forward(self, state, exposure, conditions)

    monkeypatch.setattr(ExposureDenoiser, "forward", listening)
    for uncertainty in (0.0, 0.0, 0.3):
        Run(replace(recipe, uncertainty=uncertainty), CPU).step(clean, autocast=False)
    sure, again, unsure = told
    assert all(torch.equal(a, b) for a, b in zip(sure, again, strict=True))
    assert torch.equal(sure[0], unsure[0])
    for index in (1, 2):
        factor = unsure[index] / sure[index]
        assert ((factor - 1).abs() > 1e-3).all()
        assert (factor.log().abs() < 5 * 0.3 * index).all()


# ---------------------------------------------------------------------------------------------------------- presets


@pytest.mark.parametrize("name", PRESETS)
def test_presets_construct_their_network_and_noise(name: str, generator: torch.Generator) -> None:
    recipe = PRESETS[name]
    model = ExposureDenoiser(recipe.denoiser)
    assert all(phase.patch % model.multiple == 0 for phase in recipe.phases)
    noise = NOISE_MODELS[recipe.noise](recipe.gain_range).parameters(2, generator)
    assert noise.gain.shape == (2,)
    assert json.loads(json.dumps(recipe.to_dict()))["seed"] == recipe.seed
    assert recipe.ratio[0] >= 1
    assert recipe.iterations > recipe.warmup


def test_embedded_weights_are_at_most_sixteen_megabytes() -> None:
    model = ExposureDenoiser(EMBEDDED.denoiser)
    assert 4 * sum(p.numel() for p in model.parameters()) <= 16_000_000
    assert PRESETS["embedded"] is EMBEDDED

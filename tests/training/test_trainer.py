"""Training: a run is its recipe, stopped or not, on one process or two; and what it leaves behind when it fails."""

from __future__ import annotations

import json
import math
import os
import pickle
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from exposurediffusion.models.denoiser import DenoiserConfig
from exposurediffusion.pictures.views import CleanViews
from exposurediffusion.process.sampling import Sampling
from exposurediffusion.training import trainer
from exposurediffusion.training.batches import Batch, Patches, batches
from exposurediffusion.training.captures import CaptureMaker, Captures
from exposurediffusion.training.checkpoints import NonFiniteLoss
from exposurediffusion.training.loss import UnrolledLoss
from exposurediffusion.training.presets import PRESETS
from exposurediffusion.training.recipe import CaptureRecipe, ObjectiveRecipe, OptimizerRecipe, Prelude, Recipe
from exposurediffusion.training.run import Reading, Run
from exposurediffusion.training.source import Source
from exposurediffusion.training.trainer import Interrupted, train
from exposurediffusion.weights.file import load
from tests.tiny import PLAIN, Light, clean_views

RECIPE = Recipe(
    iterations=6,
    batch=2,
    patch=16,
    seed=5,
    capture=CaptureRecipe(noise="eld+bias", gain_range=None, ratio=(1.5, 300.0), ratio_law="mixed", uncertainty=0.1),
    objective=ObjectiveRecipe(steps=2, balance=0.02, learned_weights=True),
    optimizer=OptimizerRecipe(lr=5e-3, law="cosine", final=1e-4, warmup=2, ema=0.9, clip_norm=1.0),
    prelude=Prelude(0.5, 1e-2),
    denoiser=DenoiserConfig("unet", {"width": 4, "depth": 1}, origin=True, noise_map=True),
    sampling=Sampling(steps=2, increment="sampled", clamp=(-4.0, 2.0)),
)
DATA: dict[str, CleanViews | Light] = {"views": clean_views(), "patches": Light()}


@pytest.fixture
def images() -> CleanViews:
    return clean_views()


def go(recipe: Recipe, images: Patches | CleanViews, output: Path, **options: Any) -> Path:
    execution = replace(PLAIN, **{k: options.pop(k) for k in list(options) if hasattr(PLAIN, k)})
    return train(recipe, images, output, execution=execution, **options)


@pytest.fixture(scope="module", params=DATA)
def kind(request: pytest.FixtureRequest) -> str:
    """Of data."""
    return request.param


@pytest.fixture(scope="module")
def whole(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted run."""
    return go(RECIPE, DATA[kind], tmp_path_factory.mktemp("runs") / "whole", validation=DATA[kind]).parent


def parameters(file: Path) -> dict[str, Tensor]:
    return load(file).state_dict()


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def at_iteration(number: int, action: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `action` happen before the reading after iteration `number`, and let that reading know of it."""
    read = Run.read

    def patched(self: Run, stop: bool = False) -> Reading:
        stopping = self.iteration == number
        if stopping:
            action()
        return read(self, stop or stopping)

    monkeypatch.setattr(Run, "read", patched)


def test_trains_validates_and_writes_weights_that_load(whole: Path) -> None:
    model = load(whole / "weights.safetensors")
    assert model.config == RECIPE.denoiser
    assert model.card.sampling == RECIPE.sampling
    assert model.card.name == "whole"
    assert model.card.training["iterations"] == 6
    assert model.card.training["recipe"] == json.loads(json.dumps(asdict(RECIPE)))
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())
    assert not [p for p in whole.iterdir() if p.name.startswith(".")]
    training, validation = log(whole)
    assert (training["kind"], training["iteration"], validation["kind"]) == ("training", 6, "validation")
    assert 0 < training["loss"] < 10
    assert {f"{kind}_x{ratio}" for kind in ("psnr", "ssim", "psnr_none") for ratio in (100, 250, 300)} <= set(
        validation
    )
    assert Image.open(whole / "validation" / "0000006-x100.png").size == (3 * 16, 3 * 16)


@pytest.mark.parametrize("stop", [2, 3, 5])
def test_stopped_and_resumed_is_uninterrupted_to_the_bit(
    stop: int, kind: str, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, workers = DATA[kind], int(kind == "patches" and stop == 3)
    number = signal.SIGTERM if stop == 2 else signal.SIGINT
    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        at_iteration(stop, lambda: signal.raise_signal(number), patch)
        with pytest.raises(Interrupted, match=f"stopped at iteration {stop}; run the same command to go on"):
            go(RECIPE, images, tmp_path, workers=workers)
    assert signal.getsignal(number) is before
    assert not (tmp_path / "weights.safetensors").exists()
    assert load(tmp_path / "checkpoint.safetensors").card.training["iterations"] == stop
    torch.manual_seed(99)  # the global source has no say
    resumed = go(RECIPE, images, tmp_path, workers=workers)
    assert same(parameters(resumed), parameters(whole / "weights.safetensors"))
    first, second = (torch.load(folder / "checkpoint.pt", weights_only=True) for folder in (tmp_path, whole))
    assert same(first["model"], second["model"])
    for mine, other in zip(first["optimizer"]["state"].values(), second["optimizer"]["state"].values(), strict=True):
        assert same(mine, other)
    assert [entry["iteration"] for entry in log(tmp_path)] == [stop, 6]


def test_a_signal_alone_stops_a_run(images: CleanViews, tmp_path: Path) -> None:
    def tick(run: Run, loss: float) -> None:
        if run.iteration == 2:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted, match="stopped at iteration 3"):
        go(RECIPE, images, tmp_path, tick=tick)


def test_another_seed_is_another_run(kind: str, whole: Path, tmp_path: Path) -> None:
    other = go(replace(RECIPE, seed=6), DATA[kind], tmp_path)
    assert not same(parameters(other), parameters(whole / "weights.safetensors"))


def test_a_resumed_log_forgets_what_came_after_its_checkpoint(
    images: CleanViews, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        at_iteration(4, lambda: None, patch)
        with pytest.raises(Interrupted):
            go(RECIPE, images, tmp_path)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write(json.dumps({"kind": "training", "iteration": 5, "loss": 1.0}) + "\n" + '{"kind": "trai')  # torn
    go(RECIPE, images, tmp_path)
    assert [entry["iteration"] for entry in log(tmp_path)] == [4, 6]


def broken_at(number: int, value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = UnrolledLoss.forward
    count = 0

    def patched(self: UnrolledLoss, *arguments: Any) -> Tensor:
        nonlocal count
        count += 1
        return forward(self, *arguments) * (value if count == number + 1 else 1.0)

    monkeypatch.setattr(UnrolledLoss, "forward", patched)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_and_keeps_checkpoint_and_batch(
    value: float, images: CleanViews, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        broken_at(4, value, patch)
        with pytest.raises(
            NonFiniteLoss,
            match=r"loss or gradient was no number at iteration 4; the batch is kept in .*lower --optimizer\.lr",
        ):
            go(RECIPE, images, tmp_path, checkpoint_minutes=0.0)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["iteration"] == 5  # it is left out when the run goes on
    assert same(state["model"], after(4, images).loss.state_dict())
    kept = load_file(tmp_path / "nonfinite-0.safetensors")
    batch = next(batches(images, 16, 2, 4, 1, seed=5))
    assert torch.equal(kept["clean"], batch.clean)
    assert torch.equal(kept["capture"], CaptureMaker(RECIPE.capture, 5)(batch, 4).capture)
    assert go(RECIPE, images, tmp_path).exists()
    assert all(tensor.isfinite().all() for tensor in parameters(tmp_path / "weights.safetensors").values())


@pytest.mark.parametrize("first", [0, 4])
def test_a_run_that_has_diverged_leaves_its_last_good_checkpoint(
    first: int, images: CleanViews, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = UnrolledLoss.forward
    run_at: list[int] = []

    def diverged(self: UnrolledLoss, *arguments: Any) -> Tensor:
        run_at.append(0)
        return forward(self, *arguments) * (math.nan if len(run_at) > first else 1.0)

    monkeypatch.setattr(UnrolledLoss, "forward", diverged)
    there = r"checkpoint\.pt, of an earlier iteration, stays" if first else "there is no checkpoint"
    with pytest.raises(NonFiniteLoss, match=rf"have diverged; .*{there}; begin anew .* lower --optimizer\.lr"):
        go(RECIPE, images, tmp_path, checkpoint_minutes=0.0)
    checkpoint = tmp_path / "checkpoint.pt"
    if not first:
        assert not checkpoint.exists()
        return
    before = checkpoint.read_bytes()
    assert torch.load(checkpoint, weights_only=True)["iteration"] == first
    with pytest.raises(NonFiniteLoss, match="have diverged"):
        go(RECIPE, images, tmp_path, checkpoint_minutes=0.0)
    assert checkpoint.read_bytes() == before


def after(iterations: int, images: CleanViews, run: Run | None = None) -> Run:
    run = run or Run(RECIPE, PLAIN)
    for batch in run.batches(images, 0):
        if run.iteration == iterations:
            break
        run.step(batch)
    return run


def a_batch(images: CleanViews) -> Batch:
    return next(batches(images, 16, 2, 0, 1))


def test_checkpoint_of_another_recipe_is_refused(kind: str, whole: Path, tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes((whole / "checkpoint.pt").read_bytes())
    with pytest.raises(ValueError, match=r"checkpoint\.pt is of another recipe \(seed 5 there, 6 here\)"):
        go(replace(RECIPE, seed=6), DATA[kind], tmp_path)
    assert (tmp_path / "checkpoint.pt").read_bytes() == (whole / "checkpoint.pt").read_bytes()


def test_a_failed_checkpoint_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, path = Run(RECIPE, PLAIN), tmp_path / "checkpoint.pt"
    run.save(path)
    before = path.read_bytes()
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        run.save(path)
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-before.pt", "checkpoint.pt"]


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path: Path) -> None:
    run, path = Run(RECIPE, PLAIN), tmp_path / "checkpoint.pt"
    run.save(path)
    run.iteration = 1
    run.save(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    said: list[str] = []
    again = Run(RECIPE, PLAIN)
    trainer._begin(again, path, None, said.append)
    assert again.iteration == 0
    assert "damaged; the one before it is taken" in said[0]
    assert "going on from" in said[1]
    assert "checkpoint-before.pt" in said[1]
    (tmp_path / "checkpoint-before.pt").unlink()
    with pytest.raises(ValueError, match="its checksum is wrong"):
        trainer._begin(again, path, None, said.append)


def test_a_full_disk_is_told_of_and_tried_again(
    images: CleanViews, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, said, tries = Run.save, [], []

    def full_now_and_then(run: Run, path: Path) -> None:
        tries.append(run.iteration)
        if run.iteration in (1, 3):
            raise OSError(28, f"cannot write {path}: No space left on device")
        save(run, path)

    monkeypatch.setattr(Run, "save", full_now_and_then)
    go(RECIPE, images, tmp_path, checkpoint_minutes=0.0, report=said.append)
    assert tries == [1, 2, 3, 4, 5, 6]
    first, second = (text for text in said if "No space left" in text)
    assert "there is none yet, going on" in first
    assert "the last one is whole, going on" in second


def test_where_the_last_checkpoint_has_no_room_there_are_weights(
    images: CleanViews, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Run, "save", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        go(RECIPE, images, tmp_path)
    assert same(parameters(tmp_path / "weights.safetensors"), after(6, images).average.values)


class Bomb:
    """An object that leaves a trace when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.trace,))


@pytest.mark.parametrize("zipped", [True, False])
def test_checkpoints_are_read_by_the_restricted_loader(zipped: bool, images: CleanViews, tmp_path: Path) -> None:
    content = {**Run(RECIPE, PLAIN).state(), "extra": Bomb(tmp_path / "trace")}
    torch.save(content, tmp_path / "checkpoint.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"checkpoint\.pt: not a checkpoint"):
        go(RECIPE, images, tmp_path)
    assert not (tmp_path / "trace").exists()
    pickle.loads(pickle.dumps(content["extra"]))
    assert (tmp_path / "trace").exists()  # the bomb does go off where it is let


def test_data_of_other_planes_is_refused(images: CleanViews, tmp_path: Path) -> None:
    recipe = replace(RECIPE, denoiser=replace(RECIPE.denoiser, planes=9))
    with pytest.raises(ValueError, match=r"--denoiser\.planes 4"):
        go(recipe, images, tmp_path)


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_weights_are_the_exponential_average(ema: float, images: CleanViews, tmp_path: Path) -> None:
    run = Run(replace(RECIPE, optimizer=replace(RECIPE.optimizer, ema=ema)), PLAIN)
    average = {name: p.detach().clone() for name, p in run.loss.denoiser.named_parameters()}
    for count in range(1, 6):
        run.step(a_batch(images))
        decay = min(ema, (1 + count) / (10 + count))
        for name, p in run.loss.denoiser.named_parameters():
            average[name] = decay * average[name] + (1 - decay) * p.detach()
    run.export(tmp_path / "a.safetensors")
    saved = parameters(tmp_path / "a.safetensors")
    for name, tensor in average.items():
        torch.testing.assert_close(saved[name], tensor)
    assert same(saved, run.loss.denoiser.state_dict()) == (ema == 0)


def test_gradient_is_clipped(images: CleanViews) -> None:
    run = Run(replace(RECIPE, optimizer=replace(RECIPE.optimizer, clip_norm=1e-3)), PLAIN)
    run.step(a_batch(images))
    norm = torch.stack([p.grad.norm() for p in run.loss.parameters() if p.grad is not None]).norm()
    assert float(norm) == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("steps", [0, 2])
def test_loss_falls_on_an_easy_problem(steps: int) -> None:
    capture = CaptureRecipe(noise="p+g", gain_range=(0.5, 0.6), ratio=(20.0, 25.0))
    objective = ObjectiveRecipe(steps)
    easy = Recipe(60, 2, 16, 0, capture, objective, OptimizerRecipe(5e-3, "constant"), denoiser=RECIPE.denoiser)
    run = Run(easy, PLAIN)
    clean = torch.rand((2, 4, 16, 16), generator=torch.Generator().manual_seed(1)) * 0.2 + 0.5
    losses = []
    for n in range(60):
        run.step(Batch((2 * n, 2 * n + 1), clean))
        losses.append(run.read().loss)
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])


# ------------------------------------------------------------------------------------------------- two processes

PRESET = PRESETS["eld-nafnet1-exposure"].recipe
SHORT = replace(
    PRESET,
    iterations=20,
    batch=2,
    patch=16,
    optimizer=replace(PRESET.optimizer, lr=1e-3),
    denoiser=replace(PRESET.denoiser, options={**PRESET.denoiser.options, "width": 4}),
)
WORDS = ["train", "--preset", "eld-nafnet1-exposure", "--iterations", "20", "--batch", "2", "--patch", "16"]
WORDS += ["--optimizer.lr", "1e-3", "--precision", "fp32", "--device", "cpu", "--workers", "0", "--no-tensorboard"]
WORDS += ["--validation-patch", "16", "--checkpoint-minutes", "0", "--denoiser.options.width", "4"]

# Twice two processes, begun as `python -m torch.distributed.run` begins them, but forked: they share their imports.
TWICE = """
import os, signal, sys
import accelerate, torch, torch._dynamo, exposurediffusion.datasets.open  # else each of the four imports them
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from exposurediffusion.cli.main import main
from exposurediffusion.training.run import Run

step = Run.step

def dying(self, *arguments):
    if self.iteration == 12 and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, *arguments)

def run(step):
    Run.step = step
    sys.exit(main(sys.argv[1:]))

config = LaunchConfig(1, 1, 2, rdzv_backend="c10d", rdzv_endpoint="localhost:0", start_method="fork", max_restarts=0)
try:
    elastic_launch(config, run)(dying)
except ChildFailedError:
    print("KILLED", *os.listdir(sys.argv[-1]), file=sys.stderr, flush=True)
    print(torch.load(f"{sys.argv[-1]}/checkpoint.pt", weights_only=True)["iteration"])
elastic_launch(config, run)(step)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two photographs."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(2)
    for name in ("a", "b"):
        Image.fromarray(random.integers(0, 256, (80, 90, 3)).astype(np.uint8)).save(folder / f"{name}.png")
    return folder


def here(folder: Path, ranks: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> Run:
    """The run on this process alone: the gradients of the batches of all ranks, added, and divided by their number."""
    patches = Source(folder).open(SHORT)[0]
    run = Run(SHORT, PLAIN)

    def mean(_: Captures) -> Tensor:
        run.optimizer.zero_grad()
        losses = []
        for rank in ranks:
            share = batches(patches, 16, 2, run.iteration, 1, seed=SHORT.seed, rank=rank, processes=2)
            captures = run.capture(next(share), run.iteration, rank)
            loss = run.loss(captures, SHORT.objective.steps) / len(ranks)
            loss.backward()
            losses.append(loss.detach())
        return torch.stack(losses).sum()

    monkeypatch.setattr(run, "_gradients", mean)
    for batch in run.batches(patches, 0):
        run.step(batch)
    return run


def distance(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def test_two_processes_train_as_one_even_if_one_of_them_is_killed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second of two processes ends itself in mid-run; the last checkpoint goes on, as one with twice the batch."""
    words = [sys.executable, "-c", TWICE, *WORDS, "--data", str(folder), "-o", str(tmp_path / "run")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    killed, left, resumed = re.split(r"^KILLED (.*)$", done.stderr, flags=re.MULTILINE)
    assert "another process of this run has ended" in killed
    assert 0 < int(done.stdout.split()[0]) <= 12
    assert "checkpoint.pt" in left.split()
    assert "weights.safetensors" not in left.split()
    for said in ("20 iterations; Ctrl-C keeps", "going on from"):  # by one of them
        assert resumed.count(said) == 1
    two = load_file(tmp_path / "run" / "weights.safetensors")
    assert distance(here(folder, (0, 1), monkeypatch).average.values, two) < 1e-5
    assert distance(here(folder, (0,), monkeypatch).average.values, two) > 1e-3  # twin: half the images

"""Training: a run is its recipe, stopped or not, on one process or two; and what it leaves behind when it fails."""

from __future__ import annotations

import json
import math
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from exposurediffusion.apps.cli import main
from exposurediffusion.data.datasets import ImageDataset
from exposurediffusion.learn.batches import Batch
from exposurediffusion.learn.execution import Execution
from exposurediffusion.learn.loss import UnrolledLoss
from exposurediffusion.learn.recipe import CaptureRecipe, ObjectiveRecipe, OptimizerRecipe, Prelude, Recipe
from exposurediffusion.learn.run import NonFiniteLoss, Run
from exposurediffusion.learn.trainer import Interrupted, train
from exposurediffusion.learn.weights import load
from exposurediffusion.models.denoiser import DenoiserConfig
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.process.sampling import Sampling

RECIPE = Recipe(
    iterations=6,
    batch=2,
    patch=16,
    seed=5,
    capture=CaptureRecipe(noise="eld+bias", gain_range=None, ratio=(1.5, 300.0), ratio_law="mixed", uncertainty=0.1),
    objective=ObjectiveRecipe(steps=2, balance=0.02, learned_weights=True),
    optimizer=OptimizerRecipe(lr=5e-3, law="cosine", final=1e-4, warmup=2, ema=0.9, clip_norm=1.0),
    prelude=Prelude(3, 1e-2),
    denoiser=DenoiserConfig("unet", {"width": 4, "depth": 1}, origin=True, noise_map=True),
    sampling=Sampling(steps=2, increment="sampled", clamp=(-4.0, 2.0)),
)
EXECUTION = Execution(
    device="cpu", precision="fp32", workers=0, validate_every=0, validation_patch=16, tensorboard=False
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two photographs."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(2)
    for name in ("a", "b"):
        Image.fromarray(random.integers(0, 256, (80, 90, 3)).astype(np.uint8)).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def images(folder: Path) -> ImageDataset:
    return ImageDataset.from_folder(folder, CFA("RGGB"), seed=5)


def go(recipe: Recipe, images: ImageDataset, output: Path, **options: Any) -> Path:
    execution = replace(EXECUTION, **{k: options.pop(k) for k in list(options) if hasattr(EXECUTION, k)})
    return train(recipe, images, output, execution=execution, **options)


@pytest.fixture(scope="module")
def whole(images: ImageDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted run."""
    return go(RECIPE, images, tmp_path_factory.mktemp("runs") / "whole", validation=images).parent


def parameters(file: Path) -> dict[str, Tensor]:
    return load(file).state_dict()


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def at_iteration(number: int, action: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `action` happen before the step that completes iteration `number`, and let that step know of it."""
    step = Run.step

    def patched(self: Run, batch: Batch, stop: bool = False) -> tuple[float, bool]:
        stopping = self.iteration + 1 == number
        if stopping:
            action()
        return step(self, batch, stop or stopping)

    monkeypatch.setattr(Run, "step", patched)


def test_trains_validates_and_writes_weights_that_load(whole: Path) -> None:
    model = load(whole / "weights.safetensors")
    assert model.config == RECIPE.denoiser
    assert model.card.sampling == RECIPE.sampling
    assert model.card.name == "whole"
    assert model.card.training["iterations"] == 6
    assert model.card.training["recipe"] == json.loads(json.dumps(RECIPE.to_dict()))
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
@pytest.mark.parametrize("workers", [0, 1])
def test_stopped_and_resumed_is_uninterrupted_to_the_bit(
    stop: int, workers: int, whole: Path, images: ImageDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_a_signal_alone_stops_a_run(images: ImageDataset, tmp_path: Path) -> None:
    def tick(iteration: int, loss: float) -> None:
        if iteration == 2:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted, match="stopped at iteration 3"):
        go(RECIPE, images, tmp_path, tick=tick)


def test_another_seed_is_another_run(whole: Path, images: ImageDataset, tmp_path: Path) -> None:
    assert not same(
        parameters(go(replace(RECIPE, seed=6), images, tmp_path)), parameters(whole / "weights.safetensors")
    )


def test_a_resumed_log_forgets_what_came_after_its_checkpoint(
    whole: Path, images: ImageDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    value: float, whole: Path, images: ImageDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        broken_at(4, value, patch)
        with pytest.raises(NonFiniteLoss, match=f"the loss became {value} at iteration 4; the batch is kept in"):
            go(RECIPE, images, tmp_path, checkpoint_minutes=0.0)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["iteration"] == 4
    assert all(tensor.isfinite().all() for tensor in state["model"].values())
    kept = load_file(tmp_path / "nonfinite-0.safetensors")
    assert {"clean", "capture", "target"} <= set(kept)
    torch.testing.assert_close(kept["clean"][0], images.patch(8, 16).clean)
    assert same(parameters(go(RECIPE, images, tmp_path)), parameters(whole / "weights.safetensors"))


def a_batch(images: ImageDataset) -> Batch:
    return Batch((0, 1), torch.stack([images.patch(number, 16).clean for number in (0, 1)]))


def test_a_gradient_that_is_no_number_never_reaches_the_weights(
    images: ImageDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(RECIPE, EXECUTION)
    before = {name: tensor.clone() for name, tensor in run.loss.state_dict().items()}
    forward = UnrolledLoss.forward

    def steep(self: UnrolledLoss, *arguments: Any) -> Tensor:
        first = next(self.parameters())
        return forward(self, *arguments) + (0 * first).sum().sqrt()  # 0, with an infinite slope

    monkeypatch.setattr(UnrolledLoss, "forward", steep)
    run._distributed = run.loss
    with pytest.raises(NonFiniteLoss, match="the gradient became nan at iteration 0"):
        run.step(a_batch(images))
    assert same(run.loss.state_dict(), before)


def test_checkpoint_of_another_recipe_is_refused(whole: Path, images: ImageDataset, tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes((whole / "checkpoint.pt").read_bytes())
    with pytest.raises(ValueError, match=r"checkpoint\.pt is of another recipe \(seed 5 there, 6 here\)"):
        go(replace(RECIPE, seed=6), images, tmp_path)
    assert (tmp_path / "checkpoint.pt").read_bytes() == (whole / "checkpoint.pt").read_bytes()


def test_a_failed_checkpoint_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, path = Run(RECIPE, EXECUTION), tmp_path / "checkpoint.pt"
    run.save(path)
    before = path.read_bytes()
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        run.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]


class Bomb:
    """An object that leaves a trace when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.trace,))


@pytest.mark.parametrize("zipped", [True, False])
def test_checkpoints_are_read_by_the_restricted_loader(zipped: bool, images: ImageDataset, tmp_path: Path) -> None:
    content = {**Run(RECIPE, EXECUTION).state(), "extra": Bomb(tmp_path / "trace")}
    torch.save(content, tmp_path / "checkpoint.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"checkpoint\.pt: not a checkpoint"):
        go(RECIPE, images, tmp_path)
    assert not (tmp_path / "trace").exists()
    pickle.loads(pickle.dumps(content["extra"]))
    assert (tmp_path / "trace").exists()  # the bomb does go off where it is let


def test_data_of_other_planes_is_refused(images: ImageDataset, tmp_path: Path) -> None:
    recipe = replace(RECIPE, denoiser=replace(RECIPE.denoiser, planes=9))
    with pytest.raises(ValueError, match=r"--denoiser\.planes 4"):
        go(recipe, images, tmp_path)


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_weights_are_the_exponential_average(ema: float, images: ImageDataset, tmp_path: Path) -> None:
    run = Run(replace(RECIPE, optimizer=replace(RECIPE.optimizer, ema=ema)), EXECUTION)
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


def test_gradient_is_clipped(images: ImageDataset) -> None:
    run = Run(replace(RECIPE, optimizer=replace(RECIPE.optimizer, clip_norm=1e-3)), EXECUTION)
    run.step(a_batch(images))
    norm = torch.stack([p.grad.norm() for p in run.loss.parameters() if p.grad is not None]).norm()
    assert float(norm) == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("steps", [0, 2])
@pytest.mark.parametrize("pixel", ["l1", "kl"])
def test_loss_falls_on_an_easy_problem(steps: int, pixel: str) -> None:
    capture = CaptureRecipe(noise="p+g", gain_range=(0.5, 0.6), ratio=(20.0, 25.0))
    objective = ObjectiveRecipe(steps, pixel)  # pyright: ignore[reportArgumentType]
    easy = Recipe(60, 2, 16, 0, capture, objective, OptimizerRecipe(5e-3, "constant"), denoiser=RECIPE.denoiser)
    run = Run(easy, EXECUTION)
    clean = torch.rand((2, 4, 16, 16), generator=torch.Generator().manual_seed(1)) * 0.2 + 0.5
    losses = [run.step(Batch((2 * n, 2 * n + 1), clean))[0] for n in range(60)]
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])


# ------------------------------------------------------------------------------------------------- two processes

COMMON = ["--preset", "eld-nafnet1-exposure", "--patch", "16", "--optimizer.lr", "1e-3", "--precision", "fp32"]
COMMON += ["--device", "cpu", "--workers", "0", "--no-tensorboard", "--validation-patch", "16"]


def command(folder: Path, output: Path, processes: int, *options: str) -> list[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch = ["-m", "torch.distributed.run", "--nproc_per_node", str(processes), "--master_port", str(port)]
    words = [sys.executable, *(launch if processes > 1 else []), "-m", "exposurediffusion", "train", *COMMON]
    return [*words, "--data", str(folder), "-o", str(output), *options]


def launch(words: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=240)


def on_one(folder: Path, output: Path, batch: int) -> dict[str, Tensor]:
    """Weights of twenty iterations on this process."""
    words = command(folder, output, 1, "--batch", str(batch), "--iterations", "20")
    assert main(words[words.index("train") :]) == 0
    return load_file(output / "weights.safetensors")


def distance(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def test_two_processes_train_as_one_even_if_one_of_them_is_killed(folder: Path, tmp_path: Path) -> None:
    """The second of two processes ends itself in mid-run; the last checkpoint goes on, as one with twice the batch."""
    script = tmp_path / "suicide.py"
    script.write_text(
        "import os, signal, sys\n"
        "from exposurediffusion.apps.cli import main\n"
        "from exposurediffusion.learn.run import Run\n"
        "step = Run.step\n"
        "def patched(self, *arguments):\n"
        "    if self.iteration == 12 and os.environ['RANK'] == '1':\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return step(self, *arguments)\n"
        "Run.step = patched\n"
        "sys.exit(main())\n"
    )
    words = command(folder, tmp_path / "run", 2, "--batch", "2", "--iterations", "20", "--checkpoint-minutes", "0")
    place = words.index("-m", words.index("--master_port"))
    killed = launch([*words[:place], str(script), *words[place + 2 :]])
    assert killed.returncode != 0
    assert "another process of this run has ended" in killed.stderr
    assert 0 < torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["iteration"] <= 12
    assert not (tmp_path / "run" / "weights.safetensors").exists()
    resumed = launch(command(folder, tmp_path / "run", 2, "--batch", "2", "--iterations", "20"))
    assert resumed.returncode == 0, resumed.stderr
    two = load_file(tmp_path / "run" / "weights.safetensors")
    one = on_one(folder, tmp_path / "one", 4)
    assert distance(one, two) < 1e-5
    assert distance(one, on_one(folder, tmp_path / "twin", 2)) > 1e-3  # half the images

"""The state of a run: its checkpoint, what a resumed run refuses, weights to begin from, and lost peers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from exposurediffusion.baselines.ddim import DiffusionConfig
from exposurediffusion.learn.execution import Execution
from exposurediffusion.learn.recipe import CaptureRecipe, ObjectiveRecipe, OptimizerRecipe, Recipe
from exposurediffusion.learn.run import Run, WorkerLost
from exposurediffusion.learn.weights import load, load_diffusion
from tests.learn.conftest import PLAIN, TINY, Light

DIFFUSION = DiffusionConfig(channels=(8, 8), layers=1, groups=4, timesteps=50, steps=2)


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def trained(recipe: Recipe, steps: int, run: Run | None = None) -> Run:
    run = run or Run(recipe, PLAIN)
    for batch in run.batches(Light(), 0):
        if run.iteration == steps:
            break
        run.step(batch)
    return run


@pytest.mark.parametrize(
    "recipe",
    [
        replace(TINY, optimizer=OptimizerRecipe(ema=0.9), objective=ObjectiveRecipe(learned_weights=True)),
        replace(TINY, diffusion=DIFFUSION),
        replace(TINY, capture=CaptureRecipe(supervision="noise2noise", clip=False)),
    ],
    ids=["unrolled", "diffusion", "noise2noise"],
)
def test_restored_is_as_if_never_stopped(recipe: Recipe, tmp_path: Path) -> None:
    if recipe.diffusion is not None:
        pytest.importorskip("diffusers")
    whole = trained(recipe, 5)
    trained(recipe, 2).save(tmp_path / "new" / "checkpoint.pt")
    torch.manual_seed(123)
    resumed = Run(recipe, PLAIN)
    resumed.restore(tmp_path / "new" / "checkpoint.pt")
    assert resumed.iteration == 2
    trained(recipe, 5, resumed)
    assert same(resumed.loss.state_dict(), whole.loss.state_dict())
    assert same(resumed.average, whole.average)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["checkpoint.pt"]


def test_diffusion_weights_are_exported_and_load(tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    run = trained(replace(TINY, diffusion=DIFFUSION), 1)
    run.export(tmp_path / "run" / "weights.safetensors", {"preset": "p+g-diffusion-small"})
    model = load_diffusion(tmp_path / "run" / "weights.safetensors")
    assert model.config == DIFFUSION
    assert (model.card.training["preset"], model.card.name) == ("p+g-diffusion-small", "run")
    assert same(model.state_dict(), run.loss.denoiser.state_dict())
    other = Run(replace(TINY, seed=8, diffusion=DIFFUSION), PLAIN)
    other.begin_from(tmp_path / "run" / "weights.safetensors")
    assert same(other.loss.denoiser.state_dict(), model.state_dict())


def test_averaged_weights_are_there_for_as_long_as_the_block_lasts() -> None:
    run = trained(replace(TINY, optimizer=OptimizerRecipe(1e-2, "constant", ema=0.9)), 3)
    before = {name: p.detach().clone() for name, p in run.loss.denoiser.named_parameters()}
    now: dict[str, torch.Tensor] = {}
    with pytest.raises(ZeroDivisionError), run.averaged() as denoiser:  # noqa: PT012 - the error is ours
        now |= {name: p.detach().clone() for name, p in denoiser.named_parameters()}
        raise ZeroDivisionError
    assert same(now, run.average)
    assert not same(now, before)
    assert same(dict(run.loss.denoiser.named_parameters()), before)


def test_begins_from_weights_with_a_fresh_optimiser(tmp_path: Path) -> None:
    trained(TINY, 2).export(tmp_path / "a.safetensors")
    run = Run(replace(TINY, seed=9), PLAIN)
    run.begin_from(tmp_path / "a.safetensors")
    start = load(tmp_path / "a.safetensors").state_dict()
    assert same(dict(run.loss.denoiser.named_parameters()), start)
    assert same(run.average, start)
    assert run.iteration == 0
    assert not run.optimizer.state_dict()["state"]
    with pytest.raises(ValueError, match=r"a\.safetensors: weights of another network"):
        Run(replace(TINY, denoiser=replace(TINY.denoiser, origin=True)), PLAIN).begin_from(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"seed": 6}, r"seed 5 there, 6 here"),
        ({"capture": CaptureRecipe(noise="p+g")}, r"capture\.noise eld there, p\+g here"),
        (
            {"denoiser": replace(TINY.denoiser, options={"width": 8, "depth": 1})},
            r"denoiser\.options\.width 4 there, 8",
        ),
        ({"diffusion": DIFFUSION}, r"diffusion None there"),
        ({"optimizer": OptimizerRecipe(lr=2e-4)}, r"optimizer\.lr 0\.0001 there, 0\.0002 here"),
    ],
)
def test_the_fields_in_which_recipes_differ_are_told(changes: dict[str, Any], told: str, tmp_path: Path) -> None:
    if "diffusion" in changes:
        pytest.importorskip("diffusers")
    Run(TINY, PLAIN).save(tmp_path / "checkpoint.pt")
    other = Run(replace(TINY, **changes), PLAIN)
    before = {name: tensor.clone() for name, tensor in other.loss.state_dict().items()}
    with pytest.raises(
        ValueError, match=rf"checkpoint\.pt is of another recipe \({told}.*choose another output folder"
    ):
        other.restore(tmp_path / "checkpoint.pt")
    assert same(other.loss.state_dict(), before)


def test_a_checkpoint_of_another_number_of_processes_is_refused(tmp_path: Path) -> None:
    run = Run(TINY, PLAIN)
    torch.save({**run.state(), "processes": 2}, tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match=r"written by 2 processes, this run has 1: .* use as many"):
        run.restore(tmp_path / "checkpoint.pt")


@pytest.mark.parametrize("content", [b"", b"no checkpoint at all", b"PK\x03\x04 torn"])
def test_a_damaged_checkpoint_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"checkpoint\.pt: not a checkpoint, or damaged: remove it"):
        Run(TINY, PLAIN).restore(tmp_path / "checkpoint.pt")


def test_a_checkpoint_cut_short_is_refused(tmp_path: Path) -> None:
    path, run = tmp_path / "checkpoint.pt", Run(TINY, PLAIN)
    run.save(path)
    whole = path.read_bytes()
    for length in (100, len(whole) // 2, len(whole) - 500, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"checkpoint\.pt: not a checkpoint"):
            run.restore(path)


@pytest.mark.parametrize(
    "words", ["[gloo/transport/tcp/pair.cc] Connection closed by peer", "NCCL communicator was aborted"]
)
def test_a_lost_peer_is_told_of_in_plain_words(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(TINY, PLAIN)

    def breaks(*_: Any) -> Tensor:
        raise RuntimeError(words)

    batch = next(run.batches(Light(), 0))
    monkeypatch.setattr(run, "_distributed", breaks)
    with pytest.raises(RuntimeError, match=r"gloo|NCCL"):  # alone there is no peer: the message is what it is
        run.step(batch)
    monkeypatch.setattr(type(run.accelerator), "num_processes", 2)
    with pytest.raises(WorkerLost, match=r"another process of this run has ended \(at iteration 0\); .*same command"):
        run.step(batch)


def test_other_errors_are_not_mistaken_for_a_lost_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(TINY, PLAIN)
    batch = next(run.batches(Light(), 0))
    monkeypatch.setattr(type(run.accelerator), "num_processes", 2)
    monkeypatch.setattr(run, "_distributed", lambda *_: torch.zeros(2) + torch.zeros(3))
    with pytest.raises(RuntimeError, match="size"):
        run.step(batch)


def test_the_learning_rate_of_the_recipe_reaches_the_optimiser() -> None:
    run = Run(replace(TINY, optimizer=OptimizerRecipe(lr=1e-3, law="paper")), PLAIN)
    found = []
    for batch in run.batches(Light(), 0):
        run.step(batch)
        found.append(run.optimizer.param_groups[0]["lr"])
    assert found == [1e-3] * 3 + [0.5e-3] * 3


def test_bfloat16_trains() -> None:
    run = trained(replace(TINY, iterations=3), 3, Run(replace(TINY, iterations=3), replace(PLAIN, precision="bf16")))
    assert run.iteration == 3
    assert run.read().ruined is None
    assert all(tensor.isfinite().all() for tensor in run.loss.state_dict().values())
    plain = trained(replace(TINY, iterations=3), 1)
    assert plain.loss.denoiser.backbone is not run.loss.denoiser.backbone
    assert {p.dtype for p in run.loss.parameters()} == {torch.float32}


def test_a_device_that_is_not_there() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ValueError, match="finds no cuda on this machine; use --device cpu"):
        Run(TINY, Execution(device="cuda"))

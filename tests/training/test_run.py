"""The state of a run: its checkpoint, what a resumed run refuses, weights to begin from, and lost peers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from exposurediffusion.baselines.diffusion import DiffusionConfig
from exposurediffusion.models.denoiser import DenoiserConfig
from exposurediffusion.pictures.views import CleanViews
from exposurediffusion.process.sampling import Sampling
from exposurediffusion.training.captures import Captures
from exposurediffusion.training.checkpoints import NonFiniteLoss
from exposurediffusion.training.execution import Execution, WorkerLost
from exposurediffusion.training.loss import UnrolledLoss
from exposurediffusion.training.recipe import CaptureRecipe, ObjectiveRecipe, OptimizerRecipe, Prelude, Recipe
from exposurediffusion.training.run import Run
from exposurediffusion.weights.file import load, load_diffusion
from tests.tiny import PLAIN, TINY, Light, clean_views

SCALES = {"widths": [4, 6], "encoders": [1, 1], "decoders": [1]}
DEFAULT = replace(  # as the preset of that name, but small
    TINY,
    capture=CaptureRecipe(noise="wide", gain_range=None, ratio=(1.5, 300.0), ratio_law="mixed", clip=False),
    objective=ObjectiveRecipe(steps=1, branch=0.5, balance=0.02, curve=0.5, averages=0.5),
    optimizer=OptimizerRecipe(1e-3, "cosine", 1e-6, warmup=2, clip_norm=1.0, ema=0.9),
    prelude=Prelude(0.5, 1e-3),
    denoiser=DenoiserConfig("resunet", SCALES, domain="stabilised", white=4.0),
    sampling=Sampling(steps=1, schedule="paper", transition="markov", increment="mean", clamp=(-4.0, 4.0)),
)
DIFFUSION = DiffusionConfig(channels=(8, 8), layers=1, groups=4, timesteps=50, steps=2)


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def trained(recipe: Recipe, steps: int, run: Run | None = None, data: Light | CleanViews = Light()) -> Run:  # noqa: B008
    run = run or Run(recipe, PLAIN)
    for batch in run.batches(data, 0):
        if run.iteration == steps:
            break
        run.step(batch)
    return run


@pytest.mark.parametrize(
    ("recipe", "data"),
    [
        (replace(TINY, optimizer=OptimizerRecipe(ema=0.9), objective=ObjectiveRecipe(learned_weights=True)), Light()),
        (replace(TINY, diffusion=DIFFUSION), Light()),
        (replace(TINY, capture=CaptureRecipe(supervision="noise2noise", clip=False)), Light()),
        (DEFAULT, clean_views()),
    ],
    ids=["unrolled", "diffusion", "noise2noise", "default"],
)
def test_restored_is_as_if_never_stopped(recipe: Recipe, data: Light | CleanViews, tmp_path: Path) -> None:
    if recipe.diffusion is not None:
        pytest.importorskip("diffusers")
    whole = trained(recipe, 5, data=data)
    trained(recipe, 2, data=data).save(tmp_path / "new" / "checkpoint.pt")
    torch.manual_seed(123)
    resumed = Run(recipe, PLAIN)
    resumed.restore(tmp_path / "new" / "checkpoint.pt")
    assert resumed.iteration == 2
    trained(recipe, 5, resumed, data)
    assert same(resumed.loss.state_dict(), whole.loss.state_dict())
    assert same(resumed.average.values, whole.average.values)
    assert same(moments(resumed), moments(whole))
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["checkpoint.pt"]


def moments(run: Run) -> dict[str, Tensor]:
    """Of the optimiser, with the count of its steps."""
    states = run.optimizer.state_dict()["state"]
    return {f"{key} {name}": tensor.clone() for key, state in states.items() for name, tensor in state.items()}


# ---------------------------------------------------------------------------------------------------------- readings


def test_a_reading_is_the_mean_loss_since_the_last_and_changes_nothing() -> None:
    runs = [Run(DEFAULT, PLAIN) for _ in range(2)]
    losses: list[list[float]] = [[], []]
    for batch in runs[0].batches(clean_views(), 0):
        for run, found, every in zip(runs, losses, (1, 3), strict=True):
            run.step(batch)
            if run.iteration % every == 0:
                reading = run.read(stop=run.iteration == 6)
                assert (reading.stopping, reading.ruined) == (run.iteration == 6, None)
                found.append(reading.loss)
    assert losses[1] == pytest.approx([sum(losses[0][:3]) / 3, sum(losses[0][3:]) / 3], rel=1e-5)
    assert same(runs[0].loss.state_dict(), runs[1].loss.state_dict())


class Watch(TorchDispatchMode):
    """Refuses operations for whose answer the computer would wait for a GPU."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        assert name not in ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero"), name
        return func(*args, **(kwargs or {}))


def test_a_step_asks_nothing_of_the_device_and_a_reading_does(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(replace(DEFAULT, sampling=replace(DEFAULT.sampling, clamp=None), prelude=Prelude()), PLAIN)
    batch = run.batch(clean_views(), 0)
    made = run.capture(batch, 0)  # counts of photons are drawn in another way on a CPU, which looks at them
    monkeypatch.setattr(run, "capture", lambda *_: made)
    for _ in range(2):
        with Watch():
            run.step(batch)
    with pytest.raises(AssertionError, match="_local_scalar_dense"), Watch():  # twin
        run.read()


def ruin(what: str, run: Run, at: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the loss, or only its gradient, be no number in some iterations of a run."""
    forward = UnrolledLoss.forward

    def ruined(self: UnrolledLoss, *arguments: Any) -> Tensor:
        loss = forward(self, *arguments)
        if run.iteration not in at:
            return loss
        first = next(self.parameters())
        return loss * float(what) if what != "gradient" else loss + (0 * first).sum().sqrt()  # 0, of infinite slope

    monkeypatch.setattr(UnrolledLoss, "forward", ruined)


@pytest.mark.parametrize("what", ["nan", "inf", "gradient"])
@pytest.mark.parametrize("clip_norm", [0.0, 1.0])
def test_a_step_that_is_no_number_touches_nothing_and_is_reported(
    what: str, clip_norm: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(DEFAULT, optimizer=replace(DEFAULT.optimizer, clip_norm=clip_norm))
    run = Run(recipe, PLAIN)
    ruin(what, run, (2, 3), monkeypatch)
    for batch in run.batches(clean_views(), 0):
        weights = {name: tensor.clone() for name, tensor in run.loss.state_dict().items()}
        before, average = moments(run), {name: tensor.clone() for name, tensor in run.average.values.items()}
        iteration = run.iteration
        run.step(batch)
        assert same(run.loss.state_dict(), weights) == (iteration in (2, 3))
        assert same(moments(run), before) == (iteration in (2, 3))
        assert all(tensor.isfinite().all() for tensor in run.average.values.values())
        if iteration in (2, 3):  # it is at most nearer to the weights
            for name, tensor in run.loss.denoiser.named_parameters():
                assert ((run.average.values[name] - tensor).abs() <= (average[name] - tensor).abs() + 1e-9).all()
    assert run.iteration == 6
    reading = run.read()
    assert reading.ruined == 2  # the first
    assert 0 < reading.loss < 10


def test_a_batch_can_be_made_again() -> None:
    """For whoever looks into one that ruined a step."""
    for data in (clean_views(), Light(ratios=(100.0,))):
        run = Run(DEFAULT, PLAIN)
        for iteration, batch in enumerate(run.batches(data, 0)):
            again = run.batch(data, iteration)
            assert again.numbers == batch.numbers
            assert same(again.tensors(), batch.tensors())


def test_a_batch_that_is_too_large_for_a_gpu_is_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = replace(DEFAULT, batch=5, prelude=Prelude(), objective=replace(DEFAULT.objective, steps=0))
    said: list[str] = []
    whole, parts = Run(recipe, PLAIN), Run(recipe, PLAIN, report=said.append)
    forward, sizes = parts._distributed, []

    def small(captures: Any, steps: int) -> Tensor:
        if len(captures.target) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        sizes.append(len(captures.target))
        return forward(captures, steps)

    monkeypatch.setattr(parts, "_distributed", small)
    for batch in whole.batches(clean_views(), 0):
        whole.step(batch)
        parts.step(batch)
        assert parts.read().loss == pytest.approx(whole.read().loss, rel=1e-4)
    for name, tensor in whole.loss.state_dict().items():
        torch.testing.assert_close(parts.loss.state_dict()[name], tensor, rtol=0, atol=1e-4)
    assert said == [f"not enough memory on the GPU: batches are now computed in {count} parts" for count in (2, 4)]
    assert sizes[-4:] == [2, 1, 1, 1]


def test_a_try_that_failed_leaves_no_trace_in_what_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    sampled = replace(DEFAULT.sampling, increment="sampled")
    recipe = replace(DEFAULT, batch=2, prelude=Prelude(), sampling=sampled)
    tried, parts = Run(recipe, PLAIN), Run(recipe, PLAIN)
    parts._parts = 2
    forward = tried._distributed

    def too_late(captures: Captures, steps: int) -> Tensor:
        loss = forward(captures, steps)
        if len(captures.target) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return loss

    monkeypatch.setattr(tried, "_distributed", too_late)
    for run in (tried, parts):
        run.step(run.batch(clean_views(), 0))
    assert tried.read().loss == parts.read().loss
    assert same(tried.loss.state_dict(), parts.loss.state_dict())


def test_a_single_image_that_is_too_large_ends_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(DEFAULT, PLAIN)

    def never(*_: Any) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(run, "_distributed", never)
    with pytest.raises(torch.OutOfMemoryError):
        run.step(run.batch(clean_views(), 0))


# --------------------------------------------------------------------------------------------------------- the files


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
    assert same(now, run.average.values)
    assert not same(now, before)
    assert same(dict(run.loss.denoiser.named_parameters()), before)


def test_begins_from_weights_with_a_fresh_optimiser(tmp_path: Path) -> None:
    trained(TINY, 2).export(tmp_path / "a.safetensors")
    run = Run(replace(TINY, seed=9), PLAIN)
    run.begin_from(tmp_path / "a.safetensors")
    start = load(tmp_path / "a.safetensors").state_dict()
    assert same(dict(run.loss.denoiser.named_parameters()), start)
    assert same(run.average.values, start)
    assert run.iteration == 0
    assert not any(tensor.any() for tensor in moments(run).values())
    with pytest.raises(
        ValueError, match=r"a\.safetensors: weights of another network \(origin False there, True here\)"
    ):
        Run(replace(TINY, denoiser=replace(TINY.denoiser, origin=True)), PLAIN).begin_from(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("changes", "fields"),
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
def test_the_fields_in_which_recipes_differ_are_reported(changes: dict[str, Any], fields: str, tmp_path: Path) -> None:
    if "diffusion" in changes:
        pytest.importorskip("diffusers")
    Run(TINY, PLAIN).save(tmp_path / "checkpoint.pt")
    other = Run(replace(TINY, **changes), PLAIN)
    before = {name: tensor.clone() for name, tensor in other.loss.state_dict().items()}
    with pytest.raises(
        ValueError, match=rf"checkpoint\.pt is of another recipe \({fields}.*choose another output folder"
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
        with pytest.raises(ValueError, match=r"checkpoint\.pt: (not a checkpoint|damaged)"):
            run.restore(path)


def test_a_checkpoint_with_one_wrong_bit_is_refused(tmp_path: Path) -> None:
    path, run = tmp_path / "checkpoint.pt", trained(TINY, 2)
    run.save(path)
    whole = path.read_bytes()
    for place in range(0, len(whole) - 20, len(whole) // 50):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(ValueError, match=r"checkpoint\.pt: damaged, its checksum is wrong: remove it"):
            run.restore(path)
    run.export(tmp_path / "checkpoint.safetensors")
    with pytest.raises(ValueError, match=r"begin from its weights by --initial \S*checkpoint\.safetensors in another"):
        run.restore(path)
    path.write_bytes(whole)
    run.restore(path)


def test_the_first_checkpoint_is_as_large_as_the_last(tmp_path: Path) -> None:
    """It shows whether a disk has room, and how long the last will take."""
    run = Run(TINY, PLAIN)
    run.save(tmp_path / "first.pt")
    trained(TINY, 2, run).save(tmp_path / "last.pt")
    first, last = ((tmp_path / name).stat().st_size for name in ("first.pt", "last.pt"))
    assert first == pytest.approx(last, rel=0.01)


@pytest.mark.parametrize("where", ["weights", "average"])
def test_weights_that_are_no_numbers_replace_no_checkpoint(where: str, tmp_path: Path) -> None:
    path, run = tmp_path / "checkpoint.pt", trained(TINY, 2)
    with pytest.raises(NonFiniteLoss, match="there is no checkpoint; begin anew"):
        ruined(trained(TINY, 2), where).save(path)
    run.save(path)
    before = path.read_bytes()
    with pytest.raises(NonFiniteLoss, match=r"no numbers at iteration 2; .*, of an earlier iteration, stays"):
        ruined(run, where).save(path)
    assert path.read_bytes() == before


def ruined(run: Run, where: str) -> Run:
    """A run with infinite weights."""
    tensors = run.average.values if where == "average" else dict(run.loss.denoiser.named_parameters())
    with torch.no_grad():
        next(iter(tensors.values())).fill_(math.inf)
    return run


@pytest.mark.parametrize("change", [{"spent": None}, {"optimizer": None}, {"optimizer": {}}, {"model": {}}])
def test_a_checkpoint_that_lacks_something_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    state = {k: v for k, v in {**Run(TINY, PLAIN).state(), **change}.items() if v is not None or k == "minutes"}
    torch.save(state, tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match=r"checkpoint\.pt: a checkpoint of another version, or damaged: remove it"):
        Run(TINY, PLAIN).restore(tmp_path / "checkpoint.pt")


def of_no_number(state: dict[str, Any]) -> None:
    next(iter(state["model"].values())).fill_(math.nan)


def of_another_shape(state: dict[str, Any]) -> None:
    moments = state["optimizer"]["state"][0]
    moments["exp_avg"] = torch.zeros(3)


def of_other_averages(state: dict[str, Any]) -> None:
    name = next(iter(state["average"]))
    state["average"][name] = state["average"][name][..., :1]


STRANGE: list[Callable[[dict[str, Any]], None]] = [
    of_no_number,
    of_another_shape,
    of_other_averages,
    lambda state: state.update(iteration="many"),
    lambda state: state.update(iteration=-1),
    lambda state: state.update(spent=math.nan),
    lambda state: state.update(share=2.0),
    lambda state: state.update(average=[1, 2]),
    lambda state: state.update(optimizer={"state": [], "param_groups": 3}),
    lambda state: state["optimizer"]["state"][0].pop("exp_avg"),
]


@pytest.mark.parametrize("change", STRANGE)
def test_a_strange_checkpoint_is_refused(change: Callable[[dict[str, Any]], None], tmp_path: Path) -> None:
    state = Run(TINY, PLAIN).state()
    change(state)
    torch.save(state, tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match=r"checkpoint\.pt: a checkpoint of another version, or damaged: remove it"):
        Run(TINY, PLAIN).restore(tmp_path / "checkpoint.pt")


@pytest.mark.parametrize(
    "content", [[1, 2], torch.zeros(3), "text", {"recipe": 3}, {"recipe": "[" * 9999}, {}], ids=repr
)
def test_what_is_no_state_is_no_checkpoint(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match=r"checkpoint\.pt: not a checkpoint, or damaged: remove it"):
        Run(TINY, PLAIN).restore(tmp_path / "checkpoint.pt")


def test_the_optimizer_stays_the_recipes(tmp_path: Path) -> None:
    state = trained(TINY, 2).state()
    state["optimizer"]["param_groups"][0]["betas"] = ("a", None)
    torch.save(state, tmp_path / "checkpoint.pt")
    run = Run(TINY, PLAIN)
    run.restore(tmp_path / "checkpoint.pt")
    assert run.optimizer.param_groups[0]["betas"] == TINY.optimizer.betas


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

"""Runs by time, with a clock that goes on by what each thing is said to take: they end in time, and at their end."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from exposurediffusion.training import execution, trainer
from exposurediffusion.training.batches import Batch
from exposurediffusion.training.captures import Captures
from exposurediffusion.training.loss import UnrolledLoss
from exposurediffusion.training.recipe import OptimizerRecipe, Prelude, Recipe
from exposurediffusion.training.run import Run
from exposurediffusion.training.trainer import Interrupted, train
from exposurediffusion.weights.file import load
from tests.tiny import PLAIN, TINY, Light, clean_views

RECIPE = replace(
    TINY,
    iterations=1_000_000,  # which count for nothing
    optimizer=OptimizerRecipe(1e-3, "cosine", 1e-6, warmup=3),
    prelude=Prelude(0.5, 5e-4),
    objective=replace(TINY.objective, steps=1),
)
STEP = Run.step


@dataclass
class Clock:
    """Seconds, and what was done at each step: its time, the share of the run before it, its rate and its T."""

    now: float = 1000.0
    unrolled: int = -1
    steps: list[tuple[float, float, float, int]] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The only clock that runs and trainer see; a step takes two seconds, all else no time."""
    clock = Clock()
    for module in (execution, trainer):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=clock.monotonic))
    forward = UnrolledLoss.forward

    def listening(self: UnrolledLoss, captures: Captures, steps: int) -> Tensor:
        clock.unrolled = steps
        return forward(self, captures, steps)

    monkeypatch.setattr(UnrolledLoss, "forward", listening)
    takes(clock, lambda _: 2.0, monkeypatch)
    return clock


def takes(clock: Clock, seconds: Callable[[Run], float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a step take so long."""

    def patched(self: Run, batch: Batch) -> None:
        done = self.done
        STEP(self, batch)
        clock.now += seconds(self)
        clock.steps.append((clock.now, done, self.optimizer.param_groups[0]["lr"], clock.unrolled))

    monkeypatch.setattr(Run, "step", patched)


def slow(clock: Clock, monkeypatch: pytest.MonkeyPatch, **seconds: float) -> None:
    """Let `save`, `export` and `validate` take so long."""

    def slowed(call: Callable[..., Any], duration: float) -> Callable[..., Any]:
        def patched(*arguments: Any, **options: Any) -> Any:
            clock.now += duration
            return call(*arguments, **options)

        return patched

    for of, name, what in ((Run, "save", "save"), (Run, "export", "export"), (trainer, "_validate", "validate")):
        monkeypatch.setattr(of, name, slowed(getattr(of, name), seconds.get(what, 0.0)))


def go(output: Path, minutes: float = 1.0, data: Any = None, recipe: Recipe = RECIPE, **options: Any) -> Path:
    return train(recipe, data or Light(), output, execution=PLAIN, minutes=minutes, **options)


def check(clock: Clock, recipe: Recipe = RECIPE) -> None:
    """The schedule was passed through from its beginning to its end."""
    _, shares, rates, unrolled = (list(of) for of in zip(*clock.steps, strict=True))
    assert shares[0] == 0
    assert shares == sorted(shares)
    assert shares[-1] > 0.9
    assert rates == pytest.approx([recipe.rate_at(share, n) for n, share in enumerate(shares)])
    assert rates[-1] < 0.05 * recipe.optimizer.lr
    assert unrolled == [int(share >= 0.5) for share in shares]
    assert 0 in unrolled
    assert 1 in unrolled


def test_a_run_ends_in_time_and_at_the_end_of_its_schedule(clock: Clock, tmp_path: Path) -> None:
    go(tmp_path)
    assert 1053 < clock.now <= 1060
    check(clock)
    assert len(clock.steps) == load(tmp_path / "weights.safetensors").card.training["iterations"]
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert log[-1]["lr"] == pytest.approx(RECIPE.optimizer.final, rel=1e-3)


def test_of_a_run_by_iterations_the_clock_has_no_say(clock: Clock, tmp_path: Path) -> None:
    recipe = replace(RECIPE, iterations=6)
    train(recipe, clean_views(), tmp_path, execution=PLAIN)
    shares = [share for _, share, _, _ in clock.steps]
    assert shares == [n / 6 for n in range(6)]


@pytest.mark.parametrize(("early", "late"), [(0.75, 3.0), (3.0, 1.0)])
def test_unrolled_steps_may_take_longer_than_the_first(
    early: float, late: float, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    takes(clock, lambda run: early if run.done < 0.5 else late, monkeypatch)
    go(tmp_path)
    assert 1060 - 2 * max(early, late) <= clock.now <= 1060
    shares = [share for _, share, _, _ in clock.steps]
    assert shares[-1] > 0.8
    middle = [now for now, share, _, _ in clock.steps if share < 0.5][-1]
    assert 1025 < middle <= 1034  # half of the time is half of the schedule, whatever it was spent on


@pytest.mark.parametrize("first", [21.0, 33.0])
def test_setting_up_does_not_end_a_run_or_turn_it_back(
    first: float, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    takes(clock, lambda run: first if run.iteration == 1 else 1.0, monkeypatch)
    go(tmp_path)
    shares = [share for _, share, _, _ in clock.steps]
    assert shares == sorted(shares)
    assert shares[1] == pytest.approx(first / 60)
    assert 1056 < clock.now <= 1060


def test_what_is_written_at_the_end_is_written_in_time(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow(clock, monkeypatch, save=2.0, export=0.5, validate=3.0)
    go(tmp_path, validation=clean_views())
    assert 1043 < clock.now <= 1060
    shares = [share for _, share, _, _ in clock.steps]
    assert shares[-1] > 0.9
    assert (tmp_path / "weights.safetensors").exists()


def test_a_resumed_run_counts_the_time_of_both_sessions(clock: Clock, tmp_path: Path) -> None:
    def stop(run: Run, loss: float) -> None:
        if clock.now >= 1040:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted):
        go(tmp_path, tick=stop)
    first = len(clock.steps)
    assert clock.now == pytest.approx(1042, abs=1)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["spent"] == pytest.approx((clock.now - 1000) / 60)
    clock.now += 5000  # between the sessions
    go(tmp_path)
    assert 6053 < clock.now <= 6060
    check(clock)
    assert clock.steps[first][1] == pytest.approx(clock.steps[first - 1][1], abs=0.07)  # it goes on where it was
    assert load(tmp_path / "weights.safetensors").card.training["iterations"] == len(clock.steps)


def test_a_finished_run_has_nothing_left_to_do(clock: Clock, tmp_path: Path) -> None:
    before = load(go(tmp_path)).state_dict()
    count = len(clock.steps)
    after = load(go(tmp_path)).state_dict()
    assert len(clock.steps) == count
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_more_minutes_than_before_go_on(clock: Clock, tmp_path: Path) -> None:
    go(tmp_path, 0.5)
    count = len(clock.steps)
    go(tmp_path, 1.0)
    assert 1053 < clock.now <= 1060
    assert clock.steps[count][1] == pytest.approx(0.5, abs=0.07)


@pytest.mark.parametrize("workers", [0, 1])
def test_patches_come_as_long_as_there_is_time(workers: int, clock: Clock, tmp_path: Path) -> None:
    execution = replace(PLAIN, workers=workers)
    train(RECIPE, Light(), tmp_path, execution=execution, minutes=0.2)
    assert 1006 < clock.now <= 1012


@pytest.mark.parametrize("minutes", [0.0, -1.0, math.nan, math.inf])
def test_no_time_is_refused(minutes: float, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not train and end; give it more than 0"):
        go(tmp_path, minutes)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("first", "second", "word"), [(1.0, None, "minutes"), (None, 1.0, "iterations")])
def test_a_run_by_time_is_not_gone_on_with_by_iterations_nor_the_reverse(
    first: float | None, second: float | None, word: str, clock: Clock, tmp_path: Path
) -> None:
    recipe = replace(RECIPE, iterations=2)
    train(recipe, clean_views(), tmp_path, execution=PLAIN, minutes=first)
    with pytest.raises(ValueError, match=f"a run by {word}: go on by these, or choose another output folder"):
        train(recipe, clean_views(), tmp_path, execution=PLAIN, minutes=second)

"""Losses and the unrolled objective of Algorithm 1, against computations with numpy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from exposurediffusion.process.exposure import ExposureSchedule, SampledIncrement, markov, restart
from exposurediffusion.process.objectives import (
    Objective,
    StepWeights,
    branch_loss,
    l1_loss,
    poisson_kl_loss,
    unrolled_loss,
)

EXPOSURES = np.array([1.0, 20.0, 70.0])
SCHEDULE = ExposureSchedule(torch.tensor(EXPOSURES, dtype=torch.float32)[:, None].expand(3, 2), torch.full((2,), 100.0))


class Output(NamedTuple):
    """What a network with the adaptive residual layer says, or one without it."""

    image: Tensor
    mask: Tensor | None = None
    direct: Tensor | None = None
    residual: Tensor | None = None


def network(state: Tensor, exposure: Tensor) -> Output:
    """A stand-in whose every output depends on the state and on the exposure."""
    mask = torch.sigmoid(state[:, :1] * exposure.reshape(-1, 1, 1, 1).log())
    direct, residual = 0.8 * state + 0.1, state.square()
    return Output(mask * direct + (1 - mask) * residual, mask, direct, residual)


@pytest.fixture
def pair(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A capture, partly negative and above white, and a clean image."""
    capture = 1.4 * torch.rand(2, 4, 6, 6, generator=generator) - 0.2
    return capture, torch.rand(2, 4, 6, 6, generator=generator) * torch.tensor([0.2, 1.0]).reshape(2, 1, 1, 1)


def by_hand(
    capture: Tensor, clean: Tensor, branch: float, pixel: Callable[[np.ndarray, np.ndarray], np.ndarray], again: bool
) -> np.ndarray:
    """Loss of each step and image, (3, 2): Algorithm 1 with mean increments, in electrons' sums; `again`: restart."""
    start, truth = capture.double().numpy(), clean.double().numpy()
    collected, losses = start.copy(), []
    for index, exposure in enumerate(EXPOSURES):
        state = collected / exposure
        mask = 1 / (1 + np.exp(-state[:, :1] * np.log(exposure)))
        direct, residual = 0.8 * state + 0.1, state**2
        image = mask * direct + (1 - mask) * residual
        auxiliary = mask * np.abs(direct - truth) + (1 - mask) * np.abs(residual - truth)
        losses.append((pixel(image, truth) + branch * auxiliary).mean(axis=(1, 2, 3)))
        if index < 2:
            begin = 1.0 if again else exposure
            collected = (start if again else collected) + (EXPOSURES[index + 1] - begin) * image
    return np.array(losses)


def kl_by_hand(estimate: np.ndarray, clean: np.ndarray) -> np.ndarray:
    f, x = np.maximum(estimate, 1e-3), np.maximum(clean, 1e-3)
    return f * np.log(f / x) + x - f


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("branch", [0.0, 0.5])
@pytest.mark.parametrize("pixel", ["l1", "kl"])
def test_unrolled_loss_is_algorithm_1(pair: tuple[Tensor, Tensor], pixel: str, branch: float, again: bool) -> None:
    objective = Objective(pixel, branch, transition=restart if again else markov)
    total, steps = unrolled_loss(network, *pair, SCHEDULE, objective)
    laws = {"l1": lambda f, x: np.abs(f - x), "kl": kl_by_hand}
    expected = by_hand(*pair, branch, laws[pixel], again).mean(axis=1)
    np.testing.assert_allclose(steps, expected, rtol=1e-4)
    assert float(total) == pytest.approx(expected.mean(), rel=1e-4)


def test_balance_divides_each_image_by_the_error_of_its_capture(pair: tuple[Tensor, Tensor]) -> None:
    capture, clean = pair
    total, _ = unrolled_loss(network, capture, clean, SCHEDULE, Objective(balance=0.02))
    error = np.abs(capture.clamp(0, 1).numpy() - clean.numpy()).mean(axis=(1, 2, 3)) + 0.02
    losses = by_hand(capture, clean, 1.0, lambda f, x: np.abs(f - x), again=False)
    assert float(total) == pytest.approx((losses / error).mean(), rel=1e-4)


def test_weights_clamp_and_adjust_are_used(pair: tuple[Tensor, Tensor]) -> None:
    capture, clean = pair
    weights = torch.tensor([0.7, 0.3, 0.0])
    total, steps = unrolled_loss(network, capture, clean, SCHEDULE, Objective(), weights)
    assert float(total) == pytest.approx(0.7 * steps[0] + 0.3 * steps[1], rel=1e-5)
    clamped, _ = unrolled_loss(network, capture, clean, SCHEDULE, Objective(clamp=(0.0, 1.0)))
    before, _ = unrolled_loss(network, capture.clamp(0, 1), clean, SCHEDULE, Objective(clamp=(0.0, 1.0)))
    assert torch.equal(clamped, before)
    _, perfect = unrolled_loss(network, capture, clean, SCHEDULE, Objective(branch=0), adjust=lambda _: clean)
    assert perfect == [0.0, 0.0, 0.0]


def test_gradients_of_late_steps_reach_the_early_estimates(pair: tuple[Tensor, Tensor]) -> None:
    """The last step alone is weighted: what it says of the first evaluation came through the sampled increments."""
    scale = torch.ones((), requires_grad=True)
    calls = 0

    def first_is_scaled(state: Tensor, exposure: Tensor) -> Output:
        nonlocal calls
        calls += 1
        return Output(network(state, exposure).image * (scale if calls == 1 else 1.0))

    objective = Objective(branch=0, increment=SampledIncrement(50.0))
    last = torch.tensor([0.0, 0.0, 1.0])
    total, _ = unrolled_loss(first_is_scaled, *pair, SCHEDULE, objective, last, generator=torch.Generator())
    (gradient,) = torch.autograd.grad(total, scale)
    assert abs(float(gradient)) > 1e-4
    calls = 0
    with_restart = replace(objective, transition=restart)  # forgets the first estimate, but it shaped the second
    total, _ = unrolled_loss(first_is_scaled, *pair, SCHEDULE, with_restart, last, generator=torch.Generator())
    assert abs(float(torch.autograd.grad(total, scale)[0])) > 1e-6


values = st.floats(0, 1, width=32)


@given(estimate=values, clean=values)
def test_kl_is_never_negative_and_zero_only_where_equal(estimate: float, clean: float) -> None:
    loss = float(poisson_kl_loss(torch.tensor([estimate]).double(), torch.tensor([clean]).double()))
    assert np.isfinite(loss)
    assert loss >= -1e-12
    if abs(max(estimate, 1e-3) - max(clean, 1e-3)) > 1e-3:
        assert loss > 1e-8
    assert loss == pytest.approx(kl_by_hand(np.array(estimate), np.array(clean)), abs=1e-9)


@pytest.mark.parametrize(("estimate", "clean"), [(7.0, 5.0), (0.5, 20.0), (12.0, 11.0)])
def test_kl_is_the_divergence_of_two_poisson_laws(estimate: float, clean: float) -> None:
    counts = np.arange(200)
    law = stats.poisson(estimate)
    divergence = np.sum(law.pmf(counts) * (law.logpmf(counts) - stats.poisson(clean).logpmf(counts)))
    assert float(poisson_kl_loss(torch.tensor(estimate), torch.tensor(clean))) == pytest.approx(divergence, rel=1e-4)


def test_branch_loss_weighs_each_branch_by_the_mask() -> None:
    shape = (1, 4, 1, 1)
    output = Output(*(torch.full(shape, value) for value in (0.0, 0.25, 0.9, 0.1)))
    loss = branch_loss(output, torch.full(shape, 0.5))
    torch.testing.assert_close(loss, torch.full(shape, 0.25 * 0.4 + 0.75 * 0.4))
    assert float(branch_loss(Output(torch.zeros(shape)), torch.ones(shape)).sum()) == 0.0
    assert torch.equal(l1_loss(torch.tensor([0.2, -1.0]), torch.tensor([0.5, 1.0])), torch.tensor([0.3, 2.0]))


@given(steps=st.integers(1, 8))
def test_step_weights_are_equal_at_first(steps: int) -> None:
    torch.testing.assert_close(StepWeights(steps)(), torch.full((steps + 1,), 1 / (steps + 1)))


@given(free=st.lists(st.floats(-2, 2, width=32), min_size=1, max_size=6))
def test_step_weights_are_clipped_and_sum_to_one(free: list[float]) -> None:
    weights = StepWeights(len(free))
    with torch.no_grad():
        weights.free.copy_(torch.tensor(free))
    values = weights().detach().numpy()
    np.testing.assert_allclose(values[:-1], np.clip(free, 0, 1))
    assert values.sum() == pytest.approx(1, abs=1e-5)


def test_step_weights_learn(pair: tuple[Tensor, Tensor]) -> None:
    weights = StepWeights(2)
    total, steps = unrolled_loss(network, *pair, SCHEDULE, Objective(), weights())
    total.backward()
    assert weights.free.grad is not None
    torch.testing.assert_close(weights.free.grad, torch.tensor([steps[0] - steps[2], steps[1] - steps[2]]))

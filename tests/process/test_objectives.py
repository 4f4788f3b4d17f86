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

from exposurediffusion.process.exposure import ExposureSchedule
from exposurediffusion.process.objectives import (
    Objective,
    StepWeights,
    averages_loss,
    branch_loss,
    curve_loss,
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
    return f * np.log(f / x) + x - f + np.log(f / x) * np.minimum(estimate - 1e-3, 0)


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("branch", [0.0, 0.5])
@pytest.mark.parametrize("pixel", ["l1", "kl"])
def test_unrolled_loss_is_algorithm_1(pair: tuple[Tensor, Tensor], pixel: str, branch: float, again: bool) -> None:
    objective = Objective(pixel, branch, transition="restart" if again else "markov")
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


def test_balance_clips_the_capture_at_the_white_of_the_network(pair: tuple[Tensor, Tensor]) -> None:
    capture, clean = 3 * pair[0], 3 * pair[1]
    losses = by_hand(capture, clean, 1.0, lambda f, x: np.abs(f - x), again=False)
    found = {}
    for white in (1.0, 2.5):
        objective = Objective(balance=0.02, white=white)
        found[white] = float(unrolled_loss(network, capture, clean, SCHEDULE, objective)[0])
        error = np.abs(np.clip(capture.numpy(), 0, white) - clean.numpy()).mean(axis=(1, 2, 3)) + 0.02
        assert found[white] == pytest.approx((losses / error).mean(), rel=1e-4)
    assert found[1.0] != pytest.approx(found[2.5], rel=1e-2)


def averages_by_hand(error: np.ndarray, halvings: int = 4) -> np.ndarray:
    """Mean absolute averages of squares of 2, 4, ... pixels, one number per image."""
    found = []
    for power in range(1, halvings + 1):
        side = 2**power
        b, c, h, w = error.shape
        squares = error[..., : h // side * side, : w // side * side].reshape(b, c, h // side, side, w // side, side)
        found.append(np.abs(squares.mean(axis=(3, 5))).mean(axis=(1, 2, 3)))
    return np.mean(found, axis=0)


def curve_by_hand(estimate: np.ndarray, clean: np.ndarray) -> np.ndarray:
    return np.abs(np.sqrt(np.maximum(estimate, 0) + 0.01) - np.sqrt(np.maximum(clean, 0) + 0.01))


def test_averages_loss_is_that_of_blotches(generator: torch.Generator) -> None:
    error = torch.randn((2, 4, 32, 48), generator=generator) + 0.1
    np.testing.assert_allclose(averages_loss(error), averages_by_hand(error.double().numpy()), rtol=1e-5)
    np.testing.assert_allclose(averages_loss(error, 1), averages_by_hand(error.double().numpy(), 1), rtol=1e-5)
    board = (torch.arange(32)[:, None] + torch.arange(32)) % 2 * 2.0 - 1
    assert float(averages_loss(board.expand(1, 4, 32, 32))) == 0  # of pixels alone
    flat = torch.full((1, 4, 32, 32), -0.3)
    assert float(averages_loss(flat)) == pytest.approx(0.3)
    assert float(averages_loss(flat * (torch.arange(32) // 8 % 2 * 2 - 1))) == pytest.approx(0.3 * 3 / 4)


def test_curve_loss_is_of_square_roots(generator: torch.Generator) -> None:
    estimate, clean = 2 * torch.rand((2, 1, 4, 5, 5), generator=generator) - 0.3
    expected = curve_by_hand(estimate.double().numpy(), clean.double().numpy())
    np.testing.assert_allclose(curve_loss(estimate, clean), expected, rtol=1e-4, atol=1e-6)
    dark, bright = (curve_loss(torch.full((1, 1, 1, 1), x + 0.01), torch.full((1, 1, 1, 1), x)) for x in (0.0, 0.9))
    assert float(dark / bright) > 5  # the same error is plainer in the dark
    steep = torch.full((1, 1, 1, 1), 0.0, requires_grad=True)
    curve_loss(steep, torch.full((1, 1, 1, 1), 0.5)).sum().backward()
    assert steep.grad is not None
    assert -5.01 < float(steep.grad) < -4.9  # and no steeper than that at black


@pytest.mark.parametrize("balance", [None, 0.02])
def test_curve_and_averages_are_added_by_their_weights(balance: float | None, generator: torch.Generator) -> None:
    capture = 1.4 * torch.rand(2, 4, 16, 16, generator=generator) - 0.2
    clean = torch.rand(2, 4, 16, 16, generator=generator)
    objective = Objective(branch=0.5, balance=balance, curve=0.3, averages=0.7)
    total, steps = unrolled_loss(network, capture, clean, SCHEDULE, objective)
    truth, clipped = clean.double().numpy(), capture.clamp(0, 1).double().numpy()

    def factor(law: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
        return 1 / (law(clipped, truth).mean(axis=(1, 2, 3)) + balance) if balance is not None else np.ones(2)

    plain, curved = factor(lambda f, x: np.abs(f - x)), factor(curve_by_hand)
    errors, curves = (
        by_hand(capture, clean, branch, law, again=False)
        for branch, law in ((0.5, lambda f, x: np.abs(f - x)), (0.0, curve_by_hand))
    )
    images: list[Tensor] = []

    def seen(state: Tensor, exposure: Tensor) -> Output:
        images.append(network(state, exposure).image)
        return network(state, exposure)

    unrolled_loss(seen, capture, clean, SCHEDULE, objective)
    averages = np.array([averages_by_hand(image.double().numpy() - truth) for image in images])
    expected = ((errors + 0.7 * averages) * plain + 0.3 * curves * curved).mean(axis=1)
    np.testing.assert_allclose(steps, expected, rtol=1e-4)
    assert float(total) == pytest.approx(expected.mean(), rel=1e-4)


def test_weights_clamp_and_adjust_are_used(pair: tuple[Tensor, Tensor]) -> None:
    capture, clean = pair
    weights = torch.tensor([0.7, 0.3, 0.0])
    total, steps = unrolled_loss(network, capture, clean, SCHEDULE, Objective(), weights)
    assert float(total) == pytest.approx(0.7 * float(steps[0]) + 0.3 * float(steps[1]), rel=1e-5)
    clamped, _ = unrolled_loss(network, capture, clean, SCHEDULE, Objective(clamp=(0.0, 1.0)))
    before, _ = unrolled_loss(network, capture.clamp(0, 1), clean, SCHEDULE, Objective(clamp=(0.0, 1.0)))
    assert torch.equal(clamped, before)
    _, perfect = unrolled_loss(network, capture, clean, SCHEDULE, Objective(branch=0), adjust=lambda _: clean)
    assert perfect.tolist() == [0.0, 0.0, 0.0]


def test_gradients_of_late_steps_reach_the_early_estimates(pair: tuple[Tensor, Tensor]) -> None:
    """The last step alone is weighted: what it says of the first evaluation came through the sampled increments."""
    scale = torch.ones((), requires_grad=True)
    calls = 0

    def first_is_scaled(state: Tensor, exposure: Tensor) -> Output:
        nonlocal calls
        calls += 1
        return Output(network(state, exposure).image * (scale if calls == 1 else 1.0))

    objective = Objective(branch=0)
    last = torch.tensor([0.0, 0.0, 1.0])
    total, _ = unrolled_loss(first_is_scaled, *pair, SCHEDULE, objective, last, 50.0, generator=torch.Generator())
    (gradient,) = torch.autograd.grad(total, scale)
    assert abs(float(gradient)) > 1e-4
    calls = 0
    with_restart = replace(objective, transition="restart")  # forgets the first estimate, but it shaped the second
    total, _ = unrolled_loss(first_is_scaled, *pair, SCHEDULE, with_restart, last, 50.0, generator=torch.Generator())
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


def test_kl_has_a_way_back_from_below_its_floor() -> None:
    estimate = torch.tensor([-0.5, 0.0, 0.0005, 0.002], dtype=torch.float64, requires_grad=True)
    clean = torch.full_like(estimate, 0.01)
    (gradient,) = torch.autograd.grad(poisson_kl_loss(estimate, clean).sum(), estimate)
    slope = np.log(0.1)  # at the floor of 0.001, tenfold below the truth
    assert gradient.tolist() == pytest.approx([slope, slope, slope, np.log(0.2)])
    edge = torch.tensor([1e-3 - 1e-9, 1e-3 + 1e-9], dtype=torch.float64)
    below, above = poisson_kl_loss(edge, clean[:2])
    assert float(above - below) == pytest.approx(2e-9 * slope, rel=1e-3)  # no step


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

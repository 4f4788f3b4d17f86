"""Mean and spread of sampled exposures: the formula, and the law that the spread has to follow."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from exposurediffusion.physics.conditions import Conditions
from exposurediffusion.process.exposure import Denoise
from exposurediffusion.process.sampling import Sampling, SharedBeginning, last, mean_and_spread
from tests.statistics import BOUND, mean_z

RATIO, ELECTRONS, LIGHT = 100.0, 20.0, 0.4


@pytest.mark.parametrize("count", [2, 3, 9])
def test_it_is_mean_and_standard_deviation(count: int, generator: torch.Generator) -> None:
    images = 3 + torch.randn((count, 1, 4, 6, 7), generator=generator)
    mean, spread = mean_and_spread(iter(images))
    torch.testing.assert_close(mean, images.mean(dim=0))
    torch.testing.assert_close(spread, images.std(dim=0))


def test_of_two_it_is_their_difference_over_the_root_of_two() -> None:
    first, second = torch.tensor([1.0, 2.0, 0.0]), torch.tensor([1.5, 2.0, -4.0])
    mean, spread = mean_and_spread([first, second])
    torch.testing.assert_close(mean, (first + second) / 2)
    torch.testing.assert_close(spread, (first - second).abs() / 2**0.5)
    assert torch.equal(first, torch.tensor([1.0, 2.0, 0.0]))  # what is given is left alone


def test_small_spreads_on_large_means_do_not_cancel() -> None:
    images = [torch.tensor([1000.0 + step]) for step in (0.0, 0.125, 0.25)]
    torch.testing.assert_close(mean_and_spread(images)[1], torch.tensor([0.125]))


@pytest.mark.parametrize("count", [0, 1])
def test_one_image_has_no_spread(count: int) -> None:
    with pytest.raises(ValueError, match=f"two exposures at least, got {count}"):
        mean_and_spread([torch.zeros(2)] * count)


def conditions(ratio: float = RATIO, electrons: float = ELECTRONS) -> Conditions:
    return Conditions(torch.tensor([ratio]), torch.ones(1), torch.ones(1), saturation=ratio * electrons)


def exposures(sampling: Sampling, electrons: float = ELECTRONS, count: int = 30) -> Iterator[Tensor]:
    """The last state of exposures of even light whose first estimate is the truth."""
    capture = torch.full((1, 4, 40, 40), LIGHT)
    for seed in range(count):
        generator = torch.Generator().manual_seed(seed)
        yield last(sampling.run(lambda state, _: state, capture, conditions(electrons=electrons), generator=generator))


def squared_spread_z(electrons: float) -> float:
    """Of the squared spread: the light of r - 1 exposures in r, `x (r - 1) / (r^2 electrons)`."""
    spread = mean_and_spread(exposures(Sampling(steps=1, increment="sampled"), electrons))[1]
    return mean_z(spread.square().numpy(), LIGHT * (RATIO - 1) / (RATIO**2 * ELECTRONS))


def test_spread_is_the_shot_noise_of_the_simulated_light() -> None:
    assert abs(squared_spread_z(ELECTRONS)) < BOUND


def test_mutants_spread_otherwise() -> None:
    assert abs(squared_spread_z(2 * ELECTRONS)) > BOUND
    assert mean_and_spread(exposures(Sampling(steps=1), count=3))[1].max() == 0


def test_a_shared_beginning_saves_evaluations_and_changes_nothing() -> None:
    calls: list[float] = []

    def denoise(state: Tensor, exposure: Tensor) -> Tensor:
        calls.append(float(exposure))
        return state * 0.9 + 0.01 * exposure

    capture = torch.linspace(0, 1, 64).reshape(1, 4, 4, 4)
    sampling = Sampling(steps=2, increment="sampled")

    def result(denoise: Denoise, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return last(sampling.run(denoise, capture, conditions(50.0, 30.0), generator=generator))

    plain = [result(denoise, seed) for seed in range(3)]
    assert len(calls) == 9
    calls.clear()
    shared = SharedBeginning(denoise)
    assert all(torch.equal(result(shared, seed), plain[seed]) for seed in range(3))
    assert len(calls) == 7
    assert calls.count(1.0) == 1

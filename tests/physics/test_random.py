"""Random draws: the same for an image in any batch, and Poisson counts that follow the Poisson law."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from scipy import stats

from exposurediffusion.physics.noise import ELDNoise, NoiseModel, PoissonGaussian, simulate_capture
from exposurediffusion.physics.poisson import poisson
from exposurediffusion.physics.random import fractions, image_sources, rand, randn, rounding
from tests.statistics import BOUND, covariance_z, mean_z


def generators(count: int = 3, seed: int = 40) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed + image) for image in range(count)]


@pytest.mark.parametrize("size", [(3,), (3, 1), (3, 4, 5, 7)])
def test_each_image_draws_from_its_own_generator(size: tuple[int, ...]) -> None:
    rate = 5 * torch.rand(size, generator=torch.Generator().manual_seed(1))
    for law in (rand, randn, fractions, rounding, lambda size, source: poisson(rate[: size[0]], source)):
        together = law(size, generators())
        assert together.shape == size
        first = law((1, *size[1:]), generators()[:1])
        assert torch.equal(together[:1], first)
        assert not torch.equal(law(size, generators(seed=41)), together)


@pytest.mark.parametrize(
    ("model", "planes"),
    [(PoissonGaussian(), 4), (PoissonGaussian(), 9), (ELDNoise(), 4), (ELDNoise(), 9), (ELDNoise(colour_bias=True), 4)],
)
def test_a_batch_of_n_is_n_batches_of_one(model: NoiseModel, planes: int) -> None:
    clean = torch.rand(3, planes, 10, 9, generator=torch.Generator().manual_seed(2))
    ratio = torch.tensor([1.0, 80.0, 300.0])
    noise = model.parameters(3, torch.Generator().manual_seed(3))
    noise = replace(noise, row=noise.row * (ratio > 50))  # an image without row noise beside images that have it
    together = simulate_capture(clean, ratio, noise, generators())
    ones = [slice(i, i + 1) for i in range(3)]
    alone = [simulate_capture(clean[one], ratio[one], noise[one], generators()[one]) for one in ones]
    assert torch.equal(together, torch.cat(alone))
    one = [torch.Generator().manual_seed(40)] * 3
    shared = simulate_capture(clean, ratio, noise, one)  # twin: one generator for all
    assert not torch.equal(shared[1:], together[1:])


@pytest.mark.parametrize("size", [(3, 4, 150, 120), (3, 9, 90, 88)])
def test_threads_and_bands_change_nothing(size: tuple[int, int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Images that are large enough for more than one thread and more than one band."""
    clean, ratio = torch.rand(size, generator=torch.Generator().manual_seed(2)), torch.full((3,), 50.0)
    noise = ELDNoise().parameters(3, torch.Generator().manual_seed(3))
    captures = []
    for threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        captures.append(simulate_capture(clean, ratio, noise, generators()))
        assert abs(mean_z((captures[-1] - clean).mean(dim=(1, 3)), 0.0)) < BOUND
    assert torch.equal(*captures)
    with torch.inference_mode():  # which threads do not inherit
        assert torch.equal(simulate_capture(clean, ratio, noise, generators()), captures[0])
        assert poisson(clean, generators()).is_inference()
    shared = [torch.Generator().manual_seed(40)] * 3  # not at once: it could not be known which image draws first
    again = [simulate_capture(clean, ratio, noise, shared) for shared in (shared, torch.Generator().manual_seed(40))]
    assert torch.equal(*again)


def test_a_generator_is_given_for_each_image_or_for_all() -> None:
    assert image_sources(None, 2) == [None, None]
    with pytest.raises(ValueError, match="3 random generators for a batch of 2 images"):
        rand((2, 4), generators())
    with pytest.raises(ValueError, match="3 random generators for a batch of 2 images"):
        poisson(torch.ones(2, 4), generators())


def test_a_rounding_error_is_uniform(generator: torch.Generator) -> None:
    errors = rounding((1, 200_001), generator)
    assert stats.kstest(errors.numpy().ravel(), stats.uniform(-0.5, 1).cdf).pvalue > 1e-5
    assert errors.abs().max() < 0.5
    for apart in (1, 2, 3, 4):
        assert abs(covariance_z(errors[0, :-apart], errors[0, apart:])) < BOUND


def test_fractions_are_uniform_whole_numbers(generator: torch.Generator) -> None:
    numbers = fractions((1, 200_001), generator)
    assert torch.equal(numbers, numbers.floor())
    assert 0 <= numbers.min() < numbers.max() < 2**24
    assert stats.kstest(numbers.numpy().ravel() / 2**24, stats.uniform().cdf).pvalue > 1e-5
    assert stats.kstest(numbers.numpy().ravel() % 256, stats.randint(0, 256).cdf).statistic < 0.01  # the last bits, too
    assert abs(covariance_z(numbers[0, :-1], numbers[0, 1:])) < BOUND

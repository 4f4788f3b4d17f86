"""Random draws: the same for an image in any batch, and Poisson counts that follow the Poisson law."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from exposurediffusion.physics import random
from exposurediffusion.physics.noise import ELDNoise, NoiseModel, PoissonGaussian, simulate_capture
from exposurediffusion.physics.poisson import poisson
from exposurediffusion.physics.random import fractions, image_sources, rand, randn, rounding
from tests.statistics import BOUND, covariance_z, mean_z, poisson_z, variance_z

RATES = {  # and how many counts tell something
    1e-6: 8_000_000,
    0.01: 500_000,
    0.0624: 8_000_000,
    0.3: 200_000,
    1.0: 200_000,
    3.7: 200_000,
    12.0: 200_000,
    23.99: 400_000,
    24.0: 400_000,
    40.0: 400_000,
    200.0: 200_000,
    5000.0: 400_000,
    1e5: 400_000,
}


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
    shared = [torch.Generator().manual_seed(40)] * 3  # not at once: it could not be told which image draws first
    again = [simulate_capture(clean, ratio, noise, shared) for shared in (shared, torch.Generator().manual_seed(40))]
    assert torch.equal(*again)


def test_a_generator_is_given_for_each_image_or_for_all() -> None:
    assert image_sources(None, 2) == [None, None]
    with pytest.raises(ValueError, match="3 random generators for a batch of 2 images"):
        rand((2, 4), generators())
    with pytest.raises(ValueError, match="3 random generators for a batch of 2 images"):
        poisson(torch.ones(2, 4), generators())


def counts_of(rate: float, count: int | None = None) -> Tensor:
    return poisson(torch.full((count or RATES[rate],), rate), torch.Generator().manual_seed(8)).double()


def largest_z(counts: Tensor, rate: float) -> float:
    """Of mean and variance, and of every count's share where five or more are expected."""
    return max(abs(mean_z(counts, rate)), abs(variance_z(counts, rate)), poisson_z(counts, rate))


@pytest.mark.parametrize("rate", RATES)
def test_counts_follow_the_poisson_law(rate: float) -> None:
    counts = counts_of(rate)
    assert torch.equal(counts, counts.round())
    assert counts.min() >= 0
    assert largest_z(counts, rate) < BOUND


@pytest.mark.parametrize("rate", [0.01, 0.36, 3.74, 23.99])
def test_without_the_rest_of_the_rate_the_law_is_another(rate: float, monkeypatch: pytest.MonkeyPatch) -> None:
    law = random._few
    monkeypatch.setattr(random, "_few", lambda cells, *bits: law(cells.floor(), *bits))
    assert largest_z(counts_of(rate, 2_000_000), rate) > 2 * BOUND


@pytest.mark.parametrize("rate", [24.0, 40.0, 5000.0])
def test_a_quantile_that_is_rounded_to_the_nearest_is_noticed(rate: float, monkeypatch: pytest.MonkeyPatch) -> None:
    law = random._many
    monkeypatch.setattr(random, "_many", lambda rates, bits: law(rates + 0.5, bits))
    assert largest_z(counts_of(rate), rate) > BOUND


def test_the_table_holds_the_law_of_every_rate() -> None:
    """From the entries themselves, without a draw: total variation to 1e-7."""
    rows, columns = int(random.SMALL * random.GRID), random.COUNTS
    entries = random._table().long().reshape(rows, columns)
    stay, alias = (entries // columns + 0.5) / 2**25, entries % columns
    held = stay.double().scatter_add(1, alias, 1 - stay.double()) / columns
    law = stats.poisson.pmf(np.arange(columns), np.arange(rows)[:, None] / random.GRID)
    distance = 0.5 * np.abs(held.numpy() - law).sum(axis=1)
    assert distance.max() < 1e-7
    assert entries[0, 1:].max() == 0  # a rate of 0 has no other count


@pytest.mark.parametrize(("rate", "distance"), [(24.0, 1e-5), (32.0, 1e-5), (50.0, 1e-5)])
def test_the_expansion_is_as_near_to_the_law_as_it_says(rate: float, distance: float) -> None:
    """The word of bits runs through all its values in steps, which leave 5e-6 of doubt."""
    bits = torch.arange(-(2**31), 2**31, 2**9).int()
    counts = torch.cat([random._many(torch.full(part.shape, rate), part) for part in bits.split(2**18)])
    shares = counts.bincount(minlength=120)[:120].double().numpy() / len(counts)
    assert 0.5 * np.abs(shares - stats.poisson.pmf(range(120), rate)).sum() < distance
    shifted = stats.poisson.pmf(range(120), rate + 0.001)  # twin: a rate that is hardly another
    assert 0.5 * np.abs(shares - shifted).sum() > 2 * distance


@pytest.mark.parametrize(("low", "high"), [(0.05, 23.99), (24.0, 99.0), (0.05, 900.0)])
def test_counts_of_mixed_rates_have_their_moments(low: float, high: float, generator: torch.Generator) -> None:
    span = np.log(high / low)
    rate = (low * torch.exp(span * rand((500_000,), generator))).clamp(max=high)
    counts = poisson(rate, generator).double()
    rate = rate.double()
    standard = (counts - rate) / rate.sqrt()
    assert abs(mean_z(standard, 0)) < BOUND
    assert abs(mean_z(standard**2, 1)) < BOUND
    assert abs(mean_z(standard**3 - rate**-0.5, 0)) < BOUND
    assert abs(mean_z(standard**3, 0)) > 2 * BOUND  # twin: a law without skewness
    for apart in (1, 2, 3):
        assert abs(covariance_z(standard[:-apart], standard[apart:])) < BOUND
    assert abs(covariance_z(standard, rate.log())) < BOUND


def test_rates_that_change_places_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates on both sides of 24 are counted apart and put back."""
    rate = torch.tensor([5.0, 20.0, 30.0, 60.0]).repeat(50_000)
    counts = poisson(rate, torch.Generator().manual_seed(8)).reshape(-1, 4)
    assert max(poisson_z(counts[:, i], float(rate[i])) for i in range(4)) < BOUND
    law = random._many
    monkeypatch.setattr(random, "_many", lambda rates, bits: law(rates, bits).flip(0))  # twin: put back elsewhere
    counts = poisson(rate, torch.Generator().manual_seed(8)).reshape(-1, 4)
    assert max(poisson_z(counts[:, i], float(rate[i])) for i in range(4)) > 2 * BOUND


def test_a_rate_of_zero_gives_nothing_and_the_others_are_unmoved(generator: torch.Generator) -> None:
    rate = torch.tensor([0.0, 3.0, 50.0]).repeat(70_000)  # more than one part
    counts = poisson(rate, generator).reshape(-1, 3)
    assert (counts[:, 0] == 0).all()
    assert poisson_z(counts[:, 1], 3.0) < BOUND
    assert poisson_z(counts[:, 2], 50.0) < BOUND
    assert poisson(torch.zeros(2, 0)).shape == (2, 0)


def test_counts_are_a_function_of_rates_and_seed() -> None:
    rate = torch.rand(2, 4, 30, 20, generator=torch.Generator().manual_seed(1)) * 40
    counts = [poisson(rate, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(counts[0], counts[1])
    assert not torch.equal(counts[0], counts[2])
    other = rate.contiguous(memory_format=torch.channels_last).requires_grad_()
    assert torch.equal(poisson(other, torch.Generator().manual_seed(1)), counts[0])


@pytest.mark.parametrize("wrong", [-1.0, float("nan")])
def test_impossible_rates_are_refused_as_by_torch(wrong: float) -> None:
    with pytest.raises(RuntimeError, match="invalid Poisson rate"):
        poisson(torch.tensor([1.0, wrong]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rates_that_the_fast_law_does_not_take_are_counted_too(dtype: torch.dtype, generator: torch.Generator) -> None:
    counts = poisson(torch.full((50_000,), 3e6, dtype=dtype), generator)
    assert counts.dtype == dtype
    assert abs(mean_z(counts, 3e6)) < BOUND
    assert abs(variance_z(counts, 3e6)) < BOUND


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

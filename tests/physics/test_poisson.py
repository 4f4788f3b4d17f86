"""Poisson counts: their law, and what is noticed when it is another."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from exposurediffusion.physics import poisson as module
from exposurediffusion.physics.poisson import poisson
from exposurediffusion.physics.random import rand
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
    law = module._few
    monkeypatch.setattr(module, "_few", lambda cells, *bits: law(cells.floor(), *bits))
    assert largest_z(counts_of(rate, 2_000_000), rate) > 2 * BOUND


@pytest.mark.parametrize("rate", [24.0, 40.0, 5000.0])
def test_a_quantile_that_is_rounded_to_the_nearest_is_noticed(rate: float, monkeypatch: pytest.MonkeyPatch) -> None:
    law = module._many
    monkeypatch.setattr(module, "_many", lambda rates, bits: law(rates + 0.5, bits))
    assert largest_z(counts_of(rate), rate) > BOUND


def test_the_table_holds_the_law_of_every_rate() -> None:
    """From the entries themselves, without a draw: total variation to 1e-7."""
    rows, columns = int(module.SMALL * module.GRID), module.COUNTS
    entries = module._table().long().reshape(rows, columns)
    stay, alias = (entries // columns + 0.5) / 2**25, entries % columns
    held = stay.double().scatter_add(1, alias, 1 - stay.double()) / columns
    law = stats.poisson.pmf(np.arange(columns), np.arange(rows)[:, None] / module.GRID)
    distance = 0.5 * np.abs(held.numpy() - law).sum(axis=1)
    assert distance.max() < 1e-7
    assert entries[0, 1:].max() == 0  # a rate of 0 has no other count


@pytest.mark.parametrize(("rate", "distance"), [(24.0, 1e-5), (32.0, 1e-5), (50.0, 1e-5)])
def test_the_expansion_is_as_near_to_the_law_as_it_says(rate: float, distance: float) -> None:
    """The word of bits runs through all its values in steps, which leave 5e-6 of doubt."""
    bits = torch.arange(-(2**31), 2**31, 2**9).int()
    counts = torch.cat([module._many(torch.full(part.shape, rate), part) for part in bits.split(2**18)])
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
    law = module._many
    monkeypatch.setattr(module, "_many", lambda rates, bits: law(rates, bits).flip(0))  # twin: put back elsewhere
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

"""The Anscombe transformation: unit variance in the light, and an inverse without bias, down to no light at all."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from exposurediffusion.baselines.bm3d import TABLE_END, anscombe, inverse_anscombe
from tests.statistics import BOUND, variance_z

READS = (0.0, 0.3, 0.6, 1.0, 2.5, 10.0)
SIGNALS = (0.0, 0.2, 1.0, 3.0, 12.0, 60.0, 200.0)


def samples(signal: float, read: float, generator: torch.Generator, count: int = 100_000) -> Tensor:
    light = torch.poisson(torch.full((count,), signal, dtype=torch.double), generator=generator)
    return light + read * torch.randn(count, generator=generator, dtype=torch.double)


def algebraic_inverse(stable: Tensor, read: float) -> Tensor:
    return (stable / 2) ** 2 - 0.375 - read**2


def bias_z(inverse, signal: float, read: float, generator: torch.Generator) -> float:
    """Of the inverse of the mean: standard errors between it and the signal."""
    stable = anscombe(samples(signal, read, generator), read)
    mean, error = stable.mean(), stable.std() / len(stable) ** 0.5
    low, middle, high = (float(inverse(mean + shift, read)) for shift in (-error, 0, error))
    return 0.0 if middle == signal else (middle - signal) / max(high - middle, middle - low)


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("signal", SIGNALS)
def test_inverse_is_unbiased(signal: float, read: float, generator: torch.Generator) -> None:
    assert abs(bias_z(inverse_anscombe, signal, read, generator)) < BOUND


@pytest.mark.parametrize("read", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("signal", [1.0, 3.0, 12.0])
def test_algebraic_inverse_is_biased(signal: float, read: float, generator: torch.Generator) -> None:
    """The twin of the test above."""
    assert bias_z(algebraic_inverse, signal, read, generator) < -BOUND


@pytest.mark.parametrize("read", [0.0, 1.0, 4.0])
@pytest.mark.parametrize("signal", [20.0, 200.0, 3000.0])
def test_variance_is_one_with_enough_light(signal: float, read: float, generator: torch.Generator) -> None:
    sample = samples(signal, read, generator)
    assert abs(variance_z(anscombe(sample, read), 1.0)) < BOUND
    assert abs(variance_z(anscombe(sample / 2, read), 1.0)) > BOUND  # twin: the gain doubled


def expected(signal: float, read: float) -> float:
    """`E[f(z)]`, by a substitution that takes the kink out of the root."""
    counts = np.arange(int(signal + 12 * signal**0.5 + 30))
    shift = counts[:, None] + 0.375 + read**2
    if read == 0:
        given_count = 2 * shift[:, 0] ** 0.5
    else:
        start = np.maximum(-10, -shift / read)  # of the root, in deviations of the read noise
        nodes, weights = np.polynomial.legendre.leggauss(300)
        root = np.maximum(10 - start, 0) ** 0.5 * (nodes + 1) / 2
        deviation = start + root**2
        value = 2 * np.maximum(shift + read * deviation, 0) ** 0.5 * np.exp(-(deviation**2) / 2) / (2 * np.pi) ** 0.5
        given_count = (value * 2 * root * np.maximum(10 - start, 0) ** 0.5 / 2) @ weights
    return float(stats.poisson.pmf(counts, signal) @ given_count)


@pytest.mark.parametrize("read", [0.0, 0.6, 1.0, 10.0])
def test_round_trip_of_the_expected_value(read: float) -> None:
    signals = torch.tensor([0.0, 0.01, 3.3, 77.7, TABLE_END - 0.1, TABLE_END + 0.1, 1500.0], dtype=torch.double)
    means = torch.tensor([expected(float(signal), read) for signal in signals], dtype=torch.double)
    torch.testing.assert_close(inverse_anscombe(means, read), signals, rtol=0, atol=3e-4)


@pytest.mark.parametrize("read", [0.0, 1.0, 10.0])
def test_inverse_rises_and_is_never_negative(read: float) -> None:
    stable = torch.linspace(-3, 60 + 2 * read, 5001, dtype=torch.double)
    signal = inverse_anscombe(stable, read)
    assert (signal >= 0).all()
    rising = signal > 0
    assert (signal[rising].diff() > 0).all()
    assert rising.any()
    assert not rising[0]


def test_shape_and_type_are_kept() -> None:
    values = torch.rand(2, 3, 4)
    assert anscombe(values, 1.0).shape == inverse_anscombe(values, 1.0).shape == values.shape
    assert inverse_anscombe(values, 1.0).dtype == torch.float32
    assert anscombe(torch.tensor([-100.0]), 1.0).item() == 0

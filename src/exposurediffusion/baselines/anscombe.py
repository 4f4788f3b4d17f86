"""The generalised Anscombe transformation of Poisson-Gaussian data, and its exact unbiased inverse.

M. Makitalo, A. Foi, "Optimal inversion of the generalized Anscombe transformation for Poisson-Gaussian noise", IEEE
TIP 22(1), 2013. Everything here is in electrons: a sample is `Poisson(signal) + N(0, read^2)`.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

TABLE_END = 256.0  # electrons: from here on the asymptotic inverse errs by less than 0.001 electrons
_ROOTS = 2049  # table entries, evenly spaced in the root of the signal
_DEVIATIONS = np.linspace(-9, 9, 2305)  # quadrature nodes of the read noise; so many, because the root has a kink


def anscombe(sample: Float[Tensor, "*s"], read: float) -> Float[Tensor, "*s"]:
    """`f(z) = 2 sqrt(z + 3/8 + read^2)`, 0 where the root has no real value: noise of about unit variance.

    Args:
        sample: electrons; may be negative.
        read: standard deviation of the Gaussian noise, electrons.
    """
    return 2 * (sample + (0.375 + read**2)).clamp(min=0).sqrt()


def inverse_anscombe(stable: Float[Tensor, "*s"], read: float) -> Float[Tensor, "*s"]:
    """The signal whose transformed samples have the mean `stable`: the exact unbiased inverse.

    The algebraic inverse of the mean of `f` is not the mean signal, because `f` is not linear; in the dark, where the
    difference matters, the inverse is read off a table of `E[f(z)]`.

    Args:
        stable: denoised values of `anscombe`.
        read: as given to `anscombe`.

    Returns:
        Electrons, not below 0.
    """
    mean, signal = _table(float(read))
    values = stable.detach().cpu().numpy()
    inner = torch.as_tensor(np.interp(values, mean, signal)).to(stable)
    return torch.where(stable < mean[-1], inner, (stable / 2) ** 2 - 0.125 - read**2)


@lru_cache(maxsize=32)
def _table(read: float) -> tuple[np.ndarray, np.ndarray]:
    """`E[f(z)]` at signals from 0 to `TABLE_END` electrons, and these signals."""
    signal = np.linspace(0, TABLE_END**0.5, _ROOTS) ** 2
    count = np.arange(int(TABLE_END + 10 * TABLE_END**0.5))
    weight = np.exp(-(_DEVIATIONS**2) / 2)
    sample = torch.from_numpy(count[:, None] + read * _DEVIATIONS)
    of_count = anscombe(sample, read).numpy() @ (weight / weight.sum())  # the mean over the read noise
    factorial = np.concatenate([[0.0], np.cumsum(np.log(count[1:]))])
    with np.errstate(divide="ignore", invalid="ignore"):  # log 0
        power = np.where(count == 0, 0.0, count * np.log(signal[:, None]))
    return np.exp(power - signal[:, None] - factorial) @ of_count, signal

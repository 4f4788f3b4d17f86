"""Denoisers without training: BM3D, plain and behind a variance-stabilising transformation."""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from types import ModuleType

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from exposurediffusion.models.denoiser import noise_map
from exposurediffusion.physics.conditions import Conditions
from exposurediffusion.physics.parameters import NoiseParameters
from exposurediffusion.physics.sensor import electrons_per_unit

TABLE_END = 256.0  # electrons: from here on the asymptotic inverse errs by less than 0.001 electrons

_ROOTS = 2049  # table entries, evenly spaced in the root of the signal

_DEVIATIONS = np.linspace(-9, 9, 2305)  # quadrature nodes of the read noise; so many, because the root has a kink

_SMALLEST = 16  # sites a side: the library ends the whole program at a plane of one block (8x8)


def import_extra(module: str) -> ModuleType:
    """A library of the extra `baselines`.

    Raises:
        ValueError: it, or something that it needs, is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"this baseline needs the library {error.name}: pip install exposurediffusion[baselines]"
        ) from error


def denoise_bm3d(capture: Float[Tensor, "c h w"], deviation: Float[Tensor, "c"] | float) -> Float[Tensor, "c h w"]:
    """BM3D (Dabov et al., 2007) of each plane, by the library `bm3d` (extra `baselines`).

    Args:
        capture: at reference brightness.
        deviation: standard deviation of the noise of each plane, at reference brightness; BM3D takes it as the same
            everywhere in a plane. `plane_deviation` computes it.

    Returns:
        float32, on the host.

    Raises:
        ValueError: the extra is not installed.
    """
    bm3d = import_extra("bm3d").bm3d
    sigma = np.broadcast_to(np.asarray(deviation, dtype=float), (len(capture),))
    height, width = capture.shape[-2:]
    missing = [(0, max(0, _SMALLEST - size)) for size in (height, width)]
    planes = [
        bm3d(np.pad(plane, missing, mode="symmetric"), level)[:height, :width]
        for plane, level in zip(capture.double().cpu().numpy(), sigma, strict=True)
    ]
    return torch.from_numpy(np.stack(planes)).float()


def denoise_anscombe_bm3d(
    capture: Float[Tensor, "c h w"], ratio: float, noise: NoiseParameters
) -> Float[Tensor, "c h w"]:
    """A-BM3D: BM3D of the generalised Anscombe transformation of each plane, exactly inverted (Makitalo & Foi, 2013).

    Args:
        capture: at reference brightness; not clipped at 0, which would bias the dark.
        ratio: amplification of the capture.
        noise: of the capture (a batch of one): known, or from `estimate_noise` of its frame. Row noise and rounding
            count as read noise, all of it as Gaussian.

    Returns:
        float32, on the host, not below 0.

    Raises:
        ValueError: the extra is not installed.
    """
    gain = float(noise.gain)
    electrons = float(electrons_per_unit(ratio, gain, noise.saturation))
    read = float(noise.read_variance) ** 0.5 / gain
    stable = denoise_bm3d(anscombe(capture.cpu().double() * electrons, read), 1.0)
    return (inverse_anscombe(stable.double(), read) / electrons).float()


def plane_deviation(capture: Float[Tensor, "c h w"], ratio: float, noise: NoiseParameters) -> Float[Tensor, "c"]:
    """The standard deviation of the noise of each plane, at reference brightness: at its mean signal.

    Args:
        capture, ratio, noise: see `denoise_anscombe_bm3d`.
    """
    mean = capture.clamp(max=1).mean(dim=(1, 2), keepdim=True)  # what the reference clips has no noise worth knowing
    known = {"ratio": torch.tensor([float(ratio)]), "gain": noise.gain, "read_variance": noise.read_variance}
    on_device = {name: value.to(capture) for name, value in known.items()}
    conditions = Conditions(**on_device, saturation=noise.saturation)
    return noise_map(mean[None], mean.new_ones(1), conditions).flatten()


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

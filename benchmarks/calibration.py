"""Whether the spread of several sampled exposures predicts the error: calibration by pixels of like spread."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from captures import SimulatedCapture
from jaxtyping import Float
from scipy.stats import spearmanr
from torch import Tensor
from torch.nn import functional as F

from exposurediffusion.process.sampling import mean_and_spread
from exposurediffusion.weights.file import TrainedDenoiser

BINS = 20


@dataclass(frozen=True)
class Calibration:
    """True error against spread.

    Attributes:
        spread: root mean square of the spreads of each bin, from the smallest to the largest, (bins).
        error: root mean square of its errors, (bins).
        count: its pixels, (bins).
        factor: by which spreads have to be multiplied so that their mean square is that of the errors.
        rank: Spearman's correlation of spread and absolute error, pixel by pixel. Errors are draws, not deviations, so
            a perfect spread does not reach 1: see `attainable`.
    """

    spread: np.ndarray
    error: np.ndarray
    count: np.ndarray
    factor: float
    rank: float


def calibrate(errors: np.ndarray, spreads: np.ndarray, bins: int = BINS) -> Calibration:
    """Compare errors with the spreads that foretell them.

    Args:
        errors: estimate minus truth, any shape.
        spreads: standard deviations, the same shape.
        bins: of spread, equally filled.

    Raises:
        ValueError: other shapes, fewer pixels than bins, or no spread at all.
    """
    if errors.shape != spreads.shape or errors.size < bins:
        raise ValueError(f"errors {errors.shape} and spreads {spreads.shape} are not enough pairs for {bins} bins")
    errors, spreads = errors.ravel().astype(np.float64), spreads.ravel().astype(np.float64)
    if not spreads.any():
        raise ValueError("all spreads are 0: the exposures were not sampled")
    parts = np.array_split(np.argsort(spreads, kind="stable"), bins)
    return Calibration(
        spread=np.array([_rms(spreads[part]) for part in parts]),
        error=np.array([_rms(errors[part]) for part in parts]),
        count=np.array([len(part) for part in parts]),
        factor=_rms(errors) / _rms(spreads),
        rank=float(spearmanr(spreads, np.abs(errors)).statistic),  # pyright: ignore[reportAttributeAccessIssue]
    )


def attainable(spreads: np.ndarray, seed: int = 0) -> float:
    """The rank correlation that these spreads would have with Gaussian errors of exactly these deviations."""
    drawn = np.random.default_rng(seed).standard_normal(spreads.size) * spreads.ravel()
    return float(spearmanr(spreads.ravel(), np.abs(drawn)).statistic)  # pyright: ignore[reportAttributeAccessIssue]


def sampled_estimate(
    model: TrainedDenoiser, case: SimulatedCapture, samples: int, steps: int, seed: int = 0
) -> tuple[Float[Tensor, "1 c h w"], Float[Tensor, "1 c h w"]]:
    """Mean and spread of several sampled exposures of a capture, as `expose enhance --samples` makes them."""
    denoise = case.denoiser(model)
    sampling = replace(model.card.sampling, increment="sampled", steps=steps)
    return mean_and_spread(case.expose(denoise, sampling, seed + n) for n in range(samples))


def blocks(values: Float[Tensor, "1 c h w"], side: int = 8) -> np.ndarray:
    """Root mean square of each block of `side` x `side` packed pixels of each plane."""
    return F.avg_pool2d(values.square(), side).sqrt().numpy()


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))

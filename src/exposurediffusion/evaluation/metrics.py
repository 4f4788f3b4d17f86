"""How numbers are taken: PSNR and SSIM in raw space, and the illuminance correction of the published protocol."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from skimage.metrics import structural_similarity
from torch import Tensor

RANGE = 255.0
"""Data range of the published metrics; images in [0, 1] are multiplied by it."""


def illuminance_correction(
    estimate: Float[Tensor, "b c h w"], target: Float[Tensor, "b c h w"]
) -> Float[Tensor, "b c h w"]:
    """Multiply each clipped estimate by the scalar that minimises its squared error against the target.

    Only samples at which the target is not saturated (< 1) count. An estimate that is black there stays as it is.

    Returns:
        The scaled estimate, clipped to [0, 1].
    """
    estimate = estimate.clamp(0, 1)
    counts = (target < 1).to(estimate.dtype)
    power = (estimate.square() * counts).sum(dim=(1, 2, 3), keepdim=True)
    scale = (estimate * target * counts).sum(dim=(1, 2, 3), keepdim=True) / power.clamp(min=1e-12)
    return (estimate * torch.where(power > 0, scale, 1.0)).clamp(0, 1)


def psnr(estimate: Float[Tensor, "c h w"], target: Float[Tensor, "c h w"]) -> float:
    """Peak signal-to-noise ratio in dB of images in [0, 1]; infinite where they are equal."""
    error = float((estimate.double() - target.double()).square().mean())
    return float("inf") if error == 0 else -10 * float(np.log10(error))


def ssim(estimate: Float[Tensor, "c h w"], target: Float[Tensor, "c h w"]) -> float:
    """Structural similarity of images in [0, 1]: 7x7 uniform window, per plane, then the mean."""
    first, second = (image.permute(1, 2, 0).double().numpy() * RANGE for image in (estimate, target))
    return float(structural_similarity(first, second, data_range=RANGE, channel_axis=-1))  # pyright: ignore[reportArgumentType]

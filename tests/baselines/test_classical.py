"""BM3D: it denoises, plane by plane, each with its own deviation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from exposurediffusion.baselines.classical import denoise_bm3d
from exposurediffusion.learn.evaluation import psnr

pytest.importorskip("bm3d")


def scene(side: int = 24) -> Tensor:
    """Two smooth planes with an edge."""
    y, x = torch.meshgrid(torch.linspace(0, 1, side), torch.linspace(0, 1, side), indexing="ij")
    edge = (x + 0.3 * y > 0.6).float()
    return torch.stack([0.2 + 0.5 * edge + 0.1 * y, 0.7 - 0.4 * edge])


def test_denoises_by_several_decibels_and_keeps_the_shape(generator: torch.Generator) -> None:
    clean = scene()[:, :20]
    capture = clean + 0.1 * torch.randn(clean.shape, generator=generator)
    denoised = denoise_bm3d(capture, 0.1)
    assert denoised.shape == clean.shape
    assert denoised.dtype == torch.float32
    assert psnr(denoised, clean) > psnr(capture, clean) + 5


def test_each_plane_has_its_deviation(generator: torch.Generator) -> None:
    clean = scene()
    deviation = torch.tensor([0.02, 0.2])
    capture = clean + deviation[:, None, None] * torch.randn(clean.shape, generator=generator)
    denoised = denoise_bm3d(capture, deviation)
    for plane in range(2):
        assert psnr(denoised[plane : plane + 1], clean[plane : plane + 1]) > 4 + psnr(
            capture[plane : plane + 1], clean[plane : plane + 1]
        )
        alone = denoise_bm3d(capture[plane : plane + 1], float(deviation[plane]))
        torch.testing.assert_close(alone[0], denoised[plane], rtol=0, atol=1e-3)  # its threads round differently
    swapped = denoise_bm3d(capture, deviation.flip(0))  # twin: blurs the one, leaves the other noisy
    for plane in range(2):
        assert psnr(swapped[plane : plane + 1], clean[plane : plane + 1]) < psnr(
            denoised[plane : plane + 1], clean[plane : plane + 1]
        )

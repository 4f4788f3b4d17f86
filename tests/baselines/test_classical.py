"""BM3D, plain and behind the Anscombe transformation: it denoises, plane by plane, and keeps the brightness."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import Tensor

from exposurediffusion.baselines.classical import denoise_anscombe_bm3d, denoise_bm3d, plane_deviation
from exposurediffusion.learn.evaluation import psnr
from exposurediffusion.physics.profile import NoiseParameters
from tests.statistics import BOUND


def scene(side: int = 24) -> Tensor:
    """Two smooth planes with an edge."""
    y, x = torch.meshgrid(torch.linspace(0, 1, side), torch.linspace(0, 1, side), indexing="ij")
    edge = (x + 0.3 * y > 0.6).float()
    return torch.stack([0.2 + 0.5 * edge + 0.1 * y, 0.7 - 0.4 * edge])


def dark_capture(clean: Tensor, ratio: float, noise: NoiseParameters, generator: torch.Generator) -> Tensor:
    electrons = noise.saturation / (ratio * noise.gain)
    light = torch.poisson(clean * electrons, generator=generator)
    return (light + noise.read / noise.gain * torch.randn(clean.shape, generator=generator)) / electrons


def test_denoises_by_several_decibels_and_keeps_the_shape(generator: torch.Generator) -> None:
    pytest.importorskip("bm3d")
    clean = scene()[:, :20]
    capture = clean + 0.1 * torch.randn(clean.shape, generator=generator)
    denoised = denoise_bm3d(capture, 0.1)
    assert denoised.shape == clean.shape
    assert denoised.dtype == torch.float32
    assert psnr(denoised, clean) > psnr(capture, clean) + 5


def test_each_plane_has_its_deviation(generator: torch.Generator) -> None:
    pytest.importorskip("bm3d")
    clean = scene()
    deviation = torch.tensor([0.02, 0.2])
    capture = clean + deviation[:, None, None] * torch.randn(clean.shape, generator=generator)
    denoised = denoise_bm3d(capture, deviation)
    for plane in range(2):
        assert psnr(denoised[plane : plane + 1], clean[plane : plane + 1]) > 4 + psnr(
            capture[plane : plane + 1], clean[plane : plane + 1]
        )
    alone = denoise_bm3d(capture[1:], float(deviation[1]))
    torch.testing.assert_close(alone[0], denoised[1], rtol=0, atol=1e-3)  # its threads round differently
    swapped = denoise_bm3d(capture, deviation.flip(0))  # twin: blurs the one, leaves the other noisy
    for plane in range(2):
        assert psnr(swapped[plane : plane + 1], clean[plane : plane + 1]) < psnr(
            denoised[plane : plane + 1], clean[plane : plane + 1]
        )


@pytest.mark.parametrize("shape", [(8, 8), (1, 30)])
def test_planes_smaller_than_a_block(shape: tuple[int, int], generator: torch.Generator) -> None:
    pytest.importorskip("bm3d")
    capture = 0.5 + 0.1 * torch.randn(1, *shape, generator=generator)
    denoised = denoise_bm3d(capture, 0.1)
    assert denoised.shape == capture.shape
    assert denoised.isfinite().all()


def test_anscombe_serves_light_and_dark_alike(generator: torch.Generator) -> None:
    """Where light and so noise vary over the frame, one deviation is wrong nearly everywhere."""
    pytest.importorskip("bm3d")
    ramp = torch.linspace(0, 1, 48) ** 3
    clean = ((0.003 + ramp)[:, None] * (1 - 0.5 * (torch.arange(48) // 12 % 2))).expand(1, 48, 48).clamp(max=1)
    noise = NoiseParameters.gaussian(8.0, 4.0)
    capture = dark_capture(clean, 100.0, noise, generator)
    stable = denoise_anscombe_bm3d(capture, 100.0, noise)
    plain = denoise_bm3d(capture, plane_deviation(capture, 100.0, noise))
    assert psnr(stable.clamp(0, 1), clean) > psnr(plain.clamp(0, 1), clean) + 0.3
    assert psnr(stable.clamp(0, 1), clean) > psnr(capture.clamp(0, 1), clean) + 5
    assert stable.dtype == torch.float32


def test_anscombe_keeps_the_brightness_of_the_dark(generator: torch.Generator) -> None:
    pytest.importorskip("bm3d")
    noise = NoiseParameters.gaussian(5.0, 5.0)
    electron = float(noise.gain) * 100 / noise.saturation  # at reference brightness
    clean = torch.full((1, 96, 96), 3 * electron)
    stable = denoise_anscombe_bm3d(dark_capture(clean, 100.0, noise, generator), 100.0, noise)
    error = float(plane_deviation(clean, 100.0, noise)) / 96
    assert abs(float(stable.mean() - clean.mean())) < BOUND * error
    assert electron / 4 > 2 * BOUND * error  # the twin, the algebraic inverse, lacks a quarter of an electron


def test_deviation_of_a_plane(generator: torch.Generator) -> None:
    clean = torch.tensor([0.0, 0.1, 0.5])[:, None, None].expand(3, 128, 128)
    noise = NoiseParameters.gaussian(4.0, 6.0)
    capture = dark_capture(clean, 200.0, noise, generator)
    told = plane_deviation(capture, 200.0, noise)
    torch.testing.assert_close(told, capture.std(dim=(1, 2)), rtol=0.03, atol=0)


@pytest.mark.parametrize("missing", ["bm3d", "bm4d"])
def test_a_missing_library_is_named_with_the_remedy(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "bm3d", raising=False)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ValueError, match=rf"{missing}: pip install exposurediffusion\[baselines\]"):
        denoise_bm3d(torch.zeros(1, 16, 16), 0.1)

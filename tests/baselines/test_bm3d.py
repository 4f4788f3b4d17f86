"""BM3D, plain and behind the Anscombe transformation: it denoises, plane by plane, and keeps the brightness."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

from exposurediffusion.analysis.estimation import estimate_noise
from exposurediffusion.baselines.bm3d import denoise_anscombe_bm3d, denoise_bm3d, plane_deviation
from exposurediffusion.evaluation.metrics import psnr
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.physics.parameters import NoiseParameters
from exposurediffusion.physics.sensor import RawFrame, Sensor
from tests.statistics import BOUND, variance_z


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


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[tuple[np.ndarray, float]]:
    """The planes and deviations that BM3D is given; here it leaves them as they are."""
    calls: list[tuple[np.ndarray, float]] = []

    def denoise(plane: np.ndarray, deviation: float) -> np.ndarray:
        calls.append((plane, deviation))
        return plane

    library = ModuleType("bm3d")
    library.bm3d = denoise
    monkeypatch.setitem(sys.modules, "bm3d", library)
    return calls


@pytest.mark.parametrize(("gain", "read"), [(2.0, 20.0), (5.0, 5.0), (0.5, 0.1)])
def test_anscombe_gives_bm3d_noise_of_the_deviation_that_it_tells(
    gain: float, read: float, given: list[tuple[np.ndarray, float]], generator: torch.Generator
) -> None:
    """One, in each plane, whatever its light and whichever noise rules."""
    noise = NoiseParameters.gaussian(gain, read)
    electron = gain * 100 / noise.saturation  # at reference brightness
    clean = (torch.tensor([60.0, 300.0]) * electron)[:, None, None].expand(2, 128, 128)
    capture = dark_capture(clean, 100.0, noise, generator)
    found = denoise_anscombe_bm3d(capture, 100.0, noise)
    assert [deviation for _, deviation in given] == [1.0, 1.0]
    for plane, _ in given:
        assert abs(variance_z(plane, 1.0)) < BOUND
    torch.testing.assert_close(found - found.mean(), capture - capture.mean(), rtol=0, atol=0.2 * float(capture.std()))
    mistaken = NoiseParameters.gaussian(2 * gain, 2 * read)  # twin: another camera
    denoise_anscombe_bm3d(capture, 100.0, mistaken)
    for plane, _ in given[2:]:
        assert abs(variance_z(plane, 1.0)) > BOUND


def test_bm3d_gets_the_planes_one_by_one(given: list[tuple[np.ndarray, float]], generator: torch.Generator) -> None:
    capture = torch.rand(4, 20, 24, generator=generator)
    assert torch.equal(denoise_bm3d(capture, torch.tensor([0.1, 0.2, 0.3, 0.4])), capture)
    for (plane, deviation), image, level in zip(given, capture, (0.1, 0.2, 0.3, 0.4), strict=True):
        np.testing.assert_array_equal(plane, image)
        assert deviation == pytest.approx(level)


def test_noise_estimated_from_the_frame_serves_nearly_as_well_as_known(generator: torch.Generator) -> None:
    """Over three captures: BM3D answers to a few per cent of the noise, by which an estimate differs by chance."""
    pytest.importorskip("bm3d")
    sensor, ratio, known = Sensor.uniform(CFA("RGGB"), 512, 512 + 15583), 50.0, NoiseParameters.gaussian(3.0, 6.0)
    light = torch.linspace(0.05, 0.9, 192).expand(192, 192) * (0.6 + 0.4 * (torch.arange(192)[:, None] // 32 % 2))
    clean = torch.stack([0.5 * light, light, 0.4 * light, light])
    part = (slice(1, 2), slice(12, 52), slice(72, 112))

    def figures(noise: NoiseParameters, capture: torch.Tensor) -> list[float]:
        of_plane = plane_deviation(capture, ratio, noise)
        estimates = denoise_anscombe_bm3d(capture, ratio, noise), denoise_bm3d(capture, of_plane)
        return [psnr(estimate.clamp(0, 1), clean[part]) for estimate in (*estimates, capture)]

    with_known, with_estimated, captures = [], [], []
    for _ in range(3):
        frame = RawFrame(np.zeros((384, 384), np.uint16), sensor)
        frame = frame.with_planes(dark_capture(clean, ratio, known, generator) / ratio)
        captures.append((ratio * frame.planes)[part])
        with_known.append(figures(known, captures[-1]))
        with_estimated.append(figures(estimate_noise(frame), captures[-1]))
    known_psnr, estimated_psnr = (np.mean(x, axis=0) for x in (with_known, with_estimated))
    assert (estimated_psnr[:2] > known_psnr[:2] - 0.3).all()
    assert (estimated_psnr[:2] > known_psnr[2] + 5).all()
    wrong = NoiseParameters.gaussian(16 * float(known.gain), 4 * float(known.read))  # twin: four times the noise
    assert (np.array(figures(wrong, captures[0]))[:2] < known_psnr[:2] - 0.3).all()


def test_deviation_of_a_plane(generator: torch.Generator) -> None:
    clean = torch.tensor([0.0, 0.1, 0.5])[:, None, None].expand(3, 128, 128)
    noise = NoiseParameters.gaussian(4.0, 6.0)
    capture = dark_capture(clean, 200.0, noise, generator)
    deviation = plane_deviation(capture, 200.0, noise)
    torch.testing.assert_close(deviation, capture.std(dim=(1, 2)), rtol=0.03, atol=0)


@pytest.mark.parametrize("missing", ["bm3d", "bm4d"])
def test_a_missing_library_is_named_with_the_remedy(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "bm3d", raising=False)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ValueError, match=rf"{missing}: pip install exposurediffusion\[baselines\]"):
        denoise_bm3d(torch.zeros(1, 16, 16), 0.1)

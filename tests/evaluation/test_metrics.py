"""Metrics: the authors' figures, an independent least squares, and the edges."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch

from exposurediffusion.evaluation.metrics import illuminance_correction, psnr, ssim
from tests.golden.weights import golden

GOLDEN = golden()
ESTIMATE, TARGET, CORRECTED = (torch.from_numpy(GOLDEN[f"metric.{key}"]) for key in ("estimate", "target", "corrected"))


def test_golden_correction() -> None:
    corrected = illuminance_correction(ESTIMATE[None], TARGET[None])[0]
    assert (corrected - CORRECTED).abs().max() < 1e-5
    assert (ESTIMATE - CORRECTED).abs().max() > 1e-2  # it does something
    assert (TARGET >= 1).any()  # and there is something not to count


def test_golden_metrics() -> None:
    assert psnr(CORRECTED, TARGET) == pytest.approx(float(GOLDEN["metric.psnr"]), abs=1e-5)
    assert ssim(CORRECTED, TARGET) == pytest.approx(float(GOLDEN["metric.ssim"]), abs=1e-5)
    corrected = illuminance_correction(ESTIMATE[None], TARGET[None])[0]
    assert psnr(corrected, TARGET) == pytest.approx(float(GOLDEN["metric.psnr"]), abs=1e-4)
    assert abs(psnr(ESTIMATE, TARGET) - float(GOLDEN["metric.psnr"])) > 0.1  # twin: without correction


def test_correction_is_the_least_squares_of_each_image(generator: torch.Generator) -> None:
    target = 1.3 * torch.rand((3, 4, 20, 24), generator=generator)
    factors = torch.tensor([0.5, 0.9, 1.1]).reshape(3, 1, 1, 1)
    noise = 0.1 * torch.randn(target.shape, generator=generator)
    estimate = target * factors + noise
    corrected = illuminance_correction(estimate, target.clamp(max=1))
    for got, first, second in zip(corrected, estimate, target.clamp(max=1), strict=True):
        clipped, reference = first.clamp(0, 1).double().numpy(), second.double().numpy()
        used = reference < 1
        scale = np.linalg.lstsq(clipped[used][:, None], reference[used], rcond=None)[0][0]
        np.testing.assert_allclose(got.numpy(), (clipped * scale).clip(0, 1), atol=1e-5)
        everywhere = np.linalg.lstsq(clipped.reshape(-1, 1), reference.ravel(), rcond=None)[0][0]
        assert abs(everywhere - scale) > 1e-3  # twin: all samples


def test_saturated_samples_do_not_count(generator: torch.Generator) -> None:
    target = 0.8 * torch.rand((1, 4, 16, 16), generator=generator)
    target[..., :4] = 1.0
    estimate = 0.5 * target
    reference = illuminance_correction(estimate, target)
    torch.testing.assert_close(reference[..., 4:], target[..., 4:])
    estimate[..., :4] = torch.rand((1, 4, 16, 4), generator=generator)  # whatever is said there
    torch.testing.assert_close(illuminance_correction(estimate, target)[..., 4:], target[..., 4:])


def test_nothing_to_measure_leaves_the_estimate(generator: torch.Generator) -> None:
    target = torch.rand((1, 4, 8, 8), generator=generator)
    black = torch.zeros_like(target)
    assert torch.equal(illuminance_correction(black, target), black)
    assert torch.equal(illuminance_correction(black - 1, target), black)
    assert torch.equal(illuminance_correction(target, torch.ones_like(target)), target)
    both = illuminance_correction(torch.cat([black, target / 2]), torch.cat([target, target]))
    torch.testing.assert_close(both, torch.cat([black, target]))


def test_estimate_is_clipped_before_and_after() -> None:
    target = torch.full((1, 4, 8, 8), 0.9)
    estimate = torch.full_like(target, 0.9)
    estimate[..., 0] = 7.0
    corrected = illuminance_correction(estimate, target)
    scale = 0.9 * (7 * 0.9 + 1) / (7 * 0.9**2 + 1)
    torch.testing.assert_close(corrected[..., 1:], torch.full((1, 4, 8, 7), 0.9 * scale))
    assert illuminance_correction(torch.rand(1, 4, 8, 8), torch.full((1, 4, 8, 8), 0.999)).max() <= 1


@pytest.mark.parametrize("error", [0.5, 0.1, 0.001])
def test_psnr_of_a_constant_error(error: float) -> None:
    image = torch.full((4, 8, 8), 0.25)
    assert psnr(image + error, image) == pytest.approx(-20 * math.log10(error), abs=1e-3)
    assert psnr(image, image + error) == psnr(image + error, image)


def test_equal_images_are_perfect_without_warnings(generator: torch.Generator) -> None:
    image = torch.rand((4, 8, 8), generator=generator)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert psnr(image, image.clone()) == math.inf
        assert ssim(image, image.clone()) == pytest.approx(1.0)


def test_ssim_is_the_mean_of_the_planes(generator: torch.Generator) -> None:
    target = torch.rand((4, 16, 16), generator=generator)
    estimate = target + 0.2 * torch.rand(target.shape, generator=generator)
    estimate[0] = target[0]
    each = [ssim(estimate[i : i + 1], target[i : i + 1]) for i in range(4)]
    assert each[0] == pytest.approx(1.0)
    assert ssim(estimate, target) == pytest.approx(sum(each) / 4)


def test_ssim_is_its_definition_with_a_uniform_window(generator: torch.Generator) -> None:
    """Wang et al. (2004) at each whole 7x7 window, sample covariances."""
    x, y = 255 * torch.rand((2, 12, 12), generator=generator).double().numpy()
    windows = [np.lib.stride_tricks.sliding_window_view(image, (7, 7)).reshape(36, 49) for image in (x, y)]
    mean_x, mean_y = (w.mean(1) for w in windows)
    covariance = ((windows[0] - mean_x[:, None]) * (windows[1] - mean_y[:, None])).sum(1) / 48
    a, b = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    value = (2 * mean_x * mean_y + a) * (2 * covariance + b)
    value /= (mean_x**2 + mean_y**2 + a) * (windows[0].var(1, ddof=1) + windows[1].var(1, ddof=1) + b)
    first, second = (torch.from_numpy(image / 255)[None].float() for image in (x, y))
    assert ssim(first, second) == pytest.approx(value.mean(), abs=1e-5)

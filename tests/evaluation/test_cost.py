"""Parameters, multiply-adds and time of a network, against the paper's Tables 5b and 7b."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
from torch import nn

from exposurediffusion.baselines.diffusion import DIFFUSION_SIZES, ConditionalDiffusion, DiffusionConfig
from exposurediffusion.evaluation.cost import Cost, cost, multiply_adds, parameters, seconds
from exposurediffusion.models.denoiser import DenoiserConfig, ExposureDenoiser
from exposurediffusion.models.nafnet import GlobalPool, pooling_recorded
from exposurediffusion.models.xtrans import BayerOnXTrans
from exposurediffusion.physics.conditions import Conditions
from exposurediffusion.training.presets import PRESETS

TINY = DenoiserConfig("nafnet", {"width": 4})


def denoiser(preset: str) -> ExposureDenoiser:
    with torch.device("meta"):
        return ExposureDenoiser(PRESETS[preset].recipe.denoiser)


@pytest.mark.parametrize(
    ("preset", "count", "ours", "published"),
    [
        ("eld-unet-exposure", 7_761_801, 48.73e9, 55.17e9),
        ("eld-unet-feedforward", 7_760_484, 48.39e9, 54.83e9),  # of the paper's footnote 4
        ("eld-nafnet1-exposure", 4_793, 1.120e9, 1.124e9),
        ("eld-nafnet2-exposure", 6_897_865, 15.28e9, 15.32e9),
    ],
)
def test_networks_cost_what_the_paper_says(preset: str, count: int, ours: float, published: float) -> None:
    model = denoiser(preset)
    assert parameters(model) == count
    assert multiply_adds(model) == pytest.approx(ours, rel=1e-3)
    assert multiply_adds(model, as_published=True) == pytest.approx(published, rel=0.005)


@pytest.mark.parametrize(
    ("size", "count", "millions", "published"),
    [("large", 8_557_700, 8.619, 367.15e9), ("small", 1_460_068, 1.472, 63.07e9)],
)
def test_diffusion_models_cost_what_table_7_says(size: str, count: int, millions: float, published: float) -> None:
    pytest.importorskip("diffusers")
    with torch.device("meta"):
        model = ConditionalDiffusion(DIFFUSION_SIZES[size])
    assert parameters(model) == count
    assert parameters(model) / 1e6 == pytest.approx(millions, rel=0.02)
    assert multiply_adds(model) == multiply_adds(model, as_published=True) == pytest.approx(published, rel=0.005)


def by_hand(config: DenoiserConfig, size: int) -> int:
    """Multiply-adds of NAFNet-1: kernels at each pixel, but for the attention, which is on one vector."""
    width, inputs, outputs = config.options["width"], config.in_channels, config.out_channels
    pointwise = width * 2 * width + width * width + width * 2 * width + width * width
    return size**2 * (9 * inputs * width + 9 * 2 * width + pointwise + 9 * width * outputs) + width * width


@pytest.mark.parametrize("planes", [4, 9])
@pytest.mark.parametrize(
    "options",
    [{}, {"photons": False}, {"origin": True, "noise_map": True}, {"photons": False, "adaptive_residual": False}],
)
def test_multiply_adds_of_any_configuration(planes: int, options: dict[str, Any]) -> None:
    config = DenoiserConfig("nafnet", {"width": 4}, planes=planes, **options)
    assert multiply_adds(ExposureDenoiser(config), 64) == by_hand(config, 64)


def test_bayer_weights_on_xtrans_planes_are_evaluated_thrice() -> None:
    model = ExposureDenoiser(TINY)
    assert multiply_adds(BayerOnXTrans(model), 32) == 3 * multiply_adds(model, 32)


def test_transposed_kernels_may_be_counted_at_each_output_site() -> None:
    model = ExposureDenoiser(DenoiserConfig("unet", {"width": 4, "depth": 1}))
    transposed = [module for module in model.modules() if isinstance(module, nn.ConvTranspose2d)]
    assert [module.weight.numel() for module in transposed] == [8 * 4 * 2 * 2]
    difference = multiply_adds(model, 32, as_published=True) - multiply_adds(model, 32)
    assert difference == 8 * 4 * 2 * 2 * (32**2 - 16**2)


@pytest.mark.parametrize("size", [30, 32])
def test_sizes_that_the_network_pads(size: int) -> None:
    pytest.importorskip("diffusers")
    diffusion = ConditionalDiffusion(DiffusionConfig(channels=(8, 16, 16), layers=1, groups=4))
    plain = ExposureDenoiser(DenoiserConfig("unet", {"width": 4, "depth": 2}))
    for model in (diffusion, plain):
        assert multiply_adds(model, size) == multiply_adds(model, 32)
        assert seconds(model, size, 1) > 0


def test_nothing_is_computed_and_the_model_stays_as_it_is() -> None:
    model = ExposureDenoiser(PRESETS["eld-unet-exposure"].recipe.denoiser).train()
    begin = time.process_time()
    assert multiply_adds(model, 1 << 14) == pytest.approx(1024 * multiply_adds(model), rel=1e-12)
    assert time.process_time() - begin < 20  # a computer of 10^12 operations a second would need 100 s, and 60 GB
    assert model.training
    assert all(parameter.device.type == "cpu" for parameter in model.parameters())


def test_held_pooling_does_not_matter() -> None:
    model, one = ExposureDenoiser(TINY), torch.ones(1)
    free = multiply_adds(model, 16)
    with pooling_recorded(model):
        model(torch.rand(1, 4, 16, 16), one, Conditions(one, one, one))
    assert multiply_adds(model, 16) == free
    assert all(pool.held is not None for pool in model.modules() if isinstance(pool, GlobalPool))


def test_time_is_the_median_without_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0, 100, 200, 203, 300, 301, 400, 409])  # evaluations of 100 s, 3 s, 1 s, 9 s
    monkeypatch.setattr("exposurediffusion.evaluation.cost.perf_counter", lambda: next(clock))
    model = ExposureDenoiser(TINY).train()
    assert seconds(model, 8, repeats=3) == 3
    assert model.training


def test_cost_is_all_three() -> None:
    model = ExposureDenoiser(TINY)
    assert cost(model, 16, repeats=0) == Cost(parameters(model), multiply_adds(model, 16), None)
    timed = cost(model, 16, repeats=2)
    assert timed.seconds is not None
    assert timed.seconds > 0

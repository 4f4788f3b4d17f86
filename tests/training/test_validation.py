"""Validation: the same captures every time, the right figures, and a network that is left as it was."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from exposurediffusion.baselines.diffusion import ConditionalDiffusion, DiffusionConfig
from exposurediffusion.models.denoiser import DenoiserConfig, Estimate, ExposureDenoiser
from exposurediffusion.physics.cameras.known import load_profile
from exposurediffusion.process.sampling import Sampling
from exposurediffusion.simulation.capture import SID_SETTINGS
from exposurediffusion.training.recipe import CaptureRecipe
from exposurediffusion.training.validation import Validation
from tests.tiny import TINY, Light, clean_views


@pytest.fixture
def model() -> ExposureDenoiser:
    torch.manual_seed(2)
    return ExposureDenoiser(TINY.denoiser)


def made(**changes: Any) -> Validation:
    return Validation(Light(), replace(TINY, **changes), count=4, size=16)


def test_figures_and_pictures_of_every_ratio(model: ExposureDenoiser) -> None:
    figures, pictures = made()(model)
    assert set(figures) == {f"{kind}_x{r}" for kind in ("psnr", "psnr_none", "ssim") for r in (100, 250, 300)}
    assert all(np.isfinite(value) for value in figures.values())
    for name in ("x100", "x250", "x300"):
        assert figures[f"psnr_{name}"] >= figures[f"psnr_none_{name}"]  # the correction looks at the reference
        assert (pictures[name].shape, pictures[name].dtype) == ((3 * 16, 3 * 16, 3), np.uint8)


def test_the_same_captures_and_figures_every_time(model: ExposureDenoiser) -> None:
    torch.manual_seed(1)
    first = made()
    torch.manual_seed(2)
    second = made()
    for a, b in zip(first.cases, second.cases, strict=True):
        assert torch.equal(a.capture, b.capture)
    assert first(model)[0] == second(model)[0] == first(model)[0]
    sampled = made(sampling=Sampling(2, increment="sampled"))
    assert sampled(model)[0] == sampled(model)[0]
    assert not torch.equal(first.cases[0].capture, first.cases[1].capture)


@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_left_in_its_mode(training: bool, model: ExposureDenoiser) -> None:
    modes = []
    model.register_forward_pre_hook(lambda *_: modes.append(model.training))
    made()(model.train(training))
    assert model.training == training
    assert not any(modes)


def test_captures_have_the_noise_of_the_iso_settings(model: ExposureDenoiser) -> None:
    """Whatever a network is trained with, the sensor is the judge."""
    for recipe, name in ((CaptureRecipe(noise="p+g"), "SonyA7S2"), (CaptureRecipe(camera="NikonD850"), "NikonD850")):
        camera = load_profile(name)
        for case, (ratio, iso) in zip(made(capture=recipe).cases, SID_SETTINGS, strict=True):
            assert case.ratio == ratio
            assert case.conditions.gain.tolist() == pytest.approx([camera.gain(iso)] * 4)
            assert case.conditions.saturation == camera.saturation
            deviation = (case.capture - case.clean).std() * case.conditions.saturation / ratio
            expected = (
                case.conditions.gain[0] * case.clean.mean() * case.conditions.saturation / ratio
                + case.conditions.read_variance.mean()
            ).sqrt()
            assert 0.6 < deviation / expected < 2.5  # ELD's biases and tails come on top
    assert case.capture.amin() < 0  # pyright: ignore[reportPossiblyUnboundVariable] - nothing is clipped before the network's own clamp


class Truth(ExposureDenoiser):
    """Knows the clean patches by the mean of their captures."""

    def __init__(self, truth: Tensor) -> None:
        super().__init__(DenoiserConfig("unet", {"width": 4, "depth": 1}))
        self.truth = truth

    def forward(self, state: Tensor, exposure: Tensor, conditions: Any) -> Estimate:
        return Estimate(self.truth)


def test_figures_are_of_the_last_step_and_the_truth_is_perfect() -> None:
    validation = made(sampling=Sampling(2, "paper", "markov", "mean"))
    truth = validation.cases[0].clean
    figures, _ = validation(Truth(truth))
    assert figures["psnr_none_x100"] == np.inf
    assert figures["ssim_x300"] == pytest.approx(1)
    figures, _ = validation(Truth(0.5 * truth))  # the correction mends what is only dark
    assert figures["psnr_none_x100"] < 20
    assert figures["psnr_x100"] > 100


def test_pairs_are_judged_by_their_own_captures_and_ratios(model: ExposureDenoiser) -> None:
    data = Light(ratios=(100.0, 250.0))
    validation = Validation(data, TINY, count=4, size=16)
    assert [case.ratio for case in validation.cases] == [100, 250]
    taken = [data.patch(number, 16).capture for number in (1, 3)]
    assert torch.equal(validation.cases[1].capture, torch.stack([t for t in taken if t is not None]))
    figures, pictures = validation(model)
    assert set(figures) == {f"{kind}_x{r}" for kind in ("psnr", "psnr_none", "ssim") for r in (100, 250)}
    assert pictures["x100"].shape == (2 * 16, 3 * 16, 3)


@pytest.mark.parametrize("cfa", ["RGGB", "XTRANS"])
def test_views_are_the_same_every_time_whatever_is_trained_on(cfa: str) -> None:
    views = clean_views(cfa)
    denoiser = replace(TINY.denoiser, planes=views.planes)
    first = Validation(views, replace(TINY, denoiser=denoiser), count=3, size=16)
    torch.manual_seed(4)
    again = Validation(views, replace(TINY, denoiser=denoiser, seed=9), count=3, size=16)
    for case, other in zip(first.cases, again.cases, strict=True):
        assert case.clean.shape == (3, views.planes, 16, 16)
        assert torch.equal(case.clean, first.cases[0].clean)
        assert torch.equal(case.clean, other.clean)
        assert torch.equal(case.capture, other.capture)
    figures, _ = first(ExposureDenoiser(denoiser))
    assert all(np.isfinite(value) for value in figures.values())


def test_xtrans() -> None:
    recipe = replace(TINY, denoiser=replace(TINY.denoiser, planes=9))
    figures, pictures = Validation(Light(planes=9), recipe, count=3, size=16)(ExposureDenoiser(recipe.denoiser))
    assert np.isfinite(figures["psnr_x100"])
    assert pictures["x100"].shape[2] == 3


def test_diffusion_models_are_judged_alike() -> None:
    pytest.importorskip("diffusers")
    config = DiffusionConfig(channels=(8, 8), layers=1, groups=4, timesteps=50, steps=2)
    validation = made(diffusion=config, sampling=Sampling(steps=0))
    model = ConditionalDiffusion(config)
    first, second = validation(model)[0], validation(model)[0]
    assert first == second
    assert np.isfinite(first["psnr_x100"])

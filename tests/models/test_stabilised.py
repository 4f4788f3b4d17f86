"""The scale of uniform noise: there and back, the noise of simulated captures on it, and a network that works there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from exposurediffusion.models.denoiser import BACKBONES, DenoiserConfig, ExposureDenoiser
from exposurediffusion.models.stabilised import Stabiliser
from exposurediffusion.physics.conditions import Conditions
from exposurediffusion.physics.noise import simulate_capture
from exposurediffusion.physics.parameters import NoiseParameters
from exposurediffusion.physics.sensor import SATURATION
from tests.models.conftest import Fixed, conditions_of, randomised
from tests.statistics import BOUND, variance_z

LIGHT = torch.cat([torch.linspace(-1, 4, 501), torch.tensor([1e-6, -1e-6, 1e-3])]).reshape(1, 1, 1, -1)
logarithm = st.floats(-7, 0.5)  # of ten: from a bright capture at ISO 100 to one electron in a white pixel


def scale_of(shot: float, read: float) -> Stabiliser:
    """Of a capture with variance `shot` of a white pixel's shot noise and deviation `read`, both of white as 1."""
    one = torch.ones(1)
    return Stabiliser.of(Conditions(100 * one, shot * one / 100 * SATURATION, (read / 100 * SATURATION) ** 2 * one))


@given(shot=logarithm, read=logarithm)
def test_there_and_back(shot: float, read: float) -> None:
    scale = scale_of(10**shot, 10**read)
    again = scale.inverse(scale.forward(LIGHT))
    torch.testing.assert_close(again, LIGHT, rtol=3e-6, atol=1e-6)
    torch.testing.assert_close(scale.forward(scale.inverse(LIGHT)), LIGHT, rtol=3e-6, atol=1e-6)


@given(shot=logarithm, read=logarithm)
def test_black_and_white_stay_and_more_light_is_more(shot: float, read: float) -> None:
    scale = scale_of(10**shot, 10**read)
    ends = scale.forward(torch.tensor([0.0, 1.0]).reshape(1, 1, 1, 2)).flatten().tolist()
    assert ends == pytest.approx([0, 1], rel=1e-6)
    scaled = scale.forward(LIGHT[..., :501]).flatten()
    assert (scaled.diff() > 0).all()
    below = scaled[:101].double()
    np.testing.assert_allclose(below.diff(), float(below.diff().mean()), rtol=1e-3)  # a straight line below black


def test_it_is_the_root_of_anscombe(generator: torch.Generator) -> None:
    """`2 / shot sqrt(shot x + r^2)`, in double precision, moved and stretched; of each image its own."""
    gain, ratio, read = torch.tensor([0.5, 20.0]), torch.tensor([300.0, 10.0]), torch.tensor([4.0, 30.0])
    scale = Stabiliser.of(Conditions(ratio, gain, read**2, 4000.0))
    light = torch.rand((2, 4, 3, 3), generator=generator)
    for image, k, a, s, found in zip(light, gain, ratio, read, scale.forward(light), strict=True):
        shot, noise = float(k * a) / 4000, float(s * a) / 4000
        ends, values = np.array([0.0, 1.0]), image.double().numpy()
        low, high, root = (
            2 / shot * np.sqrt(shot * x + noise**2 + 3 / 8 * shot**2) for x in (ends[0], ends[1], values)
        )
        np.testing.assert_allclose(found, (root - low) / (high - low), rtol=1e-5)
        # The noise of the root is 1, and it is stretched by as much as the root is.
        np.testing.assert_allclose(scale.deviation[[int(k > 1)]].item(), 1 / (high - low), rtol=1e-5)


def captures(gain: float, read: float, ratio: float, level: float) -> tuple[Tensor, Conditions]:
    noise = NoiseParameters.gaussian(gain, read)
    clean = torch.full((1, 4, 192, 192), level)
    capture = simulate_capture(clean, torch.tensor([ratio]), noise, torch.Generator().manual_seed(11))
    return capture, Conditions(torch.tensor([ratio]), noise.gain, noise.read_variance)


# Gain, read noise in DN, ratio; levels from four electrons, and from the reach of read noise around black, upwards.
CASES = {
    "bright": (0.5, 2.0, 20.0, (0.02, 0.1, 0.3, 0.9)),
    "read noise": (1.0, 12.0, 100.0, (0.2, 0.4, 0.8)),
    "few electrons": (10.0, 3.0, 100.0, (0.3, 0.6, 0.95)),
    "high gain": (20.0, 70.0, 100.0, (0.6, 0.9)),
}


@pytest.mark.parametrize("name", CASES)
def test_the_noise_of_a_capture_is_uniform_and_as_large_as_said(name: str) -> None:
    gain, read, ratio, levels = CASES[name]
    for level in levels:
        capture, conditions = captures(gain, read, ratio, level)
        scale = Stabiliser.of(conditions)
        scaled = scale.forward(capture).double()
        assert abs(variance_z(scaled, float(scale.deviation) ** 2)) < BOUND
        # The mean of a root is not the root of the mean, but nearly.
        centre = scale.forward(torch.full((1, 1, 1, 1), level)).item()
        assert abs(float(scaled.mean()) - centre) < 0.15 * float(scale.deviation)
    light = [float(captures(gain, read, ratio, level)[0].var()) for level in (levels[0], levels[-1])]
    assert light[1] > 1.1 * light[0]  # twin: light itself


@pytest.mark.parametrize("name", ["bright", "read noise", "high gain"])
def test_a_scale_that_forgets_the_read_noise_is_found_out(name: str) -> None:
    gain, read, ratio, levels = CASES[name]
    capture, conditions = captures(gain, read, ratio, levels[0])
    forgets = Stabiliser.of(replace(conditions, read_variance=0 * conditions.read_variance))
    assert abs(variance_z(forgets.forward(capture).double(), float(forgets.deviation) ** 2)) > BOUND


@pytest.mark.parametrize("name", ["bright", "read noise", "high gain"])
def test_around_black_the_noise_of_a_sensor_is_at_most_a_little_smaller(name: str) -> None:
    """What is below black lies on a straight line; light of less than four electrons drowns in read noise of one."""
    gain, read, ratio, _ = CASES[name]
    for level in (0.0, 0.002):
        capture, conditions = captures(gain, read, ratio, level)
        scale = Stabiliser.of(conditions)
        assert 0.93 < float(scale.forward(capture).std() / scale.deviation) < 1.01


@pytest.mark.parametrize("exposure", [1.0, 4.0, 60.0])
def test_the_noise_of_a_state_is_that_of_its_capture_divided_by_its_exposure(exposure: float) -> None:
    """A state of exposure e holds 1/e of the capture, and light without noise of its own."""
    level = 0.2
    capture, conditions = captures(1.0, 6.0, 100.0, level)
    state = capture / exposure + level * (1 - 1 / exposure)
    scale = Stabiliser.of(conditions)
    seen = scale.forward(state).double()
    assert abs(variance_z(seen, (float(scale.deviation) / exposure) ** 2)) < BOUND
    assert exposure == 1 or abs(variance_z(seen, float(scale.deviation) ** 2 / exposure)) > BOUND  # twin: its root


# ------------------------------------------------------------------------------------------- a network on that scale

SMALL = DenoiserConfig("resunet", {"widths": (4, 6), "encoders": (1, 1), "decoders": (1,)}, domain="stabilised")


def by_hand(light: np.ndarray, shot: float, read: float) -> np.ndarray:
    """Of one image."""
    root = np.sqrt(read**2 + 3 / 8 * shot**2)
    span = np.sqrt(shot + root**2) + root
    return np.where(
        light < 0, light * span / (2 * root), (np.sqrt(shot * light.clip(0) + root**2) - root) / shot * span
    )


def test_input_planes_in_their_order_and_units(generator: torch.Generator) -> None:
    """State and capture on the scale of the capture, its noise, and the noise that the state has left of it."""
    model = ExposureDenoiser(SMALL)
    assert (SMALL.in_channels, SMALL.out_channels) == (10, 9)
    assert replace(SMALL, planes=9, adaptive_residual=False).in_channels == 20
    state, origin = 3 * torch.rand(2, 2, 4, 3, 5, generator=generator) - 0.5
    ratio, gain, variance = torch.tensor([[100.0, 10.0], [0.8, 4.0], [9.0, 25.0]])
    exposure = torch.tensor([34.0, 1.0])
    planes = model.condition(state, exposure, Conditions(ratio, gain, variance, 4000.0, origin))
    assert planes.shape == (2, 10, 3, 5)
    for image in range(2):
        k, a, read = (float(of[image]) for of in (gain, ratio / 4000, variance.sqrt()))
        seen, capture = (by_hand(x[image].double().numpy(), k * a, read * a) for x in (state, origin))
        np.testing.assert_allclose(planes[image, :4], seen, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(planes[image, 4:8], capture, rtol=1e-4, atol=1e-6)
        root = np.sqrt((read * a) ** 2 + 3 / 8 * (k * a) ** 2)
        deviation = (np.sqrt(k * a + root**2) + root) / 2
        np.testing.assert_allclose(planes[image, 8], deviation, rtol=1e-5)
        np.testing.assert_allclose(planes[image, 9], deviation / float(exposure[image]), rtol=1e-5)


def test_a_state_alone_is_its_own_capture(generator: torch.Generator) -> None:
    state = torch.rand(1, 4, 4, 4, generator=generator)
    planes = ExposureDenoiser(SMALL).condition(state, torch.ones(1), conditions_of(100, 2.0))
    assert torch.equal(planes[:, :4], planes[:, 4:8])


def test_another_bit_depth_does_not_change_the_input(generator: torch.Generator) -> None:
    model, state, one = ExposureDenoiser(SMALL), torch.rand(1, 4, 4, 4, generator=generator), torch.ones(1)
    planes = [
        model.condition(state, 2 * one, Conditions(100 * one, 0.8 * s * one, 9 * s**2 * one, 15583 * s))
        for s in (1.0, 0.25)
    ]
    torch.testing.assert_close(planes[0], planes[1])


@pytest.mark.parametrize("white", [1.0, 4.0])
def test_estimates_are_light_again_up_to_the_white(white: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The backbone speaks on the scale: of the direct image, and of what is to be added to the state."""
    monkeypatch.setitem(BACKBONES, "fixed", Fixed)
    direct, residual, logit = [0.3, 1.4, -0.2, 5.0], [0.1, -0.9, 0.9, 5.0], 0.4
    config = DenoiserConfig("fixed", {"says": [logit, *direct, *residual]}, domain="stabilised", white=white)
    conditions, state = conditions_of(100, 1.0, read=5.0), torch.full((1, 4, 2, 3), 0.4)
    estimate = ExposureDenoiser(config)(state, torch.ones(1), conditions)
    shot, read = 100 / SATURATION, 500 / SATURATION
    light = np.linspace(-2, 60, 1_000_001)
    scale = by_hand(light, shot, read)
    start = by_hand(np.array(0.4), shot, read)
    branches = [np.interp(said, scale, light).clip(0, white) for said in (direct, np.add(residual, start))]
    mask = 1 / (1 + np.exp(-logit))
    expected = mask * branches[0] + (1 - mask) * branches[1]
    for tensor, values in zip(estimate[:1] + estimate[2:], (expected, *branches), strict=True):
        assert tensor is not None
        np.testing.assert_allclose(tensor[0, :, 1, 2].detach(), values, rtol=1e-3, atol=1e-4)
    assert estimate.image.max().item() == pytest.approx(white)
    assert branches[0][1] == 1 if white == 1 else 1.5 < branches[0][1] < 2  # there is light above 1


def test_a_network_without_the_layer_speaks_on_the_scale_too(generator: torch.Generator) -> None:
    model = randomised(ExposureDenoiser(replace(SMALL, adaptive_residual=False)))
    state, conditions = torch.rand(1, 4, 8, 8, generator=generator), conditions_of(100, 1.0)
    planes = model.condition(state, torch.ones(1), conditions)
    said = Stabiliser.of(conditions).inverse(planes[:, :4] + model.backbone(planes))
    torch.testing.assert_close(model(state, torch.ones(1), conditions).image, said)


def test_what_is_learned_passes_through_the_scale(generator: torch.Generator) -> None:
    """Gradients are finite in deep shadow, at black, and above white."""
    model = ExposureDenoiser(replace(SMALL, white=4.0))
    state = torch.tensor([-0.5, 0.0, 1e-6, 5.0]).reshape(1, 4, 1, 1).expand(1, 4, 8, 8)
    image = model(state, torch.ones(1), conditions_of(300, 10.0)).image
    (image - torch.rand(image.shape, generator=generator)).abs().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in model.parameters())

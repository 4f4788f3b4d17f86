"""What is measured: the capture, BM3D, networks in the simulated exposure, diffusion; and crops."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from exposurediffusion.evaluation import methods
from exposurediffusion.evaluation.measure import cropped
from exposurediffusion.evaluation.methods import BlockMatching, Capture, Diffusion, Method, Network
from exposurediffusion.models.denoiser import BoundDenoiser, DenoiserConfig
from exposurediffusion.physics.conditions import Conditions
from exposurediffusion.physics.noise import noise_level
from exposurediffusion.physics.sensor import electrons_per_unit
from exposurediffusion.process.exposure import ExposureSchedule, expose
from exposurediffusion.process.sampling import StepRule
from exposurediffusion.weights.file import TrainedDiffusion
from tests.simulated import DRAWN, SMALL, STEADY, sample, tiny, tiny_diffusion

ONE = sample()
assert ONE.noise is not None
assert ONE.capture is not None
NOISE, CAPTURE = ONE.noise, ONE.capture


def network(sampling: Any = STEADY, config: DenoiserConfig = SMALL, **names: str) -> Network:
    return Network(tiny(0, sampling, config), sampling, **{"weights": "tiny", **names})  # type: ignore[arg-type]


def test_the_capture_is_itself() -> None:
    assert torch.equal(Capture()(ONE).estimate, CAPTURE)
    assert torch.equal(Capture()(ONE, adjust=lambda estimate: 2 * estimate).estimate, 2 * CAPTURE)
    assert Capture().settings == {"method": "capture"}


def test_all_of_them_are_methods() -> None:
    pytest.importorskip("diffusers")
    diffusion = Diffusion(tiny(0, config=tiny_diffusion()), 2, "d")  # type: ignore[arg-type]
    for method in (Capture(), BlockMatching(), network(), diffusion):
        assert isinstance(method, Method)


# ---------------------------------------------------------------------------------------------------------- network


def test_a_network_is_the_loop_over_expose() -> None:
    """Sampled, restarted, clamped, as published; the same seed draws the same photons."""
    model, (ratio, gain) = tiny(0, DRAWN), (torch.tensor([100.0]), torch.tensor([0.9]))
    estimates: list[Tensor] = []

    def denoise(state: Tensor, exposure: Tensor) -> Tensor:
        found = model(state, exposure, Conditions(ratio, gain, torch.tensor([7.0]), 15583.0))
        estimates.append(found.mask)
        return found.image

    electrons = electrons_per_unit(ratio, gain, 15583.0)
    steps = list(
        expose(
            denoise,
            CAPTURE[None],
            ExposureSchedule.official(ratio, 2),
            transition="restart",
            electrons=electrons,
            clamp=(0, 1),
            generator=torch.Generator().manual_seed(4),
        )
    )
    prediction = network(DRAWN)(ONE, seed=4)
    torch.testing.assert_close(prediction.estimate, steps[-1].estimate[0])
    assert prediction.first is not None
    assert prediction.mask is not None
    torch.testing.assert_close(prediction.first, steps[0].estimate[0])
    torch.testing.assert_close(prediction.mask, estimates[-1][0])
    twin = network(DRAWN)(ONE, seed=5).estimate
    assert (twin - steps[-1].estimate[0]).abs().max() > 1e-5
    twin = network(replace(DRAWN, transition="markov"))(ONE, seed=4).estimate
    assert (twin - steps[-1].estimate[0]).abs().max() > 1e-5


def test_a_network_sees_noise_ratio_and_origin() -> None:
    config = replace(SMALL, origin=True, noise_map=True)
    found = network(config=config)(ONE).estimate
    for changed in (replace(ONE, ratio=2.0), replace(ONE, noise=replace(NOISE, read=99 * NOISE.read))):
        assert (network(config=config)(changed).estimate - found).abs().max() > 1e-5
    conditions = Conditions(torch.tensor([100.0]), torch.tensor([0.9]), torch.tensor([2.5]) ** 2, 15583.0)
    steps = STEADY.run(BoundDenoiser(tiny(config=config), conditions), CAPTURE[None], conditions)
    torch.testing.assert_close([step.estimate for step in steps][-1][0], found)


def test_without_the_residual_layer_there_is_no_mask() -> None:
    prediction = network(config=replace(SMALL, adaptive_residual=False))(ONE)
    assert prediction.mask is None
    assert prediction.estimate.shape == CAPTURE.shape


def test_names_and_settings_of_a_network() -> None:
    assert network().name == "tiny, T = 1"
    assert network(label="ours").name == "ours"
    settings = network(DRAWN, digest="0123").settings
    assert settings == {
        "method": "exposure",
        "weights": "tiny",
        "digest": "0123",
        "steps": 2,
        "schedule": "official",
        "transition": "restart",
        "increment": "sampled",
        "clamp": (0.0, 1.0),
    }


def test_weights_for_xtrans_on_bayer_say_so() -> None:
    with pytest.raises(ValueError, match=r"tiny: these weights are for X-Trans \(9 planes\).*give weights for Bayer"):
        network(config=replace(SMALL, planes=9))(ONE)


def test_weights_for_either_work_on_xtrans() -> None:
    xtrans = sample(planes=9)
    bayer = network()(xtrans)
    assert bayer.estimate.shape == xtrans.clean.shape
    assert bayer.mask is None
    assert bool(bayer.estimate.isfinite().all())
    own = network(config=replace(SMALL, planes=9))(xtrans)
    assert own.mask is not None
    assert own.mask.shape == (1, 24, 24)


# -------------------------------------------------------------------------------------------------------- baselines


def test_bm3d_is_told_the_noise_of_each_plane(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library itself takes seconds; `tests/baselines` have it denoise."""
    given: list[Any] = []

    def denoise(capture: Tensor, *noise: Any) -> Tensor:
        given.append((capture, *noise))
        return capture / 2

    monkeypatch.setattr(methods, "denoise_bm3d", denoise)
    monkeypatch.setattr(methods, "denoise_anscombe_bm3d", denoise)
    assert torch.equal(BlockMatching()(ONE).estimate, CAPTURE / 2)
    assert torch.equal(BlockMatching(True)(ONE, adjust=lambda estimate: 3 * estimate).estimate, 1.5 * CAPTURE)
    (first, deviation), second = given
    assert torch.equal(first, CAPTURE)
    variance = NOISE.gain * CAPTURE.clamp(max=1).mean(dim=(1, 2)) * 15583 / 100 + NOISE.read_variance  # DN^2
    torch.testing.assert_close(deviation, variance.sqrt() * 100 / 15583, rtol=1e-4, atol=0)
    assert second == (CAPTURE, 100.0, NOISE)
    assert (BlockMatching().name, BlockMatching(True).name) == ("BM3D", "A-BM3D")


def test_diffusion_is_ddim_from_the_noise_of_a_seed() -> None:
    pytest.importorskip("diffusers")
    model = tiny(config=tiny_diffusion())
    assert isinstance(model, TrainedDiffusion)
    method = Diffusion(model, 2, "small", "0123")
    expected = model.sample(CAPTURE[None], 2, torch.Generator().manual_seed(3))[0]
    assert torch.equal(method(ONE, 3).estimate, expected)
    assert not torch.equal(method(ONE, 4).estimate, expected)
    assert torch.equal(method(ONE, 3, lambda estimate: estimate / 2).estimate, expected / 2)
    assert (method.name, method.random, method.iterates) == ("small, 2 DDIM steps", True, False)
    assert method.settings == {"method": "ddim", "weights": "small", "digest": "0123", "steps": 2}


# ---------------------------------------------------------------------------------------------------- crop, mistakes


def test_the_crop_is_the_centre() -> None:
    places = torch.arange(10 * 14).reshape(1, 10, 14).expand(4, -1, -1).float()
    one = replace(ONE, clean=places, capture=2 * places)
    found = cropped(one, 4)
    assert found.capture is not None
    assert torch.equal(found.clean, places[:, 3:7, 5:9])
    assert torch.equal(found.capture, 2 * places[:, 3:7, 5:9])
    assert torch.equal(cropped(one, 12).clean, places[:, :, 1:13])  # an axis that is shorter is taken whole
    assert cropped(one, None) is one
    assert cropped(replace(one, capture=None), 4).capture is None


@pytest.mark.parametrize("method", [Capture(), BlockMatching(), network()], ids=lambda c: c.name)
def test_a_picture_alone_cannot_be_measured(method: Method) -> None:
    with pytest.raises(ValueError, match="corner: a clean picture without a capture"):
        method(replace(ONE, capture=None))


@pytest.mark.parametrize("lacking", ["ratio", "noise"])
def test_a_capture_needs_its_ratio_and_noise(lacking: str) -> None:
    for method in (BlockMatching(), network()):
        with pytest.raises(ValueError, match="corner: a capture without its ratio and noise"):
            method(replace(ONE, **{lacking: None}))


def test_a_rule_chooses_the_steps_of_each_capture() -> None:
    """Beyond its threshold a capture is worth a step; twin: below it, it is not."""
    ruled = {steps: network(replace(STEADY, steps=steps))(ONE).estimate for steps in (0, 2)}
    level = float(noise_level(CAPTURE[None], torch.tensor([100.0]), NOISE))
    for threshold, steps in ((level / 2, 2), (level * 2, 0)):
        method = replace(network(), rule=StepRule((threshold,), (0, 2)))
        assert torch.equal(method(ONE).estimate, ruled[steps])
        assert (method.name, method.iterates) == ("tiny, T = auto", True)
        assert method.settings["steps"] == str(method.rule)

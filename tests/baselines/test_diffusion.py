"""The conditional diffusion model: its sampler against the truth and against diffusers' own, sizes, training."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from exposurediffusion.baselines.diffusion import DIFFUSION_SIZES, ConditionalDiffusion, DiffusionConfig
from exposurediffusion.physics.conditions import Conditions
from exposurediffusion.physics.mosaic import pad_planes

TINY = DiffusionConfig(channels=(8, 16), layers=1, groups=4, steps=4)
diffusers = pytest.importorskip("diffusers")


def tiny(**changes) -> ConditionalDiffusion:
    torch.manual_seed(0)
    return ConditionalDiffusion(DiffusionConfig(**{**asdict(TINY), **changes}))


def picture(*shape: int, seed: int = 1) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def generators(count: int, seed: int = 40) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed + image) for image in range(count)]


class Truth(nn.Module):
    """Knows the clean image, and so predicts the noise of any state; `late` makes it mistake the time."""

    def __init__(self, model: ConditionalDiffusion, clean: Tensor, late: int = 0) -> None:
        super().__init__()
        self.kept = model.noise_schedule.alphas_cumprod.double()
        self.late = late
        self.clean = 2 * pad_planes(clean, model.multiple)[0].double() - 1

    def forward(self, inputs: Tensor, time: Tensor | int, return_dict: bool) -> tuple[Tensor]:
        state = inputs[:, : self.clean.shape[1]].double()
        kept = self.kept[(torch.as_tensor(time) - self.late).clamp(0, len(self.kept) - 1)].reshape(-1, 1, 1, 1)
        noise = (state - kept.sqrt() * self.clean) / (1 - kept).sqrt()
        return (noise.float(),)


@pytest.mark.parametrize("steps", [1, 5, 50, 61])
def test_the_true_noise_recovers_the_image(steps: int) -> None:
    model, clean = tiny(), picture(2, 4, 15, 22)
    model.backbone = Truth(model, clean)
    estimates = list(model.steps(torch.zeros_like(clean), steps, generators(2)))
    assert len(estimates) == steps
    for estimate in estimates:
        torch.testing.assert_close(estimate, clean, rtol=0, atol=1e-4)
    model.backbone = Truth(model, clean, late=100)  # twin: the time is mistaken
    assert (model.sample(torch.zeros_like(clean), steps, generators(2)) - clean).abs().max() > 1e-2


def test_the_true_noise_has_no_loss() -> None:
    model, clean = tiny(), picture(8, 4, 7, 9)
    model.backbone = Truth(model, clean)
    assert model.loss(torch.zeros_like(clean), clean, generators(8)) < 1e-6
    model.backbone = Truth(model, clean, late=100)
    assert model.loss(torch.zeros_like(clean), clean, generators(8)) > 1e-3


@pytest.mark.parametrize("steps", [1, 4, 10])
def test_sampler_equals_that_of_diffusers(steps: int) -> None:
    """Theirs holds for numbers of steps that divide the timesteps."""
    model, capture = tiny(), picture(1, 4, 8, 8)
    ours = list(model.steps(capture, steps, torch.Generator().manual_seed(5)))
    theirs = diffusers.DDIMScheduler(1000, timestep_spacing="trailing")
    theirs.set_timesteps(steps)
    generator = torch.Generator().manual_seed(5)
    state = torch.randn(1, 4, 8, 8, generator=generator)
    with torch.no_grad():
        for time, estimate in zip(theirs.timesteps.tolist(), ours, strict=True):
            predicted = model.backbone(torch.cat([state, 2 * capture - 1], dim=1), time).sample
            step = theirs.step(predicted, time, state, use_clipped_model_output=True)
            torch.testing.assert_close(estimate, (step.pred_original_sample + 1) / 2, rtol=0, atol=2e-5)
            state = step.prev_sample


def test_times_are_distinct_for_any_number_of_steps() -> None:
    config = DiffusionConfig(timesteps=100, steps=1)
    for steps in range(1, 101):
        times = config.times(steps)
        assert len(times) == steps
        assert times[0] == 99
        assert times[-1] >= 0
        assert all(100 // steps <= a - b <= -(-100 // steps) for a, b in pairwise([*times, -1]))


@pytest.mark.parametrize(
    ("size", "parameters", "millions", "multiply_adds"),
    [("large", 8_557_700, 8.619, 367.15e9), ("small", 1_460_068, 1.472, 63.07e9)],
)
def test_sizes_are_those_of_table_7(size: str, parameters: int, millions: float, multiply_adds: float) -> None:
    with torch.device("meta"):
        model = ConditionalDiffusion(DIFFUSION_SIZES[size])
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == parameters
    assert abs(count / 1e6 / millions - 1) < 0.02
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.backbone(torch.empty(1, 8, 512, 512, device="meta"), torch.zeros(1, dtype=torch.long, device="meta"))
    assert abs(counter.get_total_flops() / 2 / multiply_adds - 1) < 0.005


def test_learns() -> None:
    model, clean = tiny(), picture(4, 4, 16, 16)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    source, losses = torch.Generator().manual_seed(3), []
    for _ in range(30):
        loss = model.loss(clean + 0.1 * torch.randn(clean.shape, generator=source), clean, source)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (16, 16), (17, 30)])
@pytest.mark.parametrize("planes", [4, 9])
def test_any_size_gives_an_estimate_in_range(size: tuple[int, int], planes: int) -> None:
    model = tiny(planes=planes)
    capture = 3 * picture(1, planes, *size) - 1
    for estimate in model.steps(capture, 3, generators(1)):
        assert estimate.shape == capture.shape
        assert 0 <= estimate.min() <= estimate.max() <= 1
    model.loss(capture, capture.clamp(0, 1)).backward()


def test_a_batch_is_as_many_single_images() -> None:
    model, clean = tiny(), picture(3, 4, 9, 10)
    capture = clean + 0.1
    together = model.sample(capture, 5, generators(3))
    singly = [model.sample(capture[n : n + 1], 5, [g]) for n, g in enumerate(generators(3))]
    torch.testing.assert_close(together, torch.cat(singly), rtol=0, atol=1e-5)
    losses = [model.loss(capture[n : n + 1], clean[n : n + 1], [g]) for n, g in enumerate(generators(3))]
    torch.testing.assert_close(model.loss(capture, clean, generators(3)), torch.stack(losses).mean())


def test_one_seed_one_result() -> None:
    model, capture = tiny(), picture(2, 4, 8, 8)
    ones = torch.ones(2)
    first = model.denoiser(100.0, 0.8)(capture, ones)
    torch.testing.assert_close(model.denoiser(300.0, 8.0)(capture, ones), first, rtol=0, atol=0)
    torch.testing.assert_close(model(capture, ones, Conditions(ones, ones, ones)).image, first, rtol=0, atol=0)
    same = torch.Generator().manual_seed(0), torch.Generator().manual_seed(0)
    torch.testing.assert_close(model.sample(capture, TINY.steps, same), first, rtol=0, atol=0)
    torch.testing.assert_close(model.denoiser()(capture[1:], ones[1:]), first[1:], rtol=0, atol=1e-5)
    assert not torch.equal(model.denoiser(seed=1)(capture, ones), first)
    assert not torch.equal(model.denoiser(steps=5)(capture, ones), first)
    assert not torch.equal(model.denoiser()(capture.flip(-1), ones), first)  # it looks at the capture
    assert not first.requires_grad


def test_halo_of_the_convolutions() -> None:
    """Without the normalisation, a tile with its halo gives what the whole gives."""
    model = tiny(channels=(8, 8, 8))
    for module in model.backbone.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.GroupNorm):
                setattr(module, name, nn.Identity())
    inner, halo = 8, -(-model.halo // model.multiple) * model.multiple
    planes, time = picture(1, 8, inner + 3 * halo, 8), torch.tensor([500])
    with torch.no_grad():
        whole = model.backbone(planes, time).sample
        for start in (halo, 2 * halo):  # what lies above, what lies below the tile is cut off at its halo
            window = slice(start - halo, start + inner + halo)
            tile = model.backbone(planes[:, :, window], time).sample[:, :, halo : halo + inner]
            torch.testing.assert_close(tile, whole[:, :, start : start + inner], rtol=0, atol=1e-5)
        short = halo // 2 // model.multiple * model.multiple  # twin: half of it
        tile = model.backbone(planes[:, :, halo - short : halo + inner], time).sample[:, :, short:]
        assert (tile - whole[:, :, halo : halo + inner]).abs().max() > 1e-5


@pytest.mark.parametrize("config", [*DIFFUSION_SIZES.values(), TINY])
def test_configuration_survives_a_header(config: DiffusionConfig) -> None:
    assert DiffusionConfig(**json.loads(json.dumps(asdict(config)))) == config


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"channels": (8, 10)}, "4 groups do not divide"),
        ({"channels": ()}, "positive"),
        ({"layers": 0}, "positive"),
        ({"steps": 0}, "1 to 1000 steps"),
        ({"timesteps": 3}, "1 to 3 steps"),
    ],
)
def test_a_wrong_configuration_is_reported(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DiffusionConfig(**{**asdict(TINY), **wrong})


def test_wrong_use_is_reported() -> None:
    with pytest.raises(ValueError, match="1 to 1000 steps with this model, not 0"):
        tiny().sample(picture(1, 4, 8, 8), 0)
    with pytest.raises(ValueError, match="for 4 planes, the image has 9"):
        tiny().sample(picture(1, 9, 8, 8))


def test_a_missing_library_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ValueError, match=r"diffusers: pip install exposurediffusion\[baselines\]"):
        ConditionalDiffusion(TINY)

"""Clipping: the values of `clamp`, a gradient only towards the range, and a network that comes back from outside."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from exposurediffusion.models import denoiser
from exposurediffusion.models.denoiser import DenoiserConfig, ExposureDenoiser, clip
from exposurediffusion.physics.conditions import Conditions

VALUES = torch.tensor([-0.5, 0.0, 0.3, 1.0, 1.5])


def gradient(of: Callable[[Tensor], Tensor], sign: float) -> list[float]:
    values = VALUES.clone().requires_grad_()
    (sign * of(values).sum()).backward()
    assert values.grad is not None
    return values.grad.tolist()


def hard(image: Tensor, white: float = 1.0) -> Tensor:
    return image.clamp(0, white)


def test_values_are_those_of_clamp() -> None:
    assert torch.equal(clip(VALUES), hard(VALUES))
    assert torch.equal(clip(VALUES.clone().requires_grad_()), hard(VALUES))


def test_only_a_descent_that_leads_back_passes() -> None:
    assert gradient(clip, -1) == [-1, -1, -1, -1, 0]  # wants higher values
    assert gradient(clip, 1) == [0, 1, 1, 1, 1]  # wants lower ones
    assert gradient(hard, -1) == [0, -1, -1, -1, 0]


def test_the_white_is_where_it_is_said_to_be() -> None:
    assert torch.equal(clip(VALUES, 1.2), hard(VALUES, 1.2))
    assert gradient(lambda x: clip(x, 1.2), -1) == [-1, -1, -1, -1, 0]
    assert gradient(lambda x: clip(x, 1.2), 1) == [0, 1, 1, 1, 1]
    assert gradient(lambda x: clip(x, 4.0), -1) == [-1] * 5


def test_clipping_twice_and_scaling_keep_the_chain_rule(generator: torch.Generator) -> None:
    inside = torch.rand(2, 4, 3, 3, generator=generator, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda image: clip(clip(image) * 0.5 + 0.1) ** 2, inside)


@pytest.mark.parametrize(("clipping", "recovers"), [(clip, True), (hard, False)])
def test_a_network_that_says_black_everywhere_learns_again(
    clipping: Callable[..., Tensor], recovers: bool, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mutant twin, `clamp`, stays black for ever."""
    monkeypatch.setattr(denoiser, "clip", clipping)
    torch.manual_seed(0)
    model = ExposureDenoiser(DenoiserConfig("unet", {"width": 4, "depth": 1}))
    last = [module for module in model.modules() if isinstance(module, nn.Conv2d)][-1]
    assert last.out_channels == model.config.out_channels
    assert last.bias is not None
    with torch.no_grad():
        last.bias[1:] = -3.0
    clean = torch.rand(2, 4, 16, 16, generator=generator) * 0.5 + 0.25
    one = torch.ones(2)
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    losses: list[float] = []
    for _ in range(60):
        estimate = model(clean, one, Conditions(100 * one, one, one)).image
        loss = (estimate - clean).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(float(clean.mean()))  # black
    assert (losses[-1] < losses[0] / 2) is recovers
    assert recovers or losses[-1] == losses[0]

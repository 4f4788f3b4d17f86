"""Networks without zeros and ones in them, a backbone that says what it is given, and conditions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from exposurediffusion.physics.conditions import Conditions


def randomised(module: nn.Module, seed: int = 0) -> Any:
    """The module with every parameter drawn anew, so that nothing is zero or one as at first."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            fan = max(1, parameter[0].numel()) if parameter.ndim > 1 else 4
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / fan**0.5)
    return module.eval().requires_grad_(False)


def conditions_of(ratio: float, gain: float, count: int = 1, read: float = 3.0) -> Conditions:
    one = torch.ones(count)
    return Conditions(ratio * one, gain * one, read**2 * one)


class Fixed(nn.Module):
    """A backbone that says what it is given."""

    multiple, halo, predicts_residual = 1, 0, True

    def __init__(self, in_channels: int, out_channels: int, says: list[float]) -> None:
        super().__init__()
        self.says = nn.Parameter(torch.tensor(says).reshape(1, -1, 1, 1))
        assert len(says) == out_channels

    def forward(self, x: Tensor) -> Tensor:
        return self.says.expand(len(x), -1, *x.shape[-2:])

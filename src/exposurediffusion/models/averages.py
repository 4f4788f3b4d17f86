"""Averaged weights of a network in training: an exponential moving average of each parameter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class AveragedWeights:
    """The moving average of a network's parameters, which lie where it lies.

    Args:
        network: averaged as it is at first.
        decay: of the average at an update, in [0, 1); less in the first iterations.

    Attributes:
        values: by name of the parameter.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network, self.decay = network, decay
        self.values = _copies(network)

    @torch.no_grad()
    def update(self, iteration: int) -> None:
        """Take in the parameters as they are after an iteration, counted from 1."""
        decay = min(self.decay, (1 + iteration) / (10 + iteration))
        now = [parameter.detach() for parameter in self.network.parameters()]
        torch._foreach_lerp_(list(self.values.values()), now, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The network has its averaged weights for as long as the block lasts."""
        kept = _copies(self.network)
        set_parameters(self.network, self.values)
        try:
            yield
        finally:
            set_parameters(self.network, kept)


@torch.no_grad()
def set_parameters(network: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Copy values into the parameters of their names."""
    for name, parameter in network.named_parameters():
        parameter.copy_(values[name])


def _copies(network: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in network.named_parameters()}

"""Light on a scale where the noise of a capture is the same everywhere (Anscombe 1948), for networks to work on.

The noise of a capture has the variance `shot x + read^2` at brightness x. On the scale `2 / shot * sqrt(shot x + r^2)`
with `r^2 = read^2 + 3/8 shot^2` it is one. Here that scale is moved and stretched so that 0 and 1 stay where they are,
and below black, where there is nothing to take the root of, it goes on as a straight line: no sample is clipped. It is
uniform from some electrons on, or where the read noise is two electrons and more; below it is smaller.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from exposurediffusion.physics.conditions import Conditions


@dataclass(frozen=True)
class Stabiliser:
    """The scale of each capture of a batch.

    `y = x span / (sqrt(shot max(x, 0) + root^2) + root)`, `span = sqrt(shot + root^2) + root`: y(0) = 0, y(1) = 1.

    Attributes:
        shot: variance of the shot noise at brightness 1, in units of white, (b 1 1 1).
        root: r, (b 1 1 1).
    """

    shot: Float[Tensor, "b 1 1 1"]
    root: Float[Tensor, "b 1 1 1"]

    @staticmethod
    def of(conditions: Conditions) -> Stabiliser:
        """The scale on which the captures have a uniform noise."""
        amplification = conditions.ratio / conditions.saturation  # DN -> reference brightness
        shot = (conditions.gain * amplification).reshape(-1, 1, 1, 1)
        read_variance = (conditions.read_variance * amplification**2).reshape(-1, 1, 1, 1)
        return Stabiliser(shot, torch.sqrt(read_variance + 0.375 * shot**2))

    @property
    def span(self) -> Float[Tensor, "b 1 1 1"]:
        """Factor between light and scale where both are small."""
        return torch.sqrt(self.shot + self.root**2) + self.root

    @property
    def deviation(self) -> Float[Tensor, "b 1 1 1"]:
        """Standard deviation of a capture's noise on this scale."""
        return self.span / 2

    def forward(self, light: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Light at reference brightness -> scale."""
        return light * self.span / (torch.sqrt(self.shot * light.clamp(min=0) + self.root**2) + self.root)

    def inverse(self, scaled: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Scale -> light, exactly: what is trained through it needs no correction of its mean."""
        part = scaled / self.span
        return part * (2 * self.root + self.shot * part.clamp(min=0))

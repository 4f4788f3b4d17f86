"""What is known of a capture besides its pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from exposurediffusion.physics.parameters import NoiseParameters
from exposurediffusion.physics.sensor import SATURATION


@dataclass(frozen=True)
class Conditions:
    """What is known of each capture besides its pixels.

    Attributes:
        ratio: amplification lambda_ref / lambda_T, (b).
        gain: K, DN per electron, (b).
        read_variance: light-free variance in DN^2, (b); used by the noise map and stabilised weights.
        saturation: white - black in DN, to which gain and read variance refer.
        origin: the capture at reference brightness, (b c h w); used by origin planes and stabilised weights.
    """

    ratio: Float[Tensor, "b"]
    gain: Float[Tensor, "b"]
    read_variance: Float[Tensor, "b"]
    saturation: float = SATURATION
    origin: Float[Tensor, "b c h w"] | None = None

    @staticmethod
    def of(
        noise: NoiseParameters, ratio: float | Float[Tensor, "b"], origin: Float[Tensor, "b c h w"] | None = None
    ) -> Conditions:
        """Of captures with this noise, on its device."""
        ratio = torch.as_tensor(ratio, dtype=torch.float32, device=noise.gain.device).reshape(-1)
        return Conditions(ratio, noise.gain, noise.read_variance, noise.saturation, origin)

    @property
    def electrons(self) -> Float[Tensor, "b"]:
        """That the capture collected where the image at reference brightness is 1."""
        return self.saturation / (self.ratio * self.gain)

    def to(self, device: torch.device) -> Conditions:
        """The same on another device."""
        own = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **own)

    def __getitem__(self, images: slice) -> Conditions:
        """Of some images of the batch."""
        own = {name: value[images] for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **own)

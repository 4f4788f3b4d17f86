"""What is known of a capture besides its pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

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

    def __getitem__(self, images: slice) -> Conditions:
        """Of some images of the batch."""
        own = {name: value[images] for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **own)

"""Any function of state and exposure in the place of a network."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from exposurediffusion.models.denoiser import Estimate
from exposurediffusion.physics.conditions import Conditions


class CustomDenoiser(nn.Module):
    """A `denoise(state, exposure) -> estimate` that is called like an `ExposureDenoiser`.

    Attributes:
        halo: packed pixels around a tile that can change it, as the function says; None: it has to see the whole frame.
        multiple: sides of tiles are multiples of it.
    """

    def __init__(self, denoise: Any) -> None:
        super().__init__()
        self.denoise = denoise
        self.halo: int | None = getattr(denoise, "halo", None)
        self.multiple: int = getattr(denoise, "multiple", 1)

    def forward(
        self, state: Float[Tensor, "b c h w"], exposure: Float[Tensor, "b"], conditions: Conditions
    ) -> Estimate:
        """As `ExposureDenoiser.forward`; only the image is given.

        Raises:
            ValueError: what the function gives is no image of the state's size.
        """
        image = torch.as_tensor(self.denoise(state, exposure))
        if image.shape != state.shape:
            raise ValueError(f"the denoiser makes {tuple(image.shape)} of a state of {tuple(state.shape)}")
        return Estimate(image)

"""Bayer weights on X-Trans planes: each 3x3 cell of the array holds Bayer-like neighbourhoods."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from exposurediffusion.models.denoiser import Estimate, ExposureDenoiser
from exposurediffusion.models.graph import Compiled
from exposurediffusion.physics.conditions import Conditions

# X-Trans planes in the places of R, G1, B, G2. The first two are 2x2 and L-shaped neighbourhoods that hold eight of the
# nine planes; the third serves the green that is left (its second green is a repetition).
GROUPS = ((0, 5, 2, 6), (3, 7, 4, 8), (3, 1, 4, 1))
_SOURCE = (0, 9, 2, 4, 6, 1, 3, 5, 7)  # where each X-Trans plane is found among the 12 planes of the groups


class BayerOnXTrans(nn.Module):
    """A 4-plane denoiser made to work on 9 X-Trans planes: three evaluations, one a group.

    It is meant for cameras for which there are no X-Trans weights. Colours of a group lie up to a site away from where
    the network expects them, which costs some sharpness.
    """

    def __init__(self, model: ExposureDenoiser | Compiled) -> None:
        super().__init__()
        if model.config.planes != 4:
            raise ValueError(f"the inner model has 4 planes (Bayer), not {model.config.planes}")
        self.model = model
        self.config = replace(model.config, planes=9)
        self.multiple, self.halo = model.multiple, model.halo

    def forward(
        self, state: Float[Tensor, "b 9 h w"], exposure: Float[Tensor, "b"], conditions: Conditions
    ) -> Estimate:
        """As `ExposureDenoiser.forward`; only the image is given."""
        count, _, height, width = state.shape

        def grouped(planes: Tensor) -> Tensor:
            return torch.cat([planes[:, list(group)] for group in GROUPS])

        thrice = {name: getattr(conditions, name).repeat(3) for name in ("ratio", "gain", "read_variance")}
        origin = None if conditions.origin is None else grouped(conditions.origin)
        image = self.model(
            grouped(state), exposure.expand(count).repeat(3), replace(conditions, origin=origin, **thrice)
        ).image
        planes = image.reshape(3, count, 4, height, width).transpose(0, 1).reshape(count, 12, height, width)
        return Estimate(planes[:, list(_SOURCE)])

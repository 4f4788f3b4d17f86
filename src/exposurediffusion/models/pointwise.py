"""1x1 convolutions whose result does not depend on the number of threads."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class PointwiseConv(nn.Conv2d):
    """A 1x1 convolution as a matrix product.

    oneDNN adds the channels of a 1x1 convolution in an order that depends on the number of threads, as it does not with
    larger kernels; the last digits of a picture would depend on the machine's load.

    Args:
        in_channels, out_channels: planes in and out.
        bias: added to each plane.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 1, bias=bias)

    def forward(self, input: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h w"]:  # noqa: A002 (nn.Conv2d's name)
        """Same size, other channels."""
        if torch.onnx.is_in_onnx_export():  # other engines know convolutions best
            return super().forward(input)
        last = input.permute(0, 2, 3, 1)
        pixels = F.linear(last.flatten(0, 2), self.weight[:, :, 0, 0], self.bias)
        return pixels.unflatten(0, last.shape[:3]).permute(0, 3, 1, 2)

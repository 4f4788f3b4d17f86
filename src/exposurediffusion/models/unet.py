"""The U-Net of SID (Chen et al., CVPR 2018), of any width and depth."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from exposurediffusion.models.pointwise import PointwiseConv


class ConvPair(nn.Module):
    """Two 3x3 convolutions, each with LeakyReLU(0.2)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.second = nn.Conv2d(out_channels, out_channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h w"]:
        """Same size, other channels."""
        return F.leaky_relu(self.second(F.leaky_relu(self.first(x), 0.2, inplace=True)), 0.2, inplace=True)


def _transposed(in_channels: int, out_channels: int) -> nn.Module:
    return nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2)


def _bilinear(in_channels: int, out_channels: int) -> nn.Module:
    return nn.Sequential(PointwiseConv(in_channels, out_channels), nn.Upsample(scale_factor=2, mode="bilinear"))


UPSAMPLINGS = {"transposed": _transposed, "bilinear": _bilinear}


class UNet(nn.Module):
    """Encoder and decoder with max pooling, upsampling by two and concatenated skips.

    Args:
        in_channels, out_channels: planes in and out.
        width: channels of the first level; doubled at each pooling.
        depth: number of poolings (4 in SID).
        upsampling: `transposed` 2x2 convolutions (SID's), which may leave a mesh on even fields; or `bilinear`, after a
            1x1 convolution, which treats all sites of the finer grid alike.
    """

    predicts_residual = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        width: int = 32,
        depth: int = 4,
        upsampling: Literal["transposed", "bilinear"] = "transposed",
    ) -> None:
        super().__init__()
        if upsampling not in UPSAMPLINGS:
            raise ValueError(f"upsampling is {' or '.join(UPSAMPLINGS)}, not {upsampling!r}")
        widths = [width * 2**level for level in range(depth + 1)]
        self.encoders = nn.ModuleList(ConvPair(a, b) for a, b in zip([in_channels, *widths[:-1]], widths, strict=True))
        self.ups = nn.ModuleList(UPSAMPLINGS[upsampling](2 * w, w) for w in reversed(widths[:-1]))
        self.decoders = nn.ModuleList(ConvPair(2 * w, w) for w in reversed(widths[:-1]))
        self.head = PointwiseConv(width, out_channels)
        self.multiple = 2**depth
        # What reaches a pixel beside an edge that lies on a multiple: two 3x3 convolutions per level, down and up, and
        # one coarse pixel of each interpolation.
        self.halo = 6 * 2**depth - 2 + (2 * 2**depth - 2 if upsampling == "bilinear" else 0)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h w"]:
        """Height and width must be multiples of `multiple`."""
        skips = []
        for level, encoder in enumerate(self.encoders):
            if level:
                x = F.max_pool2d(x, 2)
            x = encoder(x)
            skips.append(x)
        skips.pop()
        for up, decoder in zip(self.ups, self.decoders, strict=True):
            x = decoder(torch.cat([up(x), skips.pop()], dim=1))
        if x.dtype == self.head.weight.dtype:  # not under autocast
            return self.head(x)
        with torch.autocast(x.device.type, enabled=False):  # bfloat16 here would leave bands in smooth gradients
            return self.head(x.to(self.head.weight.dtype))

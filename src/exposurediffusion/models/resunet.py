"""A residual U-Net without biases (after DRUNet, Zhang et al., TPAMI 2022) upsampled bilinearly: it does not mesh."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from exposurediffusion.models.pointwise import PointwiseConv


class ResidualBlock(nn.Module):
    """`x + conv(relu(conv(x)))`, 3x3."""

    def __init__(self, channels: int, bias: bool = False) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, bias=bias)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=bias)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Same shape."""
        return x + self.second(F.relu(self.first(x), inplace=True))


class ResUNet(nn.Module):
    """Residual blocks at each scale, strided 2x2 convolutions down, 1x1 and bilinear interpolation up, added skips.

    Without biases the network is homogeneous: twice the image and twice the noise give twice the estimate, so that it
    holds for noise levels that it was not trained on (Mohan et al., ICLR 2020). Interpolation treats all sites of a
    finer grid alike, as a transposed convolution does not: of a flat field it makes a flat field.

    Args:
        in_channels, out_channels: planes in and out.
        widths: channels of each scale, finest first.
        encoders: residual blocks of each scale on the way down; the last is the coarsest's.
        decoders: and on the way up, finest first, one less.
        bias: give the convolutions biases after all.
    """

    predicts_residual = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        widths: Sequence[int] = (16, 32, 64, 128, 256),
        encoders: Sequence[int] = (1, 1, 1, 1, 1),
        decoders: Sequence[int] = (1, 1, 1, 1),
        bias: bool = False,
    ) -> None:
        super().__init__()
        if not len(widths) == len(encoders) == len(decoders) + 1:
            raise ValueError(
                f"encoders are as many as widths and decoders one less, got {len(encoders)} and {len(decoders)} "
                f"for {len(widths)} widths"
            )
        finer = list(pairwise(widths))
        self.intro = nn.Conv2d(in_channels, widths[0], 3, padding=1, bias=bias)
        self.encoders = nn.ModuleList(_blocks(w, n, bias) for w, n in zip(widths, encoders, strict=True))
        self.downs = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2, bias=bias) for a, b in finer)
        self.ups = nn.ModuleList(PointwiseConv(b, a, bias) for a, b in finer)
        self.decoders = nn.ModuleList(_blocks(w, n, bias) for w, n in zip(widths[:-1], decoders, strict=True))
        self.ending = nn.Conv2d(widths[0], out_channels, 3, padding=1, bias=bias)
        self.multiple = 2 ** len(self.downs)
        # What reaches a pixel: two 3x3 convolutions per block and one coarse pixel of the interpolation at each scale.
        blocks = [down + up for down, up in zip(encoders, [*decoders, 0], strict=True)]
        self.halo = 2 + sum(2 * n * 2**scale for scale, n in enumerate(blocks)) + 2 * self.multiple - 2

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h w"]:
        """Height and width must be multiples of `multiple`."""
        x = self.intro(x)
        skips = []
        for encoder, down in zip(self.encoders, self.downs, strict=False):  # the coarsest scale has no way down
            x = encoder(x)
            skips.append(x)
            x = down(x)
        x = self.encoders[-1](x)
        for up, decoder, skip in reversed(list(zip(self.ups, self.decoders, skips, strict=True))):
            x = decoder(F.interpolate(up(x), scale_factor=2, mode="bilinear") + skip)
        if x.dtype == self.ending.weight.dtype:  # not under autocast
            return self.ending(x)
        with torch.autocast(x.device.type, enabled=False):  # bfloat16 here would leave bands in smooth gradients
            return self.ending(x.to(self.ending.weight.dtype))


def _blocks(channels: int, count: int, bias: bool) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(channels, bias) for _ in range(count)))

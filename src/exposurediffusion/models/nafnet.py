"""NAFNet (Chen et al., ECCV 2022), of any width and depth, from operations that export and compile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from exposurediffusion.models.pointwise import PointwiseConv


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of each pixel, with an affine map per channel."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Same shape."""
        last = x.permute(0, 2, 3, 1)  # free where memory is laid out channels last, as in training and inference
        return F.layer_norm(last, self.weight.shape, self.weight, self.bias, self.eps).permute(0, 3, 1, 2)


class GlobalPool(nn.Module):
    """Mean over the image. It is the only operation of the network that sees all of a frame at once.

    So that a frame may be processed in tiles, the pooled vector can be taken once and held: see `pooling_recorded`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.recording = False
        self.held: Tensor | None = None

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c 1 1"]:
        """The mean of each channel, or the vector that is held."""
        if self.held is not None:
            return self.held.to(x.dtype).expand(x.shape[0], -1, -1, -1)
        pooled = x.mean(dim=(2, 3), keepdim=True)
        if self.recording:  # one vector of the whole probe, whose images are equal parts of one frame
            pooled = pooled.mean(dim=0, keepdim=True)
            self.held = pooled.detach()
            return pooled.expand(x.shape[0], -1, -1, -1)
        return pooled


@contextmanager
def pooling_recorded(network: nn.Module) -> Iterator[list[GlobalPool]]:
    """Within, an evaluation pools over its whole batch, and leaves the result held in each `GlobalPool`.

    Yields the pools that the network has; with an empty list there is nothing to evaluate.
    """
    pools = [module for module in network.modules() if isinstance(module, GlobalPool)]
    for pool in pools:
        pool.recording, pool.held = True, None
    try:
        yield pools
    finally:
        for pool in pools:
            pool.recording = False


def release_pooling(network: nn.Module) -> None:
    """Let every `GlobalPool` pool for itself again."""
    for module in network.modules():
        if isinstance(module, GlobalPool):
            module.held = None


def _gate(x: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=1)
    return first * second


class NAFBlock(nn.Module):
    """Normalise, expand, depthwise 3x3, gate, channel attention; normalise, expand, gate; two scaled residuals."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = ChannelNorm(channels)
        self.conv1 = PointwiseConv(channels, 2 * channels)
        self.conv2 = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=2 * channels)
        self.pool = GlobalPool()
        self.attention = PointwiseConv(channels, channels)
        self.conv3 = PointwiseConv(channels, channels)
        self.norm2 = ChannelNorm(channels)
        self.conv4 = PointwiseConv(channels, 2 * channels)
        self.conv5 = PointwiseConv(channels, channels)
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Same shape."""
        y = _gate(self.conv2(self.conv1(self.norm1(x))))
        x = x + self.beta * self.conv3(y * self.attention(self.pool(y)))
        return x + self.gamma * self.conv5(_gate(self.conv4(self.norm2(x))))


class NAFNet(nn.Module):
    """U-shaped stack of NAF blocks.

    Args:
        in_channels, out_channels: planes in and out.
        width: channels of the first level; doubled at each level.
        encoders, middle, decoders: number of blocks per level; `encoders` and `decoders` have one entry per level.
    """

    predicts_residual = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        width: int = 16,
        encoders: Sequence[int] = (),
        middle: int = 1,
        decoders: Sequence[int] = (),
    ) -> None:
        super().__init__()
        if len(encoders) != len(decoders):
            raise ValueError(f"as many decoder as encoder levels, got {len(decoders)} and {len(encoders)}")
        widths = [width * 2**level for level in range(len(encoders) + 1)]
        self.intro = nn.Conv2d(in_channels, width, 3, padding=1)
        self.encoders = nn.ModuleList(_blocks(w, n) for w, n in zip(widths, encoders, strict=False))
        self.downs = nn.ModuleList(nn.Conv2d(w, 2 * w, 2, stride=2) for w in widths[:-1])
        self.middle = _blocks(widths[-1], middle)
        self.ups = nn.ModuleList(PointwiseConv(w, 2 * w, bias=False) for w in reversed(widths[1:]))
        self.decoders = nn.ModuleList(_blocks(w, n) for w, n in zip(reversed(widths[:-1]), decoders, strict=True))
        self.ending = nn.Conv2d(width, out_channels, 3, padding=1)
        self.multiple = 2 ** len(encoders)
        # One 3x3 convolution a block; a deep network's would exceed any tile, but its far field is faint.
        reach = (
            2
            + sum(n * 2**i for i, n in enumerate([*encoders, middle]))
            + sum(n * 2**i for i, n in enumerate(reversed(decoders)))
        )
        self.halo = min(reach + 2 * self.multiple, 128)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h w"]:
        """Height and width must be multiples of `multiple`."""
        x = self.intro(x)
        skips = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            x = encoder(x)
            skips.append(x)
            x = down(x)
        x = self.middle(x)
        for up, decoder in zip(self.ups, self.decoders, strict=True):
            x = decoder(F.pixel_shuffle(up(x), 2) + skips.pop())
        return self.ending(x)


def _blocks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(NAFBlock(channels) for _ in range(count)))

"""A network for raw developers that know only tiles: packed planes in, camera RGB of the same brightness out.

Such a program says nothing of the exposure or of the noise. How far a tile is amplified before the network sees it is
fixed or follows from the tile's mean, and is taken back afterwards; the noise is fixed or estimated from the tile. All
of it is made of tensor operations that ONNX has.
"""

from __future__ import annotations

from math import log

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from exposurediffusion.models.denoiser import ExposureDenoiser
from exposurediffusion.models.graph import Graph
from exposurediffusion.physics.cameras.known import calibrated_cameras
from exposurediffusion.physics.sensor import SATURATION

TILE_PLANES = (0, 1, 3, 2)
"""R, G1, G2, B, as the tile has them, among our planes (R, G1, B, G2); its own inverse."""
BRIGHTNESS, LARGEST = 0.2, 300.0
"""Mean to which a tile is amplified, and the largest amplification: what the embedded weights were trained on."""
_BRIGHT, _HEADROOM = 0.999, 0.7  # the brightest cells but a few stay below white when amplified
_CELL = 4  # 2x2 blocks along a side of a cell
_QUANTILE, _AT_QUANTILE = 0.1, 9.312 / 16
"""Of the variances of cells, and what it is over their mean: chi-squared of 16 degrees of freedom."""
_GROUPS = 16  # of cells of the same brightness
_CLIPPED = 0.9  # cells above show no noise
_ERROR = 0.08  # of the logarithm of a group's variance
_GRID = 25  # points of the search along each logarithm
_GAIN, _READ = (log(2e-6), log(1 / 30)), (log(1e-5), log(0.1))  # per white; the deviation of the read noise


def tile_noise(planes: Float[Tensor, "1 c t t"]) -> tuple[Float[Tensor, "1"], Float[Tensor, "1"]]:
    """Gain and read variance of the noise of a tile, by a line through variance against mean (Foi et al., TIP 2008).

    The variance is that of the diagonal differences in blocks of 2x2, to which edges along the axes and the offsets of
    rows and columns add nothing. Cells of 8x8 pixels are sorted by brightness into groups; a low quantile of a
    group's variances stands for it, because texture only adds. Points above the line count less than points below, and
    where a tile has a single brightness the gain follows that of calibrated cameras with its read noise.

    Args:
        planes: not amplified, not white balanced, 1 is white; t at least 128, a multiple of 8.

    Returns:
        `variance = gain * brightness + read variance`; both of white.
    """
    corners = (planes[..., i::2, j::2] for i in (0, 1) for j in (0, 1))
    a, b, c, d = corners
    variance = F.avg_pool2d(((a - b - c + d) / 2) ** 2, _CELL).flatten()
    mean = F.avg_pool2d(planes, 2 * _CELL).flatten()
    count = variance.numel() // _GROUPS
    mean, order = mean.sort()
    mean = mean[: count * _GROUPS].reshape(_GROUPS, count).mean(1)
    sorted_variance = variance[order][: count * _GROUPS].reshape(_GROUPS, count).sort(dim=1).values
    measured = torch.log((sorted_variance[:, int(count * _QUANTILE)] / _AT_QUANTILE).clamp(min=1e-12))
    weight = (mean < _CLIPPED).to(planes.dtype)
    weight = weight + (weight.sum() == 0).to(planes.dtype)  # an all white tile: its noise does not matter
    laws = [camera.gaussian_read for camera in calibrated_cameras().values()]
    slope = sum(1 / law.slope for law in laws) / len(laws)
    usual = sum((log(SATURATION) - law.bias) / law.slope for law in laws) / len(laws) - log(SATURATION)
    steps = torch.linspace(-1, 1, _GRID, dtype=planes.dtype, device=planes.device)
    centre = [planes.new_tensor(sum(ends) / 2) for ends in (_GAIN, _READ)]
    half = [(ends[1] - ends[0]) / 2 for ends in (_GAIN, _READ)]
    for _ in range(4):
        gain, read = (middle + width * steps for middle, width in zip(centre, half, strict=True))
        model = gain.exp()[:, None, None] * mean.clamp(min=0) + (2 * read).exp()[None, :, None]
        z = (measured - model.log()) / _ERROR
        cost = torch.where(z > 0, 2 * torch.log1p(z.clamp(min=0) ** 2 / 2), torch.where(z > -3, z**2, -6 * z - 9))
        cost = (cost * weight).sum(-1) + (gain[:, None] - usual - slope * read) ** 2
        likely = torch.softmax(-cost.flatten() / 2, 0).reshape(_GRID, _GRID)
        centre = [(likely.sum(1) * gain).sum(), (likely.sum(0) * read).sum()]
        half = [width * 0.3 for width in half]
    return centre[0].exp().reshape(1), (2 * centre[1]).exp().reshape(1)


# Of each filter the sum is 8: as it is, green, a colour beside it, above and below it, and at the other colour's site
# (Malvar, He, Cutler, ICASSP 2004).
_AS_IT_IS = [[0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 8, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]
_GREEN = [[0, 0, -1, 0, 0], [0, 0, 2, 0, 0], [-1, 2, 4, 2, -1], [0, 0, 2, 0, 0], [0, 0, -1, 0, 0]]
_BESIDE = [[0, 0, 0.5, 0, 0], [0, -1, 0, -1, 0], [-1, 4, 5, 4, -1], [0, -1, 0, -1, 0], [0, 0, 0.5, 0, 0]]
_OTHER = [[0, 0, -1.5, 0, 0], [0, 2, 0, 2, 0], [-1.5, 0, 6, 0, -1.5], [0, 2, 0, 2, 0], [0, 0, -1.5, 0, 0]]
_ABOVE = [list(row) for row in zip(*_BESIDE, strict=True)]
_FILTERS = torch.tensor([_AS_IT_IS, _GREEN, _BESIDE, _ABOVE, _OTHER])[:, None] / 8
# Which filter gives R, G and B at the sites of R, G1, G2 and B.
_CHOICE = torch.tensor([[0, 2, 3, 4], [1, 0, 0, 1], [4, 3, 2, 0]])


def demosaiced(tile: Float[Tensor, "1 4 t t"]) -> Float[Tensor, "1 3 t2 t2"]:
    """Full colour of planes R, G1, G2, B by the linear filters of Malvar, He and Cutler; sites keep what they have."""
    mosaic = F.pad(F.pixel_shuffle(tile, 2), (2, 2, 2, 2), mode="reflect")
    filtered = F.pixel_unshuffle(F.conv2d(mosaic, _FILTERS.to(tile)), 2)
    chosen = (4 * _CHOICE + torch.arange(4)).flatten().to(tile.device)
    return F.pixel_shuffle(filtered[:, chosen], 2)


class TileGraph(nn.Module):
    """An `ExposureDenoiser` of four planes as a function of a tile alone: its estimate in one step.

    Args:
        model: takes Bayer planes.
        noise: gain and read variance, of white; None: they are estimated from each tile (`tile_noise`).
        ratio: amplification before the network, taken back after it; None: it brings the mean of the tile to
            `BRIGHTNESS`, unless its brightest parts reach white before, and is 1 to `LARGEST`.

    Raises:
        ValueError: the model takes X-Trans planes.
    """

    def __init__(
        self, model: ExposureDenoiser, noise: tuple[float, float] | None = None, ratio: float | None = None
    ) -> None:
        super().__init__()
        if model.config.planes != 4:
            raise ValueError("tiles are of Bayer frames: these weights are for X-Trans")
        self.graph, self.noise, self.ratio = Graph(model), noise, ratio

    def forward(self, tile: Float[Tensor, "1 4 t t"]) -> Float[Tensor, "1 3 t2 t2"]:
        """Clean camera RGB at every site.

        What is white or brighter once it is amplified is bright enough to stay as it is.

        Args:
            tile: R, G1, G2, B, 0 is black and 1 white, not white balanced.
        """
        capture = tile[:, TILE_PLANES]
        if self.noise is None:
            gain, read_variance = tile_noise(capture)
        else:
            gain, read_variance = (tile.new_tensor([value]) for value in self.noise)
        if self.ratio is None:
            cells = F.avg_pool2d(capture, 2 * _CELL).flatten().sort().values
            brightest = cells[int(cells.numel() * _BRIGHT)]
            wanted = torch.minimum(BRIGHTNESS / capture.mean().clamp(min=1e-6), _HEADROOM / brightest.clamp(min=1e-6))
            ratio = wanted.clamp(1.0, LARGEST).reshape(1)
        else:
            ratio = tile.new_tensor([self.ratio])
        amplified = capture * ratio
        exposure = torch.ones_like(ratio)
        estimate = self.graph(amplified, amplified, exposure, ratio, gain, read_variance)
        bright = ((amplified - 0.9) / 0.1).clamp(0, 1)
        clean = (estimate + bright * (amplified - estimate)) / ratio
        return demosaiced(clean[:, TILE_PLANES])

"""Nothing that the light says is overruled: an estimate is brought back into the interval that its capture gives.

The noise of a capture has mean zero, so the mean of many samples is known far better than any one of them, and no
network may contradict it. The residual `capture - estimate` is averaged over windows of several sizes; if the estimate
is true, its variance is `(gain * signal + read^2) / samples + row^2 / rows`. What exceeds k deviations is added
to the estimate, coarse windows first, so that each mean ends inside its interval; a mean that was inside stays as it
was (soft thresholding of the residual is the projection onto the interval).

- In the coarse windows the correction may be linear in the estimate itself (the model of the guided filter; He, Sun,
  Tang, TPAMI 2013), along the direction in which the estimate varies most there: two areas of other colours in one
  window are distinguished by the estimate's own border, so a large flat area in saturated light is put right up to its
  edge. The regression is weighted by the inverse variance, its slope and its mean are thresholded one by one; only
  contrasts above the noise of a cell of 4x4 pixels count, because blotches that a network leaves are the noise itself.
- In the finer ones it is the plain mean.
- The black level error is one number per plane for the whole frame: it is estimated in the darkest windows (a median
  weighted by the inverse variance), bounded by what is known of it, and left out of the residual.
- Where the estimate is white and the capture brighter still, nothing is contradicted; there the capture is clipped and
  its mean compared with that of a clipped Gaussian.

Whole frame, any number of planes; memory: a few quarter-size copies of the frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import pi, sqrt

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from exposurediffusion.physics.parameters import NoiseParameters

GUIDED = ((6, 2.0), (4, 2.0))
"""Windows with a linear model: level (cells of 2^level packed pixels) and k, in standard deviations."""
PLAIN = ((5, 1.0), (4, 2.0), (3, 3.0), (2, 4.0), (1, 6.0))
"""Windows with a mean alone. The finer, the more there are, and the larger the deviation that chance explains."""
BLACK_LEVEL, BLACK_BOUND = 4, 3.0  # windows that show the black level error; its bound in standard deviations
_DARKEST = 0.1  # part of the windows, the darkest of a plane, that show it: in light a network takes it for light
_TAPS = torch.tensor([0.25, 0.5, 0.25])  # windows overlap: each counts half of its neighbours
_BAND = 1 << 18  # packed pixels worked on at a time at full size
_WHITE, _FLAT = 0.999, 1e-5  # an estimate that is white; variance of an estimate without a border, above rounding


@dataclass(frozen=True)
class _Cells:
    """Means over cells of 2^level packed pixels: estimate, residual of the capture, its variance, each (1, c, h, w)."""

    level: int
    estimate: Tensor
    residual: Tensor
    variance: Tensor

    def pooled(self) -> _Cells:
        """Cells twice as large."""
        parts = (F.avg_pool2d(x, 2, ceil_mode=True) for x in (self.estimate, self.residual, self.variance / 4))
        return _Cells(self.level + 1, *parts)


@dataclass(frozen=True)
class _Linear:
    """A correction `matrix @ estimate + offset` in windows of a level: (1, c * c, h, w) and (1, c, h, w)."""

    level: int
    matrix: Tensor
    offset: Tensor


def faithful(
    estimate: Float[Tensor, "c h w"],
    capture: Float[Tensor, "c h w"],
    ratio: float,
    noise: NoiseParameters,
    error: Float[Tensor, "c"] | None = None,
) -> Float[Tensor, "c h w"]:
    """The estimate, nowhere further from the capture's means than noise explains.

    Args:
        estimate: of the clean image at reference brightness, in [0, 1].
        capture: at reference brightness, not clipped; its defects mended, its row offsets out.
        ratio: amplification lambda_ref / lambda_T.
        noise: of the capture (b = 1). `noise.black` bounds the error of its black level.
        error: of the black level, of `black_error`, where this is but a part of the frame; None: it is estimated.

    Returns:
        A new image in [0, 1]; equal to the estimate where that contradicts no mean.
    """
    cells, row, bound = _of_frame(estimate, capture, ratio, noise)
    depth = _depth(estimate)
    if error is None:
        error = _black_error(cells, row, min(BLACK_LEVEL, depth), bound)
    cells = replace(cells, residual=cells.residual - error.reshape(1, -1, 1, 1))
    linear = None
    for level, k in GUIDED:
        if level <= depth:
            found = _linear(cells.pooled(), row, level, k)
            cells = _corrected(cells, found)
            linear = found if linear is None else _chained(linear, found)
    plain = _plain(cells, row, [(level, k) for level, k in PLAIN if level <= depth])
    return _applied(estimate, linear, plain)


def black_error(
    estimate: Float[Tensor, "c h w"], capture: Float[Tensor, "c h w"], ratio: float, noise: NoiseParameters
) -> Float[Tensor, "c"]:
    """The error of the black level of each plane, at reference brightness, by the darkest windows of a whole frame.

    Args:
        estimate, capture, ratio, noise: of `faithful`, which leaves this error out of account.
    """
    cells, row, bound = _of_frame(estimate, capture, ratio, noise)
    return _black_error(cells, row, min(BLACK_LEVEL, _depth(estimate)), bound).flatten()


def _of_frame(estimate: Tensor, capture: Tensor, ratio: float, noise: NoiseParameters) -> tuple[_Cells, float, float]:
    """A frame in cells, the variance of its lines' offsets, and a bound of its black error, at reference brightness."""
    scale = ratio / noise.saturation  # DN -> reference brightness
    row = float(noise.line_variance) * scale**2
    bound = 0.0 if noise.black is None else BLACK_BOUND * float(noise.black) * scale
    return _cells(estimate, capture, float(noise.gain) * scale, float(noise.read_variance) * scale**2 - row), row, bound


def _depth(estimate: Tensor) -> int:
    """The coarsest level of a frame: two windows along the shorter side at least."""
    return max(1, min(estimate.shape[-2:]).bit_length() - 2)


def _bands(height: int, width: int) -> Iterator[slice]:
    """Rows of a quarter of a million pixels at a time, beginning on whole windows."""
    step = max(1, _BAND // width // 64) * 64
    yield from (slice(top, min(height, top + step)) for top in range(0, height, step))


def _cells(estimate: Tensor, capture: Tensor, gain: float, read: float) -> _Cells:
    """Pool a frame by two, a band at a time; variance = gain * signal + read at reference brightness."""
    parts = []
    for rows in _bands(*estimate.shape[-2:]):
        signal = estimate[None, :, rows]
        variance = signal.clamp(min=0).mul_(gain).add_(read)
        residual = capture[None, :, rows].clamp(max=1).sub_(signal)
        if bool(((1 - signal).square_() < 16 * variance).any()):  # noise reaches white, where the capture is clipped
            residual += signal - _clipped_mean(signal, variance.sqrt())
            residual = torch.where(signal >= _WHITE, residual.clamp(max=0), residual)
        parts.append(_Cells(0, signal, residual, variance).pooled())
    names = ("estimate", "residual", "variance")
    return _Cells(1, *(torch.cat([getattr(part, name) for part in parts], dim=-2) for name in names))


def _clipped_mean(mean: Tensor, deviation: Tensor) -> Tensor:
    """Expectation of a Gaussian that is clipped at 1."""
    z = (1 - mean) / deviation.clamp(min=1e-12)
    below = torch.special.ndtr(z)
    return 1 + (mean - 1) * below - deviation * torch.exp(-z.square() / 2) / sqrt(2 * pi)


def _sums(x: Tensor, times: int, taps: Tensor = _TAPS) -> Tensor:
    """Cells -> weighted sums over windows 2^times as large; outside the frame there is nothing."""
    if times == 0:
        return x
    x = F.avg_pool2d(x, 2**times, ceil_mode=True, divisor_override=1)
    kernel = (taps[:, None] * taps).to(x).expand(x.shape[1], 1, 3, 3)
    return F.conv2d(x, kernel, padding=1, groups=x.shape[1])


def _means(cells: _Cells, row: float, level: int) -> tuple[Tensor, Tensor]:
    """The mean residual of each window, and its variance: of its samples, and of the row offsets that they share."""
    times = level - cells.level
    count = _sums(torch.ones_like(cells.residual[:, :1]), times)
    variance = _sums(cells.variance, times, _TAPS**2) / count**2 + _shared(cells, row, times)
    return _sums(cells.residual, times) / count, variance


def _shared(cells: _Cells, row: float, times: int) -> Float[Tensor, "1 1 h 1"]:
    """Variance of a window's mean by row offsets: that of a cell, times the squared weights of its rows of cells."""
    cell = torch.full((1, 1, 1, 1), row / 2**cells.level)
    if times == 0:
        return cell
    size, height = 2**times, cells.residual.shape[-2]
    rows = torch.full((1, 1, -(-height // size)), float(size))
    rows[..., -1] -= -height % size
    squares, sums = (F.conv1d(rows, taps[None, None], padding=1) for taps in (_TAPS**2, _TAPS))
    return cell * (squares / sums**2)[..., None]


def _beyond(x: Tensor, limit: Tensor) -> Tensor:
    """What exceeds +-limit."""
    return x - torch.minimum(torch.maximum(x, -limit), limit)


def _black_error(cells: _Cells, row: float, level: int, bound: float) -> Float[Tensor, "1 c 1 1"]:
    """The residual of a plane's darkest windows: their median, weighted by precision, within +-bound."""
    mean, variance = (x[0].flatten(1) for x in _means(cells, row, level))
    light = _means(replace(cells, residual=cells.estimate), row, level)[0][0].flatten(1)
    dark = light <= light.quantile(_DARKEST, dim=1, keepdim=True)
    order = mean.argsort(dim=1)
    share = (dark / variance).gather(1, order).cumsum(1)
    middle = torch.searchsorted(share, share[:, -1:] / 2).clamp(max=mean.shape[1] - 1)
    return mean.gather(1, order.gather(1, middle)).clamp(-bound, bound).reshape(1, -1, 1, 1)


def _linear(cells: _Cells, row: float, level: int, k: float) -> _Linear:
    """What is significant of a weighted regression of the residual on the estimate's main direction in each window."""
    estimate, residual = cells.estimate, cells.residual
    times = level - cells.level
    weight = 1 / cells.variance.mean(dim=1, keepdim=True)
    total = _sums(weight, times)
    centre, offset = _sums(weight * estimate, times) / total, _sums(weight * residual, times) / total
    covariance, shared = [], []
    for plane in range(estimate.shape[1]):
        scaled = weight * estimate[:, plane : plane + 1]
        covariance.append(_sums(scaled * estimate, times) / total - centre[:, plane : plane + 1] * centre)
        shared.append(_sums(scaled * residual, times) / total - centre[:, plane : plane + 1] * offset)
    direction, spread = _main_direction(torch.stack(covariance, dim=-1).permute(0, 2, 3, 1, 4))
    slope = torch.einsum("jbphw,bhwj->bphw", torch.stack(shared), direction) / spread
    # the variance of a weighted mean is sum(w^2 v) / sum(w)^2; with w = 1 / v that of the slope is this over the spread
    variance = _sums(weight**2 * cells.variance, times, _TAPS**2) / total**2
    slope = _beyond(slope, k * (variance / spread).sqrt())
    slope = slope * (1 - _blotch_variance(cells, times) / spread).clamp(min=0)
    offset = _beyond(offset, k * (variance + _shared(cells, row, times)).sqrt())
    matrix = torch.einsum("bphw,bhwq->bpqhw", slope, direction)
    return _Linear(level, matrix.flatten(1, 2), offset - torch.einsum("bpqhw,bqhw->bphw", matrix, centre))


def _blotch_variance(cells: _Cells, times: int) -> Tensor:
    """Mean noise of a window's cells: weaker structure of an estimate may be noise that it and its residual share."""
    return _sums(cells.variance, times) / _sums(torch.ones_like(cells.variance[:, :1]), times)


def _main_direction(
    covariance: Float[Tensor, "1 h w c c"],
) -> tuple[Float[Tensor, "1 h w c"], Float[Tensor, "1 1 h w"]]:
    """First eigenvector and its variance by power iteration: a few steps are enough for a border."""
    vector = covariance.diagonal(dim1=-2, dim2=-1)[..., None]
    for _ in range(5):
        vector = covariance @ (vector / vector.norm(dim=-2, keepdim=True).clamp(min=1e-30))
    vector = vector / vector.norm(dim=-2, keepdim=True).clamp(min=1e-30)
    return vector[..., 0], (vector.mT @ covariance @ vector)[..., 0, 0][:, None].clamp(min=_FLAT)


def _times(matrix: Tensor, image: Tensor) -> Tensor:
    """(1, c * c, h, w) applied to (1, c, h, w)."""
    return torch.stack([(part * image).sum(1) for part in matrix.split(image.shape[1], dim=1)], dim=1)


def _corrected(cells: _Cells, linear: _Linear) -> _Cells:
    shape = cells.estimate.shape[-2:]
    matrix, offset = (_finer(x, linear.level - cells.level, shape) for x in (linear.matrix, linear.offset))
    change = _times(matrix, cells.estimate) + offset
    return replace(cells, estimate=cells.estimate + change, residual=cells.residual - change)


def _chained(coarse: _Linear, fine: _Linear) -> _Linear:
    """Both corrections, one after the other, as one of the finer windows."""
    shape, times = fine.offset.shape[-2:], coarse.level - fine.level
    matrix, offset = _finer(coarse.matrix, times, shape), _finer(coarse.offset, times, shape)
    columns = matrix.unflatten(1, (fine.offset.shape[1], -1)).unbind(2)
    product = torch.stack([_times(fine.matrix, column) for column in columns], dim=2).flatten(1, 2)
    return _Linear(fine.level, matrix + fine.matrix + product, offset + fine.offset + _times(fine.matrix, offset))


def _finer(x: Tensor, times: int, shape: tuple[int, ...]) -> Tensor:
    """Interpolate linearly to a grid that is 2^times finer, cut to `shape`."""
    return F.interpolate(x, scale_factor=float(2**times), mode="bilinear")[..., : shape[0], : shape[1]]


def _plain(cells: _Cells, row: float, levels: list[tuple[int, float]]) -> Tensor:
    """The correction by means, on cells; the levels run down to 1."""
    correction = torch.zeros(1, 1, 1, 1)
    for level, k in levels:
        mean, variance = _means(cells, row, level)
        correction = _finer(correction, 1, mean.shape[-2:]) if correction.shape[1] > 1 else torch.zeros_like(mean)
        correction = correction + _beyond(mean - correction, k * variance.sqrt())
    return correction


def _applied(estimate: Tensor, linear: _Linear | None, plain: Tensor) -> Tensor:
    """Everything added to the estimate at full size, a band at a time."""
    result = torch.empty_like(estimate)
    for rows in _bands(*estimate.shape[-2:]):
        image = estimate[None, :, rows]
        change = _band(plain, 1, rows, image)
        if linear is not None:
            change += _band(linear.offset, linear.level, rows, image)
            for plane, matrix in enumerate(linear.matrix.split(len(estimate), dim=1)):
                change[:, plane] += _band(matrix, linear.level, rows, image).mul_(image).sum(1)
        result[:, rows] = change.add_(image)[0].clamp_(0, 1)
    return result


def _band(x: Tensor, level: int, rows: slice, image: Tensor) -> Tensor:
    """Rows of what `_finer` makes of a whole grid: from those of the grid and a line more on either side."""
    first, last = rows.start >> level, -(-rows.stop >> level)
    above = int(first > 0)
    part = x[..., first - above : last + 1, :]
    height, width = image.shape[-2:]
    return _finer(part, level, (height + (above << level), width))[..., above << level :, :]

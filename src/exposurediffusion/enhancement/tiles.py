"""A denoiser that works through a frame of any size in tiles, with the result of the whole.

The exposure itself runs on the whole frame: its states, and the draws that it makes for each pixel, know nothing of
tiles. Only the network's evaluations are cut up, each tile with as much surrounding as can reach it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import ceil

import torch
from jaxtyping import Float
from torch import Tensor

from exposurediffusion.enhancement.custom import CustomDenoiser
from exposurediffusion.models.denoiser import ExposureDenoiser
from exposurediffusion.models.graph import Compiled
from exposurediffusion.models.nafnet import pooling_recorded, release_pooling
from exposurediffusion.models.xtrans import BayerOnXTrans
from exposurediffusion.physics.conditions import Conditions

Network = ExposureDenoiser | Compiled | BayerOnXTrans | CustomDenoiser

AUTO_AREA = 1_700_000  # packed pixels of a tile with its halo: about half a gigabyte in a network of width 16
LEAST_SIDE = 256  # packed pixels of a tile: for smaller images libraries choose kernels with other last digits
PROBES, PROBE_SIDE = 9, 256  # what a pooling network sees of a frame that is larger than its probes


@dataclass(frozen=True)
class Tile:
    """Rows and columns that a tile is to give, and those that it has to see."""

    inner: tuple[slice, slice]
    outer: tuple[slice, slice]

    @property
    def within(self) -> tuple[slice, slice]:
        """The inner part, counted from the outer part's corner."""
        rows, columns = (
            slice(i.start - o.start, i.stop - o.start) for i, o in zip(self.inner, self.outer, strict=True)
        )
        return rows, columns


def split(shape: tuple[int, int], side: int | None, halo: int, multiple: int) -> list[Tile]:
    """Cut planes of `shape` into tiles that start on multiples, so that pooling cells fall as in the whole.

    Args:
        shape: rows and columns of the planes.
        side: largest tile side in packed pixels without its halo; None: as few tiles as `AUTO_AREA` allows.
        halo: packed pixels around a tile that can change it.
        multiple: of the network.
    """
    halo = ceil(halo / multiple) * multiple
    counts = _auto_counts(shape, halo) if side is None else (ceil(shape[0] / side), ceil(shape[1] / side))
    axes = []
    for size, count in zip(shape, counts, strict=True):
        step = ceil(size / count / multiple) * multiple
        axes.append([slice(start, min(size, start + step)) for start in range(0, size, step)])
    return [
        Tile((rows, columns), (_grow(rows, shape[0], halo, multiple), _grow(columns, shape[1], halo, multiple)))
        for rows in axes[0]
        for columns in axes[1]
    ]


def _grow(inner: slice, size: int, halo: int, multiple: int) -> slice:
    start, stop = max(0, inner.start - halo), min(size, inner.stop + halo)
    least = max(0, stop - LEAST_SIDE) // multiple * multiple
    return slice(min(start, least), min(size, max(stop, start + LEAST_SIDE)))


def _auto_counts(shape: tuple[int, int], halo: int) -> tuple[int, int]:
    """The numbers of rows and columns of tiles that fit `AUTO_AREA` with the least pixels computed."""
    best, least = (shape[0], shape[1]), float("inf")
    for down in range(1, 65):
        for across in range(1, 65):
            height = min(shape[0], ceil(shape[0] / down) + (0 if down == 1 else 1 if down == 2 else 2) * halo)
            width = min(shape[1], ceil(shape[1] / across) + (0 if across == 1 else 1 if across == 2 else 2) * halo)
            cost = down * across * height * width
            if height * width <= AUTO_AREA and cost < least:
                best, least = (down, across), cost
    return best


@dataclass(frozen=True)
class TiledDenoiser:
    """`denoise(state, exposure) -> estimate` over a whole frame (batch of one), tile by tile.

    A network with global pooling (NAFNet) gets its pooled vectors once per evaluation from a fixed sample of the frame
    (the frame itself where that is small), and holds them for all tiles: otherwise each tile would have its own.

    Attributes:
        model: on the device where it computes.
        conditions: of the frame; `origin` is the capture, on the host.
        side: tile side in packed pixels, None: automatic.
        autocast: compute in bfloat16.
        tick: called after each tile.
    """

    model: Network
    conditions: Conditions
    side: int | None = None
    autocast: bool = False
    tick: Callable[[], None] = lambda: None

    def tiles(self, shape: tuple[int, int]) -> list[Tile]:
        """The tiles of planes of `shape`.

        Raises:
            ValueError: a side is given, but the denoiser has to see the whole frame.
        """
        if self.model.halo is None:
            if self.side is not None:
                raise ValueError("this denoiser does not say how far it sees (`halo`): it cannot work in tiles")
            whole = slice(0, shape[0]), slice(0, shape[1])
            return [Tile(whole, whole)]
        return split(shape, self.side, self.model.halo, self.model.multiple)

    def __call__(self, state: Float[Tensor, "1 c h w"], exposure: Float[Tensor, "1"]) -> Float[Tensor, "1 c h w"]:
        """The estimate, on the host, float32."""
        return self.where(None, state, exposure)

    def where(
        self,
        wanted: Float[Tensor, "1 1 h w"] | None,
        state: Float[Tensor, "1 c h w"],
        exposure: Float[Tensor, "1"] | None = None,
    ) -> Float[Tensor, "1 c h w"]:
        """The estimate in the tiles in which `wanted` is not zero everywhere (None: in all), the state elsewhere."""
        estimate = state.clone()
        exposure = torch.ones(1) if exposure is None else exposure
        with torch.inference_mode(), self._pooling_held(state, exposure):
            for tile in self.tiles((state.shape[-2], state.shape[-1])):
                if wanted is not None and not bool(wanted[..., tile.inner[0], tile.inner[1]].any()):
                    continue
                image = self._evaluate([tile.outer], state, exposure)
                estimate[..., tile.inner[0], tile.inner[1]] = image[..., tile.within[0], tile.within[1]].to("cpu")
                self.tick()
        return estimate

    def _evaluate(self, windows: list[tuple[slice, slice]], state: Tensor, exposure: Tensor) -> Tensor:
        """Evaluate the network on equally large windows of the frame."""
        device = next(self.model.parameters(), state).device

        def cut(planes: Tensor) -> Tensor:
            batch = torch.cat([planes[..., rows, columns] for rows, columns in windows])
            return batch.to(device).contiguous(memory_format=torch.channels_last)

        origin = cut(self.conditions.origin) if self.conditions.origin is not None else None
        scalars = {name: getattr(self.conditions, name).to(device) for name in ("ratio", "gain", "read_variance")}
        conditions = replace(self.conditions, origin=origin, **scalars)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.autocast):
            return self.model(cut(state), exposure.to(device), conditions).image.float()

    @contextmanager
    def _pooling_held(self, state: Tensor, exposure: Tensor) -> Iterator[None]:
        """Hold a pooling network's vectors while the tiles of one evaluation are computed."""
        with pooling_recorded(self.model) as pools:
            if pools:
                windows = list(_probes((state.shape[-2], state.shape[-1]), self.model.multiple))
                self._evaluate(windows, state, exposure)
        try:
            yield
        finally:
            release_pooling(self.model)


def _probes(shape: tuple[int, int], multiple: int) -> Iterator[tuple[slice, slice]]:
    """Windows spread evenly over planes of `shape`; the whole, if it is not larger than they are together."""
    rows, columns = shape
    if rows * columns <= PROBES * PROBE_SIDE**2:
        yield slice(0, rows), slice(0, columns)
        return
    across = int(PROBES**0.5)
    height, width = min(PROBE_SIDE, rows), min(PROBE_SIDE, columns)
    for i in range(across):
        for j in range(across):
            top = (rows - height) * i // (across - 1) // multiple * multiple
            left = (columns - width) * j // (across - 1) // multiple * multiple
            yield slice(top, top + height), slice(left, left + width)

"""The exposure of one frame: its rows and columns levelled, the network in tiles, one sample or several."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from exposurediffusion.enhancement.custom import CustomDenoiser
from exposurediffusion.enhancement.engines import compiled
from exposurediffusion.enhancement.plan import EnhancePlan, amplified
from exposurediffusion.enhancement.tiles import Network, TiledDenoiser
from exposurediffusion.models.xtrans import BayerOnXTrans
from exposurediffusion.physics.conditions import Conditions
from exposurediffusion.process.exposure import Denoise
from exposurediffusion.process.lines import level_lines
from exposurediffusion.process.sampling import SharedBeginning, last, mean_and_spread
from exposurediffusion.weights.file import TrainedDenoiser


def network_for(decided: EnhancePlan, model: TrainedDenoiser | Denoise) -> Network:
    """The model as it sees the frame's planes, by the engine that computes it."""
    if not isinstance(model, TrainedDenoiser):
        return CustomDenoiser(model)
    network = model if decided.engine == "torch" else compiled(model, decided.engine)
    return BayerOnXTrans(network) if model.config.planes < decided.frame.sensor.cfa.planes else network


def in_tiles(
    network: Network, decided: EnhancePlan, conditions: Conditions, tick: Callable[[], None] = lambda: None
) -> TiledDenoiser:
    """The network, evaluated in tiles as the plan says."""
    side = None if decided.options.tile == "auto" else decided.options.tile
    return TiledDenoiser(network, conditions, side, decided.autocast, tick)


def limited(capture: Tensor, decided: EnhancePlan) -> Tensor:
    """The capture as the weights want it."""
    return capture if decided.sampling.clamp is None else capture.clamp(*decided.sampling.clamp)


class Exposed(NamedTuple):
    """Estimate and spread at reference brightness, (1, c, h, w); offsets of rows and columns that were found, DN."""

    estimate: Tensor
    spread: Tensor | None
    rows: np.ndarray | None
    columns: np.ndarray | None


class Beginning(NamedTuple):
    """What an exposure begins with: the capture, rows and columns levelled, limited; and what came out of it, DN."""

    capture: Tensor
    denoise: SharedBeginning
    conditions: Conditions
    rows: np.ndarray | None
    columns: np.ndarray | None


def begin(network: Network, decided: EnhancePlan, tick: Callable[[], None] = lambda: None) -> Beginning:
    """The first evaluation, by which rows and columns are levelled; it is counted once."""
    ticks = [tick]

    def tiled(capture: Tensor, tick: Callable[[], None] = tick) -> TiledDenoiser:
        return in_tiles(network, decided, Conditions.of(decided.noise, decided.ratio, capture), tick)

    def first(capture: Tensor) -> Tensor:  # the evaluation that is always made is counted, further ones are not
        capture = limited(capture, decided)
        return tiled(capture, ticks.pop() if ticks else lambda: None)(capture, torch.ones(1))

    frame, noise = decided.frame, decided.noise
    levelled = level_lines(first, amplified(frame, decided.ratio), frame.sensor.cfa, frame.shape, noise, decided.ratio)
    unit = frame.sensor.saturation / decided.ratio
    lines = [None if x is None else x * unit for x in (levelled.rows, levelled.columns)]
    capture = limited(levelled.capture, decided)
    beginning = first(levelled.capture) if levelled.estimate is None else levelled.estimate
    return Beginning(
        capture, SharedBeginning(tiled(capture), beginning), Conditions.of(noise, decided.ratio), lines[0], lines[1]
    )


@torch.inference_mode()
def exposed(model: TrainedDenoiser | Denoise, decided: EnhancePlan, tick: Callable[[], None] = lambda: None) -> Exposed:
    """The estimate in [0, 1] of one exposure, or the mean of several and their spread; rows and columns levelled."""
    begun = begin(network_for(decided, model), decided, tick)

    def estimate(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        run = decided.sampling.run(begun.denoise, begun.capture, begun.conditions, generator=generator)
        return last(run).clamp(0, 1)

    seeds = range(decided.options.seed, decided.options.seed + decided.options.samples)
    if len(seeds) == 1:
        return Exposed(estimate(seeds[0]), None, begun.rows, begun.columns)
    return Exposed(*mean_and_spread(estimate(seed) for seed in seeds), begun.rows, begun.columns)

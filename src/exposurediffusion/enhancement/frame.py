"""The main job: a dark raw frame in, a clean raw frame out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import log2
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from exposurediffusion.enhancement.corrections import without_lines
from exposurediffusion.enhancement.plan import RATIO_RANGE, EnhancePlan, amplified, plan
from exposurediffusion.enhancement.tiles import TiledDenoiser
from exposurediffusion.models.denoiser import ExposureDenoiser
from exposurediffusion.models.xtrans import BayerOnXTrans
from exposurediffusion.physics.conditions import Conditions
from exposurediffusion.physics.mosaic import packed_shape, unpack
from exposurediffusion.physics.sensor import RawFrame
from exposurediffusion.process.faithful import faithful
from exposurediffusion.process.lines import level_lines
from exposurediffusion.process.sampling import SharedBeginning, last, mean_and_spread
from exposurediffusion.weights.file import TrainedDenoiser

BRACKET = 8.0  # highlights are denoised once more at an amplification this much smaller
SHOULDER = (0.85, 0.98)  # an estimate between these hands over to the next darker source


def _network(frame: RawFrame, model: TrainedDenoiser) -> ExposureDenoiser | BayerOnXTrans:
    """The model as it sees the frame's planes."""
    return BayerOnXTrans(model) if model.config.planes < frame.sensor.cfa.planes else model


def tile_count(model: TrainedDenoiser, decided: EnhancePlan) -> int:
    """Tiles of all evaluations, for a progress bar (those for highlights, rows and columns not counted)."""
    tiled = TiledDenoiser(_network(decided.frame, model), Conditions.of(decided.noise, decided.ratio), decided.tile)
    shape = packed_shape(decided.frame.shape, decided.frame.sensor.cfa)
    return len(tiled.tiles(shape)) * (1 + decided.samples * decided.sampling.steps)


@dataclass(frozen=True)
class Enhanced:
    """A clean frame, and what is known of how it came about; maps are (rows, columns) float32, 1 = white of the frame.

    Attributes:
        frame: the result.
        overruled: what was added to the network's estimate at each site, since the light said so (`process.faithful`);
            0 where highlights come from the capture. None: it was not asked for, or faithfulness is off.
        spread: standard deviation of several samples; None: there was but one.
        row_offsets, column_offsets: what was taken from each row and column of the capture, DN, (rows) and (columns);
            None: nothing, or masked columns told it before.
    """

    frame: RawFrame
    overruled: np.ndarray | None = None
    spread: np.ndarray | None = None
    row_offsets: np.ndarray | None = None
    column_offsets: np.ndarray | None = None


class _Exposed(NamedTuple):
    """Estimate and spread at reference brightness, (1, c, h, w); offsets of rows and columns that were found, DN."""

    estimate: Tensor
    spread: Tensor | None
    rows: np.ndarray | None
    columns: np.ndarray | None


def run_plan(model: TrainedDenoiser, decided: EnhancePlan, tick: Callable[[], None] = lambda: None) -> Enhanced:
    """Carry a plan out; see `enhance_with_maps`. `tick` is called after each tile."""
    with torch.inference_mode():
        network = _network(decided.frame, model)
        estimate, spread, rows, columns = _exposed(network, decided, tick)
        if rows is not None or columns is not None:
            decided = replace(decided, frame=without_lines(decided.frame, rows, columns))
        frame, overruled = decided.frame, None
        if decided.faithful:
            before, estimate = estimate, _faithful(estimate, amplified(frame, decided.ratio), decided.ratio, decided)
            overruled = estimate - before if decided.maps else None
        maps = {name: x for name, x in (("overruled", overruled), ("spread", spread)) if x is not None}
        if decided.exposure == "capture":
            clipped = _shoulder(estimate)
            estimate = _with_highlights(estimate, clipped, network, decided)
            for x in maps.values():
                x *= 1 - clipped  # what comes from elsewhere is the same for all samples
        if decided.strength < 1:
            estimate = torch.lerp(amplified(frame, decided.ratio), estimate, decided.strength)
        if decided.exposure == "capture":
            estimate /= decided.ratio
        for x in maps.values():
            x *= decided.strength / (decided.ratio if decided.exposure == "capture" else 1)
    brightened = log2(decided.ratio) if decided.exposure == "capture" else 0.0
    exposure = frame.metadata.baseline_exposure + brightened
    result = frame.with_planes(estimate[0], baseline_exposure=exposure)
    shown = {name: unpack(x[0], frame.sensor.cfa, frame.shape).numpy() for name, x in maps.items()}
    return Enhanced(result, **shown, row_offsets=rows, column_offsets=columns)


def _exposed(network: ExposureDenoiser | BayerOnXTrans, decided: EnhancePlan, tick: Callable[[], None]) -> _Exposed:
    """The estimate in [0, 1] of one exposure, or the mean of several and their spread; rows and columns levelled."""
    ticks = [tick]

    def tiled(capture: Tensor, tick: Callable[[], None] = tick) -> TiledDenoiser:
        conditions = Conditions.of(decided.noise, decided.ratio, capture)
        return TiledDenoiser(network, conditions, decided.tile, decided.autocast, tick)

    def first(capture: Tensor) -> Tensor:  # the evaluation that is always made is counted, further ones are not
        capture = _limited(capture, decided)
        return tiled(capture, ticks.pop() if ticks else lambda: None)(capture, torch.ones(1))

    frame, noise = decided.frame, decided.noise
    levelled = level_lines(first, amplified(frame, decided.ratio), frame.sensor.cfa, frame.shape, noise, decided.ratio)
    unit = frame.sensor.saturation / decided.ratio
    lines = [None if x is None else x * unit for x in (levelled.rows, levelled.columns)]
    capture = _limited(levelled.capture, decided)
    beginning = first(levelled.capture) if levelled.estimate is None else levelled.estimate
    denoise = SharedBeginning(tiled(capture), beginning)
    conditions = Conditions.of(noise, decided.ratio)

    def estimate(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return last(decided.sampling.run(denoise, capture, conditions, generator=generator)).clamp(0, 1)

    if decided.samples == 1:
        return _Exposed(estimate(decided.seed), None, *lines)
    return _Exposed(*mean_and_spread(estimate(decided.seed + n) for n in range(decided.samples)), *lines)


def _limited(capture: Tensor, decided: EnhancePlan) -> Tensor:
    """The capture as the weights want it."""
    return capture if decided.sampling.clamp is None else capture.clamp(*decided.sampling.clamp)


def _faithful(
    estimate: Float[Tensor, "1 c h w"], capture: Float[Tensor, "1 c h w"], ratio: float, decided: EnhancePlan
) -> Float[Tensor, "1 c h w"]:
    return faithful(estimate[0], capture[0], ratio, decided.noise)[None]


def _with_highlights(
    estimate: Float[Tensor, "1 c h w"],
    clipped: Float[Tensor, "1 1 h w"],
    network: ExposureDenoiser | BayerOnXTrans,
    decided: EnhancePlan,
) -> Float[Tensor, "1 c h w"]:
    """Put back what the amplification clipped: from an evaluation at a smaller ratio, and beyond it from the capture.

    Just above white the capture is still noisy, so a second estimate, of an exposure `BRACKET` times darker, leads over
    to the capture itself, which is nearly free of noise where that one ends.
    """
    if not bool((clipped > 0).any()):
        return estimate
    factor = min(BRACKET, decided.ratio / RATIO_RANGE[0])
    darker = amplified(decided.frame, decided.ratio / factor)
    limited = _limited(darker, decided)
    conditions = Conditions.of(decided.noise, decided.ratio / factor, limited)
    bracket = TiledDenoiser(network, conditions, decided.tile, decided.autocast)
    second = bracket.where(clipped, limited).clamp_(0, 1)
    if decided.faithful:
        second = _faithful(second, darker, decided.ratio / factor, decided)
    second = torch.lerp(second, darker, _shoulder(second)).mul_(factor)
    return torch.lerp(estimate, second, clipped)


def _shoulder(estimate: Float[Tensor, "1 c h w"]) -> Float[Tensor, "1 1 h w"]:
    """0 where all planes are well below white, 1 where one reaches it, smooth between: colours stay together."""
    low, high = SHOULDER
    t = ((estimate.amax(dim=1, keepdim=True) - low) / (high - low)).clamp_(0, 1)
    return t * t * (3 - 2 * t)


def enhance(frame: RawFrame, model: TrainedDenoiser, **options: Any) -> RawFrame:
    """Enhance a dark raw frame: simulate a longer exposure of it (Algorithm 2).

    Args:
        frame: from `read_raw`.
        model: from `load`.
        options: of `plan`: ratio, steps, sampling, camera, noise, exposure, strength, faithful, tile, precision, seed,
            samples.

    Returns:
        The frame with clean values (float32 DN); at reference exposure, or at the capture's with
        `metadata.baseline_exposure` telling viewers by how much to brighten it.
    """
    return run_plan(model, plan(frame, model, **options)).frame


def enhance_with_maps(frame: RawFrame, model: TrainedDenoiser, **options: Any) -> Enhanced:
    """`enhance`, and maps: where the network was overruled, and of several samples what they leave open.

    Args:
        frame, model, options: of `enhance`.
    """
    return run_plan(model, plan(frame, model, maps=True, **options))


def enhance_with_spread(
    frame: RawFrame, model: TrainedDenoiser, samples: int = 8, **options: Any
) -> tuple[RawFrame, np.ndarray]:
    """`enhance` by several sampled exposures, and what they leave open.

    Args:
        frame, model, options: of `enhance`.
        samples: exposures, at least 2; the network runs 1 + samples x T times.

    Returns:
        The frame with the mean of the estimates; and their standard deviation at each site, (rows, columns) float32, in
        units of the frame's white at its exposure. It is 0 where highlights come from the capture. It tells the places
        that the simulated photons decide, not the whole error: the capture's own noise is the same for all samples.

    Raises:
        ValueError: fewer than 2 samples, or as `plan`.
    """
    if samples < 2:
        raise ValueError(f"a spread is that of two samples at least, got {samples}")
    result = run_plan(model, plan(frame, model, samples=samples, **options))
    assert result.spread is not None  # two samples have one
    return result.frame, result.spread

"""The main job: a dark raw frame in, a clean raw frame out."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from math import log2
from typing import Concatenate, ParamSpec, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from exposurediffusion.enhancement.corrections import without_lines
from exposurediffusion.enhancement.exposing import Exposed, exposed, in_tiles, limited, network_for
from exposurediffusion.enhancement.options import EnhanceOptions
from exposurediffusion.enhancement.plan import EnhancePlan, amplified, plan
from exposurediffusion.enhancement.strength import blend
from exposurediffusion.enhancement.tiles import Network
from exposurediffusion.files.atomic import SOFTWARE_NAME
from exposurediffusion.physics.conditions import Conditions
from exposurediffusion.physics.mosaic import packed_shape, unpack
from exposurediffusion.physics.sensor import RawFrame
from exposurediffusion.process.exposure import Denoise
from exposurediffusion.process.faithful import faithful
from exposurediffusion.weights.file import TrainedDenoiser

BRACKET = 8.0  # highlights are denoised once more at an amplification this much smaller
LEAST_BRACKETED = 1.5  # amplification below which there is no darker evaluation
SHOULDER = (0.85, 0.98)  # an estimate between these hands over to the next darker source
HEADROOM, CLIPPED = 3, 1e-4  # EV that an automatic exposure keeps at most, and the part of the sites that may clip


def tile_count(model: TrainedDenoiser | Denoise, decided: EnhancePlan) -> int:
    """Tiles of all evaluations, for a progress bar (those for highlights, rows and columns not counted)."""
    tiled = in_tiles(network_for(decided, model), decided, Conditions.of(decided.noise, decided.ratio))
    shape = packed_shape(decided.frame.shape, decided.frame.sensor.cfa)
    return len(tiled.tiles(shape)) * (1 + decided.options.samples * decided.sampling.steps)


@dataclass(frozen=True)
class Enhanced:
    """A clean frame, and what is known of how it came about; maps are (rows, columns) float32, 1 = white of the frame.

    Attributes:
        frame: the result.
        overruled: what was added to the network's estimate at each site, since the light said so (`process.faithful`);
            0 where highlights come from the capture. None: it was not asked for, or faithfulness is off.
        spread: standard deviation of several samples; None: there was but one.
        row_offsets, column_offsets: what was taken from each row and column of the capture, DN, (rows) and (columns);
            None: nothing, or masked columns showed it before.
    """

    frame: RawFrame
    overruled: np.ndarray | None = None
    spread: np.ndarray | None = None
    row_offsets: np.ndarray | None = None
    column_offsets: np.ndarray | None = None


def run_plan(
    model: TrainedDenoiser | Denoise, decided: EnhancePlan, tick: Callable[[], None] = lambda: None
) -> Enhanced:
    """Carry a plan out; see `enhance_with_maps`. `tick` is called after each tile."""
    return finished(model, decided, exposed(model, decided, tick))


def finished(model: TrainedDenoiser | Denoise, decided: EnhancePlan, done: Exposed) -> Enhanced:
    """What `run_plan` makes of an exposure: faithful, with its highlights, as strong and as bright as was asked for.

    `done` is used up; of the plan it depends on frame, ratio, noise, sampling, samples, seed and tiles alone.
    """
    options, ratio = decided.options, decided.ratio
    with torch.inference_mode():
        network, (estimate, spread, rows, columns) = network_for(decided, model), done
        del done  # a large frame's copies are heavy
        if rows is not None or columns is not None:
            decided = replace(decided, frame=without_lines(decided.frame, rows, columns))
        frame, overruled = decided.frame, None
        if options.faithful:
            before, estimate = estimate, _faithful(estimate, amplified(frame, ratio), ratio, decided)
            overruled = estimate - before if options.maps else None
        maps = {name: x for name, x in (("overruled", overruled), ("spread", spread)) if x is not None}
        if options.exposure != "reference":
            clipped = shoulder(estimate)
            estimate = _with_highlights(estimate, clipped, network, decided)
            for x in maps.values():
                x *= 1 - clipped  # what comes from elsewhere is the same for all samples
        estimate = blend(estimate, frame, ratio, decided.luma, decided.chroma)
        darker = _darker(estimate, decided)
        estimate /= darker
        if options.exposure == "auto":
            estimate.clamp_(max=1)
        for x in maps.values():
            x *= decided.luma / darker
    exposure = frame.metadata.baseline_exposure + log2(darker)
    result = frame.with_planes(estimate[0], baseline_exposure=exposure, history=_history(model, decided))
    shown = {name: unpack(x[0], frame.sensor.cfa, frame.shape).numpy() for name, x in maps.items()}
    return Enhanced(result, **shown, row_offsets=rows, column_offsets=columns)


def _history(model: TrainedDenoiser | Denoise, decided: EnhancePlan) -> dict[str, str]:
    """How the result came about, for its file."""
    if isinstance(model, TrainedDenoiser):
        weights = {"Weights": model.card.name or "unnamed", "WeightsDigest": model.digest}
    else:
        weights = {"Weights": getattr(model, "__name__", type(model).__name__)}
    return {
        "Program": SOFTWARE_NAME,
        **weights,
        "Ratio": f"{decided.ratio:g}",
        "Steps": str(decided.sampling.steps),
        "Increment": decided.sampling.increment,
        "Samples": str(decided.options.samples),
        "Seed": str(decided.options.seed),
        "Luma": f"{decided.luma:g}",
        "Chroma": f"{decided.chroma:g}",
        "Faithful": "on" if decided.options.faithful else "off",
        "Noise": decided.noise.source,
        "Engine": decided.engine,
    }


def _darker(estimate: Float[Tensor, "1 c h w"], decided: EnhancePlan) -> float:
    """By how much the output is darker than the reference exposure.

    Never darker than the capture: what is clipped there would be less than white, and editors would show it coloured.
    """
    if decided.options.exposure == "reference":
        return 1.0
    if decided.options.exposure == "capture":
        return decided.ratio
    held = decided.frame.planes < 1  # what is clipped in the capture is lost already
    values = estimate[0][held]
    fits = (h for h in range(HEADROOM) if int((values > 2**h).sum()) <= CLIPPED * values.numel())
    return min(decided.ratio, 2.0 ** next(fits, HEADROOM))


def _faithful(
    estimate: Float[Tensor, "1 c h w"], capture: Float[Tensor, "1 c h w"], ratio: float, decided: EnhancePlan
) -> Float[Tensor, "1 c h w"]:
    error = None if decided.black_error is None else decided.black_error * (ratio / decided.ratio)
    return faithful(estimate[0], capture[0], ratio, decided.noise, error)[None]


def _with_highlights(
    estimate: Float[Tensor, "1 c h w"],
    clipped: Float[Tensor, "1 1 h w"],
    network: Network,
    decided: EnhancePlan,
) -> Float[Tensor, "1 c h w"]:
    """Put back what the amplification clipped: from an evaluation at a smaller ratio, and beyond it from the capture.

    Just above white the capture is still noisy, so a second estimate, of an exposure `BRACKET` times darker, leads over
    to the capture itself, which is nearly free of noise where that one ends.
    """
    if not bool((clipped > 0).any()):
        return estimate
    factor = min(BRACKET, max(1.0, decided.ratio / LEAST_BRACKETED))
    darker = amplified(decided.frame, decided.ratio / factor)
    capture = limited(darker, decided)
    conditions = Conditions.of(decided.noise, decided.ratio / factor, capture)
    second = in_tiles(network, decided, conditions).where(clipped, capture).clamp_(0, 1)
    if decided.options.faithful:
        second = _faithful(second, darker, decided.ratio / factor, decided)
    second = torch.lerp(second, darker, shoulder(second)).mul_(factor)
    return torch.lerp(estimate, second, clipped)


def shoulder(estimate: Float[Tensor, "1 c h w"]) -> Float[Tensor, "1 1 h w"]:
    """0 where all planes are well below white, 1 where one reaches it, smooth between: colours stay together."""
    low, high = SHOULDER
    t = ((estimate.amax(dim=1, keepdim=True) - low) / (high - low)).clamp_(0, 1)
    return t * t * (3 - 2 * t)


P = ParamSpec("P")
R = TypeVar("R")
_Run = Callable[[RawFrame, "TrainedDenoiser | Denoise", EnhanceOptions], R]


def _with_options_of(
    options: Callable[P, EnhanceOptions],
) -> Callable[[_Run[R]], Callable[Concatenate[RawFrame, TrainedDenoiser | Denoise, P], R]]:
    """Give a function the fields of the options as keyword arguments of its own."""

    def decorate(run: _Run[R]) -> Callable[Concatenate[RawFrame, TrainedDenoiser | Denoise, P], R]:
        frame_and_model = list(inspect.signature(run).parameters.values())[:2]
        fields = inspect.signature(options).parameters.values()
        signature = inspect.signature(run).replace(parameters=[*frame_and_model, *fields])

        @wraps(run)
        def with_keywords(frame: RawFrame, model: TrainedDenoiser | Denoise, *args: P.args, **kwargs: P.kwargs) -> R:
            if unknown := kwargs.keys() - signature.parameters.keys():
                raise TypeError(f"{run.__name__}() got an unexpected keyword argument {min(unknown)!r}")
            return run(frame, model, options(*args, **kwargs))

        with_keywords.__signature__ = signature  # type: ignore[attr-defined]
        return with_keywords

    return decorate


@_with_options_of(EnhanceOptions)
def enhance(frame: RawFrame, model: TrainedDenoiser | Denoise, options: EnhanceOptions) -> RawFrame:
    """Enhance a dark raw frame: simulate a longer exposure of it (Algorithm 2).

    Args:
        frame: from `read_raw`.
        model: from `load`; or any `denoise(state, exposure) -> estimate` on (1 c h w) at reference brightness, 1 =
            white, and exposures (1) from 1 (the capture) to the ratio. If it has `halo` and `multiple` (packed pixels
            that reach a result, and of which its input is a multiple), a frame is cut into tiles, else it is given
            whole.
        options: by keywords, each as `EnhanceOptions` says.

    Returns:
        The frame with clean values (float32 DN); at the exposure that was asked for, `metadata.baseline_exposure`
        noting for viewers by how much to brighten it.

    Raises:
        TypeError, ValueError: see `plan` and `EnhanceOptions`.
    """
    return run_plan(model, plan(frame, model, options)).frame


@_with_options_of(EnhanceOptions)
def enhance_with_maps(frame: RawFrame, model: TrainedDenoiser | Denoise, options: EnhanceOptions) -> Enhanced:
    """`enhance`, and maps: where the network was overruled, and of several samples their standard deviation.

    The deviation shows the places that the simulated photons decide, not the whole error: the capture's own noise is
    the same for all samples, and where highlights come from the capture it is 0.

    Args:
        frame, model, options: of `enhance`.
    """
    return run_plan(model, plan(frame, model, replace(options, maps=options.faithful)))

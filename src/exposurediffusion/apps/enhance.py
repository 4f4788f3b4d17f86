"""The main job: a dark raw frame in, a clean raw frame out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import log2
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from exposurediffusion.apps.planning import RATIO_RANGE, EnhancePlan, amplified, plan
from exposurediffusion.apps.tiling import TiledDenoiser
from exposurediffusion.learn.weights import TrainedDenoiser
from exposurediffusion.models.denoiser import Conditions, ExposureDenoiser
from exposurediffusion.models.xtrans import BayerOnXTrans
from exposurediffusion.physics.mosaic import packed_shape, unpack
from exposurediffusion.physics.sensor import RawFrame, electrons_per_unit
from exposurediffusion.process.exposure import Denoise, ExposureStep
from exposurediffusion.process.faithful import faithful
from exposurediffusion.process.sampling import SharedBeginning
from exposurediffusion.process.spread import mean_and_spread

BRACKET = 8.0  # highlights are denoised once more at an amplification this much smaller
SHOULDER = (0.85, 0.98)  # an estimate between these hands over to the next darker source


def best_device() -> torch.device:
    """CUDA or MPS where there is one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def find_device(name: str) -> torch.device:
    """A device by its name; `auto`: the best one.

    Raises:
        ValueError: there is none of that name.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return best_device()
    if not available[name]:
        raise ValueError(f"--device {name}: PyTorch finds none on this machine; use --device cpu")
    return torch.device(name)


def _network(frame: RawFrame, model: TrainedDenoiser) -> ExposureDenoiser | BayerOnXTrans:
    """The model as it sees the frame's planes."""
    return BayerOnXTrans(model) if model.config.planes < frame.sensor.cfa.planes else model


def tile_count(frame: RawFrame, model: TrainedDenoiser, decided: EnhancePlan) -> int:
    """Tiles of all evaluations, for a progress bar (highlights not counted)."""
    shape = packed_shape(frame.shape, frame.sensor.cfa)
    tiled = TiledDenoiser(_network(frame, model), _conditions(decided, decided.ratio, None), decided.tile)
    return len(tiled.tiles(shape)) * (1 + decided.samples * decided.sampling.steps)


@dataclass(frozen=True)
class Enhanced:
    """A clean frame, and what is known of how it came about; maps are (rows, columns) float32, 1 = white of the frame.

    Attributes:
        frame: the result.
        overruled: what was added to the network's estimate at each site, since the light said so (`process.faithful`);
            0 where highlights come from the capture. None: it was not asked for, or faithfulness is off.
        spread: standard deviation of several samples; None: there was but one.
    """

    frame: RawFrame
    overruled: np.ndarray | None = None
    spread: np.ndarray | None = None


def run_plan(
    frame: RawFrame, model: TrainedDenoiser, decided: EnhancePlan, tick: Callable[[], None] = lambda: None
) -> Enhanced:
    """Carry a plan out; see `enhance_with_maps`. `tick` is called after each tile."""
    with torch.inference_mode():
        network = _network(frame, model)
        estimate, spread = _exposed(frame, network, decided, tick)  # a large frame's planes are a quarter of a gigabyte
        overruled = None
        if decided.faithful:
            estimate, overruled = _faithful(estimate, frame, decided)
        maps = {name: x for name, x in (("overruled", overruled), ("spread", spread)) if x is not None}
        if decided.exposure == "capture":
            clipped = _shoulder(estimate)
            estimate = _with_highlights(estimate, clipped, frame, network, decided)
            for x in maps.values():
                x *= 1 - clipped  # what comes from elsewhere is the same for all samples
        if decided.strength < 1:
            estimate = torch.lerp(_capture(frame, decided), estimate, decided.strength)
        if decided.exposure == "capture":
            estimate /= decided.ratio
        for x in maps.values():
            x *= decided.strength / (decided.ratio if decided.exposure == "capture" else 1)
    brightened = log2(decided.ratio) if decided.exposure == "capture" else 0.0
    exposure = frame.metadata.baseline_exposure + brightened
    result = frame.with_planes(estimate[0], baseline_exposure=exposure)
    return Enhanced(result, **{name: unpack(x[0], frame.sensor.cfa, frame.shape).numpy() for name, x in maps.items()})


def _faithful(
    estimate: Float[Tensor, "1 c h w"], frame: RawFrame, decided: EnhancePlan
) -> tuple[Float[Tensor, "1 c h w"], Float[Tensor, "1 c h w"] | None]:
    """The estimate within what the capture says, and by how much it was moved, if that is to be shown."""
    result = faithful(estimate[0], _capture(frame, decided)[0], decided.ratio, decided.noise)[None]
    return result, (result - estimate if decided.maps else None)


def _exposed(
    frame: RawFrame, network: ExposureDenoiser | BayerOnXTrans, decided: EnhancePlan, tick: Callable[[], None]
) -> tuple[Float[Tensor, "1 c h w"], Float[Tensor, "1 c h w"] | None]:
    """The estimate at reference brightness, in [0, 1]: of one exposure, or the mean of several and their spread."""
    capture = _capture(frame, decided)
    if decided.sampling.clamp is not None:
        capture.clamp_(*decided.sampling.clamp)
    conditions = _conditions(decided, decided.ratio, capture)
    denoise = TiledDenoiser(network, conditions, decided.tile, decided.autocast, tick)
    electrons = electrons_per_unit(conditions.ratio, conditions.gain, conditions.saturation)

    def estimate(denoise: Denoise, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return _last_estimate(decided.sampling.run(denoise, capture, conditions.ratio, electrons, generator=generator))

    if decided.samples == 1:
        return estimate(denoise, decided.seed).clamp_(0, 1), None
    shared = SharedBeginning(denoise)
    return mean_and_spread(estimate(shared, decided.seed + n).clamp_(0, 1) for n in range(decided.samples))


def _capture(frame: RawFrame, decided: EnhancePlan) -> Float[Tensor, "1 c h w"]:
    return amplified(frame, decided.ratio, decided.black_offset)


def _last_estimate(steps: Iterator[ExposureStep]) -> Float[Tensor, "1 c h w"]:
    return deque(steps, maxlen=1).pop().estimate


def _conditions(decided: EnhancePlan, ratio: float, origin: Tensor | None) -> Conditions:
    noise = decided.noise
    return Conditions(torch.tensor([ratio]), noise.gain, noise.read_variance, noise.saturation, origin)


def _with_highlights(
    estimate: Float[Tensor, "1 c h w"],
    clipped: Float[Tensor, "1 1 h w"],
    frame: RawFrame,
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
    darker = _capture(frame, decided).div_(factor)
    limited = darker if decided.sampling.clamp is None else darker.clamp(*decided.sampling.clamp)
    conditions = _conditions(decided, decided.ratio / factor, limited)
    bracket = TiledDenoiser(network, conditions, decided.tile, decided.autocast)
    second = bracket.where(clipped, limited).clamp_(0, 1)
    if decided.faithful:
        second = faithful(second[0], darker[0], decided.ratio / factor, decided.noise)[None]
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
    return run_plan(frame, model, plan(frame, model, **options)).frame


def enhance_with_maps(frame: RawFrame, model: TrainedDenoiser, **options: Any) -> Enhanced:
    """`enhance`, and maps: where the network was overruled, and of several samples what they leave open.

    Args:
        frame, model, options: of `enhance`.
    """
    return run_plan(frame, model, plan(frame, model, maps=True, **options))


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
    result = run_plan(frame, model, plan(frame, model, samples=samples, **options))
    assert result.spread is not None  # two samples have one
    return result.frame, result.spread

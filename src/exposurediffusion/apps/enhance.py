"""The main job: a dark raw frame in, a clean raw frame out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import isfinite, log2
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from exposurediffusion.apps.tiling import TiledDenoiser
from exposurediffusion.learn.execution import is_good_at_bfloat16
from exposurediffusion.learn.weights import TrainedDenoiser
from exposurediffusion.models.denoiser import Conditions, ExposureDenoiser
from exposurediffusion.models.xtrans import BayerOnXTrans
from exposurediffusion.physics.estimation import black_offset, noise_of
from exposurediffusion.physics.profile import CameraProfile, NoiseParameters
from exposurediffusion.physics.sensor import RawFrame, electrons_per_unit
from exposurediffusion.process.exposure import ExposureStep
from exposurediffusion.process.sampling import Sampling

RATIO_RANGE = (1.5, 1000.0)
AUTO_RATIO_MAX = 300.0  # the largest amplification of SID, and of our training
KEY = 0.12  # mean green that the automatic ratio aims at
BRACKET = 8.0  # highlights are denoised once more at an amplification this much smaller
SHOULDER = (0.85, 0.98)  # an estimate between these hands over to the next darker source


@dataclass(frozen=True)
class EnhancePlan:
    """Everything decided before the network runs; global to the frame, whatever the tiles.

    Attributes:
        ratio: amplification.
        noise: parameters of the capture; `noise.source` says where they come from.
        sampling: steps, schedule, transition, increment, clamp.
        exposure: of the output: `reference`, brightened by the ratio; or `capture`, the clean image at the exposure of
            the capture, highlights kept.
        strength: 1 the estimate, 0 the capture, between a blend.
        black_offset: DN by which the masked pixels differ from the black level said by the file, or None.
        tile: side in packed pixels, None: automatic.
        autocast: compute in bfloat16.
        seed: of sampled increments.
    """

    ratio: float
    noise: NoiseParameters
    sampling: Sampling
    exposure: Literal["capture", "reference"] = "reference"
    strength: float = 1.0
    black_offset: float | None = None
    tile: int | None = None
    autocast: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        check_ratio(self.ratio)
        if not 0 <= self.strength <= 1:
            raise ValueError(f"strength lies between 0 and 1, got {self.strength:g}")
        if self.tile is not None and self.tile < 16:
            raise ValueError(f"a tile has at least 16 packed pixels a side, got {self.tile}")


def check_ratio(ratio: float) -> None:
    """Raise a ValueError for an amplification outside `RATIO_RANGE`."""
    low, high = RATIO_RANGE
    if not (isfinite(ratio) and low <= ratio <= high):
        raise ValueError(f"the ratio lies between {low:g} and {high:g}, got {ratio:g}")


def plan(
    frame: RawFrame,
    model: TrainedDenoiser,
    *,
    ratio: float | Literal["auto"] = "auto",
    steps: int | Literal["auto"] = "auto",
    sampling: Sampling | None = None,
    camera: CameraProfile | None = None,
    noise: NoiseParameters | None = None,
    exposure: Literal["capture", "reference"] = "reference",
    strength: float = 1.0,
    tile: int | Literal["auto"] = "auto",
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    seed: int = 0,
) -> EnhancePlan:
    """Decide how a frame is to be enhanced.

    Args:
        frame: the capture.
        model: from `load`.
        ratio: amplification, 1.5 to 1000; auto: from the frame's histogram, at most 300.
        steps: simulated exposures; auto: what the weights were made for.
        sampling: schedule, transition and increment; None: what the weights were made for.
        camera: noise profile; None: found from the metadata.
        noise: parameters, if they are known better; None: profile, DNG NoiseProfile, or estimated from the frame.
        exposure, strength, seed: see `EnhancePlan`.
        tile: side in packed pixels.
        precision: of the network; auto: bfloat16 where the device is good at it.

    Raises:
        ValueError: an argument is out of its range, or the frame's colour filter array is not that of the weights.
    """
    if model.config.planes > frame.sensor.cfa.planes:
        raise ValueError("these weights are for X-Trans sensors, the frame is a Bayer one")
    sampling = sampling or model.card.sampling
    return EnhancePlan(
        ratio=auto_ratio(frame) if ratio == "auto" else ratio,
        noise=noise or noise_of(frame, camera),
        sampling=sampling if steps == "auto" else replace(sampling, steps=steps),
        exposure=exposure,
        strength=strength,
        black_offset=black_offset(frame),
        tile=None if tile == "auto" else tile,
        autocast=precision == "bf16" or (precision == "auto" and is_good_at_bfloat16(next(model.parameters()).device)),
        seed=seed,
    )


def auto_ratio(frame: RawFrame) -> float:
    """The amplification that brings the mean of the greens, clipped at white, to `KEY`; within [1.5, 300]."""
    step = max(1, int((frame.mosaic.size / 4e6) ** 0.5)) * frame.sensor.cfa.period
    rows, columns = (slice(0, n // frame.sensor.cfa.period * frame.sensor.cfa.period) for n in frame.shape)
    period = frame.sensor.cfa.period
    blocks = frame.mosaic[rows, columns].reshape(frame.shape[0] // period, period, -1, period)
    sample = blocks[:: step // period, :, :: step // period].transpose(0, 2, 1, 3).reshape(-1, period, period)
    values = torch.cat(
        [
            (torch.from_numpy(sample[:, i // period, i % period].astype("float32")) - black)
            / (frame.sensor.white_level - black)
            for i, black in enumerate(frame.sensor.black_level)
            if frame.sensor.cfa.pattern()[i] == "G"
        ]
    )
    low, high = RATIO_RANGE[0], AUTO_RATIO_MAX
    for _ in range(30):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if float((values * middle).clamp(max=1).mean()) < KEY else (low, middle)
    return round((low * high) ** 0.5, 3)


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
    shape = tuple(-(-n // frame.sensor.cfa.stride) for n in frame.shape)
    tiled = TiledDenoiser(_network(frame, model), _conditions(decided, decided.ratio, None), decided.tile)
    return len(tiled.tiles((shape[0], shape[1]))) * (decided.sampling.steps + 1)


def run_plan(
    frame: RawFrame, model: TrainedDenoiser, decided: EnhancePlan, tick: Callable[[], None] = lambda: None
) -> RawFrame:
    """Carry a plan out; see `enhance`. `tick` is called after each tile."""
    clamp = decided.sampling.clamp
    with torch.inference_mode():
        capture = _amplified(frame, decided)
        if clamp is not None:
            capture.clamp_(*clamp)
        network, conditions = _network(frame, model), _conditions(decided, decided.ratio, capture)
        tiled = TiledDenoiser(network, conditions, decided.tile, decided.autocast, tick)
        generator = torch.Generator().manual_seed(decided.seed)
        electrons = electrons_per_unit(conditions.ratio, conditions.gain, conditions.saturation)
        steps = decided.sampling.run(tiled, capture, conditions.ratio, electrons, generator=generator)
        estimate = _last_estimate(steps).clamp_(0, 1)
        del capture, conditions, tiled, steps  # a large frame's planes are a quarter of a gigabyte each
        if decided.exposure == "capture":
            estimate = _with_highlights(estimate, frame, network, decided)
        if decided.strength < 1:
            estimate = torch.lerp(_amplified(frame, decided), estimate, decided.strength)
        if decided.exposure == "capture":
            estimate /= decided.ratio
    brightened = log2(decided.ratio) if decided.exposure == "capture" else 0.0
    exposure = frame.metadata.baseline_exposure + brightened
    return frame.with_planes(estimate[0], baseline_exposure=exposure)


def _amplified(frame: RawFrame, decided: EnhancePlan) -> Float[Tensor, "1 c h w"]:
    """The capture at reference brightness, its black put right."""
    capture = frame.planes[None]
    if decided.black_offset is not None:
        capture -= decided.black_offset / frame.sensor.saturation
    return capture.mul_(decided.ratio)


def _last_estimate(steps: Iterator[ExposureStep]) -> Float[Tensor, "1 c h w"]:
    return deque(steps, maxlen=1).pop().estimate


def _conditions(decided: EnhancePlan, ratio: float, origin: Tensor | None) -> Conditions:
    noise = decided.noise
    return Conditions(torch.tensor([ratio]), noise.gain, noise.read_variance, noise.saturation, origin)


def _with_highlights(
    estimate: Float[Tensor, "1 c h w"],
    frame: RawFrame,
    network: ExposureDenoiser | BayerOnXTrans,
    decided: EnhancePlan,
) -> Float[Tensor, "1 c h w"]:
    """Put back what the amplification clipped: from an evaluation at a smaller ratio, and beyond it from the capture.

    Just above white the capture is still noisy, so a second estimate, of an exposure `BRACKET` times darker, leads over
    to the capture itself, which is nearly free of noise where that one ends.
    """
    clipped = _shoulder(estimate)
    if not bool((clipped > 0).any()):
        return estimate
    factor = min(BRACKET, decided.ratio / RATIO_RANGE[0])
    darker = _amplified(frame, decided).div_(factor)
    limited = darker if decided.sampling.clamp is None else darker.clamp(*decided.sampling.clamp)
    conditions = _conditions(decided, decided.ratio / factor, limited)
    bracket = TiledDenoiser(network, conditions, decided.tile, decided.autocast)
    second = bracket.where(clipped, limited).clamp_(0, 1)
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
        options: of `plan`: ratio, steps, sampling, camera, noise, exposure, strength, tile, precision, seed.

    Returns:
        The frame with clean values (float32 DN); at reference exposure, or at the capture's with
        `metadata.baseline_exposure` telling viewers by how much to brighten it.
    """
    return run_plan(frame, model, plan(frame, model, **options))

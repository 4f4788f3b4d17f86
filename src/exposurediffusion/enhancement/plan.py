"""What is decided of a frame before the network runs: amplification, noise, number of steps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from exposurediffusion.analysis.black import with_black, with_true_black
from exposurediffusion.analysis.sources import NoiseSource
from exposurediffusion.enhancement.corrections import Prepared, prepare, with_hot_sites_of
from exposurediffusion.enhancement.engines import Engine, choose_engine
from exposurediffusion.enhancement.options import RATIO_RANGE, EnhanceOptions, black_levels
from exposurediffusion.enhancement.shading import without_dark_shading
from exposurediffusion.models.device import is_good_at_bfloat16
from exposurediffusion.physics.cameras.known import find_camera, load_profile, user_cameras
from exposurediffusion.physics.cameras.profile import CameraProfile
from exposurediffusion.physics.mosaic import packed_shape
from exposurediffusion.physics.noise import noise_level
from exposurediffusion.physics.parameters import NoiseParameters
from exposurediffusion.physics.sensor import RawFrame
from exposurediffusion.process.exposure import Denoise
from exposurediffusion.process.sampling import Sampling
from exposurediffusion.raw.read import read_raw
from exposurediffusion.raw.white_balance import white_balance
from exposurediffusion.weights.file import TrainedDenoiser

AUTO_RATIO_MAX = 300.0  # the largest amplification of SID, and of our training
KEY = 0.12  # mean green that the automatic ratio aims at
GRAIN = 0.005  # standard deviation of the noise that an automatic strength leaves; 1 is white


@dataclass(frozen=True)
class EnhancePlan:
    """Everything decided before the network runs; global to the frame, whatever the tiles.

    Attributes:
        frame: what is exposed on: the capture with its black, defects and rows put right.
        ratio: amplification.
        noise: parameters of the capture; `noise.source` says where they come from.
        noise_level: of the amplified capture (`physics.noise.noise_level`), by which the rule of the weights chooses T.
        sampling: steps, schedule, transition, increment, clamp.
        options: what was asked for; the rest of it holds as it stands.
        luma, chroma: strength for brightness and for colour: 1 the estimate, 0 the capture, between a blend.
        autocast: compute in bfloat16.
        engine: that computes the network.
        found, listed: defective sites that were mended: found in the frame, or known before.
        sources: all that is said of the noise, the most trusted first; empty where it was given.
        shaded: a dark shading was taken out.
        black_error: of each plane at reference brightness (c), where this is but a part of a frame that shows it (see
            `process.faithful`); None: the frame itself shows it.
    """

    frame: RawFrame
    ratio: float
    noise: NoiseParameters
    noise_level: float
    sampling: Sampling
    options: EnhanceOptions
    luma: float = 1.0
    chroma: float = 1.0
    autocast: bool = False
    engine: Engine = "torch"
    found: int = 0
    listed: int = 0
    sources: tuple[NoiseSource, ...] = ()
    shaded: bool = False
    black_error: Float[Tensor, "c"] | None = None


def plan(frame: RawFrame, model: TrainedDenoiser | Denoise, options: EnhanceOptions) -> EnhancePlan:
    """Decide how a frame is to be enhanced.

    Args:
        frame: the capture.
        model: from `load`; or any `denoise(state, exposure) -> estimate`, see `enhance`.
        options: what was asked for.

    Raises:
        TypeError: it is no frame, or no denoiser.
        ValueError: the frame holds nothing, is too small, has another colour filter array than that of the weights,
            or lacks what an option needs.
    """
    return decide(make_ready(frame, model, options), model, options)


def make_ready(frame: RawFrame, model: TrainedDenoiser | Denoise, options: EnhanceOptions) -> Prepared:
    """The first half of `plan`, and most of its work: what is put right in a frame, and its noise.

    Of the options those of the capture matter: iso, dark, white_balance, camera, noise, gain, read, black, defects,
    dark_shading. Raises as `plan` does.
    """
    _check(frame, model)
    frame = _at_iso(frame, options)
    if options.dark is not None:
        dark = options.dark if isinstance(options.dark, RawFrame) else read_raw(options.dark)
        frame = with_hot_sites_of(dark, frame)
    return prepare(
        white_balance(frame, options.white_balance),
        camera=_profile(frame, options.camera),
        noise=_given_noise(frame, options),
        black="auto" if options.black == "auto" else black_levels(options.black),
        defects=options.defects,
        dark_shading=options.dark_shading,
    )


def decide(ready: Prepared, model: TrainedDenoiser | Denoise, options: EnhanceOptions) -> EnhancePlan:
    """The second half of `plan`: amplification, steps and strength for a frame that is ready."""
    ratio = auto_ratio(ready.frame) if options.ratio == "auto" else float(options.ratio)
    level = float(noise_level(amplified(ready.frame, ratio), torch.tensor([ratio]), ready.noise))
    sampling = _sampling(model, options, ratio, level)
    height, width = packed_shape(ready.frame.shape, ready.frame.sensor.cfa)
    evaluations = 1 + options.samples * sampling.steps
    strength = max(0.0, 1 - GRAIN / level) if options.strength == "auto" else options.strength
    return EnhancePlan(
        frame=ready.frame,
        ratio=ratio,
        noise=ready.noise,
        noise_level=level,
        sampling=sampling,
        options=options,
        luma=strength if options.luma is None else options.luma,
        chroma=strength if options.chroma is None else options.chroma,
        autocast=_computes_in_bfloat16(model, options.precision),
        engine=choose_engine(options.engine, model, options.precision, evaluations * height * width),
        found=ready.found,
        listed=ready.listed,
        sources=ready.sources,
        shaded=ready.shaded,
    )


def _at_iso(frame: RawFrame, options: EnhanceOptions) -> RawFrame:
    """The frame with the ISO that was given for it."""
    return frame if options.iso is None else replace(frame, metadata=replace(frame.metadata, iso=options.iso))


def _check(frame: RawFrame, model: TrainedDenoiser | Denoise) -> None:
    """Raise unless this is a frame that this denoiser can be given."""
    if not isinstance(frame, RawFrame):
        raise TypeError(f"the frame is a RawFrame (of read_raw), one at a time, not {type(frame).__name__}")
    if not callable(model):
        raise TypeError(f"the model is of load, or a function of state and exposure, not {type(model).__name__}")
    if isinstance(model, TrainedDenoiser) and model.config.planes > frame.sensor.cfa.planes:
        raise ValueError("these weights are for X-Trans sensors, the frame is a Bayer one")
    if min(frame.shape) < frame.sensor.cfa.period:
        raise ValueError(f"a frame of {frame.shape[1]}x{frame.shape[0]} sites is too small: it shows no colour")
    if not np.isfinite(frame.mosaic).any():
        raise ValueError("the frame holds no number at all, only NaN or infinity")


def _profile(frame: RawFrame, camera: CameraProfile | str) -> CameraProfile | None:
    """The noise profile that was asked for, which then has to serve, or the user's own of this camera; None: neither.

    One's own that was not asked for may be of another camera of the model: defects that do not fit are left out.
    """
    if camera == "auto":
        own = find_camera(frame.metadata.camera, user_cameras().values())
        fits = own is None or all(row < frame.shape[0] and column < frame.shape[1] for row, column in own.defects)
        return own if own is None or fits else replace(own, defects=())
    profile = load_profile(camera) if isinstance(camera, str) else camera
    if not frame.metadata.iso:
        raise ValueError(
            f"the noise profile {profile.name} needs the ISO, which the file does not say: give it (--iso)"
        )
    profile.at_iso(frame.metadata.iso)  # an ISO outside its laws raises here, by name
    return profile


def _given_noise(frame: RawFrame, options: EnhanceOptions) -> NoiseParameters | None:
    if options.gain is None or options.read is None:
        return options.noise
    return NoiseParameters.gaussian(options.gain, options.read, frame.sensor.saturation, "given")


def _sampling(model: TrainedDenoiser | Denoise, options: EnhanceOptions, ratio: float, level: float) -> Sampling:
    """What the weights were made for and their rule says, as far as nothing else was asked for."""
    made_for = model.card.sampling if isinstance(model, TrainedDenoiser) else Sampling()
    named = {name: getattr(options, name) for name in ("schedule", "transition", "increment")}
    asked = replace(made_for, **{name: word for name, word in named.items() if word != "auto"})
    steps = options.steps
    if steps == "auto":
        with_rule = model.card if isinstance(model, TrainedDenoiser) and asked == made_for else None
        steps = asked.steps if with_rule is None else with_rule.steps(level)
        steps = 0 if ratio == 1 else steps  # there is nothing to expose
        steps = max(steps, int(options.samples > 1))
    return replace(asked, steps=steps, **({"increment": "sampled"} if options.samples > 1 else {}))


def _computes_in_bfloat16(model: TrainedDenoiser | Denoise, precision: Literal["auto", "fp32", "bf16"]) -> bool:
    if precision != "auto" or not isinstance(model, TrainedDenoiser):
        return precision == "bf16"
    return is_good_at_bfloat16(next(model.parameters()).device)


def ratio_of(frame: RawFrame, options: EnhanceOptions) -> float:
    """The ratio that `plan` would choose, without looking for defects."""
    if options.ratio != "auto":
        return options.ratio
    black = "auto" if options.black == "auto" else black_levels(options.black)
    frame = _at_iso(frame, options)
    frame = without_dark_shading(frame, options.dark_shading, _profile(frame, options.camera))
    return auto_ratio(with_true_black(frame) if black == "auto" else with_black(frame, black))


def auto_ratio(frame: RawFrame) -> float:
    """The amplification that brings the mean of the greens, clipped at white, to `KEY`; within [1, 300]."""
    sensor, period = frame.sensor, frame.sensor.cfa.period
    step = max(1, int((frame.mosaic.size / 4e6) ** 0.5))
    tiles = (np.arange(n // period * period) // period for n in frame.shape)  # of each line, the partial ones left out
    some = frame.mosaic[np.ix_(*(number % step == 0 for number in tiles))]
    light, letters = sensor.normalise(some), sensor.cfa.pattern()
    values = torch.cat([light[y, x].ravel() for (y, x, _), c in zip(sensor.sites, letters, strict=True) if c == "G"])
    low, high = RATIO_RANGE[0], AUTO_RATIO_MAX
    for _ in range(30):
        middle = (low * high) ** 0.5
        low, high = (
            (middle, high) if float((values * middle).clamp(max=1).mean(dtype=torch.float64)) < KEY else (low, middle)
        )
    return round((low * high) ** 0.5, 3)


def amplified(frame: RawFrame, ratio: float) -> Float[Tensor, "1 c h w"]:
    """The capture at reference brightness."""
    return frame.planes[None].mul_(ratio)

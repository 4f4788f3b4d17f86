"""To look before one waits: a frame at a fraction of its size, and a part of it as the whole would be enhanced."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d

from exposurediffusion.enhancement.exposing import begin, in_tiles, limited, network_for
from exposurediffusion.enhancement.frame import Enhanced, shoulder
from exposurediffusion.enhancement.plan import EnhancePlan, amplified
from exposurediffusion.enhancement.strength import blend
from exposurediffusion.physics.conditions import Conditions
from exposurediffusion.physics.mosaic import pack, packed_shape, unpack
from exposurediffusion.physics.sensor import RawFrame, Sensor
from exposurediffusion.process.exposure import Denoise
from exposurediffusion.process.faithful import black_error, faithful
from exposurediffusion.weights.file import TrainedDenoiser

GRID = 64
"""Packed pixels: parts begin on multiples of this, so that what works in cells sees the cells of the whole."""
CONTEXT = 128
"""Packed pixels around a part that are enhanced with it, for what looks further than a network."""


def smaller(frame: RawFrame, most: int) -> RawFrame:
    """The frame with neighbouring packed pixels averaged until at most so many are left: less noise, less work.

    It begins with a tile, lists no defects, and says neither camera nor ISO: its noise is that of no camera.
    """
    sensor, cfa = frame.sensor, frame.sensor.cfa
    height, width = packed_shape(frame.shape, cfa)
    factor = max(1, round((height * width / most) ** 0.5 + 0.499))
    multiple = cfa.period // cfa.stride
    planes = avg_pool2d(pack(sensor.normalise(frame.mosaic), cfa)[None], factor)[0]
    height, width = (n // multiple * multiple for n in planes.shape[-2:])
    tile = Sensor(cfa.tile, sensor.shifted(*(-n % cfa.period for n in cfa.origin)).black_level, sensor.white_level)
    values = unpack(planes[:, :height, :width], tile.cfa)
    data = frame.metadata
    crop = data.crop and tuple(round(n / factor) for n in data.crop)
    metadata = replace(data, crop=crop, make=None, model=None, iso=None, noise_profile=None)
    return replace(
        frame, mosaic=tile.digitise(values), sensor=tile, metadata=metadata, optical_black=(), defects=None, tags=None
    )


def part(decided: EnhancePlan, window: tuple[int, int, int, int]) -> tuple[EnhancePlan, tuple[int, int]]:
    """The plan of a part of the frame, with its surroundings.

    What was decided for the frame holds for the part. Measured on the part alone are the offsets of rows and columns
    that no masked columns show, how much headroom there is, and the black level error where the plan does not say it.

    Args:
        decided: plan of the whole frame.
        window: left, top, width and height, sites of the frame.

    Returns:
        The plan, and row and column of its first site in the frame.
    """
    frame, cfa = decided.frame, decided.frame.sensor.cfa
    ends, starts = [], []
    for start, size, limit, origin in zip(
        (window[1], window[0]), (window[3], window[2]), frame.shape, cfa.origin, strict=True
    ):
        first = max(0, (start + origin) // cfa.stride - CONTEXT) // GRID * GRID
        starts.append(max(0, first * cfa.stride - origin))
        ends.append(min(limit, start + size + CONTEXT * cfa.stride))
    (top, left), (bottom, right) = starts, ends
    metadata = replace(frame.metadata, crop=None, user_crop=None)
    cut = RawFrame(frame.mosaic[top:bottom, left:right], frame.sensor.shifted(top, left), metadata)
    return replace(decided, frame=cut), (top, left)


@torch.inference_mode()
def first_estimate(model: TrainedDenoiser | Denoise, decided: EnhancePlan) -> Float[Tensor, "1 c h w"]:
    """What one evaluation sees in the capture, in [0, 1]; rows and columns are not levelled.

    Args:
        model, decided: of `run_plan`; of the plan it depends on frame, ratio and noise alone.
    """
    seen = limited(amplified(decided.frame, decided.ratio), decided)
    conditions = Conditions.of(decided.noise, decided.ratio, seen)
    return in_tiles(network_for(decided, model), decided, conditions)(seen, torch.ones(1)).clamp_(0, 1)


@torch.inference_mode()
def glance(decided: EnhancePlan, estimate: Float[Tensor, "1 c h w"]) -> Enhanced:
    """What the first estimate shows of a frame (T = 0); highlights are the capture's own.

    Args:
        decided: plan of the frame.
        estimate: of `first_estimate`.

    Returns:
        The frame at reference brightness, with what is brighter than white.
    """
    capture, overruled = amplified(decided.frame, decided.ratio), None
    if decided.options.faithful:
        before, estimate = estimate, faithful(estimate[0], capture[0], decided.ratio, decided.noise)[None]
        overruled = unpack((estimate - before)[0], decided.frame.sensor.cfa, decided.frame.shape).numpy()
    estimate = torch.lerp(estimate, capture, shoulder(estimate))
    estimate = blend(estimate, decided.frame, decided.ratio, decided.luma, decided.chroma)
    return Enhanced(decided.frame.with_planes(estimate[0]), overruled)


@torch.inference_mode()
def of_whole(whole: EnhancePlan, view: EnhancePlan, estimate: Float[Tensor, "1 c h w"]) -> EnhancePlan:
    """The plan of a whole frame with its black level error, which a view of it shows, so that parts need not.

    Args:
        whole: the plan.
        view: plan of the `smaller` frame.
        estimate: `first_estimate` of that.
    """
    noise = replace(view.noise, black=whole.noise.black)
    error = black_error(estimate[0], amplified(view.frame, view.ratio)[0], view.ratio, noise)
    return replace(whole, black_error=error * (whole.ratio / view.ratio))


def exposure_steps(
    model: TrainedDenoiser | Denoise, decided: EnhancePlan
) -> Iterator[tuple[float, RawFrame, RawFrame]]:
    """The exposure as it goes on, for those who want to look.

    Args:
        model, decided: of `run_plan`.

    Yields:
        `decided.sampling.steps` + 1 times: the exposure, relative to the capture's; the state, which is what has been
        collected by then; and the clean image that the network sees in it. Both at reference brightness, highlights
        clipped; the network is overruled nowhere.
    """
    begun = begin(network_for(decided, model), decided)
    generator = torch.Generator().manual_seed(decided.options.seed)
    for step in decided.sampling.run(begun.denoise, begun.capture, begun.conditions, generator=generator):
        state, estimate = (decided.frame.with_planes(x[0].clamp(0, 1)) for x in (step.state, step.estimate))
        yield float(step.exposure), state, estimate

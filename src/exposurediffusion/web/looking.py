"""What the page shows of a photograph; runs in a worker, which keeps what it computed last.

A view is the whole photograph at a fraction of its size with T = 0, or a window of it at 100 % as `enhance` makes it.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from math import log2
from typing import Any, Literal

import numpy as np
from PIL import Image
from scipy.ndimage import maximum_filter, uniform_filter
from torch import Tensor

from exposurediffusion.analysis.black import with_true_black
from exposurediffusion.enhancement.corrections import Prepared
from exposurediffusion.enhancement.exposing import Exposed, exposed
from exposurediffusion.enhancement.frame import Enhanced, finished
from exposurediffusion.enhancement.plan import EnhancePlan, decide, make_ready
from exposurediffusion.enhancement.views import exposure_steps, first_estimate, glance, of_whole, part, smaller
from exposurediffusion.files.develop import shown_window
from exposurediffusion.models.device import find_device
from exposurediffusion.physics.sensor import RawFrame
from exposurediffusion.raw.read import read_raw
from exposurediffusion.raw.white_balance import white_balance
from exposurediffusion.rendering.render import Rendering, evened, render, upright
from exposurediffusion.web.asked import Asked
from exposurediffusion.web.thumbnails import jpeg
from exposurediffusion.web.windows import Source, Window, size
from exposurediffusion.weights.file import TrainedDenoiser, load

PREVIEW = 800_000
"""Packed pixels of the whole photograph in a view: what a network does in a second on two cores."""
FULL_SCALE = 0.02
"""Of white: the value of a map that is shown in full colour."""
_COLOURS = {"brighter": (255, 96, 32), "darker": (48, 128, 255), "spread": (255, 220, 0), "mended": (255, 0, 200)}

_model: TrainedDenoiser


def begin(weights: str, device: str) -> None:
    """Get ready."""
    global _model
    _model = load(weights).to(find_device(device))


def ready() -> bool:
    """Whether the worker has begun."""
    return True


@lru_cache(2)
def _capture(source: Source) -> RawFrame:
    return read_raw(source.path)


@lru_cache(2)
def _ready(source: Source, black: str) -> Prepared:
    """The whole frame, put right; most of the work before the network."""
    return make_ready(_capture(source), _model, Asked(black=black).options())


@lru_cache(4)
def _small(source: Source, black: str) -> Prepared:
    """The same at a fraction of the size."""
    frame = smaller(evened(with_true_black(_capture(source))), PREVIEW)
    return make_ready(frame, _model, Asked(black=black).options())


@lru_cache(16)
def _neutral(source: Source, choice: str) -> tuple[float, float, float] | None:
    return white_balance(_capture(source), choice).metadata.as_shot_neutral


def _balanced(frame: RawFrame, source: Source, choice: str) -> RawFrame:
    """A frame in the white balance that the capture itself would get."""
    return replace(frame, metadata=replace(frame.metadata, as_shot_neutral=_neutral(source, choice)))


def _plan(source: Source, asked: Asked, whole: bool, **others: Any) -> EnhancePlan:
    """What would be done: with the whole frame, or, of its view, at once."""
    ready = _small(source, asked.black) if whole else _ready(source, asked.black)
    ready = replace(ready, frame=_balanced(ready.frame, source, asked.white_balance))
    return decide(ready, _model, asked.options(**others))


@lru_cache(4)
def _exposed(source: Source, asked: Asked, window: Window) -> Exposed:
    """What takes long of a window."""
    decided = _plan(source, asked, False)
    return exposed(_model, part(decided, window.sites(decided.frame))[0])


@lru_cache(4)
def _estimate(source: Source, asked: Asked) -> Tensor:
    """What takes long of the whole."""
    return first_estimate(_model, _plan(source, asked, True))


@lru_cache(4)
def _enhanced(source: Source, asked: Asked, window: Window | None) -> tuple[Enhanced, EnhancePlan, tuple[int, int]]:
    """A view, the plan of its frame, and row and column in that at which the result begins."""
    decided = _plan(source, asked, window is None, maps=asked.faithful)
    same = Asked(ratio=asked.ratio, black=asked.black)  # on these alone the estimate depends
    if window is None:
        return glance(decided, _estimate(source, same)), decided, (0, 0)
    if asked.faithful:
        decided = of_whole(decided, _plan(source, same, True), _estimate(source, same))
    piece, corner = part(decided, window.sites(decided.frame))
    kept = _exposed(source, replace(asked, luma=1.0, chroma=1.0, faithful=True, white_balance="shot"), window)
    spread = None if kept.spread is None else kept.spread.clone()
    done = kept._replace(estimate=kept.estimate.clone(), spread=spread)  # what is used up is a copy
    return finished(_model, piece, done), decided, corner


def view(
    source: Source, asked: Asked, window: Window | None, which: Literal["before", "after"]
) -> tuple[bytes, int, int]:
    """A JPEG of the capture, as bright as the result, or of the result; width and height of the whole picture."""
    return _view(source, asked, window, which), *size(_capture(source))


def _view(source: Source, asked: Asked, window: Window | None, which: Literal["before", "after"]) -> bytes:
    if which == "before":
        decided = _plan(source, asked, window is None)
        frame = _small(source, asked.black).frame if window is None else _capture(source)
        frame = _balanced(frame, source, asked.white_balance)
        return _shown(frame, window, asked.ev + log2(decided.ratio))
    result, decided, corner = _enhanced(source, asked.unlit, window)
    return _shown(_laid(result.frame, decided, corner), window, asked.ev)


def _laid(result: RawFrame, decided: EnhancePlan, corner: tuple[int, int]) -> RawFrame:
    """A result in its place in the frame."""
    if result.shape == decided.frame.shape:
        return result
    mosaic = decided.frame.mosaic.astype(np.float32)
    (top, left), (height, width) = corner, result.shape
    mosaic[top : top + height, left : left + width] = result.mosaic
    data = replace(decided.frame.metadata, baseline_exposure=result.metadata.baseline_exposure)
    return replace(decided.frame, mosaic=mosaic, metadata=data)


def _shown(frame: RawFrame, window: Window | None, exposure: float) -> bytes:
    if window is None:
        picture: Rendering = render(frame, exposure=exposure, tone="camera", quick=True)
    else:
        picture = render(frame, exposure=exposure, tone="camera", window=window.sites(frame))
    return jpeg(Image.fromarray(picture.rgb8))


_going: dict[Any, tuple[Iterator[Any], list[tuple[float, bytes, bytes]]]] = {}


def development(source: Source, asked: Asked, window: Window | None, steps: int, number: int) -> dict[str, Any]:
    """One of the simulated exposures of a view, 0 to `steps`: its exposure, and JPEGs of state and estimate."""
    key = (source, asked, window, steps)
    if key not in _going:
        _going.clear()  # one at a time: its pictures are many
        decided = _plan(source, replace(asked, samples=1), window is None, steps=steps)
        piece, corner = part(decided, window.sites(decided.frame)) if window else (decided, (0, 0))
        _going[key] = (_developing(piece, decided, corner, window, asked.ev), [])
    going, done = _going[key]
    while len(done) <= number:
        done.append(next(going))
    exposure, state, estimate = done[number]
    return {"exposure": exposure, "state": state, "estimate": estimate}


def _developing(
    piece: EnhancePlan, decided: EnhancePlan, corner: tuple[int, int], window: Window | None, ev: float
) -> Iterator[tuple[float, bytes, bytes]]:
    for exposure, *frames in exposure_steps(_model, piece):
        state, estimate = (_shown(_laid(frame, decided, corner), window, ev) for frame in frames)
        yield exposure, state, estimate


def overlay(source: Source, asked: Asked, window: Window | None, name: str) -> bytes:
    """A PNG to lay over a view: overruled, spread, or mended.

    Raises:
        ValueError: there is no such map with these settings.
    """
    if name == "mended":
        decided, corner = _plan(source, asked, window is None), (0, 0)
        ready = _small(source, asked.black) if window is None else _ready(source, asked.black)
        values = np.zeros(decided.frame.shape, np.float32) if ready.mended is None else ready.mended.astype(np.float32)
        layers = {"mended": _spread_out(values, 2)}
    else:
        result, decided, corner = _enhanced(source, asked.unlit, window)
        found = getattr(result, name)
        if found is None:
            needs = "choose two samples or more" if window else "look at a part at 100 %, with two samples or more"
            needs = "switch faithful on" if name == "overruled" else needs
            raise ValueError(f"no map of what is {name} with these settings: {needs}")
        values = np.zeros(decided.frame.shape, np.float32)
        (top, left), (height, width) = corner, found.shape
        brighter = 2.0**result.frame.metadata.baseline_exposure / FULL_SCALE
        values[top : top + height, left : left + width] = uniform_filter(found * brighter, 3)  # of all colours
        layers = {"spread": values} if name == "spread" else {"brighter": values, "darker": -values}
    left, top, width, height = (
        shown_window(decided.frame.metadata, decided.frame.shape) if window is None else window.sites(decided.frame)
    )
    picture = np.zeros((height, width, 4), np.uint8)
    for layer, map_ in layers.items():
        alpha = np.rint(map_[top : top + height, left : left + width].clip(0, 1) * 255).astype(np.uint8)
        picture[alpha > 0, :3] = _COLOURS[layer]
        picture[..., 3] = np.maximum(picture[..., 3], alpha)
    out = io.BytesIO()
    Image.fromarray(upright(picture, decided.frame.metadata.orientation)).save(out, "PNG", compress_level=1)
    return out.getvalue()


def _spread_out(values: np.ndarray, by: int) -> np.ndarray:
    """Single sites as squares that can be seen."""
    return maximum_filter(values, 2 * by + 1)


def facts(source: Source, asked: Asked) -> dict[str, Any]:
    """What is known of a photograph, and what would be done with it; the whole frame is looked at."""
    decided, capture = _plan(source, asked, False), _capture(source)
    data, noise = capture.metadata, decided.noise
    width, height = size(capture)
    return {
        "camera": data.camera,
        "sensor": capture.sensor.cfa.name,
        "width": width,
        "height": height,
        "iso": data.iso,
        "shutter": data.shutter,
        "aperture": data.aperture,
        "ratio": decided.ratio,
        "steps": decided.sampling.steps,
        "gain": float(noise.gain),
        "read": float(noise.read_variance) ** 0.5,
        "noise": noise.source,
        "mended": decided.found + decided.listed,
        "notes": list(decided.frame.notes),
    }

"""What can be asked of `enhance`: one place for names, defaults, meanings and ranges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

from exposurediffusion.physics.cameras.profile import CameraProfile
from exposurediffusion.physics.dark_shading import DarkShading
from exposurediffusion.physics.parameters import NoiseParameters
from exposurediffusion.physics.sensor import RawFrame
from exposurediffusion.raw.white_balance import multipliers

RATIO_RANGE = (1.0, 1000.0)


@dataclass(frozen=True, kw_only=True)
class EnhanceOptions:
    """How a frame is enhanced. What is auto is decided for each frame.

    Attributes:
        ratio: amplification, 1 (denoising alone) to 1000; auto: from the frame's histogram, 1 to 300.
        steps: simulated exposures T, 0 to 100; the network runs T + 1 times. auto: by the frame's noise level and the
            rule that the weights bring along, as long as schedule, transition and increment are theirs; without a rule
            what they were made for.
        schedule: paper ends at the reference exposure, official one step before it; auto: of the weights.
        transition: markov exposes on from the newest state, restart from the capture; auto: of the weights.
        increment: mean, or sampled with shot noise; auto: of the weights, but sampled for several samples.
        samples: how many sampled exposures to average (the network runs 1 + samples x steps times); from 2 on their
            spread is known.
        seed: of sampled increments; sample n of several has seed + n.
        camera: noise profile, a name or a JSON file; auto: by the camera's name, else the raw's own noise profile, else
            estimated from the frame; where that shows too little, darktable's, where it is installed.
        noise: parameters of the capture, where they are known better.
        iso: sensitivity, where the file does not say it.
        gain: DN per electron of the capture; read belongs to it.
        read: standard deviation of the noise without light, DN; gain belongs to it.
        black: level of black in DN, or one for each site of the first tile, as numbers or as "DN,DN,DN,DN"; auto: by
            the light-free margins of the frame, else by the file, lowered as far as the darkest parts prove.
        white_balance: of pictures, and for editors: shot, daylight, auto (from the frame's own mean colour), or
            multipliers of red, green and blue, as numbers or as "R,G,B".
        defects: find and mend hot, warm and dead sites.
        dark: a raw frame taken with the lens cap on, whose hot sites are mended too.
        dark_shading: what the sensor shows in the dark, which is subtracted at the frame's ISO: auto, that of the
            camera's noise profile, where it has one; off; or a .safetensors map or a folder of dark raw frames.
        exposure: reference: brightened by the ratio, as a long exposure, highlights clipped; auto: the same with
            headroom: divided by 2^h, with h EV noted for editors, h the smallest of 0 to 3 that keeps the highlights
            (of small ratios the exposure of the capture);
            capture: as dark as it was, with the whole brightening noted for editors.
        strength: 1 is the clean image, 0 the capture, between is a blend; auto: leaves a grain of 0.5 % of white.
        luma: strength for brightness alone, instead of strength.
        chroma: strength for colour alone, instead of strength.
        faithful: nothing that the light says clearly is overruled by the network, at any scale (colours of large areas,
            small lights); off: the network alone.
        maps: keep a map of where and by how much the network was overruled.
        tile: side of a tile in packed pixels, at least 16; auto: by memory. It changes the result by rounding alone.
        precision: of the network; auto: bf16 where the device is good at it.
        engine: what computes the network: torch, or of the extra `export` openvino or onnx, which give the same within
            rounding; auto: openvino where it is installed and wins, for frames large enough.

    Raises:
        ValueError: something is out of its range, or two options contradict each other.
    """

    ratio: float | Literal["auto"] = "auto"
    steps: int | Literal["auto"] = "auto"
    schedule: Literal["auto", "paper", "official"] = "auto"
    transition: Literal["auto", "markov", "restart"] = "auto"
    increment: Literal["auto", "mean", "sampled"] = "auto"
    samples: int = 1
    seed: int = 0
    camera: CameraProfile | str = "auto"
    noise: NoiseParameters | None = None
    iso: float | None = None
    gain: float | None = None
    read: float | None = None
    black: Sequence[float] | str = "auto"
    white_balance: Sequence[float] | str = "shot"
    defects: bool = True
    dark: RawFrame | Path | None = None
    dark_shading: DarkShading | Path | str = "auto"
    exposure: Literal["auto", "reference", "capture"] = "reference"
    strength: float | Literal["auto"] = 1.0
    luma: float | None = None
    chroma: float | None = None
    faithful: bool = True
    maps: bool = False
    tile: int | Literal["auto"] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    engine: Literal["auto", "torch", "openvino", "onnx"] = "auto"

    def __post_init__(self) -> None:
        _check_range("ratio", self.ratio, *RATIO_RANGE)
        _check_range("steps", self.steps, 0, 100)
        _check_range("samples", self.samples, 1, 1000)
        _check_range("tile", self.tile, 16, inf)
        for name in ("strength", "luma", "chroma"):
            _check_range(name, getattr(self, name), 0, 1)
        for name, most in (("iso", 1e7), ("gain", 1e5), ("read", 1e5)):
            _check_range(name, getattr(self, name), 1e-6, most)
        _check_words(self)
        if (self.gain is None) != (self.read is None):
            raise ValueError("gain and read belong together: give both, or neither")
        if sum(x not in (None, "auto") for x in (self.camera, self.noise, self.gain)) > 1:
            raise ValueError("the noise is given twice: choose one of camera, noise, and gain with read")
        if self.samples > 1 and self.steps == 0:
            raise ValueError(f"{self.samples} samples of T = 0 are all alike: nothing is drawn; use 1 step or more")
        if self.samples > 1 and self.increment == "mean":
            raise ValueError(
                f"{self.samples} samples of mean increments are all alike: the increment has to be sampled"
            )
        if self.maps and not self.faithful:
            raise ValueError("maps show where the network was overruled, which it never is with faithful off: give one")
        if self.black != "auto":
            black_levels(self.black)
        if self.white_balance not in ("shot", "daylight", "auto"):
            multipliers(self.white_balance)


def black_levels(levels: Sequence[float] | str) -> tuple[float, ...]:
    """Black levels in DN from numbers, or from "DN" or "DN,DN,DN,DN".

    Raises:
        ValueError: they are not numbers from 0 on.
    """
    try:
        values = tuple(float(part) for part in (levels.split(",") if isinstance(levels, str) else levels))
    except (TypeError, ValueError):
        values = ()
    if not values or not all(0 <= level < inf for level in values):
        raise ValueError(f"black {levels!r}: give a number in DN from 0 on, or one for each site of the first tile")
    return values


def _check_range(name: str, value: object, low: float, high: float) -> None:
    """Refuse what is neither None, nor auto, nor a number from `low` to `high`."""
    if value is None or value == "auto":
        return
    if not isinstance(value, int | float):
        raise TypeError(f"{name} is a number, got {value!r}")
    if not (isfinite(value) and low <= value <= high):
        limits = f"is at least {low:g}" if high == inf else f"lies between {low:g} and {high:g}"
        raise ValueError(f"{name} {limits}, got {value:g}")


def _check_words(options: EnhanceOptions) -> None:
    """Refuse a word that a field does not know."""
    for name, kind in get_type_hints(EnhanceOptions).items():
        words = get_args(kind) if get_origin(kind) is Literal else ()
        if words and (value := getattr(options, name)) not in words:
            raise ValueError(f"{name} is {', '.join(words[:-1])} or {words[-1]}, got {value!r}")

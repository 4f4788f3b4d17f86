"""What `enhance` and `batch` are asked, in the words of a command line."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from exposurediffusion.cli.console import Flag, OnOff, Optional, UsageError, as_usage, note
from exposurediffusion.datasets.dark_frames import load_dark_shading
from exposurediffusion.enhancement.engines import choose_engine
from exposurediffusion.enhancement.options import EnhanceOptions
from exposurediffusion.models.device import find_device
from exposurediffusion.photographs.enhancer import Enhancer
from exposurediffusion.photographs.outputs import ResultOptions
from exposurediffusion.photographs.photograph import Format
from exposurediffusion.physics.cameras.known import load_profile, user_cameras
from exposurediffusion.raw.read import read_raw
from exposurediffusion.weights.file import load

Ratio = float | Literal["auto", "same"]
AnyFormat = Format | Literal["auto"]
Device = Literal["auto", "cpu", "cuda", "mps"]


@dataclass(frozen=True, kw_only=True)
class Options(EnhanceOptions):
    """`EnhanceOptions` in the words of a command line."""

    ratio: tyro.conf.Suppress[float | Literal["auto"]] = "auto"
    noise: tyro.conf.Suppress[None] = None
    camera: Annotated[str, tyro.conf.arg(metavar="auto|NAME|FILE")] = "auto"
    black: Annotated[str, tyro.conf.arg(metavar="auto|DN[,DN,DN,DN]")] = "auto"
    white_balance: Annotated[str, tyro.conf.arg(metavar="shot|daylight|auto|R,G,B")] = "shot"
    defects: OnOff = True
    dark: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    dark_shading: Annotated[str, tyro.conf.arg(metavar="auto|off|FILE|DIR")] = "auto"
    iso: Annotated[float | None, Optional] = None
    gain: Annotated[float | None, Optional] = None
    read: Annotated[float | None, Optional] = None
    luma: Annotated[float | None, Optional] = None
    chroma: Annotated[float | None, Optional] = None
    exposure: Literal["auto", "reference", "capture"] = "auto"
    faithful: OnOff = True
    maps: Flag = False


@dataclass(frozen=True, kw_only=True)
class Results(ResultOptions):
    """`ResultOptions` in the words of a command line."""

    sidecar: Flag = False
    size: Annotated[int | None, tyro.conf.arg(metavar="PIXELS", help_behavior_hint="")] = None
    before_after: Flag = False
    overwrite: Flag = False


def make_enhancer(
    ratio: Ratio, weights: str, options: Options, results: ResultOptions, device: Device, max_megapixels: float
) -> Enhancer:
    """All that is the same for every photograph, read once; `same` is left to whoever knows all photographs.

    Raises:
        UsageError: a value or a file is none.
    """
    user_cameras(note)
    with as_usage():
        options = replace(options, ratio="auto" if ratio == "same" else ratio)
        camera = options.camera if options.camera == "auto" else load_profile(options.camera)
        model = load(weights).to(find_device(device))
        choose_engine(options.engine, model, options.precision, 0)  # one that cannot serve is refused once
        if options.dark is not None and not options.dark.is_file():
            raise UsageError(f"--dark {options.dark}: no such file")
        dark = None if options.dark is None else read_raw(options.dark, max_megapixels)
        shading = options.dark_shading
        shading = shading if shading in ("auto", "off") else load_dark_shading(shading)
        asked = EnhanceOptions(**{**vars(options), "camera": camera, "dark": dark, "dark_shading": shading})
    return Enhancer(model, asked, results, max_megapixels)


def middle(ratios: list[float]) -> float:
    """The one ratio for all: the median; 1 where there is none."""
    return sorted(ratios)[len(ratios) // 2] if ratios else 1.0

"""What reads each kind of file, as commands and the library do, and what became of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import torch

from exposurediffusion.cli.arguments import settings
from exposurediffusion.cli.console import UsageError
from exposurediffusion.datasets.cache import FrameCache
from exposurediffusion.datasets.dark_frames import load_dark_shading
from exposurediffusion.enhancement.frame import enhance
from exposurediffusion.files.images import read_linear
from exposurediffusion.physics.cameras.known import read_profile
from exposurediffusion.pictures import manifests
from exposurediffusion.pictures.prepared import read_pictures
from exposurediffusion.raw.read import read_metadata, read_raw
from exposurediffusion.simulation.scenes import known_noise
from exposurediffusion.training.log import read_log
from exposurediffusion.training.run import Run
from exposurediffusion.web.thumbnails import thumbnail
from exposurediffusion.weights.file import TrainedDenoiser, load
from exposurediffusion.weights.official import from_official
from tests.frames import tiny_model
from tests.tiny import PLAIN, TINY

MOST = 4.0
"""Megapixels."""


class Outcome(StrEnum):
    """What may become of a file; all but the first two are faults."""

    REFUSED = "refused"
    PROCESSED = "processed"
    TRACEBACK = "traceback"
    CRASH = "crash"
    HANG = "hang"
    LARGE = "over 2 GB"


def read(target: str, path: Path) -> tuple[Outcome, str]:
    """Have a file read by its target: refused in one line that names it, or processed to finite numbers."""
    try:
        found = TARGETS[target](path)
    except (ValueError, OSError, MemoryError, UsageError) as error:
        text = str(error)
        fit = str(path.parent) in text and len(text.splitlines()) == 1
        return (Outcome.REFUSED, text) if fit else (Outcome.TRACEBACK, f"{type(error).__name__}, not fit: {text}")
    except Exception as error:
        return Outcome.TRACEBACK, f"{type(error).__name__}: {error}"
    if any(not np.isfinite(values).all() for values in _arrays(found)):
        return Outcome.TRACEBACK, "values that are no numbers"
    return Outcome.PROCESSED, ""


def _arrays(found: Any) -> Iterator[np.ndarray]:
    """All numbers of a result."""
    if isinstance(found, torch.Tensor):
        found = found.detach().float().numpy()
    if isinstance(found, np.ndarray | float):
        yield np.asarray(found)
    elif isinstance(found, dict | list | tuple):
        for value in found.values() if isinstance(found, dict) else found:
            yield from _arrays(value)
    elif hasattr(found, "__dict__"):
        yield from _arrays(vars(found))


def _raw(path: Path) -> Any:
    frame = read_raw(path, MOST)
    return frame, frame.planes, read_metadata(path)


def _photograph(path: Path) -> Any:
    """The result of a raw file, and what the page lists."""
    return enhance(read_raw(path, MOST), tiny_model()), len(thumbnail(path))


def _network(model: TrainedDenoiser) -> Any:
    return model.card, model.state_dict()


def _checkpoint(path: Path) -> Any:
    run = Run(TINY, PLAIN)
    run.restore(path)
    return run.iteration, run.loss.state_dict(), run.average.values, run.optimizer.state_dict()


def _statement(path: Path) -> Any:
    manifests._rows.cache_clear()
    return manifests.stated(path.parent / "photo" / "a.jpg", path.parent)


def _cached(path: Path) -> Any:
    folder = next(above for above in path.parents if above.name == "cached")
    frame = FrameCache(folder / "kept").frame(folder / "a.dng")
    return frame.sensor, frame.metadata, frame.planes()


def _prepared(path: Path) -> Any:
    found = read_pictures(path)
    return found.pixels, found.picture(0)


TARGETS: dict[str, Callable[[Path], Any]] = {
    "raw": _raw,
    "photograph": _photograph,
    "picture": lambda path: read_linear(path, max_megapixels=MOST),
    "weights": lambda path: _network(load(path)),
    "official": lambda path: _network(from_official(path)),
    "checkpoint": _checkpoint,
    "profile": lambda path: read_profile(path).at_iso(800.0),
    "manifest": lambda path: known_noise(path.parent),
    "settings": settings,
    "statement": _statement,
    "log": lambda path: read_log(path.parent, "training"),
    "cache": _cached,
    "prepared": _prepared,
    "shading": load_dark_shading,
}
"""What is called with a file, and gives all that it holds."""


def put(path: Path, content: bytes, number: int) -> None:
    """Write a file with a time of its own: what is cached by time must not be taken for it."""
    path.write_bytes(content)
    os.utime(path, ns=(number, number))

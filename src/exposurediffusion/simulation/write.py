"""Simulated captures as raw files, by several processes."""

from __future__ import annotations

import json as jsonlib
import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from exposurediffusion.dng.writer import write_dng
from exposurediffusion.files.atomic import atomic
from exposurediffusion.files.exif import DATETIME, FileTags
from exposurediffusion.files.tiff import text_entry
from exposurediffusion.simulation.light import Panorama, Photograph, load_clean
from exposurediffusion.simulation.scenes import MANIFEST, Scene, Setup, simulate_scene

DESCRIPTION = 270  # the tag ImageDescription

NOTICE = "Simulated by ExposureDiffusion from a clean picture: no camera took this photograph."


def _write_manifest(folder: Path, scenes: dict[str, Any]) -> None:
    program = f"exposurediffusion {version('exposurediffusion')}"
    content = {"notice": NOTICE, "program": program, "scenes": scenes}
    with atomic(folder / MANIFEST) as stream:
        stream.write((jsonlib.dumps(content, indent=1) + "\n").encode())


def _check_space(setup: Setup, files: int) -> None:
    """Raise ValueError if the disk has no room for so many more files."""
    needed = files * (2 * setup.size**2 + 3 * min(512, setup.size // setup.cfa.stride) ** 2 + 4096)
    folder = setup.output.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ValueError(
            f"{setup.output}: {files} files need {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free: "
            "fewer --scenes, a smaller --size, or another disk"
        )


def _rendered(setup: Setup, jobs: dict[str | None, list[Scene]], workers: int) -> Iterator[dict[str, str]]:
    """Render picture by picture; yields for each its scenes, with what was wrong ("": nothing)."""
    if min(workers, len(jobs)) <= 1:
        for picture, scenes in jobs.items():
            yield render_picture(setup, picture, scenes)
        return
    # Ctrl-C is for this process: workers finish what they are at.
    ignore = {"initializer": signal.signal, "initargs": (signal.SIGINT, signal.SIG_IGN)}
    pool = ProcessPoolExecutor(min(workers, len(jobs)), get_context("spawn"), **ignore)
    try:
        futures = [pool.submit(render_picture, setup, picture, scenes) for picture, scenes in jobs.items()]
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool as error:
        raise ValueError("a worker ended unexpectedly (no memory?): run again with fewer --workers to go on") from error
    finally:
        pool.shutdown(cancel_futures=True)


def render_picture(setup: Setup, picture: str | None, scenes: list[Scene]) -> dict[str, str]:
    """Make the files of all scenes of a picture; for each scene what was wrong ("": nothing)."""
    with _one_thread():
        try:
            most = setup.max_megapixels
            source = None if picture is None else load_clean(setup.images / picture, max_megapixels=most)
        except (ValueError, RuntimeError) as error:
            return {scene.name: str(error) for scene in scenes}
        return {scene.name: _render(setup, scene, source) for scene in scenes}


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums over several threads round differently, and the last bit may turn a DN: one seed, one file."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _render(setup: Setup, scene: Scene, source: Panorama | Photograph | None) -> str:
    tags = FileTags({DATETIME: text_entry("2000:01:01 00:00:00"), DESCRIPTION: text_entry(NOTICE)})
    try:
        for shot, frame in simulate_scene(setup, scene, source):
            path = setup.output / shot.path
            path.parent.mkdir(parents=True, exist_ok=True)
            metadata = replace(frame.metadata, source=scene.picture or "dark")  # what the DNG calls its original
            write_dng(path, replace(frame, metadata=metadata, tags=tags))
    except ValueError as error:
        return f"{setup.images / (scene.picture or '')}: {error}"
    return ""

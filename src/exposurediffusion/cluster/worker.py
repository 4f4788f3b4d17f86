"""One process of a batch: it gets ready once, and does one photograph after the other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from platform import node
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import torch

from exposurediffusion.cluster.items import Item
from exposurediffusion.cluster.urls import fetch, is_url, put
from exposurediffusion.enhancement.plan import ratio_of
from exposurediffusion.models.device import find_device
from exposurediffusion.photographs.enhancer import Enhancer, failure
from exposurediffusion.photographs.failures import reason
from exposurediffusion.photographs.photograph import Format, Job


def versions() -> str:
    """What has to be the same on all machines, lest their results differ."""
    return f"exposurediffusion {version('exposurediffusion')} on PyTorch {torch.__version__.partition('+')[0]}"


@dataclass(frozen=True)
class Work:
    """All that is the same for every photograph, as it is sent to the workers.

    Attributes:
        enhancer: its model is on the processor, and results that are there are replaced.
        format: of the results.
        versions: of whoever sends it.
        folders: that have to be in sight.
    """

    enhancer: Enhancer
    format: Format
    versions: str
    folders: tuple[str, ...]


class Worker:
    """The process; Ray calls its methods from afar."""

    def begin(self, work: Work, device: str, threads: int) -> None:
        """Get ready.

        Raises:
            ValueError: this machine cannot serve; says what to do.
        """
        where = node()
        if versions() != work.versions:
            raise ValueError(f"{where} has {versions()}, not {work.versions}: install the same on all machines")
        for folder in work.folders:
            if not os.path.isdir(folder):
                raise ValueError(f"{where} does not see {folder}: name a folder that all machines share, or a URL")
        torch.set_num_threads(threads)
        model = work.enhancer.model.to(find_device(device))
        self._work, self._where = replace(work, enhancer=replace(work.enhancer, model=model)), where

    def enhance(self, item: Item, ratio: float | None) -> dict[str, Any]:
        """Do a photograph, with this ratio if there is one for all: the fields of its line in the journal."""
        enhancer = self._work.enhancer
        if ratio is not None:
            enhancer = replace(enhancer, options=replace(enhancer.options, ratio=ratio))
        started = perf_counter()
        try:
            with self._files(item) as job:
                enhancer.check_free(job, {})
                decided = enhancer(job).decided
                if is_url(item.target):
                    for path in reversed(enhancer.results.files(job)):  # where the result is, all is
                        put(path, f"{item.target.rpartition('/')[0]}/{path.name}")
            fields = {"output": item.target, "ratio": decided.ratio, "steps": decided.sampling.steps}
        except Exception as error:  # whatever it was, the others can still be done
            fields = {"error": reason(error)}
        return {**fields, "seconds": round(perf_counter() - started, 3), "machine": self._where, "process": os.getpid()}

    def ratio(self, item: Item) -> float | None:
        """The ratio that a photograph alone would have; None: it cannot be read, which is complained of later."""
        try:
            with self._files(item) as job:
                return ratio_of(self._work.enhancer.read(job), self._work.enhancer.options)
        except Exception:
            return None

    @contextmanager
    def _files(self, item: Item) -> Iterator[Job]:
        """The files of a photograph on this machine; the raw one is there, fetched where need be.

        Raises:
            ValueError: what went wrong with it, by the names that the user knows.
        """
        places = {"in": item.source, "out": item.target}
        with TemporaryDirectory(prefix="expose-") if any(map(is_url, places.values())) else nullcontext("") as scratch:
            near = {side: f"{scratch}/{side}/{place.rpartition('/')[2]}" for side, place in places.items()}
            source, target = (Path(near[side] if is_url(place) else place) for side, place in places.items())
            job = Job(source, target, self._work.format, self._work.enhancer.maps)
            try:
                if is_url(item.source):
                    job.source.parent.mkdir()
                    fetch(item.source, job.source)
                yield job
            except Exception as error:
                text = failure(error, job).replace(str(source), item.source).replace(str(target), item.target)
                raise ValueError(" ".join(text.split())) from error

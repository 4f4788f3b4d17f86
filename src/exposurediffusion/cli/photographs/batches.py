"""`expose batch`: from what was asked to results and a journal."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from glob import glob
from pathlib import Path
from typing import Any

from exposurediffusion.cli.console import Summary, UsageError, as_usage, complain, note
from exposurediffusion.cli.photographs.board import Board
from exposurediffusion.cli.photographs.jobs import find_sources
from exposurediffusion.cli.photographs.options import Options, Ratio, middle
from exposurediffusion.cluster.crew import Crew, connected
from exposurediffusion.cluster.items import Item, pair
from exposurediffusion.cluster.journal import Journal
from exposurediffusion.cluster.leftovers import sweep
from exposurediffusion.cluster.urls import find, is_url, listed
from exposurediffusion.cluster.worker import Work, versions
from exposurediffusion.files.atomic import short
from exposurediffusion.photographs.enhancer import Enhancer
from exposurediffusion.photographs.photograph import Format, Job
from exposurediffusion.physics.cameras.profile import CameraProfile


def place(name: str) -> str:
    """A path or a URL as the journal has it, whatever folder the command is called from."""
    return name.rstrip("/") if is_url(name) else os.path.abspath(name)


def find_all(inputs: tuple[str, ...], recursive: bool, output: str, summary: Summary) -> dict[str, str]:
    """All raw files, each with the folder below which it keeps its place; what is not there is reported."""
    sources: dict[str, str] = {}
    for name in map(place, inputs):
        if is_url(name):
            try:
                found = find(name, recursive)
            except ValueError as error:
                summary.fail(str(error), input=name)
                continue
            sources |= {url: folder for url, folder in found.items() if not url.startswith(f"{output}/")}
        else:
            paths = [name] if os.path.exists(name) else sorted(glob(name, recursive=True)) or [name]
            found = find_sources(tuple(map(Path, paths)), recursive, summary, Path(output))
            sources |= {str(path): str(folder) for path, folder in found.items()}
    return sources


def settings_of(enhancer: Enhancer, options: Options, ratio: Ratio, output: str, format: Format) -> dict[str, Any]:
    """What results depend on; files are known by what they hold."""
    camera = enhancer.options.camera
    profile = _digest(json.dumps(asdict(camera), default=str).encode()) if isinstance(camera, CameraProfile) else ""
    named = {"dark": options.dark, "dark_shading": options.dark_shading}
    files = {name: _contents(Path(file)) for name, file in named.items() if file not in (None, "auto", "off")}
    results = {name: value for name, value in vars(enhancer.results).items() if name != "overwrite"}
    asked = {name: value for name, value in vars(options).items() if name != "noise"}
    asked |= {"ratio": ratio, "camera": f"{options.camera} {profile}".strip(), **files}
    return {"by": versions(), "output": output, "format": format, "weights": enhancer.model.digest, **asked, **results}


def _contents(path: Path) -> str:
    """A file, or a folder of files, in a few digits."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return _digest(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files if file.is_file()))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """All that is known before anything is begun.

    Attributes:
        sources: raw files, each with the folder below which it keeps its place.
        output: folder or URL of the results.
        format: of the results.
        enhancer: of one photograph, its model on the processor; results that are there are replaced.
        journal: the file.
        settings: what results depend on.
    """

    sources: dict[str, str]
    output: str
    format: Format
    enhancer: Enhancer
    journal: Path
    settings: dict[str, Any]

    def run(
        self, overwrite: bool, retry: bool, address: str | None, device: str, workers: int | None
    ) -> dict[str, int]:
        """Do all that the journal does not know: how many are done, were done before, and failed.

        Args:
            overwrite: replace results of others, and a journal of other settings.
            retry: do once more what failed before.
            address: of the cluster.
            device: where networks run.
            workers: on each machine.
        """
        with ExitStack() as opened:
            with as_usage():
                journal = opened.enter_context(Journal.opened(self.journal, self.settings, overwrite))
                done = {source for source, error in journal.finished.items() if not error}
                items, refused = pair(self.sources, self.output, self.enhancer, self.format, done)
                if journal.is_new and not overwrite:
                    self._check_new(items)
                due = [item for item in items if item.source not in (done if retry else journal.finished)]
                if due:
                    note(f"{len(due)} to do; workers are being started")
                    opened.enter_context(self._swept(items))
                    opened.enter_context(connected(address))
            journal.begin()
            for source, error in refused.items():
                if source not in journal.finished:
                    complain(error)
                    journal.end(source, error)
            if due:
                folders = {folder for folder in (self.output, *self.sources.values()) if not is_url(folder)}
                work = Work(self.enhancer, self.format, versions(), tuple(sorted(folders)))
                self._do(items, due, journal, Crew(work, device, workers, note))
            before = len(done.intersection(self.sources))
            failed = sum(bool(journal.finished[source]) for source in self.sources)
        return {"done": len(self.sources) - before - failed, "before": before, "failed": failed}

    def _check_new(self, items: list[Item]) -> None:
        """Raise UsageError where there are results already, of which nobody knows how they were made."""
        known = listed(self.output) if is_url(self.output) else None
        there = [
            item.target for item in items if (os.path.exists(item.target) if known is None else item.target in known)
        ]
        if there:
            raise UsageError(
                f"{self.output}: {len(there)} of the results are there already, such as {there[0]}, and {self.journal} "
                "does not know them; --overwrite replaces them, or take another folder (-o)"
            )

    def _do(self, items: list[Item], due: list[Item], journal: Journal, crew: Crew) -> None:
        """Do what is due; each end is in the journal before the next is asked for."""
        if self.settings["ratio"] == "same" and journal.ratio is None:
            journal.share(middle([ratio for ratio in crew.ratios(items) if ratio is not None]))
            note(f"the same ratio for all: x{journal.ratio:g}")
        board = Board(len(due), crew.members)
        with board.shown() as show:
            for item, outcome in crew.enhance(due, journal.ratio):
                journal.end(item.source, **outcome)
                board.add(outcome["machine"], outcome["seconds"], failed="error" in outcome)
                if "error" in outcome:
                    complain(outcome["error"])
                show()

    @contextmanager
    def _swept(self, items: list[Item]) -> Iterator[None]:
        """Whatever happens, nothing is half written afterwards, even by workers that were killed."""
        try:
            yield
        finally:
            jobs = [Job(Path(item.source), Path(item.target), self.format, self.enhancer.maps) for item in items]
            names = {short(file.name, 100) for job in jobs for file in self.enhancer.results.files(job)}
            sweep(self.output, {str(job.target.parent) for job in jobs}, names)

"""What bounds `expose batch`: its workers, its driver, its journal and its memory, each measured alone.

    python benchmarks/batch.py [--frames 8] [--files 200000] [--calls 2000] [--waiting 1000]

- a frame of 12 megapixels: processor seconds on one thread, of a worker that is ready, and megabytes of the files;
- frames of 12 megapixels: `expose enhance` of several, one after the other, against `expose batch`, one worker for
  each processor; seconds on the wall, start and end included;
- the driver: photographs a second where the work itself takes no time, journal and all;
- Ray's answer to "which of so many calls is done", as the driver asks it for each photograph;
- the journal: lines a second, written to disk one by one, and read again; what a photograph takes in memory.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import ray
import torch
import tyro
from enhance import make_frame

from exposurediffusion.cluster import crew as crews
from exposurediffusion.cluster.crew import Crew, connected
from exposurediffusion.cluster.items import Item, pair
from exposurediffusion.cluster.journal import Journal
from exposurediffusion.cluster.worker import Work, Worker, versions
from exposurediffusion.enhancement.options import EnhanceOptions
from exposurediffusion.photographs.enhancer import Enhancer
from exposurediffusion.photographs.outputs import ResultOptions
from exposurediffusion.photographs.photograph import Job
from exposurediffusion.weights.file import load


class Idle(Worker):
    """A worker whose photographs take no time."""

    def enhance(self, item: Item, ratio: float | None) -> dict[str, Any]:
        """The fields of a line as long as usual."""
        fields = {"output": item.target, "ratio": 100.0, "steps": 1, "seconds": 12.345}
        return {**fields, "machine": "a-machine-of-many", "process": 12345}


class Sleeper:
    """Somebody whose calls are long under way."""

    def rest(self, seconds: float) -> None:
        """Take so long."""
        time.sleep(seconds)


def frame(enhancer: Enhancer, folder: Path, repeats: int = 3) -> dict[str, Any]:
    """What one photograph costs a worker: its first, and those after it."""
    torch.set_num_threads(1)
    make_frame(12, folder / "frame.dng")
    job = Job.beside(folder / "frame.dng", "dng")
    seconds = []
    for _ in range(repeats):
        began = time.process_time()
        enhancer(job)
        seconds.append(round(time.process_time() - began, 1))
    sizes = [round(path.stat().st_size / 1e6, 1) for path in (job.source, job.target)]
    return {"processor seconds": seconds, "MB in and out": sizes}


def programs(frames: int, folder: Path) -> dict[str, Any]:
    """Seconds of the two commands over the same frames, and whether they wrote the same bytes."""
    (folder / "in").mkdir()
    make_frame(12, folder / "in" / "0.dng")
    for number in range(1, frames):
        (folder / "in" / f"{number}.dng").write_bytes((folder / "in" / "0.dng").read_bytes())
    figures: dict[str, Any] = {"frames": frames}
    for command in ("enhance", "batch"):
        words = [command, str(folder / "in"), "-o", str(folder / command), "--steps", "1", "--quiet"]
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "exposurediffusion", *words], check=True, stdout=subprocess.DEVNULL)
        figures[command] = round(time.perf_counter() - began, 1)
    lines = [json.loads(line) for line in (folder / "batch" / "batch.jsonl").read_text().splitlines()[1:]]
    figures["seconds of each in a worker"] = sorted(line["seconds"] for line in lines)
    figures["same bytes"] = all(
        (folder / "batch" / f"{n}.dng").read_bytes() == (folder / "enhance" / f"{n}.dng").read_bytes()
        for n in range(frames)
    )
    return figures


def driver(calls: int, waiting: int, enhancer: Enhancer, folder: Path) -> dict[str, float]:
    """Photographs a second of the driver alone, and milliseconds of a question to Ray."""
    crews.Worker = Idle  # type: ignore[misc]
    with connected(None), Journal.opened(folder / "driver.jsonl", {}) as journal:
        journal.begin()
        crew = Crew(Work(enhancer, "dng", versions(), ()), "cpu", None, print)
        outcomes = crew.enhance([Item(f"/a/folder/of/photographs/{n:08}.ARW", "") for n in range(calls)], None)
        next(outcomes)  # the workers are there
        began = time.perf_counter()
        for item, outcome in outcomes:
            journal.end(item.source, **outcome)
        rate = (calls - 1) / (time.perf_counter() - began)
        sleepers: Any = ray.remote(Sleeper)
        sleeper = sleepers.options(num_cpus=0, max_concurrency=waiting).remote()
        ray.get(sleeper.rest.remote(0))
        late = [sleeper.rest.remote(60) for _ in range(waiting)]
        questions = 50
        began = time.perf_counter()
        for _ in range(questions):
            ray.wait(late, timeout=0)
        asked = 1000 * (time.perf_counter() - began) / questions
    return {"photographs a second": round(rate), f"ms a question about {waiting} calls": round(asked, 2)}


def bookkeeping(files: int, enhancer: Enhancer, folder: Path) -> dict[str, float]:
    """The journal and the list of photographs, without any work."""
    with Journal.opened(folder / "journal.jsonl", {}) as journal:
        journal.begin()
        few = 2000
        fields = Idle().enhance(Item("", "/a/folder/of/results/00000000.dng"), None)
        began = time.perf_counter()
        for number in range(few):
            journal.end(f"/a/folder/of/photographs/{number:08}.ARW", **fields)
        written = few / (time.perf_counter() - began)
    lines = (folder / "journal.jsonl").read_bytes().splitlines(keepends=True)
    with open(folder / "journal.jsonl", "wb") as stream:
        stream.write(lines[0])
        stream.writelines(lines[1].replace(b"00000000.ARW", b"%08d.ARW" % n) for n in range(files))
    size = (folder / "journal.jsonl").stat().st_size / files
    before, began = _resident(), time.perf_counter()
    sources = {f"/a/folder/of/photographs/{n:08}.ARW": "/a/folder/of/photographs" for n in range(files)}
    with Journal.opened(folder / "journal.jsonl", {}) as journal:
        read = time.perf_counter() - began
        began = time.perf_counter()
        items, _ = pair(sources, "/a/folder/of/results", enhancer, "dng", journal.finished)
        paired = time.perf_counter() - began
        memory = (_resident() - before) / len(items)
    return {
        "lines a second to disk": round(written),
        "bytes a line": round(size),
        "seconds to read a million lines": round(1e6 * read / files, 1),
        "seconds to pair a million": round(1e6 * paired / files, 1),
        "bytes of memory a photograph": round(memory),
    }


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def main(frames: int = 8, files: int = 200_000, calls: int = 2000, waiting: int = 1000) -> None:
    """Measure all, and print it as JSON."""
    enhancer = Enhancer(load(), EnhanceOptions(steps=1, exposure="auto"), ResultOptions(overwrite=True))
    with tempfile.TemporaryDirectory() as folder:
        figures = {
            "frame": frame(enhancer, Path(folder)) if frames else {},
            "bookkeeping": bookkeeping(files, enhancer, Path(folder)),
            "driver": driver(calls, waiting, enhancer, Path(folder)),
            "programs": programs(frames, Path(folder)) if frames else {},
        }
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    tyro.cli(main)

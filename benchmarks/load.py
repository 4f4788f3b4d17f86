"""Memory and answers under load: very many small files through `enhance` and `batch`, ten clients at once on `web`.

    python benchmarks/load.py [--files 1000] [--minutes 3] [--clients 10] [--only enhance batch web]

- `enhance`, `batch`: the memory of all their processes over the run (its largest in the second and in the last
  quarter), how many files came out, and whether equal inputs gave equal outputs;
- `web`: clients ask for views, facts, steps and maps of many photographs, each answer compared with that of a single
  client, byte by byte; one request in eight is hung up on, and some photographs are damaged.
"""

from __future__ import annotations

import json
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Literal

import psutil
import torch
import tyro
from common import machine

from exposurediffusion.dng.writer import write_dng
from exposurediffusion.physics.cameras.known import load_profile
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.simulation.capture import simulate_short

WAY = (sys.executable, "-m", "exposurediffusion")


def frames(folder: Path, count: int, side: int = 64) -> list[Path]:
    """Dark captures of fields of different brightness, of `side` packed pixels."""
    profile, paths = load_profile("SonyA7S2"), []
    for number in range(count):
        light = torch.full((4, side, side), 0.02 * 1.3**number)
        source = torch.Generator().manual_seed(number)
        capture = simulate_short(light, CFA("RGGB"), profile, (0.5, 1.0, 0.6), 50.0, 800.0, source, profile.at_iso(800))
        paths.append(write_dng(folder / f"{number:02}.dng", capture[0]))
    return paths


class Watch(threading.Thread):
    """Memory of a process and all below it, MB, each quarter of a second."""

    def __init__(self, process: subprocess.Popen[Any]) -> None:
        super().__init__(daemon=True)
        self.process, self.megabytes = psutil.Process(process.pid), list[float]()

    def run(self) -> None:
        """Until it has ended."""
        while self.process.is_running() and self.process.status() != psutil.STATUS_ZOMBIE:
            total = 0
            for one in [self.process, *self.process.children(recursive=True)]:
                try:
                    total += one.memory_info().rss
                except psutil.Error:
                    continue  # it has just ended
            self.megabytes.append(total / 1e6)
            time.sleep(0.25)

    def quarters(self) -> list[float]:
        """The largest of each quarter of the run."""
        step = max(1, len(self.megabytes) // 4)
        return [round(max(self.megabytes[begin : begin + step])) for begin in range(0, 4 * step, step)]


def many(command: Literal["enhance", "batch"], files: int, folder: Path) -> dict[str, Any]:
    """A folder of very many small files."""
    originals = frames(folder, 10)
    (folder / "in").mkdir()
    for number in range(files):
        shutil.copy(originals[number % 10], folder / "in" / f"{number:05}.dng")
    words = [*WAY, command, str(folder / "in"), "-o", str(folder / "out"), "--ratio", "50", "--quiet"]
    began = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    watch = Watch(process)
    watch.start()
    status = process.wait()
    written = sorted((folder / "out").glob("*.dng"))
    nameless = {path: path.read_bytes().replace(path.stem.encode(), b"") for path in written}  # a DNG tells its source
    kinds = [len({nameless[path] for path in written if int(path.stem) % 10 == kind}) for kind in range(10)]
    figures = {"status": status, "seconds": round(time.perf_counter() - began), "files": len(written)}
    return figures | {"MB, by quarters": watch.quarters(), "outputs of equal inputs": kinds}


@contextmanager
def served(folder: Path) -> Any:
    """The page on a folder: its address and the watch over its memory."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([*WAY, "web", str(folder), "--port", str(port)], stdout=subprocess.DEVNULL)
    watch = Watch(process)
    try:
        while True:
            try:
                HTTPConnection("127.0.0.1", port, timeout=5).connect()
                break
            except OSError:
                time.sleep(0.2)
        watch.start()
        yield port, watch
    finally:
        process.terminate()
        process.wait()


def answer(port: int, path: str) -> tuple[int, bytes]:
    """Status and body."""
    connection = HTTPConnection("127.0.0.1", port, timeout=300)
    connection.request("GET", path)
    reply = connection.getresponse()
    return reply.status, reply.read()


def hang_up(port: int, path: str) -> None:
    """Ask, and do not wait."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())


def page(clients: int, minutes: float, folder: Path) -> dict[str, Any]:
    """Clients at once on the page."""
    for path in frames(folder, 10)[8:]:
        path.write_bytes(path.read_bytes()[:2000])
    with served(folder) as (port, watch):
        photographs = json.loads(answer(port, "/api/photographs")[1])["photographs"]
        asked = ("view?ratio=50", "view?ratio=20&which=before", "view?ratio=50&x=10&y=10&width=64&height=64", "facts")
        asked += ("step?ratio=50&count=1&number=1", "map/overruled?ratio=50")
        paths = [f"/api/photographs/{one['key']}/{what}" for one in photographs for what in asked]
        alone = {path: answer(port, path) for path in paths}
        seen: Counter[str] = Counter()
        end = time.monotonic() + 60 * minutes

        def ask(number: int) -> None:
            draw = random.Random(number)
            while time.monotonic() < end:
                path = draw.choice(paths)
                if draw.random() < 1 / 8:
                    hang_up(port, path)
                    seen["hung up"] += 1
                    continue
                try:
                    seen["as alone" if answer(port, path) == alone[path] else "another"] += 1
                except OSError:
                    seen["none"] += 1

        everybody = [threading.Thread(target=ask, args=(number,)) for number in range(clients)]
        for one in everybody:
            one.start()
        for one in everybody:
            one.join()
        statuses = Counter(str(status) for status, _ in alone.values())
        return {"answers": dict(seen), "statuses": dict(statuses), "MB, by quarters": watch.quarters()}


def main(
    files: int = 1000,
    minutes: float = 3,
    clients: int = 10,
    only: tuple[Literal["enhance", "batch", "web"], ...] = ("enhance", "batch", "web"),
) -> None:
    """Print the figures as JSON.

    Args:
        files: in a folder.
        minutes: that clients ask for.
        clients: at once.
        only: what is measured.
    """
    figures: dict[str, Any] = machine()
    for name in only:
        with tempfile.TemporaryDirectory() as folder:
            work = page(clients, minutes, Path(folder)) if name == "web" else many(name, files, Path(folder))
            figures[name] = work
    print(re.sub(r"\s*\n\s+(?=[\d\]])", " ", json.dumps(figures, indent=1)))


if __name__ == "__main__":
    tyro.cli(main)

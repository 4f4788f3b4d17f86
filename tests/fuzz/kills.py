"""`python -m tests.fuzz.kills --kills 100`: commands killed at random moments, each command in turn.

A process that has imported everything forks one that runs a command on tiny inputs, and kills it (SIGKILL). Then each
result that is there must be whole, the same command must succeed, and no temporary file may be left. 1 is returned if
that was not so.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import os
import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import torch
from PIL import Image

from exposurediffusion.cli.main import COMMANDS, main
from exposurediffusion.pictures.prepared import read_pictures
from exposurediffusion.raw.read import read_raw
from exposurediffusion.weights.file import load
from tests import simulated
from tests.fuzz import corpus
from tests.fuzz.targets import Outcome, read

_TRAIN = "--preset default --iterations 12 --batch 2 --patch 16 --validation-patch 16 --workers 0 --no-tensorboard"
_TRAIN += " --checkpoint-minutes 0 --denoiser.options.widths 2 2 3 3 4"
LINES = {
    "enhance": "enhance raws -o out --weights weights.safetensors --ratio 20 --before-after --sidecar",
    "simulate": "simulate --images pictures -o out --size 64 --scenes 2 --split test --darks 1 --workers 1",
    "prepare": "prepare pictures -o out/p.safetensors --downscale 1",
    "train": f"train --data pictures -o out {_TRAIN}",
    "evaluate": "evaluate --root set --weights weights.safetensors -o out --device cpu",
}


def prepare(folder: Path) -> None:
    """The inputs of all commands."""
    os.chdir(folder)
    for name in ("raws", "pictures"):
        Path(name).mkdir()
    for name in "abc":
        corpus.dark(Path("raws", f"{name}.dng"))
    for path in simulated.photographs(Path("pictures"), 3).iterdir():
        Image.open(path).resize((300, 300)).save(path)
    simulated.tiny_weights(Path("weights.safetensors"))
    simulated.simulate(Path("pictures"), Path("set"), "--scenes", 2, "--split", "test")
    for name in COMMANDS:
        importlib.import_module(f"exposurediffusion.cli.{name}")


def begun(words: list[str]) -> int:
    """A process that runs a command; its messages go to `said`."""
    if process := os.fork():
        return process
    torch.set_num_threads(1)
    with open("said", "w") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
        try:
            os._exit(main(words))
        except SystemExit as leave:
            os._exit(int(leave.code or 0))
        finally:
            os._exit(70)


def not_whole(folder: Path) -> list[str]:
    """What is in a folder of results and cannot be read to its end."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and not path.name.endswith(".part"):
            try:
                _READERS.get(path.suffix, lambda path: None)(path)
            except Exception as error:
                found.append(f"{path}: {error}")
    return found


def _weights_or_pictures(path: Path) -> None:
    (read_pictures if path.name == "p.safetensors" else load)(path)


_READERS = {
    ".dng": read_raw,
    ".safetensors": _weights_or_pictures,
    ".json": lambda path: json.loads(path.read_text()),
    ".pt": lambda path: torch.load(path, weights_only=True),
    ".jpg": lambda path: _picture(path),
    ".png": lambda path: _picture(path),
}


def _picture(path: Path) -> None:
    outcome, said = read("picture", path.absolute())
    if outcome is not Outcome.PROCESSED:
        raise ValueError(said)


def run(name: str, after: float | None) -> tuple[bool, float]:
    """Run a command, and kill it after so many seconds: whether it was, and how long it ran."""
    started, process = time.monotonic(), begun(LINES[name].split())
    while after is None or time.monotonic() - started < after:
        if os.waitpid(process, os.WNOHANG)[0]:
            return False, time.monotonic() - started
        time.sleep(0.001)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return True, time.monotonic() - started


def command(kills: int, seed: int, end: float) -> int:
    random, lasts, counts, faults = Random(seed), dict[str, float](), Counter[str](), 0
    for name in LINES:
        shutil.rmtree("out", ignore_errors=True)
        lasts[name] = run(name, None)[1]
        assert list(Path("out").iterdir()), Path("said").read_text()
    while sum(counts.values()) < kills and time.monotonic() < end:
        name = list(LINES)[sum(counts.values()) % len(LINES)]
        if random.random() < 0.5:  # else it goes on, once more, with what is there
            shutil.rmtree("out", ignore_errors=True)
        if not run(name, random.uniform(0, lasts[name]))[0]:
            shutil.rmtree("out", ignore_errors=True)
            continue
        counts[name] += 1
        wrong = not_whole(Path("out"))
        process = begun(LINES[name].split())
        if code := os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]):
            wrong.append(f"exit code {code}: {Path('said').read_text()[-500:]}")
        wrong += not_whole(Path("out")) + [f"{path} is left" for path in Path("out").rglob("*.part")]
        faults += bool(wrong)
        for line in wrong:
            print(f"{name}: {line}", flush=True)
    each = ", ".join(f"{name} {count}" for name, count in counts.items())
    print(f"seed {seed}: {sum(counts.values())} kills ({each}); {faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.kills", description="Kill commands, and count faults.")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=60.0)
    asked = parser.parse_args()
    with TemporaryDirectory() as folder:
        with contextlib.redirect_stdout(io.StringIO()):
            prepare(Path(folder))
        sys.exit(command(asked.kills, asked.seed, time.monotonic() + 60 * asked.minutes))

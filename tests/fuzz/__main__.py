"""`python -m tests.fuzz --minutes 5 --seed 1`: mutated files until the time is over, and what became of them.

Each input is known by the seed and its number. A worker, forked from a process that has imported everything, reads
them; one that dies, hangs or grows is counted and begun anew, and the input kept. 1 is returned if there was a fault.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from collections import Counter
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import torch

from exposurediffusion.decoding import process
from tests.fuzz import corpus
from tests.fuzz.mutations import mutate
from tests.fuzz.targets import Outcome, put, read

HANG, LARGE = 60, 2 << 30  # seconds of one input, bytes of one process
FAULTS = [outcome for outcome in Outcome if outcome not in (Outcome.REFUSED, Outcome.PROCESSED)]


def chosen(seeds: list[corpus.Seed], seed: int, number: int) -> tuple[corpus.Seed, bytes]:
    """An input: the file that it comes from, and its bytes."""
    random = Random(f"{seed} {number}")
    sound = random.choice(seeds)
    return sound, mutate(sound.content, sound.form, random)


def work(seeds: list[corpus.Seed], seed: int, pipe: Connection) -> None:
    """Read the inputs whose numbers come; answer with the outcome, what was said, and whether a decoder died."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    while True:
        sound, content = chosen(seeds, seed, number := pipe.recv())
        put(sound.path, content, 1 + number)
        outcome, said = read(sound.target, sound.path)
        put(sound.path, sound.content, 0)
        decoder = process._process.child
        if (
            outcome in (Outcome.REFUSED, Outcome.PROCESSED)
            and max(map(peak, ("self", decoder and decoder.pid))) > LARGE
        ):
            outcome, said = Outcome.LARGE, "memory"
        pipe.send((outcome, said))


def peak(name: str | int | None) -> int:
    """The most memory that a process had, bytes; where /proc tells it."""
    try:
        lines = Path(f"/proc/{name}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


class Worker:
    """The process that reads."""

    def __init__(self, seeds: list[corpus.Seed], seed: int) -> None:
        context = get_context("fork")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=work, args=(seeds, seed, other), daemon=True)
        self.process.start()
        other.close()

    def ask(self, number: int) -> tuple[Outcome, str]:
        self.pipe.send(number)
        try:
            if self.pipe.poll(HANG):
                return self.pipe.recv()
        except EOFError:
            self.process.join()
            return Outcome.CRASH, f"exit code {self.process.exitcode}"
        return Outcome.HANG, f"no answer in {HANG} s"

    def end(self) -> None:
        self.process.kill()
        self.process.join()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Read damaged files, and count faults.")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--inputs", type=int, default=1 << 62, help="at most so many")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first input, to see one again")
    parser.add_argument("--only", default="", help="the kind of file, such as raw or weights")
    parser.add_argument("--failures", type=Path, default=Path("runs/fuzz"), help="folder of inputs that failed")
    asked = parser.parse_args()
    end, counts, kinds, died = time.monotonic() + 60 * asked.minutes, Counter[Outcome](), Counter[str](), 0
    with TemporaryDirectory() as folder:
        seeds = [seed for seed in corpus.make(Path(folder)) if asked.only in seed.target]
        worker, number = Worker(seeds, asked.seed), asked.first
        while time.monotonic() < end and number < asked.first + asked.inputs:
            outcome, said = worker.ask(number)
            counts[outcome] += 1
            died += "its decoder" in said
            if outcome in FAULTS:
                sound, content = chosen(seeds, asked.seed, number)
                kinds[sound.target] += 1
                asked.failures.mkdir(parents=True, exist_ok=True)
                kept = asked.failures / f"{asked.seed}-{number}-{outcome.value.replace(' ', '')}-{sound.name}"
                kept.write_bytes(content)
                print(f"{kept}: {said[:300]}", flush=True)
            if outcome in FAULTS and outcome is not Outcome.TRACEBACK:
                worker.end()
                worker = Worker(seeds, asked.seed)
            number += 1
        worker.end()
    print(f"seed {asked.seed}: {sum(counts.values())} inputs; " + ", ".join(f"{counts[o]} {o}" for o in Outcome))
    print(f"decoding processes that died, each one line about its file: {died}")
    return 1 if any(counts[fault] for fault in FAULTS) else 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())

"""What a training run writes for people: log.jsonl, a picture of each validation, and tensorboard's files."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from exposurediffusion.evaluation.pictures import png
from exposurediffusion.files.atomic import atomic
from exposurediffusion.physics.plain import fitting, parse_json

_LONGEST = 1 << 16  # characters of a line


class RunLog:
    """The log of a run. A resumed run first forgets what was logged after its checkpoint.

    What a full disk has no room for is left out: no reason to end a run.

    Args:
        folder: of the run.
        iteration: at which it begins or goes on.
        tensorboard: write tensorboard's files, too; nothing is said if tensorboard is not installed.
    """

    def __init__(self, folder: Path, iteration: int, tensorboard: bool = True) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.path = folder, folder / "log.jsonl"
        self._forget_after(iteration)
        self._file = self.path.open("a")
        self._board = _summary_writer(folder / "tensorboard", iteration) if tensorboard else None

    def _forget_after(self, iteration: int) -> None:
        if not self.path.exists():
            return
        kept = [entry for entry in _entries(self.path) if entry["iteration"] <= iteration]
        with atomic(self.path) as stream:
            stream.write("".join(json.dumps(entry) + "\n" for entry in kept).encode())

    def write(self, kind: str, iteration: int, **values: float) -> None:
        """A line of the log: `kind` is "training" or "validation"."""
        with suppress(OSError):
            print(json.dumps({"kind": kind, "iteration": iteration, **values}), file=self._file, flush=True)
        if self._board is not None:
            with suppress(OSError):
                for name, value in values.items():
                    self._board.add_scalar(f"{kind}/{name}", value, iteration)

    def picture(self, name: str, iteration: int, pixels: np.ndarray) -> None:
        """A picture, (rows, columns, 3) uint8, as `validation/<iteration>-<name>.png`."""
        folder = self.folder / "validation"
        with suppress(OSError):
            folder.mkdir(exist_ok=True)
            with atomic(folder / f"{iteration:07d}-{name}.png") as stream:
                stream.write(png(pixels))
        if self._board is not None:
            with suppress(OSError):
                self._board.add_image(name, pixels, iteration, dataformats="HWC")

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._file.close()
        if self._board is not None:
            with suppress(OSError):
                self._board.close()


def _summary_writer(folder: Path, iteration: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter  # needs the extra [train]
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=iteration + 1)


def read_log(folder: Path, kind: str) -> list[dict[str, Any]]:
    """The log's entries of a kind, in order."""
    return [entry for entry in _entries(folder / "log.jsonl") if entry["kind"] == kind]


def _entries(path: Path) -> list[dict[str, Any]]:
    """The lines of a log, without those that are torn or damaged: a log is for people, no run depends on it.

    A line has its kind and iteration, and else numbers, all finite.
    """
    found = []
    with path.open(errors="replace") as lines:
        for line in iter(lambda: lines.readline(_LONGEST), ""):
            with suppress(ValueError, KeyError, TypeError):
                entry = fitting(parse_json(line), dict[str, Any], "the line")
                fitting(entry["iteration"], int, "iteration")
                for name, value in entry.items():
                    fitting(value, str if name == "kind" else float, name)
                found.append({"kind": entry.pop("kind"), **entry})
    return found

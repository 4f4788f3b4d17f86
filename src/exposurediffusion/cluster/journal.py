"""What has become of each photograph of a batch: a line of JSON each, on disk before anything else goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

from filelock import lock_descriptor

from exposurediffusion.files.made import MadeOtherwise

_BEGIN = b'{"settings": '


class Journal:
    """The first line holds the settings that all results share; each other one the end of one photograph.

    Attributes:
        path: the file.
        finished: sources that came to an end, each with its error; empty: the result is there.
        ratio: the one that all photographs share; None: it is not known yet, or each has its own.
        is_new: nothing has been begun yet.
    """

    def __init__(self, path: Path, stream: FileIO, settings: Mapping[str, Any]) -> None:
        self.path, self._stream, self._settings = path, stream, settings
        self.finished: dict[str, str] = {}
        self.ratio: float | None = None
        self.is_new = False

    @staticmethod
    @contextmanager
    def opened(path: Path, settings: Mapping[str, Any], anew: bool = False) -> Iterator[Journal]:
        """The journal in a file, which nobody else may write to meanwhile.

        Args:
            path: of the file, which need not exist.
            settings: what results depend on; any JSON.
            anew: a journal of other settings is replaced.

        Raises:
            MadeOtherwise: it has other settings.
            ValueError: it is damaged, in use, or cannot be written.
        """
        try:
            stream = open(path, "ab+", buffering=0)  # noqa: SIM115 - closed below
        except OSError as error:
            raise ValueError(f"{path}: {error.strerror}; allow it, or name another journal (--journal)") from error
        with stream:
            if not lock_descriptor(stream.fileno(), blocking=False):
                raise ValueError(f"{path}: another `expose batch` is at work on it; wait for it, or end it")
            journal = Journal(path, stream, json.loads(json.dumps(settings)))
            journal._read(anew)
            try:
                yield journal
            finally:
                if journal.is_new:
                    path.unlink()

    def begin(self) -> None:
        """Write the settings of a new one."""
        if self.is_new:
            self._add({"settings": self._settings})
            self.is_new = False

    def end(self, source: str, error: str = "", **fields: Any) -> None:
        """A photograph came to its end: its result is there, or `error` says why not."""
        why = {"error": error} if error else {}
        self._add({"input": source, "state": "failed" if error else "done", **fields, **why})
        self.finished[source] = error

    def share(self, ratio: float) -> None:
        """Keep the ratio that all photographs share."""
        self._add({"ratio": ratio})
        self.ratio = ratio

    def _add(self, fields: Mapping[str, Any]) -> None:
        self._stream.write(json.dumps(fields).encode() + b"\n")
        os.fsync(self._stream.fileno())

    def _read(self, anew: bool) -> None:
        """Take in what is there; a last line that was torn as the program ended is cut off: it is done once more."""
        whole = 0
        self._stream.seek(0)
        with open(self._stream.fileno(), "rb", closefd=False) as lines:
            for number, line in enumerate(lines, 1):
                if number == 1 and line[: len(_BEGIN)] != _BEGIN[: len(line)]:
                    raise ValueError(f"{self.path}: no journal of `expose batch`; name another (--journal)")
                if not line.endswith(b"\n"):
                    break
                try:
                    fields = json.loads(line)
                    there = fields["settings"] if number == 1 else self._settings
                    self._take(fields)
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    raise ValueError(f"{self.path}: line {number} is damaged ({error}); take it out") from error
                if there != self._settings:
                    if anew:
                        break
                    raise MadeOtherwise(f"{self.path}: {_difference(there, self._settings)}")
                whole += len(line)
        if whole < self._stream.seek(0, os.SEEK_END):
            self._stream.truncate(whole)
        self.is_new = whole == 0

    def _take(self, fields: dict[str, Any]) -> None:
        if "input" in fields:
            self.finished[fields["input"]] = str(fields.get("error", ""))
        elif "ratio" in fields:
            self.ratio = float(fields["ratio"])


def _difference(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """Why a journal cannot be gone on with, and what to do."""
    names = sorted(name for name in there.keys() | here.keys() if there.get(name) != here.get(name))
    values = ", ".join(f"{name} {there.get(name)} there, {here.get(name)} here" for name in names[:2])
    return f"begun with other options ({values}): take another output folder, or --overwrite to begin anew"

"""A folder of results: one CSV of all figures, kept as they come, so that a stopped evaluation goes on."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import fields
from math import isfinite
from pathlib import Path
from typing import Any

from exposurediffusion.evaluation.measure import Record
from exposurediffusion.evaluation.methods import Method
from exposurediffusion.files.atomic import atomic
from exposurediffusion.files.made import MadeOtherwise
from exposurediffusion.physics.plain import read_json

IMAGES, SETTINGS = "images.csv", "settings.json"


class Results:
    """The records of an evaluation, in `images.csv`; `settings.json` says how they were taken.

    Args:
        folder: is made if need be.
        settings: data set and protocol: what all records of a folder have in common.
        overwrite: forget what is there.
        remedy: what people can do about what is there.

    Raises:
        ValueError: what is there was taken otherwise, or is damaged.
        OSError: the folder cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        settings: dict[str, Any],
        overwrite: bool = False,
        remedy: str = "use --overwrite, or another folder",
    ) -> None:
        self.folder, self._remedy = folder, remedy
        self.records: list[Record] = []
        self._there: set[tuple[str, str, str]] = set()
        self.settings: dict[str, Any] = {**json.loads(json.dumps(settings)), "methods": {}}
        if (folder / SETTINGS).is_file() and not overwrite:
            self._continue()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(error.errno, f"cannot make {folder}: {error.strerror}; choose another folder") from error
        self._write()  # whether it can be written is better known before hours than after them

    def _continue(self) -> None:
        try:
            there = read_json(self.folder / SETTINGS)
            methods = there.pop("contenders") if "contenders" in there else there.pop("methods")
            with open(self.folder / IMAGES, newline="") as stream:
                self.records = [Record.from_row(row) for row in csv.DictReader(stream)]
        except (OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
            raise ValueError(f"{self.folder}: results that are there are damaged ({error}): {self._remedy}") from error
        here = {name: value for name, value in self.settings.items() if name != "methods"}
        differing = sorted(name for name in there.keys() | here.keys() if there.get(name) != here.get(name))
        if differing:
            values = ", ".join(f"{name} {there.get(name)} there, {here.get(name)} here" for name in differing[:2])
            raise MadeOtherwise(f"{self.folder}: its figures were taken otherwise ({values}): {self._remedy}")
        self.settings["methods"] = methods
        self._note(self.records)

    def admit(self, method: Method) -> None:
        """Note how a method is set.

        Raises:
            ValueError: one of that name is there, set otherwise.
        """
        known, settings = self.settings["methods"], json.loads(json.dumps(method.settings))
        if known.setdefault(method.name, settings) != settings:
            raise MadeOtherwise(
                f"{self.folder}: {method.name!r} was measured with other settings ({known[method.name]}): "
                f"{self._remedy}"
            )

    def has(self, method: str, scene: str, file: str) -> bool:
        """Whether a capture's figures are there already; files of other scenes may have the same name."""
        return (method, scene, file) in self._there

    def of(self, method: str) -> list[Record]:
        """All records of a method."""
        return [record for record in self.records if record.method == method]

    def add(self, records: Sequence[Record]) -> None:
        """Keep the figures of a capture."""
        self.records += records
        self._note(records)
        self._write()

    def _note(self, records: Sequence[Record]) -> None:
        self._there |= {(record.method, record.scene, record.file) for record in records}

    def _write(self) -> None:
        write_text(self.folder / SETTINGS, json.dumps(self.settings, indent=1) + "\n")
        out = io.StringIO()
        writer = csv.DictWriter(out, [f.name for f in fields(Record)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(record.to_row() for record in self.records)
        write_text(self.folder / IMAGES, out.getvalue())


def write_text(path: Path, content: str) -> None:
    """Write a text file, whole or not at all."""
    with atomic(path) as stream:
        stream.write(content.encode())


def for_json(value: float | None) -> float | str | None:
    """A number that JSON can hold: one that is infinite, or none, becomes the word."""
    return value if value is None or isfinite(value) else str(value)

"""Scores of methods on a selection of data, which is opened once; what was measured is kept, and not measured again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from exposurediffusion.datasets.samples import PairDataset
from exposurediffusion.evaluation.measure import Correction, Protocol, Record
from exposurediffusion.evaluation.methods import Method
from exposurediffusion.evaluation.results import Results
from exposurediffusion.evaluation.score import score
from exposurediffusion.evaluation.selection import Selection
from exposurediffusion.evaluation.summary import Score, nominal, summarise

Scores = Mapping[tuple[int, Correction], Score]
"""Nominal ratio and correction -> what was measured."""
Tick = Callable[[str, int, int], None]
"""`tick(what, done, of)`."""


@dataclass
class Scorer:
    """Measures methods under one protocol.

    Attributes:
        selection: the data, where no other is named.
        output: folder of the records.
        protocol: how scores are taken.
        report: is given what people should read.
        tick: is called while data is decoded and methods are measured.
        without: scenes that are left out.
    """

    selection: Selection
    output: Path
    protocol: Protocol
    report: Callable[[str], None] = lambda _: None
    tick: Tick = lambda what, done, of: None
    without: frozenset[str] = frozenset()
    _opened: dict[Selection, tuple[PairDataset, Results]] = field(default_factory=dict, init=False, repr=False)

    def scores(self, method: Method, selection: Selection | None = None) -> Scores:
        """The scores of a method."""
        chosen = selection or self.selection
        return self.summarise(self.records(method, chosen), chosen, {"run": method.name})

    def summarise(self, records: list[Record], selection: Selection, of: Mapping[str, Any]) -> Scores:
        """The means of records of one method, with the data, the protocol and all else that they are `of`."""
        of = {**selection.describe(), **self._protocol(), **of}
        return {
            (ratio, correction): replace(found, of={**of, "correction": correction})
            for (_, ratio, correction), found in summarise(records).items()
        }

    def records(self, method: Method, selection: Selection) -> list[Record]:
        """The records of a method; what is on disk is not measured again."""
        opened, results = self.open(selection)
        done, total = 0, len(opened.pairs)

        def tick() -> None:
            nonlocal done
            done += 1
            self.tick(method.name, done, total)

        score(opened, [method], self.protocol, results, tick=tick)
        return [record for record in results.of(method.name) if record.scene not in self.without]

    def open(self, selection: Selection) -> tuple[PairDataset, Results]:
        """The pairs of a selection, and the records taken on them.

        Raises:
            ValueError: all its scenes are left out, or records that are there were taken otherwise.
        """
        if selection not in self._opened:
            parts = ["measured", selection.camera or "", "dark-shading" if selection.dark_shading else ""]
            folder = self.output / "-".join(part for part in parts if part)
            settings = {"data": selection.describe(), **self.protocol.to_dict()}
            results = Results(folder, settings, remedy="remove it, or choose another folder by -o")
            opened = selection.open(self.report, partial(self.tick, "decoding"))
            kept = tuple(pair for pair in opened.pairs if pair.scene not in self.without)
            if not kept:
                raise ValueError(
                    f"{self.selection.root}: all validation scenes are among those that are measured, and no learning "
                    "rate can be chosen on them: leave out --rates, or measure another --split or --subset"
                )
            self._opened[selection] = replace(opened, pairs=kept), results
        return self._opened[selection]

    def validation(self, selection: Selection) -> Scorer:
        """A scorer of the validation split, without those scenes of it that `selection` has, as SID's subset does."""
        return Scorer(
            replace(self.selection, split="validation", subset="all", ratios=()),
            self.output / "validation",
            replace(self.protocol, corrections=("final",)),
            self.report,
            self.tick,
            frozenset(pair.scene for pair in self.open(selection)[0].pairs),
        )

    def describe(self) -> dict[str, Any]:
        """The data that was opened, its number of images of each ratio, and the protocol."""
        data: dict[str, dict[str, None]] = {}
        for selection, (opened, _) in self._opened.items():
            images = sorted(Counter(nominal(pair.ratio) for pair in opened.pairs).items())
            counts = ", ".join(f"{count} at x{ratio}" for ratio, count in images)
            for name, value in {**selection.describe(), "images": counts}.items():
                data.setdefault(name, {}).setdefault(str(value))
        merged = {name: " or ".join(filter(None, values)) for name, values in data.items()}  # cameras of one table
        return {**(merged or self.selection.describe()), **self._protocol()}

    def _protocol(self) -> dict[str, Any]:
        chosen = {"crop": self.protocol.crop or "whole", "corrections": ", ".join(self.protocol.corrections)}
        return {**self.protocol.to_dict(), **chosen}

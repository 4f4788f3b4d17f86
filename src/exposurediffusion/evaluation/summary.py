"""Means and spreads of records, and tables of them as Markdown and CSV; what was not measured is a dash."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, isinf, sqrt
from typing import Any

from exposurediffusion.evaluation.measure import Correction, Record

_NOMINAL = (1, 10, 100, 200, 250, 300)

_NEAR = 0.05  # EXIF rounds its times

Key = tuple[str, int, Correction]
"""Method, nominal ratio, correction."""

MISSING = "-"


@dataclass(frozen=True)
class Score:
    """PSNR and SSIM of a method at one ratio and correction, as a cell of a table.

    Attributes:
        psnr, ssim: means over images, then over seeds.
        spread: standard deviation of the mean PSNR over seeds; None: one seed.
        images: how many.
        psnr_srgb, ssim_srgb: of the rendering, where there is one.
        seeds: how many.
        digits: of SSIM, for people.
        of: what it is of, as plain values by name; empty where nobody asked.
    """

    psnr: float
    ssim: float
    spread: float | None = None
    images: int = 0
    psnr_srgb: float | None = None
    ssim_srgb: float | None = None
    seeds: int = 1
    digits: int = 3
    of: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def __str__(self) -> str:
        spread = "" if self.spread is None else f" ±{self.spread:.2f}"
        return f"{self.psnr:.2f}{spread} / {self.ssim:.{self.digits}f}"


Cell = Score | str | float | int | None


@dataclass(frozen=True)
class Table:
    """Rows under a header.

    Attributes:
        title: one line.
        header: of the columns.
        rows: as many cells each.
        notes: what has to be read with it: data set, protocol, command.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        if any(len(row) != len(self.header) for row in self.rows):
            raise ValueError(f"{self.title}: rows and header differ in length")

    def texts(self) -> list[list[str]]:
        """The rows, for people."""
        return [[text(cell) for cell in row] for row in self.rows]

    def markdown(self) -> str:
        """A table of pipes, its title above and its notes below."""
        lines = [self.header, ["---"] * len(self.header), *self.texts()]
        body = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
        notes = "".join(f"\n\n{note}" for note in self.notes)
        return f"## {self.title}\n\n{body}{notes}\n"

    def csv(self) -> str:
        """Comma-separated; a figure becomes columns, PSNR, SSIM and the spread if there are some, in full precision."""
        parts = [_parts([row[i] for row in self.rows]) for i in range(len(self.header))]
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        heads = zip(self.header, parts, strict=True)
        writer.writerow([f"{name} {_HEADS[part]}" if part else name for name, chosen in heads for part in chosen])
        for row in self.rows:
            cells = zip(row, parts, strict=True)
            writer.writerow([_value(cell, part) for cell, chosen in cells for part in chosen])
        return out.getvalue()


def by_correction(records: Sequence[Record], names: Sequence[str], notes: Sequence[str]) -> list[Table]:
    """A table for each correction: a row for each method, a column for each ratio.

    Args:
        records: of any methods.
        names: of methods, in the order of the rows; others follow.
        notes: go below the last table.
    """
    scores = summarise(records)
    ratios = sorted({ratio for _, ratio, _ in scores})
    corrections: list[Correction] = list(dict.fromkeys(correction for _, _, correction in scores))
    rows = dict.fromkeys([*names, *(name for name, _, _ in scores)])
    return [
        Table(
            f"Correction: {correction}",
            ["", *(f"x{ratio}" for ratio in ratios)],
            [[name, *(scores.get((name, ratio, correction)) for ratio in ratios)] for name in rows],
            notes if correction == corrections[-1] else (),
        )
        for correction in corrections
    ]


def text(cell: Cell) -> str:
    """A cell for people."""
    if cell is None:
        return MISSING
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)


_HEADS = {"psnr": "PSNR", "ssim": "SSIM", "spread": "spread"}


def _parts(column: Sequence[Cell]) -> tuple[str, ...]:
    """Attributes of figures that a column is split into; one that is empty: it is not."""
    scores = [cell for cell in column if isinstance(cell, Score)]
    if not scores:
        return ("",)
    return ("psnr", "ssim", "spread") if any(score.spread is not None for score in scores) else ("psnr", "ssim")


def _value(cell: Cell, part: str) -> str | float | int:
    if isinstance(cell, Score):
        value = getattr(cell, part)
        return "" if value is None else value
    return "" if cell is None or part not in ("", "psnr") else cell


def nominal(ratio: float) -> int:
    """The ratio that a table's column bears: a published one within 5 %, else the nearest whole number."""
    near = [n for n in _NOMINAL if abs(ratio / n - 1) < _NEAR]
    return min(near, key=lambda n: abs(ratio / n - 1)) if near else round(ratio)


def summarise(records: Iterable[Record]) -> dict[Key, Score]:
    """PSNR per image, then the mean; several seeds: the mean of their means, and its spread."""
    groups: dict[Key, dict[int, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        groups[record.method, nominal(record.ratio), record.correction][record.seed].append(record)
    return {key: _score(list(seeds.values())) for key, seeds in groups.items()}


def _score(seeds: list[list[Record]]) -> Score:
    means = [mean([record.psnr for record in records]) for records in seeds]
    every = [record for records in seeds for record in records]
    rendered = [record for record in every if record.psnr_srgb is not None and record.ssim_srgb is not None]
    srgb = None, None
    if rendered:
        srgb = mean([r.psnr_srgb or 0.0 for r in rendered]), mean([r.ssim_srgb or 0.0 for r in rendered])
    return Score(mean(means), mean([r.ssim for r in every]), deviation(means), len(seeds[0]), *srgb, len(seeds))


def mean(values: Sequence[float]) -> float:
    """The mean; infinite where a value is."""
    return inf if any(map(isinf, values)) else sum(values) / len(values)


def deviation(values: Sequence[float]) -> float | None:
    """Standard deviation of a sample of at least two finite values, else None."""
    if len(values) < 2 or any(map(isinf, values)):
        return None
    centre = mean(values)
    return sqrt(sum((value - centre) ** 2 for value in values) / (len(values) - 1))

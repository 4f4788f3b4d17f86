"""Tables of figures, as Markdown and as CSV; what was not measured is a dash."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from exposurediffusion.learn.measuring import Correction, Figure, Record, summarise

MISSING = "-"
Cell = Figure | str | float | int | None


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

    def markdown(self) -> str:
        """A table of pipes, its title above and its notes below."""
        lines = [self.header, ["---"] * len(self.header), *(map(text, row) for row in self.rows)]
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
    """A table for each correction: a row for each contender, a column for each ratio.

    Args:
        records: of any contenders.
        names: of contenders, in the order of the rows; others follow.
        notes: go below the last table.
    """
    figures = summarise(records)
    ratios = sorted({ratio for _, ratio, _ in figures})
    corrections: list[Correction] = list(dict.fromkeys(correction for _, _, correction in figures))
    rows = dict.fromkeys([*names, *(name for name, _, _ in figures)])
    return [
        Table(
            f"Correction: {correction}",
            ["", *(f"x{ratio}" for ratio in ratios)],
            [[name, *(figures.get((name, ratio, correction)) for ratio in ratios)] for name in rows],
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
    figures = [cell for cell in column if isinstance(cell, Figure)]
    if not figures:
        return ("",)
    return ("psnr", "ssim", "spread") if any(figure.spread is not None for figure in figures) else ("psnr", "ssim")


def _value(cell: Cell, part: str) -> str | float | int:
    if isinstance(cell, Figure):
        value = getattr(cell, part)
        return "" if value is None else value
    return "" if cell is None or part not in ("", "psnr") else cell

"""What a table beside pictures says of them: MANIFEST.tsv, with a licence and how each was made."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path

MANIFEST = "MANIFEST.tsv"
NOT_STATED = "not stated"


@dataclass(frozen=True)
class Statement:
    """What is said of a picture.

    Attributes:
        licence: as the table has it.
        clean: it was averaged already ("box 2" and the like), so that no noise is left.
    """

    licence: str = NOT_STATED
    clean: bool = False


def stated(path: Path, folder: Path) -> Statement:
    """What the nearest MANIFEST.tsv says of a picture, from its own folder up to the one above `folder`.

    The table has tabs, a line of headings, the file or patterns such as `photo/*.jpg` first (as seen from the table),
    a column whose heading begins with `licence`, and perhaps one with `processing`.
    """
    path, top = path.resolve(), folder.resolve().parent
    for place in path.parents:
        table = place / MANIFEST
        if table.is_file():
            name = path.relative_to(place).as_posix()
            for patterns, statement in _rows(table):
                if any(name == pattern or fnmatch(name, pattern) for pattern in patterns):
                    return statement
        if place == top:
            break
    return Statement()


@lru_cache
def _rows(table: Path) -> list[tuple[tuple[str, ...], Statement]]:
    """Patterns and statement of each line, exact names first."""
    lines = [line.split("\t") for line in table.read_text("utf-8", errors="replace").splitlines()]
    heading = [cell.strip().lower() for cell in lines[0]] if lines else []
    licence, processing = (_column(heading, word) for word in ("licence", "processing"))
    rows = []
    for cells in lines[1:]:
        said = cells[licence].strip() if 0 <= licence < len(cells) else ""
        made = cells[processing].strip() if 0 <= processing < len(cells) else ""
        rows.append((_patterns(cells[0]), Statement(said or NOT_STATED, made.startswith("box "))))
    return sorted(rows, key=lambda row: any("*" in pattern for pattern in row[0]))


def _patterns(cell: str) -> tuple[str, ...]:
    """The whole cell, and the patterns in it; in `photo/*.jpg *.tif` the second is of the same folder."""
    patterns, folder = [cell.strip()], ""
    for word in cell.replace(",", " ").split():
        folder = word.rpartition("/")[0] if "/" in word else folder
        patterns.append(word if "/" in word or not folder else f"{folder}/{word}")
    return tuple(patterns)


def _column(heading: list[str], word: str) -> int:
    return next((place for place, cell in enumerate(heading) if cell.startswith(word)), -1)

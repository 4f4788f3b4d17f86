"""Pairs of short and long exposures by their names or by a table.

Names and EXIF alone are read here; frames are decoded later. What does not fit becomes a problem, one line each.
"""

from __future__ import annotations

import csv
from pathlib import Path

from exposurediffusion.datasets.listing import (
    Listing,
    Pair,
    exif_ratio,
    listing,
    raws_by,
)

TABLE = "pairs.csv"
"""A table of pairs that is found by itself, at the root of the data set."""


def pairs(root: Path, table: Path | None = None) -> Listing:
    """Pairs of short and long exposures: `short/NAME.*` with `long/NAME.*`, or as a table says.

    Args:
        root: the data set.
        table: CSV file with a header `short,long` or `short,long,ratio`; paths are relative to it. None: `pairs.csv`
            in the root, if it is there. Ratios that it does not have come from ISO x exposure time in EXIF.

    Raises:
        ValueError: neither such folders nor a table, or a table without these columns.
    """
    if table is None and (root / TABLE).is_file():
        table = root / TABLE
    problems: list[str] = []
    if table is not None:
        found, longs = _from_table(table, problems)
        return listing(longs, found, problems)
    if not ((root / "short").is_dir() and (root / "long").is_dir()):
        raise ValueError(f"{root}: no folders short and long, and no {TABLE} with a header short,long[,ratio]")
    by_stem = [raws_by(root / part, lambda path: path.stem, "NAME.dng", problems) for part in ("short", "long")]
    found = []
    for stem, short in by_stem[0].items():
        if stem not in by_stem[1]:
            problems.append(f"{short}: left out, its long exposure is missing (long/{stem}.*)")
        elif ratio := exif_ratio(short, by_stem[1][stem], problems):
            found.append(Pair(short, by_stem[1][stem], ratio, stem))
    return listing(by_stem[1].values(), found, problems)


def _from_table(table: Path, problems: list[str]) -> tuple[list[Pair], list[Path]]:
    try:
        with open(table, newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream, skipinitialspace=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{table}: cannot be read as a table ({error})") from error
    if not rows or not {"short", "long"} <= rows[0].keys():
        raise ValueError(f"{table}: its first line must be short,long or short,long,ratio, and pairs must follow")
    found, longs = [], []
    for line, row in enumerate(rows, 2):
        names = [(row[key] or "").strip() for key in ("short", "long")]
        short, long = (table.parent / name for name in names)
        missing = [name for name, path in zip(names, (short, long), strict=True) if not path.is_file()]
        if missing:
            problems.append(f"{table}, line {line}: {missing[0] or 'a name'} is missing; the pair is left out")
            continue
        longs.append(long)
        ratio = _ratio_of(row.get("ratio") or "", short, long, f"{table}, line {line}", problems)
        if ratio is not None:
            found.append(Pair(short, long, ratio, Path(names[0]).with_suffix("").as_posix()))
    return found, longs


def _ratio_of(text: str, short: Path, long: Path, place: str, problems: list[str]) -> float | None:
    """The ratio that a table says, else EXIF's."""
    if not text.strip():
        return exif_ratio(short, long, problems)
    try:
        ratio = float(text)
    except ValueError:
        ratio = float("nan")
    if 1 <= ratio < 1e6:
        return ratio
    problems.append(f"{place}: the ratio {text.strip()} is not a number from 1 on; the pair is left out")
    return None

"""Which files of a data set belong together: SID, ELD, folders of pairs, of raw files, of pictures.

Names and EXIF alone are read here; frames are decoded later. What does not fit becomes a problem, one line each.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from exposurediffusion.data.images import find_images
from exposurediffusion.data.listing import Listing, Pair, exif_ratio, listing, raws_by
from exposurediffusion.data.raw import RAW_EXTENSIONS, find_raws
from exposurediffusion.data.sid import is_sid_name, sid, sid_references

__all__ = ["TABLE", "Kind", "Listing", "Pair", "detect", "eld", "pairs", "raws", "sid", "sid_references"]

Kind = Literal["sid-sony", "sid-fuji", "eld", "pairs", "raws", "images", "prepared"]
TABLE = "pairs.csv"
"""A table of pairs that is found by itself, at the root of the data set."""
_REFERENCES = (1, 6, 11, 16)
_CAPTURES = {100: (4, 9, 14), 200: (5, 10, 15)}
_ELD_NAME = re.compile(r"IMG_(\d+)", re.IGNORECASE)


def eld(root: Path, camera: str | None = None, ratios: Sequence[int] = (100, 200)) -> Listing:
    """The pairs of ELD: `<camera>/scene-<n>/IMG_<nnnn>.*`, any raw extension.

    Images 4, 9, 14 (x100) and 5, 10, 15 (x200) are the captures of its tables; the reference of each is the nearest in
    number of 1, 6, 11, 16. The true ratio is that of ISO x exposure time in their EXIF.

    Args:
        root: the data set, or its folder of one camera.
        camera: name of a folder, such as SonyA7S2; None: all that there are.
        ratios: of 100, 200.

    Raises:
        ValueError: no such camera or scenes, or other ratios.
    """
    if unknown := [ratio for ratio in ratios if ratio not in _CAPTURES]:
        raise ValueError(f"ELD's tables have ratios 100 and 200, not {unknown[0]}")
    problems: list[str] = []
    references, found = [], []
    for scene in _eld_scenes(root, camera):
        images = raws_by(scene, _eld_number, "IMG_0004.ARW", problems)
        references += [images[number] for number in _REFERENCES if number in images]
        for number in (n for ratio in ratios for n in _CAPTURES[ratio]):
            nearest = min((abs(reference - number), reference) for reference in _REFERENCES)[1]
            if absent := [n for n in (number, nearest) if n not in images]:
                problems.append(f"{scene}: IMG_{absent[0]:04d} is missing; image {number} is left out")
            elif ratio := exif_ratio(images[number], images[nearest], problems):
                found.append(Pair(images[number], images[nearest], ratio, f"{scene.parent.name}/{scene.name}"))
    return listing(references, found, problems, extra=False)


def _eld_scenes(root: Path, camera: str | None) -> list[Path]:
    folder = root / camera if camera and (root / camera).is_dir() else root
    scenes = list(folder.glob("scene-*")) or ([] if camera else list(folder.glob("*/scene-*")))
    if not scenes:
        there = ", ".join(sorted({path.parent.name for path in root.glob("*/scene-*")})) or "none"
        raise ValueError(f"{folder}: no folders <camera>/scene-<n> as in ELD; cameras that are there: {there}")
    return sorted((s for s in scenes if s.is_dir()), key=lambda s: (str(s.parent), len(s.name), s.name))


def _eld_number(path: Path) -> int | None:
    match = _ELD_NAME.fullmatch(path.stem)
    return int(match[1]) if match else None


def pairs(root: Path, table: Path | None = None) -> Listing:
    """Pairs of short and long exposures: `short/NAME.*` with `long/NAME.*`, or as a table says.

    Args:
        root: the data set.
        table: CSV file with a header `short,long` or `short,long,ratio`; paths are relative to it. None: `pairs.csv`
            in the root, if it is there. Ratios that it does not tell come from ISO x exposure time in EXIF.

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


def raws(root: Path) -> Listing:
    """All raw files in a folder and below, hidden ones left out."""
    found = (path for path in root.rglob("*") if path.suffix.lower() in RAW_EXTENSIONS and path.is_file())
    shown = [p for p in found if not any(part.startswith(".") for part in p.relative_to(root).parts)]
    return listing(shown, (), (), extra=False)


def detect(root: Path) -> Kind:
    """What kind of data set a folder is, or a file of prepared pictures.

    Raises:
        ValueError: none that is known, or SID with both cameras.
    """
    if root.is_file():
        return "prepared"
    if not root.is_dir():
        raise ValueError(f"{root}: no such folder")
    sides = [side for side in ("Sony", "Fuji") if (root / side / "long").is_dir()]
    if len(sides) == 2:
        raise ValueError(f"{root}: SID with both cameras; say which: sid-sony or sid-fuji")
    if sides:
        return "sid-sony" if sides == ["Sony"] else "sid-fuji"
    if any(root.glob("scene-*")) or any(root.glob("*/scene-*")):
        return "eld"
    if (root / "long").is_dir() and any(map(is_sid_name, find_raws(root / "long"))):
        return "sid-fuji" if root.resolve().name == "Fuji" else "sid-sony"
    if (root / TABLE).is_file() or ((root / "short").is_dir() and (root / "long").is_dir()):
        return "pairs"
    if raws(root).references:
        return "raws"
    if find_images(root):
        return "images"
    raise ValueError(
        f"{root}: neither SID (Sony/short, Sony/long), nor ELD (<camera>/scene-<n>), nor pairs (short, long), "
        "nor a folder of raw files or pictures"
    )

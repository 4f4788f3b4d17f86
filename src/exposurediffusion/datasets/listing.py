"""What is found in a data set before anything is decoded: pairs of files, and what was wrong with the others."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from exposurediffusion.raw.read import read_metadata

RAW_EXTENSIONS = frozenset(
    {".3fr", ".ari", ".arw", ".cap", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".gpr", ".iiq", ".k25"}
    | {".kdc", ".mef", ".mos", ".mrw", ".nef", ".nrw", ".orf", ".ori", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2"}
    | {".srf", ".srw", ".x3f"}
)
"""Extensions (lower case) of the raw formats that LibRaw knows."""

IMAGE_EXTENSIONS = (".hdr", ".tif", ".tiff", ".png", ".jpg", ".jpeg", ".webp")

Key = TypeVar("Key")


@dataclass(frozen=True)
class Pair:
    """A short exposure and the long one of the same scene.

    Attributes:
        short, long: the raw files.
        ratio: amplification that brings the short exposure to the long one's brightness.
        scene: its name, unique within the data set.
        burst: short exposures of the same burst differ by noise alone; empty: nothing is known of others.
    """

    short: Path
    long: Path
    ratio: float
    scene: str
    burst: str = ""


@dataclass(frozen=True)
class Listing:
    """What was found.

    Attributes:
        references: the long exposures, sorted; those without a short one too.
        pairs: in the order of their scenes.
        problems: missing, extra and unreadable files, one line each.
    """

    references: tuple[Path, ...]
    pairs: tuple[Pair, ...] = ()
    problems: tuple[str, ...] = ()


def listing(longs: Iterable[Path], pairs: Sequence[Pair], problems: Sequence[str], extra: bool = True) -> Listing:
    """Put together what was found; `extra`: a long exposure that no pair uses is a problem."""
    references = tuple(sorted(set(longs)))
    used = {pair.long for pair in pairs}
    unused = [f"{path}: no short exposure uses it" for path in references if path not in used] if extra else []
    return Listing(references, tuple(pairs), tuple(dict.fromkeys((*problems, *unused))))


def raws_by(folder: Path, key: Callable[[Path], Key | None], expected: str, problems: list[str]) -> dict[Key, Path]:
    """The raw files of a folder by what their names say, whatever their extensions.

    Args:
        folder: is not searched below.
        key: what a name says; None: nothing.
        expected: an example of a good name, for people.
        problems: is added to: files with other names, and second files of the same.

    Raises:
        ValueError: no such folder.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    files: dict[Key, Path] = {}
    for path in find_raws(folder):
        found = key(path)
        if found is None:
            problems.append(f"{path}: left out, its name is not as expected (such as {expected})")
        elif found in files:
            problems.append(f"{path}: left out, {files[found].name} is the same photograph")
        else:
            files[found] = path
    return files


def exif_ratio(short: Path, long: Path, problems: list[str]) -> float | None:
    """ISO x time of the long exposure over that of the short one; None, and a problem, where files do not say."""
    exposures = []
    for path in (short, long):
        try:
            metadata = read_metadata(path)
        except (ValueError, OSError) as error:
            problems.append(str(error))
            return None
        if metadata.iso is None or metadata.shutter is None:
            problems.append(
                f"{path}: ISO or exposure time is missing, so the ratio of its pair is unknown; "
                "write it into a table pairs.csv (short,long,ratio)"
            )
            return None
        exposures.append(metadata.iso * metadata.shutter)
    ratio = exposures[1] / exposures[0]
    if ratio < 1 - 1e-3:
        problems.append(f"{short}: more exposed than {long}, by a factor of {1 / ratio:.3g}; were they exchanged?")
        return None
    return max(ratio, 1.0)


def find_images(folder: Path, problem: Callable[[str], None] = lambda _: None) -> list[Path]:
    """The pictures in a folder and below, sorted.

    Args:
        folder: links to folders in it are not followed.
        problem: is given a message for each folder that cannot be read and each link that leads nowhere.
    """

    def closed(error: OSError) -> None:
        problem(f"{error.filename}: this folder cannot be read ({error.strerror}); left out")

    found = []
    for place, _, names in os.walk(folder, onerror=closed):
        for path in (Path(place, name) for name in names):
            if path.suffix.lower() not in IMAGE_EXTENSIONS:
                continue
            if os.path.isfile(path):
                found.append(path)
            elif path.is_symlink():
                problem(f"{path}: a link that leads nowhere, to {os.readlink(path)}; left out")
    return sorted(found)


def find_raws(folder: str | os.PathLike[str], recursive: bool = False) -> list[Path]:
    """The raw files in a folder, by extension in any case, sorted by name; hidden files and folders are left out.

    Args:
        folder: is looked into.
        recursive: look into its subfolders too, but follow no links to folders.

    Raises:
        OSError: no such folder.
    """
    root = Path(folder)
    files = [p for p in root.iterdir() if p.suffix.lower() in RAW_EXTENSIONS and not p.name.startswith(".")]
    found = sorted((p for p in files if p.is_file()), key=lambda p: (p.name.lower(), p.name))
    if recursive:
        for below in sorted(p for p in root.iterdir() if p.is_dir() and not p.is_symlink() and p.name[0] != "."):
            found += find_raws(below, recursive)
    return found

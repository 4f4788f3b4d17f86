"""SID (See-in-the-Dark): short and long exposures by their names, its splits, and subsets of published tables."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from dataclasses import dataclass
from importlib import resources
from math import log
from pathlib import Path
from typing import Literal

from exposurediffusion.datasets.listing import Listing, Pair, listing, raws_by

Camera = Literal["Sony", "Fuji"]
SidSplit = Literal["train", "test", "validation"]
Subset = Literal["eld", "long"]
RATIO_LIMIT = 300.0
_DIGIT = {"train": "0", "test": "1", "validation": "2"}
_NAME = re.compile(r"(\d{5})_(\d+)_(\d+(?:\.\d+)?)s")
_EXAMPLE = "00001_00_0.1s.ARW"
_NEAR = 0.05  # a time belongs to a ratio of a subset within 5 %: 0.033 s to x300 of 10 s


@dataclass(frozen=True)
class _Shot:
    path: Path
    scene: str
    number: int  # within its burst
    seconds: float


def sid(
    root: Path,
    camera: Camera = "Sony",
    split: SidSplit | None = None,
    subset: Subset | None = None,
    bursts: bool = False,
) -> Listing:
    """Pairs: `<camera>/short/<scene>_<n>_<t>s.*` with `<camera>/long/<scene>_00_<T>s.*`, any raw extension.

    The ratio is SID's own rule, min(T / t, 300).

    Args:
        root: the data set, or its folder of one camera.
        camera: which half.
        split: by the scene's first digit (0 train, 1 test, 2 validation); None: all.
        subset: scenes and ratios of published tables (Sony): `eld` the 15 scenes of ELD, `long` all.
        bursts: all short exposures of each time; else the first of each, as in the published lists.

    Raises:
        ValueError: no such folders, no such subset, or nothing belongs to the split or subset.
    """
    folder, problems = _folder(root, camera), []
    shorts = _shots(folder / "short", split, problems)
    longs = _longest(folder, split, problems)
    if subset:
        shorts = _subset(folder, camera, subset, split, shorts, longs, problems)
        longs = {scene: longs[scene] for scene in sorted({shot.scene for shot in shorts})}
    if not bursts:
        first: dict[tuple[str, float], _Shot] = {}
        for shot in shorts:
            first.setdefault((shot.scene, shot.seconds), shot)
        shorts = list(first.values())
    pairs = []
    for shot in shorts:
        if shot.scene in longs:
            long = longs[shot.scene]
            ratio = min(long.seconds / shot.seconds, RATIO_LIMIT)
            pairs.append(Pair(shot.path, long.path, ratio, shot.scene, f"{shot.scene} {shot.seconds:g}s"))
        else:
            problems.append(f"{shot.path}: left out, its long exposure is missing (long/{shot.scene}_00_*s)")
    return listing([shot.path for shot in longs.values()], pairs, problems)


def sid_references(root: Path, camera: Camera = "Sony", split: SidSplit | None = None) -> Listing:
    """The long exposures alone; the short ones need not be there.

    Raises:
        ValueError: no such folder, or nothing belongs to the split.
    """
    problems: list[str] = []
    longs = _longest(_folder(root, camera), split, problems)
    return listing([shot.path for shot in longs.values()], (), problems, extra=False)


def sid_subset(camera: str, subset: str) -> list[tuple[str, int]]:
    """Scenes and ratios of a published table.

    Raises:
        ValueError: none of that name is known.
    """
    known = json.loads((resources.files("exposurediffusion.datasets") / "sid.json").read_text())
    if subset not in known.get(camera, {}):
        raise ValueError(f"no subset {subset!r} of SID's {camera} is known: --subset all, or Sony with eld or long")
    groups = known[camera][subset]
    return [(str(scene), ratio) for group in groups for ratio in group["ratios"] for scene in group["scenes"]]


def is_sid_name(path: Path) -> bool:
    """Whether a file is named as in SID."""
    return _NAME.fullmatch(path.stem) is not None


def _folder(root: Path, camera: str) -> Path:
    folder = root / camera if (root / camera).is_dir() else root
    if not (folder / "long").is_dir():
        raise ValueError(f"{root}: not SID's: there is neither {camera}/long nor long in it")
    return folder


def _shots(folder: Path, split: str | None, problems: list[str]) -> list[_Shot]:
    """The photographs of a split by scene, time and number."""

    def key(path: Path) -> tuple[str, float, int] | None:
        match = _NAME.fullmatch(path.stem)
        return (match[1], float(match[3]), int(match[2])) if match and float(match[3]) > 0 else None

    files = sorted(raws_by(folder, key, _EXAMPLE, problems).items())
    shots = [_Shot(path, scene, number, seconds) for (scene, seconds, number), path in files]
    return [shot for shot in shots if split is None or shot.scene[0] == _DIGIT[split]]


def _longest(folder: Path, split: str | None, problems: list[str]) -> dict[str, _Shot]:
    """The long exposure of each scene."""
    longs: dict[str, _Shot] = {}
    for shot in _shots(folder / "long", split, problems):  # in the order of their times
        if shot.scene in longs:
            problems.append(f"{longs[shot.scene].path}: left out, {shot.path.name} is longer")
        longs[shot.scene] = shot
    if not longs:
        wanted = f" of split {split} (whose number begins with {_DIGIT[split]})" if split else ""
        raise ValueError(
            f"{folder / 'long'}: no scenes{wanted}; give the whole data set, another --split, or, to train, another "
            "folder by --validation"
        )
    return longs


def _subset(
    folder: Path,
    camera: str,
    subset: str,
    split: str | None,
    shorts: list[_Shot],
    longs: dict[str, _Shot],
    problems: list[str],
) -> list[_Shot]:
    """The short exposures of a subset: of each scene and ratio those whose T / t is nearest, before it is limited."""
    by_scene: dict[str, list[_Shot]] = defaultdict(list)
    for shot in shorts:
        by_scene[shot.scene].append(shot)
    chosen: list[_Shot] = []
    for scene, ratio in sid_subset(camera, subset):
        if split and scene[0] != _DIGIT[split]:
            continue
        if scene not in longs:
            problems.append(f"{folder}: the long exposure of scene {scene} of subset {subset} is missing")
            continue
        off = {shot: abs(log(longs[scene].seconds / shot.seconds / ratio)) for shot in by_scene[scene]}
        nearest = [shot for shot in off if off[shot] == min(off.values()) <= _NEAR]
        if not nearest:
            problems.append(f"{folder}: the short exposure of scene {scene} at x{ratio} of subset {subset} is missing")
        chosen += nearest
    if not chosen:
        raise ValueError(f"{folder}: no scene of subset {subset} is there; give the whole data set, or --subset all")
    return chosen

"""ELD (Wei et al., CVPR 2020): which of its exposures belong together."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from exposurediffusion.datasets.listing import Listing, Pair, exif_ratio, listing, raws_by

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

"""Which scenes of a data set are for training and which for validation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeVar

HOLDOUT = 10
"""Every tenth scene of a data set without splits of its own is for validation."""
Split = Literal["train", "validation", "test", "all"]
"""Of scenes; only SID has some for tests."""
Item = TypeVar("Item")


def held_out(count: int) -> range:
    """Places, in a sorted list, of the scenes kept for validation: every tenth, or the last; none of a single one."""
    if count < HOLDOUT:
        return range(count - 1, count) if count > 1 else range(0)
    return range(HOLDOUT - 1, count, HOLDOUT)


def choose(files: Sequence[Item], split: Split, folder: Path) -> list[Item]:
    """The part of a sorted list of files, or of names, that belongs to a split; see `held_out`.

    Raises:
        ValueError: nothing belongs to it.
    """
    kept = held_out(len(files))
    chosen = [file for place, file in enumerate(files) if split == "all" or (place in kept) == (split == "validation")]
    if not chosen:
        raise ValueError(f"{folder}: one file only, so none is left for validation; give a folder by --validation")
    return chosen

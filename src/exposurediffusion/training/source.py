"""The data that a recipe trains and is validated on, out of a folder or a file of prepared pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from exposurediffusion.datasets.dark_frames import load_dark_shading
from exposurediffusion.datasets.open import Kind, detect, open_dataset
from exposurediffusion.datasets.samples import PairDataset, RawDataset
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.pictures.views import CleanViews
from exposurediffusion.training.recipe import Recipe

Patches = CleanViews | RawDataset | PairDataset


@dataclass(frozen=True)
class Source:
    """Where training data comes from.

    Attributes:
        data: SID or ELD, pairs, raw files, pictures, or a file of pictures prepared once.
        dataset: its kind; auto: by what lies there.
        validation: another folder to validate on; None: scenes of `data` are held out (SID: its own split).
        dark_shading: a map (.safetensors) or a folder of dark frames, subtracted from the captures of pairs (PMN).
        pairs: a CSV with the columns short,long[,ratio], for pairs whose names do not tell.
        cache: folder for decoded frames; None: beside the data.
        on_problem: files that are missing or unreadable: continue without them, or stop.
    """

    data: Path
    dataset: Kind | Literal["auto"] = "auto"
    validation: Path | None = None
    dark_shading: Path | None = None
    pairs: Path | None = None
    cache: Path | None = None
    on_problem: Literal["continue", "stop"] = "continue"

    def open(self, recipe: Recipe, report: Callable[[str], None] = lambda _: None) -> tuple[Patches, Patches]:
        """Scenes to train on, and others to validate on.

        Args:
            recipe: decides what of the data is wanted.
            report: is given what people should read.

        Raises:
            ValueError: the folder does not have what is wanted.
        """
        want = self._want(recipe)
        if self.dark_shading is not None and want == "clean":
            raise ValueError("--dark-shading is taken off the captures of pairs, and this recipe makes its own")
        options: dict[str, Any] = {
            "want": want,
            "table": self.pairs,
            "cache": self.cache,
            "seed": recipe.seed,
            "cfa": CFA("RGGB" if recipe.planes == 4 else "XTRANS"),
            "level": recipe.capture.level,
            "on_problem": self.on_problem,
            "dark_shading": None if self.dark_shading is None else load_dark_shading(self.dark_shading),
            "report": report,
            "told": set(),
        }
        patches = open_dataset(self.data, self.dataset, "train", **options)
        if isinstance(patches, PairDataset):
            patches = self._within(patches, recipe.capture.ratio, report)
        options["want"] = "clean" if want == "clean" else "pairs"  # bursts have no truth
        if self.validation is None:
            return patches, open_dataset(self.data, self.dataset, "validation", **options)
        options["table"] = None  # it names pairs to train on
        return patches, open_dataset(self.validation, "auto", "all", **options)

    def _want(self, recipe: Recipe) -> Literal["clean", "pairs", "bursts"]:
        """What is trained on; Noise2Noise takes real captures where a data set has several of one scene."""
        if recipe.capture.supervision == "paired":
            return "pairs"
        kind = detect(self.data) if self.dataset == "auto" else self.dataset
        return "bursts" if recipe.capture.supervision == "noise2noise" and kind.startswith("sid") else "clean"

    def _within(self, patches: PairDataset, ratio: tuple[float, float], report: Callable[[str], None]) -> PairDataset:
        """The pairs whose ratios the recipe trains on: Table 6 is of x100 alone."""
        low, high = ratio
        kept = tuple(pair for pair in patches.pairs if 0.98 * low <= pair.ratio <= 1.02 * high)  # EXIF rounds its times
        count = len(patches.pairs)
        if not kept:
            there = sorted({round(pair.ratio) for pair in patches.pairs})
            raise ValueError(
                f"{self.data}: no pair has a ratio from {low:g} to {high:g}, its pairs have "
                f"{', '.join(map(str, there[:5]))}: widen --capture.ratio"
            )
        if len(kept) < count:
            report(f"{self.data}: {len(kept)} of {count} pairs have a ratio from {low:g} to {high:g}; they are used")
        return replace(patches, pairs=kept)

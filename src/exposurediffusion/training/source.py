"""The data that a recipe trains and is validated on, out of a folder or a file of prepared pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, replace
from functools import partial
from pathlib import Path

from exposurediffusion.datasets.open import DatasetOptions, Want, kind_of, open_dataset
from exposurediffusion.datasets.samples import PairDataset, RawDataset
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.pictures.views import CleanViews
from exposurediffusion.training.batches import Patches
from exposurediffusion.training.recipe import Recipe

LEAST = 8
"""Side of the smallest patches, packed pixels: SSIM looks through windows of 7."""
_OF_AVERAGES = 16  # their loss averages so many a side


@dataclass(frozen=True)
class Source(DatasetOptions):
    """Where training data comes from, and how it is read.

    Attributes:
        data: SID or ELD, pairs, raw files, pictures, or a file of pictures prepared once.
        validation: another folder to validate on; None: scenes of `data` are held out (SID: its own split).
    """

    data: Path
    _: KW_ONLY
    validation: Path | None = None

    def open(
        self,
        recipe: Recipe,
        report: Callable[[str], None] = lambda _: None,
        tick: Callable[[int, int], None] | None = None,
    ) -> tuple[Patches | CleanViews, Patches | CleanViews]:
        """Scenes to train on, and others to validate on.

        Args:
            recipe: decides what of the data is wanted.
            report: is given what people should read.
            tick: see `open_dataset`.

        Raises:
            ValueError: the folder does not have what is wanted.
        """
        want = self._want(recipe)
        if want == "clean" and (self.dark_shading is not None or self.noise != "profile"):
            raise ValueError("--dark-shading and --noise are of the captures of pairs, and this recipe makes its own")
        opened = partial(open_dataset, report=report, tick=tick, reported=set())
        patches = _by_recipe(opened(self.data, self, "train", want), recipe)
        if isinstance(patches, PairDataset):
            patches = self._within(patches, recipe.capture.ratio, report)
        want = "clean" if want == "clean" else "pairs"  # bursts have no truth
        others = replace(self, dark_shading=None)  # read once
        if self.validation is None:
            unseen = opened(self.data, others, "validation", want)
        else:  # a table names pairs to train on
            others = replace(others, dataset="auto", camera=None, pairs=None)
            unseen = opened(self.validation, others, "all", want)
        if isinstance(patches, PairDataset) and isinstance(unseen, PairDataset):
            unseen = replace(unseen, dark_shading=patches.dark_shading)
        return patches, _by_recipe(unseen, recipe)

    def _want(self, recipe: Recipe) -> Want:
        """What is trained on; Noise2Noise takes real captures where a data set has several of one scene."""
        if recipe.capture.supervision == "paired":
            return "pairs"
        several = recipe.capture.supervision == "noise2noise" and kind_of(self.data, self.dataset).startswith("sid")
        return "bursts" if several else "clean"

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


def _by_recipe(opened: CleanViews | RawDataset | PairDataset, recipe: Recipe) -> CleanViews | RawDataset | PairDataset:
    """The data as a recipe has it."""
    if isinstance(opened, CleanViews):
        return replace(opened, cfa=CFA("RGGB" if recipe.planes == 4 else "XTRANS"), level=recipe.capture.level)
    return replace(opened, seed=recipe.seed)


def fitting(recipe: Recipe, patches: Patches | CleanViews, report: Callable[[str], None]) -> Recipe:
    """The recipe with patches that every frame holds.

    Args:
        recipe: whose `patch` is wanted.
        patches: the data; clean pictures are mirrored at their edges and hold any patch.
        report: is given a line where patches are smaller than wanted: by which frame, and which option says so.

    Raises:
        ValueError: a frame is too small for any patch; the message names it, and what can be changed.
    """
    averages = bool(recipe.objective.averages)
    remedy = "or add --objective.averages 0" if averages else "and train on larger frames (--data)"
    least = _OF_AVERAGES if averages else LEAST
    return replace(recipe, patch=_side(recipe.patch, patches, least, "--patch", remedy, report))


def validation_side(wanted: int, patches: Patches | CleanViews, report: Callable[[str], None]) -> int:
    """Side in packed pixels of the patches to validate on; see `fitting`."""
    remedy = "or validate on larger frames (--validation DIR)"
    return _side(wanted, patches, LEAST, "--validation-patch", remedy, report)


def _side(
    wanted: int, patches: Patches | CleanViews, least: int, option: str, remedy: str, report: Callable[[str], None]
) -> int:
    if isinstance(patches, CleanViews):
        return wanted
    largest, smallest = patches.largest
    most = largest - largest % 2 if patches.planes == 9 else largest  # X-Trans repeats over two packed pixels
    if wanted <= most:
        return wanted
    if most < least:
        raise ValueError(
            f"{smallest}: it holds patches of {most} packed pixels at most, {least} are needed: leave it out, {remedy}"
        )
    report(f"{smallest}: it holds patches of {most} packed pixels at most, so {option} is {most} instead of {wanted}")
    return most

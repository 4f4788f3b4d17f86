"""Patches of small frames: the largest that all of them hold, where that is less than what was asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from exposurediffusion.pictures.views import CleanViews
from exposurediffusion.training.batches import Patches
from exposurediffusion.training.recipe import Recipe

LEAST = 8
"""Side of the smallest patches, packed pixels: SSIM looks through windows of 7."""
_OF_AVERAGES = 16  # their loss averages so many a side


def fitting(recipe: Recipe, patches: Patches | CleanViews, report: Callable[[str], None]) -> Recipe:
    """The recipe with patches that every frame holds.

    Args:
        recipe: whose `patch` is wanted.
        patches: the data; clean pictures are mirrored at their edges and hold any patch.
        report: is told where patches are smaller than wanted, by which frame, and which option says so.

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

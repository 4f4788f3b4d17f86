"""Small frames: the largest patch that all of them hold is trained and validated on, and the option is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from exposurediffusion.datasets.samples import PairDataset, RawDataset
from exposurediffusion.training.recipe import CaptureRecipe, ObjectiveRecipe, Recipe
from exposurediffusion.training.source import Source, fitting, validation_side
from exposurediffusion.training.trainer import train
from tests.tiny import PLAIN, TINY, Light, clean_views
from tests.trees import write_sid

WIDE = replace(TINY, patch=512)


def test_what_every_frame_holds_is_taken_and_said() -> None:
    said: list[str] = []
    small = Light(largest=(72, "b.dng"))
    assert fitting(WIDE, small, said.append) == replace(WIDE, patch=72)
    assert validation_side(128, small, said.append) == 72
    assert said == [
        "b.dng: it holds patches of 72 packed pixels at most, so --patch is 72 instead of 512",
        "b.dng: it holds patches of 72 packed pixels at most, so --validation-patch is 72 instead of 128",
    ]


def test_what_fits_stays_and_nothing_is_said() -> None:
    said: list[str] = []
    assert fitting(WIDE, Light(largest=(512, "a.dng")), said.append) is not None
    assert validation_side(512, Light(largest=(512, "a.dng")), said.append) == 512
    assert fitting(WIDE, clean_views(), said.append) == WIDE  # mirrored at their edges
    assert said == []


def test_xtrans_patches_are_even() -> None:
    assert validation_side(128, Light(planes=9, largest=(31, "x.raf")), lambda _: None) == 30
    assert validation_side(128, Light(largest=(31, "x.dng")), lambda _: None) == 31


def test_where_nothing_fits_the_frame_and_what_helps_are_named() -> None:
    tiny = Light(largest=(7, "c.dng"))
    with pytest.raises(ValueError, match=r"c.dng: .* 7 .* 8 are needed: leave it out, or validate on .*--validation"):
        validation_side(128, tiny, print)
    with pytest.raises(ValueError, match=r"c.dng: .* 7 .* 8 are needed: leave it out, .*--data"):
        fitting(WIDE, tiny, print)
    blotches = replace(WIDE, objective=ObjectiveRecipe(averages=0.5))
    with pytest.raises(ValueError, match=r"15 .* 16 are needed: .*--objective.averages 0"):
        fitting(blotches, Light(largest=(15, "c.dng")), print)


@pytest.mark.parametrize("supervision", ["clean", "paired"])
def test_real_frames_are_trained_and_validated_on(supervision: str, tmp_path: Path) -> None:
    """Frames of 48x60 sites: 24 packed pixels are what the largest patch has, drawn to the last row."""
    write_sid(tmp_path / "sid", ("00001", "20001"))
    capture = CaptureRecipe() if supervision == "clean" else CaptureRecipe(supervision="paired", ratio=(90.0, 310.0))
    recipe: Recipe = replace(WIDE, iterations=1, capture=capture)
    patches, unseen = Source(tmp_path / "sid", cache=tmp_path / "cache").open(recipe)
    assert isinstance(patches, RawDataset if supervision == "clean" else PairDataset)
    side, name = patches.largest
    assert (side, Path(name).suffix) == (24, ".dng")
    assert {patches.patch(number, side).clean.shape[1:] for number in range(8)} == {torch.Size([24, 24])}
    said: list[str] = []
    execution = replace(PLAIN, validation_patch=128)
    train(recipe, patches, tmp_path / "run", validation=unseen, execution=execution, report=said.append)
    assert any("--patch is 24 instead of 512" in text for text in said)
    assert any("--validation-patch is 24 instead of 128" in text for text in said)
    assert '"psnr_x' in (tmp_path / "run" / "log.jsonl").read_text()

"""Where training data comes from: two splits that are read alike, another folder, and what a recipe does not want."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from exposurediffusion.datasets import open as opening
from exposurediffusion.datasets.dark_frames import save_dark_shading
from exposurediffusion.datasets.samples import PairDataset, RawDataset
from exposurediffusion.physics.dark_shading import DarkShading
from exposurediffusion.training.recipe import CaptureRecipe, Recipe
from exposurediffusion.training.source import Source
from tests.trees import write_raw, write_sid

PAIRED = Recipe(capture=CaptureRecipe(supervision="paired", ratio=(90.0, 310.0)), seed=5)
CLEAN = Recipe(seed=6)


@pytest.fixture
def dark(tmp_path: Path) -> Path:
    path = tmp_path / "dark.safetensors"
    slope, offset = torch.full((2, 4, 24, 30), 0.5).unbind()
    save_dark_shading(path, DarkShading(slope, offset.clone(), ((100.0, 0.0), (6400.0, 0.0)), 15871.0))
    return path


def test_both_splits_are_read_alike_and_the_dark_shading_once(
    dark: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_sid(tmp_path, ("00001", "20001"))
    read, ticks, said = [], [], []
    load = opening.load_dark_shading
    monkeypatch.setattr(opening, "load_dark_shading", lambda path: read.append(path) or load(path))
    (tmp_path / "Sony/short/notes.dng").touch()
    source = Source(tmp_path, dark_shading=dark, cache=tmp_path / "cache")
    both = source.open(PAIRED, said.append, lambda done, total: ticks.append((done, total)))
    for opened, scene in zip(both, ("00001", "20001"), strict=True):
        assert isinstance(opened, PairDataset)
        assert {pair.scene for pair in opened.pairs} == {scene}
        assert (opened.seed, opened.estimated) == (5, False)
        assert opened.dark_shading is not None
    assert read == [dark]
    assert ticks == [(1, 3), (2, 3), (3, 3)] * 2
    assert sum("notes.dng" in text for text in said) == 1  # not again of the other split


def test_another_folder_is_read_as_what_it_is(tmp_path: Path) -> None:
    write_raw(tmp_path / "a/1.dng", iso=800, shutter=0.1)
    write_raw(tmp_path / "a/2.dng")
    write_raw(tmp_path / "a/3.dng", iso=800, shutter=0.1)
    write_raw(tmp_path / "a/4.dng")
    (tmp_path / "a/mine.csv").write_text("short,long,ratio\n1.dng,2.dng,100\n3.dng,4.dng,100\n")
    write_sid(tmp_path / "b", ("00001", "20001"))
    source = Source(
        tmp_path / "a", validation=tmp_path / "b", dataset="pairs", pairs=tmp_path / "a/mine.csv", noise="estimated"
    )
    train, unseen = source.open(Recipe(capture=PAIRED.capture))
    assert isinstance(train, PairDataset)
    assert isinstance(unseen, PairDataset)
    assert {Path(pair.short.source).name for pair in train.pairs} == {"1.dng"}
    assert {pair.scene for pair in unseen.pairs} == {"00001", "20001"}
    assert train.estimated
    assert unseen.estimated


@pytest.mark.parametrize("option", [{"dark_shading": Path("dark")}, {"noise": "known"}])
def test_a_recipe_that_makes_its_own_captures_takes_no_options_of_pairs(option: dict[str, Any], tmp_path: Path) -> None:
    write_sid(tmp_path, ("00001", "20001"))
    train, _ = Source(tmp_path).open(CLEAN)
    assert isinstance(train, RawDataset)
    assert train.seed == 6
    with pytest.raises(ValueError, match="--dark-shading and --noise are of the captures of pairs, and this recipe"):
        Source(tmp_path, **option).open(CLEAN)

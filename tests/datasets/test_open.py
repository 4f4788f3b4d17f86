"""Clean pictures for training, of a folder or prepared once: which of them, in which split, and what is left out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from exposurediffusion.cli.main import main
from exposurediffusion.datasets.open import detect, open_dataset
from exposurediffusion.models.denoiser import DenoiserConfig
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.physics.random import seeded
from exposurediffusion.pictures.splits import Split
from exposurediffusion.pictures.views import CleanViews
from exposurediffusion.simulation.light import load_clean
from exposurediffusion.training.recipe import CaptureRecipe, Recipe
from exposurediffusion.training.source import Source

NAMES = [f"{'night' if n % 4 == 0 else 'day'}/{n:02d}.png" for n in range(11)]
VALIDATION = "night/04.png"  # the tenth in the order of the alphabet
Kind = Literal["images", "prepared"]


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of photographs, no two alike."""
    root = tmp_path_factory.mktemp("data") / "album"
    for seed, name in enumerate(NAMES):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        coarse = np.random.default_rng(seed).integers(20, 240, (6, 6, 3)).astype(np.uint8)
        Image.fromarray(coarse).resize((540, 520), Image.Resampling.BICUBIC).save(root / name)
    return root


@pytest.fixture(scope="module", params=["images", "prepared"])
def root(request: pytest.FixtureRequest, album: Path) -> Path:
    """The folder, or its pictures prepared."""
    if request.param == "images":
        return album
    file = album.parent / "pictures.safetensors"
    assert main(["prepare", str(album), "-o", str(file)]) == 0
    return file


def views(root: Path, split: Split = "all") -> CleanViews:
    found = open_dataset(root, split=split)
    assert isinstance(found, CleanViews)
    return found


def names(root: Path, split: Split = "all") -> list[str]:
    return ["/".join(Path(name).parts[-2:]) for name in views(root, split).pictures.names]


def test_pictures_become_views(root: Path, album: Path) -> None:
    """Of the same light, as the cameras of a colour filter array see it, at the levels of the recipe."""
    assert detect(root) == ("prepared" if root.is_file() else "images")
    assert views(root).cfa == CFA("RGGB")
    recipe = Recipe(capture=CaptureRecipe(level=(0.05, 0.1)), denoiser=DenoiserConfig(planes=9))
    found, _ = Source(root).open(recipe)
    assert isinstance(found, CleanViews)
    assert (found.planes, found.cfa, found.level) == (9, CFA("XTRANS"), (0.05, 0.1))
    found = replace(found, pictures=views(root).pictures)
    assert names(root) == sorted(NAMES)
    assert not found.pictures.panorama.any()
    for index, name in enumerate(sorted(NAMES)):
        expected = load_clean(album / name).pixels.float()
        assert expected.shape == (3, 260, 270)  # halved, which removes the noise of a photograph
        error = (found.pictures.picture(index) - expected).square().mean().sqrt()
        assert error < (0.01 if root.is_file() else 1e-9)
    light = found.batch(6, 12, seeded(1))
    assert light.shape == (6, 9, 12, 12)
    levels = light.clamp(max=1).mean((2, 3)).amax(1)
    assert 0.045 < levels.min() < levels.max() < 0.11


def test_pictures_are_held_out(root: Path) -> None:
    assert names(root, "validation") == [VALIDATION]
    assert sorted([*names(root, "train"), VALIDATION]) == sorted(NAMES)
    assert VALIDATION not in names(root, "train")


def test_pictures_are_no_pairs(root: Path) -> None:
    for want in ("pairs", "bursts"):
        with pytest.raises(ValueError, match=r"pictures are no pairs .*; `expose simulate` makes some"):
            open_dataset(root, want=want)


def test_a_single_picture_leaves_none_for_validation(album: Path, tmp_path: Path) -> None:
    (tmp_path / "one.png").symlink_to(album / NAMES[0])
    assert len(names(tmp_path, "train")) == 1
    with pytest.raises(ValueError, match="none is left for validation; give a folder by --validation"):
        names(tmp_path, "validation")


def test_an_hdr_picture_twice_as_wide_as_high_is_a_panorama(tmp_path: Path) -> None:
    light = np.random.default_rng(1).random((260, 520, 3)).astype(np.float32)
    (tmp_path / "sky.hdr").write_bytes(imagecodecs.rgbe_encode(light))
    (tmp_path / "wall.hdr").write_bytes(imagecodecs.rgbe_encode(light[:, :300].copy()))
    assert main(["prepare", str(tmp_path), "-o", str(tmp_path / "a.safetensors")]) == 0
    for root in (tmp_path, tmp_path / "a.safetensors"):
        assert views(root).pictures.panorama.tolist() == [True, False]


def test_a_file_that_is_no_prepared_pictures_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(ValueError, match=r"notes\.txt: not usable as prepared pictures"):
        open_dataset(tmp_path / "notes.txt")

"""A data set chosen and measured on: splits, subsets, ratios, noise; what is there is not measured again."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from exposurediffusion.datasets.cache import FrameCache
from exposurediffusion.datasets.samples import Sample
from exposurediffusion.evaluation.measure import Protocol
from exposurediffusion.evaluation.methods import Capture, Network, Prediction
from exposurediffusion.evaluation.results import Results
from exposurediffusion.evaluation.score import score
from exposurediffusion.evaluation.selection import Selection
from exposurediffusion.models.denoiser import DenoiserConfig
from exposurediffusion.physics.sensor import Metadata
from exposurediffusion.process.exposure import Adjust
from exposurediffusion.simulation.scenes import MANIFEST
from tests.simulated import DRAWN, STEADY, simulate, tiny
from tests.trees import touch, write_raw

PLAIN = Protocol(corrections=("none",))


@dataclass
class Counting:
    """Counts what it is given."""

    name: str = "counting"
    iterates: bool = False
    random: bool = False
    calls: int = 0

    @property
    def settings(self) -> dict[str, Any]:
        return {"method": self.name}

    def __call__(self, sample: Sample, seed: int = 0, adjust: Adjust = lambda estimate: estimate) -> Prediction:
        self.calls += 1
        if sample.ratio == 250:
            raise ValueError("of this one nothing can be said")
        return Prediction(0.9 * sample.clean)


def facts(selection: Selection) -> set[tuple[str, float]]:
    return {(pair.scene, round(pair.ratio, 6)) for pair in selection.open().pairs}


# -------------------------------------------------------------------------------------------------------- selection


def test_a_simulated_sid_is_its_test_split(simsid: Path) -> None:
    chosen = Selection(simsid)
    assert facts(chosen) == {(scene, ratio) for scene in ("10001", "10002") for ratio in (100, 250, 300)}
    assert (chosen.kind, chosen.simulated, chosen.crop) == ("sid-sony", True, 512)
    assert chosen.title == "SimSID Sony"
    described = chosen.describe()
    assert described["dataset"] == "sid-sony, simulated"
    assert [described[name] for name in ("root", "split", "subset", "noise")] == [simsid.name, "test", "all", "profile"]
    assert {scene for scene, _ in facts(Selection(simsid, split="validation"))} == {"20001"}
    assert len(facts(Selection(simsid, split="all"))) == 15
    camera = Selection(simsid / "Sony", noise="known")
    assert camera.simulated
    assert facts(camera) == facts(chosen)


def test_a_real_sid_is_the_published_subset(tmp_path: Path) -> None:
    """Two of its scenes, and another: those that are missing are reported."""
    for scene, times in (("10185", ("0.1", "0.04")), ("10187", ("0.1",)), ("10199", ("0.1",))):
        write_raw(tmp_path / "Sony" / "long" / f"{scene}_00_10s.dng")
        for time in times:
            write_raw(tmp_path / "Sony" / "short" / f"{scene}_00_{time}s.dng", iso=800, shutter=float(time))
    chosen, messages = Selection(tmp_path), []
    assert chosen.title == "SID Sony"
    assert {name: chosen.describe()[name] for name in ("dataset", "split", "subset")} == {
        "dataset": "sid-sony",
        "split": "all",
        "subset": "eld",
    }
    scenes = {pair.scene for pair in chosen.open(messages.append).pairs}
    assert scenes == {"10185", "10187"}
    assert any("of subset eld is missing" in line for line in messages)
    assert facts(replace(chosen, split="test")) == {("10185", 100), ("10185", 250), ("10187", 100), ("10199", 100)}
    assert len(facts(replace(chosen, subset="all"))) == 4


def test_no_scene_of_the_subset_is_there(simsid: Path) -> None:
    with pytest.raises(ValueError, match="no scene of subset eld is there"):
        Selection(simsid, subset="eld").open()


def test_ratios_that_are_there_and_that_are_not(simsid: Path) -> None:
    assert {ratio for _, ratio in facts(Selection(simsid, ratios=(100, 303)))} == {100, 300}
    with pytest.raises(ValueError, match="no pair has ratio 200; there are 100, 250, 300"):
        Selection(simsid, ratios=(100, 200)).open()
    for bad in (0.5, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="--ratios are numbers from 1 on"):
            Selection(simsid, ratios=(bad,)).open()


def test_sid_is_wanted_and_it_is_not(simsid: Path, tmp_path: Path) -> None:
    touch(tmp_path, "scene-1/IMG_0001.dng")
    with pytest.raises(ValueError, match=r"not SID, there are no folders Sony/short and Sony/long; it looks like eld"):
        assert Selection(tmp_path, dataset="sid").kind
    with pytest.raises(ValueError, match="cameras that are there: none"):
        Selection(simsid, dataset="eld").open()
    assert Selection(simsid, dataset="sid").kind == "sid-sony"
    assert Selection(tmp_path).kind == "eld"
    assert Selection(tmp_path).crop is None
    with pytest.raises(ValueError, match="no such folder"):
        Selection(tmp_path / "nowhere").open()


def test_either_camera_of_a_sid_with_both(tmp_path: Path) -> None:
    touch(tmp_path, "Sony/long/10001_00_10s.ARW", "Fuji/long/10001_00_10s.RAF")
    with pytest.raises(ValueError, match="SID with both cameras"):
        assert Selection(tmp_path).kind
    assert Selection(tmp_path, dataset="sid-fuji").kind == "sid-fuji"
    assert Selection(tmp_path, dataset="sid-fuji").crop == 512


def test_pairs_by_a_table(tmp_path: Path) -> None:
    write_raw(tmp_path / "a.dng", iso=800, shutter=0.1, seed=1)
    write_raw(tmp_path / "b.dng")
    (tmp_path / "mine.csv").write_text("short,long,ratio\na.dng,b.dng,20\n")
    chosen = Selection(tmp_path, dataset="pairs", pairs=tmp_path / "mine.csv")
    assert facts(chosen) == {("a", 20)}
    assert (chosen.crop, chosen.describe()["split"]) == (None, "all")


# ------------------------------------------------------------------------------------------------------------ noise


def test_noise_is_known_estimated_or_of_the_profile(simsid: Path) -> None:
    opened = {noise: Selection(simsid, noise=noise).open() for noise in ("known", "estimated", "profile")}  # type: ignore[arg-type]
    found = {name: pairs[0].noise for name, pairs in opened.items()}
    assert all(found.values())
    pair = opened["known"].pairs[0]
    path = Path(pair.short.source).resolve().relative_to(simsid.resolve()).as_posix()
    scenes = json.loads((simsid / MANIFEST).read_text())["scenes"].values()
    (truth,) = (scene["files"][path]["noise"] for scene in scenes if path in scene["files"])
    gains = {name: float(noise.gain) for name, noise in found.items() if noise}
    assert gains["known"] == pytest.approx(truth["gain"])
    assert gains["profile"] == pytest.approx(truth["gain"], rel=0.02)  # its median, at this ISO
    sources = {name: noise.source for name, noise in found.items() if noise}
    assert sources["known"] == "known: simulated"
    assert len(set(sources.values())) == 3


def test_known_noise_is_wanted_and_nobody_knows_it(tmp_path: Path) -> None:
    write_raw(tmp_path / "short" / "a.dng", iso=800, shutter=0.1)
    write_raw(tmp_path / "long" / "a.dng")
    with pytest.raises(ValueError, match=r"dataset\.json: no such file, .*; use --noise profile"):
        Selection(tmp_path, noise="known").open()


def test_dark_frames_are_taken_off(simsid: Path) -> None:
    plain, dark = Selection(simsid), Selection(simsid, dark_shading=simsid / "Sony" / "dark")
    first, second = plain.open()[0].capture, dark.open()[0].capture
    assert first is not None
    assert second is not None
    assert not torch.equal(first, second)
    assert (plain.describe()["dark_shading"], dark.describe()["dark_shading"]) == ("", "dark")


# ---------------------------------------------------------------------------------------------------------- scoring


def test_all_pairs_are_measured_and_none_twice(simsid: Path, tmp_path: Path) -> None:
    opened = Selection(simsid, ratios=(100, 300)).open()
    ticks: list[None] = []
    method, results = Counting(), Results(tmp_path, {})
    for _ in range(2):
        results = Results(tmp_path, {})  # as if begun anew
        score(opened, [Capture(), method], PLAIN, results, tick=lambda: ticks.append(None))
    assert method.calls == len(opened.pairs) == 4
    assert len(ticks) == 2 * 2 * 4
    files = {record.file for record in results.of("counting")}
    assert files == {f"short/{scene}_00_{time}s.dng" for scene in ("10001", "10002") for time in ("0.1", "0.033")}
    assert all(record.psnr > 20 for record in results.of("counting"))


def test_a_capture_that_fails_is_told_and_the_others_are_done(simsid: Path, tmp_path: Path) -> None:
    opened, messages = Selection(simsid).open(), []
    results = Results(tmp_path, {})
    with pytest.raises(ValueError, match="nothing can be said"):
        score(opened, [Counting()], PLAIN, results)
    score(opened, [Counting(), Capture()], PLAIN, results, failed=lambda *problem: messages.append(problem))
    names = [f"short/{scene}_00_0.04s.dng" for scene in ("10001", "10002")]
    assert messages == [(name, "of this one nothing can be said") for name in names]
    assert (len(results.of("counting")), len(results.of("capture"))) == (4, 6)


def test_a_capture_that_cannot_be_opened_is_told_once(simsid: Path, tmp_path: Path) -> None:
    """Its ISO, by which dark shading goes, is not in its file."""
    opened = Selection(simsid, ratios=(100,), dark_shading=simsid / "Sony" / "dark").open()
    first, *others = opened.pairs
    unknown = replace(first, short=replace(first.short, metadata=Metadata(source=first.short.source)))
    messages: list[tuple[str, str]] = []
    results = Results(tmp_path, {})
    opened = replace(opened, pairs=(unknown, *others))
    score(opened, [Counting(), Capture()], PLAIN, results, failed=lambda *problem: messages.append(problem))
    ((file, why),) = messages
    assert file == f"short/{Path(first.short.source).name}"
    assert "its ISO is unknown" in why
    assert (len(results.of("counting")), len(results.of("capture"))) == (1, 1)


def test_an_unreadable_raw_file_is_told_and_the_others_are_opened(simsid: Path, tmp_path: Path) -> None:
    root = shutil.copytree(simsid, tmp_path / "sid", ignore=shutil.ignore_patterns(".*"))
    (root / "Sony" / "short" / "10001_00_0.1s.dng").write_bytes(b"no raw file")
    (root / "Sony" / "long" / "10002_00_10s.dng").unlink()
    messages: list[str] = []
    pairs = Selection(root).open(messages.append).pairs
    assert {(pair.scene, round(pair.ratio)) for pair in pairs} == {("10001", 250), ("10001", 300)}
    assert "10001_00_0.1s.dng" in messages[-1]
    assert "its long exposure is missing (long/10002_00_*s)" in messages[-1]


def test_crop_is_taken_before_anything_is_computed(simsid: Path, tmp_path: Path) -> None:
    shapes: list[torch.Size] = []

    @dataclass
    class Looking(Counting):
        def __call__(self, sample: Sample, seed: int = 0, adjust: Adjust = lambda estimate: estimate) -> Prediction:
            shapes.append(sample.clean.shape)
            return Prediction(sample.clean / 2)

    opened = Selection(simsid, ratios=(100,)).open()
    score(opened, [Looking()], replace(PLAIN, crop=20), Results(tmp_path, {}))
    assert set(shapes) == {torch.Size([4, 20, 20])}


def test_pictures_of_the_chosen_scene(simsid: Path, tmp_path: Path) -> None:
    opened = Selection(simsid, ratios=(100,)).open()
    networks = [
        Network(tiny(), STEADY, "with/layer"),  # type: ignore[arg-type] - a denoiser
        Network(tiny(config=DenoiserConfig("unet", {"width": 4, "depth": 1}, adaptive_residual=False)), DRAWN, "none"),  # type: ignore[arg-type]
    ]
    score(opened, [Capture(), *networks], PLAIN, Results(tmp_path, {}), pictures=["10002"])
    (folder,) = (tmp_path / "pictures").iterdir()
    assert folder.name == "10002_00_0.1s"
    names = {"reference", "capture", "capture-error"}
    names |= {f"with-layer-T-1{end}" for end in ("", "-error", "-mask")} | {"none-T-2", "none-T-2-error"}
    assert {path.stem for path in folder.iterdir()} == names
    modes = {}
    for path in folder.iterdir():
        with Image.open(path) as picture:
            assert picture.size == (32, 32)
            modes[path.stem] = picture.mode
    assert {modes["reference"], modes["capture"]} == {"RGB"}
    assert {modes["capture-error"], modes["with-layer-T-1-mask"]} == {"L"}


def test_pictures_that_are_wanted_later_are_made_without_new_figures(simsid: Path, tmp_path: Path) -> None:
    opened = Selection(simsid, ratios=(100,)).open()
    method, results = Counting(), Results(tmp_path, {})
    score(opened, [method], PLAIN, results)
    before = list(results.records)
    for _ in range(2):  # and they are made once
        score(opened, [method], PLAIN, results, pictures=["10002"])
        assert method.calls == len(before) + 1
    assert results.records == before
    (folder,) = (tmp_path / "pictures").iterdir()
    assert {path.name for path in folder.iterdir()} == {
        f"{name}.png" for name in ("reference", method.name, f"{method.name}-error")
    }


def test_files_of_the_same_name_are_separated(photographs: Path, tmp_path: Path) -> None:
    """ELD: each scene of each camera has its IMG_0004."""
    for camera in ("SonyA7S2", "NikonD850"):
        simulate(photographs, tmp_path / "eld", "--layout", "eld", "--camera", camera, "--scenes", 1)
    FrameCache.beside(tmp_path / "eld").build(sorted((tmp_path / "eld").rglob("*.dng")), workers=0)  # starts none
    opened = Selection(tmp_path / "eld", ratios=(200,)).open()
    assert len(opened.pairs) == 2 * 3
    method, results = Counting(), Results(tmp_path / "out", {})
    score(opened, [method], PLAIN, results, pictures=["all"])
    assert method.calls == len(results.records) == 6
    again = Results(tmp_path / "out", {})
    score(opened, [method], PLAIN, again)
    assert method.calls == 6
    folders = {path.name for path in (tmp_path / "out" / "pictures").iterdir()}
    assert len(folders) == 6
    assert "NikonD850-scene-1-IMG_0005" in folders
    alone = Selection(tmp_path / "eld", camera="NikonD850").open()
    assert {pair.scene for pair in alone.pairs} == {"NikonD850/scene-1"}

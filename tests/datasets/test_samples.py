"""Data sets: what a patch holds, that its number alone decides it, and what is said about files that do not fit."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields, replace
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from exposurediffusion.datasets.cache import FrameCache
from exposurediffusion.datasets.crops import draw_cut
from exposurediffusion.datasets.open import DatasetOptions, open_dataset
from exposurediffusion.datasets.samples import PairDataset, RawDataset, Sample
from exposurediffusion.dng.writer import write_dng
from exposurediffusion.physics.cameras.known import calibrated_cameras
from exposurediffusion.physics.dark_shading import DarkShading
from exposurediffusion.physics.mosaic import CFA, unpack
from exposurediffusion.physics.parameters import NoiseParameters
from exposurediffusion.physics.random import seeded
from exposurediffusion.physics.sensor import Sensor
from exposurediffusion.pictures.views import CleanViews
from exposurediffusion.raw.read import read_raw
from exposurediffusion.simulation.capture import simulate_long, simulate_short
from tests.trees import RGGB, touch, write_raw, write_sid

ARRAYS = [*map(CFA, ("RGGB", "BGGR", "GRBG", "GBRG", "XTRANS")), CFA("XTRANS", (2, 5)), CFA("XTRANS", (1, 0))]
SCENES = ("00001", "00002", "00003", "20001")


def photograph(path: Path, side: int = 64, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)


HOW = [field.name for field in fields(DatasetOptions)]


def open_set(root: Path, **options: Any) -> CleanViews | RawDataset | PairDataset:
    """Opened with those of the options that say how it is read, and given the others that it has."""
    how = {name: options.pop(name) for name in HOW if name in options}
    own = {name: options.pop(name) for name in ("seed", "shading") if name in options}
    found = open_dataset(root, DatasetOptions(**how), **options)
    if isinstance(found, PairDataset) and "shading" in own:
        found = replace(found, dark_shading=own["shading"])
    return replace(found, seed=own["seed"]) if "seed" in own and not isinstance(found, CleanViews) else found


def open_pairs(root: Path, **options: Any) -> PairDataset:
    found = open_set(root, **{"want": "pairs", **options})
    assert isinstance(found, PairDataset)
    return found


def open_raws(root: Path, **options: Any) -> RawDataset:
    found = open_set(root, **options)
    assert isinstance(found, RawDataset)
    return found


def capture_of(sample: Sample) -> Tensor:
    assert sample.capture is not None
    return sample.capture


# ------------------------------------------------------------------------------------------------------- raw patches


def placed(patch: Tensor, mosaic: Tensor, cfa: CFA) -> tuple[int, int, int]:
    """Where the patch lies in the mosaic (all of whose values differ) and how it was turned; fails if it does not."""
    sites = unpack(patch, cfa.tile)
    for turn, mirrored in product(range(4), (False, True)):
        back = torch.rot90(sites.flip(-1) if mirrored else sites, -turn, (-2, -1))
        top, left = (int(n[0]) for n in torch.where(mosaic == back[0, 0]))
        if torch.equal(mosaic[top : top + back.shape[0], left : left + back.shape[1]], back):
            return top, left, turn + 4 * mirrored
    raise AssertionError("not a part of the mosaic")


@pytest.mark.parametrize("cfa", ARRAYS, ids=str)
def test_patches_are_parts_of_the_raw_file_whose_colours_stay_in_place(cfa: CFA, tmp_path: Path) -> None:
    write_raw(tmp_path / "a.dng", cfa, (57, 71), sensor=Sensor.uniform(cfa, 256, 16000))
    raw = read_raw(tmp_path / "a.dng")
    mosaic = raw.sensor.normalise(raw.mosaic)
    frames = open_raws(tmp_path, cache=tmp_path / "cache", seed=5)
    letters = torch.tensor(["RGB".index(letter) for letter in raw.sensor.cfa.pattern()])
    period = cfa.period
    colours = letters.reshape(period, period).repeat(40, 40)[: mosaic.shape[0], : mosaic.shape[1]].float()
    own = torch.tensor(["RGB".index(letter) for letter in cfa.tile.pattern()]).reshape(period, period)
    places, turns = set(), set()
    for number in range(40):
        patch = frames.patch(number, 8).clean
        top, left, turn = placed(patch, mosaic, raw.sensor.cfa)
        side = 8 * cfa.stride
        block = torch.rot90(colours[top : top + side, left : left + side], turn % 4, (-2, -1))
        block = block.flip(-1) if turn >= 4 else block
        assert torch.equal(block[:period, :period], own.float())  # the network sees one array only
        places.add((top, left))
        turns.add(turn)
    assert len(turns) == 8
    assert len(places) > (10 if cfa.is_bayer else 8)


@pytest.mark.parametrize("cfa", ARRAYS, ids=str)
def test_a_whole_frame_repeats_no_site(cfa: CFA, tmp_path: Path) -> None:
    """What `pack` completes is neither trained on nor measured."""
    frame = write_raw(tmp_path / "1.dng", cfa, (57, 71))
    write_raw(tmp_path / "2.dng", cfa, (57, 71), iso=800)
    (tmp_path / "pairs.csv").write_text("short,long,ratio\n2.dng,1.dng,9\n")
    planes = frame.planes  # its sites all differ
    assert planes.unique().numel() < planes.numel()  # twin: completed tiles repeat some
    shading = DarkShading(torch.zeros_like(planes), torch.zeros_like(planes), ((100.0, 0.0),), 15871.0)
    sample = open_pairs(tmp_path, split="all", shading=shading)[0]
    for image in (sample.clean, capture_of(sample), open_raws(tmp_path, dataset="raws", split="all")[0].clean):
        assert image.unique().numel() == image.numel()
        assert planes.shape[-2] - 4 <= image.shape[-2] < planes.shape[-2]


def test_patches_reach_every_place(generator: torch.Generator) -> None:
    cuts = [draw_cut((60, 72), 8, RGGB, generator, upright=True) for _ in range(3000)]
    assert {cut.turn for cut in cuts} == {0, 2, 4, 6}
    plain = Counter(cut.window for cut in cuts if cut.turn == 0)
    assert {window[0] for window in plain} == set(range(23))
    assert {window[1] for window in plain} == set(range(29))
    assert {window[2:] for window in plain} == {(8, 8)}
    for cut in cuts:
        top, left, height, width = cut.window
        assert top + height <= 30
        assert left + width <= 36


@pytest.mark.parametrize("cfa", [RGGB, CFA("XTRANS")], ids=str)
def test_a_patch_may_be_the_whole_frame(cfa: CFA, tmp_path: Path) -> None:
    write_raw(tmp_path / "a.dng", cfa, (48, 48))
    frames = open_raws(tmp_path, cache=tmp_path / "cache")
    size, name = frames.largest
    assert (size, Path(name).name) == (48 // cfa.stride, "a.dng")
    assert frames.patch(0, size).clean.shape == (cfa.planes, size, size)
    with pytest.raises(ValueError, match=r"a\.dng: 48x48 sites are too few for patches of \d+ packed pixels"):
        frames.patch(0, size + 2)
    if not cfa.is_bayer:
        with pytest.raises(ValueError, match="an even number of packed pixels, not 7"):
            frames.patch(0, 7)


# ------------------------------------------------------------------------------------------------------------- pairs


def test_pairs_of_sid(tmp_path: Path) -> None:
    write_sid(tmp_path, SCENES)
    pairs = open_pairs(tmp_path, split="train", seed=1)
    assert (len(pairs), pairs.planes) == (6, 4)
    names = Counter()
    for number in range(12):
        patch = pairs.patch(number, 8)
        assert patch.capture is not None
        assert patch.ratio is not None
        assert (patch.ratio, patch.iso) in ((100.0, 800.0), (300.0, 3200.0))
        time = "0.1" if patch.ratio == 100 else "0.033"
        short = read_raw(tmp_path / f"Sony/short/{patch.name}_00_{time}s.dng")
        long = read_raw(tmp_path / f"Sony/long/{patch.name}_00_10s.dng")
        place = placed(patch.clean, long.sensor.normalise(long.mosaic), RGGB)
        at = placed(patch.capture, short.sensor.normalise(short.mosaic).mul_(patch.ratio), RGGB)
        assert place == at
        assert place[2] in (0, 2, 4, 6)  # rows stay rows
        assert patch.noise is not None
        assert patch.iso is not None
        assert float(patch.noise.gain) == pytest.approx(calibrated_cameras()["SonyA7S2"].gain(patch.iso))
        names[patch.name, patch.ratio] += 1
    assert set(names.values()) == {2}  # two epochs
    whole = pairs[0]
    assert whole.capture is not None
    assert torch.equal(whole.clean, read_raw(tmp_path / f"Sony/long/{whole.name}_00_10s.dng").planes)
    assert whole.capture.shape == whole.clean.shape == (4, 24, 30)
    assert len(open_pairs(tmp_path, split="validation")) == 2
    assert len(open_raws(tmp_path, split="all")) == 4


def test_captures_keep_what_lies_below_black_and_above_white(tmp_path: Path) -> None:
    camera, neutral = calibrated_cameras()["SonyA7S2"], (0.5, 1.0, 0.6)
    light = torch.rand((4, 32, 32), generator=torch.Generator().manual_seed(1)).mul_(0.1)
    light[:, :4] = 3.0  # brighter than the white of the long exposure
    noise = NoiseParameters.gaussian(1.5, 4.0)
    short = simulate_short(light, RGGB, camera, neutral, 100.0, 1600.0, torch.Generator().manual_seed(2), noise)[0]
    for name, frame in (("long", simulate_long(light, RGGB, camera, neutral)), ("short", short)):
        (tmp_path / name).mkdir()
        write_dng(tmp_path / name / "a.dng", frame)
    sample = open_pairs(tmp_path, split="all")[0]
    assert sample.capture is not None
    assert sample.capture.min() < -0.01
    assert sample.capture[:, :4].mean() == pytest.approx(3.0, rel=0.02)
    assert sample.clean.max() == 1.0
    assert sample.capture[:, 4:].mean() == pytest.approx(float(light[:, 4:].mean()), rel=0.1)
    assert sample.ratio == pytest.approx(100, rel=1e-3)


def test_x_trans_pairs(tmp_path: Path) -> None:
    write_sid(tmp_path, SCENES, CFA("XTRANS"))
    pairs = open_pairs(tmp_path)
    assert (pairs.planes, pairs.cfa.name) == (9, "XTRANS")
    patch = pairs.patch(0, 6)
    assert patch.capture is not None
    assert patch.clean.shape == patch.capture.shape == (9, 6, 6)


def test_dark_shading_is_that_of_the_place(tmp_path: Path) -> None:
    write_sid(tmp_path, SCENES[:1])
    maps = torch.rand((2, 4, 24, 30), generator=torch.Generator().manual_seed(1))
    shading = DarkShading(maps[0] / 100, maps[1], ((100.0, 1.0), (6400.0, 3.0)), 16383.0 - 512)
    plain = open_pairs(tmp_path)
    dark = open_pairs(tmp_path, shading=shading)
    whole = dark[1]
    assert whole.capture is not None
    assert whole.iso is not None
    assert whole.ratio is not None
    expected = capture_of(plain[1]) - shading.map(whole.iso) * whole.ratio / (16383 - 512)
    torch.testing.assert_close(whole.capture, expected)
    for number in range(6):  # the same parts of the whole as without it
        pick = 0 if dark.patch(number, 8).ratio == dark[0].ratio else 1
        places = [
            placed(capture_of(pairs.patch(number, 8)), unpack(capture_of(pairs[pick]), RGGB), RGGB)
            for pairs in (plain, dark)
        ]
        assert places[0] == places[1]


def test_short_exposures_of_a_burst_as_targets(tmp_path: Path) -> None:
    write_sid(tmp_path, SCENES[:2], bursts=3)
    write_raw(tmp_path / "Sony/short/00001_00_0.2s.dng")  # alone
    bursts = open_pairs(tmp_path, want="bursts")
    assert len(bursts) == 2 * 2 * 3
    mates = set()
    for number in range(48):
        sample = bursts.patch(number, 8)
        time = "0.1" if sample.ratio == 100 else "0.033"
        places = {}
        for n in range(3):
            raw = read_raw(tmp_path / f"Sony/short/{sample.name}_0{n}_{time}s.dng")
            mosaic = raw.sensor.normalise(raw.mosaic).mul_(sample.ratio or 0)
            for part in ("clean", "capture"):
                try:
                    places[part] = (n, *placed(getattr(sample, part), mosaic, RGGB))
                except (AssertionError, IndexError):
                    continue
        assert places["clean"][1:] == places["capture"][1:]
        assert places["clean"][0] != places["capture"][0]
        mates.add((sample.name, time, places["capture"][0], places["clean"][0]))
    assert len(mates) == 2 * 2 * 6
    write_sid(tmp_path / "single", SCENES[:2])
    with pytest.raises(ValueError, match="no scene has two short exposures of the same time"):
        open_set(tmp_path / "single", want="bursts")


def test_a_folder_of_pairs_is_split_by_scene(tmp_path: Path) -> None:
    for n in range(4):
        write_raw(tmp_path / "long" / f"{n:02d}.dng", seed=n)
        write_raw(tmp_path / "short" / f"{n:02d}.dng", seed=n + 50, iso=400, shutter=0.25)
    train, validation = (open_pairs(tmp_path, split=split) for split in ("train", "validation"))
    assert [sample.name for sample in validation] == ["03"]
    assert len(train) == 3
    assert train[0].ratio == pytest.approx(10)
    assert [sample.name for sample in open_raws(tmp_path, split="validation")] == ["03"]  # clean


# ------------------------------------------------------------------------------------------------ one number, one patch


def digest(dataset: CleanViews | RawDataset | PairDataset, numbers: list[int]) -> list[list[float]]:
    if isinstance(dataset, CleanViews):
        return [[float(dataset.batch(2, 8, seeded(number)).double().sum())] for number in numbers]
    samples = [dataset.patch(number, 8) for number in numbers]
    return [[float(t.double().sum()) for t in (s.clean, s.capture) if t is not None] for s in samples]


def test_patches_are_the_same_in_any_process_and_order(tmp_path: Path) -> None:
    write_sid(tmp_path / "sid", SCENES)
    for seed in range(3):
        photograph(tmp_path / "images" / f"{seed}.png", seed=seed)
    cache = tmp_path / "cache"
    sets = [open_set(tmp_path / "sid", want=want, cache=cache, seed=3) for want in ("clean", "pairs")]
    sets.append(open_set(tmp_path / "images", split="all", seed=3))
    numbers = [0, 1, 5, 17, 100_003]
    here = [digest(dataset, numbers) for dataset in sets]
    assert [digest(dataset, numbers[::-1])[::-1] for dataset in sets] == here
    with get_context("spawn").Pool(1) as pool:
        assert pool.starmap(digest, [(dataset, numbers) for dataset in sets]) == here
    other = open_pairs(tmp_path / "sid", cache=cache, seed=4)
    assert digest(other, numbers) != here[1]
    for dataset in sets:
        assert len({tuple(sums) for sums in digest(dataset, list(range(20)))}) == 20


def test_each_scene_comes_once_an_epoch(tmp_path: Path) -> None:
    for seed in range(5):
        write_raw(tmp_path / f"{seed}.dng", seed=seed)
    frames = open_raws(tmp_path, split="all")
    epochs = [[frames.patch(number, 4).name for number in range(5 * n, 5 * n + 5)] for n in range(6)]
    assert all(sorted(epoch) == list("01234") for epoch in epochs)
    assert len(set(map(tuple, epochs))) > 1


# ---------------------------------------------------------------------------------------------------------- bad input


def test_what_does_not_fit_is_listed_once_and_left_out_or_stops(tmp_path: Path) -> None:
    write_sid(tmp_path, SCENES[:3])
    sony = tmp_path / "Sony"
    write_raw(sony / "short/00001_00_0.1s.dng", shape=(48, 48))
    write_raw(sony / "short/00002_00_0.1s.dng", CFA("GBRG"))
    (sony / "short/00003_00_0.1s.dng").write_bytes(b"no raw")
    (sony / "long/00003_00_10s.dng").unlink()
    touch(sony, "long/00009_00_10s.dng", "short/notes.dng")
    said: list[str] = []
    pairs = open_pairs(tmp_path, cache=tmp_path / "cache", report=said.append)
    assert {(sample.name, sample.ratio) for sample in pairs} == {("00001", 300.0), ("00002", 300.0)}
    assert len(said) == 2
    assert f"decoding 6 raw files, once, into {tmp_path / 'cache'}" in said[0]
    lines = [line.strip().removeprefix(f"{sony}/") for line in said[1].splitlines()]
    assert lines[0] == f"{tmp_path}: 6 problems:"
    assert lines[-1] == "going on without these files"
    assert lines[1].startswith("short/notes.dng: left out, its name is not as expected")
    assert lines[2].startswith("short/00003_00_0.033s.dng: left out, its long exposure is missing")
    assert lines[3].startswith("short/00003_00_0.1s.dng: left out, its long exposure is missing")
    assert lines[4].startswith("long/00009_00_10s.dng: no short exposure uses it")
    assert {line.split(": ")[1].split(" (")[0] for line in lines[5:7]} == {
        "left out, their sizes differ",
        "left out, their colour filter arrays differ",
    }
    assert "(60x48 and 48x48)" in said[1] or "(48x48 and 60x48)" in said[1]
    with pytest.raises(ValueError, match=r"(?s)4 problems:.*notes\.dng.*put this right, or go on"):
        open_pairs(tmp_path, on_problem="stop")
    assert not (sony.parent / ".exposurediffusion-cache").exists()  # it stopped before the work


def test_nothing_left(tmp_path: Path) -> None:
    write_raw(tmp_path / "short/a.dng", shutter=0.1)
    write_raw(tmp_path / "long/a.dng", CFA("BGGR"))
    with pytest.raises(ValueError, match="nothing is left to use"):
        open_pairs(tmp_path, split="all")
    (tmp_path / "raws").mkdir()
    (tmp_path / "raws" / "a.dng").write_bytes(b"no raw")
    with pytest.raises(ValueError, match="nothing is left to use"):
        open_set(tmp_path / "raws", split="all")
    with pytest.raises(ValueError, match=r"(?s)1 problem:\n.*a\.dng: .*\nput this right"):
        open_set(tmp_path / "raws", split="all", on_problem="stop")


def test_the_fewer_of_two_kinds_of_array_are_left_out(tmp_path: Path) -> None:
    for n, cfa in enumerate((RGGB, CFA("GRBG"), CFA("XTRANS"))):
        write_raw(tmp_path / f"{n}.dng", cfa)
    said: list[str] = []
    assert len(open_raws(tmp_path, split="all", report=said.append)) == 2
    assert "2.dng: left out, it is X-Trans, most are Bayer" in said[-1]


def test_pictures_that_cannot_be_read(tmp_path: Path) -> None:
    photograph(tmp_path / "a.png")
    photograph(tmp_path / "b.png")
    (tmp_path / "c.jpg").write_text("no picture")
    said: list[str] = []
    found = open_set(tmp_path, split="all", report=said.append)
    assert isinstance(found, CleanViews)
    assert [Path(name).name for name in found.pictures.names] == ["a.png", "b.png"]
    assert "c.jpg: cannot be read as a picture" in said[0]
    with pytest.raises(ValueError, match=r"c\.jpg: cannot be read"):
        open_set(tmp_path, split="all", on_problem="stop")
    with pytest.raises(ValueError, match="nothing is left to use for validation; give another folder"):
        open_set(tmp_path, split="validation")


def test_what_a_kind_of_folder_does_not_have(tmp_path: Path) -> None:
    photograph(tmp_path / "images/a.png")
    with pytest.raises(ValueError, match=r"images: pictures are no pairs .*; `expose simulate` makes some"):
        open_pairs(tmp_path / "images")
    write_raw(tmp_path / "raws/a.dng")
    with pytest.raises(ValueError, match=r"raw files alone are no pairs; .* pairs\.csv with a header short,long"):
        open_pairs(tmp_path / "raws")
    with pytest.raises(ValueError, match="bursts of short exposures are known of SID alone"):
        open_set(tmp_path / "raws", want="bursts")
    with pytest.raises(ValueError, match="one file only, so none is left for validation"):
        open_set(tmp_path / "raws", split="validation")
    with pytest.raises(ValueError, match="folders of cameras are ELD's alone; leave out --camera NikonD850"):
        open_set(tmp_path / "raws", camera="NikonD850")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty: no raw files that can be used"):
        open_set(tmp_path / "empty", dataset="raws")


def test_dark_shading_wants_an_iso(tmp_path: Path) -> None:
    write_raw(tmp_path / "1.dng", iso=None)
    write_raw(tmp_path / "2.dng")
    (tmp_path / "pairs.csv").write_text("short,long,ratio\n1.dng,2.dng,9\n")
    shading = DarkShading(torch.zeros(4, 24, 30), torch.zeros(4, 24, 30), ((100.0, 0.0),), 15871.0)
    assert open_pairs(tmp_path, split="all")[0].iso is None
    with pytest.raises(
        ValueError, match=r"1\.dng: its ISO is unknown, so its dark shading is too; leave out --dark-shading"
    ):
        open_pairs(tmp_path, split="all", shading=shading)[0]


def test_decoding_tells_how_far_it_is(tmp_path: Path) -> None:
    write_sid(tmp_path, SCENES[:2])
    ticks: list[tuple[int, int]] = []
    for _ in range(2):  # the second time there is nothing to do
        open_pairs(tmp_path, tick=lambda done, total: ticks.append((done, total)))
    assert ticks == [(number, 6) for number in range(1, 7)]


def test_default_cache_lies_in_the_data_set(tmp_path: Path) -> None:
    write_raw(tmp_path / "a.dng")
    open_set(tmp_path, split="all")
    assert not FrameCache.beside(tmp_path).missing([tmp_path / "a.dng"])

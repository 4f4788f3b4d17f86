"""Which files belong together, and what is said about those that do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from exposurediffusion.datasets.eld import eld
from exposurediffusion.datasets.listing import Pair
from exposurediffusion.datasets.open import detect, raws
from exposurediffusion.datasets.pairs import pairs
from exposurediffusion.datasets.sid import SidSplit, Subset, sid, sid_references, sid_subset
from exposurediffusion.pictures.splits import choose, held_out
from tests.trees import touch, write_raw


def named(found: tuple[Pair, ...]) -> list[tuple[str, str, float]]:
    return [(pair.short.name, pair.long.name, round(pair.ratio, 6)) for pair in found]


SCENES = (
    "Sony/long/00001_00_10s.ARW",
    "Sony/short/00001_00_0.1s.ARW",
    "Sony/short/00001_00_0.04s.dng",
    "Sony/short/00001_00_0.033s.ARW",
    "Sony/long/10003_00_30s.dng",
    "Sony/short/10003_00_0.04s.ARW",
    "Sony/long/20005_00_10s.NEF",
    "Sony/short/20005_00_0.1s.arw",
)


def test_sid_pairs_by_scene_with_the_ratio_rule_and_any_extension(tmp_path: Path) -> None:
    touch(tmp_path, *SCENES)
    found = sid(tmp_path)
    assert named(found.pairs) == [
        ("00001_00_0.033s.ARW", "00001_00_10s.ARW", 300.0),  # 303 at most 300
        ("00001_00_0.04s.dng", "00001_00_10s.ARW", 250.0),
        ("00001_00_0.1s.ARW", "00001_00_10s.ARW", 100.0),
        ("10003_00_0.04s.ARW", "10003_00_30s.dng", 300.0),  # 750 at most 300
        ("20005_00_0.1s.arw", "20005_00_10s.NEF", 100.0),
    ]
    assert found.problems == ()
    assert [path.name for path in found.references] == ["00001_00_10s.ARW", "10003_00_30s.dng", "20005_00_10s.NEF"]
    assert sid(tmp_path / "Sony") == found  # the camera's folder will do


def test_sid_splits_by_the_first_digit(tmp_path: Path) -> None:
    touch(tmp_path, *SCENES)
    splits: dict[SidSplit, tuple[str, int]] = {"train": ("0", 3), "test": ("1", 1), "validation": ("2", 1)}
    for split, (digit, count) in splits.items():
        found = sid(tmp_path, split=split)
        assert {pair.scene[0] for pair in found.pairs} == {digit}
        assert len(found.pairs) == count
        assert not found.problems
        assert sid_references(tmp_path, split=split).references == found.references
    (tmp_path / "Sony/long/20005_00_10s.NEF").unlink()
    with pytest.raises(
        ValueError, match=r"long: no scenes of split validation .*begins with 2.*another --split, .*--validation"
    ):
        sid(tmp_path, split="validation")


def test_sid_fuji_is_its_other_half(tmp_path: Path) -> None:
    touch(tmp_path, *SCENES, "Fuji/long/00007_00_30s.RAF", "Fuji/short/00007_00_0.1s.RAF")
    assert named(sid(tmp_path, "Fuji").pairs) == [("00007_00_0.1s.RAF", "00007_00_30s.RAF", 300.0)]
    with pytest.raises(ValueError, match="no subset 'eld' of SID's Fuji is known: --subset all"):
        sid(tmp_path, "Fuji", subset="eld")


def test_sid_lists_what_does_not_fit_once(tmp_path: Path) -> None:
    extra = ("Sony/long/00009_00_10s.ARW", "Sony/short/00008_00_0.1s.ARW", "Sony/short/IMG_1.ARW")
    again = ("Sony/short/00001_00_0.1s.dng", "Sony/long/20005_00_30s.ARW", "Sony/short/.hidden.ARW", "Sony/short/a.txt")
    touch(tmp_path, *SCENES, *extra, *again)
    found = sid(tmp_path)
    assert len(found.pairs) == 5
    assert [problem.replace(str(tmp_path / "Sony"), "") for problem in found.problems] == [
        "/short/00001_00_0.1s.dng: left out, 00001_00_0.1s.ARW is the same photograph",
        "/short/IMG_1.ARW: left out, its name is not as expected (such as 00001_00_0.1s.ARW)",
        "/long/20005_00_10s.NEF: left out, 20005_00_30s.ARW is longer",
        "/short/00008_00_0.1s.ARW: left out, its long exposure is missing (long/00008_00_*s)",
        "/long/00009_00_10s.ARW: no short exposure uses it",
    ]
    assert not sid_references(tmp_path, split="train").problems  # which short exposures there are does not matter


def test_sid_without_its_folders(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="neither Sony/long nor long"):
        sid(tmp_path)
    touch(tmp_path, "Sony/long/00001_00_10s.ARW")
    with pytest.raises(ValueError, match="short: no such folder"):
        sid(tmp_path)
    assert len(sid_references(tmp_path).references) == 1


def test_sid_bursts(tmp_path: Path) -> None:
    shots = [f"Sony/short/00001_0{n}_{t}s.ARW" for n in (1, 2, 3) for t in ("0.1", "0.04")]
    touch(tmp_path, "Sony/long/00001_00_10s.ARW", *shots)
    assert [pair.short.name for pair in sid(tmp_path).pairs] == ["00001_01_0.04s.ARW", "00001_01_0.1s.ARW"]
    every = sid(tmp_path, bursts=True).pairs
    assert len(every) == 6
    assert {pair.burst for pair in every} == {"00001 0.04s", "00001 0.1s"}


def test_sid_subset_takes_the_time_nearest_its_ratio(tmp_path: Path) -> None:
    """Scene 10074 has two times that the rule limits to 300; the published one is 0.1 s of 30 s."""
    touch(tmp_path, "Sony/long/10074_00_30s.ARW", *(f"Sony/short/10074_00_{t}s.ARW" for t in ("0.04", "0.1")))
    touch(tmp_path, "Sony/long/20188_00_10s.dng", *(f"Sony/short/20188_00_{t}s.dng" for t in ("0.04", "0.033")))
    found = sid(tmp_path, subset="long")
    expected = [("20188_00_0.04s.dng", 250.0), ("10074_00_0.1s.ARW", 300.0), ("20188_00_0.033s.dng", 300.0)]
    assert [(pair.short.name, pair.ratio) for pair in found.pairs] == expected
    absent = "the short exposure of scene 20188 at x100 of subset long is missing"
    assert sum(problem.endswith(absent) for problem in found.problems) == 1
    assert len(found.problems) == 1 + len({scene for scene, _ in sid_subset("Sony", "long")} - {"10074", "20188"})
    eld_only = sid(tmp_path, subset="eld", split="validation")
    assert [pair.ratio for pair in eld_only.pairs] == [250.0, 300.0]
    with pytest.raises(ValueError, match=r"no scene of subset eld is there; .*--subset all"):
        sid(tmp_path, subset="eld", split="test")


def test_sid_subsets_are_the_published_ones(shared: Path, tmp_path: Path) -> None:
    lists = shared / "data" / "sid"
    for name in ("Sony_train", "Sony_test", "Sony_val"):
        for line in (lists / f"{name}.txt").read_text().splitlines():
            short, long = line.split()
            touch(tmp_path, f"Sony/short/{short}", f"Sony/long/{long}")
    assert len(sid(tmp_path, split="train").references) == 161
    assert len(sid(tmp_path, split="train").pairs) == 280
    tables: dict[Subset, str] = {"eld": "SID_Sony_15_paired", "long": "SID_Sony_paired"}
    for subset, name in tables.items():
        lines = [line.split() for line in (lists / f"{name}.txt").read_text().splitlines()]
        found = sid(tmp_path, subset=subset)
        assert sorted(named(found.pairs)) == sorted((short, long, float(ratio)) for short, long, ratio in lines)
        assert found.problems == ()
        assert sorted(sid_subset("Sony", subset)) == sorted((line[0][:5], int(line[2])) for line in lines)


def write_eld(root: Path, camera: str = "SonyA7S2", scene: int = 1, iso: int = 1600) -> Path:
    folder = root / camera / f"scene-{scene}"
    for number in range(1, 17):
        shutter = {1: 10.0, 4: 10 * 100 / iso / 95, 0: 10 * 100 / iso / 200}.get(number % 5, 0.5)
        reference = number % 5 == 1
        write_raw(folder / f"IMG_{number:04d}.dng", iso=100 if reference else iso, shutter=shutter)
    return folder


def test_eld_pairs_with_the_nearest_reference_and_exif_ratios(tmp_path: Path) -> None:
    folder = write_eld(tmp_path, scene=2)
    write_raw(folder.parent / "scene-10" / "IMG_0001.dng")
    found = eld(tmp_path, "SonyA7S2")
    expected = [(4, 6, 95), (9, 11, 95), (14, 16, 95), (5, 6, 200), (10, 11, 200), (15, 16, 200)]
    whom = [(int(p.short.stem[-4:]), int(p.long.stem[-4:]), round(p.ratio, 2)) for p in found.pairs]
    assert whom == expected
    assert {pair.scene for pair in found.pairs} == {"SonyA7S2/scene-2"}
    assert [path.parent.name for path in found.references] == ["scene-10"] + 4 * ["scene-2"]
    assert len(found.problems) == 6  # all that scene-10 should have had
    assert found.problems[0].endswith("scene-10: IMG_0004 is missing; image 4 is left out")
    assert [pair.ratio for pair in eld(tmp_path, ratios=(200,)).pairs] == pytest.approx([200] * 3)
    assert eld(tmp_path / "SonyA7S2").pairs == found.pairs


def test_eld_says_what_is_wrong(tmp_path: Path) -> None:
    folder = write_eld(tmp_path)
    (folder / "IMG_0006.dng").unlink()
    (folder / "IMG_0011.dng").write_bytes(b"no raw file")
    write_raw(folder / "IMG_0015.dng", shutter=20.0)
    (folder / "other.dng").touch()
    found = eld(tmp_path)
    assert [pair.short.stem for pair in found.pairs] == ["IMG_0014"]
    text = "\n".join(found.problems)
    assert "other.dng: left out, its name is not as expected (such as IMG_0004.ARW)" in text
    assert text.count("IMG_0006 is missing") == 2
    assert text.count("IMG_0011.dng: ") == 1  # though two captures want it
    assert "IMG_0015.dng: more exposed than" in text
    with pytest.raises(ValueError, match="ratios 100 and 200, not 10"):
        eld(tmp_path, ratios=(10,))
    with pytest.raises(ValueError, match="cameras that are there: SonyA7S2"):
        eld(tmp_path, "NikonD850")


def test_pairs_by_name(tmp_path: Path) -> None:
    for name, shutter in (("a", 0.1), ("b", 0.05), ("c", 0.1)):
        write_raw(tmp_path / "short" / f"{name}.dng", iso=200, shutter=shutter)
    for name in ("a", "b", "d"):
        write_raw(tmp_path / "long" / f"{name}.DNG")
    found = pairs(tmp_path)
    assert named(found.pairs) == [("a.dng", "a.DNG", 50.0), ("b.dng", "b.DNG", 100.0)]
    assert "c.dng: left out, its long exposure is missing (long/c.*)" in found.problems[0]
    assert found.problems[1].endswith("d.DNG: no short exposure uses it")
    with pytest.raises(ValueError, match=r"no folders short and long, and no pairs\.csv"):
        pairs(tmp_path / "long")


def test_pairs_by_table(tmp_path: Path) -> None:
    write_raw(tmp_path / "x" / "1.dng", shutter=0.5)
    write_raw(tmp_path / "x" / "2.dng", shutter=None)
    write_raw(tmp_path / "y.dng")
    table = tmp_path / "pairs.csv"
    rows = ["short, long, ratio", "x/1.dng, y.dng,", "x/2.dng, y.dng, 33.5", "x/2.dng, y.dng,", "x/3.dng, y.dng, 9"]
    rows += ["x/1.dng, y.dng, much", "x/1.dng, y.dng, 0.5", "x/1.dng"]
    table.write_text("\ufeff" + "\n".join(rows), encoding="utf-8")
    found = pairs(tmp_path)
    assert named(found.pairs) == [("1.dng", "y.dng", 20.0), ("2.dng", "y.dng", 33.5)]
    assert [pair.scene for pair in found.pairs] == ["x/1", "x/2"]
    assert [problem.replace(str(tmp_path), "") for problem in found.problems] == [
        "/x/2.dng: ISO or exposure time is missing, so the ratio of its pair is unknown; "
        "write it into a table pairs.csv (short,long,ratio)",
        "/pairs.csv, line 5: x/3.dng is missing; the pair is left out",
        "/pairs.csv, line 6: the ratio much is not a number from 1 on; the pair is left out",
        "/pairs.csv, line 7: the ratio 0.5 is not a number from 1 on; the pair is left out",
        "/pairs.csv, line 8: a name is missing; the pair is left out",
    ]
    assert pairs(tmp_path / "x", table) == found


@pytest.mark.parametrize("text", ["", "a,b\n1,2", "short,long\n", "\xff\xfe"])
def test_a_file_that_is_no_table(text: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"t\.csv: (its first line must be short,long|cannot be read as a table)"):
        pairs(tmp_path, tmp_path / "t.csv")
    with pytest.raises(ValueError, match=r"none\.csv: cannot be read as a table"):
        pairs(tmp_path, tmp_path / "none.csv")


def test_raws_leave_out_what_is_hidden(tmp_path: Path) -> None:
    touch(tmp_path, "b.NEF", "a/c.dng", ".cache/d.dng", ".e.dng", "f.jpg")
    assert [path.name for path in raws(tmp_path).references] == ["c.dng", "b.NEF"]


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("sid-sony", ["Sony/long/00001_00_10s.dng"]),
        ("sid-fuji", ["Fuji/long/00001_00_10s.RAF"]),
        ("sid-sony", ["long/00001_00_10s.ARW", "short/00001_00_0.1s.ARW"]),
        ("eld", ["NikonD850/scene-3/IMG_0001.nef"]),
        ("eld", ["scene-3/IMG_0001.nef"]),
        ("pairs", ["short/a.dng", "long/a.dng"]),
        ("pairs", ["pairs.csv", "a.dng"]),
        ("raws", ["a/b.dng", "a/b.jpg"]),
        ("images", ["a/b.jpg"]),
    ],
)
def test_kinds_are_separated(kind: str, names: list[str], tmp_path: Path) -> None:
    touch(tmp_path, *names)
    assert detect(tmp_path) == kind


def test_folders_of_no_kind(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"neither SID .*, nor ELD .*, nor pairs .*, nor a folder of raw files"):
        detect(tmp_path)
    with pytest.raises(ValueError, match="no such folder"):
        detect(tmp_path / "none")
    touch(tmp_path, "Sony/long/00001_00_10s.dng", "Fuji/long/00001_00_10s.RAF")
    with pytest.raises(ValueError, match="both cameras; say which: --dataset sid-sony or --dataset sid-fuji"):
        detect(tmp_path)


def test_every_tenth_is_held_out() -> None:
    assert [list(held_out(count)) for count in (0, 1, 2, 9, 10, 25)] == [[], [], [1], [8], [9], [9, 19]]
    files = [Path(f"{n:02d}") for n in range(25)]
    train, validation = (choose(files, split, Path("x")) for split in ("train", "validation"))
    assert sorted(train + validation) == files == choose(files, "all", Path("x"))
    assert [path.name for path in validation] == ["09", "19"]
    assert choose(files[:1], "train", Path("x")) == files[:1]
    with pytest.raises(ValueError, match="x: one file only, so none is left for validation"):
        choose(files[:1], "validation", Path("x"))

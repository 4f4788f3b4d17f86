"""Decoded frames on disk: the same numbers as the raw file, made once, whole or not at all."""

from __future__ import annotations

import errno
import json
import os
from collections import namedtuple
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from exposurediffusion.datasets import cache as module
from exposurediffusion.datasets.cache import FOLDER, FrameCache
from exposurediffusion.physics.mosaic import CFA, pack
from exposurediffusion.physics.sensor import Sensor
from exposurediffusion.raw.read import read_raw
from tests.trees import RGGB, write_raw

ARRAYS = [*map(CFA, ("RGGB", "BGGR", "GRBG", "GBRG", "XTRANS")), CFA("XTRANS", (2, 5))]
SIZED = namedtuple("SIZED", "free")


@pytest.fixture
def store(tmp_path: Path) -> FrameCache:
    return FrameCache(tmp_path / "cache")


@pytest.fixture
def raws(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{name}.dng" for name in "abc"]
    for seed, path in enumerate(paths):
        write_raw(path, seed=seed)
    return paths


def uneven(cfa: CFA) -> Sensor:
    return Sensor(cfa, tuple(float(505 + i) for i in range(cfa.period**2)), 4095.0)


@pytest.mark.parametrize("cfa", ARRAYS, ids=str)
def test_planes_are_those_of_the_raw_file(cfa: CFA, store: FrameCache, tmp_path: Path) -> None:
    """Black levels that differ from site to site, and a frame that ends within a tile."""
    path = tmp_path / "a.dng"
    write_raw(path, cfa, (49, 61), sensor=uneven(cfa))
    frame = read_raw(path)
    assert len(set(frame.sensor.black_level)) == cfa.period**2
    assert store.build([path]) == []
    cached = store.frame(path)
    torch.testing.assert_close(cached.planes(), frame.planes, rtol=0, atol=1e-6)
    window = (4, 6, 8, 10)
    assert torch.equal(cached.planes(window), cached.planes()[:, 4:12, 6:16])
    whole = cached.frame()
    np.testing.assert_array_equal(whole.mosaic, frame.mosaic)
    assert (whole.sensor, whole.metadata, cached.cfa) == (frame.sensor, frame.metadata, frame.sensor.cfa)
    shifted = tuple(level + 1 for level in frame.sensor.black_level)  # twin: another black level is seen
    assert (cached.planes() - pack(Sensor(cfa, shifted, 4095.0).normalise(frame.mosaic), cfa)).abs().max() > 1e-4


def test_format_is_plain_numpy_and_json(store: FrameCache, raws: list[Path]) -> None:
    store.build(raws[:1])
    array, record = sorted(store.folder.iterdir(), key=lambda path: path.suffix, reverse=True)
    assert array.name.startswith("a.dng-")
    planes, facts = np.load(array), json.loads(record.read_text())
    mosaic = read_raw(raws[0]).mosaic
    assert (planes.dtype, planes.shape) == (np.uint16, (4, 24, 30))
    np.testing.assert_array_equal(planes[1], mosaic[::2, 1::2])  # DN, black level included
    assert facts["source"] == "../a.dng"
    assert (facts["black_level"], facts["white_level"], facts["cfa"]["name"]) == ([512.0] * 4, 16383.0, "RGGB")
    assert (facts["metadata"]["iso"], facts["metadata"]["shutter"]) == (100.0, 10.0)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    read: list[str] = []

    def counting(path: Path, max_megapixels: float) -> object:
        read.append(path.name)
        return read_raw(path, max_megapixels)

    monkeypatch.setattr(module, "read_raw", counting)
    return read


def test_frames_are_decoded_once(store: FrameCache, raws: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    read, ticks = counted(monkeypatch), []
    assert store.build([*raws, raws[0]], tick=lambda *numbers: ticks.append(numbers)) == []
    assert store.build(raws) == []
    assert sorted(read) == ["a.dng", "b.dng", "c.dng"]
    assert ticks == [(1, 3), (2, 3), (3, 3)]


def test_an_interrupted_build_goes_on(store: FrameCache, raws: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(done: int, _: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.build(raws, tick=stop)
    read = counted(monkeypatch)
    store.build(raws)
    assert read == ["c.dng"]


@pytest.mark.parametrize("harm", ["json", "short", "other", "gone", "version", "changed", "touched"])
def test_what_is_damaged_or_outdated_is_made_anew(harm: str, store: FrameCache, raws: list[Path]) -> None:
    store.build(raws)
    array, record = (next(store.folder.glob(f"b.dng-*.{kind}")) for kind in ("npy", "json"))
    if harm == "json":
        record.write_text(record.read_text()[:-40])
    elif harm == "short":
        array.write_bytes(array.read_bytes()[:-40])
    elif harm == "other":
        np.save(array, np.zeros((4, 3, 3), np.uint16))
    elif harm == "gone":
        array.unlink()
    elif harm == "version":
        record.write_text(record.read_text().replace("frame 3", "frame 2"))
    elif harm == "changed":
        write_raw(raws[1], seed=9)
        os.utime(raws[1], ns=(1, 1))
    else:
        os.utime(raws[1], ns=(1, 1))
    assert store.missing(raws) == raws[1:2]
    with pytest.raises(ValueError, match=r"b\.dng: not in the cache .* build it"):
        store.frame(raws[1])
    assert store.build(raws) == []
    assert len(list(store.folder.iterdir())) == 6
    np.testing.assert_array_equal(store.frame(raws[1]).frame().mosaic, read_raw(raws[1]).mosaic)


def test_a_data_set_may_be_moved_with_its_cache(tmp_path: Path) -> None:
    write_raw(tmp_path / "old" / "x" / "a.dng")
    FrameCache.beside(tmp_path / "old").build([tmp_path / "old" / "x" / "a.dng"])
    (tmp_path / "old").rename(tmp_path / "new")
    moved = tmp_path / "new" / "x" / "a.dng"
    assert FrameCache(tmp_path / "new" / FOLDER).frame(moved).source == str(moved)


def test_frames_that_vanish_are_named(store: FrameCache, raws: list[Path]) -> None:
    store.build(raws[:1])
    frame = store.frame(raws[0])
    frame.array.unlink()
    with pytest.raises(ValueError, match=r"a\.dng-.*npy: damaged or gone .*; start again, it is then made anew"):
        frame.planes()


def test_where_the_data_set_cannot_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert FrameCache.beside(tmp_path).folder == tmp_path / FOLDER
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    first, second = (FrameCache.beside(tmp_path / name / "SID").folder for name in "ab")
    assert first.parent == tmp_path / "xdg" / "exposurediffusion"
    assert first.name.startswith("SID-")
    assert first != second


def test_unreadable_files_are_told_and_the_others_done_in_parallel(
    store: FrameCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FEW", 3)
    paths = [tmp_path / f"{n}.dng" for n in range(7)]
    for path in paths:
        write_raw(path, seed=int(path.stem))
    paths[0].write_bytes(b"no raw")
    paths[3].write_bytes(paths[3].read_bytes()[:-3000])
    paths[5].unlink()
    problems = store.build(paths, workers=2)
    assert sorted(Path(problem.split(": ")[0]).name for problem in problems) == ["0.dng", "3.dng", "5.dng"]
    assert any("5.dng: cannot be read (No such file or directory)" in problem for problem in problems)
    for path in (paths[n] for n in (1, 2, 4, 6)):
        np.testing.assert_array_equal(store.frame(path).frame().mosaic, read_raw(path).mosaic)
    assert len(list(store.folder.iterdir())) == 8


def test_too_small_a_disk_is_noticed_before_the_work(
    store: FrameCache, raws: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: SIZED(module._SPARE + 11_000))
    read = counted(monkeypatch)
    with pytest.raises(ValueError, match=r"cache: 2 more frames need about 0\.0 MB, and 0\.0 MB are free; free some"):
        store.build(raws)
    assert read == ["a.dng"]  # from which the size is known
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: SIZED(module._SPARE + 12_000))
    assert store.build(raws) == []


@pytest.mark.parametrize("where", ["npy", "json"])
def test_a_disk_that_fills_up_leaves_no_half_frame(
    where: str, store: FrameCache, raws: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    atomic = module.atomic

    @contextmanager
    def full(path: Path) -> Iterator[object]:
        with atomic(path) as stream:
            yield stream
            if path.name.startswith("b.dng") and path.suffix == f".{where}":
                raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "atomic", full)
    with pytest.raises(ValueError, match=r"cannot write .*b\.dng.*No space left on device; free some space there, or"):
        store.build(raws)
    monkeypatch.setattr(module, "atomic", atomic)
    assert not [path for path in store.folder.iterdir() if path.suffix == ".part"]
    assert store.missing(raws) == raws[1:]
    assert store.build(raws) == []


def test_a_decoder_that_dies_is_reported(
    store: FrameCache, raws: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Dying:
        def __init__(self, *_: object) -> None: ...

        def submit(self, *_: object) -> Future[None]:
            future: Future[None] = Future()
            future.set_exception(BrokenProcessPool())
            return future

        def shutdown(self, cancel_futures: bool) -> None:
            assert cancel_futures

    write_raw(tmp_path / "d.dng", RGGB)
    write_raw(tmp_path / "e.dng", RGGB)
    monkeypatch.setattr(module, "ProcessPoolExecutor", Dying)
    monkeypatch.setattr(module, "_FEW", 3)
    with pytest.raises(ValueError, match=r"a process that decodes raw files has died.*with one worker to see"):
        store.build([*raws, tmp_path / "d.dng", tmp_path / "e.dng"], workers=2)
    assert store.missing(raws) == raws[1:]


def test_a_changed_byte_of_the_planes_is_noticed_and_made_anew(store: FrameCache, raws: list[Path]) -> None:
    store.build(raws)
    for place in (20, 200, -1):
        array = next(store.folder.glob("b.dng-*.npy"))
        content = bytearray(array.read_bytes())
        content[place] ^= 1
        array.write_bytes(content)
        with pytest.raises(ValueError, match=r"npy: damaged or gone .*made anew"):
            store.frame(raws[1]).planes()
        assert store.missing(raws) == raws[1:2]
        assert store.build(raws) == []
    np.testing.assert_array_equal(store.frame(raws[1]).frame().mosaic, read_raw(raws[1]).mosaic)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("shape", [40, "48"]),
        ("shape", [1 << 40, 48]),
        ("shape", 40),
        ("white_level", None),
        ("white_level", 1e300),
        ("black_level", [1, 2]),
        ("black_level", "512"),
        ("cfa", ["RGGB"]),
        ("cfa", {"name": "RGGB", "origin": [0, 0.5]}),
        ("metadata", {"iso": "100"}),
        ("metadata", {"colour": 3}),
        ("checksum", "7"),
    ],
)
def test_a_record_of_another_kind_is_made_anew(field: str, value: Any, store: FrameCache, raws: list[Path]) -> None:
    store.build(raws[:1])
    record = next(store.folder.glob("a.dng-*.json"))
    record.write_text(json.dumps(json.loads(record.read_text()) | {field: value}))
    with pytest.raises(ValueError, match=r"a\.dng: not in the cache"):
        store.frame(raws[0])


def test_larger_files_are_refused_by_name(store: FrameCache, raws: list[Path]) -> None:
    problems = replace(store, max_megapixels=1e-3).build(raws)
    assert len(problems) == 3
    assert all("--max-megapixels" in problem for problem in problems)

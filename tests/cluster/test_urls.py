"""Files at URLs: those of fsspec's own memory, and of schemes that cannot be served here."""

import sys

import fsspec
import pytest

from exposurediffusion.cluster.leftovers import sweep
from exposurediffusion.cluster.urls import fetch, find, listed, put


@pytest.fixture
def album():
    """Raws, results, hidden files and others in memory."""
    memory = fsspec.filesystem("memory")
    for name in ("b.ARW", "a.dng", "sub/c.NEF", ".hidden/d.dng", ".e.dng", "f-enhanced.dng", "g.txt"):
        memory.pipe_file(f"/album/{name}", name.encode())
    yield "memory:///album"
    memory.rm("/album", recursive=True)


def test_a_folder_stands_for_its_raws(album):
    assert list(find(album, recursive=False)) == [f"{album}/a.dng", f"{album}/b.ARW"]
    assert find(album, recursive=True) == dict.fromkeys(
        (f"{album}/{n}" for n in ("a.dng", "b.ARW", "sub/c.NEF")), album
    )


def test_a_glob_and_a_file(album):
    assert find(f"{album}/*.ARW", recursive=False) == {f"{album}/b.ARW": album}
    assert find(f"{album}/**/*.NEF", recursive=False) == {f"{album}/sub/c.NEF": album}
    assert find(f"{album}/g.txt", recursive=False) == {f"{album}/g.txt": album}  # named: whatever it is


def test_there_and_back(album, tmp_path):
    fetch(f"{album}/a.dng", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"a.dng"
    put(tmp_path / "a", f"{album}/new/x.dng")
    put(tmp_path / "a", f"{album}/g.txt")
    assert fsspec.filesystem("memory").cat("/album/new/x.dng") == b"a.dng"
    assert listed(f"{album}/new") == {f"{album}/new/x.dng"}
    assert listed(f"{album}/none") == set()


def test_nothing_is_half_written(album, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError("the store went away")

    (tmp_path / "a").write_bytes(b"new")
    before = listed(album)
    monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.mv", fail)
    with pytest.raises(ValueError, match=r"album/a\.dng: the store went away"):
        put(tmp_path / "a", f"{album}/a.dng")
    assert listed(album) == before
    assert fsspec.filesystem("memory").cat("/album/a.dng") == b"a.dng"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("nope://a/b", "nope://a/b: Protocol not known: nope; give a path, or a URL of a scheme"),
        ("memory:///none", "memory:///none: no raw files there .--recursive"),
    ],
)
def test_what_cannot_be_found_is_told(url, told):
    with pytest.raises(ValueError, match=told):
        find(url, recursive=False)


def test_a_scheme_without_its_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(ValueError, match=r"s3://bucket/x: a library is missing here: .*s3fs"):
        find("s3://bucket/x", recursive=False)


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_leftovers_of_results_are_swept_and_nothing_else(where, tmp_path):
    output = "memory:///swept" if where == "memory" else str(tmp_path)
    kept = ["a.dng", ".b.dng.0123abcd.part", ".a.dng.part", "a.dng.0123abcd.part"]
    system, folder = fsspec.core.url_to_fs(output)
    for name in (*kept, ".a.dng.0123abcd.part"):
        system.pipe_file(f"{folder}/{name}", b"x")
    sweep(output, [output], {"a.dng"})
    assert sorted(each.rpartition("/")[2] for each in system.find(folder)) == sorted(kept)

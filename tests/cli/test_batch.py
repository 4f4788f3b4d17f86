"""`expose batch`: what stops it in one line, what it leaves alone, and one batch on this machine."""

import json
import socket
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("ray")

from exposurediffusion.cli.main import main
from exposurediffusion.cli.photographs import batches
from exposurediffusion.cluster.crew import Crew
from exposurediffusion.dng.writer import write_dng
from tests.frames import capture


@pytest.fixture
def album(tmp_path):
    """Three captures, one of them in a subfolder."""
    for place in ("a.dng", "b.dng", "sub/c.dng"):
        (tmp_path / "in" / place).parent.mkdir(parents=True, exist_ok=True)
        write_dng(tmp_path / "in" / place, capture(rows=16, columns=20))
    return tmp_path / "in"


@pytest.fixture
def batch(tiny_weights, capsys):
    """`expose batch`: its exit code, and what it wrote to stdout and stderr."""

    def run(*words):
        code = main(["batch", *map(str, words), "--weights", str(tiny_weights)])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def instead(monkeypatch):
    """In the place of a cluster: each photograph is done at once, without a word on its pixels."""
    asked = []

    class Instead(Crew):
        def __init__(self, work, device, workers, note):
            pass

        def members(self):
            return Counter(here=1)

        def ratios(self, items):
            yield from [20.0, None, 80.0, 90.0][: len(list(items))]

        def enhance(self, items, ratio):
            for item in items:
                asked.append((item.source.rpartition("/")[2], ratio))
                fields = {"machine": "here", "seconds": 0.1}
                if "bad" in item.source:
                    yield item, {"error": f"{item.source}: damaged", **fields}
                else:
                    Path(item.target).parent.mkdir(exist_ok=True)
                    Path(item.target).write_text("done")
                    yield item, {"output": item.target, **fields}

    @contextmanager
    def connected(address):
        yield

    monkeypatch.setattr(batches, "Crew", Instead)
    monkeypatch.setattr(batches, "connected", connected)
    return asked


def refused(batch, *words):
    """What it complains of; it does not begin."""
    code, out, err = batch(*words)
    *notes, last = err.splitlines()
    assert (code, out) == (2, "")
    assert all(not note.startswith("expose:") for note in notes)
    return last


def test_what_cannot_be_is_told_in_one_line(batch, album, tmp_path):
    out = tmp_path / "out"
    assert "s3://b/x" not in refused(batch, album, "-o", "s3://b/x")
    assert "need --journal FILE" in refused(batch, album, "-o", "s3://b/x")
    assert "--workers is at least 1" in refused(batch, album, "-o", out, "--workers", 0)
    assert "neither HOST:PORT nor auto" in refused(batch, album, "-o", out, "--address", "nonsense")
    assert "its result would replace it" in refused(batch, album, "-o", album)
    assert "no input" in refused(batch, "-o", out)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    told = refused(batch, album, "-o", out, "--address", f"127.0.0.1:{port}")
    assert "no cluster answers, Connection refused; `ray start --head` begins one" in told
    assert not list(out.iterdir())  # nothing is begun


def test_a_scheme_without_its_library(batch, album, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    told = refused(batch, album, "-o", "s3://bucket/x", "--journal", tmp_path / "j.jsonl")
    assert "s3://bucket/x: a library is missing here" in told
    assert "s3fs" in told


def test_without_the_extra(batch, album, monkeypatch):
    monkeypatch.setitem(sys.modules, "exposurediffusion.cli.photographs.batches", None)
    monkeypatch.delitem(sys.modules, "exposurediffusion.cli.photographs.batches")
    monkeypatch.delitem(sys.modules, "exposurediffusion.cluster.crew")
    monkeypatch.setitem(sys.modules, "ray", None)
    assert "pip install 'exposurediffusion[cluster]'" in refused(batch, album, "-o", "out")


def test_results_that_no_journal_knows_are_left_alone(batch, album, tmp_path, instead):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "b.dng").write_text("not ours")
    told = refused(batch, album, "-o", tmp_path / "out")
    assert "1 of the results are there already, such as" in told
    assert "--overwrite replaces them" in told
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.dng"]
    assert (tmp_path / "out" / "b.dng").read_text() == "not ours"
    assert batch(album, "-o", tmp_path / "out", "--overwrite")[0] == 0
    assert (tmp_path / "out" / "b.dng").read_text() == "done"


def test_it_goes_on_where_it_stopped(batch, album, tmp_path, instead):
    out, journal = tmp_path / "out", tmp_path / "out" / "batch.jsonl"
    code, told, _ = batch(album, "-o", out)
    assert (code, told.split(";")[0]) == (0, "2 done, 0 done before, 0 failed")
    (album / "bad.dng").write_text("x")
    code, told, said = batch(album, "-o", out)
    assert (code, told.split(";")[0]) == (1, "0 done, 2 done before, 1 failed")
    assert f"expose: {album / 'bad.dng'}: damaged" in said
    *whole, _ = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(whole) + b'{"inp')  # killed between the result and its line
    code, told, _ = batch(album, "-o", out, "--json")
    assert json.loads(told).items() >= {"done": 0, "before": 2, "failed": 1, "journal": str(journal)}.items()
    assert [name for name, _ in instead] == ["a.dng", "b.dng", "bad.dng", "bad.dng"]
    batch(album, "-o", out, "--retry")
    batch(album, "-o", out)
    assert len(instead) == 5
    assert "options (ratio auto there, 50.0 here)" in refused(batch, album, "-o", out, "--ratio", 50)
    assert batch(album, "-o", out, "--ratio", 50, "--overwrite")[1].startswith("2 done, 0 done before, 1 failed")
    assert instead[-1][1] is None  # a ratio that was given is among the options


def test_one_ratio_for_all_is_chosen_once(batch, album, tmp_path, instead):
    words = (album, "-o", tmp_path / "out", "--ratio", "same", "--recursive", "--quiet")
    batch(*words)
    assert [ratio for _, ratio in instead] == [80.0] * 3
    write_dng(album / "d.dng", capture(rows=16, columns=20))
    batch(*words)
    assert instead[3:] == [("d.dng", 80.0)]


def test_leftovers_of_workers_that_were_killed_are_taken_away(batch, album, tmp_path, instead):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".a.dng.0123abcd.part").write_text("half")
    batch(album, "-o", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.dng", "b.dng", "batch.jsonl"]


def test_what_is_not_there_is_told_and_the_others_are_done(batch, album, tmp_path, instead):
    globbed = album / "*.dng"
    code, told, said = batch(globbed, tmp_path / "none.dng", "memory:///none", "-o", tmp_path / "out")
    assert (code, told.split(";")[0]) == (1, "2 done, 0 done before, 2 failed")
    assert "none.dng: no such file" in said
    assert "memory:///none: no raw files there" in said


def test_other_contents_under_the_same_name_are_other_options(batch, album, tmp_path, instead):
    dark = album / "sub" / "c.dng"
    words = (album, "-o", tmp_path / "out", "--dark", dark)
    assert batch(*words)[0] == batch(*words)[0] == 0
    write_dng(dark, capture(rows=16, columns=20, ratio=90.0))
    assert "dark" in refused(batch, *words)


@pytest.mark.cluster
def test_on_this_machine_it_makes_what_enhance_makes(album, tiny_weights, tmp_path):
    (album / "bad.dng").write_text("x")
    common = ["--recursive", "--ratio", "50", "--format", "tiff", "--weights", str(tiny_weights)]
    words = [str(album), "-o", f"file://{tmp_path}/batch", "--journal", str(tmp_path / "j.jsonl"), "--workers", "1"]
    command = [sys.executable, "-m", "exposurediffusion", "batch", *words, *common]
    said = subprocess.run(command, capture_output=True, text=True)
    assert said.returncode == 1, said
    assert main(["enhance", str(album), "-o", str(tmp_path / "enhance"), *common]) == 1
    results = [
        {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")}
        for folder in (tmp_path / "batch", tmp_path / "enhance")
    ]
    assert results[0] == results[1]
    assert sorted(results[0]) == ["a.tif", "b.tif", "sub/c.tif"]
    first, second = said.stderr.splitlines()  # and nothing of Ray's
    assert first == "4 to do; workers are being started"
    assert second.startswith(f"expose: {album / 'bad.dng'}: ")

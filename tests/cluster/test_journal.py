"""A journal loses nothing that it was told, and takes in nothing that is not whole."""

import json

import pytest

from exposurediffusion.cluster.journal import Journal
from exposurediffusion.files.made import MadeOtherwise

SETTINGS = {"ratio": 50.0, "black": (1, 2)}


@pytest.fixture
def path(tmp_path):
    """A journal of two photographs, one of which failed."""
    with Journal.opened(tmp_path / "batch.jsonl", SETTINGS) as journal:
        journal.begin()
        journal.end("a.dng", output="out/a.dng", seconds=1.5)
        journal.end("ü\udcff.dng", "damaged")  # a name may hold bytes that are no text
    return tmp_path / "batch.jsonl"


def finished(path, settings=SETTINGS, **options):
    with Journal.opened(path, settings, **options) as journal:
        return journal.finished


def test_what_was_told_is_there_when_it_is_opened_again(path):
    assert finished(path) == {"a.dng": "", "ü\udcff.dng": "damaged"}
    first, done, failed = map(json.loads, path.read_bytes().splitlines())
    assert first == {"settings": {"ratio": 50.0, "black": [1, 2]}}
    assert done == {"input": "a.dng", "state": "done", "output": "out/a.dng", "seconds": 1.5}
    assert failed["state"] == "failed"


def test_wherever_it_is_torn_it_goes_on_with_what_is_whole(path, tmp_path):
    content = path.read_bytes()
    starts = [0] + [place + 1 for place, byte in enumerate(content) if byte == ord("\n")]
    for end in {*range(0, len(content), 20), *(start + shift for start in starts[:-1] for shift in (0, 1))}:
        path.write_bytes(content[:end])
        with Journal.opened(path, SETTINGS) as journal:
            journal.begin()
            assert len(journal.finished) == max(0, sum(start <= end for start in starts) - 2)
            journal.end("b.dng")
        assert list(finished(path))[-1] == "b.dng"


def test_each_line_is_on_disk_before_anything_else_goes_on(path, monkeypatch):
    synced = []
    monkeypatch.setattr("os.fsync", lambda number: synced.append(path.read_bytes()))
    with Journal.opened(path, SETTINGS) as journal:
        journal.end("b.dng")
    assert b"b.dng" in synced[0]


def test_a_photograph_that_was_done_once_more_is_as_it_ended_last(path):
    with Journal.opened(path, SETTINGS) as journal:
        journal.end("ü\udcff.dng")
    assert finished(path) == {"a.dng": "", "ü\udcff.dng": ""}


def test_the_ratio_of_all_is_kept(path):
    with Journal.opened(path, SETTINGS) as journal:
        journal.share(57.25)
    with Journal.opened(path, SETTINGS) as journal:
        assert journal.ratio == 57.25
        assert len(journal.finished) == 2


def test_other_settings_are_refused_and_named_or_begun_anew(path):
    other = {**SETTINGS, "ratio": 100.0}
    with pytest.raises(MadeOtherwise, match=r"ratio 50\.0 there, 100\.0 here.*--overwrite to begin anew"):
        finished(path, other)
    assert len(finished(path)) == 2
    assert finished(path, SETTINGS, anew=True) != {}  # the same are gone on with
    assert finished(path, other, anew=True) == {}


def test_one_that_never_began_is_not_left_behind(tmp_path):
    finished(tmp_path / "x.jsonl")
    assert not list(tmp_path.iterdir())


def test_two_cannot_write_it(path):
    with Journal.opened(path, SETTINGS), pytest.raises(ValueError, match="another `expose batch` is at work"):
        finished(path)
    assert len(finished(path)) == 2


@pytest.mark.parametrize("content", [b"a photograph", b'{"results": []}', b"\n\n"])
def test_another_file_is_left_as_it_is(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(ValueError, match="no journal of `expose batch`; name another"):
        finished(tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == content


@pytest.mark.parametrize("line", [b"{\n", b"[]\n", b'"x"\n', b'{"input": []}\n', b"\xff\n"])
def test_damage_in_the_middle_is_told_by_its_line(path, line):
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], line, *lines[2:]]))
    with pytest.raises(ValueError, match="line 3 is damaged"):
        finished(path)


def test_where_nothing_can_be_written(tmp_path):
    with pytest.raises(ValueError, match=r"x\.jsonl: No such file or directory; .*--journal"):
        finished(tmp_path / "none" / "x.jsonl")

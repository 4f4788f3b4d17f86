"""A worker does what the command does, to the byte, wherever the files are."""

from dataclasses import replace

import fsspec
import pytest
import torch

from exposurediffusion.cluster.items import Item
from exposurediffusion.cluster.worker import Work, Worker, versions
from exposurediffusion.enhancement.options import EnhanceOptions
from exposurediffusion.photographs.enhancer import Enhancer
from exposurediffusion.photographs.outputs import ResultOptions
from exposurediffusion.photographs.photograph import Job


@pytest.fixture
def work(tiny_model):
    options = EnhanceOptions(steps=1, samples=2, exposure="auto")
    return Work(Enhancer(tiny_model, options, ResultOptions(overwrite=True)), "dng", versions(), ())


@pytest.fixture
def worker(work):
    begun = Worker()
    begun.begin(work, "cpu", torch.get_num_threads())
    return begun


@pytest.fixture
def ours(work, dark_dng, tmp_path):
    """The result and the map of the recipe itself, by their ends."""
    job = Job(dark_dng, tmp_path / "ours" / "x.dng", "dng", ("spread",))
    work.enhancer(job)
    return {path.name.removeprefix("x"): path.read_bytes() for path in job.target.parent.iterdir()}


def test_on_disk(worker, ours, dark_dng, tmp_path):
    fields = worker.enhance(Item(str(dark_dng), str(tmp_path / "new" / "x.dng")), None)
    assert fields["output"] == str(tmp_path / "new" / "x.dng")
    assert (fields["steps"], "error" in fields) == (1, False)
    assert {path.name.removeprefix("x"): path.read_bytes() for path in (tmp_path / "new").iterdir()} == ours


def test_at_urls(worker, ours, dark_dng, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    memory = fsspec.filesystem("memory")
    memory.pipe_file(f"/cards/{dark_dng.name}", dark_dng.read_bytes())
    fields = worker.enhance(Item(f"memory:///cards/{dark_dng.name}", "memory:///clean/sub/x.dng"), None)
    assert fields["output"] == "memory:///clean/sub/x.dng"
    assert {path.removeprefix("/clean/sub/x"): memory.cat(path) for path in memory.find("/clean")} == ours
    assert [path.name for path in tmp_path.iterdir()] == ["ours"]  # nothing stays on the way


def test_one_ratio_for_all(worker, work, dark_dng, tmp_path):
    item = Item(str(dark_dng), str(tmp_path / "x.dng"))
    alone = worker.ratio(item)
    assert worker.enhance(item, None)["ratio"] == alone
    assert worker.enhance(item, 2 * alone)["ratio"] == 2 * alone


def test_what_goes_wrong_is_told_by_the_names_that_the_user_gave(worker, dark_dng, tmp_path):
    fsspec.filesystem("memory").pipe_file("/cards/bad.dng", b"this is no raw file")
    for source, told in (("/none/x.dng", "No such file"), ("memory:///cards/bad.dng", "bad.dng: damaged or truncated")):
        error = worker.enhance(Item(source, str(tmp_path / "x.dng")), None)["error"]
        assert error.startswith(f"{source}: ")
        assert told in error
        assert "\n" not in error
        assert worker.ratio(Item(source, "")) is None
    error = worker.enhance(Item(str(dark_dng), str(dark_dng)), None)["error"]
    assert "it is the input" in error


def test_a_machine_that_cannot_serve_says_why(work, tmp_path):
    with pytest.raises(ValueError, match=r"not exposurediffusion 9.* install the same on all machines"):
        Worker().begin(replace(work, versions="exposurediffusion 9"), "cpu", 1)
    with pytest.raises(ValueError, match=r"does not see .*/none: name a folder that all machines share, or a URL"):
        Worker().begin(replace(work, folders=(str(tmp_path), str(tmp_path / "none"))), "cpu", 1)

"""The log of a run: lines for machines, pictures, tensorboard; and what a resumed run forgets."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from exposurediffusion.training.log import RunLog, read_log


def iterations(folder: Path) -> list[int]:
    return [json.loads(line)["iteration"] for line in (folder / "log.jsonl").read_text().splitlines()]


def filled(folder: Path) -> Path:
    with RunLog(folder, 0, tensorboard=False) as log:
        for iteration in (100, 200, 300):
            log.write("training", iteration, loss=1 / iteration, lr=1e-4)
        log.write("validation", 300, psnr_x100=30.0)
    return folder


def test_lines_are_read_back_by_kind(tmp_path: Path) -> None:
    filled(tmp_path / "new")
    training = read_log(tmp_path / "new", "training")
    assert [entry["iteration"] for entry in training] == [100, 200, 300]
    assert training[1] == {"kind": "training", "iteration": 200, "loss": 1 / 200, "lr": 1e-4}
    assert read_log(tmp_path / "new", "validation") == [{"kind": "validation", "iteration": 300, "psnr_x100": 30.0}]


def test_a_line_is_on_the_disk_as_soon_as_it_is_written(tmp_path: Path) -> None:
    with RunLog(tmp_path, 0, tensorboard=False) as log:
        log.write("training", 1, loss=1.0)
        assert iterations(tmp_path) == [1]


@pytest.mark.parametrize(("iteration", "kept"), [(0, []), (150, [100]), (200, [100, 200]), (300, [100, 200, 300, 300])])
def test_what_came_after_the_checkpoint_is_forgotten(iteration: int, kept: list[int], tmp_path: Path) -> None:
    with RunLog(filled(tmp_path), iteration, tensorboard=False) as log:
        assert iterations(tmp_path) == kept
        log.write("training", 400, loss=1.0)
    assert iterations(tmp_path) == [*kept, 400]


def test_a_torn_last_line_goes(tmp_path: Path) -> None:
    """A machine that lost its power while a line was written."""
    with (filled(tmp_path) / "log.jsonl").open("a") as file:
        file.write('{"kind": "training", "itera')
    with RunLog(tmp_path, 300, tensorboard=False) as log:
        log.write("training", 400, loss=1.0)
    assert iterations(tmp_path) == [100, 200, 300, 300, 400]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.jsonl"]


def test_damaged_lines_go(tmp_path: Path) -> None:
    wrong = [
        b"\xff}",
        b"{}",
        b"[1]",
        b'{"kind": "training"}',
        b'{"kind": "training", "iteration": "many"}',
        b'{"kind": "training", "iterapion": 300, "loss": 0.1}',
        b'{"kind": "training", "iteration": 250, "loss": "low"}',
        b'{"kind": "training", "iteration": 250, "loss": NaN}',
        b'{"kind": "training", "iteration": 250, "loss": ' + b"9" * 400 + b"}",
        b"[" * 70_000,
    ]
    with (filled(tmp_path) / "log.jsonl").open("ab") as file:
        file.write(b"\n".join(wrong) + b"\n")
    assert [entry["iteration"] for entry in read_log(tmp_path, "training")] == [100, 200, 300]
    with RunLog(tmp_path, 300, tensorboard=False):
        assert iterations(tmp_path) == [100, 200, 300, 300]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_ends_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with RunLog(tmp_path, 0, tensorboard=False) as log:
        log.write("training", 100, loss=1.0)
        log._file.close()
        log._file = Path("/dev/full").open("a")  # noqa: SIM115 - the log closes it
        log.write("training", 200, loss=1.0)
        monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        log.picture("x100", 200, np.zeros((4, 4, 3), np.uint8))
    assert iterations(tmp_path) == [100]
    assert not list((tmp_path / "validation").iterdir())


def test_pictures_say_their_iteration(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    with RunLog(tmp_path, 0, tensorboard=False) as log:
        log.picture("x100", 2000, pixels)
    with Image.open(tmp_path / "validation" / "0002000-x100.png") as image:
        assert np.array_equal(np.asarray(image), pixels)


def test_tensorboard_has_the_same_figures_without_those_forgotten(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for begin, values in ((0, (100, 200, 300)), (200, (300, 400))):
        with RunLog(tmp_path, begin) as log:
            for iteration in values:
                log.write("training", iteration, loss=iteration + begin)
            log.picture("x100", values[-1], np.zeros((4, 4, 3), np.uint8))
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    found = {event.step: event.value for event in events.Scalars("training/loss")}
    assert found == {100: 100, 200: 200, 300: 500, 400: 600}
    assert "x100" in events.Tags()["images"]


def test_without_tensorboard_the_log_is_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    with RunLog(tmp_path, 0) as log:
        log.write("training", 1, loss=1.0)
        log.picture("x100", 1, np.zeros((4, 4, 3), np.uint8))
    assert iterations(tmp_path) == [1]
    assert not (tmp_path / "tensorboard").exists()

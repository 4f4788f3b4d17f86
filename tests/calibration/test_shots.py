"""What is found of a calibration's frames, and what is said of files that do not tell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from exposurediffusion.calibration.shots import find_shots
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.physics.sensor import Sensor
from tests.trees import write_raw

SENSOR = Sensor.uniform(CFA("GBRG"), 64, 4095)


@pytest.fixture
def mosaics(tmp_path: Path) -> Path:
    (tmp_path / "more").mkdir()
    for name in ("a.tif", "more/b.TIFF"):
        tifffile.imwrite(tmp_path / name, np.full((8, 10), 70, np.uint16))
    (tmp_path / "list.csv").write_text("file,iso,shutter\na.tif,200,1/50\nmore/b.TIFF,400,0.5\nc.tif,400,\n")
    return tmp_path


def test_raw_files_say_their_settings(tmp_path: Path) -> None:
    write_raw(tmp_path / "a.dng", iso=400, shutter=0.5)
    write_raw(tmp_path / "deeper" / "b.dng", iso=None)
    told: list[str] = []
    shots = find_shots(tmp_path, told.append)
    assert [(shot.path.name, shot.iso, shot.shutter, shot.camera) for shot in shots] == [
        ("a.dng", 400, 0.5, "SONY ILCE-7SM2")
    ]
    assert len(told) == 1
    assert "b.dng: says no ISO: give --list" in told[0]
    assert find_shots(tmp_path, told.append, iso=800)[1].iso == 800


def test_mosaics_are_taken_by_a_list(mosaics: Path) -> None:
    told: list[str] = []
    shots = find_shots(mosaics, told.append, SENSOR, mosaics / "list.csv")
    assert [(shot.path.name, shot.iso, shot.shutter) for shot in shots] == [("a.tif", 200, 0.02), ("b.TIFF", 400, 0.5)]
    assert len(told) == 1
    assert "c.tif: is in" in told[0]
    assert shots[0].read().sensor == SENSOR
    tifffile.imwrite(mosaics / "a.tif", np.zeros((8, 10, 3), np.uint16))
    with pytest.raises(ValueError, match=r"a\.tif: no mosaic"):
        shots[0].read()
    (mosaics / "a.tif").write_bytes(b"II*\0")
    with pytest.raises(ValueError, match=r"a\.tif: cannot be read as a TIFF"):
        shots[0].read()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name,iso\n", "columns file,iso"),
        ("file,iso\na.tif,fast\n", r"line 2: could not convert"),
        ("file,iso\na.tif,-1\n", r"line 2: an ISO is a positive number"),
        ("file,iso,shutter\na.tif,100,1/0\n", r"line 2: .*exposure time"),
    ],
)
def test_lists_that_are_none(mosaics: Path, content: str, message: str) -> None:
    (mosaics / "bad.csv").write_text(content)
    with pytest.raises(ValueError, match=rf"bad\.csv: .*{message}"):
        find_shots(mosaics, print, SENSOR, mosaics / "bad.csv")


def test_folders_without_frames(tmp_path: Path, mosaics: Path) -> None:
    with pytest.raises(ValueError, match="no such folder"):
        find_shots(tmp_path / "nowhere", print)
    with pytest.raises(ValueError, match="say the colour filter array: --cfa"):
        find_shots(mosaics, print)

"""No site comes from memory: whatever tag of a lossless-JPEG DNG is lost, it is refused or read as it was."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from exposurediffusion.dng.writer import write_dng
from exposurediffusion.files.exif import read_tags
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.physics.sensor import Metadata, RawFrame, Sensor
from exposurediffusion.raw import read
from exposurediffusion.raw.read import RawError, read_raw
from tests.raw.test_read import noise

TAGS = [254, 256, 257, 258, 259, 262, 277, 322, 323, 324, 325, 330, 33421, 33422, 50717, 50829]


def lossless(path: Path) -> tuple[Path, np.ndarray]:
    mosaic = noise((272, 300))
    frame = RawFrame(mosaic, Sensor.uniform(CFA("RGGB"), 512, 16383), Metadata(make="Acme", model="One"))
    write_dng(path, frame, compression="lossless")
    return path, mosaic


def without(path: Path, tag: int) -> None:
    """Rename a tag in each directory that has it, so that nobody knows it."""
    data = bytearray(path.read_bytes())
    for start in _directories(bytes(data)):
        for at in range(start + 2, start + 2 + 12 * int.from_bytes(data[start : start + 2], "little"), 12):
            if int.from_bytes(data[at : at + 2], "little") == tag:
                data[at : at + 2] = (65000).to_bytes(2, "little")
    path.write_bytes(data)


def _directories(data: bytes) -> list[int]:
    found = [int.from_bytes(data[4:8], "little")]
    first = found[0]
    for at in range(first + 2, first + 2 + 12 * int.from_bytes(data[first : first + 2], "little"), 12):
        if int.from_bytes(data[at : at + 2], "little") == 330:
            found.append(int.from_bytes(data[at + 8 : at + 12], "little"))
    return found


def outcome(path: Path) -> bytes | None:
    try:
        return read_raw(path).mosaic.tobytes()
    except RawError:
        return None


@pytest.mark.skipif(sys.platform != "linux", reason="memory can be filled with glibc only")
@pytest.mark.parametrize("tag", TAGS)
def test_a_lost_tag_brings_no_memory_into_the_picture(tmp_path: Path, tag: int) -> None:
    path, mosaic = lossless(tmp_path / "a.dng")
    without(path, tag)
    assert outcome(path) in (None, mosaic.tobytes())


@pytest.mark.skipif(sys.platform != "linux", reason="memory can be filled with glibc only")
def test_what_the_decoder_does_not_write_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = lossless(tmp_path / "a.dng")
    data = bytearray(path.read_bytes())
    tile = int(read_tags(str(path)).raw[324].numbers[1])
    data[tile : tile + 2] = b"\0\0"  # it begins like no JPEG, and LibRaw leaves it out
    path.write_bytes(data)
    with pytest.raises(RawError, match="missing"):
        read_raw(path)
    monkeypatch.setattr(read, "check_tags", lambda name, tags: None)
    with pytest.raises(RawError, match=r"1\d,\d{3} of its sites are not in the file"):
        read_raw(path)


def test_values_like_the_filling_are_no_loss(tmp_path: Path) -> None:
    """Sites that happen to hold what memory is filled with are the file's own."""
    path = tmp_path / "a.dng"
    mosaic = noise((272, 300), 600, 65000)
    mosaic[::3, ::2], mosaic[1::3, ::2] = 0xB6B6, 0x6D6D
    write_dng(path, RawFrame(mosaic, Sensor.uniform(CFA("RGGB"), 512, 65535)), compression="lossless")
    np.testing.assert_array_equal(read_raw(path).mosaic, mosaic)

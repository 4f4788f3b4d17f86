"""Camera and date of raw files that are no TIFF: CRW and MRW."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from exposurediffusion.files.exif import FileTags, read_tags
from exposurediffusion.files.tiff import entry, text_entry, tiff_bytes

CAMERA = b"Canon\0Canon PowerShot G2\0"


def heap(records: list[tuple[int, bytes]], order: str) -> bytes:
    """Values, then their directory, then its offset."""
    values, table = b"", b""
    for kind, value in records:
        table += struct.pack(order + "HII", kind, len(value), len(values))
        values += value
    return values + struct.pack(order + "H", len(records)) + table + struct.pack(order + "I", len(values))


def crw(order: str = "<") -> bytes:
    inner = heap([(0x180E, struct.pack(order + "III", 1_642_666_404, 0, 0))], order)
    camera = heap([(0x080A, CAMERA)], order)
    mark = b"II" if order == "<" else b"MM"
    head = mark + struct.pack(order + "I", 26) + b"HEAPCCDR" + bytes(12)
    return head + heap([(0x2005, bytes(40)), (0x300A, heap([(0x2807, camera), (0x300B, inner)], order))], order)


@pytest.mark.parametrize("order", ["<", ">"])
def test_crw(tmp_path: Path, order: str) -> None:
    (tmp_path / "a.crw").write_bytes(crw(order))
    tags = read_tags(tmp_path / "a.crw")
    assert [tags.main[tag].text for tag in (271, 272, 306)] == ["Canon", "Canon PowerShot G2", "2022:01:20 08:13:24"]
    assert tags.exif[36867].text == "2022:01:20 08:13:24"


def test_damaged_crw_is_no_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    for _ in range(100):
        data = bytearray(crw())
        for at in rng.integers(0, len(data), 8):
            data[at] = rng.integers(256)
        (tmp_path / "a.crw").write_bytes(data[: rng.integers(1, len(data))])
        assert isinstance(read_tags(tmp_path / "a.crw"), FileTags)


def test_mrw(tmp_path: Path) -> None:
    tiff = tiff_bytes([{271: text_entry("Minolta"), 272: text_entry("A2")}, {34855: entry(3, 64)}], {34665: [1]}, [])
    blocks = b"\0PRD" + struct.pack(">I", 24) + bytes(24) + b"\0TTW" + struct.pack(">I", len(tiff)) + tiff
    (tmp_path / "a.mrw").write_bytes(b"\0MRM" + struct.pack(">I", len(blocks)) + blocks)
    tags = read_tags(tmp_path / "a.mrw")
    assert (tags.main[272].text, tags.exif[34855].numbers) == ("A2", (64,))

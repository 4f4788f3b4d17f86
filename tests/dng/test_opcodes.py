"""DNG's opcodes: bad pixels found, corrections that hold kept, gain maps as the specification has them."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from exposurediffusion.dng.opcodes import Opcode, apply_gain_maps, lasting, listed_defects, opcode_entry, read_opcodes
from exposurediffusion.dng.writer import write_dng
from exposurediffusion.files.exif import FileTags, read_tags
from exposurediffusion.files.tiff import LONG, Tags, entry
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.physics.sensor import RawFrame
from exposurediffusion.raw.read import read_raw
from exposurediffusion.rendering.render import render
from tests.raw.test_read import camera_file, noise

VERSION = 0x01030000
WARP = Opcode(1, VERSION, 1, struct.pack(">I8d", 1, 1, -0.08, 0.01, 0, 0, 0, 0.5, 0.25))
POINTS = Opcode(5, VERSION, 1, struct.pack(">11I", 0, 2, 1, 20, 30, 41, 9, 50, 60, 52, 61))
CONSTANT = Opcode(4, VERSION, 1, struct.pack(">2I", 0, 0))


def gain_map(site: tuple[int, int], table: np.ndarray, shape: tuple[int, int], origin: float = 0) -> Opcode:
    """Gains of one Bayer site, over the whole image."""
    points = [1 / (n - 1) for n in table.shape]
    area = struct.pack(">10I", *site, *shape, 0, 1, 2, 2, *table.shape)
    grid = struct.pack(">4dI", *points, origin, origin, 1)
    return Opcode(9, VERSION, 0, area + grid + table.astype(">f4").tobytes())


def lists(*numbered: tuple[int, Opcode]) -> Tags:
    """Opcode lists 1 to 3 by tag."""
    tags = {1: 51008, 2: 51009, 3: 51022}
    return {tag: opcode_entry([o for n, o in numbered if n == number]) for number, tag in tags.items()}


def tags_of(changes: Tags, shape: tuple[int, int]) -> FileTags:
    size = {256: entry(LONG, shape[1]), 257: entry(LONG, shape[0])}
    return FileTags(main={50706: entry(1, 1, 4, 0, 0)}, raw=size | changes)


def bilinear(table: np.ndarray, v: float, h: float) -> float:
    """The specification's interpolation, by itself: `table` spans the whole image."""
    rows, columns = (n - 1 for n in table.shape)
    along = [np.interp(h * columns, range(columns + 1), line) for line in table]
    return float(np.interp(v * rows, range(rows + 1), along))


def test_gain_of_each_site() -> None:
    table = np.random.default_rng(2).uniform(1, 3, (3, 4))
    values = np.full((30, 40), 0.2, np.float32)
    apply_gain_maps(values, lists((2, gain_map((1, 0), table, (30, 40)))))
    for row, column in ((1, 0), (13, 22), (29, 38)):
        gain = bilinear(table, (row + 0.5) / 30, (column + 0.5) / 40)
        assert values[row, column] == pytest.approx(0.2 * gain, rel=1e-5)
    assert (values[0::2] == 0.2).all()
    assert (values[:, 1::2] == 0.2).all()


def test_gain_stops_at_white() -> None:
    values = np.full((30, 40), 0.8, np.float32)
    apply_gain_maps(values, lists((2, gain_map((0, 0), np.full((2, 2), 2.0), (30, 40)))))
    assert values[0, 0] == 1


@pytest.mark.parametrize("area", [(0, 0, 96, 128), (5, 7, 90, 101), (4, 8, 90, 102)])
def test_what_holds_is_kept_in_our_dng(tmp_path: Path, area: tuple[int, int, int, int]) -> None:
    """The same gain falls on the same site, though LibRaw leaves out the first line of an odd active area."""
    rows, columns = area[2] - area[0], area[3] - area[1]
    table = np.random.default_rng(3).uniform(1, 3, (5, 5))
    asked = lists((1, CONSTANT), (2, gain_map((0, 1), table, (rows, columns))), (3, WARP))
    path = camera_file(tmp_path / "a.dng", noise((96, 128)), CFA("RGGB"), {50829: entry(LONG, *area)} | asked)
    frame = read_raw(path)
    written = write_dng(tmp_path / "b.dng", replace(frame, mosaic=frame.mosaic.astype(np.float32)))
    raw = read_tags(written).raw
    assert 51008 not in raw
    gains = np.ones(frame.shape, np.float32)
    gains *= 0.1
    apply_gain_maps(gains, lasting(read_tags(written), frame.shape))
    down, across = rows - frame.shape[0], columns - frame.shape[1]
    expected = np.full((rows, columns), 0.1)
    for row in range(0, rows, 2):
        for column in range(1, columns, 2):
            expected[row, column] *= bilinear(table, (row + 0.5) / rows, (column + 0.5) / columns)
    np.testing.assert_allclose(gains, expected[down:, across:], rtol=1e-4)
    centre = struct.unpack(">2d", read_opcodes(raw[51022])[0].data[-16:])
    assert centre[0] * frame.shape[1] + across == pytest.approx(0.5 * columns)
    assert centre[1] * frame.shape[0] + down == pytest.approx(0.25 * rows)


def test_nothing_holds_for_another_geometry() -> None:
    tags = tags_of(lists((2, gain_map((0, 0), np.ones((2, 2)), (96, 128))), (3, WARP)), (96, 128))
    assert set(lasting(tags, (96, 128))) == {51009, 51022}
    assert lasting(tags, (94, 128)) == {}
    assert lasting(replace(tags, main={}), (96, 128)) == {}


def test_listed_defects_become_the_frames(tmp_path: Path) -> None:
    mosaic = noise((96, 128))
    mosaic[70, 80] = mosaic[3, 3] = 0
    area = {50829: entry(LONG, 8, 10, 96, 128)}
    path = camera_file(tmp_path / "a.dng", mosaic, CFA("RGGB"), area | lists((1, POINTS), (1, CONSTANT), (1, WARP)))
    frame = read_raw(path)
    assert frame.defects is not None
    assert [tuple(d) for d in frame.defects] == [(12, 20), (42, 50), (43, 50), (62, 70)]  # one lies in the margin
    assert any("WarpRectilinear" in note and "left out" in note for note in frame.notes)
    assert read_raw(camera_file(tmp_path / "b.dng", mosaic, CFA("RGGB"), area)).defects is None


def test_hostile_lists_are_harmless() -> None:
    rng = np.random.default_rng(6)
    sound = opcode_entry([POINTS, CONSTANT, gain_map((0, 0), np.ones((2, 2)), (9, 9)), WARP]).data
    stored = np.zeros((40, 50), np.uint16)
    for _ in range(80):
        data = bytearray(sound)
        for at in rng.integers(0, len(data), 6):
            data[at] = rng.choice([0, 1, 255])
        broken = {tag: replace(opcode_entry([]), data=bytes(data)) for tag in (51008, 51009, 51022)}
        tags = tags_of(broken | {50829: entry(LONG, 1, 1, 40, 50)}, (40, 50))
        listed_defects(tags, stored, (1, 1), (39, 49))
        apply_gain_maps(np.zeros((38, 48), np.float32), lasting(tags, (38, 48)))


def test_pictures_are_evened_and_say_what_they_are_not(tmp_path: Path) -> None:
    table = np.ones((3, 3))
    table[0, 0] = 3
    maps = [(2, gain_map((i, j), table, (96, 128))) for i in (0, 1) for j in (0, 1)]
    flat = np.full((96, 128), 2000, np.uint16)
    plain = read_raw(camera_file(tmp_path / "a.dng", flat, CFA("RGGB")))
    frame: RawFrame = read_raw(camera_file(tmp_path / "b.dng", flat, CFA("RGGB"), lists(*maps, (3, WARP))))
    assert any("WarpRectilinear" in note and "not applied" in note for note in frame.notes)
    assert not plain.notes
    for quick in (False, True):
        before, after = (render(f, quick=quick).rgb8.astype(int) for f in (plain, frame))
        assert (after - before)[2, 2].min() > 30
        np.testing.assert_allclose(after[-3, -3], before[-3, -3], atol=1)

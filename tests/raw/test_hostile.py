"""Files that are made to do harm, or damaged as if: refused before memory is taken, and no site is not the file's."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import rawpy

from exposurediffusion.dng.writer import dng_chunks
from exposurediffusion.files.exif import read_tags
from exposurediffusion.files.tiff import (
    DOUBLE,
    LONG,
    SHORT,
    SRATIONAL,
    Budget,
    Entry,
    Tags,
    TooMuch,
    entry,
    ifd_bytes,
    read_header,
    read_ifd,
    tiff_bytes,
)
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.physics.sensor import Metadata, RawFrame, Sensor
from exposurediffusion.raw.read import RawError, read_metadata, read_raw

MOSAIC = np.random.default_rng(7).integers(600, 9000, (256, 256), dtype=np.uint16)
TILE = (64, 64)
NOTHING: Tags = {}


def tiles(tile: tuple[int, int], components: int) -> list[bytes]:
    """The mosaic in tiles of lossless JPEG, neighbours as components."""
    rows, columns = tile
    cut = (MOSAIC[y : y + rows, x : x + columns] for y in range(0, 256, rows) for x in range(0, 256, columns))
    return [bytes(imagecodecs.jpeg8_encode(
        np.ascontiguousarray(one).reshape((rows, -1, components) if components > 1 else tile),
        lossless=True, predictor=1, bitspersample=16)) for one in cut]  # fmt: skip


def dng(
    path: Path,
    blocks: list[bytes],
    tile: tuple[int, int] = TILE,
    changes: Tags = NOTHING,
    main: Tags = NOTHING,
    without: tuple[int, ...] = (),
) -> Path:
    """A tiled DNG of these blocks, with changed tags of the mosaic's directory and of IFD0, and without some."""
    frame = RawFrame(MOSAIC, Sensor.uniform(CFA("RGGB"), 512, 16383), Metadata(make="Acme", model="One"))
    data = b"".join(dng_chunks(frame, compression="none"))
    stream = io.BytesIO(data)
    order, offset, _ = read_header(stream)
    first = read_ifd(stream, offset, order)
    raw = read_ifd(stream, int(first[330].numbers[0]), order)
    thumbnail = data[int(first[273].numbers[0]) :][: int(first[279].numbers[0])]
    first = {tag: value for tag, value in first.items() if tag not in (330, 34665, 34853, *without)} | main
    raw = {tag: value for tag, value in raw.items() if tag not in (273, 278, 279)}
    raw |= {259: entry(SHORT, 7), 322: entry(LONG, tile[1]), 323: entry(LONG, tile[0])}
    raw |= {325: entry(LONG, *map(len, blocks))}
    places = [(0, [len(thumbnail)]), (1, [len(block) for block in blocks])]
    directories = [first, raw | changes]
    if without and min(without) >= 322:  # tiff_bytes puts the offsets in
        sizes = [len(tiff_bytes(directories, {330: [1]}, places))]
        directories[1] = {**raw, 324: entry(LONG, *(sizes[0] for _ in blocks))}
        directories[1] = {tag: value for tag, value in directories[1].items() if tag not in without}
        places = places[:1]
    head = tiff_bytes(directories, {330: [1]}, places)
    path.write_bytes(head + b"".join(block + b"\0" * (len(block) % 2) for block in (thumbnail, *blocks)))
    return path


def refused(path: Path, message: str, most: float = 400.0) -> None:
    with pytest.raises(RawError, match=message) as caught:
        read_raw(path, most)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("tile", "components"), [((64, 64), 2), ((64, 64), 1), ((64, 128), 4), ((128, 128), 2), ((128, 64), 4)]
)
def test_sound_tiles_are_read(tile: tuple[int, int], components: int, tmp_path: Path) -> None:
    """The last two are sound and common, but LibRaw takes them for something else and reads too far."""
    path = dng(tmp_path / "a.dng", tiles(tile, components), tile)
    np.testing.assert_array_equal(read_raw(path).mosaic, MOSAIC)
    with rawpy.imread(str(path)) as raw:
        by_libraw = np.array_equal(raw.raw_image, MOSAIC)
    assert by_libraw == (tile[1] * components != 256 or components == 1)


@pytest.mark.parametrize("tag", [322, 323, 324, 325])
def test_a_lost_tag_of_the_tiles(tag: int, tmp_path: Path) -> None:
    refused(dng(tmp_path / "a.dng", tiles(TILE, 2), without=(tag,)), "a part of the image data is missing")


@pytest.mark.parametrize(
    ("found", "put"),
    [
        (b"\xff\xd8", b"\x00\xd8"),  # no JPEG
        (b"\xff\xda\x00\x0a", b"\xff\x81\x00\x0a"),  # no scan
        (b"\xff\xda\x00\x0a", b"\xff\xda\x08\x0a"),  # its header is too long
        (b"\xff\xc3\x00\x0e\x10\x00\x40", b"\xff\xc3\x00\x0e\x10\x00\x20"),  # half the rows
        (b"\xff\xc3\x00\x0e\x10", b"\xff\xc3\x00\x0e\x20"),  # 32 bits
        (b"\xff\xc4", b"\xff\xfe"),  # no Huffman table
        (b"\xff\xc4\x00", b"\xff\xc4\x40"),  # or one that is too long
    ],
    ids=lambda part: part.hex(),
)
def test_a_tile_that_does_not_begin_as_one(found: bytes, put: bytes, tmp_path: Path) -> None:
    blocks = tiles(TILE, 2)
    changed = blocks[5].replace(found, put, 1)
    assert changed != blocks[5]
    refused(dng(tmp_path / "a.dng", [*blocks[:5], changed, *blocks[6:]]), "a part of the image data is missing")


def test_a_tile_with_fewer_bytes_than_samples_need(tmp_path: Path) -> None:
    blocks = tiles(TILE, 2)
    counts = [len(block) for block in blocks]
    counts[3] = 200
    refused(dng(tmp_path / "a.dng", blocks, changes={325: entry(LONG, *counts)}), "is missing")


def test_a_dng_without_its_version(tmp_path: Path) -> None:
    refused(dng(tmp_path / "a.dng", tiles(TILE, 2), without=(50706,)), "its DNGVersion is missing")
    refused(dng(tmp_path / "a.nef", tiles(TILE, 2), without=(50706,)), "its DNGVersion is missing")


def test_a_dng_without_an_image(tmp_path: Path) -> None:
    refused(
        dng(tmp_path / "a.dng", tiles(TILE, 2), changes={262: entry(SHORT, 9)}), "what describes its image is missing"
    )


@pytest.mark.parametrize(
    ("numbers", "kept"),
    [
        ((1e-4, 1e-6), True),
        ((0.0, 0.0), True),  # some cameras write it
        ((1e-12, 0.0), True),  # ours
        ((1e300, 1e300), False),
        ((5e-308, 1e-6), False),
        ((1e-4, 1e300), False),
        ((-1e-4, 0.0), False),
        ((float("nan"), 0.0), False),
        ((float("inf"), 0.0), False),
    ],
)
def test_a_noise_profile_of_no_sensor_is_left_out_and_said(
    numbers: tuple[float, float], kept: bool, tmp_path: Path
) -> None:
    frame = read_raw(dng(tmp_path / "a.dng", tiles(TILE, 2), main={51041: entry(DOUBLE, *numbers)}))
    assert frame.metadata.noise_profile == (numbers if kept else None)
    assert any("NoiseProfile" in note for note in frame.notes) != kept


def test_colours_of_no_camera_are_left_out(tmp_path: Path) -> None:
    large = {50721: entry(SRATIONAL, *(2e9, 0, 0, 0, 2e9, 0, 0, 0, 2e9)), 50728: entry(5, 1e-6, 1, 1)}
    metadata = read_raw(dng(tmp_path / "a.dng", tiles(TILE, 2), main=large)).metadata
    assert metadata.as_shot_neutral is None
    assert metadata.colour_matrix is None or max(map(abs, metadata.colour_matrix)) <= 1e3


def test_directories_have_a_budget(tmp_path: Path) -> None:
    tags = {1000 + number: Entry(7, bytes(900)) for number in range(40)}
    stream = io.BytesIO(bytes(8) + ifd_bytes(tags, 8))
    assert read_ifd(stream, 8, "<", budget=Budget(40, 36_000)) == tags
    for less in (Budget(39, 36_000), Budget(40, 35_999)):
        with pytest.raises(TooMuch, match="more tags, or larger ones"):
            read_ifd(stream, 8, "<", budget=less)
    path = tmp_path / "a.dng"
    table = b"".join(struct.pack("<HHII", number, 3, 1, 0) for number in range(1, 17_000))
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, 16_999) + table + bytes(4))
    refused(path, "more tags, or larger ones, than any photograph has")


def test_a_value_that_lies_outside_the_file_takes_no_memory() -> None:
    directory = struct.pack("<HHHII", 1, 700, 7, 1 << 26, 0) + bytes(4)
    assert read_ifd(io.BytesIO(bytes(8) + directory), 8, "<", budget=Budget(0, 0)) == {}


def test_a_tag_of_a_million_numbers_is_none() -> None:
    assert len(Entry(1, bytes(1 << 20)).numbers) == 1 << 20
    with pytest.raises(TooMuch, match="a tag of 1048577 numbers"):
        _ = Entry(1, bytes((1 << 20) + 1)).numbers


def test_megapixels_are_limited(tmp_path: Path) -> None:
    path = dng(tmp_path / "a.dng", tiles(TILE, 2))
    assert read_raw(path, 0.07).shape == (256, 256)
    refused(path, "256x256 pixels are more than 0.06 megapixels.*--max-megapixels", most=0.06)


def test_a_claimed_size_takes_no_memory(tmp_path: Path) -> None:
    """A deflated image, which LibRaw does not read, of 40,000 megapixels in tiles that overlap."""
    size = {256: entry(LONG, 200_000), 257: entry(LONG, 200_000), 259: entry(SHORT, 8)}
    side = {322: entry(LONG, 50_000), 323: entry(LONG, 50_000)}
    path = dng(tmp_path / "a.dng", tiles(TILE, 2), changes=size | side)
    refused(path, "200000x200000 pixels are more than 400 megapixels")
    with pytest.raises(RawError, match="more than 400 megapixels"):
        read_metadata(path)


def test_strange_offsets(tmp_path: Path) -> None:
    """Of BigTIFF's sixty-four bits, and of no number at all."""
    assert read_tags(dng(tmp_path / "a.dng", tiles(TILE, 2))).is_dng
    (tmp_path / "b.dng").write_bytes(b"II+\0\x08\0\0\0" + struct.pack("<Q", (1 << 64) - 1) + bytes(99))
    refused(tmp_path / "b.dng", ".")

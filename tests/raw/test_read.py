"""Raw files in: levels, phases, margins, metadata, and a clean refusal of everything else."""

from __future__ import annotations

import inspect
import io
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from exposurediffusion.datasets.listing import RAW_EXTENSIONS, find_raws
from exposurediffusion.dng.writer import dng_chunks
from exposurediffusion.files.tiff import LONG, RATIONAL, SHORT, Tags, entry, read_header, read_ifd, tiff_bytes
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.physics.sensor import Metadata, RawFrame, Sensor
from exposurediffusion.raw.read import RawError, read_raw

RAW = 1  # number of the mosaic's directory


def noise(shape: tuple[int, int], low: int = 600, high: int = 9000) -> np.ndarray:
    return np.random.default_rng(7).integers(low, high, shape, dtype=np.uint16)


def camera_file(
    path: Path, mosaic: np.ndarray, cfa: CFA, changes: Tags | None = None, main: Tags | None = None
) -> Path:
    """A DNG as a camera might write it: our own, with changed tags of the mosaic's directory and of IFD0."""
    data = b"".join(dng_chunks(RawFrame(mosaic, Sensor.uniform(cfa, 512, 16383), Metadata(make="Acme", model="One"))))
    stream = io.BytesIO(data)
    order, offset, _ = read_header(stream)
    first = read_ifd(stream, offset, order)
    raw = read_ifd(stream, int(first[330].numbers[0]), order)
    thumbnail, strip = (int(first[273].numbers[0]), first[279]), (int(raw[273].numbers[0]), raw[279])
    blocks = [data[at : at + int(length.numbers[0])] for at, length in (thumbnail, strip)]
    first = {tag: value for tag, value in first.items() if tag not in (34665, 34853)} | (main or {})
    head = tiff_bytes([first, raw | (changes or {})], {330: [RAW]}, [(i, [len(b)]) for i, b in enumerate(blocks)])
    path.write_bytes(head + b"".join(b + b"\0" * (len(b) % 2) for b in blocks))
    return path


@pytest.mark.parametrize("given", [io.BytesIO(b"raw"), b"raw", 3])
def test_what_is_no_path_is_refused_with_what_to_do(given: object) -> None:
    """As users meet it: the tests' check of annotations would be first."""
    with pytest.raises(TypeError, match=f"read from its path, not from {type(given).__name__}: write it to a file"):
        inspect.unwrap(read_raw)(given)  # pyright: ignore[reportArgumentType] - it is the point


@pytest.mark.parametrize("margins", [(0, 0, 0, 0), (26, 32, 0, 0), (25, 31, 3, 5), (9, 13, 17, 11)])
@pytest.mark.parametrize("cfa", [CFA("RGGB"), CFA("GBRG"), CFA("XTRANS", (2, 1))], ids=str)
def test_visible_area_has_its_own_phase(tmp_path: Path, cfa: CFA, margins: tuple[int, int, int, int]) -> None:
    top, left, bottom, right = margins
    mosaic = noise((100, 120))
    area = {50829: entry(LONG, top, left, 100 - bottom, 120 - right)}
    crop = {50719: entry(LONG, 2, 4), 50720: entry(LONG, 60, 50)}
    black = {50713: entry(SHORT, 2, 2), 50714: entry(SHORT, 501, 502, 503, 504)}
    # A DNG's CFA pattern, black pattern and crop begin at the active area, of which LibRaw leaves out a first odd line.
    frame = read_raw(camera_file(tmp_path / "a.dng", mosaic, cfa, area | crop | black))
    down, across = (top % 2, left % 2) if cfa.is_bayer else (0, 0)
    np.testing.assert_array_equal(frame.mosaic, mosaic[top + down : 100 - bottom, left + across : 120 - right])
    assert frame.mosaic.dtype == np.uint16
    assert frame.sensor.cfa.pattern() == cfa.shifted(down, across).pattern()
    table = np.roll([[501, 502], [503, 504]], (-down, -across), (0, 1))
    assert frame.sensor.black_level == tuple(np.tile(table, (cfa.period // 2,) * 2).ravel())
    assert frame.metadata.crop == (2 - across, 4 - down, 60, 50)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({50713: entry(SHORT, 1, 1), 50714: entry(SHORT, 512)}, (512,) * 4),
        ({50713: entry(SHORT, 2, 2), 50714: entry(SHORT, 510, 511, 512, 514)}, (510, 511, 512, 514)),
        ({50713: entry(SHORT, 2, 2), 50714: entry(RATIONAL, 500.25, 501.5, 502, 503.75)}, (500.25, 501.5, 502, 503.75)),
        ({50713: entry(SHORT, 1, 2), 50714: entry(SHORT, 500, 508)}, (500, 508, 500, 508)),
    ],
)
def test_black_level_of_each_site_counts_once(tmp_path: Path, tags: Tags, expected: tuple[float, ...]) -> None:
    frame = read_raw(camera_file(tmp_path / "a.dng", noise((64, 64)), CFA("GRBG"), tags))
    assert frame.sensor.black_level == expected
    assert frame.sensor.white_level == 16383


def test_masked_margins_become_optical_black(tmp_path: Path) -> None:
    dark = np.random.default_rng(1).normal(520, 6, (120, 140))
    dark[30:, 40:] = noise((90, 100))
    area = {50829: entry(LONG, 30, 40, 120, 140)}
    black = {50713: entry(SHORT, 2, 2), 50714: entry(SHORT, 510, 520, 500, 510)}
    frame = read_raw(camera_file(tmp_path / "a.dng", dark.astype(np.uint16), CFA("RGGB"), area | black))
    assert [area.values.shape for area in frame.optical_black] == [(90, 32), (22, 136)]
    for piece in (area.values for area in frame.optical_black):
        assert piece.dtype == np.float32
        assert piece[0::2, 0::2].mean() == pytest.approx(10, abs=1)
        assert piece[1::2, 0::2].mean() == pytest.approx(20, abs=1)


def test_a_margin_that_is_not_dark_is_left_out(tmp_path: Path) -> None:
    for values in (noise((120, 140)), np.where(np.arange(140) < 40, 512, noise((120, 140))).astype(np.uint16)):
        frame = read_raw(camera_file(tmp_path / "a.dng", values, CFA("RGGB"), {50829: entry(LONG, 0, 40, 120, 140)}))
        assert frame.optical_black == ()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(tmp_path: Path, orientation: int) -> None:
    path = camera_file(tmp_path / "a.dng", noise((64, 64)), CFA("RGGB"), main={274: entry(SHORT, orientation)})
    assert read_raw(path).metadata.orientation == orientation


def test_an_impossible_orientation_is_upright(tmp_path: Path) -> None:
    path = camera_file(tmp_path / "a.dng", noise((64, 64)), CFA("RGGB"), main={274: entry(SHORT, 0)})
    assert read_raw(path).metadata.orientation == 1


@pytest.mark.parametrize("beside", ["IFD0", "the mosaic"])
def test_facts_of_the_shot_are_found_without_exif(tmp_path: Path, beside: str) -> None:
    facts = {34855: entry(SHORT, 1600), 33434: entry(RATIONAL, 1 / 8)}
    where = {"main": facts} if beside == "IFD0" else {"changes": facts}
    metadata = read_raw(camera_file(tmp_path / "a.dng", noise((64, 64)), CFA("RGGB"), **where)).metadata
    assert (metadata.iso, metadata.shutter) == (1600, 1 / 8)


def test_a_file_without_white_balance_says_so(tmp_path: Path) -> None:
    path = camera_file(tmp_path / "a.dng", noise((64, 64)), CFA("RGGB"), main={50728: entry(RATIONAL, 0, 0, 0)})
    frame = read_raw(path)
    assert frame.metadata.as_shot_neutral is None
    assert any("--white-balance" in note for note in frame.notes)


def test_unknown_facts_are_none(tmp_path: Path) -> None:
    metadata = read_raw(camera_file(tmp_path / "a.dng", noise((64, 64)), CFA("RGGB"))).metadata
    assert (metadata.iso, metadata.shutter, metadata.aperture, metadata.focal_length, metadata.lens) == (None,) * 5
    assert metadata.camera == "Acme One"
    assert metadata.source == str(tmp_path / "a.dng")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"just some text, not a photograph" * 9, "not a raw"),
        (b"II*\0\x08" + bytes(900), "not a raw"),
    ],
)
def test_what_is_no_raw_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.nef"
    path.write_bytes(content)
    refused(path, message)


def test_an_ordinary_picture_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((64, 64, 3), np.uint8), photometric="rgb")
    refused(tmp_path / "a.tif", "not a raw")


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_raw(tmp_path / "none.dng")


@pytest.mark.parametrize("kept", [10, 500, 3000, 0.5, 0.999])
def test_a_truncated_file_is_refused(tmp_path: Path, kept: float) -> None:
    path = camera_file(tmp_path / "a.dng", noise((64, 64)), CFA("RGGB"))
    data = path.read_bytes()
    path.write_bytes(data[: int(kept if kept > 1 else kept * len(data))])
    refused(path, ".")


def hollow(rows: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda mosaic: np.where(np.arange(64)[:, None] >= 64 - rows, 0, mosaic).astype(np.uint16)


@pytest.mark.parametrize(
    ("change", "tags", "message"),
    [
        (np.zeros_like, {}, "every value is zero"),
        (hollow(16), {}, "a part of the image data is missing"),
        (np.array, {50717: entry(LONG, 100)}, "white level"),
        (np.array, {262: entry(SHORT, 34892)}, "monochrome"),
        (np.array, {262: entry(SHORT, 34892), 277: entry(SHORT, 3)}, "already demosaiced"),
        (np.array, {259: entry(SHORT, 9)}, "not supported"),  # VC-5
        (np.array, {33421: entry(SHORT, 4, 4), 33422: entry(1, *([0, 0, 1, 1] * 2 + [1, 1, 2, 2] * 2))}, "4x4"),
        (np.array, {33422: entry(1, 0, 1, 1, 1)}, "neither Bayer"),
        (np.array, {258: entry(SHORT, 32)}, "a part of the image data is missing"),
        (np.array, {259: entry(SHORT, 7), 278: entry(LONG, 8)}, "a part of the image data is missing"),  # 1 of 8 strips
        (np.array, {259: entry(SHORT, 7)}, "a part of the image data is missing"),  # no JPEG
        (np.array, {259: entry(SHORT, 7), 324: entry(LONG, 8), 325: entry(LONG, 9)}, "is missing"),  # tiles of no size
    ],
)
def test_unusable_content_is_refused(
    tmp_path: Path, change: Callable[[np.ndarray], np.ndarray], tags: Tags, message: str
) -> None:
    refused(camera_file(tmp_path / "a.dng", change(noise((64, 64))), CFA("RGGB"), tags), message)


def test_standard_error_stays_clean_and_is_given_back(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.iiq"  # a Phase One header, which LibRaw believes, and nothing behind it
    path.write_bytes(struct.pack("<4sII", b"IIII", 0x52617754, 12) + bytes(4000))
    refused(path, ".")
    os.write(2, b"still here")
    assert capfd.readouterr().err == "still here"


def refused(path: Path, message: str) -> None:
    """The file is refused with one line that names it, says what is wrong, and what to do."""
    with pytest.raises(RawError, match=message) as caught:
        read_raw(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    assert "; " in text


def test_find_raws(tmp_path: Path) -> None:
    for name in ("b.ARW", "a.dng", "C.Nef", "note.txt", ".hidden.dng", "d.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "folder.dng").mkdir()
    assert [p.name for p in find_raws(tmp_path)] == ["a.dng", "b.ARW", "C.Nef"]
    assert all(e == e.lower() and e.startswith(".") for e in RAW_EXTENSIONS)


def test_canon_frame(shared: Path) -> None:
    frame = read_raw(shared / "data/real_raw/canon_550d_colorchart.dng")
    assert frame.shape == (1156, 1734)
    assert frame.sensor == Sensor.uniform(CFA("RGGB"), 2056, 15000)
    assert frame.metadata.iso is None
    assert frame.metadata.shutter is None
    assert [area.values.shape for area in frame.optical_black] == [(1156, 144), (18, 1884)]
    assert np.median(frame.optical_black[0].values) == -7


def test_damaged_files_are_refused(shared: Path, capfd: pytest.CaptureFixture[str]) -> None:
    files = sorted((shared / "data/damaged").iterdir())
    linear = sorted((shared / "data/real_raw").glob("*linear*.dng"))
    assert len(files) > 20
    assert len(linear) == 2
    for path in [*files, *linear, shared / "data/hostile/tilewidth_lost.dng"]:
        refused(path, ".")
    assert capfd.readouterr().err == ""

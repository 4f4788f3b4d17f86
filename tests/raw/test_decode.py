"""DNGs that LibRaw does not read come out as the plain file would; floats that are no numbers become defects."""

from __future__ import annotations

import os
import struct
import sys
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile

from exposurediffusion.dng.writer import write_dng
from exposurediffusion.files.exif import read_tags
from exposurediffusion.files.tiff import DOUBLE, LONG, SHORT, Tags, entry
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.raw.read import RawError, read_metadata, read_raw
from tests.raw.test_read import camera_file, noise

MARGIN = {50829: entry(LONG, 4, 6, 64, 80)}


def replaced(path: Path, mosaic: np.ndarray, strip: bytes, changes: Tags) -> Path:
    """A DNG whose mosaic's strip is other bytes: it is the last block of the file."""
    camera_file(path, mosaic, CFA("GRBG"), MARGIN | changes | {279: entry(LONG, len(strip))})
    path.write_bytes(path.read_bytes()[: -mosaic.nbytes] + strip)
    return path


def woven(mosaic: np.ndarray) -> np.ndarray:
    """Even lines before odd ones, in both directions, as DNG 1.7's interleave factors of 2 mean."""
    return np.concatenate([np.concatenate([mosaic[i::2, j::2] for j in (0, 1)], 1) for i in (0, 1)])


MOSAIC = noise((64, 80))
FIELDS = {50975: entry(SHORT, 2), 52547: entry(SHORT, 2)}
KINDS = {
    "deflate": (zlib.compress(MOSAIC.tobytes()), {259: entry(SHORT, 8)}),
    "jpeg xl": (imagecodecs.jpegxl_encode(MOSAIC, lossless=True), {259: entry(SHORT, 52546)}),
    "fields": (imagecodecs.jpegxl_encode(woven(MOSAIC), lossless=True), {259: entry(SHORT, 52546)} | FIELDS),
}


@pytest.mark.parametrize("kind", KINDS)
def test_compressions_that_libraw_does_not_know(tmp_path: Path, kind: str) -> None:
    plain = read_raw(camera_file(tmp_path / "plain.dng", MOSAIC, CFA("GRBG"), MARGIN))
    path = replaced(tmp_path / "a.dng", MOSAIC, *KINDS[kind])
    frame = read_raw(path)
    np.testing.assert_array_equal(frame.mosaic, plain.mosaic)
    assert (frame.mosaic.dtype, frame.sensor) == (np.uint16, plain.sensor)
    assert frame.metadata.camera == "Acme One"
    assert read_metadata(path) == frame.metadata


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kept", [40, 0.5])
def test_damage_is_still_called_damage(tmp_path: Path, kind: str, kept: float) -> None:
    strip, changes = KINDS[kind]
    part = strip[: int(kept if kept > 1 else kept * len(strip))]
    with pytest.raises(RawError, match="damaged"):
        read_raw(replaced(tmp_path / "a.dng", MOSAIC, part, changes))


def bigtiff(path: Path) -> Path:
    tags = [(33421, 3, 2, (2, 2)), (33422, 1, 4, (1, 0, 2, 1)), (50706, 1, 4, (1, 4, 0, 0)), (50714, 3, 1, 512)]
    tags += [(50717, 3, 1, 16383), (271, 2, 0, "Acme"), (272, 2, 0, "One")]
    tifffile.imwrite(path, MOSAIC, bigtiff=True, photometric="cfa", extratags=[(*t, True) for t in tags])
    return path


def test_bigtiff(tmp_path: Path) -> None:
    frame = read_raw(bigtiff(tmp_path / "a.dng"))
    np.testing.assert_array_equal(frame.mosaic, MOSAIC)
    assert (frame.sensor.cfa.name, frame.sensor.black_level) == ("GRBG", (512.0,) * 4)
    assert frame.metadata.camera == "Acme One"
    assert read_tags(write_dng(tmp_path / "b.dng", frame)).main[272].text == "One"


def in_strips(path: Path, order: list[int]) -> Path:
    """Four strips of 16 rows, stored in this order."""
    size = MOSAIC.nbytes // 4
    known = entry(LONG, *(0x55555555 + i for i in range(4)))  # stands for the offsets until the header is written
    layout = MARGIN | {278: entry(LONG, 16), 279: entry(LONG, *(size,) * 4), 65000: known}
    camera_file(path, np.concatenate([np.split(MOSAIC, 4)[i] for i in order]), CFA("GRBG"), layout)
    data = bytearray(path.read_bytes())
    offsets = entry(LONG, *(len(data) - MOSAIC.nbytes + size * order.index(i) for i in range(4)))
    at = data.index(known.data)
    data[at : at + 16] = offsets.data
    tag = data.rindex(
        struct.pack("<HHI", 273, LONG, 1), 0, len(data) - MOSAIC.nbytes
    )  # the mosaic's, not the thumbnail's
    data[tag : tag + 12] = struct.pack("<HHII", 273, LONG, 4, at)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]])
def test_strips_lie_in_any_order(tmp_path: Path, order: list[int]) -> None:
    frame = read_raw(in_strips(tmp_path / "a.dng", order))
    np.testing.assert_array_equal(frame.mosaic, MOSAIC[4:, 6:])


def float_file(path: Path, values: np.ndarray) -> Path:
    levels = {50714: entry(DOUBLE, 0.03125), 50717: entry(LONG, 1), 50713: entry(SHORT, 1, 1)}
    kind = {258: entry(SHORT, 32), 339: entry(SHORT, 3)}
    return replaced(path, MOSAIC, values.astype("<f4").tobytes(), levels | kind)


def test_floats_keep_their_values_and_lose_their_holes(tmp_path: Path) -> None:
    values = np.random.default_rng(4).normal(0.1, 0.02, MOSAIC.shape).astype(np.float32)
    values[0::2, 0::2] += 0.5  # so that a hole must be filled from its own colour
    holes = [(0, 0), (10, 13), (11, 12), (12, 12), (59, 73)]  # in the visible frame, which begins at (4, 6)
    for (row, column), nonsense in zip(holes, (np.nan, np.inf, -np.inf, np.nan, 1e30), strict=True):
        values[row + 4, column + 6] = nonsense
    frame = read_raw(float_file(tmp_path / "a.dng", values))
    assert frame.defects is not None
    assert [tuple(d) for d in frame.defects] == holes
    assert frame.mosaic.dtype == np.float32
    assert np.isfinite(frame.mosaic).all()
    assert frame.sensor.black_level == (0.03125,) * 4
    assert frame.sensor.white_level == 1
    sound = np.ones(frame.shape, bool)
    sound[tuple(np.transpose(holes))] = False
    np.testing.assert_array_equal(frame.mosaic[sound], values[4:, 6:][sound])
    for row, column in holes:
        typical = 0.6 if (row % 2, column % 2) == (0, 0) else 0.1
        assert frame.mosaic[row, column] == pytest.approx(typical, abs=0.1)


def test_a_frame_of_holes_is_refused(tmp_path: Path) -> None:
    values = np.full(MOSAIC.shape, 0.1, np.float32)
    values[:16] = np.nan
    with pytest.raises(RawError, match="not numbers"):
        read_raw(float_file(tmp_path / "a.dng", values))


@pytest.mark.skipif(sys.platform != "linux", reason="only there may a file's name be any bytes")
def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9.dng"
    path = camera_file(Path(os.fsdecode(name)), MOSAIC, CFA("GRBG"), MARGIN)
    frame = read_raw(path)
    written = read_tags(write_dng(tmp_path / "b.dng", frame))
    assert written.main[50827].data == b"caf\xe9.dng\0"
    path.write_bytes(b"no photograph")
    with pytest.raises(RawError) as caught:
        read_raw(path)
    assert os.fsencode(str(caught.value)).startswith(name)

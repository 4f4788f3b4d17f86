"""DNG out: what is written is read back, by us and by others, with the source's EXIF and colours."""

from __future__ import annotations

import errno
import pickle
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from struct import pack
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile

from exposurediffusion.analysis.remaining import remaining_noise
from exposurediffusion.dng.storage import Bits, Compression, encode, levels
from exposurediffusion.dng.writer import dng_chunks, write_dng
from exposurediffusion.dng.xmp import packet
from exposurediffusion.files import atomic as files
from exposurediffusion.files.exif import FileTags, capture_tags, read_tags
from exposurediffusion.files.tiff import (
    ASCII,
    BYTE,
    RATIONAL,
    SHORT,
    SRATIONAL,
    UNDEFINED,
    Entry,
    entry,
    text_entry,
    tiff_bytes,
)
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.physics.sensor import Metadata, RawFrame, Sensor
from exposurediffusion.raw.read import read_raw
from exposurediffusion.rendering.render import render

MATRIX = (0.902, -0.289, -0.0715, -0.4535, 1.2436, 0.2348, -0.0934, 0.1919, 0.7086)
METADATA = Metadata(
    make="Acme",
    model="Acme One",
    iso=3200,
    shutter=1 / 30,
    aperture=1.8,
    focal_length=35,
    lens="35 mm F1.8",
    orientation=6,
    as_shot_neutral=(0.5, 1.0, 0.625),
    colour_matrix=MATRIX,
    illuminant=21,
    baseline_exposure=1.5,
)
PHASES = [CFA(name) for name in ("RGGB", "BGGR", "GRBG", "GBRG", "XTRANS")]
PHASES += [CFA("XTRANS", (1, 5)), CFA("XTRANS", (4, 2))]
TEXT: dict[str, Any] = {"capture_output": True, "text": True, "check": False}
(OUTPUT_BLACK,), OUTPUT_WHITE = levels(0.0, "16")


def frame_of(cfa: CFA, shape: tuple[int, int] = (67, 93), dtype: type = np.uint16, **metadata: object) -> RawFrame:
    values = np.random.default_rng(3).uniform(400, 16383, shape).astype(dtype)
    return RawFrame(values, Sensor.uniform(cfa, 512, 16383), replace(METADATA, **metadata))


def rich_source(path: Path) -> Path:
    """A DNG with two calibrations, EXIF and GPS, as another program might write it."""
    frame = frame_of(CFA("RGGB"), colour_matrix=None)
    write_dng(path, frame)
    main = read_tags(path).main | {
        50721: entry(SRATIONAL, *(0.9 * m for m in MATRIX)),
        50722: entry(SRATIONAL, *MATRIX),
        50778: entry(SHORT, 17),
        50779: entry(SHORT, 21),
        50727: entry(RATIONAL, 1, 1, 1),
        315: text_entry("A. Photographer"),
        270: Entry(ASCII, b"\0"),
        51041: Entry(12, np.array([1e-4, 1e-6]).tobytes()),
    }
    exif = {
        33434: entry(RATIONAL, 1 / 30),
        34855: entry(SHORT, 3200),
        36867: text_entry("2024:01:02 03:04:05"),
        37500: Entry(UNDEFINED, b"maker's secret"),
        42034: entry(RATIONAL, 35, 35, 1.8, 1.8),
        42036: text_entry("35 mm F1.8"),
        36864: Entry(UNDEFINED, b"0231"),
    }
    gps = {1: text_entry("N"), 2: entry(RATIONAL, 52, 30, 15.5), 3: text_entry("E"), 4: entry(RATIONAL, 13, 24, 0)}
    raw = read_tags(path).raw
    data = path.read_bytes()
    strips = [data[int(t[273].numbers[0]) :][: int(t[279].numbers[0])] for t in (main, raw)]
    links = {330: [1], 34665: [2], 34853: [3]}
    path.write_bytes(
        tiff_bytes([main, raw, exif, gps], links, [(i, [len(s)]) for i, s in enumerate(strips)])
        + b"".join(s + b"\0" * (len(s) % 2) for s in strips)
    )
    return path


@pytest.mark.parametrize("cfa", PHASES, ids=lambda c: f"{c.name}{c.origin}")
@pytest.mark.parametrize("shape", [(64, 96), (67, 93)], ids=str)
def test_integers_return_verbatim(tmp_path: Path, cfa: CFA, shape: tuple[int, int]) -> None:
    black = tuple(500.0 + i for i in range(cfa.period**2))
    frame = replace(frame_of(cfa, shape), sensor=Sensor(cfa, black, 16383))
    back = read_raw(write_dng(tmp_path / "a.dng", frame))
    np.testing.assert_array_equal(back.mosaic, frame.mosaic)
    assert back.sensor.cfa.pattern() == cfa.pattern()
    assert back.sensor.black_level == black
    assert back.sensor.white_level == 16383
    same_metadata(back.metadata, METADATA)


def test_a_level_between_two_steps_is_right_on_average(tmp_path: Path) -> None:
    sensor = Sensor.uniform(CFA("RGGB"), 0, 1)
    level = (100 + 0.3) / (OUTPUT_WHITE - OUTPUT_BLACK)  # plain rounding would give 100 everywhere
    frame = RawFrame(np.full((200, 200), level, np.float32), sensor)
    steps = read_raw(write_dng(tmp_path / "a.dng", frame, bits="16")).mosaic - OUTPUT_BLACK
    assert set(np.unique(steps)) == {100, 101}
    assert abs(steps.mean() - 100.3) < 4 * (0.3 * 0.7 / steps.size) ** 0.5


@pytest.mark.parametrize("cfa", PHASES, ids=lambda c: f"{c.name}{c.origin}")
def test_floats_return_to_a_step(tmp_path: Path, cfa: CFA) -> None:
    black = tuple(500.0 + i for i in range(cfa.period**2))
    frame = replace(frame_of(cfa, dtype=np.float32), sensor=Sensor(cfa, black, 16383))
    back = read_raw(write_dng(tmp_path / "a.dng", frame, bits="16"))
    assert back.sensor == Sensor.uniform(back.sensor.cfa, OUTPUT_BLACK, OUTPUT_WHITE)
    error = back.sensor.normalise(back.mosaic) - frame.sensor.normalise(frame.mosaic)
    assert error.abs().max().item() * (OUTPUT_WHITE - OUTPUT_BLACK) < 1.01


def test_negative_noise_survives_and_nonsense_is_clipped(tmp_path: Path) -> None:
    values = np.full((64, 64), 512, np.float32)
    values[0, :6] = (512 - 0.05 * 15871, 0.5 * 15871 + 512, 1e9, -1e9, np.nan, np.inf)
    frame = RawFrame(values, Sensor.uniform(CFA("RGGB"), 512, 16383))
    back = read_raw(write_dng(tmp_path / "a.dng", frame, bits="16"))
    x = back.sensor.normalise(back.mosaic)[0, :6].numpy()
    np.testing.assert_allclose(x[:3], (-0.05, 0.5, 1), atol=1e-5)
    assert x[3] == pytest.approx(-OUTPUT_BLACK / (OUTPUT_WHITE - OUTPUT_BLACK))
    assert tuple(x[4:]) == (0, 1)


def same_metadata(got: Metadata, want: Metadata) -> None:
    for name in ("make", "model", "lens", "orientation", "illuminant", "crop"):
        assert getattr(got, name) == getattr(want, name), name
    for name in ("iso", "shutter", "aperture", "focal_length", "as_shot_neutral", "colour_matrix", "baseline_exposure"):
        assert getattr(got, name) == pytest.approx(getattr(want, name), rel=1e-5), name


def test_crop_exposure_and_high_iso(tmp_path: Path) -> None:
    frame = frame_of(CFA("GBRG"), crop=(3, 5, 60, 40), iso=102400)
    metadata = read_raw(write_dng(tmp_path / "a.dng", frame, baseline_exposure=6.25)).metadata
    assert metadata.crop == (3, 5, 60, 40)
    assert metadata.iso == 102400
    assert metadata.baseline_exposure == pytest.approx(6.25)


def test_a_frame_without_metadata_is_still_a_photograph(tmp_path: Path) -> None:
    frame = RawFrame(frame_of(CFA("RGGB")).mosaic, Sensor.uniform(CFA("RGGB"), 512, 16383))
    metadata = read_raw(write_dng(tmp_path / "a.dng", frame)).metadata
    assert metadata.colour_matrix is not None
    assert metadata.as_shot_neutral is not None
    assert 0.3 < metadata.as_shot_neutral[0] < 0.7


def test_the_source_keeps_its_exif_and_colours(tmp_path: Path) -> None:
    source = rich_source(tmp_path / "source.dng")
    frame = read_raw(source)
    assert frame.metadata.colour_matrix == pytest.approx(MATRIX, rel=1e-5)  # of the two, daylight's
    assert frame.metadata.noise_profile == (1e-4, 1e-6)
    before, after = read_tags(source), read_tags(write_dng(tmp_path / "a.dng", frame))
    assert after.gps == before.gps
    for tag in (33434, 34855, 36867, 42034, 42036):
        assert after.exif[tag] == before.exif[tag]
    for tag in (50721, 50722, 50778, 50779, 50727, 315):
        assert after.main[tag] == before.main[tag]
    assert after.main[50827].text == "source.dng"
    assert not {37500} & set(after.exif)
    assert not {270, 51041} & set(after.main)
    changed = replace(frame, metadata=replace(frame.metadata, colour_matrix=tuple(0.5 * m for m in MATRIX)))
    only = read_tags(write_dng(tmp_path / "b.dng", changed)).main
    assert 50722 not in only  # the source's calibration is not that of this frame


def test_writing_needs_no_source(tmp_path: Path) -> None:
    """A frame that another process sends, of a file that is gone, is written like any other."""
    source = rich_source(tmp_path / "source.dng")
    frame = read_raw(source)
    with_source = [write_dng(tmp_path / "a.dng", frame), render(frame).save(tmp_path / "a.png")]
    source.unlink()
    sent = pickle.loads(pickle.dumps(frame))
    without = [write_dng(tmp_path / "b.dng", sent), render(sent).save(tmp_path / "b.png")]
    for before, after in zip(with_source, without, strict=True):
        assert before.read_bytes() == after.read_bytes()
    assert read_tags(tmp_path / "b.dng").gps


def test_a_frame_carries_no_large_tags(tmp_path: Path) -> None:
    source = rich_source(tmp_path / "source.dng")
    tags, large = read_tags(source), Entry(UNDEFINED, bytes(1 << 20))
    full = replace(tags, main=tags.main | {50740: large, 50828: large}, exif=tags.exif | {37500: large})
    assert len(pickle.dumps(full)) > 1 << 20
    assert len(pickle.dumps(full.carried)) < 20_000
    light = {tag: value for tag, value in tags.carried.main.items() if tag != 50740}
    assert full.carried == replace(tags.carried, main=light)
    assert tags.carried == read_raw(source).tags
    assert 50740 in tags.carried.main  # its own maker note, which is small


@pytest.mark.parametrize(("kilobytes", "kept"), [(200, True), (300, False)])
def test_a_maker_note_is_carried_unless_it_is_large(kilobytes: int, kept: bool) -> None:
    """Cameras' notes have some ten kilobytes; a frame is handed between threads and processes, and stays light."""
    full = FileTags(main={50740: Entry(BYTE, bytes(kilobytes << 10))})
    assert (50740 in full.carried.main) == kept


def with_canon_note(path: Path, order: str) -> bytes:
    """A file with Canon's kind of maker note, whose offsets count from the head of the file; the note."""
    text, mark = b"Acme EOS 1\0\0", {"<": b"II*\0", ">": b"MM\0*"}[order]
    make_at, exif_at = 8 + 2 + 2 * 12 + 4, 8 + 2 + 2 * 12 + 4 + 6
    note_at = exif_at + 2 + 12 + 4
    note = pack(order + "HHHIIHHIII", 2, 6, 2, len(text), note_at + 30, 0x10, 4, 1, 0x80000285, 0) + text
    main = pack(order + "HHHIIHHIII", 2, 271, 2, 6, make_at, 34665, 4, 1, exif_at, 0) + b"Canon\0"
    exif = pack(order + "HHHIII", 1, 37500, 7, len(note), note_at, 0)
    path.write_bytes(mark + pack(order + "I", 8) + main + exif + note)
    return note


def test_a_maker_note_whose_bytes_are_no_bytes_is_left_out(tmp_path: Path) -> None:
    """Numbers of a big-endian file are turned round when they are read."""
    with_canon_note(tmp_path / "source.cr2", ">")
    content = (tmp_path / "source.cr2").read_bytes()
    (tmp_path / "odd.cr2").write_bytes(content.replace(pack(">HH", 37500, 7), pack(">HH", 37500, 3)))
    assert 50740 in read_tags(tmp_path / "source.cr2").main
    assert 50740 not in read_tags(tmp_path / "odd.cr2").main


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_maker_note_is_kept_as_adobe_keeps_it(tmp_path: Path, order: str) -> None:
    note = with_canon_note(tmp_path / "source.cr2", order)
    tags = read_tags(tmp_path / "source.cr2")
    place = (tmp_path / "source.cr2").read_bytes().index(note)
    head = pack(">I2sI", 6 + len(note), b"II" if order == "<" else b"MM", place)
    written = write_dng(tmp_path / "a.dng", replace(frame_of(CFA("RGGB")), tags=tags.carried))
    there = read_tags(written)
    assert there.main[50740] == Entry(BYTE, b"Adobe\0MakN" + head + note)
    assert 37500 not in there.exif
    again = write_dng(tmp_path / "b.dng", replace(frame_of(CFA("RGGB")), tags=read_raw(written).tags))
    assert read_tags(again).main[50740] == there.main[50740]  # of a DNG, as it is
    if shutil.which("exiftool"):
        canon = Metadata(make="Canon", model="Acme EOS 1")
        written = write_dng(tmp_path / "c.dng", replace(frame_of(CFA("RGGB")), tags=tags.carried, metadata=canon))
        said = subprocess.run(["exiftool", "-s3", "-MakerNotes:CanonImageType", "-warning", written], **TEXT)
        assert said.stdout == "Acme EOS 1\n"


def test_what_the_photographer_set_is_kept(tmp_path: Path) -> None:
    source = rich_source(tmp_path / "source.dng")
    xmp = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"
    asked = {700: Entry(BYTE, xmp), 51109: entry(SRATIONAL, -0.5), 18246: entry(SHORT, 4), 18249: entry(SHORT, 75)}
    tags = read_tags(source)
    directories = [tags.main | asked, tags.raw]
    data = source.read_bytes()
    strips = [data[int(t[273].numbers[0]) :][: int(t[279].numbers[0])] for t in directories]
    head = tiff_bytes(directories, {330: [1]}, [(i, [len(s)]) for i, s in enumerate(strips)])
    source.write_bytes(head + b"".join(s + b"\0" * (len(s) % 2) for s in strips))
    frame = read_raw(source)
    shown = replace(frame.metadata, user_crop=(0.25, 0.1, 0.75, 0.9), pixel_aspect=0.5)
    written = write_dng(tmp_path / "a.dng", replace(frame, metadata=shown))
    assert {tag: read_tags(written).main[tag] for tag in asked} == asked
    back = read_raw(written).metadata
    assert back.user_crop == pytest.approx((0.25, 0.1, 0.75, 0.9))
    assert back.pixel_aspect == pytest.approx(0.5)
    assert read_tags(written).raw[50718].numbers == (1, 2)


def test_a_cleaned_frame_says_so(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).normal(0, 0.01, (256, 256)).astype(np.float32)
    clean = RawFrame(noise + 0.3, Sensor.uniform(CFA("GBRG"), 0, 1), replace(METADATA, history={"Ratio": 'a "b" <c>'}))
    main = read_tags(write_dng(tmp_path / "a.dng", clean)).main
    description = ElementTree.fromstring(main[700].data.decode().split("?>", 1)[1].rsplit("<?", 1)[0])[0][0]
    assert description.attrib["{urn:exposurediffusion:1.0:}Ratio"] == 'a "b" <c>'
    back = read_raw(tmp_path / "a.dng").metadata
    assert back.noise_profile is not None
    for slope, offset in zip(back.noise_profile[0::2], back.noise_profile[1::2], strict=True):
        assert (0.3 * slope + offset) ** 0.5 == pytest.approx(0.01, rel=0.1)
    assert read_tags(tmp_path / "a.dng").first(50935) == entry(RATIONAL, 1)
    taken = read_tags(write_dng(tmp_path / "b.dng", replace(clean, metadata=METADATA)))
    assert not {700, 50935, 51041} & (taken.main | taken.raw).keys()


def test_a_noise_profile_never_has_a_slope_of_zero(tmp_path: Path) -> None:
    """Adobe's DNG SDK takes one for invalid. Here what is bright has less noise than what is dark."""
    noise = np.random.default_rng(1).normal(0, 1, (256, 256)).astype(np.float32)
    dark = np.arange(256) < 128
    light = np.where(dark, 0.1 + 0.02 * noise, 0.6 + 0.005 * noise).astype(np.float32)
    clean = RawFrame(light, Sensor.uniform(CFA("RGGB"), 0, 1), replace(METADATA, history={"Ratio": "50"}))
    assert [slope for slope, _ in remaining_noise(clean)] == [0, 0, 0]
    profile = read_raw(write_dng(tmp_path / "a.dng", clean)).metadata.noise_profile
    assert profile is not None
    assert all(0 < slope < 1e-9 for slope in profile[0::2])


@pytest.mark.parametrize("bits", ["auto", "16", "16f", "32f"])
@pytest.mark.parametrize("compression", ["none", "lossless"])
@pytest.mark.parametrize(
    ("name", "shape"),
    [("GRBG", (301, 517)), ("XTRANS", (300, 601)), ("RGGB", (40, 100)), ("RGGB", (40, 1024)), ("XTRANS", (48, 864))],
)
def test_every_form_holds_the_same_light(tmp_path: Path, bits: Bits, compression: Compression, name, shape) -> None:
    light = np.random.default_rng(2).uniform(-0.02, 1, shape).astype(np.float32)
    frame = RawFrame(light, Sensor.uniform(CFA(name), 0, 1), METADATA)
    back = read_raw(write_dng(tmp_path / "a.dng", frame, bits=bits, compression=compression))
    step = {"16f": 2.0**-11, "32f": 2.0**-20}.get(bits, 1 / back.sensor.saturation)
    assert np.abs(back.sensor.normalise(back.mosaic).numpy() - light).max() <= 1.01 * step
    assert (back.mosaic.dtype == np.float32) == bits.endswith("f")


@pytest.mark.parametrize(("name", "factor"), [("RGGB", 0.55), ("XTRANS", 0.75)])
def test_a_smooth_picture_is_stored_in_less_room(name: str, factor: float) -> None:
    side = 512 if name == "RGGB" else 576  # whole tiles
    y, x = np.mgrid[:side, :side].astype(np.float32)
    noise = np.random.default_rng(0).normal(0, 0.002, (side, side)).astype(np.float32)
    frame = RawFrame(0.3 + 0.2 * np.sin(x / 90) * np.cos(y / 70) + noise, Sensor.uniform(CFA(name), 0, 1), METADATA)
    sizes = sum(encode(frame, 0, "auto", "lossless").sizes), sum(encode(frame, 0, "auto", "none").sizes)
    assert sizes[0] < factor * sizes[1]


@pytest.mark.parametrize(("ev", "white"), [(0.0, 16383), (1.5, 16383), (2.0, 32767), (3.0, 65535), (5.0, 1)])
def test_rounding_is_never_seen(ev: float, white: float) -> None:
    """Half an sRGB code in the darks, root mean square, after the editor's brightening."""
    (black,), found = levels(ev, "auto")
    assert found == white
    if black:
        light = np.full((256, 256), 0.01 / 2**ev, np.float32)  # in the linear part of sRGB's curve
        frame = RawFrame(light, Sensor.uniform(CFA("RGGB"), 0, 1), replace(METADATA, baseline_exposure=ev))
        stored = np.concatenate([np.frombuffer(b, "<u2") for b in encode(frame, ev, "auto", "none").blocks])
        error = (stored.astype(float) - black) / (white - black) - light.ravel()
        assert 255 * 12.92 * 2**ev * error.std() < 0.5
        assert abs(error.mean()) < 4 * error.std() / light.size**0.5


@pytest.mark.parametrize(
    "source",
    [
        b"no xml",
        b"<a>&x;</a>",
        b"<!DOCTYPE a [<!ENTITY x 'y'>]><a/>",
        b"\xff\xfe<\0",
        b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>",
    ],
)
def test_an_xmp_that_is_none_gives_way(source: bytes) -> None:
    made = packet(Entry(BYTE, source), {"Ratio": "2"})
    assert made is not None
    assert b'exd:Ratio="2"' in made.data
    assert b"ENTITY" not in made.data
    ElementTree.fromstring(made.data.decode().split("?>", 1)[1].rsplit("<?", 1)[0])


def test_the_source_keeps_its_xmp_and_gets_ours_beside_it() -> None:
    source = (
        b'<?xpacket begin="" id="x"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
        b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="uuid:1" '
        b'xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="4"/></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    )
    made = packet(Entry(BYTE, source), {"Ratio": "2"})
    assert made is not None
    kept, ours = ElementTree.fromstring(made.data.decode().split("?>", 1)[1].rsplit("<?", 1)[0])[0]
    assert kept.attrib["{http://ns.adobe.com/xap/1.0/}Rating"] == "4"
    about = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}about"
    assert ours.attrib[about] == kept.attrib[about] == "uuid:1"
    assert packet(Entry(BYTE, source), None) == Entry(BYTE, source)


def test_facts_in_ifd0_go_into_the_exif() -> None:
    facts = FileTags(main={36867: text_entry("1994:01:02 15:57:56"), 33437: entry(RATIONAL, 3.7)})
    exif = capture_tags(Metadata(aperture=3.7), facts)[1]
    assert exif[36867].text == "1994:01:02 15:57:56"
    assert exif[33437].numbers == (3.7,)


def test_structure_is_what_the_specification_says(tmp_path: Path) -> None:
    path = write_dng(tmp_path / "a.dng", frame_of(CFA("XTRANS", (1, 2))))
    with tifffile.TiffFile(path) as tif:
        first = tif.pages.first
        assert first.pages is not None
        raw = first.pages[0]
        assert isinstance(raw, tifffile.TiffPage)
        assert first.shape[2] == 3
        assert first.tags["NewSubfileType"].value == 1
        assert raw.tags["NewSubfileType"].value == 0
        assert raw.tags["CFARepeatPatternDim"].value == (6, 6)
        assert raw.photometric == tifffile.PHOTOMETRIC.CFA
        assert raw.asarray().shape == (67, 93)
        codes = [tag.code for tag in first.tags]
        assert codes == sorted(codes)
        assert {271, 272, 305, 50706, 50707, 50708, 50721, 50728, 50730, 50778} <= set(codes)


def test_thumbnail_is_as_bright_as_the_editor_will_show_it(tmp_path: Path) -> None:
    values = np.full((64, 64), 512 + 15871 / 64, np.float32)
    frame = RawFrame(values, Sensor.uniform(CFA("RGGB"), 512, 16383), Metadata(as_shot_neutral=(1.0, 1.0, 1.0)))
    with tifffile.TiffFile(write_dng(tmp_path / "a.dng", frame, baseline_exposure=6.0)) as tif:
        assert tif.pages.first.asarray().min() > 250


def test_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = frame_of(CFA("RGGB"))
    with pytest.raises(OSError, match=r"cannot write .*missing"):
        write_dng(tmp_path / "missing" / "a.dng", frame)
    old = tmp_path / "a.dng"
    old.write_text("old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(OSError, match=r"cannot write .*a\.dng: No space left on device"):
        write_dng(old, frame)
    assert [p.name for p in tmp_path.iterdir()] == ["a.dng"]
    assert old.read_text() == "old"


def test_levels_beyond_16_bits_are_refused() -> None:
    frame = replace(frame_of(CFA("RGGB")), sensor=Sensor.uniform(CFA("RGGB"), 0, 70000))
    with pytest.raises(ValueError, match="0 to 65535"):
        b"".join(dng_chunks(frame))


def test_tags_of_a_damaged_file_are_left_out(tmp_path: Path) -> None:
    data = bytearray(rich_source(tmp_path / "a.dng").read_bytes())
    rng = np.random.default_rng(5)
    for _ in range(50):
        damaged = data.copy()
        damaged[4 : 4 + 900] = bytes(rng.permutation(np.frombuffer(bytes(data[4:904]), np.uint8)))
        (tmp_path / "b.dng").write_bytes(damaged)
        assert isinstance(read_tags(tmp_path / "b.dng"), FileTags)


@pytest.mark.parametrize("cfa", [CFA("GRBG"), CFA("XTRANS", (1, 5))], ids=lambda c: c.name)
@pytest.mark.parametrize("client", ["exiftool", "exiv2", "dcraw"])
def test_other_programs_open_it(tmp_path: Path, client: str, cfa: CFA) -> None:
    if shutil.which(client) is None:
        pytest.skip(f"{client} is not installed")
    frame = replace(frame_of(cfa, (601, 605), np.float32), tags=read_raw(rich_source(tmp_path / "s.dng")).tags)
    path = write_dng(tmp_path / "a.dng", frame)
    command, expected = {
        "exiftool": (["exiftool", "-validate", "-warning", "-a"], ": OK"),
        "exiv2": (["exiv2", "pr"], "3200"),
        "dcraw": (["dcraw", "-v", "-w", "-T"], "Writing data to"),
    }[client]
    done = subprocess.run([*command, str(path)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout + done.stderr
    assert "Warning" not in done.stdout


def test_another_extension_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ends in \.dng"):
        write_dng(tmp_path / "a.tif", frame_of(CFA("RGGB")))
    assert not list(tmp_path.iterdir())

"""What a photograph's file says about itself: the tags of raw files, and the EXIF of what is written from them."""

from __future__ import annotations

import io
import os
import struct
from dataclasses import dataclass, field, replace
from io import BufferedIOBase

from exposurediffusion.files.ciff import read_ciff
from exposurediffusion.files.tiff import (
    ASCII,
    BYTE,
    LONG,
    RATIONAL,
    SHORT,
    UNDEFINED,
    Budget,
    Entry,
    Tags,
    TooMuch,
    entry,
    read_header,
    read_ifd,
    text_entry,
    tiff_bytes,
)
from exposurediffusion.physics.sensor import Metadata

MAKE, MODEL, ORIENTATION, SOFTWARE, DATETIME = 271, 272, 274, 305, 306
EXIF_IFD, GPS_IFD, SUB_IFDS = 34665, 34853, 330
EXPOSURE_TIME, F_NUMBER, ISO, FOCAL_LENGTH, LENS_INFO, LENS_MODEL = 33434, 33437, 34855, 37386, 42034, 42036
DATETIME_ORIGINAL = 36867
_SENSITIVITY_TYPE, EXPOSURE_INDEX, _VERSION = 34864, 34866, 36864
# Of no use, or wrong, in a file of other pixels: maker notes with absolute offsets (they are kept as private data),
# JPEG's own description, padding, and what may be large: previews, the raw that a DNG was made from.
MAKER_NOTE, PRIVATE_DATA, MAKER_NOTE_SAFETY = 37500, 50740, 50741
_NOT_CARRIED = {MAKER_NOTE, 37121, 37122, 40960, 40961, 40962, 40963, 40965, 41730, 59932, 59933}
_NOT_CARRIED |= {46, 37724, 50828}
_LARGEST_NOTE = 1 << 18  # bytes: cameras' notes have some ten thousand; what is larger holds pictures
_COPIED_MAIN = (270, 315, 18246, 18249, 33432)  # description, artist, rating twice, copyright
# EXIF's tags that TIFF/EP, and some cameras, keep in IFD0; beside them, other facts of the shot.
_SHOT = (EXPOSURE_TIME, F_NUMBER, 34850, ISO, DATETIME_ORIGINAL, *range(37377, 37387), LENS_INFO, LENS_MODEL)
SAMPLE_FORMAT, FLOAT = 339, 3
_CFA, _LINEAR = 32803, 34892


@dataclass(frozen=True)
class FileTags:
    """The directories of a file, empty where it has none that can be read.

    Attributes:
        main, exif, gps: IFD0, its EXIF directory, its GPS directory.
        raw: of a TIFF-based raw, the directory of its largest CFA (or linear raw) image.
        big: whether the file is a BigTIFF.
    """

    main: Tags = field(default_factory=dict)
    exif: Tags = field(default_factory=dict)
    gps: Tags = field(default_factory=dict)
    raw: Tags = field(default_factory=dict)
    big: bool = False

    @property
    def is_dng(self) -> bool:
        """Whether the file says that it is a DNG."""
        return 50706 in self.main

    @property
    def carried(self) -> FileTags:
        """What a frame carries to the file that is written from it: all but what would be wrong, or large, there.

        The camera's maker note is among it, as Adobe's converter keeps it.
        """
        main, exif, raw = (
            {tag: value for tag, value in directory.items() if tag not in _NOT_CARRIED}
            for directory in (self.main, self.exif, self.raw)
        )
        if PRIVATE_DATA in main and len(main[PRIVATE_DATA].data) > _LARGEST_NOTE:
            del main[PRIVATE_DATA]
        return replace(self, main=main, exif=exif, raw=raw)

    def first(self, tag: int) -> Entry | None:
        """The tag from the raw image's directory, else from IFD0, else from EXIF."""
        return self.raw.get(tag) or self.main.get(tag) or self.exif.get(tag)


def read_tags(path: str | os.PathLike[str]) -> FileTags:
    """Read the tags of any raw or picture file. Damaged or foreign metadata are left out, never an error.

    TIFF-based raws (DNG, NEF, ARW, CR2, PEF, ORF, RW2, ...), CR3 and MRW (their TIFF blocks), CRW (camera and date),
    RAF (the EXIF of its JPEG), JPEG.

    Raises:
        OSError: the file cannot be opened.
        TooMuch: it claims more, or larger ones, than any photograph has.
    """
    with open(path, "rb") as stream:
        try:
            return _read(stream)
        except TooMuch:
            raise
        except (ValueError, struct.error, OSError, OverflowError):
            return FileTags()


def _read(stream: BufferedIOBase) -> FileTags:
    head = stream.read(108)
    if head[6:14] == b"HEAPCCDR":
        main, exif = read_ciff(stream)
        return FileTags(main, exif)
    if head[:2] in (b"II", b"MM"):
        return _read_tiff(stream, 0)
    if head[4:11] == b"ftypcrx":
        return _read_cr3(stream)
    if head[:8] == b"FUJIFILM":
        offset = struct.unpack_from(">I", head, 84)[0]
        return _read_jpeg(stream, offset)
    if head[:4] == b"\0MRM":
        return _read_mrw(stream)
    return _read_jpeg(stream, 0) if head[:2] == b"\xff\xd8" else FileTags()


def _read_tiff(stream: BufferedIOBase, base: int) -> FileTags:
    order, offset, big = read_header(stream, base)
    budget = Budget()
    main = read_ifd(stream, offset, order, base, big=big, budget=budget)
    subs = {tag: [read_ifd(stream, int(o), order, base, big=big, budget=budget) for o in main[tag].numbers[:16]]
            for tag in (EXIF_IFD, GPS_IFD, SUB_IFDS) if tag in main}  # fmt: skip
    exif, gps = (subs.get(tag, [{}])[0] for tag in (EXIF_IFD, GPS_IFD))
    note = exif.get(MAKER_NOTE)
    if note and PRIVATE_DATA not in main and note.kind in (BYTE, UNDEFINED) and 0 < note.place < 1 << 32:
        main[PRIVATE_DATA] = _private(note, order)
    return FileTags(main, exif, gps, _largest_raw([main, *subs.get(SUB_IFDS, [])]), big)


def _private(note: Entry, order: str) -> Entry:
    """A maker note as the DNGPrivateData in which Adobe's converter keeps it.

    Its offsets may count from the head of its file, so the byte order and its place there stand before it, big-endian.
    """
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(">I", note.place)
    return Entry(BYTE, b"Adobe\0MakN" + struct.pack(">I", len(head) + len(note.data)) + head + note.data)


def _largest_raw(directories: list[Tags]) -> Tags:
    def sites(tags: Tags) -> float:
        return tags[256].numbers[0] * tags[257].numbers[0] if 256 in tags and 257 in tags else 0.0

    raws = [t for t in directories if 262 in t and int(t[262].numbers[0]) in (_CFA, _LINEAR)]
    return max(raws, key=sites, default={})


def _read_jpeg(stream: BufferedIOBase, offset: int) -> FileTags:
    """Tags of the EXIF block of a JPEG that begins at `offset`; the block is within its first 64 KiB or so."""
    stream.seek(offset)
    at = stream.read(1 << 17).find(b"Exif\0\0")
    return _read_tiff(stream, offset + at + 6) if at >= 0 else FileTags()


def _read_cr3(stream: BufferedIOBase) -> FileTags:
    """Canon CR3 keeps IFD0, EXIF and GPS in three small TIFF files named CMT1, CMT2 and CMT4."""
    stream.seek(0)
    head = stream.read(1 << 16)
    found: list[Tags] = []
    for name in (b"CMT1", b"CMT2", b"CMT4"):
        at = head.find(name)
        block = io.BytesIO(head[at + 4 :] if at >= 0 else b"")
        try:
            order, offset, _ = read_header(block)
            found.append(read_ifd(block, offset, order))
        except ValueError:
            found.append({})
    return FileTags(found[0], found[1], found[2])


def _read_mrw(stream: BufferedIOBase) -> FileTags:
    """Minolta MRW: blocks of a name and a length, among them a small TIFF file named TTW."""
    stream.seek(4)
    position, end = 8, 8 + struct.unpack(">I", stream.read(4))[0]
    while position < end:
        stream.seek(position)
        name, length = struct.unpack(">4sI", stream.read(8))
        if name == b"\0TTW":
            return _read_tiff(stream, position + 8)
        position += 8 + length
    return FileTags()


def capture_tags(metadata: Metadata, source: FileTags | None = None) -> tuple[Tags, Tags, Tags]:
    """The tags that describe a capture, for a new file: (IFD0, EXIF, GPS).

    The source's are carried over; what `metadata` knows is added.
    """
    source = source or FileTags()
    main: Tags = {tag: source.main[tag] for tag in (MAKE, MODEL, DATETIME, *_COPIED_MAIN) if tag in source.main}
    exif: Tags = {tag: source.main[tag] for tag in _SHOT if tag in source.main}
    exif |= source.exif
    for tags in (main, exif):
        for tag in [tag for tag, value in tags.items() if value.kind == ASCII and not value.text]:
            del tags[tag]  # some writers leave texts empty, which validators complain about
    for tag, text in ((MAKE, metadata.make), (MODEL, metadata.model)):
        if text:
            main[tag] = text_entry(text)
    if metadata.lens and LENS_MODEL not in exif:
        exif[LENS_MODEL] = text_entry(metadata.lens)
    for tag, value in (
        (EXPOSURE_TIME, metadata.shutter),
        (F_NUMBER, metadata.aperture),
        (FOCAL_LENGTH, metadata.focal_length),
    ):
        known = exif[tag].numbers[0] if tag in exif else float("nan")
        if value is None:
            exif.pop(tag, None)  # a zero, which is no exposure time
        elif not abs(known / value - 1) < 1e-3:  # the source's own fraction is kept when it says the same
            exif[tag] = entry(RATIONAL, value)
    if metadata.iso:
        exif[ISO] = entry(SHORT, min(round(metadata.iso), 65535))
        if metadata.iso > 65535:  # EXIF 2.3: a SHORT is too small, so the value is in RecommendedExposureIndex
            exif |= {_SENSITIVITY_TYPE: entry(SHORT, 2), EXPOSURE_INDEX: entry(LONG, round(metadata.iso))}
    if exif:
        exif.setdefault(_VERSION, Entry(7, b"0231"))
    return main, exif, dict(source.gps)


def exif_block(metadata: Metadata, source: FileTags | None, software: str) -> bytes:
    """An EXIF block ("Exif", two NULs, a small TIFF file) for a JPEG or PNG that is already turned upright."""
    main, exif, gps = capture_tags(metadata, source)
    main |= {ORIENTATION: entry(SHORT, 1), SOFTWARE: text_entry(software)}
    exif[40961] = entry(SHORT, 1)  # ColorSpace: sRGB
    subs = [(tag, tags) for tag, tags in ((EXIF_IFD, exif), (GPS_IFD, gps)) if tags]
    links = {tag: [number] for number, (tag, _) in enumerate(subs, 1)}
    return b"Exif\0\0" + tiff_bytes([main, *(tags for _, tags in subs)], links, [])

"""The frames of a calibration: which files there are, at which ISO, and their mosaics."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from exposurediffusion.datasets.listing import find_raws
from exposurediffusion.decoding.megapixels import LARGER, MAX_MEGAPIXELS
from exposurediffusion.decoding.process import DecodingError, decode
from exposurediffusion.physics.sensor import Metadata, RawFrame, Sensor
from exposurediffusion.raw.read import read_metadata, read_raw

_TIFFS = (".tif", ".tiff")


class NotEnough(ValueError):
    """What there is of an ISO does not suffice; other ISOs may."""


@dataclass(frozen=True)
class Shot:
    """A file, and what is known of its exposure.

    Attributes:
        path: a raw file, or a TIFF that holds a mosaic.
        iso: sensitivity setting.
        shutter: exposure time, seconds; None: unknown.
        camera: make and model; empty: the file does not say.
        sensor: colour filter array and levels of a TIFF; None: the file says.
        max_megapixels: a larger one is refused.
    """

    path: Path
    iso: float
    shutter: float | None = None
    camera: str = ""
    sensor: Sensor | None = field(default=None, repr=False)
    max_megapixels: float = MAX_MEGAPIXELS

    def read(self) -> RawFrame:
        """The frame.

        Raises:
            ValueError: the file is damaged, or no mosaic.
            OSError: the file cannot be opened.
        """
        if self.sensor is None:
            return read_raw(self.path, self.max_megapixels)
        try:
            mosaic = decode("tiff_image", os.path.abspath(self.path), self.max_megapixels, None, None).arrays[0]
        except (DecodingError, MemoryError) as error:
            remedy = f"; {LARGER}" if isinstance(error, DecodingError) and "TooLargeError" in error.kinds else ""
            raise ValueError(f"{self.path}: cannot be read as a TIFF ({error}{remedy})") from error
        if mosaic.ndim != 2 or mosaic.dtype.kind not in "uf":
            raise ValueError(f"{self.path}: no mosaic (shape {mosaic.shape}, {mosaic.dtype}): one number for each site")
        if not np.isfinite(mosaic).all():
            raise ValueError(f"{self.path}: damaged, it has values that are no numbers")
        return RawFrame(mosaic, self.sensor, Metadata(iso=self.iso, shutter=self.shutter, source=str(self.path)))


def find_shots(
    folder: Path,
    problem: Callable[[str], None],
    sensor: Sensor | None = None,
    listing: Path | None = None,
    iso: float | None = None,
) -> list[Shot]:
    """The shots of a folder, by name.

    Args:
        folder: of raw files, or with `sensor` of TIFF mosaics; is searched with its subfolders.
        problem: is given a line for each file that cannot be used.
        sensor: of TIFF mosaics; None: there are none.
        listing: a CSV with the columns file (seen from the CSV's folder), iso and, if known, shutter (seconds); what it
            does not name is left out. None: the files' own metadata say.
        iso: of files that say none.

    Raises:
        ValueError: no such folder, nothing in it, or a listing that is none.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: {'a file, give its folder' if folder.exists() else 'no such folder'}")
    stated = _stated(listing) if listing else None
    files = _mosaics(folder) if sensor else find_raws(folder, recursive=True)
    if stated is not None:
        inside = folder.resolve()
        for missing in (path for path in stated if path.is_relative_to(inside) and not path.is_file()):
            problem(f"{missing}: is in {listing}, and there is no such file")
        files = [path for path in files if path.resolve() in stated]
    if not files:
        kind = "TIFF files" if sensor else "raw files (of TIFF mosaics say the colour filter array: --cfa RGGB)"
        raise ValueError(f"{folder}: no {kind}")
    shots = []
    for path in files:
        try:
            shots.append(_shot(path, (stated or {}).get(path.resolve()), sensor, iso))
        except (ValueError, OSError) as error:
            problem(str(error))
    return shots


def _shot(path: Path, row: tuple[float, float | None] | None, sensor: Sensor | None, iso: float | None) -> Shot:
    said = Metadata() if sensor else read_metadata(path)
    setting, shutter = row or (said.iso or iso, said.shutter)
    if not setting:
        raise ValueError(f"{path}: says no ISO: give --list, a CSV with file,iso,shutter, or --iso for all")
    return Shot(path, setting, shutter, said.camera, sensor)


def _mosaics(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in _TIFFS and path.is_file())


def _stated(listing: Path) -> dict[Path, tuple[float, float | None]]:
    """ISO and shutter of each file that a CSV names."""
    try:
        with listing.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{listing}: cannot be read as a CSV ({error})") from error
    if not rows or not {"file", "iso"} <= set(rows[0]):
        raise ValueError(f"{listing}: needs the columns file,iso and, if known, shutter")
    stated: dict[Path, tuple[float, float | None]] = {}
    for line, row in enumerate(rows, 2):
        try:
            iso, shutter = float(row["iso"] or ""), _seconds(row.get("shutter") or "")
        except ValueError as error:
            raise ValueError(f"{listing}: line {line}: {error}") from error
        if not 0 < iso < 1e8:
            raise ValueError(f"{listing}: line {line}: an ISO is a positive number, got {iso:g}")
        stated[(listing.parent / row["file"]).resolve()] = iso, shutter
    return stated


def _seconds(text: str) -> float | None:
    """What "1/30" or "0.033" means; None: nothing is said."""
    if not text.strip():
        return None
    above, _, below = text.partition("/")
    seconds = float(above) / (float(below or 1) or float("nan"))
    if not 0 < seconds < 1e6:
        raise ValueError(f"an exposure time is a positive number of seconds, got {text}")
    return seconds


def readable(
    shots: Iterable[Shot], problem: Callable[[str], None], tick: Callable[[], None]
) -> Iterator[tuple[Shot, RawFrame]]:
    """Shots with their frames, one at a time; `problem` is given a line for each that cannot be read."""
    for shot in shots:
        try:
            frame = shot.read()
        except (ValueError, OSError) as error:
            problem(str(error))
            continue
        finally:
            tick()
        yield shot, frame


def check_alike(shot: Shot, frame: RawFrame, first: Shot, like: RawFrame) -> None:
    """Raise ValueError if a frame is of another camera, size or colour filter array than the first."""
    kinds = [f"{s.camera or 'unknown camera'}, {f.sensor.cfa.name}, {f.shape[1]}x{f.shape[0]}"
             for s, f in ((shot, frame), (first, like))]  # fmt: skip
    if kinds[0] != kinds[1] or frame.sensor.cfa != like.sensor.cfa:
        raise ValueError(f"{shot.path} ({kinds[0]}) and {first.path} ({kinds[1]}) differ: one camera at a time")


def above_black(frame: RawFrame, reference: Sensor) -> np.ndarray:
    """The mosaic in DN above the black level of `reference`, float32 (rows, columns)."""
    values = frame.mosaic.astype(np.float32)
    for rows, columns, black in reference.sites:
        values[rows, columns] -= np.float32(black)
    return values

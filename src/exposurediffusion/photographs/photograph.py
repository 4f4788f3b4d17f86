"""A raw file, and the files to make of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Format = Literal["dng", "tiff", "tif", "png", "jpeg", "jpg"]
FORMATS: dict[str, Format] = {"tif": "tiff", "jpg": "jpeg"}
SUFFIXES: dict[Format, str] = {"tiff": ".tif", "jpeg": ".jpg"}


@dataclass(frozen=True)
class Job:
    """One raw file, and the files to make of it.

    Attributes:
        source: the raw file.
        target: the result.
        format: of the target; tiff and jpeg, not tif and jpg.
        kept_maps: names of the maps that are written beside it.
    """

    source: Path
    target: Path
    format: Format
    kept_maps: tuple[str, ...] = ()

    @staticmethod
    def beside(source: Path, format: Format, kept_maps: tuple[str, ...] = ()) -> Job:
        """With its result beside the raw file, as NAME-enhanced."""
        suffix = SUFFIXES.get(format, f".{format}")
        return Job(source, source.with_name(f"{source.stem}-enhanced{suffix}"), format, kept_maps)

    @property
    def maps(self) -> dict[str, Path]:
        """The files of the maps, by their names."""
        return {name: self.target.with_name(f"{self.target.stem}-{name}.tif") for name in self.kept_maps}

    @property
    def comparison(self) -> Path:
        """The page with capture and result."""
        return self.target.with_name(f"{self.target.stem}-compare.html")

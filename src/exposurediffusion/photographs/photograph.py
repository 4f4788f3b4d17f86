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

    @property
    def maps(self) -> dict[str, Path]:
        """The files of the maps, by their names."""
        return {name: self.target.with_name(f"{self.target.stem}-{name}.tif") for name in self.kept_maps}

    @property
    def comparison(self) -> Path:
        """The page with capture and result."""
        return self.target.with_name(f"{self.target.stem}-compare.html")

"""The photographs that the page shows: those in the folders that were named, and those that were dropped on it.

A photograph goes by a name that is made up here; no path ever comes from the page.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from exposurediffusion.datasets.listing import RAW_EXTENSIONS, find_raws

MANY = 10
"""Uploads of the largest size that are taken in all."""


class NotThere(LookupError):
    """There is no such photograph, or not any more."""


class TooLarge(ValueError):
    """An upload is larger than was allowed."""


@dataclass(frozen=True)
class Photograph:
    """A raw file of the album.

    Attributes:
        path: as it was named or found.
        uploaded: it came from the page, and lies in a folder of its own.
    """

    path: Path
    uploaded: bool = False

    @property
    def key(self) -> str:
        """By which the page names it."""
        return hashlib.sha256(os.fsencode(self.path)).hexdigest()[:16]


@dataclass
class Album:
    """All photographs, by the names that the page has for them.

    Attributes:
        inputs: raw files, and folders of them.
        uploads: a private folder for what is dropped.
        limit: bytes of one upload at most.
    """

    inputs: tuple[Path, ...]
    uploads: Path
    limit: int
    _dropped: list[Photograph] = field(default_factory=list)
    _known: dict[str, Photograph] = field(default_factory=dict)
    _taken: int = 0

    def photographs(self) -> list[Photograph]:
        """All of them, as they are now; what `expose enhance` made is left out, and links that lead elsewhere."""
        found: dict[Path, Photograph] = {}
        for path in self.inputs:
            for raw in self._raws(path) if path.is_dir() else [path]:
                if not raw.stem.endswith("-enhanced") and self._inside(raw):
                    found.setdefault(raw, Photograph(raw))
        every = [*found.values(), *self._dropped]
        self._known = {photograph.key: photograph for photograph in every}
        return every

    @staticmethod
    def _raws(folder: Path) -> list[Path]:
        try:
            return find_raws(folder)
        except OSError:  # taken away, or closed, since it was named
            return []

    def _inside(self, raw: Path) -> bool:
        """Whether a file was named, or really lies in a folder that was."""
        folders = [path.resolve() for path in self.inputs if path.is_dir()]
        return raw in self.inputs or any(folder in raw.resolve().parents for folder in folders)

    def find(self, key: str) -> Photograph:
        """The photograph of that name.

        Raises:
            NotThere: there is none, or its file is gone, or leads out of its folder by now.
        """
        if key not in self._known:
            self.photographs()
        photograph = self._known.get(key)
        if photograph is None or not photograph.path.is_file():
            raise NotThere("this photograph is not there any more: load the page again")
        if not (photograph.uploaded or self._inside(photograph.path)):
            raise NotThere(f"{photograph.path.name}: leads out of the folder that was named")
        return photograph

    async def take(self, name: str, chunks: AsyncIterator[bytes]) -> Photograph:
        """Keep what is dropped on the page.

        Args:
            name: of the file; of a path only the last part is used.
            chunks: its bytes.

        Raises:
            TooLarge: more than the limit, or than all that is taken from pages.
            ValueError: the name is not that of a raw file.
        """
        name = re.sub(r"[\x00-\x1f\x7f]", "", re.split(r"[/\\]", name)[-1])[-120:].lstrip(".")
        if Path(name).suffix.lower() not in RAW_EXTENSIONS:
            raise ValueError(
                f"{name or 'a file without a name'}: not a raw photograph by its name (.ARW, .NEF, .DNG, ...)"
            )
        folder = self.uploads / secrets.token_hex(8)
        folder.mkdir(mode=0o700)
        path, size = folder / name, 0
        try:
            with open(path, "xb") as stream:
                async for chunk in chunks:
                    size += len(chunk)
                    if size > self.limit:
                        raise TooLarge(f"{name}: larger than {self.limit / 1e6:g} MB, the limit (--max-upload)")
                    if self._taken + size > MANY * self.limit:
                        raise TooLarge(
                            f"{name}: with it more than {MANY * self.limit / 1e6:g} MB were dropped; start anew"
                        )
                    stream.write(chunk)
        except BaseException:  # of any kind, the browser's going away too: nothing half taken is left
            path.unlink(missing_ok=True)
            folder.rmdir()
            raise
        self._taken += size
        photograph = Photograph(path, uploaded=True)
        self._dropped.append(photograph)
        self._known[photograph.key] = photograph
        return photograph

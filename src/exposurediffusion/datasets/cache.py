"""Decoded frames, kept packed on disk, so that training reads windows of them instead of whole raw files.

A cache is a folder with two files for each frame, named after the raw file and a hash of its path as seen from the
folder:

- `NAME-HASH.npy`: NumPy's own format, uint16 (planes, h, w), the packed planes (`physics.mosaic.pack`) in DN, black
  level included. `numpy.load(..., mmap_mode="r")` opens it.
- `NAME-HASH.json`: where it came from (path, size, time of change) and what is needed to read it: rows and columns of
  the mosaic, colour filter array, black level of each site of the first tile, white level, the file's metadata, and the
  checksum (Adler-32) of the .npy, which is looked at when a process first reads that.

The .json is written last and both appear whole, so an interrupted build goes on where it stopped. A frame whose raw
file has another size or time of change is made anew. Deleting the folder is always safe.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from exposurediffusion.datasets.cached_frame import CachedFrame, npy_header, restored
from exposurediffusion.decoding.megapixels import MAX_MEGAPIXELS
from exposurediffusion.files.atomic import atomic
from exposurediffusion.physics.mosaic import pack
from exposurediffusion.physics.plain import read_json
from exposurediffusion.raw.read import RawError, read_raw

FOLDER = ".exposurediffusion-cache"
_FORMAT = "exposurediffusion frame 3"
_SPARE = 64 << 20  # bytes of the disk that are left to others
_FEW = 16  # so few frames are decoded sooner than processes start


@dataclass(frozen=True)
class FrameCache:
    """A folder of packed frames; the module says what is in it.

    Attributes:
        folder: is made when it is needed.
        max_megapixels: larger raw files are refused.
    """

    folder: Path
    max_megapixels: float = MAX_MEGAPIXELS

    @staticmethod
    def beside(root: Path) -> FrameCache:
        """The default cache of a data set: inside it, or in the user's cache folder where it cannot be written to."""
        if os.access(root, os.W_OK):
            return FrameCache(root / FOLDER)
        user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return FrameCache(user / "exposurediffusion" / f"{root.resolve().name}-{_hash(str(root.resolve()))}")

    def frame(self, path: Path) -> CachedFrame:
        """The frame of a raw file.

        Raises:
            ValueError: it is not in the cache, or not as the raw file is now.
        """
        array, record = self._files(path)
        try:
            stored = read_json(record)
            found = path.stat()
            if (stored["format"], stored["size"], stored["mtime_ns"]) != (_FORMAT, found.st_size, found.st_mtime_ns):
                raise ValueError("the raw file has changed")
            frame = restored(stored, array)
            if not frame.is_whole:
                raise ValueError("the planes are damaged")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}: not in the cache {self.folder} ({error}); build it") from error
        return replace(frame, metadata=replace(frame.metadata, source=str(path)))

    def missing(self, paths: Sequence[Path]) -> list[Path]:
        """Those that are not in the cache as they are now, each once."""
        return [path for path in dict.fromkeys(paths) if not self._has(path)]

    def build(
        self,
        paths: Sequence[Path],
        workers: int | None = None,
        tick: Callable[[int, int], None] | None = None,
    ) -> list[str]:
        """Decode what is missing.

        Args:
            paths: raw files.
            workers: processes; None: one a core, at most 8; 0: none but this one.
            tick: is called with the number of frames done and of all that were missing.

        Returns:
            What was wrong with the files that cannot be read, one line each.

        Raises:
            ValueError: the folder cannot be written to, or the disk is full, or too small for what is to come.
        """
        todo = self.missing(paths)
        problems: list[str] = []
        for done, (path, problem) in enumerate(self._store_all(todo, workers), 1):
            if problem:
                problems.append(problem)
            elif done == 1 + len(problems) and done < len(todo):  # the first frame shows the size of the others
                self._check_space(path, len(todo) - done)
            if tick:
                tick(done, len(todo))
        return problems

    def _store_all(self, todo: list[Path], workers: int | None) -> Iterator[tuple[Path, str | None]]:
        """Store frames until one can be read, then the others side by side; the caller checks the space in between."""
        for place, path in enumerate(todo):
            problem = self.store(path)
            yield path, problem
            if not problem:
                yield from self._store_rest(todo[place + 1 :], workers)
                return

    def _store_rest(self, todo: list[Path], workers: int | None) -> Iterator[tuple[Path, str | None]]:
        processes = min(len(todo), min(8, os.cpu_count() or 1) if workers is None else workers)
        if processes <= 1 or len(todo) <= _FEW:
            yield from ((path, self.store(path)) for path in todo)
            return
        pool = ProcessPoolExecutor(processes, get_context("spawn"), _begin_worker)
        try:
            waiting = {pool.submit(self.store, path): path for path in todo}
            for future in as_completed(waiting):
                yield waiting[future], future.result()
        except BrokenProcessPool as error:
            raise ValueError(
                f"{self.folder}: a process that decodes raw files has died, of lack of memory or of a damaged file; "
                "start again (what is done is kept), with one worker to see at which file"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)

    def _check_space(self, path: Path, others: int) -> None:
        each = self._files(path)[0].stat().st_size
        free = shutil.disk_usage(self.folder).free - _SPARE
        if each * others > free:
            needed, left = (f"{size / 1e6:,.1f} MB" for size in (each * others, max(free, 0)))
            raise ValueError(
                f"{self.folder}: {others} more frames need about {needed}, and {left} are free; "
                "free some space, or choose another folder for the cache"
            )

    def store(self, path: Path) -> str | None:
        """Decode one raw file into the cache.

        Returns:
            What is wrong with the file; None: all is well.

        Raises:
            ValueError: the cache cannot be written to.
        """
        try:
            found = path.stat()
            frame = read_raw(path, self.max_megapixels)
        except RawError as error:
            return str(error)
        except OSError as error:
            return f"{path}: cannot be read ({error.strerror or error})"
        array, record = self._files(path)
        cfa = frame.sensor.cfa
        planes = pack(torch.from_numpy(frame.mosaic.view(np.int16)), cfa).numpy().view(np.uint16)
        head = npy_header(planes.shape)
        stored = {
            "format": _FORMAT,
            "source": os.path.relpath(path, self.folder),
            "size": found.st_size,
            "mtime_ns": found.st_mtime_ns,
            "shape": frame.shape,
            "cfa": asdict(cfa),
            "black_level": frame.sensor.black_level,
            "white_level": frame.sensor.white_level,
            "metadata": asdict(frame.metadata),
            "checksum": zlib.adler32(planes.data, zlib.adler32(head)),
        }
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            record.unlink(missing_ok=True)  # of another version of the file: never beside the new planes
            with atomic(array) as stream:
                stream.write(head)
                stream.write(planes.data)  # np.save would lose the reason of a failure
            with atomic(record) as stream:
                stream.write(json.dumps(stored, indent=1).encode())
        except OSError as error:
            raise ValueError(
                f"{error.strerror or error}; free some space there, or choose another folder for the cache "
                "(frames that are in it already are kept)"
            ) from error
        return None

    def _has(self, path: Path) -> bool:
        try:
            self.frame(path)
        except ValueError:
            return False
        return True

    def _files(self, path: Path) -> tuple[Path, Path]:
        """The .npy and the .json; their hash is of the path seen from here, so that a data set can be moved with it."""
        try:
            seen = os.path.relpath(path.resolve(), self.folder.resolve())
        except ValueError:  # on another drive
            seen = str(path.resolve())
        stem = f"{path.name[:60]}-{_hash(seen)}"
        return self.folder / f"{stem}.npy", self.folder / f"{stem}.json"


def _begin_worker() -> None:
    """One thread each; Ctrl-C reaches every process of a terminal, and the first one ends the others in good order."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:12]

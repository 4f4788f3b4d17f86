"""Decoded frames, kept packed on disk, so that training reads windows of them instead of whole raw files.

A cache is a folder with two files for each frame, named after the raw file and a hash of its path as seen from the
folder:

- `NAME-HASH.npy`: NumPy's own format, uint16 (planes, h, w), the packed planes (`physics.mosaic.pack`) in DN, black
  level included. `numpy.load(..., mmap_mode="r")` opens it.
- `NAME-HASH.json`: where it came from (path, size, time of change) and what is needed to read it: rows and columns of
  the mosaic, colour filter array, black level of each site of the first tile, white level, and the file's metadata.

The .json is written last and both appear whole, so an interrupted build goes on where it stopped. A frame whose raw
file has another size or time of change is made anew. Deleting the folder is always safe.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from exposurediffusion.files.atomic import atomic
from exposurediffusion.physics.dark_shading import Window
from exposurediffusion.physics.mosaic import CFA, pack, packed_shape, unpack
from exposurediffusion.physics.sensor import Metadata, RawFrame, Sensor
from exposurediffusion.raw.read import RawError, read_raw

FOLDER = ".exposurediffusion-cache"
_FORMAT = "exposurediffusion frame 2"
_SPARE = 64 << 20  # bytes of the disk that are left to others
_FEW = 16  # so few frames are decoded sooner than processes start


@dataclass(frozen=True)
class CachedFrame:
    """A packed frame on disk. Nothing is open between calls, so that it can be sent to other processes.

    Attributes:
        array: the .npy file.
        sensor: levels and colour filter array of the frame.
        shape: rows and columns of the mosaic in sites.
        metadata: of the raw file.
    """

    array: Path
    sensor: Sensor
    shape: tuple[int, int]
    metadata: Metadata

    @property
    def cfa(self) -> CFA:
        """Colour filter array."""
        return self.sensor.cfa

    @property
    def source(self) -> str:
        """Path of the raw file."""
        return self.metadata.source or str(self.array)

    def planes(self, window: Window | None = None) -> Float[Tensor, "planes h w"]:
        """Normalised planes (black 0, white 1, not clipped), float32, of a window that begins with a tile; None: all.

        Raises:
            ValueError: the file is gone, or damaged.
        """
        digits = self._digits()
        top, left, height, width = window or (0, 0, *digits.shape[1:])
        part = digits[:, top : top + height, left : left + width].astype(np.float32)
        black = _black(self.sensor)
        if (k := black.shape[1]) > 1:
            rows, columns = part.shape[1:]
            black = black.repeat(1, -(-rows // k), -(-columns // k))[:, :rows, :columns]
        return torch.from_numpy(part).sub_(black).div_(self.sensor.white_level - black)

    def frame(self) -> RawFrame:
        """The whole frame as it was read, without its masked margins."""
        digits = torch.from_numpy(self._digits().view(np.int16).copy())
        mosaic = unpack(digits, self.cfa, self.shape)
        return RawFrame(mosaic.numpy().view(np.uint16), self.sensor, self.metadata)

    def _digits(self) -> np.ndarray:
        try:
            digits = np.load(self.array, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise ValueError(f"{self.array}: damaged or gone ({error}); start again, it is then made anew") from error
        if digits.dtype != np.uint16 or digits.shape != (self.cfa.planes, *packed_shape(self.shape, self.cfa)):
            raise ValueError(f"{self.array}: not the planes of {self.source}; start again, they are then made anew")
        return digits


@dataclass(frozen=True)
class FrameCache:
    """A folder of packed frames; the module says what is in it.

    Attributes:
        folder: is made when it is needed.
    """

    folder: Path

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
            stored = json.loads(record.read_text())
            found = path.stat()
            if (stored["format"], stored["size"], stored["mtime_ns"]) != (_FORMAT, found.st_size, found.st_mtime_ns):
                raise ValueError("the raw file has changed")
            frame = _restore(stored, array)
            frame.planes((0, 0, 0, 0))
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
            frame = read_raw(path)
        except RawError as error:
            return str(error)
        except OSError as error:
            return f"{path}: cannot be read ({error.strerror or error})"
        array, record = self._files(path)
        cfa = frame.sensor.cfa
        planes = pack(torch.from_numpy(frame.mosaic.view(np.int16)), cfa).numpy().view(np.uint16)
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
        }
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            record.unlink(missing_ok=True)  # of another version of the file: never beside the new planes
            with atomic(array) as stream:
                np.lib.format.write_array_header_1_0(stream, np.lib.format.header_data_from_array_1_0(planes))
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


@lru_cache
def _black(sensor: Sensor) -> Float[Tensor, "planes k k"]:
    """DN at no light of each plane, which repeats; of equal levels one number each."""
    cfa = sensor.cfa
    top, left = cfa.origin
    black = pack(torch.from_numpy(sensor.black((cfa.period, cfa.period), -top, -left)).float(), cfa.tile)
    return black[:, :1, :1] if bool((black == black[:, :1, :1]).all()) else black


def _begin_worker() -> None:
    """One thread each; Ctrl-C reaches every process of a terminal, and the first one ends the others in good order."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:12]


def _restore(stored: dict[str, Any], array: Path) -> CachedFrame:
    rows, columns = stored["shape"]
    cfa = CFA(stored["cfa"]["name"], tuple(stored["cfa"]["origin"]))
    metadata: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in stored["metadata"].items()}
    sensor = Sensor(cfa, tuple(stored["black_level"]), stored["white_level"])
    return CachedFrame(array, sensor, (rows, columns), Metadata(**metadata))

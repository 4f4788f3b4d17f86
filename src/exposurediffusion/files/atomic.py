"""Files that appear whole or not at all."""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import lru_cache
from io import BufferedIOBase
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

SOFTWARE_NAME = "ExposureDiffusion"
"""What written files say in their Software tag."""
_PART = ".part"
_IS_PART = re.compile(r"\..*\.[0-9a-f]{8}\.part", re.DOTALL)


@contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[BufferedIOBase]:
    """A binary stream to a temporary file beside `path`, which takes its place only if all goes well.

    It is on the disk before it takes the place, so that a power failure leaves the old file or the new one. Temporary
    files of processes that were killed are removed when the next one first writes into their folder.

    Raises:
        OSError: it cannot be written; the message names `path`, and nothing is left behind.
    """
    target = Path(path)
    temporary = target.with_name(f".{short(target.name, 100)}.{secrets.token_hex(4)}{_PART}")
    try:
        _remove_orphans(target.parent.absolute())
        try:
            with _locked(temporary) as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, target)
            _sync_folder(target.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(error.errno, f"cannot write {target}: {reason}") from error


def short(name: str, most: int) -> str:
    """The beginning of a file's name, of at most so many bytes: what a file system limits are bytes."""
    return os.fsencode(name)[:most].decode(errors="ignore")


@contextmanager
def _locked(temporary: Path) -> Iterator[BufferedIOBase]:
    """A new file that is known to be in use while it is open: its lock goes with its process."""
    while True:
        with open(temporary, "xb") as stream:
            if fcntl is not None:
                with suppress(OSError):  # a file system without locks
                    fcntl.flock(stream, fcntl.LOCK_EX)
                if not temporary.exists():  # taken for an orphan before it was locked
                    continue
            yield stream
            return


@lru_cache
def _remove_orphans(folder: Path) -> None:
    """Remove, once a process, what others left half-written in a folder when they were killed."""
    with suppress(OSError):
        for path in [Path(entry) for entry in os.scandir(folder) if _IS_PART.fullmatch(entry.name)]:
            with suppress(OSError):  # somebody writes to it: its lock is held, or (Windows) it cannot be removed
                if fcntl is None:
                    path.unlink()
                    continue
                with open(path, "rb") as stream:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()


def _sync_folder(folder: Path) -> None:
    """Put the new name on the disk, too, where folders can be opened for that."""
    with suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep a folder for this process, where the system can lock folders (Windows cannot).

    The lock leaves no file, and goes with the process, whatever way it ends.

    Args:
        folder: is made if need be.

    Raises:
        ValueError: another process has it, or it cannot be written to.
    """
    make_folder(folder)
    with ExitStack() as held:
        if fcntl is not None:
            number = os.open(folder, os.O_RDONLY)
            held.callback(os.close, number)
            try:
                fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ValueError(
                    f"{folder}: another process writes to this folder; wait for its end, or choose another one (-o)"
                ) from error
            except OSError:  # a file system without locks
                pass
        yield


def make_folder(path: Path) -> None:
    """Make a folder to write to, unless it is there.

    Raises:
        ValueError: it cannot be made, or written to; with what to do.
    """
    remedy = "choose another place for the output (-o)"
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        file = next(
            (above for above in (path, *path.parents) if os.path.lexists(above) and not os.path.isdir(above)), None
        )
        reason = f"{file} is no folder" if file else error.strerror
        raise ValueError(f"{path}: cannot be made, {reason}; {remedy}") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise ValueError(f"{path}: nothing can be written into this folder; {remedy}, or allow it")


def safetensors_bytes(tensors: dict[str, Tensor], metadata: dict[str, str]) -> bytes:
    """A safetensors file. `save` alone writes the metadata in another order each time, so that files would differ."""
    content = save(tensors, metadata=metadata)
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(metadata.items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors are aligned
    return len(text).to_bytes(8, "little") + text + content[end:]

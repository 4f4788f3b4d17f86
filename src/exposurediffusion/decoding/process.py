"""Decoding in a process of its own, which may die: a crash, a hang or a bomb there is one error here.

The process is begun at the first file, kept for the next, and begun anew where it died. It has limits and no rights
(`limits`), and what it says is data (`messages`). It ends with the process that began it.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from io import BufferedIOBase
from typing import Any

import numpy as np

from exposurediffusion.decoding.messages import receive, send

_PATIENCE = 600.0  # seconds by the clock, for a decoder that waits for ever; those that work for ever have limits


@dataclass(frozen=True)
class Answer:
    """What a decoder says.

    Attributes:
        value: what JSON holds.
        arrays: images.
        printed: what it wrote to the standard streams.
    """

    value: Any
    arrays: Sequence[np.ndarray]
    printed: str


class DecodingError(ValueError):
    """A decoder failed.

    Attributes:
        kinds: names of the exception's classes, the narrowest first; none if the process died.
    """

    def __init__(self, text: str, kinds: Sequence[str] = ()) -> None:
        super().__init__(text)
        self.kinds = tuple(kinds)


class _Process:
    """One decoding process, or none yet."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.child: subprocess.Popen[bytes] | None = None

    def ask(self, name: str, arguments: Sequence[Any], arrays: Sequence[np.ndarray]) -> Answer:
        """See `decode`; a process that fell silent is ended, and the next question begins another."""
        with self.lock:
            child = self._running()
            overdue = threading.Event()
            clock = threading.Timer(_PATIENCE, lambda: (overdue.set(), child.kill()))
            clock.daemon = True
            clock.start()
            try:
                send(_there(child.stdin), (name, arguments), arrays)
                answer, found = receive(_there(child.stdout))
            except (EOFError, OSError, ValueError) as error:
                status = _status(child)
                self.end()
                raise DecodingError(_cause(status, overdue.is_set())) from error
            except BaseException:  # interrupted in the middle of an answer: the rest of it must not be the next one
                self.end()
                raise
            finally:
                clock.cancel()
        if "error" in answer:
            raise DecodingError(str(answer["error"]), answer["kinds"])
        return Answer(answer["value"], found, str(answer["printed"]))

    def _running(self) -> subprocess.Popen[bytes]:
        if self.child is None or self.child.poll() is not None:
            command = [sys.executable, "-P", "-c", "from exposurediffusion.decoding.__main__ import main; main()"]
            paths = os.pathsep.join([path for path in sys.path if path])
            environment = os.environ | {"PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
            pipe = subprocess.PIPE
            try:
                self.child = subprocess.Popen(
                    command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=environment
                )
            except OSError as error:
                raise OSError(error.errno, f"no process to decode in can be begun ({error.strerror})") from error
        return self.child

    def end(self) -> None:
        if self.child is not None:
            with contextlib.suppress(OSError):
                self.child.kill()
            self.child.wait()
            for stream in (self.child.stdin, self.child.stdout):
                with contextlib.suppress(OSError):
                    _there(stream).close()
            self.child = None


def _there(stream: object) -> BufferedIOBase:
    assert isinstance(stream, BufferedIOBase)  # it is a pipe
    return stream


def _status(child: subprocess.Popen[bytes]) -> int | None:
    """How a process that fell silent ended; None: it did not."""
    try:
        return child.wait(1)
    except subprocess.TimeoutExpired:
        return None


def _cause(status: int | None, overdue: bool) -> str:
    if overdue:
        return f"its decoder did not end within {_PATIENCE:g} s and was stopped"
    if status == -getattr(signal, "SIGXCPU", 0):
        return "its decoder did not end in any reasonable time and was stopped"
    if status is not None and status < 0:
        return f"its decoder crashed ({signal.Signals(-status).name})"
    return "its decoder ended unexpectedly"


_process = _Process()


def _forget() -> None:
    """After a fork: the child belongs to the parent."""
    global _process
    _process = _Process()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
atexit.register(lambda: _process.end())


def decode(name: str, *arguments: Any, arrays: Sequence[np.ndarray] = ()) -> Answer:
    """Call a function of `decoders` in the decoding process; one at a time, others wait.

    Args:
        name: of the function.
        arguments: what JSON holds; paths must be absolute.
        arrays: go after the arguments.

    Raises:
        DecodingError: it raised something, or died.
        MemoryError: it needed more memory than the size that the file claims allows.
        OSError: the file cannot be opened, or no process begun.
    """
    try:
        return _process.ask(name, arguments, arrays)
    except DecodingError as error:
        if "MemoryError" in error.kinds:
            raise MemoryError(str(error)) from error
        raise

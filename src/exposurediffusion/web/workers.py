"""Work in processes of its own, each of which may die without taking the page along."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from exposurediffusion.photographs.failures import ERRORS, reason

R = TypeVar("R")
_FORKS = "forkserver" in multiprocessing.get_all_start_methods()
CONTEXT = multiprocessing.get_context("forkserver" if _FORKS else "spawn")
"""Where there is a fork server, it imports what is heavy once, and a new process is there in no time."""
if _FORKS:
    CONTEXT.set_forkserver_preload(["exposurediffusion.web.looking", "exposurediffusion.web.making"])


class WorkerDied(RuntimeError):
    """The process that did the work is gone."""


class NotWanted(Exception):
    """Whoever asked is gone before the work began."""


async def _wanted() -> bool:
    return True


class Worker:
    """One process, which is started anew where it died.

    Attributes:
        begin, arguments: called in each new process first.
    """

    def __init__(self, begin: Callable[..., None], *arguments: Any) -> None:
        self.begin, self.arguments = begin, arguments
        self._pool: ProcessPoolExecutor | None = None
        self._turn = asyncio.Lock()

    async def do(
        self, function: Callable[..., R], *arguments: Any, wanted: Callable[[], Awaitable[bool]] = _wanted
    ) -> R:
        """`function(*arguments)` there, after all that was asked for before.

        Raises:
            ValueError: what went wrong with a photograph, in words.
            WorkerDied: the process ended in the middle; the next call begins a new one.
            NotWanted: nobody waits for it any more, as `wanted` says when its turn comes.
        """
        async with self._turn:
            if not await wanted():
                raise NotWanted
            try:
                return await asyncio.wrap_future(self._submit(_call, function, arguments))
            except BrokenProcessPool as error:
                self._pool = None
                raise WorkerDied(
                    "the process that worked on this photograph ended unexpectedly (a damaged file, or not enough "
                    "memory); the page goes on: try again, or another photograph"
                ) from error

    def _submit(self, function: Callable[..., R], *arguments: Any) -> Future[R]:
        """Begin the work, in a new process where there is none, or it died while nothing was to be done."""
        if self._pool is not None:
            try:
                return self._pool.submit(function, *arguments)
            except BrokenProcessPool:
                self._pool = None
        self._pool = ProcessPoolExecutor(1, CONTEXT, _begin, (self.begin, self.arguments))
        return self._pool.submit(function, *arguments)

    def stop(self) -> None:
        """End the process after what it is doing."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


def _call(function: Callable[..., R], arguments: tuple[Any, ...]) -> R:
    """What went wrong as words: not every exception can be sent to another process."""
    try:
        return function(*arguments)
    except ERRORS as error:
        raise ValueError(reason(error)) from None


def _begin(begin: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the page's own process, which ends this one
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    begin(*arguments)

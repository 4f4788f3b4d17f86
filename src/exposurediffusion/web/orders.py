"""The queue of what is to be saved: one photograph after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Any, Literal

from exposurediffusion.photographs.failures import reason
from exposurediffusion.photographs.photograph import Format, Job
from exposurediffusion.web.album import Photograph
from exposurediffusion.web.asked import Asked
from exposurediffusion.web.making import Cancelled, begin, make
from exposurediffusion.web.workers import CONTEXT, Worker

State = Literal["waiting", "running", "done", "kept", "failed", "cancelled"]


@dataclass
class Order:
    """A result that was asked for.

    Attributes:
        job: its files.
        asked: the settings.
        overwrite: a result that is there already is replaced.
        number: by which the page names it.
        state: what has become of it.
        message: what went wrong.
        seconds: that it took.
        facts: of the command's summary.
    """

    job: Job
    asked: Asked
    overwrite: bool
    number: int
    state: State = "waiting"
    message: str = ""
    seconds: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)


class Orders:
    """All orders, and the worker that carries them out.

    Attributes:
        output: folder for the results of photographs that were not dropped; None: beside each.
    """

    def __init__(self, weights: str, device: str, output: Path | None) -> None:
        self._share, self._cancelled = CONTEXT.Value("d", 0.0), CONTEXT.Event()
        self._worker = Worker(begin, weights, device, self._share, self._cancelled)
        self._numbers, self._came = count(1), asyncio.Event()
        self._orders: dict[int, Order] = {}
        self._started = 0.0
        self.output = output

    def add(self, photographs: Iterable[Photograph], format: Format, asked: Asked, overwrite: bool) -> list[Order]:
        """Put photographs at the end of the queue."""
        added = []
        for photograph in photographs:
            job = Job.beside(photograph.path, format)
            if self.output is not None and not photograph.uploaded:
                job = Job(job.source, self.output / f"{job.source.stem}{job.target.suffix}", job.format)
            order = Order(job, asked, overwrite, next(self._numbers))
            self._orders[order.number] = order
            added.append(order)
        self._came.set()
        return added

    def find(self, number: int) -> Order | None:
        """The order of that number."""
        return self._orders.get(number)

    def cancel(self, order: Order) -> None:
        """Take an order out of the queue; one that runs ends after its tile, and writes nothing."""
        if order.state == "waiting":
            order.state = "cancelled"
        elif order.state == "running":
            self._cancelled.set()

    def forget(self) -> None:
        """Take what is finished off the list."""
        self._orders = {n: order for n, order in self._orders.items() if order.state in ("waiting", "running")}

    def listing(self) -> list[dict[str, Any]]:
        """All orders, for the page."""
        done = [order.seconds for order in self._orders.values() if order.state == "done"]
        usual = sum(done) / len(done) if done else None
        return [
            {
                "number": order.number,
                "name": order.job.source.name,
                "result": order.job.target.name,
                "state": order.state,
                "message": order.message,
                "seconds": round(order.seconds, 1),
                **(self._progress() if order.state == "running" else {}),
                **({"left": usual} if order.state == "waiting" else {}),
            }
            for order in self._orders.values()
        ]

    def _progress(self) -> dict[str, Any]:
        """How far the running one is, and the seconds that it will still take."""
        share, spent = min(1.0, self._share.value), monotonic() - self._started
        return {"share": share, "left": spent * (1 - share) / share if share > 0 else None}

    async def serve(self) -> None:
        """Do what is asked for, without end."""
        while True:
            await self._came.wait()
            order = next((order for order in self._orders.values() if order.state == "waiting"), None)
            if order is None:
                self._came.clear()
                continue
            await self._do(order)

    async def _do(self, order: Order) -> None:
        self._share.value, self._started = 0.0, monotonic()
        self._cancelled.clear()
        order.state = "running"
        try:
            order.facts = await self._worker.do(make, order.job, order.asked, order.overwrite)
            order.state = "kept" if order.facts.get("kept") else "done"
        except Cancelled:
            order.state = "cancelled"
        except Exception as error:  # whatever it was, the queue goes on
            order.state, order.message = "failed", reason(error)
        order.seconds = monotonic() - self._started

    def stop(self) -> None:
        """End it; what runs writes nothing."""
        self._cancelled.set()
        self._worker.stop()

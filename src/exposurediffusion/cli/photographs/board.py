"""How far a batch is: a table on a terminal, elsewhere a line a minute."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from time import monotonic

from rich.table import Column, Table

from exposurediffusion.cli.console import moving, note, on_terminal


class Board:
    """What each machine has done.

    Attributes:
        total: photographs that are due.
        workers: how many are at work on each machine, as of now.
        done, failed: photographs, by machine.
    """

    def __init__(self, total: int, workers: Callable[[], Mapping[str, int]]) -> None:
        self.total, self.workers = total, workers
        self.done, self.failed = Counter[str](), Counter[str]()
        self._seconds = defaultdict[str, float](float)
        self._began = self._shown = monotonic()

    def add(self, machine: str, seconds: float, *, failed: bool) -> None:
        """A photograph came to its end."""
        (self.failed if failed else self.done)[machine] += 1
        self._seconds[machine] += seconds

    @property
    def sums(self) -> str:
        """How many are done, and when all will be."""
        ended, spent = self.done.total() + self.failed.total(), monotonic() - self._began
        left = timedelta(seconds=round((self.total - ended) * spent / ended)) if ended else "unknown"
        return (
            f"{ended} of {self.total} in {timedelta(seconds=round(spent))}, {self.failed.total()} failed, "
            f"{ended / spent:.2g} a second; left: {left}"
        )

    def __rich__(self) -> Table:
        table = Table(
            "machine", *(Column(name, justify="right") for name in ("workers", "done", "failed", "seconds each"))
        )
        workers = self.workers()
        for machine in sorted({*workers, *self.done, *self.failed}):
            done, failed = self.done[machine], self.failed[machine]
            each = f"{self._seconds[machine] / (done + failed):.2f}" if done + failed else ""
            table.add_row(machine, str(workers.get(machine, 0)), str(done), str(failed), each)
        table.caption = self.sums
        return table

    @contextmanager
    def shown(self) -> Iterator[Callable[[], None]]:
        """Yields what shows it anew, at most once a second, or where there is no terminal once a minute."""
        with moving(self) as refresh:

            def show() -> None:
                if monotonic() - self._shown > (1 if on_terminal() else 60):
                    self._shown = monotonic()
                    refresh() if on_terminal() else note(self.sums)

            yield show

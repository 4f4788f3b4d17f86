"""How the commands talk: results to stdout, messages and progress to stderr, one line an error."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.table import Table as RichTable

from exposurediffusion.decoding.megapixels import RANGE

if TYPE_CHECKING:
    from exposurediffusion.evaluation.summary import Table

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""
Positional = tyro.conf.Positional
Inputs = Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PATH ...", help_behavior_hint="")]
"""Files or folders, as many as there are."""
Flag = tyro.conf.FlagCreatePairsOff[bool]
OnOff = Annotated[
    bool,
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="on|off",
        instance_from_str=lambda words: {"on": True, "off": False}[words[0]],
        is_instance=lambda value: isinstance(value, bool),
        str_from_instance=lambda value: ["on" if value else "off"],
        choices=("on", "off"),
    ),
    tyro.conf.FlagConversionOff,
]
"""A switch that is spelt out."""


def _megapixels(words: list[str]) -> float:
    low, high = RANGE
    if not low <= (most := float(words[0])) <= high:
        raise ValueError(f"megapixels lie between {low:g} and {high:g}")
    return most


MaxMegapixels = Annotated[
    float,
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="NUMBER",
        instance_from_str=_megapixels,
        is_instance=lambda value: isinstance(value, float),
        str_from_instance=lambda value: [f"{value:g}"],
    ),
]
"""The largest picture that is decoded."""
Optional = tyro.conf.arg(metavar="NUMBER", help_behavior_hint="")
"""Marks a number that need not be given."""
Output = Annotated[Path, tyro.conf.arg(aliases=["-o"])]
Flat = tyro.conf.arg(name="")
"""Marks a group of options whose names stand alone, without the group's."""
_FIXED = "\u00a0"  # a blank at which lines are not broken
_SHORT = 40  # characters that stay on one line
_messages = Console(stderr=True, highlight=False, soft_wrap=True)
_notes = Console(stderr=True, highlight=False, soft_wrap=True)
"""What `--quiet` silences; errors are none of it."""


class UsageError(Exception):
    """The command was called wrongly: exit code 2."""


class Summary:
    """What a command did: a line each on stdout, or all of it as JSON at the end.

    Attributes:
        failed: number of inputs that could not be done.
        kept: number of results that were there already.
    """

    def __init__(self, as_json: bool) -> None:
        self.as_json, self.failed, self.kept = as_json, 0, 0
        self._entries: list[dict[str, Any]] = []

    def add(self, line: str | None, **fields: Any) -> None:
        """A result, as a line for people (None: they get a table) and fields for a machine."""
        self._entries.append(fields)
        if line is not None and not self.as_json:
            tell(line)

    def keep(self, output: Path, **fields: Any) -> None:
        """A result that was there already: it counts as done."""
        self.kept += 1
        line = f"{output}  kept: it is there already (--overwrite replaces it)"
        self.add(line, kept=True, **fields, output=str(output))

    def fail(self, text: str, **fields: Any) -> None:
        """An input that could not be done: a line on stderr, and counted."""
        self.failed += 1
        text = " ".join(text.split())
        self._entries.append({**fields, "error": text})
        complain(text)

    def finish(self) -> int:
        """Print what is due; the exit code."""
        if self.as_json:
            tell(json.dumps({"results": self._entries, "failed": self.failed}, indent=1))
        elif (self.kept or self.failed) and len(self._entries) > 1:
            tell(f"{len(self._entries) - self.kept - self.failed} done, {self.kept} kept, {self.failed} failed")
        return 1 if self.failed else 0


_untold: list[OSError] = []
"""Why stdout cannot be written."""


def tell(text: str, end: str = "\n") -> None:
    """A line on stdout, at once. What it tells of is done even where it cannot be written: `all_told` says so."""
    try:
        print(text, end=end, flush=True)
    except OSError as error:
        _untold.append(error)
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - it is open to the end


def all_told() -> int:
    """Write out what stdout still holds; 1, and a line on stderr, if a part of it could not be written, else 0.

    That nobody reads on, as of `| head`, is no error.
    """
    tell("", end="")
    lost = [error for error in _untold if not isinstance(error, BrokenPipeError)]
    _untold.clear()
    if lost:
        complain(
            f"the report cannot be written to standard output ({lost[0].strerror}); the results that were made stay"
        )
    return 1 if lost else 0


def complain(text: str) -> None:
    """An error for people, on stderr."""
    with suppress(OSError):  # a full disk there is no failure of what is done
        _messages.print(f"expose: {text}", markup=False)


def is_main() -> bool:
    """Whether this is the one of several processes of a run that talks; torchrun and accelerate number them so."""
    return os.environ.get("RANK", "0") == "0"


def note(text: str) -> None:
    """A message for people, on stderr; of several processes one says it."""
    if is_main():
        with suppress(OSError):
            _notes.print(text, markup=False)


def hush(quiet: bool) -> None:
    """Whether notes and bars are left out."""
    _notes.quiet = quiet


def show(table: Table) -> None:
    """A table on stdout."""
    print_table(table.header, table.texts(), table.title)
    for line in table.notes:
        print(line)


def print_table(header: Iterable[str], rows: Iterable[Iterable[str]], title: str | None = None) -> None:
    """Columns on stdout, all cells whole; on a terminal that is too narrow for them, a paragraph for each row."""
    names, cells = list(header), [list(row) for row in rows]
    widest = [max(map(cell_len, column), default=0) for column in zip(*cells, strict=True)] or [0] * len(names)
    console = Console(width=None if sys.stdout.isatty() else 10_000)
    words = [max(map(cell_len, name.split()), default=0) for name in names]
    for needed in (map(cell_len, names), words):  # a long name of a column is broken rather than the columns
        widths = list(map(max, needed, widest))
        if sum(widths) + 3 * len(widths) + 1 <= console.width:
            grid = RichTable(
                *(Column(name, width=width) for name, width in zip(names, widths, strict=True)), title=title
            )
            for row in cells:
                grid.add_row(*row)
            console.print(grid)
            return
    for line in ([title] if title else []) + [_paragraph(names, row, console.width) for row in cells]:
        print(line)


def _paragraph(names: list[str], row: list[str], width: int) -> str:
    """A row of a table: its first cell on a line, and below it by name what the others say."""
    parts = [f"{name}: {cell}" for name, cell in zip(names[1:], row[1:], strict=True) if cell not in ("", "-")]
    joined = "; ".join(part.replace(" ", _FIXED) if len(part) <= _SHORT else part for part in parts)
    indent: dict[str, Any] = {"initial_indent": "  ", "subsequent_indent": "  "}
    lines = wrap(joined, width - 1, **indent, break_long_words=False, break_on_hyphens=False)
    return "\n".join([row[0], *lines]).replace(_FIXED, " ")


Tick = Callable[..., None]
"""`tick(steps=1)`, or `tick(done=, total=, text=)`: moves a progress bar, and changes the text beside it."""


def on_terminal() -> bool:
    """Whether messages go to a terminal, where a bar can move."""
    return sys.stderr.isatty()


@contextmanager
def progress(description: str, total: int | None, shown: bool = True) -> Iterator[Tick]:
    """A progress bar with an estimate of the time left on stderr; nothing if not `shown`, or not on a terminal.

    Without a `total` there may be nothing to do: the bar appears when its first tick names one.
    """
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=_notes,
        transient=True,
        disable=not (shown and on_terminal()),
    )
    task = bar.add_task(description, total=total, visible=total is not None)

    def tick(steps: int = 1, *, done: int | None = None, total: int | None = None, text: str | None = None) -> None:
        advance = steps if done is None else None
        bar.update(task, advance=advance, completed=done, total=total, description=text, visible=True)

    with bar:
        yield tick


@contextmanager
def moving(shown: RenderableType) -> Iterator[Callable[[], None]]:
    """Something on stderr that changes: what is yielded shows it as it is by then. Nothing if not on a terminal."""
    with Live(shown, console=_notes, auto_refresh=False, transient=True) if on_terminal() else nullcontext() as live:
        yield (lambda: None) if live is None else live.refresh


@contextmanager
def as_usage() -> Iterator[None]:
    """Turn a ValueError of an argument into wrong usage."""
    try:
        yield
    except ValueError as error:
        raise UsageError(str(error)) from error

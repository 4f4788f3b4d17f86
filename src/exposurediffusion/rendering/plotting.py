"""What all plots share: one look, colours for the colour-blind, too, a file that appears whole or not at all."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from importlib import import_module
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np

from exposurediffusion.files.atomic import SOFTWARE_NAME, atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe & Ito
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
GREY = "#666666"
MISSING = "#E4E4E4"
_STYLE: dict[str, Any] = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.labelsize": 10,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#D9D9D9",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "lines.markersize": 5.5,
    "figure.facecolor": "white",
}


@contextmanager
def canvas(
    target: str | os.PathLike[str] | io.BytesIO,
    columns: int,
    size: tuple[float, float],
    rows: int = 1,
    dpi: int = 150,
    **options: Any,
) -> Iterator[list[Axes]]:
    """Empty panels, row by row, which become a PNG file if all goes well.

    No window system and no state of matplotlib's `pyplot` are touched.

    Args:
        target: path of the file, or a stream to write to.
        columns: panels in a row.
        size: of the whole, inches.
        rows: of panels.
        dpi: pixels per inch.
        options: of `Figure.subplots`.

    Raises:
        ValueError: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    try:
        matplotlib, module = import_module("matplotlib"), import_module("matplotlib.figure")
    except ModuleNotFoundError as error:
        message = f"figures need the library {error.name}: pip install exposurediffusion[train]"
        raise ValueError(message) from error
    with matplotlib.rc_context(_STYLE):
        figure = module.Figure(figsize=size, layout="constrained")
        yield list(figure.subplots(rows, columns, squeeze=False, **options).ravel())
        with nullcontext(target) if isinstance(target, io.BytesIO) else atomic(target) as stream:
            figure.savefig(stream, format="png", dpi=dpi, metadata={"Software": SOFTWARE_NAME})


def number(value: float | None) -> float:
    """What matplotlib leaves out where there is no finite number: NaN."""
    return float(value) if value is not None and isfinite(value) else float("nan")


def look(index: int) -> dict[str, Any]:
    """Colour and marker of a series; each differs in both from the next six."""
    return {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)]}


def logarithmic(panel: Axes, values: Sequence[float]) -> None:
    """A logarithmic axis along x that says "10 k", "1 M", "20 G"."""
    ticker = import_module("matplotlib.ticker")
    span = max(values, default=1.0) / min(values, default=1.0)
    steps = (1.0,) if span > 100 else (1.0, 2.0, 5.0) if span > 8 else (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(ticker.LogLocator(subs=steps))
    panel.xaxis.set_major_formatter(ticker.EngFormatter(sep=" "))
    panel.xaxis.set_minor_formatter(ticker.NullFormatter())


def legend_below(panels: list[Axes], columns: int = 4) -> None:
    """One legend for all panels, of the first's series."""
    handles, labels = panels[0].get_legend_handles_labels()
    panels[0].figure.legend(handles, labels, loc="outside lower center", ncols=min(columns, max(1, len(labels))))


def say_if_empty(panel: Axes, values: Sequence[float]) -> None:
    """Say so where a panel has nothing to show."""
    if not np.isfinite(values).any():
        panel.text(0.5, 0.5, "no figures", transform=panel.transAxes, ha="center", va="center", color=GREY)


def ticks_at(panel: Axes, positions: Sequence[int]) -> None:
    """Label these whole numbers along x, the first first, as long as they have room; and nothing else."""
    kept: list[int] = []
    places: list[float] = []
    for position in positions:
        place = panel.transAxes.inverted().transform(panel.transData.transform((position, 0.0)))[0]
        if not places or place - places[-1] > 0.04:
            kept.append(position)
            places.append(place)
    panel.set_xticks(kept, [str(position) for position in kept])
    panel.minorticks_off()

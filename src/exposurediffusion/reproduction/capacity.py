"""Figure 4: what a network costs against what it reaches, with the method and without."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from exposurediffusion.evaluation.cost import Cost
from exposurediffusion.evaluation.summary import Score
from exposurediffusion.rendering.plotting import COLOURS, GREY, canvas, logarithmic, number, say_if_empty

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_AREAS = (30.0, 420.0)  # of the quickest and the slowest marker, square points


class Point(NamedTuple):
    """One network and its inference.

    Attributes:
        label: of the network; two of the same label, with the method and without, are joined.
        method: whether it is used with the method.
        cost: of one evaluation.
        evaluations: of one inference, T + 1.
        scores: ratio -> what was measured.
    """

    label: str
    method: bool
    cost: Cost
    evaluations: int
    scores: Mapping[int, Score | None]

    @property
    def seconds(self) -> float | None:
        """Of the whole inference."""
        return None if self.cost.seconds is None else self.cost.seconds * self.evaluations


def plot_capacity(points: Sequence[Point], path: str | os.PathLike[str], ratio: int | None = None) -> Path:
    """PSNR against parameters and against the multiply-adds of the whole inference; the marker's area is its time.

    Args:
        points: any.
        path: of the PNG file.
        ratio: at which, None: the highest.

    Returns:
        `path`.
    """
    ratio = max((r for point in points for r in point.scores), default=0) if ratio is None else ratio
    scores = [point.scores.get(ratio) for point in points]
    psnr = [number(score and score.psnr) for score in scores]
    shown = [index for index, value in enumerate(psnr) if np.isfinite(value)]
    points, psnr = [points[index] for index in shown], [psnr[index] for index in shown]
    sizes = [float(point.cost.parameters) for point in points]
    work = [point.cost.multiply_adds * point.evaluations for point in points]
    areas = _areas([point.seconds for point in points])
    with canvas(path, 2, (10.5, 4.8), sharey=True) as panels:
        for panel, places in zip(panels, (sizes, work), strict=True):
            logarithmic(panel, places)
            panel.margins(0.15, 0.2)
            at = list(zip(places, psnr, strict=True))
            _points(panel, points, at, areas)
            _names(panel, points, at, areas)
            say_if_empty(panel, psnr)
        panels[0].set(xlabel="parameters", ylabel=f"PSNR at x{ratio}, dB")
        panels[1].set(xlabel="multiply-adds of the whole inference")
        _legend(panels[0], points)
    return Path(path)


def _areas(seconds: Sequence[float | None]) -> list[float]:
    """Of markers, square points: linear in time."""
    slowest = max((time or 0.0 for time in seconds), default=0.0) or 1.0
    return [_AREAS[0] + (_AREAS[1] - _AREAS[0]) * (time or 0.0) / slowest for time in seconds]


def _points(
    panel: Axes, points: Sequence[Point], places: Sequence[tuple[float, float]], areas: Sequence[float]
) -> None:
    """Markers, small ones on top, and lines between those of one network."""
    for index in np.argsort(areas)[::-1]:
        point, (x, y) = points[index], places[index]
        colour = COLOURS[0] if point.method else COLOURS[1]
        face, edge = ("white", colour) if point.seconds is None else (colour, "white")
        marker = "o" if point.method else "s"
        panel.scatter(x, y, areas[index], facecolor=face, edgecolor=edge, marker=marker, zorder=3)
    for label in dict.fromkeys(point.label for point in points):
        group = [place for point, place in zip(points, places, strict=True) if point.label == label]
        panel.plot(*zip(*sorted(group), strict=True), color=GREY, linewidth=0.8, zorder=2)


def _names(panel: Axes, points: Sequence[Point], places: Sequence[tuple[float, float]], areas: Sequence[float]) -> None:
    """The name of each network above its best marker."""
    for label in dict.fromkeys(point.label for point in points):
        best = max((n for n, point in enumerate(points) if point.label == label), key=lambda n: places[n][1])
        above = (0, areas[best] ** 0.5 / 2 + 3)
        panel.annotate(label, places[best], above, textcoords="offset points", ha="center", va="bottom", fontsize=9)


def _legend(panel: Axes, points: Sequence[Point]) -> None:
    """Colours of the two kinds, and some times as sizes."""
    kinds = ((COLOURS[0], "o", "with the method"), (COLOURS[1], "s", "without"))
    handles = [panel.scatter([], [], 60, color=colour, marker=marker, label=name) for colour, marker, name in kinds]
    slowest = max((point.seconds or 0.0 for point in points), default=0.0)
    times = sorted({_round(slowest * share) for share in (0.1, 0.5, 1.0)}) if slowest else []
    for time in times:
        area = _areas([time, slowest])[0]
        handles.append(panel.scatter([], [], area, color="#AAAAAA", label=f"{time:g} s"))
    if any(point.seconds is None for point in points):
        handles.append(panel.scatter([], [], 60, facecolor="white", edgecolor=GREY, label="time not measured"))
    panel.figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), handletextpad=0.8)


def _round(value: float) -> float:
    """To 1, 2 or 5 times a power of ten, downwards."""
    power = 10.0 ** np.floor(np.log10(value))
    return float(f"{max(digit for digit in (1, 2, 5) if digit <= value / power * 1.0001) * power:.1g}")

"""Figure 4: what a network costs against what it reaches, with the method and without."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np

from exposurediffusion.evaluation.cost import Cost
from exposurediffusion.evaluation.summary import Figure
from exposurediffusion.reproduction.style import COLOURS, GREY, canvas, logarithmic, number, say_if_empty

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Sheet

_AREAS = (30.0, 420.0)  # of the quickest and the slowest marker, square points
_SIDES = ((0, 1), (1, 0), (-1, 0), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))  # of a marker, for its name


class Point(NamedTuple):
    """One network and its inference.

    Attributes:
        label: of the network; two of the same label, with the method and without, are joined.
        method: whether it is used with the method.
        cost: of one evaluation.
        evaluations: of one inference, T + 1.
        figures: ratio -> what was measured.
    """

    label: str
    method: bool
    cost: Cost
    evaluations: int
    figures: Mapping[int, Figure | None]

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
    ratio = max((r for point in points for r in point.figures), default=0) if ratio is None else ratio
    figures = [point.figures.get(ratio) for point in points]
    psnr = [number(figure and figure.psnr) for figure in figures]
    shown = [index for index, value in enumerate(psnr) if np.isfinite(value)]
    points, psnr = [points[index] for index in shown], [psnr[index] for index in shown]
    sizes = [float(point.cost.parameters) for point in points]
    work = [point.cost.multiply_adds * point.evaluations for point in points]
    areas = _areas([point.seconds for point in points])
    with canvas(path, 2, (10.5, 4.8), sharey=True) as panels:
        for panel, places in zip(panels, (sizes, work), strict=True):
            logarithmic(panel, places)
            panel.margins(0.15)
            _points(panel, points, list(zip(places, psnr, strict=True)), areas)
            say_if_empty(panel, psnr)
        panels[0].set(xlabel="parameters", ylabel=f"PSNR at x{ratio}, dB")
        panels[1].set(xlabel="multiply-adds of the whole inference")
        _legend(panels[0], points)
        cast("Sheet", panels[0].figure).draw_without_rendering()  # only now are the panels as large as they will be
        for panel, places in zip(panels, (sizes, work), strict=True):
            _names(panel, points, list(zip(places, psnr, strict=True)), areas)
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
    """The name of each network beside one of its markers, the best if it can be, where it hides the least."""
    scale = 72 / panel.figure.dpi  # to points
    centres = [panel.transData.transform(place) * scale for place in places]
    groups: dict[str, list[int]] = {}
    for index in sorted(range(len(points)), key=lambda index: -places[index][1]):
        groups.setdefault(points[index].label, []).append(index)
    taken = [_box(centre, area**0.5, area**0.5) for centre, area in zip(centres, areas, strict=True)]
    for group in groups.values():  # the lines that join them, as beads
        first, last = centres[group[0]], centres[group[-1]]
        taken += [_box(first + share * (last - first), 4, 4) for share in np.linspace(0.05, 0.95, 25)]
    frame = np.multiply(panel.bbox.extents, scale)
    for label, group in groups.items():
        width, height = 5.6 * len(label), 11.0  # about
        candidates = []
        for index in group:
            away = (areas[index] ** 0.5 + width) / 2 + 3, (areas[index] ** 0.5 + height) / 2 + 1
            candidates += [_box(centres[index] + np.multiply(side, away), width, height) for side in _SIDES]
        best = min(candidates, key=lambda box: round(sum(_overlap(box, t) for t in taken) - 9 * _overlap(box, frame)))
        taken.append(best)
        x, y = panel.transAxes.inverted().transform((best[:2] + best[2:]) / 2 / scale)
        panel.text(x, y, label, transform=panel.transAxes, ha="center", va="center", fontsize=9, zorder=4)


def _box(centre: np.ndarray, width: float, height: float) -> np.ndarray:
    """Left, bottom, right, top."""
    half = np.array([width, height]) / 2
    return np.concatenate([centre - half, centre + half])


def _overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Area that two boxes share."""
    shared = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
    return float(np.prod(shared.clip(min=0)))


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

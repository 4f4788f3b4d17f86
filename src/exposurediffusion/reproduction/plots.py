"""The paper's figures as plots, and one that its readers ask for; from numbers to a PNG file.

Nothing is evaluated here, and nothing is read. Numbers that are missing (None or NaN) are left out.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from torch import Tensor

from exposurediffusion.evaluation.pictures import side_by_side
from exposurediffusion.evaluation.summary import Score
from exposurediffusion.rendering.plotting import MISSING, canvas, legend_below, look, number, say_if_empty, ticks_at

if TYPE_CHECKING:
    from matplotlib.axes import Axes

File = str | os.PathLike[str]
CAPTIONS = (
    "(a) low-light capture",
    "(b) reference",
    "(c) adaptive mask M",
    "(d) error change without the layer",
    "(e) error change with the layer",
)


Curve = Mapping[int, Score | None]
"""Number of steps -> what was measured."""


def error_change(
    first: Float[Tensor, "c h w"], last: Float[Tensor, "c h w"], target: Float[Tensor, "c h w"]
) -> Float[Tensor, "h w"]:
    """Change of the error's magnitude from the first step's estimate to the last's: the mean over the planes.

    Above 0, refinement has made the pixel worse.
    """
    return ((last - target).abs() - (first - target).abs()).mean(dim=0)


def plot_residual_layer(
    capture: Float[Tensor, "c h w"],
    reference: Float[Tensor, "c h w"],
    mask: Float[Tensor, "*one h w"],
    change_without: Float[Tensor, "h w"],
    change_with: Float[Tensor, "h w"],
    path: File,
    captions: Sequence[str] = CAPTIONS,
    box: tuple[int, int, int, int] | None = None,
) -> Path:
    """Figure 5: what the adaptive residual layer does to a scene.

    Args:
        capture: at reference brightness; balanced and brightened as the reference is.
        reference: X_ref.
        mask: M, 1 where the directly predicted image counts.
        change_without: `error_change` of a network without the layer,
        change_with: and with it. They share one scale.
        path: of the PNG file.
        captions: one for each of the five panels.
        box: top, left, height and width of a part to be marked, packed pixels.

    Returns:
        `path`.
    """
    height, width = change_with.shape
    changes = [change.detach().cpu().numpy() for change in (change_without, change_with)]
    limit = float(np.nanquantile(np.abs(changes), 0.998)) or 1e-6
    heights = {"height_ratios": [1, 0.045 * width / height]}
    size = 14.0, 2.7 * height / width + 1.1
    with canvas(path, 5, size, rows=2, dpi=180, **heights) as (*panels, hidden, empty, of_mask, first, second):
        hidden.remove()
        empty.remove()
        rendered = side_by_side(capture.detach().cpu()[None], reference.detach().cpu()[None])
        for panel, image in zip(panels[:2], np.split(rendered, 2, axis=1), strict=True):
            panel.imshow(image, interpolation="nearest")
        weights = mask.detach().cpu().numpy().reshape(height, width)
        _map(panels[2], of_mask, weights, (0, 1), "gray", "0: residual, 1: direct branch")
        for panel, bar, change in zip(panels[3:], (first, second), changes, strict=True):
            _map(panel, bar, change, (-limit, limit), "RdBu_r", "|error|, last \N{MINUS SIGN} first step; red: worse")
        for panel, caption in zip(panels, captions, strict=True):
            panel.set_title(caption, fontsize=10)
            panel.set(xticks=[], yticks=[])
            panel.spines[:].set_visible(False)
            panel.grid(visible=False)
            if box is not None:
                _mark(panel, box)
    return Path(path)


def _map(panel: Axes, bar: Axes, values: np.ndarray, limits: tuple[float, float], colours: str, label: str) -> None:
    """A map, and in a panel of its own the bar that explains its colours."""
    low, high = limits
    shown = panel.imshow(values, cmap=colours, vmin=low, vmax=high, interpolation="nearest")
    bar_axis = panel.figure.colorbar(shown, cax=bar, orientation="horizontal")
    ticks = (low, (low + high) / 2, high)
    bar_axis.set_ticks(ticks, labels=[f"{tick:.2g}".replace("-", "\N{MINUS SIGN}") for tick in ticks])
    bar_axis.set_label(label, fontsize=9)
    bar.grid(visible=False)
    for text, side in zip(bar.get_xticklabels(), ("left", "center", "right"), strict=True):
        text.set_horizontalalignment(side)  # within the panel, where the next one's begins


def _mark(panel: Axes, box: tuple[float, float, float, float]) -> None:
    """A frame (top, left, height, width, pixels) that is seen on any ground."""
    top, left, height, width = box
    top, left = top - 0.5, left - 0.5  # a pixel's centre lies at its number
    x, y = [left, left + width, left + width, left, left], [top, top, top + height, top + height, top]
    for colour, line in (("black", 2.6), ("white", 1.2)):
        panel.plot(x, y, color=colour, linewidth=line, scalex=False, scaley=False)


def plot_steps_curves(
    curves: Mapping[int, Mapping[str, Curve]],
    path: File,
    xlabel: str = "steps T",
    trained: int | None = None,
) -> Path:
    """Figure 6: quality against the number of steps, a panel for each ratio.

    Args:
        curves: ratio -> label -> curve; bars show the spread where there is one.
        path: of the PNG file.
        xlabel: what is counted.
        trained: the number of steps in training, marked if given.

    Returns:
        `path`.

    Raises:
        ValueError: there is nothing, not even a missing number.
    """
    if not curves:
        raise ValueError("there is nothing to draw")
    labels = list(dict.fromkeys(label for curve in curves.values() for label in curve))
    steps = sorted({step for of_ratio in curves.values() for curve in of_ratio.values() for step in curve})
    with canvas(path, len(curves), (1.2 + 3.6 * len(curves), 3.9)) as panels:
        for panel, (ratio, of_ratio) in zip(panels, curves.items(), strict=True):
            if trained is not None:
                panel.axvline(trained, color="#999999", linewidth=1, linestyle=":", label=f"trained with {trained}")
            _curves(panel, {label: of_ratio.get(label, {}) for label in labels})
            panel.set(title=f"x{ratio}", xlabel=xlabel)
            ticks_at(panel, steps)
        panels[0].set_ylabel("PSNR, dB")
        legend_below(panels)
    return Path(path)


def plot_convergence(curves: Mapping[str, Curve], path: File, title: str = "") -> Path:
    """Figure 8: quality against the number of network evaluations, on a logarithmic axis, ours beside DDIM.

    Args:
        curves: label -> curve over the number of evaluations, from 1.
        path: of the PNG file.
        title: e.g. data and ratio.

    Returns:
        `path`.
    """
    steps = sorted({step for curve in curves.values() for step in curve})
    with canvas(path, 1, (6.2, 4.2)) as (panel,):
        panel.set_xscale("log")
        _curves(panel, curves)
        panel.set(xlabel="network evaluations", ylabel="PSNR, dB", title=title)
        ticks_at(panel, steps)
        if curves:
            panel.legend(loc="best")
    return Path(path)


def _curves(panel: Axes, curves: Mapping[str, Curve]) -> None:
    """Lines with markers, broken where a number is missing, and bars where there is a spread."""
    for index, (label, curve) in enumerate(curves.items()):
        steps = sorted(curve)
        found = [curve[step] for step in steps]
        values = [number(score and score.psnr) for score in found]
        bars = [number(score and score.spread) for score in found]
        spread = np.nan_to_num(bars) if np.isfinite(bars).any() else None
        panel.errorbar(steps, values, yerr=spread, label=label, capsize=3, elinewidth=1, **look(index))
    say_if_empty(panel, [number(score and score.psnr) for curve in curves.values() for score in curve.values()])


def plot_ablation_heat(
    table: Mapping[tuple[int, int], float | None], path: File, label: str = "PSNR, dB", title: str = ""
) -> Path:
    """The number of steps in training against that in inference; the best inference of each training is framed.

    Args:
        table: (T in training, T in inference) -> figure.
        path: of the PNG file.
        label: what the figures are.
        title: e.g. data and ratio.

    Returns:
        `path`.

    Raises:
        ValueError: there is nothing, not even a missing number.
    """
    if not table:
        raise ValueError("there is nothing to draw")
    trained, inferred = (sorted({pair[axis] for pair in table}) for axis in (0, 1))
    values = np.array([[number(table.get((row, column))) for column in inferred] for row in trained])
    with canvas(path, 1, (1.9 + 0.78 * len(inferred), 1.5 + 0.6 * len(trained))) as (panel,):
        panel.set_facecolor(MISSING)
        shown = panel.imshow(values, cmap="viridis", aspect="auto")
        panel.figure.colorbar(shown, ax=panel, label=label).outline.set_visible(False)
        middle = np.mean(shown.get_clim())
        for (row, column), value in np.ndenumerate(values):
            dark = value < middle
            text = f"{value:.2f}" if np.isfinite(value) else "–"
            panel.text(column, row, text, ha="center", va="center", color="white" if dark else "black", fontsize=9)
        for row in np.flatnonzero(np.isfinite(values).any(axis=1)):
            _mark(panel, (row + 0.05, int(np.nanargmax(values[row])) + 0.05, 0.9, 0.9))
        panel.set_xticks(range(len(inferred)), [str(step) for step in inferred])
        panel.set_yticks(range(len(trained)), [str(step) for step in trained])
        panel.set(xlabel="T in inference (framed: the best)", ylabel="T in training", title=title)
        panel.grid(visible=False)
        panel.tick_params(length=0)
        panel.spines[:].set_visible(False)
    return Path(path)

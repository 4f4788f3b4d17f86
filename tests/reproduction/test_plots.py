"""Figures: what is drawn where, what is missing does not break them, and the file is a picture."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from exposurediffusion.evaluation.cost import Cost
from exposurediffusion.evaluation.pictures import side_by_side
from exposurediffusion.evaluation.summary import Score
from exposurediffusion.reproduction.capacity import Point, plot_capacity
from exposurediffusion.reproduction.plots import (
    error_change,
    plot_ablation_heat,
    plot_convergence,
    plot_residual_layer,
    plot_steps_curves,
)

figures = pytest.importorskip("matplotlib.figure")
NAN = float("nan")


def measured(psnr: float, spread: float | None = None) -> Score:
    return Score(psnr, 0.9, spread)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The figures that have been saved; a warning is an error."""
    found: list[Any] = []
    save = figures.Figure.savefig

    def keep(figure: Any, *args: Any, **options: Any) -> None:
        found.append(figure)
        save(figure, *args, **options)

    monkeypatch.setattr(figures.Figure, "savefig", keep)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield found


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        assert np.asarray(image.convert("L")).std() > 5  # not blank
        return image.size


POINTS = [
    Point("UNet", False, Cost(7_760_484, 48.4e9, 0.2), 1, {100: Score(39.3, 0.91), 300: Score(36.3, 0.87)}),
    Point("UNet", True, Cost(7_761_801, 48.7e9, 0.2), 3, {100: Score(39.4, 0.92), 300: Score(36.8, 0.88)}),
    Point("NAFNet-1", True, Cost(4_793, 1.12e9, None), 3, {300: Score(33.1, 0.80)}),
    Point("not run", True, Cost(100_000, 9e9, 0.1), 3, {100: None}),
    Point("failed", True, Cost(100_000, 9e9, 0.1), 3, {300: Score(NAN, NAN)}),
]


def test_capacity_shows_quality_over_the_cost_of_the_whole_inference(tmp_path: Path, drawn: list[Any]) -> None:
    path = plot_capacity(POINTS, tmp_path / "fig4.png")
    assert path == tmp_path / "fig4.png"
    width, height = size_of(path)
    assert 1000 < width < 2500
    assert 500 < height < 1500
    for panel, costs in zip(
        drawn[0].axes, ([7_760_484, 7_761_801, 4_793], [48.4e9, 3 * 48.7e9, 3 * 1.12e9]), strict=True
    ):
        markers = {tuple(marker.get_offsets().data[0]) for marker in panel.collections if len(marker.get_offsets())}
        assert markers == set(zip(costs, (36.3, 36.8, 33.1), strict=True))
        assert panel.get_xscale() == "log"
        assert sorted(text.get_text() for text in panel.texts) == ["NAFNet-1", "UNet"]


def test_markers_grow_with_the_time_of_the_whole_inference(tmp_path: Path, drawn: list[Any]) -> None:
    plot_capacity(POINTS, tmp_path / "fig4.png", ratio=300)
    area = {
        tuple(marker.get_offsets().data[0])[1]: float(marker.get_sizes()[0])
        for marker in drawn[0].axes[1].collections
        if len(marker.get_offsets())
    }
    smallest = area[33.1]  # not measured
    assert area[36.8] - smallest == pytest.approx(3 * (area[36.3] - smallest))
    legend = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert legend == ["with the method", "without", "0.05 s", "0.2 s", "0.5 s", "time not measured"]


def test_each_network_is_named_once_above_its_best_marker(tmp_path: Path, drawn: list[Any]) -> None:
    plot_capacity(POINTS, tmp_path / "fig4.png")
    for panel in drawn[0].axes:
        assert [text.get_text() for text in panel.texts] == ["UNet", "NAFNet-1"]


@pytest.mark.parametrize("points", [[], POINTS[-2:], POINTS[2:3]])
def test_capacity_of_few_networks_or_none(points: list[Point], tmp_path: Path, drawn: list[Any]) -> None:
    size_of(plot_capacity(points, tmp_path / "fig4.png"))


def scene(planes: int, height: int = 24, width: int = 32) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Capture, reference, and the first and last estimate."""
    source = torch.Generator().manual_seed(2)
    reference = torch.rand(planes, height, width, generator=source)
    noise = torch.randn(3, planes, height, width, generator=source)
    return reference + 0.3 * noise[0], reference, reference + 0.1 * noise[1], reference + 0.05 * noise[2]


@pytest.mark.parametrize("planes", [4, 9])
def test_error_change_of_each_pixel(planes: int) -> None:
    _, reference, first, last = scene(planes, 3, 5)
    change = error_change(first, last, reference)
    assert change.shape == (3, 5)
    for y in range(3):
        for x in range(5):
            before, after = (
                sum(abs(float(image[c, y, x]) - float(reference[c, y, x])) for c in range(planes)) / planes
                for image in (first, last)
            )
            assert float(change[y, x]) == pytest.approx(after - before, abs=1e-6)
    assert error_change(first, first, reference).abs().max() == 0
    assert error_change(reference, last, reference).min() > 0  # was perfect: can but become worse


@pytest.mark.parametrize(("planes", "size"), [(4, (24, 32)), (9, (40, 16)), (4, (32, 32))])
def test_residual_layer_panels(planes: int, size: tuple[int, int], tmp_path: Path, drawn: list[Any]) -> None:
    capture, reference, first, last = scene(planes, *size)
    mask = torch.rand(1, *size)
    without, with_layer = error_change(first, last, reference), error_change(last, first, reference) / 2
    captions = ("one", "two", "three", "four, 32.57 dB", "five, 35.44 dB")
    path = plot_residual_layer(
        capture, reference, mask, without, with_layer, tmp_path / "fig5.png", captions, box=(4, 6, 8, 9)
    )
    assert size_of(path)[0] == 2520
    panels = drawn[0].axes[:5]
    assert [panel.get_title() for panel in panels] == list(captions)
    images = [panel.images[0] for panel in panels]
    rendered = side_by_side(capture[None], reference[None])
    np.testing.assert_array_equal(np.concatenate([image.get_array() for image in images[:2]], axis=1), rendered)
    np.testing.assert_array_equal(images[2].get_array(), mask[0])
    np.testing.assert_array_equal(images[3].get_array(), without)
    np.testing.assert_array_equal(images[4].get_array(), with_layer)
    assert images[2].get_clim() == (0, 1)
    low, high = images[3].get_clim()
    assert (low, high) == images[4].get_clim()
    assert low == -high
    assert 0.8 * float(without.abs().max()) < high <= float(without.abs().max())
    corners = panels[4].lines[0].get_xydata()
    assert (corners.min(0).tolist(), corners.max(0).tolist()) == ([5.5, 3.5], [14.5, 11.5])


def test_residual_layer_that_changes_nothing(tmp_path: Path, drawn: list[Any]) -> None:
    capture, reference, *_ = scene(4)
    nothing = torch.zeros(24, 32)
    size_of(plot_residual_layer(capture, reference, nothing, nothing, nothing, tmp_path / "fig5.png"))


STEPS = {
    100: {
        "baseline": {0: measured(35.5), 1: measured(36.0), 10: measured(33.0)},
        "ours": {0: measured(36.0, 0.1), 1: None, 2: measured(36.5, NAN), 10: measured(36.4, 0.2)},
    },
    300: {"ours": {0: measured(31.0, 0.1), 2: measured(33.0)}, "late": {0: None}},
}


def curve(panel: Any, index: int) -> tuple[list[float], list[float]]:
    line = panel.containers[index].lines[0]
    return line.get_xdata().tolist(), line.get_ydata().tolist()


def test_curves_over_steps(tmp_path: Path, drawn: list[Any]) -> None:
    path = plot_steps_curves(STEPS, tmp_path / "fig6.png", xlabel="evaluations", trained=2)
    assert size_of(path)[0] > 1000
    first, second = drawn[0].axes
    assert (first.get_title(), second.get_title()) == ("x100", "x300")
    assert first.get_xlabel() == "evaluations"
    assert curve(first, 0) == ([0, 1, 10], [35.5, 36.0, 33.0])
    steps, values = curve(first, 1)
    assert steps == [0, 1, 2, 10]
    np.testing.assert_array_equal(values, [36.0, NAN, 36.5, 36.4])  # a gap, not a bridge
    (bars,) = first.containers[1].lines[2]
    heights = {round(float(bar[1, 1] - bar[0, 1]), 9) for bar in bars.get_segments() if len(bar)}
    assert heights == {0.2, 0.0, 0.4}
    legend = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert legend == ["trained with 2", "baseline", "ours", "late"]
    assert first.containers[1].lines[0].get_color() == second.containers[1].lines[0].get_color()


@pytest.mark.parametrize("curves", [{100: {}}, {300: {"late": {0: None}}}])
def test_curves_of_nothing_say_so(curves: dict, tmp_path: Path, drawn: list[Any]) -> None:
    plot_steps_curves(curves, tmp_path / "fig6.png")
    for panel in drawn[0].axes:
        assert [text.get_text() for text in panel.texts] == ["no figures"]


def test_convergence_on_a_logarithmic_axis(tmp_path: Path, drawn: list[Any]) -> None:
    curves = {
        "ours": {1: measured(38.6, 0.02), 2: measured(38.8), 3: measured(38.9)},
        "DDIM": {n: measured(30 - 10 / n) for n in (1, 2, 5, 10, 11, 50)},
    }
    path = plot_convergence(curves, tmp_path / "fig8.png", "SimSID, x100")
    assert size_of(path)[0] > 800
    (panel,) = drawn[0].axes
    assert panel.get_xscale() == "log"
    assert curve(panel, 1)[0] == [1, 2, 5, 10, 11, 50]
    ticks = [label.get_text() for label in panel.get_xticklabels()]
    assert ticks == ["1", "2", "3", "5", "10", "50"]  # 11 would lie upon 10
    assert panel.get_title() == "SimSID, x100"


def test_heat_map_of_steps(tmp_path: Path, drawn: list[Any]) -> None:
    table = {(0, 0): 36.0, (0, 2): 35.0, (2, 0): 35.5, (2, 2): 36.5, (2, 5): None, (5, 0): NAN}
    path = plot_ablation_heat(table, tmp_path / "heat.png", "PSNR at x300, dB", "SimSID")
    assert size_of(path)[1] > 300
    panel = drawn[0].axes[0]
    np.testing.assert_array_equal(panel.images[0].get_array(), [[36, 35, NAN], [35.5, 36.5, NAN], [NAN, NAN, NAN]])
    assert [text.get_text() for text in panel.texts] == ["36.00", "35.00", "–", "35.50", "36.50", "–", "–", "–", "–"]
    framed = [tuple(line.get_xydata().mean(0).round().tolist()) for line in panel.lines[::2]]
    assert framed == [(0, 0), (1, 1)]  # columns and rows: the best of each training


@pytest.mark.parametrize("table", [{(1, 1): None}, {(1, 1): 30.0}])
def test_heat_map_of_little_or_nothing(table: dict, tmp_path: Path, drawn: list[Any]) -> None:
    size_of(plot_ablation_heat(table, tmp_path / "heat.png"))


def test_nothing_at_all_is_refused(tmp_path: Path) -> None:
    for plot in (plot_steps_curves, plot_ablation_heat):
        with pytest.raises(ValueError, match="nothing to draw"):
            plot({}, tmp_path / "figure.png")


PLOTS: list[Callable[[Path], Path]] = [
    lambda path: plot_capacity(POINTS, path),
    lambda path: plot_steps_curves(STEPS, path),
    lambda path: plot_convergence(STEPS[100], path),
    lambda path: plot_ablation_heat({(0, 0): 1.0}, path),
]


@pytest.mark.parametrize("plot", PLOTS)
def test_a_folder_that_is_missing_is_reported(plot: Callable[[Path], Path], tmp_path: Path) -> None:
    with pytest.raises(OSError, match="cannot write"):
        plot(tmp_path / "missing" / "figure.png")
    assert not list(tmp_path.iterdir())


def test_a_missing_library_is_named_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ValueError, match=r"matplotlib: pip install exposurediffusion\[train\]"):
        plot_convergence({}, tmp_path / "figure.png")
    assert not list(tmp_path.iterdir())


def test_no_window_is_opened_and_no_global_state_is_touched(tmp_path: Path) -> None:
    """Whatever back end the user has chosen; and importing the module does not import matplotlib."""
    code = f"""
import sys
from exposurediffusion.reproduction.plots import plot_convergence
assert "matplotlib" not in sys.modules
plot_convergence({{"ours": {{}}}}, {str(tmp_path / "figure.png")!r})
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "MPLBACKEND": "TkAgg"})
    size_of(tmp_path / "figure.png")

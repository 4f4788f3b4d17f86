"""The plot that tells how far the spread of sampled exposures may be believed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from exposurediffusion.apps.plotting import GREY, canvas, legend_below, look
from exposurediffusion.learn.uncertainty import Calibration


def plot_calibration(path: Path, calibrations: Mapping[str, Calibration]) -> None:
    """Root mean square error against spread, a curve for each calibration; on the diagonal a spread is the error.

    Args:
        path: of the PNG file.
        calibrations: by name.

    Raises:
        ValueError: matplotlib is not installed.
    """
    with canvas(path, 1, (6, 5)) as (panel,):
        for index, (name, found) in enumerate(calibrations.items()):
            seen = found.spread > 0  # pixels that all samples clip have no place on a logarithmic axis
            label = f"{name}: error = {found.factor:.2g} x spread"
            panel.plot(found.spread[seen], found.error[seen], label=label, **look(index))
        ends = [min(c.spread[c.spread > 0].min() for c in calibrations.values())]
        ends.append(max(c.error.max() for c in calibrations.values()))
        panel.plot(ends, ends, color=GREY, linestyle="--", label="error = spread")
        panel.set(xscale="log", yscale="log", xlabel="spread of the samples, 1 = white", ylabel="rms error, 1 = white")
        legend_below([panel], 2)

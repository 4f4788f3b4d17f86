"""The report of a calibration: one HTML page with its figures, for any browser, without a network."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from exposurediffusion.calibration.calibration import Calibration, law_intervals
from exposurediffusion.calibration.dark_stack import DarkStack
from exposurediffusion.calibration.interval import Interval
from exposurediffusion.calibration.verdict import Finding
from exposurediffusion.physics.cameras.profile import CameraProfile
from exposurediffusion.rendering.plotting import GREY, canvas, look

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEADER = (
    "ISO",
    "frames",
    "gain (DN/e)",
    "read noise (DN)",
    "lambda",
    "R^2",
    "rows (DN)",
    "columns (DN)",
    "black (DN)",
    "hot sites",
)
"""Names of the columns of `rows`."""
_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><meta name="viewport" content="width=device-width">
<style>
body {{ margin: 2em auto; max-width: 62em; padding: 0 1em; color: #222; background: #fff; font: 16px/1.5 sans-serif; }}
img {{ max-width: 100%; }} table {{ border-collapse: collapse; display: block; overflow-x: auto; }}
th, td {{ padding: .2em .7em; border-bottom: 1px solid #ccc; text-align: right; }}
li.good::marker {{ content: "\\2713  "; color: #009e73; }} li.fair::marker {{ content: "!  "; color: #b36b00; }}
li.poor::marker {{ content: "\\2717  "; color: #c00; }} figcaption {{ color: #555; }} figure {{ margin: 1.5em 0; }}
</style></head><body><h1>{title}</h1><p>{what}</p><h2>Did the frames suffice?</h2><ul>{findings}</ul>
<h2>What was measured</h2>{table}<p>In brackets the interval that holds the true value in 95 of 100 cases.
Read noise is that of single sites, without rows, columns and rounding; lambda is the shape of the Tukey-lambda law
(0.14 is nearly normal, below 0 has heavy tails).</p>{laws}{figures}</body></html>
"""


def report(calibration: Calibration, profile: CameraProfile, findings: list[Finding]) -> str:
    """The page.

    Args:
        calibration: what was measured.
        profile: that was made of it.
        findings: of `verdict`.

    Raises:
        ValueError: matplotlib is not installed.
    """
    sensor, frame = calibration.frame.sensor, calibration.frame
    what = (
        f"{frame.shape[1]} x {frame.shape[0]} sites, {sensor.cfa.name}; by the files black is "
        f"{np.mean(sensor.black_level):g} and white {sensor.white_level:g} DN. "
        f"{sum(d.frames for d in calibration.darks.values())} dark frames, "
        f"{sum(f.pairs for f in calibration.flats.values())} pairs of flat frames, {len(profile.defects)} hot sites."
    )
    return _PAGE.format(
        title=f"Calibration of {escape(profile.exif_model)}",
        what=escape(what),
        findings="".join(f'<li class="{one.kind}">{escape(one.text)}</li>' for one in findings),
        table=_table(calibration),
        laws=_laws(profile) if calibration.darks else "",
        figures="".join(_figures(calibration, profile)),
    )


def rows(calibration: Calibration, intervals: bool = True) -> Iterator[list[str]]:
    """A line for each ISO, with the columns of `HEADER`; with their `intervals` or without."""

    def said(value: Interval) -> str:
        return str(value) if intervals else f"{value.value:.4g}"

    for iso, gain in calibration.gains.items():
        dark, flats = calibration.darks.get(iso), calibration.flats.get(iso)
        used = f"{dark.frames if dark else 0} + {2 * flats.pairs if flats else 0}"
        if dark is None:
            yield [f"{iso:g}", used, said(gain), *["-"] * (len(HEADER) - 3)]
            continue
        straight = np.mean([fit.r_squared for fit in dark.fits])
        figures = [
            said(gain),
            said(dark.read),
            said(dark.shape),
            f"{straight:.5f}",
            said(dark.rows),
            said(dark.columns),
        ]
        yield [f"{iso:g}", used, *figures, f"{dark.level.mean():.2f}", f"{np.count_nonzero(dark.hot)}"]


def _table(calibration: Calibration) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in HEADER)
    body = "".join("<tr>" + "".join(f"<td>{escape(x)}</td>" for x in row) + "</tr>" for row in rows(calibration))
    return f"<table><tr>{head}</tr>{body}</table>"


def _laws(profile: CameraProfile) -> str:
    """The laws over the gain, with their intervals where there are enough ISOs."""
    items = []
    gains = [setting.gain for setting in profile.settings]
    for name, kind in (("read noise", "gaussian_read"), ("Tukey-lambda scale", "tukey_read"), ("rows", "row")):
        own = getattr(profile, kind)
        sure = law_intervals(gains, [getattr(setting, kind) for setting in profile.settings])
        slope, bias = sure or (f"{own.slope:.4g}", f"{own.bias:.4g}")
        items.append(
            f"<li>{name}: log s = slope log K + bias, slope {slope}, bias {bias}, scatter {own.sigma:.3g}</li>"
        )
    return f"<h2>How it grows with the gain</h2><ul>{''.join(items)}</ul>"


def _figures(calibration: Calibration, profile: CameraProfile) -> Iterator[str]:
    if calibration.transfers:
        caption = (
            "Photon transfer: variance over mean; a point is the mean of many blocks, the line's slope is the gain."
        )
        yield _figure(caption, 1, (8, 5), lambda panels: _photon_transfer(panels[0], calibration))
    if not calibration.darks:
        return
    caption = "Probability plots of the read noise against its Tukey-lambda law: straight where the law holds."
    yield _figure(caption, 1, (8, 5), lambda panels: _probability(panels[0], calibration))
    caption = "Power of the offsets of rows and columns over frequency: level where they are random, peaks are hum."
    yield _figure(caption, 2, (9, 4), lambda panels: _spectra(panels, calibration))
    darks = list(calibration.darks.values())
    shown = darks[:: max(1, (len(darks) + 2) // 3)]
    caption = "Mean dark frames without their black level, averaged over squares: glow, stripes and shading."
    yield _figure(caption, len(shown), (4 * len(shown), 3.4), lambda panels: _shading(panels, shown))
    caption = "Noise over gain: a point for each ISO, the lines are the laws."
    yield _figure(caption, 1, (8, 5), lambda panels: _laws_over_gain(panels[0], profile))


def _figure(caption: str, columns: int, size: tuple[float, float], draw: Callable[[list[Axes]], None]) -> str:
    stream = io.BytesIO()
    with canvas(stream, columns, size, dpi=110) as panels:
        draw(panels)
    code, text = base64.b64encode(stream.getvalue()).decode(), escape(caption)
    return f'<figure><img alt="{text}" src="data:image/png;base64,{code}"><figcaption>{text}</figcaption></figure>'


def _photon_transfer(panel: Axes, calibration: Calibration) -> None:
    for index, (iso, transfer) in enumerate(calibration.transfers.items()):
        pairs = calibration.flats[iso]
        edges = np.unique(np.quantile(pairs.mean, np.linspace(0, 1, 41)))
        bins = np.digitize(pairs.mean, edges[1:-1])
        sums = [np.bincount(bins, pairs.sites * values) for values in (np.ones(len(bins)), pairs.mean, pairs.variance)]
        mean, variance = (total[sums[0] > 0] / sums[0][sums[0] > 0] for total in sums[1:])
        style = look(index)
        panel.plot(mean, variance, linestyle="", label=f"ISO {iso:g}: {transfer.gain.value:.4g} DN/e", **style)
        line = np.geomspace(max(mean.min(), 1e-3), transfer.linear_to, 50)
        panel.plot(line, transfer.read.value**2 + transfer.gain.value * line, color=style["color"])
        if transfer.linear_to < 0.9 * pairs.mean.max():
            panel.axvline(transfer.linear_to, color=style["color"], linestyle=":")
    panel.set(xscale="log", yscale="log", xlabel="mean above black (DN)", ylabel="variance (DN squared)")
    panel.legend()


def _probability(panel: Axes, calibration: Calibration) -> None:
    for index, dark in enumerate(calibration.darks.values()):
        law, sample = dark.plot
        shown = sample > sample.min() if dark.clipped else np.ones(len(sample), bool)
        straight, normal = np.mean([(fit.r_squared, fit.normal) for fit in dark.fits], axis=0)
        label = f"ISO {dark.iso:g}: lambda {dark.shape.value:.3f}, R^2 {straight:.5f} (normal law {normal:.5f})"
        panel.plot(law[shown], sample[shown] / dark.fits[-1].deviation, ".", label=label, color=look(index)["color"])
    ends = panel.get_xlim()
    panel.plot(ends, ends, color=GREY, linewidth=0.8)
    panel.set(xlabel="quantile of the law (standard deviations)", ylabel="quantile measured (standard deviations)")
    panel.legend()


def _spectra(panels: list[Axes], calibration: Calibration) -> None:
    for panel, name, place in zip(panels, ("rows", "columns"), (0, 1), strict=True):
        for index, dark in enumerate(calibration.darks.values()):
            power = dark.spectra[place]
            frequency = np.linspace(0, 0.5, len(power))
            panel.plot(frequency, np.maximum(power, 1e-9), color=look(index)["color"], label=f"ISO {dark.iso:g}")
        panel.set(title=name, yscale="log", xlabel="cycles per line", ylabel="power (DN squared)")
    panels[0].legend()


def _shading(panels: list[Axes], darks: list[DarkStack]) -> None:
    for panel, dark in zip(panels, darks, strict=True):
        side = max(2, max(dark.mean.shape) // 300 // 2 * 2)
        height, width = (n // side * side for n in dark.mean.shape)
        mean = np.where(dark.hot, np.median(dark.mean), dark.mean)[:height, :width]
        small = mean.reshape(height // side, side, width // side, side).mean(axis=(1, 3))
        small -= np.median(small)
        reach = max(float(np.quantile(np.abs(small), 0.99)), 1e-3)
        image = panel.imshow(small, cmap="RdBu_r", vmin=-reach, vmax=reach)
        panel.set(title=f"ISO {dark.iso:g} (DN)", xticks=[], yticks=[])
        panel.figure.colorbar(image, ax=panel, shrink=0.8)


def _laws_over_gain(panel: Axes, profile: CameraProfile) -> None:
    gains = np.array([setting.gain for setting in profile.settings])
    line = np.geomspace(gains.min() / 1.5, gains.max() * 1.5, 20)
    kinds = (("read noise", "gaussian_read"), ("Tukey-lambda scale", "tukey_read"), ("rows", "row"))
    for index, (name, kind) in enumerate(kinds):
        law, style = getattr(profile, kind), look(index)
        panel.plot(gains, [getattr(s, kind) for s in profile.settings], linestyle="", label=name, **style)
        panel.plot(line, np.exp(law.slope * np.log(line) + law.bias), color=style["color"])
    panel.set(xscale="log", yscale="log", xlabel="gain (DN per electron)", ylabel="DN")
    panel.set_xticks(gains, [f"{gain:.3g}" for gain in gains])
    panel.minorticks_off()
    panel.legend()

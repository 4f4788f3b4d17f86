"""What frames of real sensors show of their noise: masked margins, flat fields, and one scene at six exposures.

    python benchmarks/real_sensors.py --raws FOLDER --output docs/results/calibration

FOLDER holds real raw files: canon_550d_colorchart.dng, three canon_powershot_*.CRW, nikon_d7000_flats/ (FITS crops and
list.csv) and flea3_icx655_550nm/ (8-bit mosaics at six exposure times). Printed: every figure of
`docs/results/calibration.md`; written: its plots.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import tifffile
import tyro
from scipy.ndimage import maximum_filter, minimum_filter, uniform_filter
from scipy.stats import norm
from sensors import HeldShot

from exposurediffusion.analysis.margins import masked_statistics
from exposurediffusion.calibration.flats import FlatPairs, measure_flats
from exposurediffusion.calibration.photon_transfer import PhotonTransfer, fit_line
from exposurediffusion.calibration.tukey import ProbabilityPlot
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.physics.sensor import RawFrame, Sensor
from exposurediffusion.raw.read import read_raw
from exposurediffusion.rendering.plotting import COLOURS, GREY, canvas, look

POWERSHOTS = ("canon_powershot_g2_0304.CRW", "canon_powershot_s40_0101.CRW", "canon_powershot_s40_0117.CRW")
NIKON = Sensor.uniform(CFA("GRBG"), 0, 16383)
EXPOSURES = (25, 50, 100, 250, 500, 2000)  # ms, of the Flea3
DPI = 90


def canon(raws: Path, output: Path) -> None:
    """The masked columns of one frame of a Canon EOS 550D."""
    frame = read_raw(raws / "canon_550d_colorchart.dng")
    values = frame.optical_black[0].values.astype(float)
    found = masked_statistics(replace(frame, optical_black=frame.optical_black[:1]))
    assert found is not None
    off = np.abs(values - np.median(values)) > 5 * found.variance**0.5
    kept = np.where(off, np.nan, values)
    rows, columns = np.nanmean(kept, 1), np.nanmean(kept, 0)
    pattern = columns - columns.mean()
    alone = (kept - rows[:, None] - pattern)[~off]
    deviation = float(alone.std())
    plot = ProbabilityPlot(alone.size, 1 / deviation)
    fit = plot.fit(alone)
    own_error = deviation / len(values) ** 0.5
    print(f"550D: {values.size} sites, {off.mean():.2%} beyond five deviations, steps {np.diff(np.unique(kept))[0]:g}")
    print(f"black of each site less {frame.sensor.black_level[0]:g}: {found.offsets.round(2)} +- {found.errors[0]:.2f}")
    print(f"pixels {deviation:.2f} DN; rows {found.row:.2f}; columns {(columns.var() - own_error**2) ** 0.5:.2f}")
    print(f"drift: first 100 rows {rows[:100].mean():.2f}, last {rows[-100:].mean():.2f}")
    print(f"lambda {fit.shape:.3f}, R^2 {fit.r_squared:.5f}, of a normal law {fit.normal:.5f}")
    with canvas(output / "canon-550d.png", 3, (11, 3.4), dpi=DPI) as (law, by_row, by_column):
        theory, sample = plot.points(alone, fit.shape)
        law.plot(theory, sample, ".", color=COLOURS[0], markersize=3)
        law.plot(theory, fit.centre + fit.deviation * theory, color=GREY, linewidth=1)
        law.set(xlabel=f"Tukey-lambda law, shape {fit.shape:.2f}", ylabel="DN", title="probability plot of the sites")
        for parity, name in enumerate(("even rows (R, G1)", "odd rows (G2, B)")):
            by_row.plot(np.arange(parity, len(rows), 2), rows[parity::2], ".", ms=2, color=COLOURS[parity], label=name)
        by_row.legend(markerscale=4)
        by_row.set(xlabel="row", title="means of rows, DN above the stated black")
        by_column.errorbar(np.arange(len(columns)), columns, own_error, fmt=".", ms=4, lw=0.8, color=COLOURS[2])
        by_column.set(xlabel="masked column", title="means of columns")


def powershots(raws: Path, output: Path) -> None:
    """The masked margins of three frames of Canon PowerShots, whose noise is below one DN."""
    right: dict[str, np.ndarray] = {}
    with canvas(output / "powershot.png", 2, (9, 3.4), dpi=DPI) as (histogram, by_column):
        for index, name in enumerate(POWERSHOTS):
            frame = read_raw(raws / name)
            found = masked_statistics(frame)
            assert found is not None
            left, own = (area.values.astype(float) for area in frame.optical_black)
            right[name] = own
            values = np.concatenate([left.ravel(), own.ravel()])
            read = (found.variance - 1 / 12) ** 0.5
            levels = np.arange(-5, 6)
            ends = [norm.cdf(levels + half, found.offset, read) for half in (0.5, -0.5)]
            label = name.removeprefix("canon_").removesuffix(".CRW")
            shares = np.array([(values == level).mean() for level in levels])
            histogram.plot(levels, np.where(shares > 0, shares, np.nan), linestyle="", label=label, **look(index))
            histogram.plot(levels, ends[0] - ends[1], color=COLOURS[index], linewidth=1)
            columns, error = own.mean(0), own.std() / len(own) ** 0.5
            by_column.errorbar(np.arange(columns.size), columns, error, label=label, linewidth=1, **look(index))
            spread = (columns.var() - error**2) ** 0.5
            print(f"{label}: black {found.offsets.round(3)} +- {found.errors[0]:.3f}, read {read:.3f} DN")
            print(f"  rows {found.row:.2f}, columns {spread:.3f}; left {left.mean():.3f}, right {own.mean():.3f} DN")
        histogram.set(yscale="log", ylim=(1e-6, 1), xlabel="DN above the stated black", title="shares of the values")
        histogram.legend(fontsize=7)
        by_column.set(xlabel="masked column at the right", title="means of columns, DN")
    one, two = right[POWERSHOTS[1]], right[POWERSHOTS[2]]
    good = (np.abs(one) < 5) & (np.abs(two) < 5)
    alike = [np.corrcoef(one[good], two[good])[0, 1]]
    alike += [np.corrcoef(one.mean(axis), two.mean(axis))[0, 1] for axis in (0, 1)]
    sites, columns, rows = alike
    other = np.corrcoef(one.mean(0), right[POWERSHOTS[0]].mean(0))[0, 1]
    print(f"S40 and S40 correlate: sites {sites:.3f}, columns {columns:.2f}, rows {rows:.2f}; S40 and G2: {other:.2f}")


def _fits(path: Path) -> RawFrame:
    """The picture of a FITS file with one header block and 16-bit integers."""
    data = path.read_bytes()
    cards = {data[i : i + 8].decode().strip(): data[i + 10 : i + 30].decode().strip() for i in range(0, 2880, 80)}
    shape = int(cards["NAXIS2"]), int(cards["NAXIS1"])
    pixels = np.frombuffer(data, ">i2", shape[0] * shape[1], 2880).reshape(shape).astype(int)
    return RawFrame((pixels + int(float(cards.get("BZERO", "0")))).astype(np.uint16), NIKON)


def _flats(folder: Path) -> list[HeldShot]:
    with (folder / "list.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    seconds = [1 / float(row["shutter"].partition("/")[2]) for row in rows]
    return [
        HeldShot(folder / row["file"], 100.0, shutter, "Nikon D7000", frame=_fits(folder / row["file"]))
        for row, shutter in zip(rows, seconds, strict=True)
    ]


def nikon(raws: Path, output: Path) -> None:
    """Flat fields of a Nikon D7000: pairs, and single frames, whose fixed pattern counts."""
    shots = _flats(raws / "nikon_d7000_flats")
    black = np.zeros(4)
    pairs = measure_flats(shots, shots[0], shots[0].read(), black, None, print, lambda: None)
    singles = _single_frames(shots, pairs)
    found = {"pairs": (pairs, fit_line(pairs)), "single frames": (singles, fit_line(singles))}
    straight = [_straight(singles, singles.mean < limit) for limit in (1000, 4000, np.inf)]
    for name, (blocks, transfer) in found.items():
        print(f"D7000 {name}: {len(blocks.mean)} blocks, gain {transfer.gain}, bend {transfer.bend:+.3f}")
        print(f"  of G, R, B, G: {'; '.join(str(gain) for gain in transfer.gains)}")
    texts = ", ".join(f"{gain:.3f} +- {error:.3f}" for gain, error in straight)
    print(f"  a line through the single frames below 1,000 and 4,000 DN, and through all (one error): {texts}")
    excess, squares = singles.variance - np.interp(singles.mean, *_smooth(pairs)), singles.mean**2
    for low, high in pairwise((500, 1500, 4000, 16383)):
        own = (pairs.mean > low) & (pairs.mean <= high)
        ratio = (pairs.variance[own] / pairs.mean[own]).mean()
        print(f"  pairs between {low:,} and {high:,} DN: variance over mean {ratio:.3f}")
    bright = singles.mean > 2000
    print(f"  fixed pattern: {(excess[bright] / squares[bright]).mean() ** 0.5:.2%} of the signal")
    with canvas(output / "nikon-d7000.png", 2, (10, 3.6), dpi=DPI) as (curve, methods):
        for index, (name, (blocks, _)) in enumerate(found.items()):
            curve.plot(blocks.mean, blocks.variance / blocks.mean, label=name, ls="", alpha=0.7, **look(index))
        curve.axhline(0.448, color=GREY, linestyle="--", label="0.448, the whole set's")
        curve.set(xscale="log", ylim=(0.3, 0.65), xlabel="mean, DN", title="variance over mean, DN per electron")
        curve.legend()
        _gains(methods, {name: transfer for name, (_, transfer) in found.items()})


def _single_frames(shots: list[HeldShot], like: FlatPairs) -> FlatPairs:
    """Mean and variance of each colour of each frame."""
    blocks = []
    for shot in shots:
        mosaic = shot.read().mosaic.astype(float)
        for site, (rows, columns, _) in enumerate(NIKON.sites):
            own = mosaic[rows, columns]
            blocks.append((own.mean(), own.var(ddof=1), own.size, site))
    mean, variance, sites, site = np.array(blocks).T
    return replace(like, mean=mean, variance=variance, sites=sites, site=site.astype(int))


def _straight(blocks: FlatPairs, use: np.ndarray) -> tuple[float, float]:
    """Slope of the line through some blocks, and its standard error."""
    mean, variance = blocks.mean[use], blocks.variance[use]
    weights = 1 / (0.45 * mean + 3) / np.sqrt(2 / blocks.sites[use])
    coefficients, covariance = np.polyfit(mean, variance, 1, w=weights, cov=True)
    return float(coefficients[0]), float(covariance[0, 0] ** 0.5)


def _smooth(blocks: FlatPairs) -> tuple[np.ndarray, np.ndarray]:
    """The parabola through the blocks, as a curve."""
    weights = 1 / (0.45 * blocks.mean + 3)
    grid = np.linspace(0, blocks.mean.max(), 200)
    return grid, np.polyval(np.polyfit(blocks.mean, blocks.variance, 2, w=weights), grid)


def _gains(panel, transfers: dict[str, PhotonTransfer]) -> None:
    """The gains by colour with their intervals."""
    for index, (name, transfer) in enumerate(transfers.items()):
        for place, gain in enumerate((transfer.gain, *transfer.gains)):
            assert gain is not None
            ends = [[gain.value - gain.low], [gain.high - gain.value]]
            label = name if place == 0 else None
            panel.errorbar(place + 0.2 * index, gain.value, ends, label=label, capsize=3, ls="", **look(index))
    panel.axhline(0.448, color=GREY, linestyle="--")
    panel.set_xticks(range(5), ["all", "G1", "R", "B", "G2"])
    panel.set(title="gain with its 95 % interval, DN per electron")
    panel.legend()


def flea3(raws: Path, output: Path) -> None:
    """One scene at six exposures: what differs between neighbouring exposures, beside the ratio of their light.

    With y = k x + c between a longer and a shorter exposure, the residual y - k x has the variance
    K k (1 + k) x + R (1 + k^2). Scene and fixed pattern of the gain cancel; differences of neighbours of a colour are
    taken, so that what bends cancels, too.
    """
    folder = raws / "flea3_icx655_550nm"
    frames = {time: tifffile.imread(folder / f"disks_550nm_{time}ms.tif").astype(float) for time in EXPOSURES}
    print(f"Flea3 {EXPOSURES[0]} ms: {(frames[EXPOSURES[0]] == 0).mean():.0%} of the sites are 0")
    blocks = np.array([row for two in pairwise(EXPOSURES) for row in _between(frames, *two)])
    with canvas(output / "flea3.png", 2, (10, 3.6), dpi=DPI) as (transfer, line):
        for index, (colour, planes) in enumerate({"green": (0, 3), "blue": (1,), "red": (2,)}.items()):
            own = blocks[np.isin(blocks[:, 2], planes)]
            gain, rest, error, rest_error, chi = _residual_line(own)
            print(f"Flea3 {colour}: gain {gain:.4f} +- {error:.4f}, light-free variance {rest:.3f} +- {rest_error:.3f}")
            print(f"  scatter about the line, squared, over that of chance: {chi:.2f}")
            k, mean = own[:, 3], own[:, 4]
            light, variance = k * (1 + k) * mean / (1 + k**2), own[:, 6] / (1 + k**2)
            transfer.plot(light, variance, ls="", alpha=0.7, label=colour, **look(index))
            if colour == "green":
                ends = np.array([0, light.max()])
                transfer.plot(ends, gain * ends + rest, color=GREY)
        transfer.set(
            xlabel="k (1 + k) x / (1 + k^2), DN", ylabel="DN squared", title="variance of y - k x over 1 + k^2"
        )
        transfer.legend()
        for index, (short, long) in enumerate(pairwise(EXPOSURES)):
            own = blocks[(blocks[:, 0] == short)]
            line.plot(own[:, 4], own[:, 7] / (long / short), ls="", label=f"{short}, {long} ms", **look(index))
        line.axhline(1, color=GREY, linestyle="--")
        line.set(xscale="log", xlabel="shorter exposure, DN", title="ratio of the means over that of the times")
        line.legend(fontsize=7)


def _between(frames: dict[int, np.ndarray], short: int, long: int) -> Iterator[tuple[float, ...]]:
    """Of blocks of like light: both times, plane, k, mean x, sites, variance of y - k x, ratio of the means."""
    for plane in range(4):
        x, y = (frames[time][plane // 2 :: 2, plane % 2 :: 2] for time in (short, long))
        clear = (minimum_filter(np.minimum(x, y), 5) >= 8) & (maximum_filter(np.maximum(x, y), 5) <= 245)
        if clear.sum() < 1000:
            continue
        mean, other = uniform_filter(x, 5), uniform_filter(y, 5)
        k = float(np.polyfit(mean[clear], other[clear], 1)[0])
        residual = y - k * x
        difference, level = np.diff(residual, axis=1), (mean[:, 1:] + mean[:, :-1]) / 2
        slope = np.abs(np.diff(uniform_filter(x, 5), axis=1))
        flat = clear[:, 1:] & clear[:, :-1] & (slope < 0.5 + 0.03 * level)
        for low, high in pairwise(np.quantile(level[flat], np.linspace(0, 1, 7))):
            own = flat & (level >= low) & (level < high)
            if own.sum() >= 150:
                ratio = other[:, 1:][own].mean() / mean[:, 1:][own].mean()
                yield short, long, plane, k, level[own].mean(), own.sum(), difference[own].var() / 2, ratio


def _residual_line(blocks: np.ndarray) -> tuple[float, float, float, float, float]:
    """Gain K and light-free variance R, their standard errors, and the mean square over what chance explains."""
    k, mean, sites, variance = blocks[:, 3], blocks[:, 4], blocks[:, 5], blocks[:, 6]
    design, fitted = np.stack([k * (1 + k) * mean, 1 + k**2], 1), variance
    weights, solution = np.ones_like(variance), np.zeros(2)
    for _ in range(5):
        weights = 1 / (fitted * np.sqrt(3 / sites))  # differences of neighbours share a site: 3 / N, not 2 / N
        solution = np.linalg.lstsq(design * weights[:, None], variance * weights, rcond=None)[0]
        fitted = np.maximum(design @ solution, 1e-3)
    left = float((((variance - fitted) * weights) ** 2).sum() / (len(mean) - 2))
    weighted = design * weights[:, None]
    errors = np.sqrt(np.diag(np.linalg.inv(weighted.T @ weighted)) * max(1, left))
    return float(solution[0]), float(solution[1]), float(errors[0]), float(errors[1]), left


def main(raws: Path, output: Path) -> None:
    """Run it; see the module's docstring.

    Args:
        raws: folder of the real raw files.
        output: folder of the plots.
    """
    output.mkdir(parents=True, exist_ok=True)
    for work in (canon, powershots, nikon, flea3):
        work(raws, output)


if __name__ == "__main__":
    tyro.cli(main)

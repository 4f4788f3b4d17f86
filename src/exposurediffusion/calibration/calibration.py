"""From dark and flat frames to the profile of a camera: everything that was measured, and the laws through it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import exp, log

import numpy as np
import torch
from scipy.stats import t as student

from exposurediffusion.calibration.dark_stack import DarkStack
from exposurediffusion.calibration.darks import measure_darks
from exposurediffusion.calibration.flats import FlatPairs, measure_flats
from exposurediffusion.calibration.interval import Interval
from exposurediffusion.calibration.photon_transfer import PhotonTransfer, fit_line
from exposurediffusion.calibration.shots import NotEnough, Shot
from exposurediffusion.physics.cameras.figures import profile_of_figures
from exposurediffusion.physics.cameras.known import calibrated_cameras
from exposurediffusion.physics.cameras.profile import CameraProfile, LogLinear, Setting
from exposurediffusion.physics.dark_shading import DarkShading
from exposurediffusion.physics.mosaic import pack
from exposurediffusion.physics.sensor import RawFrame

MOST_DEFECTS = 20_000
"""Hot sites that a profile lists, the hottest."""
_SHADED_BY = 16  # dark frames from which on their mean is worth subtracting
_ROUNDING = 12**-0.5  # DN: the least light-free noise
_LEAST_ROW = 0.01  # of the read noise: what is smaller counts as none


@dataclass(frozen=True)
class Calibration:
    """What was measured, by rising ISO.

    Attributes:
        shot, frame: one of the shots, and its frame (for camera, size and levels).
        darks: by ISO.
        flats, transfers: by ISO; of an ISO without usable flats there is none.
        gains: of each ISO with dark or flat frames, DN per electron.
        problems: files that were left out, a sentence each.
        lacking: ISOs that lack something, a sentence each.
    """

    shot: Shot
    frame: RawFrame
    darks: dict[float, DarkStack] = field(default_factory=dict)
    flats: dict[float, FlatPairs] = field(default_factory=dict)
    transfers: dict[float, PhotonTransfer] = field(default_factory=dict)
    gains: dict[float, Interval] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()

    @property
    def shading(self) -> DarkShading | None:
        """The mean dark frame at any ISO; None where too few frames, or clipped ones, would add more than they take."""
        usable = [dark for dark in self.darks.values() if not dark.clipped]
        if len(usable) < len(self.darks) or sum(dark.frames for dark in usable) < _SHADED_BY:
            return None
        cfa = self.frame.sensor.cfa
        means = {dark.iso: pack(torch.from_numpy(dark.mean), cfa) for dark in usable}
        return DarkShading.from_means(means, self.frame.sensor.saturation)

    def profile(self, name: str = "", source: str = "expose calibrate") -> CameraProfile:
        """The camera's profile.

        Laws go through the figures of all ISOs. One or two ISOs do not show how far figures scatter, and one does not
        show how they grow: those of the calibrated cameras are taken then. Without dark frames the flats give gain and
        light-free noise alone, and the rest is filled (`physics.cameras.figures`).

        Args:
            name: short name; empty: the model's.
            source: origin of the figures.
        """
        sensor, camera = self.frame.sensor, self.shot.camera or "unknown camera"
        name = name or plain_name(camera)
        ends = [pairs.limit for pairs in self.flats.values() if np.isfinite(pairs.limit)]
        saturation = min([sensor.saturation, *ends])
        if not self.darks:
            figures = [(iso, own.gain.value, max(own.read.value, _ROUNDING)) for iso, own in self.transfers.items()]
            filled = profile_of_figures(name, figures, saturation, camera)
            return replace(filled, colour_matrix=self._matrix, source=f"{source}, flats alone: {filled.source}")
        settings = tuple(self._setting(dark) for dark in self.darks.values())
        gains = [setting.gain for setting in settings]
        low, high = _line_of_gains({iso: gain.value for iso, gain in self.gains.items()})
        black = np.array(sensor.black_level)
        errors = [dark.level.mean(axis=0) - black for dark in self.darks.values()]
        return CameraProfile(
            name=name,
            exif_model=camera,
            gain_iso_100=low,
            gain_iso_6400=high,
            gaussian_read=law(gains, [s.gaussian_read for s in settings], "gaussian_read"),
            tukey_read=law(gains, [s.tukey_read for s in settings], "tukey_read"),
            row=law(gains, [max(s.row, _LEAST_ROW * s.gaussian_read) for s in settings], "row"),
            tukey_shapes=tuple(s.tukey_shape for s in settings),
            colour_bias=tuple(self._by_plane(error) for error in errors),
            colour_matrix=self._matrix,
            saturation=saturation,
            source=source,
            defects=self._defects(),
            settings=settings,
        )

    @property
    def _matrix(self) -> tuple[float, ...]:
        """The colour matrix that the files say, if it is one of three colours."""
        matrix = tuple(self.frame.metadata.colour_matrix or ())
        return matrix if len(matrix) == 9 else ()

    def _setting(self, dark: DarkStack) -> Setting:
        def significant(value: float) -> float:
            return float(f"{value:.6g}")

        return Setting(
            iso=dark.iso,
            gain=significant(self.gains[dark.iso].value),
            gaussian_read=significant(dark.read.value),
            tukey_read=significant(dark.scale.value),
            tukey_shape=significant(dark.shape.value),
            row=significant(dark.rows.value),
            column=significant(dark.columns.value),
            quantisation=dark.quantisation,
        )

    def _by_plane(self, sites: np.ndarray) -> tuple[float, ...]:
        """Figures of the sites of the first tile, as those of the planes."""
        cfa = self.frame.sensor.cfa
        tile = torch.from_numpy(np.tile(sites.reshape(cfa.period, cfa.period), (4, 4)))
        return tuple(round(value, 4) for value in pack(tile, cfa).mean(dim=(1, 2)).tolist())

    def _defects(self) -> tuple[tuple[int, int], ...]:
        """Hot sites at any ISO, the hottest first where there are too many; in reading order."""
        hot = np.zeros(self.frame.shape, bool)
        heat = np.zeros(self.frame.shape, np.float32)
        for dark in self.darks.values():
            hot |= dark.hot
            np.maximum(heat, np.abs(dark.mean) / max(dark.read.value, 1e-6), out=heat)
        places = np.flatnonzero(hot.ravel())
        if len(places) > MOST_DEFECTS:
            places = np.sort(places[np.argsort(-heat.ravel()[places])[:MOST_DEFECTS]])
        return tuple((int(row), int(column)) for row, column in zip(*np.unravel_index(places, hot.shape), strict=True))


def calibrate(
    darks: Sequence[Shot],
    flats: Sequence[Shot],
    problem: Callable[[str], None] = lambda _: None,
    tick: Callable[[], None] = lambda: None,
) -> Calibration:
    """Measure a camera by its dark frames, and its gain by pairs of flat frames.

    Frames are read one or two at a time; what is kept is a mean frame for each ISO.

    Args:
        darks: taken with the lens cap on, 16 or more at each ISO.
        flats: of one evenly lit area, in pairs of the same exposure, from dark to clipped.
        problem: is given a line for each file or ISO that cannot be used.
        tick: is called `readings(darks, flats)` times.

    Raises:
        ValueError: no flats or no darks that can be used, or frames of different cameras, sizes or filter arrays.
    """
    if not darks and not flats:
        raise ValueError("no frames: give dark frames and pairs of flat frames")
    first = (*darks, *flats)[0]
    frame = first.read()
    problems: list[str] = []
    lacking: list[str] = []

    def leave_out(text: str) -> None:
        problems.append(text)
        problem(text)

    def say(text: str) -> None:
        lacking.append(text)
        problem(text)

    measured: dict[float, DarkStack] = {}
    for iso, shots in _by_iso(darks).items():
        try:
            measured[iso] = measure_darks(shots, first, frame, leave_out, tick)
        except NotEnough as error:
            say(str(error))
    if darks and not measured:
        raise ValueError(f"none of the dark frames can be used: {[*lacking, *problems][-1]}")
    pairs: dict[float, FlatPairs] = {}
    transfers: dict[float, PhotonTransfer] = {}
    for iso, shots in _by_iso(flats).items():
        dark = measured.get(iso)
        black = np.zeros(len(frame.sensor.sites))
        if dark is not None and not dark.clipped:
            black = dark.level.mean(axis=0) - np.array(frame.sensor.black_level)
        hot = np.logical_or.reduce([d.hot for d in measured.values()]) if measured else None
        try:
            pairs[iso] = measure_flats(shots, first, frame, black, hot, leave_out, tick)
            transfers[iso] = fit_line(pairs[iso])
        except NotEnough as error:
            say(str(error))
    if not transfers:
        why = f": {[*lacking, *problems][-1]}" if lacking or problems else ", for there are none"
        raise ValueError(f"none of the flat frames can be used{why}")
    gains = _gains(transfers, measured, say)
    return Calibration(first, frame, measured, pairs, transfers, gains, tuple(problems), tuple(lacking))


def plain_name(camera: str) -> str:
    """The name of a profile, of a camera's make and model."""
    return re.sub(r"[^A-Za-z0-9]+", "", camera) or "camera"


def readings(darks: Sequence[Shot], flats: Sequence[Shot]) -> int:
    """How many files `calibrate` reads: darks twice."""
    return 2 * len(darks) + len(flats)


def law(gains: Sequence[float], scales: Sequence[float], kind: str) -> LogLinear:
    """`log scale = slope log gain + bias` with its scatter, by least squares; what few figures leave open is usual.

    Args:
        gains: DN per electron, one at least.
        scales: DN, above 0.
        kind: `gaussian_read`, `tukey_read` or `row`: whose slope and scatter are taken of the calibrated cameras.
    """
    usual: list[LogLinear] = [getattr(camera, kind) for camera in calibrated_cameras().values()]
    x, y = np.log(gains), np.log(np.maximum(scales, 1e-9))
    spread = float(np.mean([own.sigma for own in usual]))
    if np.ptp(x) < log(1.5):
        slope = float(np.mean([own.slope for own in usual]))
        return LogLinear(slope, float(y.mean() - slope * x.mean()), spread)
    slope, bias = (float(value) for value in np.polyfit(x, y, 1))
    if len(x) > 2:
        spread = float(np.sqrt(((y - slope * x - bias) ** 2).sum() / (len(x) - 2)))
    return LogLinear(slope, bias, spread)


def law_intervals(gains: Sequence[float], scales: Sequence[float]) -> tuple[Interval, Interval] | None:
    """Slope and bias of the law with their intervals, by the scatter of three or more ISOs; None of fewer."""
    if len(gains) < 3:
        return None
    x, y = np.log(gains), np.log(np.maximum(scales, 1e-9))
    (slope, bias), covariance = np.polyfit(x, y, 1, cov="unscaled")
    left = ((y - slope * x - bias) ** 2).sum() / (len(x) - 2)
    half = student.ppf(0.975, len(x) - 2) * np.sqrt(left * np.diag(covariance))
    return (
        Interval(float(slope), float(slope - half[0]), float(slope + half[0])),
        Interval(float(bias), float(bias - half[1]), float(bias + half[1])),
    )


def _by_iso(shots: Sequence[Shot]) -> dict[float, list[Shot]]:
    groups: dict[float, list[Shot]] = {}
    for shot in sorted(shots, key=lambda shot: shot.iso):
        groups.setdefault(shot.iso, []).append(shot)
    return groups


def _gains(
    transfers: dict[float, PhotonTransfer], darks: dict[float, DarkStack], say: Callable[[str], None]
) -> dict[float, Interval]:
    """Gain at every ISO: measured, else on the line between logarithms of measured ones, beyond them in proportion."""
    known = {iso: transfer.gain for iso, transfer in sorted(transfers.items())}
    isos, gains = np.log(list(known)), [gain.value for gain in known.values()]
    for iso in sorted(set(darks) - set(known)):
        nearest = min(known, key=lambda other: abs(log(other / iso)))
        inside = min(known) < iso < max(known)
        value = exp(float(np.interp(log(iso), isos, np.log(gains)))) if inside else known[nearest].value * iso / nearest
        wide = max(0.1, known[nearest].relative) * value
        known[iso] = Interval(value, value - wide, value + wide)
        say(f"ISO {iso:g}: no usable flats; its gain follows those of {', '.join(f'{other:g}' for other in transfers)}")
    return dict(sorted(known.items()))


def _line_of_gains(gains: dict[float, float]) -> tuple[float, float]:
    """Gain at ISO 100 and 6400 on the line through the gains; in proportion to the ISO where that is not positive."""
    isos, values = np.array(list(gains)), np.array(list(gains.values()))
    if len(isos) > 1:
        slope, offset = np.polyfit(isos, values, 1, w=1 / values)
        if slope > 0 and offset + 100 * slope > 0:
            return float(offset + 100 * slope), float(offset + 6400 * slope)
    proportion = float(np.exp(np.mean(np.log(values / isos))))
    return 100 * proportion, 6400 * proportion

"""A DNG's colour calibrations: which matrix holds, and what the white that it was shot in looks like to the camera."""

from __future__ import annotations

import math

import numpy as np

from exposurediffusion.files.exif import FileTags

ANALOG_BALANCE, D65 = 50727, 21
AS_SHOT_NEUTRAL, AS_SHOT_WHITE_XY = 50728, 50729
COLOUR_SETS = ((50721, 50723, 50778, 50964), (50722, 50724, 50779, 50965))
"""Tags of DNG's two colour calibrations: ColorMatrix, CameraCalibration, CalibrationIlluminant, ForwardMatrix."""
_LARGEST = 1e3  # of a matrix's numbers; cameras' are below ten
_DAYLIGHT = (21, 20, 23, 1, 9, 10, 4)  # light sources from D65 outwards: which of two matrices is preferred
_KELVIN = {1: 5500, 2: 4200, 3: 2850, 4: 5500, 9: 5500, 10: 6500, 11: 7500, 12: 6400, 13: 5050, 14: 4150, 15: 3525,
           17: 2850, 18: 4874, 19: 6774, 20: 5500, 21: 6500, 22: 7500, 23: 5000, 24: 3200}  # fmt: skip


def dng_matrix(tags: FileTags) -> tuple[np.ndarray, int] | None:
    """XYZ -> camera of a DNG, 3x3, as its AnalogBalance, CameraCalibration and ColorMatrix give it, and the illuminant.

    Of two calibrations the one nearest to daylight is taken. None: no (three-colour) matrix.
    """

    def rank(calibration: tuple[np.ndarray, int]) -> int:
        return _DAYLIGHT.index(calibration[1]) if calibration[1] in _DAYLIGHT else len(_DAYLIGHT)

    return min(_calibrations(tags), key=rank, default=None)


def neutral_of_white(tags: FileTags) -> tuple[float, float, float] | None:
    """Camera RGB, green = 1, of a neutral under the light whose chromaticity AsShotWhiteXY gives.

    The DNG specification, "Mapping Camera Color Space to CIE XYZ Space": XYZ of the white times the matrix XYZ ->
    camera; of two matrices the mean is taken, weighted by the reciprocal of the correlated colour temperature.
    None: no such tag, no matrix, or nonsense.
    """
    white, found = tags.main.get(AS_SHOT_WHITE_XY), _calibrations(tags)
    if white is None or white.count != 2 or not found:
        return None
    x, y = white.numbers
    if not (x > 0 and y > 0 and x + y < 1):
        return None
    matrix = found[0][0]
    if len(found) == 2:
        first, second = (_KELVIN.get(light, 6500) for _, light in found)
        if first != second:
            share = (1 / _temperature(x, y) - 1 / second) / (1 / first - 1 / second)
            matrix = np.clip(share, 0, 1) * found[0][0] + np.clip(1 - share, 0, 1) * found[1][0]
    red, green, blue = (float(v) for v in matrix @ np.array([x, y, 1 - x - y]))
    if not min(red, green, blue) > 0 or max(red, blue) > _LARGEST * green or green > _LARGEST * min(red, blue):
        return None
    return red / green, 1.0, blue / green


def _temperature(x: float, y: float) -> float:
    """Correlated colour temperature in kelvin (McCamy, 1992), 1667 to 25000."""
    n = (x - 0.3320) / (0.1858 - y) if abs(y - 0.1858) > 1e-9 else math.inf
    kelvin = 449 * n**3 + 3525 * n**2 + 6823.3 * n + 5520.33
    return min(max(kelvin, 1667.0), 25000.0) if math.isfinite(kelvin) else 25000.0


def _calibrations(tags: FileTags) -> list[tuple[np.ndarray, int]]:
    """The usable ones of the two calibrations: XYZ -> camera, 3x3, and the illuminant."""
    found: list[tuple[np.ndarray, int]] = []
    for colour, calibration, light, _ in COLOUR_SETS:
        entry = tags.main.get(colour)
        if entry is None or entry.count != 9:
            continue
        matrix = np.reshape(entry.numbers, (3, 3))
        for tag, shape in ((calibration, (3, 3)), (ANALOG_BALANCE, (3,))):
            factor = tags.main.get(tag)
            if factor is not None and factor.count == math.prod(shape) and np.isfinite(factor.numbers).all():
                values = np.reshape(factor.numbers, shape)
                matrix = (values if values.ndim == 2 else np.diag(values)) @ matrix
        lights = tags.main[light].numbers if light in tags.main else (0.0,)
        if np.abs(matrix).max() <= _LARGEST and abs(np.linalg.det(matrix)) > 1e-6:  # not of NaN
            found.append((matrix, int(lights[0]) if math.isfinite(lights[0]) and lights[0] else D65))
    return found

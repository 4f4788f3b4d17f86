"""Rounding in a DNG is not seen: over scenes developed as editors do, in the darks, against the noise that is left."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from exposurediffusion.dng import storage
from exposurediffusion.dng.writer import write_dng
from exposurediffusion.files.develop import camera_rgb, develop, encode_srgb
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.physics.sensor import Metadata, RawFrame, Sensor
from exposurediffusion.raw.read import read_raw

SIDE = 256
NOISE = 4e-4
"""Of a result, 1 = white: half of the finest that `enhance` left in scenes of x100 to x300."""
METADATA = Metadata(
    make="Acme",
    model="Acme One",
    as_shot_neutral=(0.5, 1.0, 0.625),
    colour_matrix=(0.902, -0.289, -0.0715, -0.4535, 1.2436, 0.2348, -0.0934, 0.1919, 0.7086),
    illuminant=21,
)


def scenes() -> dict[str, np.ndarray]:
    """Light of three dark scenes: a gradient as of a sky, texture, lamps in the night."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    lamps = np.exp(-((x - 0.2) ** 2 + (y - 0.3) ** 2) / 2e-3) + np.exp(-((x - 0.7) ** 2 + (y - 0.6) ** 2) / 2e-3)
    return {
        "sky": 0.002 + 0.03 * y + 0.01 * x,
        "texture": 0.012 + 0.006 * np.sin(40 * x + 9 * y) * np.cos(70 * y),
        "lamps": 0.004 + 0.5 * lamps,
    }


def result(light: np.ndarray, ev: float, noise: float = NOISE) -> RawFrame:
    """As `enhance` gives it: float, divided by what editors are to brighten it by."""
    there = light + noise * np.random.default_rng(1).normal(0, 1, light.shape)
    sensor = Sensor.uniform(CFA("RGGB"), 0, 1)
    return RawFrame((there / 2**ev).astype(np.float32), sensor, replace(METADATA, baseline_exposure=ev))


def codes(frame: RawFrame) -> np.ndarray:
    """Each cell of the mosaic in sRGB codes, not rounded; no demosaicing, whose choices may turn at an edge."""
    rgb = camera_rgb(frame.planes, frame.sensor.cfa).permute(1, 2, 0).double().numpy()
    return 255 * encode_srgb(develop(rgb, frame.metadata))


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.square(values).mean()))


def rounding(light: np.ndarray, ev: float, noise: float, folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """In codes: what writing and reading changes, the noise that is left, and where it is dark."""
    frame, clean = result(light, ev, noise), codes(result(light, ev, 0))
    back = codes(read_raw(write_dng(folder / "a.dng", frame)))
    return back - codes(frame), codes(frame) - clean, clean.max(-1) < 64


def is_unseen(ev: float, folder: Path) -> bool:
    for light in scenes().values():
        error, noise, dark = rounding(light, ev, NOISE, folder)
        assert dark.mean() > 0.3
        if rms(error[dark]) > min(0.5, rms(noise[dark]) / 4):
            return False
    return True


def has_no_bands(ev: float, folder: Path) -> bool:
    """Whether the rounding of a noiseless gradient, of three steps or so, averages out over 16x16 cells."""
    gradient = np.linspace(0.01, 0.0102, SIDE)[:, None].repeat(SIDE, 1)
    error, _, _ = rounding(gradient, ev, 0, folder)
    means = error.reshape(SIDE // 32, 16, SIDE // 32, 16, 3).mean((1, 3))
    return rms(means) < rms(error) / 6


EVS = pytest.mark.parametrize("ev", [0.0, 1.0, 2.0, 3.0, 6.6, 8.2])


@EVS
def test_rounding_stays_below_half_a_code_and_a_quarter_of_the_noise(ev: float, tmp_path: Path) -> None:
    assert is_unseen(ev, tmp_path)


@EVS
def test_a_gradient_has_no_bands(ev: float, tmp_path: Path) -> None:
    assert ev > 3 or has_no_bands(ev, tmp_path)  # beyond it is floating point


def test_twelve_bits_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "levels", lambda ev, bits: ((256.0,), 4095.0))
    assert not is_unseen(3.0, tmp_path)


def test_without_dither_there_would_be_bands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Plain:
        normal = staticmethod(np.random.default_rng(1).normal)

        def random(self, shape: tuple[int, ...], dtype: type) -> np.ndarray:
            return np.full(shape, 0.5, dtype)

    monkeypatch.setattr(storage.np.random, "default_rng", lambda seed: Plain())
    assert not has_no_bands(0.0, tmp_path)

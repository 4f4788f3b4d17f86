"""Tiny raw files, and data sets made of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from exposurediffusion.dng.writer import write_dng
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.physics.sensor import Metadata, RawFrame, Sensor

RGGB = CFA("RGGB")
SONY = Metadata(make="SONY", model="ILCE-7SM2", iso=100, shutter=10.0)


def write_raw(
    path: Path,
    cfa: CFA = RGGB,
    shape: tuple[int, int] = (48, 60),
    seed: int = 0,
    sensor: Sensor | None = None,
    **metadata: object,
) -> RawFrame:
    """A raw file in which every site has another value."""
    values = np.random.default_rng(seed).permutation(shape[0] * shape[1]).reshape(shape) + 500
    sensor = sensor or Sensor.uniform(cfa, 512, 16383)
    frame = RawFrame(values.astype(np.uint16), sensor, replace(SONY, **metadata))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_dng(path, frame)
    return frame


def touch(root: Path, *names: str) -> None:
    """Empty files: enough where names alone are read."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def write_sid(root: Path, scenes: tuple[str, ...], cfa: CFA = RGGB, bursts: int = 1) -> None:
    """SID's Sony (or Fuji) with a long exposure of 10 s and short ones of 0.1 s and 0.033 s of each scene."""
    folder = root / ("Sony" if cfa.is_bayer else "Fuji")
    for place, scene in enumerate(scenes):
        write_raw(folder / "long" / f"{scene}_00_10s.dng", cfa, seed=10 * place)
        for number in range(bursts):
            for offset, (time, iso) in enumerate((("0.1", 800), ("0.033", 3200)), 1):
                name = f"{scene}_{number:02d}_{time}s.dng"
                seed = 10 * place + 2 * number + offset
                write_raw(folder / "short" / name, cfa, seed=seed, iso=iso, shutter=float(time))

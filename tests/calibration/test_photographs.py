"""What photographs of one camera show together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sensors import HeldShot, SimulatedSensor

from exposurediffusion.calibration.photographs import figures_of_photographs
from exposurediffusion.calibration.shots import NotEnough, Shot
from exposurediffusion.physics.parameters import tukey_lambda_variance


def photograph(sensor: SimulatedSensor, brightest: float, seed: int) -> Shot:
    """Smooth light from darkness to `brightest`, in DN."""
    random = np.random.default_rng(seed)
    across = np.linspace(0, 1, sensor.shape[1]) ** 2 * random.uniform(0.7, 1)
    light = np.broadcast_to(across, sensor.shape) * brightest / sensor.gain
    return sensor.shot(f"{sensor.iso:g}-{seed}", sensor.frame(light))


def sensor(iso: float) -> SimulatedSensor:
    return SimulatedSensor(int(iso), (192, 192), gain=0.002 * iso, scale=1.5, iso=iso, hot=0, shading=0.0, row=0.0)


def test_gain_is_shared_and_read_noise_is_of_frames_that_show_it() -> None:
    bright, dark = sensor(100), sensor(800)
    shots = [photograph(bright, 2000, seed) for seed in range(4)] + [photograph(dark, 400, seed) for seed in range(4)]
    snow = sensor(200)  # bright all over: it shows the gain, and no read noise
    shots += [snow.shot(f"snow-{number}", snow.frame(20_000.0)) for number in range(2)]
    figures, _ = figures_of_photographs(shots, print, lambda: None)
    deviation = 1.5 * float(tukey_lambda_variance(-0.1)) ** 0.5
    assert [iso for iso, _, _ in figures] == [100, 800]
    for iso, gain, read in figures:
        assert gain == pytest.approx(0.002 * iso, rel=0.15)
        assert read == pytest.approx((deviation**2 + 0.3**2 + 0.5**2 + 1 / 12) ** 0.5, rel=0.15)


def test_what_they_do_not_show_is_said() -> None:
    camera = sensor(800)
    told: list[str] = []
    with pytest.raises(NotEnough, match="add some of daylight"):
        figures_of_photographs(camera.darks(2), told.append, lambda: None)
    with pytest.raises(NotEnough, match="add some of the night"):
        figures_of_photographs([camera.shot("a", camera.frame(5000.0))], told.append, lambda: None)
    gone = Shot(Path("gone.dng"), 800)
    with pytest.raises(NotEnough, match="none of the photographs can be used"):
        figures_of_photographs([gone], told.append, lambda: None)
    assert "gone.dng" in told[0]
    other = HeldShot(Path("o.dng"), 800, camera="Acme Two", frame=camera.frame(100.0))
    with pytest.raises(ValueError, match="one camera at a time"):
        figures_of_photographs([photograph(camera, 400, 1), other], told.append, lambda: None)

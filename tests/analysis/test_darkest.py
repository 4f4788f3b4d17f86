"""What the darkest parts of a frame prove of its black level, and what they do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from exposurediffusion.analysis.black import with_true_black
from exposurediffusion.analysis.darkest import is_too_quiet, lower_bounds
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.physics.sensor import Metadata, RawFrame, Sensor

GAIN, READ, BLACK, WHITE = 2.0, 6.0, 512.0, 16383.0


def frame(
    light: np.ndarray | float,
    error: float = 0.0,
    row: float = 0.0,
    stated: float = BLACK,
    seed: int = 0,
    size: int = 512,
) -> RawFrame:
    """A scene in DN (a column of it will do), its true black `BLACK` + `error`."""
    draw = np.random.default_rng(seed)
    signal = draw.poisson(np.broadcast_to(light, (size, size)) / GAIN) * GAIN + draw.normal(0, READ, (size, size))
    mosaic = (signal + BLACK + error + draw.normal(0, row, (size, 1))).round().clip(0, WHITE).astype(np.uint16)
    return RawFrame(mosaic, Sensor.uniform(CFA("RGGB"), stated, WHITE))


RAMP = np.linspace(0, 200, 512)[:, None]


@pytest.mark.parametrize("error", [-100.0, -3.0])
def test_light_is_never_negative(error: float) -> None:
    bounds = lower_bounds(frame(RAMP, error))
    assert (bounds >= error - 0.1).all()
    assert (bounds < error + 8).all()
    assert (lower_bounds(frame(0.0, error)) < error + 0.6).all()


@pytest.mark.parametrize(("light", "error"), [(RAMP, 0.0), (RAMP, 3.0), (8.0, -3.0), (2000.0, 0.0)])
def test_what_light_may_hide_is_left(light: np.ndarray | float, error: float) -> None:
    """The twins of the above: no error, one upwards, and one under light."""
    assert not lower_bounds(frame(light, error)).any()
    assert with_true_black(frame(light, error)).sensor.black_level == (BLACK,) * 4


@pytest.mark.parametrize("row", [0.0, 4.0])
def test_no_more_is_taken_than_is_certain(row: float) -> None:
    """In frames without any light, where nothing but the noise speaks; a bound without its errors fails."""
    lowest = np.array([lower_bounds(frame(0.0, -1.0, row, seed=seed, size=384)) for seed in range(10)]) + 1
    assert lowest.min() > -0.15 * (1 + row)
    certain = lowest.mean()
    assert 0 < certain < 0.5 * (1 + row)


def test_what_is_no_picture_proves_nothing() -> None:
    dark = frame(RAMP + 20)
    for filling in (0, 100):
        mosaic = dark.mosaic.copy()
        mosaic[:, :128] = filling
        assert not lower_bounds(replace(dark, mosaic=mosaic)).any()


def test_a_pedestal_is_told_from_fog() -> None:
    pedestal = frame(RAMP, 1500, stated=0.0)
    assert is_too_quiet(pedestal)
    (note,) = with_true_black(pedestal).notes
    assert "--black" in note
    for iso, light in ((None, 1000.0), (100, 1000 + RAMP), (3200, 1000 + RAMP), (800, 6000.0)):
        foggy = replace(frame(light), metadata=Metadata(iso=iso))
        assert not is_too_quiet(foggy)
        assert with_true_black(foggy).notes == ()
    silent = np.full((512, 512), 3000, np.uint16)
    assert not is_too_quiet(RawFrame(silent, pedestal.sensor))


def test_a_level_far_too_high_is_said() -> None:
    result = with_true_black(frame(RAMP, -100.0))
    assert max(result.sensor.black_level) < BLACK - 90
    (note,) = result.notes
    assert "--black 512 " in note
    assert with_true_black(frame(RAMP, -3.0)).notes == ()


@pytest.mark.parametrize("shape", [(2, 2), (2, 300), (8, 8), (300, 3)])
def test_a_frame_without_a_whole_block_proves_nothing(shape: tuple[int, int]) -> None:
    small = RawFrame(np.full(shape, 400, np.uint16), Sensor.uniform(CFA("RGGB"), BLACK, WHITE))
    assert not lower_bounds(small).any()
    assert not is_too_quiet(small)


def test_a_note_of_black_names_a_number_although_some_sites_have_none() -> None:
    bright = frame(0.0, error=1500.0)
    bright = replace(bright, mosaic=bright.mosaic.astype(np.float32))
    bright.mosaic[0, 0] = np.nan
    (note,) = with_true_black(bright).notes
    assert "nan" not in note

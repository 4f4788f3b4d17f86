"""Quad-Bayer mosaics that claim to be Bayer are found, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from exposurediffusion.raw.quad import is_quad_bayer

RNG = np.random.default_rng(11)
COLOURS = np.array([0.5, 1.0, 0.65])


def texture() -> np.ndarray:
    """A coloured scene with detail at every scale, 0..1, (192, 256, 3)."""
    light = np.ones((192, 256, 3))
    for size in (2, 4, 16, 64):
        light *= np.kron(RNG.uniform(0.3, 1.5, (192 // size, 256 // size, 3)), np.ones((size, size, 1)))
    return light / light.max() * COLOURS


def mosaic(rgb: np.ndarray, pattern: str, side: int) -> np.ndarray:
    """Each colour of a pattern over `side` x `side` sites: 1 is Bayer, 2 quad-Bayer; Poisson and read noise."""
    index = np.kron(np.reshape(["RGB".index(c) for c in pattern], (2, 2)), np.ones((side, side), int))
    index = np.tile(index, (rgb.shape[0] // len(index), rgb.shape[1] // len(index))).astype(int)
    light = np.take_along_axis(rgb, index[..., None], 2)[..., 0]
    return 512 + 2 * RNG.poisson(light * 400) + RNG.normal(0, 6, light.shape)


@pytest.mark.parametrize("pattern", ["RGGB", "BGGR", "GRBG", "GBRG"])
@pytest.mark.parametrize("start", [(0, 0), (1, 0), (2, 3)])
def test_quads_are_found_wherever_they_begin(pattern: str, start: tuple[int, int]) -> None:
    scene = texture()
    assert is_quad_bayer(mosaic(scene, pattern, 2)[start[0] :, start[1] :])
    assert not is_quad_bayer(mosaic(scene, pattern, 1)[start[0] :, start[1] :])


def star(frame: np.ndarray) -> np.ndarray:
    frame[60:62, 80:82] += 9000
    return frame


@pytest.mark.parametrize(
    "frame",
    [
        lambda: np.zeros((64, 64)),
        lambda: RNG.normal(512, 6, (200, 300)) + RNG.normal(0, 3, (200, 1)) + RNG.normal(0, 3, 300),
        lambda: star(np.full((128, 128), 512.0)),
        lambda: star(RNG.normal(512, 6, (128, 128))),
        lambda: np.arange(128 * 128.0).reshape(128, 128),
        lambda: np.tile([[0.0], [0], [900], [900]], (32, 128)),  # stripes as wide as a quad's blocks
        lambda: np.full((6, 6), 5),
    ],
)
def test_darks_stars_ramps_and_stripes_are_none(frame: Callable[[], np.ndarray]) -> None:
    assert not is_quad_bayer(frame())


def test_noise_alone_is_none() -> None:
    assert not any(is_quad_bayer(RNG.normal(0, 1, (64, 64))) for _ in range(100))

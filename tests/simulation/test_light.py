"""Clean light: what a camera records of known scenes, views of a panorama whose pixels say where they are, seeds."""

from __future__ import annotations

from math import cos, pi, sin, tan
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from scipy import stats
from torch import Tensor

from exposurediffusion.files.develop import camera_from_rgb
from exposurediffusion.physics.cameras.known import calibrated_cameras
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.physics.random import Stream, scene_of, seeded
from exposurediffusion.simulation.light import PANORAMA_FOCAL, Panorama, Photograph, load_clean, record

CFAS = [CFA("RGGB"), CFA("GBRG"), CFA("XTRANS")]
CAMERAS = {name: profile.colour_matrix for name, profile in calibrated_cameras().items()}


def light(generator: torch.Generator, side: int = 48) -> Tensor:
    """Colourful light with some highlights, the same within each tile of any array."""
    small = torch.exp(torch.randn((3, side // 6, side // 6), generator=generator))
    return small.repeat_interleave(6, -1).repeat_interleave(6, -2)


@pytest.mark.parametrize("camera", CAMERAS)
def test_white_stays_neutral_for_every_camera_and_array(camera: str) -> None:
    for cfa in CFAS:
        planes = record(torch.full((3, 24, 24), 0.7), CAMERAS[camera], (2.1, 1.4), cfa, level=0.2)
        expected = {"R": 0.2 / 2.1, "G": 0.2, "B": 0.2 / 1.4}
        for plane, letter in zip(planes, cfa.colours, strict=True):
            torch.testing.assert_close(plane, torch.full_like(plane, expected[letter]), rtol=1e-4, atol=1e-6)


def test_cameras_are_the_calibrated_ones_and_see_colours_their_own_way() -> None:
    for camera in CAMERAS.values():
        torch.testing.assert_close(camera_from_rgb(camera).sum(1), torch.ones(3))
    assert len({tuple(camera_from_rgb(camera).flatten().tolist()) for camera in CAMERAS.values()}) == len(CAMERAS)


@pytest.mark.parametrize("level", [0.01, 0.1, 0.4])
@pytest.mark.parametrize("cfa", CFAS, ids=lambda c: c.name)
def test_mean_green_level_is_the_one_asked_for(cfa: CFA, level: float, generator: torch.Generator) -> None:
    planes = record(light(generator), CAMERAS["SonyA7S2"], (2.0, 1.6), cfa, level)
    greens = planes[[i for i, letter in enumerate(cfa.colours) if letter == "G"]]
    assert float(greens.clamp(max=1).mean()) == pytest.approx(level, rel=0.02)
    assert bool((greens > 1).any()) == (level > 0.2)
    brighter = record(5 * light(torch.Generator().manual_seed(20231004)), CAMERAS["SonyA7S2"], (2.0, 1.6), cfa, level)
    torch.testing.assert_close(brighter, planes, rtol=1e-3, atol=1e-5)  # the scene's own brightness does not matter


def test_highlights_are_clipped_where_told(generator: torch.Generator) -> None:
    rgb = light(generator)
    rgb[:, :6, :6] = 1e4  # the sun
    for highlight in (1.0, 4.0):
        planes = record(rgb, CAMERAS["NikonD850"], (2.0, 1.5), CFA("RGGB"), 0.2, highlight)
        assert planes.max() == highlight
        assert torch.equal(planes[:, :3, :3], torch.full((4, 3, 3), highlight))
    assert record(rgb, CAMERAS["NikonD850"], (2.0, 1.5), CFA("RGGB"), 0.2).max() == 4.0


def test_darkness_is_recorded_without_ado() -> None:
    planes = record(torch.zeros(3, 12, 12), CAMERAS["SonyA7S2"], (2.0, 1.5), CFA("RGGB"), 0.2)
    assert torch.equal(planes, torch.zeros(4, 6, 6))


def test_a_saturated_colour_is_never_negative(generator: torch.Generator) -> None:
    rgb = torch.zeros(3, 12, 12)
    rgb[2] = 1.0
    for camera in CAMERAS.values():
        assert record(rgb, camera, (2.0, 1.5), CFA("RGGB"), 0.1).min() >= 0


# ---------------------------------------------------------------------------------------------------- panoramas

ROWS = 96


def directions() -> Panorama:
    """Each pixel holds the unit vector (right, up, ahead) at which it lies, plus 2."""
    longitude = ((torch.arange(2 * ROWS, dtype=torch.float64) + 0.5) / ROWS - 1) * pi
    latitude = (0.5 - (torch.arange(ROWS, dtype=torch.float64) + 0.5) / ROWS) * pi
    lat, lon = torch.meshgrid(latitude, longitude, indexing="ij")
    vectors = torch.stack([lat.cos() * lon.sin(), lat.sin(), lat.cos() * lon.cos()])
    return Panorama((vectors + 2).float())


def pinhole(size: int, yaw: float, pitch: float) -> np.ndarray:
    """The unit vectors that a camera sees, turned up by `pitch`, then right by `yaw`: (3, size, size)."""
    axis = (np.arange(size) - (size - 1) / 2) / (PANORAMA_FOCAL * 2 * ROWS)
    x, y = np.meshgrid(axis, axis)
    rays = np.stack([x, -y, np.ones_like(x)])
    up = np.array([[1, 0, 0], [0, cos(pitch), sin(pitch)], [0, -sin(pitch), cos(pitch)]])
    right = np.array([[cos(yaw), 0, sin(yaw)], [0, 1, 0], [-sin(yaw), 0, cos(yaw)]])
    rays = np.einsum("ij,jhw->ihw", right @ up, rays)
    return rays / np.linalg.norm(rays, axis=0)


@pytest.mark.parametrize("pitch", [-0.8, 0.0, 0.5])
@pytest.mark.parametrize("yaw", [-1.9, -pi / 2, 0.0, 0.3, 2.0])
def test_view_looks_where_it_should(yaw: float, pitch: float) -> None:
    view = directions().view(21, yaw, pitch).numpy() - 2
    expected = [cos(pitch) * sin(yaw), sin(pitch), cos(pitch) * cos(yaw)]
    np.testing.assert_allclose(view[:, 10, 10], expected, atol=2e-3)
    np.testing.assert_allclose(view, pinhole(21, yaw, pitch), atol=2e-3)


def test_view_wraps_around_behind() -> None:
    """Only the half pixel beside the seam is repeated instead of blended."""
    behind = directions().view(21, pi, 0.0).numpy() - 2
    np.testing.assert_allclose(behind, pinhole(21, pi, 0.0), atol=1.1 * pi / ROWS / 2)
    np.testing.assert_allclose(behind, directions().view(21, -pi, 0.0).numpy() - 2, atol=1e-5)
    np.testing.assert_allclose(behind, directions().view(21, 3 * pi, 0.0).numpy() - 2, atol=1e-4)
    clear = np.abs(np.arange(21) - 10) > 1
    np.testing.assert_allclose(behind[:, :, clear], pinhole(21, pi, 0.0)[:, :, clear], atol=2e-3)
    assert np.abs(np.diff(behind[0, 10])).max() < 3 * pi / ROWS  # no jump


def test_smaller_views_see_more_without_aliasing() -> None:
    near, far = (directions().view(20, 0.4, 0.0, zoom).numpy() - 2 for zoom in (1.0, 0.5))
    span = [np.arccos(np.clip(v[:, 10, 0] @ v[:, 10, -1], -1, 1)) for v in (near, far)]
    edge = [tan(s / 2) for s in span]
    assert edge[1] / edge[0] == pytest.approx(2 * 19.5 / 19, rel=0.05)
    fine = directions().pixels.clone()
    fine[..., ::2], fine[..., 1::2] = 0.0, 2.0  # stripes of one pixel
    assert Panorama(fine).view(20, 0.4, 0.0, 0.5).std() < 0.6 * Panorama(fine).view(20, 0.4, 0.0).std()


def test_panorama_samples_look_all_around_and_mostly_ahead(generator: torch.Generator) -> None:
    samples = torch.stack([directions().sample(5, generator)[:, 2, 2] for _ in range(400)]).double().numpy() - 2
    yaw = np.arctan2(samples[:, 0], samples[:, 2])
    assert stats.kstest(yaw, stats.uniform(-pi, 2 * pi).cdf).pvalue > 1e-4
    assert np.abs(samples[:, 1]).max() < 0.8  # 50 degrees
    assert np.median(np.abs(samples[:, 1])) < 0.6


# -------------------------------------------------------------------------------------------------- photographs


def test_photograph_crops_stay_inside_and_reach_all(generator: torch.Generator) -> None:
    rows, columns = torch.meshgrid(torch.arange(20.0), torch.arange(33.0), indexing="ij")
    photograph = Photograph(torch.stack([rows, columns, rows]).half())
    corners, halved = set(), 0
    for _ in range(300):
        crop = photograph.sample(10, generator)
        assert crop.shape == (3, 10, 10)
        step = float(crop[0, 1, 0] - crop[0, 0, 0])
        assert step in (1.0, 2.0)
        halved += step == 2.0
        torch.testing.assert_close(crop[1, 0].diff(), torch.full((9,), step))
        corners.add((step, float(crop[0, 0, 0]), float(crop[1, 0, 0])))
    assert {top for step, top, _ in corners if step == 1} == set(range(11))
    assert {left for step, _, left in corners if step == 1} == set(range(24))
    assert 50 < halved < 140  # three in ten
    assert Photograph(torch.ones(3, 10, 10).half()).sample(10, generator).shape == (3, 10, 10)


def test_sources_by_file(tmp_path: Path) -> None:
    board = np.indices((16, 32)).sum(0)[..., None].repeat(3, -1) % 2
    Image.fromarray((255 * board).astype(np.uint8)).save(tmp_path / "a.png")
    photograph = load_clean(tmp_path / "a.png")
    assert isinstance(photograph, Photograph)
    assert torch.equal(photograph.pixels, torch.full((3, 8, 16), 0.5).half())  # averaged in linear light
    tifffile.imwrite(tmp_path / "b.tif", (9 * board).astype(np.float32), photometric="rgb")
    tif = load_clean(tmp_path / "b.tif")
    assert isinstance(tif, Photograph)
    assert torch.equal(tif.pixels, torch.from_numpy(9 * board).permute(2, 0, 1).half())
    (tmp_path / "c.hdr").write_bytes(imagecodecs.rgbe_encode(np.full((16, 32, 3), 1e6, np.float32)))
    panorama = load_clean(tmp_path / "c.hdr")
    assert isinstance(panorama, Panorama)
    assert panorama.pixels.isfinite().all()
    (tmp_path / "d.hdr").write_bytes(imagecodecs.rgbe_encode(np.ones((16, 24, 3), np.float32)))
    assert isinstance(load_clean(tmp_path / "d.hdr"), Photograph)


def test_each_scene_comes_once_an_epoch_in_changing_order() -> None:
    epochs = [[scene_of(number, 7, 3) for number in range(7 * epoch, 7 * epoch + 7)] for epoch in range(40)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 40
    assert [scene_of(number, 7, 4) for number in range(7)] != epochs[0]
    firsts = stats.chisquare(np.bincount([epoch[0] for epoch in epochs], minlength=7))
    assert firsts.pvalue > 1e-3


def test_seeds_that_share_their_low_bits_or_sums_are_separated() -> None:
    seeds = [(0, 5), (0, 5 + 2**32), (5, 0), (1, 4), (0, 5, 1), (2**40, 5)]
    draws = [torch.randint(2**62, (1,), generator=seeded(*numbers)).item() for numbers in seeds]
    assert len(set(draws)) == len(seeds)
    assert seeded(0, 5).initial_seed() == seeded(0, 5).initial_seed() == seeded(0, Stream.VIEWS).initial_seed()

"""A network for programs that know only tiles: colours, brightness, and the noise that a tile shows."""

from __future__ import annotations

from math import sqrt

import pytest
import torch
from torch.nn import functional as F

from exposurediffusion.models.denoiser import DenoiserConfig, ExposureDenoiser
from exposurediffusion.models.tile_graph import TILE_PLANES, TileGraph, demosaiced, tile_noise
from exposurediffusion.physics.cameras.known import load_profile
from exposurediffusion.physics.conditions import Conditions
from exposurediffusion.physics.mosaic import CFA, mosaic_from_rgb, pack
from exposurediffusion.physics.noise import simulate_capture

RGGB = CFA("RGGB")


def scene(seed: int, size: int = 128, texture: float = 1.0) -> torch.Tensor:
    """Packed planes with light from dark to bright, a straight edge, and texture in a quarter of them."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand((1, 1, 6, 6), generator=generator) ** 2 * (
        0.4 + 0.6 * torch.rand((1, 3, 6, 6), generator=generator)
    )
    rgb = F.interpolate(coarse, size=2 * size, mode="bicubic").clamp(0.005, 1)
    rgb[..., : size // 2] *= 0.3
    rgb[..., size:, size:] *= 1 + texture * torch.rand((1, 1, size, size), generator=generator)
    return pack(mosaic_from_rgb(rgb, RGGB), RGGB)


def test_a_plane_of_light_is_demosaiced_exactly() -> None:
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    slopes = (0.001 * rows + 0.002 * columns, 0.3 - 0.003 * rows, 0.1 + 0.002 * columns)
    light = torch.stack(slopes)[None]
    grey = light[:, 1:2].expand(-1, 3, -1, -1) + torch.tensor([0.1, 0.0, -0.2]).reshape(1, 3, 1, 1)
    tile = pack(mosaic_from_rgb(grey, RGGB), RGGB)[:, TILE_PLANES]
    torch.testing.assert_close(demosaiced(tile)[..., 2:-2, 2:-2], grey[..., 2:-2, 2:-2])
    mutant = demosaiced(tile[:, TILE_PLANES])  # G2 and B in each other's place
    assert not torch.allclose(mutant[..., 2:-2, 2:-2], grey[..., 2:-2, 2:-2], atol=0.01)
    tile = pack(mosaic_from_rgb(light, RGGB), RGGB)[:, TILE_PLANES]
    torch.testing.assert_close(mosaic_from_rgb(demosaiced(tile), RGGB), mosaic_from_rgb(light, RGGB))


def test_a_tile_is_what_the_network_says_of_it_at_its_own_brightness() -> None:
    torch.manual_seed(3)
    model = ExposureDenoiser(DenoiserConfig("unet", {"width": 4, "depth": 1}, noise_map=True)).eval()
    noise, ratio = load_profile("NikonD850").at_iso(1600), 40.0
    clean = scene(1, 32).clamp(max=0.5)
    capture = simulate_capture(clean, torch.tensor([ratio]), noise, torch.Generator().manual_seed(2)).clamp(max=0.9)
    known = float(noise.gain) / noise.saturation, float(noise.read_variance) / noise.saturation**2
    with torch.inference_mode():
        wanted = model(capture, torch.ones(1), Conditions.of(noise, ratio, capture)).image
        found = TileGraph(model, known, ratio)((capture / ratio)[:, TILE_PLANES]) * ratio
        mutant = TileGraph(model, (known[0] * 4, known[1]), ratio)((capture / ratio)[:, TILE_PLANES]) * ratio
    mosaic = pack(mosaic_from_rgb(found, RGGB), RGGB)
    torch.testing.assert_close(mosaic, wanted, atol=1e-5, rtol=0)
    assert not torch.allclose(pack(mosaic_from_rgb(mutant, RGGB), RGGB), wanted, atol=1e-4)


def test_what_is_white_once_amplified_stays() -> None:
    torch.manual_seed(3)
    model = ExposureDenoiser(DenoiserConfig("unet", {"width": 4, "depth": 1})).eval()
    tile = torch.full((1, 4, 128, 128), 0.001)
    tile[..., 40:60, 40:60] = 0.5
    with torch.inference_mode():
        found = TileGraph(model, (1e-4, 1e-7), 100.0)(tile)
    torch.testing.assert_close(found[..., 84:116, 84:116], torch.full((1, 3, 32, 32), 0.5))


@pytest.mark.parametrize(
    ("camera", "iso", "ratio"),
    [("SonyA7S2", 3200, 100), ("NikonD850", 800, 30), ("CanonEOS700D", 1600, 300), ("CanonEOS5D4", 6400, 8)],
)
def test_the_noise_of_a_tile_is_known_within_a_third(camera: str, iso: float, ratio: float) -> None:
    noise = load_profile(camera).at_iso(iso)
    gain, read = float(noise.gain) / noise.saturation, sqrt(float(noise.read_variance)) / noise.saturation
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        capture = simulate_capture(scene(seed), torch.tensor([float(ratio)]), noise, generator) / ratio
        found_gain, found_variance = (float(value) for value in tile_noise(capture))
        darkest, brightest = (scene(seed) / ratio).quantile(torch.tensor([0.1, 0.9])).tolist()
        for light in (darkest, float(capture.mean()), brightest):
            found, truth = found_gain * light + found_variance, gain * light + read**2
            assert 0.75 < sqrt(found / truth) < 1.33, (seed, light)


def test_twice_the_noise_is_seen_as_such() -> None:
    noise = load_profile("SonyA7S2").at_iso(3200)
    capture = simulate_capture(scene(1), torch.tensor([100.0]), noise, torch.Generator().manual_seed(1)) / 100
    for before, after, factor in zip(tile_noise(capture), tile_noise(2 * capture), (2, 4), strict=True):
        assert float(after / before) == pytest.approx(factor, rel=0.2)


def test_tiles_that_show_no_noise_have_a_number() -> None:
    for light in (0.0, 0.3, 1.0):
        assert all(torch.isfinite(value).all() for value in tile_noise(torch.full((1, 4, 128, 128), light)))

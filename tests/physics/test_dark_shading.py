"""Dark shading is found and taken away, and augmented pairs are true pairs of a brighter scene."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from exposurediffusion.physics.dark_shading import DarkShading
from exposurediffusion.physics.noise import augment_shot_noise, simulate_capture
from exposurediffusion.physics.parameters import NoiseParameters
from tests.statistics import BOUND, mean_z, poisson_z, variance_z

ISOS = (100.0, 400.0, 1600.0, 6400.0)
BLACK_LEVEL_ERRORS = (0.5, -1.0, 2.0, 4.0)
FRAMES, READ, SATURATION = 40, 6.0, 15871.0


def pattern(seed: int, size: tuple[int, int, int] = (4, 24, 20)) -> Tensor:
    """Columns and a glow at one edge, skewed so that mean and median differ."""
    generator = torch.Generator().manual_seed(seed)
    columns = torch.randn((size[0], 1, size[2]), generator=generator)
    glow = torch.exp(-torch.arange(size[1]) / 4.0)[None, :, None]
    return columns + 5 * glow + 0.3 * torch.randn(size, generator=generator)


SLOPE, OFFSET = 2e-3 * pattern(1), pattern(2)


def true_shading(iso: float) -> Tensor:
    return float(np.interp(iso, ISOS, BLACK_LEVEL_ERRORS)) + SLOPE * iso + OFFSET


def dark_stack(iso: float, seed: int = 3, count: int = FRAMES) -> Tensor:
    generator = torch.Generator().manual_seed(seed + int(iso))
    return true_shading(iso) + READ * torch.randn((count, *SLOPE.shape), generator=generator)


def fitted(read: bool = True) -> DarkShading:
    stacks = {iso: dark_stack(iso) if read else true_shading(iso)[None] for iso in ISOS}
    return DarkShading.fit(stacks, SATURATION)


def line_variance(iso: float) -> float:
    """Of the fitted line in one pixel, for a mean frame of unit variance at each ISO."""
    spread = np.array(ISOS) - np.mean(ISOS)
    return float(1 / len(ISOS) + (iso - np.mean(ISOS)) ** 2 / (spread @ spread))


@pytest.mark.parametrize("iso", [*ISOS, 250.0, 3000.0])
def test_the_fit_finds_the_shading(iso: float) -> None:
    error = fitted().map(iso) - true_shading(iso)
    variance = READ**2 / FRAMES * line_variance(iso)
    assert abs(mean_z(error / variance**0.5, 0.0)) < BOUND
    assert abs(variance_z(error, variance)) < BOUND
    assert variance_z(true_shading(iso), variance) > 2 * BOUND  # twin: nothing was found


def test_without_noise_the_fit_is_exact() -> None:
    for iso in (*ISOS, 250.0, 3000.0):
        torch.testing.assert_close(fitted(read=False).map(iso), true_shading(iso), atol=2e-3, rtol=0)


def test_the_black_level_error_is_held_beyond_the_calibrated_isos() -> None:
    shading = DarkShading(torch.zeros(4, 2, 2), torch.zeros(4, 2, 2), ((100.0, 1.0), (200.0, 3.0)), SATURATION)
    assert [float(shading.map(iso).mean()) for iso in (50, 100, 150, 200, 400)] == [1, 1, 2, 3, 3]


def test_correction_takes_the_shading_away() -> None:
    """Light, shading and noise, at reference brightness: what remains is light and noise."""
    ratio, iso = 80.0, 1600.0
    light = torch.full((30, *SLOPE.shape), 0.02)
    amplified = light + dark_stack(iso, seed=77, count=30) * (ratio / SATURATION)
    corrected = fitted().correct(amplified, iso, ratio)
    read = READ * ratio / SATURATION

    def pixel_z(planes: Tensor) -> float:
        """Of the spread of the pixels' means, which noise alone should explain."""
        expected = read**2 * (1 / 30 + line_variance(iso) / FRAMES)
        return variance_z(planes.mean(dim=0), expected)

    assert abs(pixel_z(corrected)) < BOUND
    assert abs(float(corrected.mean()) - 0.02) < 1e-3
    assert pixel_z(amplified) > 2 * BOUND  # twin: uncorrected
    assert pixel_z(fitted().correct(amplified, 100.0, ratio)) > 2 * BOUND  # twin: corrected for another ISO


def test_a_patch_is_corrected_as_the_frame_is() -> None:
    frame = dark_stack(400.0, count=1)[0] / SATURATION
    whole = fitted().correct(frame, 400.0)
    patch = fitted().correct(frame[:, 5:12, 3:9], 400.0, window=(5, 3, 7, 6))
    assert torch.equal(patch, whole[:, 5:12, 3:9])


@pytest.mark.parametrize(
    ("size", "window"),
    [((4, 24, 18), None), ((9, 24, 20), None), ((4, 7, 6), (20, 3, 7, 6)), ((4, 4, 6), (20, 3, 7, 6))],
)
def test_planes_that_do_not_fit_are_refused(
    size: tuple[int, int, int], window: tuple[int, int, int, int] | None
) -> None:
    with pytest.raises(ValueError, match=r"do not fit a dark shading of 4 planes of 24x20.*same camera"):
        fitted(read=False).correct(torch.zeros(size), 400.0, window=window)


def test_a_hot_pixel_spoils_no_other() -> None:
    stacks = {iso: dark_stack(iso) for iso in ISOS}
    hot = {iso: stack.clone() for iso, stack in stacks.items()}
    for iso, stack in hot.items():
        stack[:, 1, 3, 4] += 8000 if iso == 1600 else 50
    plain, spoilt = (DarkShading.fit(s, SATURATION).map(1600.0) for s in (stacks, hot))
    difference = (plain - spoilt).abs()
    difference[1, 3, 4] = 0
    assert difference.max() < 0.1


def test_one_iso_gives_its_own_mean() -> None:
    shading = DarkShading.fit({800.0: dark_stack(800.0)}, SATURATION)
    assert (shading.slope == 0).all()
    for iso in (100.0, 800.0, 6400.0):
        torch.testing.assert_close(shading.map(iso), dark_stack(800.0).mean(dim=0), atol=1e-4, rtol=0)


def test_stacks_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="no dark frames"):
        DarkShading.fit({}, SATURATION)
    with pytest.raises(ValueError, match=r"different sizes.*\(4, 2, 2\), \(4, 2, 3\)"):
        DarkShading.fit({100.0: torch.zeros(2, 4, 2, 2), 200.0: torch.zeros(2, 4, 2, 3)}, SATURATION)
    with pytest.raises(ValueError, match="positive number"):
        DarkShading.fit({0.0: torch.zeros(2, 4, 2, 2)}, SATURATION)
    with pytest.raises(ValueError, match="positive number"):
        fitted(read=False).map(float("nan"))


RATIO, GAIN, LEVELS = torch.tensor([60.0, 200.0]), torch.tensor([3.0, 0.8]), (0.0, 0.02, 0.2, 0.4)
CLEAN = torch.tensor(LEVELS).reshape(1, 4, 1, 1).expand(2, 4, 160, 160)
ONE = torch.ones(2)
NOISE = NoiseParameters(GAIN, 5 * ONE, 0 * ONE, quantisation=0.0)


def augmented(seed: int = 9, noise: NoiseParameters = NOISE) -> tuple[Tensor, Tensor]:
    capture = simulate_capture(CLEAN, RATIO, noise, torch.Generator().manual_seed(seed))
    return augment_shot_noise(capture, CLEAN, RATIO, noise, 2.0, torch.Generator().manual_seed(seed + 1))


def true_capture_z(capture: Tensor, clean: Tensor) -> float:
    """Largest z of mean and variance of each plane against a true capture of the clean image."""
    scores = []
    for image, truth, ratio, gain in zip(capture, clean, RATIO.tolist(), GAIN.tolist(), strict=True):
        white = NOISE.saturation / ratio
        for plane, light in zip(image, truth[:, 0, 0].double().tolist(), strict=True):
            scores += [mean_z(plane, light), variance_z(plane, gain * light / white + (5 / white) ** 2)]
    return float(np.abs(scores).max())


def test_an_augmented_pair_is_a_true_pair_of_a_brighter_scene() -> None:
    capture, clean = augmented()
    factor = clean[:, 3, 0, 0] / 0.4
    assert ((factor > 1.05) & (factor < 2)).all()
    torch.testing.assert_close(clean, CLEAN * factor.reshape(-1, 1, 1, 1))
    assert true_capture_z(capture, clean) < BOUND
    before = simulate_capture(CLEAN, RATIO, NOISE, torch.Generator().manual_seed(9))
    assert true_capture_z(before + (clean - CLEAN), clean) > 2 * BOUND  # twin: the Poisson part left out
    assert true_capture_z(before * factor.reshape(-1, 1, 1, 1), clean) > 2 * BOUND  # twin: noise brightened, too


def test_electrons_of_an_augmented_capture_are_poisson() -> None:
    silent = replace(NOISE, read=0 * ONE)
    capture, clean = augmented(noise=silent)
    for image, truth, ratio, gain in zip(capture, clean, RATIO.tolist(), GAIN.tolist(), strict=True):
        electrons = NOISE.saturation / ratio / gain
        for plane, light in zip(image[1:], truth[1:, 0, 0].tolist(), strict=True):
            counts = plane.double() * electrons
            np.testing.assert_allclose(counts, counts.round(), atol=1e-2)
            assert poisson_z(counts.round(), light * electrons) < BOUND


def test_factors_are_log_uniform_and_highlights_are_clipped() -> None:
    clean = torch.full((4000, 1, 1, 2), 0.1)
    clean[..., 1] = 0.9
    ratio, noise = torch.full((4000,), 50.0), NoiseParameters(torch.ones(4000), torch.zeros(4000), torch.zeros(4000))
    brighter = augment_shot_noise(clean, clean, ratio, noise, 4.0, torch.Generator().manual_seed(1))[1]
    logs = (brighter[:, 0, 0, 0] / 0.1).double().log()
    assert abs(mean_z(logs, np.log(4) / 2)) < BOUND
    assert abs(variance_z(logs, np.log(4) ** 2 / 12)) < BOUND
    assert (logs.min() > -1e-5, brighter.max()) == (True, 1.0)


def test_a_batch_of_pairs_is_pairs_one_by_one() -> None:
    def pairs(which: slice) -> tuple[Tensor, Tensor]:
        noise = replace(NOISE, gain=GAIN[which], read=5 * ONE[which], row=0 * ONE[which])
        generators = [torch.Generator().manual_seed(seed) for seed in (3, 4)][which]
        return augment_shot_noise(CLEAN[which] - 0.01, CLEAN[which], RATIO[which], noise, 2.0, generators)

    together, first, second = pairs(slice(None)), pairs(slice(0, 1)), pairs(slice(1, 2))
    for both, one, two in zip(together, first, second, strict=True):
        assert torch.equal(both, torch.cat([one, two]))

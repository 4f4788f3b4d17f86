from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from exposurediffusion.physics.noise import simulate_capture
from exposurediffusion.physics.parameters import NoiseParameters
from exposurediffusion.process import faithful as module
from exposurediffusion.process.faithful import faithful

RATIO, SATURATION = 100.0, 15871.0
NOISE = NoiseParameters.gaussian(2.0, 6.0, SATURATION)
PATCH = slice(64, 128)


def grey(height: int = 192, width: int = 192, planes: int = 4) -> torch.Tensor:
    return torch.full((planes, height, width), 0.06)


def violet() -> torch.Tensor:
    clean = grey()
    clean[:, PATCH, PATCH] = torch.tensor([0.12, 0.01, 0.4, 0.01]).reshape(4, 1, 1)
    return clean


def captured(clean: torch.Tensor, noise: NoiseParameters = NOISE, seed: int = 0) -> torch.Tensor:
    return simulate_capture(clean[None], torch.tensor([RATIO]), noise, torch.Generator().manual_seed(seed))[0]


def moved(noise: NoiseParameters, clean: torch.Tensor, capture: torch.Tensor) -> float:
    """Root mean square of what happens to the truth, in deviations of the mean over a window of 16x16 pixels."""
    change = faithful(clean, capture, RATIO, noise) - clean
    deviation = (2.0 * 0.06 * RATIO / SATURATION + (6.0 * RATIO / SATURATION) ** 2) ** 0.5 / 16
    return float(change.square().mean().sqrt()) / deviation


def test_the_truth_stays_and_a_noise_that_is_told_too_small_would_move_it() -> None:
    clean = grey()
    capture = captured(clean)
    assert moved(NOISE, clean, capture) < 0.3
    assert moved(NoiseParameters.gaussian(0.2, 2.0, SATURATION), clean, capture) > 0.6


def test_a_colour_that_was_lost_comes_back_up_to_its_border() -> None:
    clean, capture = violet(), captured(violet())
    lost = clean.clone()
    lost[:, PATCH, PATCH] *= torch.tensor([0.1, 0.3, 0.4, 0.3]).reshape(4, 1, 1)
    result = faithful(lost, capture, RATIO, NOISE)
    for part in (slice(64, 128), slice(64, 68)):  # the whole patch; its first rows
        red, _, blue, _ = (result[:, part, PATCH] / clean[:, part, PATCH]).mean(dim=(1, 2)).tolist()
        assert red == pytest.approx(1, abs=0.08)
        assert blue == pytest.approx(1, abs=0.04)
    beside = result[:, 56:64, PATCH]
    assert float((beside - 0.06).abs().mean()) < 0.008


def test_a_small_light_comes_back() -> None:
    clean = grey()
    clean[:, 100:104, 50:54] = 0.6
    result = faithful(grey(), captured(clean), RATIO, NOISE)
    assert float((result - 0.06)[:, 98:106, 48:56].sum() / (clean - 0.06).sum()) > 0.9


def test_an_estimate_that_contradicts_nothing_is_left_alone() -> None:
    clean = grey()
    sigma = float((NOISE.read_variance.sqrt()) * RATIO / SATURATION)
    assert torch.equal(faithful(clean, clean + 0.2 * sigma / 64, RATIO, NOISE), clean)


def test_what_is_left_of_the_noise_is_not_made_larger(monkeypatch: pytest.MonkeyPatch) -> None:
    """An estimate that follows a third of the noise, blotch by blotch: so does the residual, which must not count."""
    clean, noise = grey(256, 256), NoiseParameters.gaussian(4.0, 20.0, SATURATION)
    capture = captured(clean, noise)
    blotches = F.interpolate(F.avg_pool2d((capture - clean)[None], 16), scale_factor=16, mode="bicubic")[0]
    before = clean + blotches / 3

    def grown() -> float:
        return float((faithful(before, capture, RATIO, noise) - clean).std() / (before - clean).std())

    assert grown() < 1.1
    monkeypatch.setattr(module, "_blotch_variance", lambda cells, times: torch.zeros(1))
    assert grown() > 1.2


def test_highlights_beyond_white_neither_move_nor_shine_on_their_neighbours() -> None:
    light = grey()
    light[:, PATCH, PATCH] = 8.0
    clean = light.clamp(max=1)
    result = faithful(clean, captured(light), RATIO, NOISE)
    assert float((result - clean)[:, PATCH, PATCH].abs().max()) < 0.01
    assert float((result - clean).mean(dim=0)[60:64, PATCH].abs().mean()) < 0.01
    dull = clean.clone()
    dull[:, PATCH, PATCH] = 0.9
    assert float(faithful(dull, captured(light), RATIO, NOISE)[:, 68:124, 68:124].mean()) > 0.98


def test_just_below_white_the_clipped_noise_pulls_nothing_down() -> None:
    clean = torch.full((4, 128, 128), 0.97)
    noise = NoiseParameters.gaussian(20.0, 60.0, SATURATION)  # a deviation of 0.5: a third of the samples is clipped
    result = faithful(clean, captured(clean, noise), RATIO, noise)
    assert float(result.mean()) == pytest.approx(0.97, abs=0.005)


def test_an_unknown_black_level_is_no_light() -> None:
    clean = violet()
    capture = captured(clean) + torch.tensor([2.0, -1.0, 1.5, -2.0]).reshape(4, 1, 1) * RATIO / SATURATION
    unsure = replace(NOISE, black=torch.tensor([1.5]))
    change = (faithful(clean, capture, RATIO, unsure) - clean).abs().mean(dim=(1, 2))
    believed = (faithful(clean, capture, RATIO, NOISE) - clean).abs().mean(dim=(1, 2))
    assert float(change.max()) < 0.0015
    assert float(believed.min()) > 0.005  # the twin: given that its black is right, the capture is believed


def test_row_offsets_are_no_light() -> None:
    clean = grey()
    noise = replace(NOISE, row=torch.tensor([6.0]))
    capture = captured(clean, noise)
    noisy = moved(replace(noise, read=torch.tensor([6.0])), clean, capture)
    assert noisy < 0.5
    assert moved(NOISE, clean, capture) > 2 * noisy


@pytest.mark.parametrize("shape", [(4, 131, 77), (9, 64, 101), (4, 7, 5), (4, 2, 3), (4, 1, 1)])
def test_any_size_and_number_of_planes(shape: tuple[int, int, int]) -> None:
    clean = grey(*shape[1:], planes=shape[0])
    result = faithful(clean * 0.2, captured(clean), RATIO, NOISE)
    assert result.shape == shape
    assert bool(result.isfinite().all())
    if min(shape[1:]) > 60:
        assert float(result.mean()) == pytest.approx(0.06, rel=0.05)


def test_bands_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    clean = violet()
    whole = faithful(clean * 0.5, captured(clean), RATIO, NOISE)
    monkeypatch.setattr(module, "_BAND", 64 * 192)
    torch.testing.assert_close(faithful(clean * 0.5, captured(clean), RATIO, NOISE), whole, atol=1e-5, rtol=0)


def test_mean_of_a_clipped_gaussian() -> None:
    mean, deviation = torch.tensor([0.2, 0.9, 1.0, 1.4]), torch.tensor([0.1, 0.3, 0.05, 0.2])
    samples = mean + deviation * torch.randn(200_000, 4, generator=torch.Generator().manual_seed(0))
    expected = samples.clamp(max=1)
    z = (module._clipped_mean(mean, deviation) - expected.mean(0)) / (expected.std(0) / 200_000**0.5)
    assert float(z.abs().max()) < 4

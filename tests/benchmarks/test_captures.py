"""Simulated captures in memory: seeded, of the settings asked for, with the noise that they say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from captures import CAMERAS, ISOS, RATIOS, SimulatedCapture, simulated_captures
from torch import Tensor

from exposurediffusion.models.denoiser import DenoiserConfig, Estimate
from exposurediffusion.physics.cameras.known import calibrated_cameras
from exposurediffusion.physics.conditions import Conditions
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.physics.noise import noise_level
from exposurediffusion.process.sampling import Sampling, SharedBeginning
from exposurediffusion.weights.file import ModelCard, TrainedDenoiser


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two small pictures with some structure."""
    y, x = np.mgrid[0:64, 0:80] / 80
    for name, blue in (("a", x), ("b", y)):
        tifffile.imwrite(tmp_path / f"{name}.tif", np.stack([x, y, blue], -1).astype(np.float32), photometric="rgb")
    return tmp_path


def captures() -> Iterator[SimulatedCapture]:
    """One capture of even light, without files."""
    noise = calibrated_cameras()["SonyA7S2"].at_iso(800)
    clean = torch.full((1, 4, 24, 24), 0.2)
    capture = clean + 0.05 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    yield SimulatedCapture("even", 0, "SonyA7S2", 100.0, 800.0, capture, clean, noise)


class Constant(TrainedDenoiser):
    def forward(self, state: Tensor, exposure: Tensor, conditions: Conditions) -> Estimate:
        assert torch.equal(conditions.ratio, torch.tensor([100.0]))
        return Estimate(torch.full_like(state, 0.21))


def constant() -> TrainedDenoiser:
    """Says the same of everything."""
    return Constant(ModelCard(DenoiserConfig("unet", {"width": 4, "depth": 1}), Sampling())).eval()


def same(first: SimulatedCapture, second: SimulatedCapture) -> bool:
    return torch.equal(first.capture, second.capture) and torch.equal(first.clean, second.clean)


def test_views_and_shots_are_drawn_from_their_seed(folder: Path) -> None:
    first, again = (list(simulated_captures(folder, views=2, shots=3, size=48)) for _ in range(2))
    other = list(simulated_captures(folder, views=2, shots=3, size=48, seed=1))
    assert len(first) == 2 * 2 * 3
    assert all(map(same, first, again))
    assert not any(map(same, first, other))
    assert len({(case.picture, case.view) for case in first}) == 4
    assert len({case.ratio for case in first}) == 12
    for case in first:
        assert RATIOS[0] <= case.ratio <= RATIOS[1]
        assert ISOS[0] <= case.iso <= ISOS[1]
        assert case.camera in CAMERAS
        assert case.capture.shape == case.clean.shape == (1, 4, 24, 24)
        assert 0 <= case.clean.min() <= case.clean.max() <= 1


def test_settings_are_taken_as_given(folder: Path) -> None:
    settings = ((100.0, 800), (300.0, 3200))
    found = list(simulated_captures(folder, views=1, settings=settings, cameras=("NikonD850",), size=48))
    assert [(case.ratio, case.iso, case.camera) for case in found] == [(r, i, "NikonD850") for r, i in settings] * 2


def test_noise_is_what_is_said(folder: Path) -> None:
    for case in simulated_captures(folder, views=2, shots=4, size=48):
        error = case.capture - case.clean
        local = (error - error.mean(dim=(2, 3), keepdim=True))[case.clean.expand_as(error) < 1]
        said = float(noise_level(case.capture, torch.tensor([case.ratio]), case.noise))
        assert float(local.std()) == pytest.approx(said, rel=0.25)


def test_an_exposure_is_seeded_and_clipped() -> None:
    case = next(captures())
    denoise = SharedBeginning(lambda state, exposure: state * 3)
    sampling = Sampling(steps=1, increment="sampled")
    first, again, other = (case.expose(denoise, sampling, seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert 0 <= first.min() < first.max() <= 1
    assert torch.equal(case.expose(case.denoiser(constant()), sampling), torch.full_like(case.clean, 0.21))


def test_folders_and_pictures_that_will_not_do(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(ValueError, match=r"nothing: no pictures"):
        list(simulated_captures(tmp_path / "nothing"))
    with pytest.raises(ValueError, match=r"a\.tif: 80x64 pixels"):
        list(simulated_captures(folder, size=128))


def test_planes_are_bayer(folder: Path) -> None:
    assert next(simulated_captures(folder, size=48)).clean.shape[1] == CFA("RGGB").planes

"""Tiny simulated data sets, untrained networks as weights files, and the published figures by other means."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from skimage.metrics import structural_similarity

from exposurediffusion.baselines.diffusion import ConditionalDiffusion, DiffusionConfig
from exposurediffusion.cli.main import main
from exposurediffusion.datasets.samples import Sample
from exposurediffusion.models.denoiser import DenoiserConfig
from exposurediffusion.physics.noise import simulate_capture
from exposurediffusion.physics.parameters import NoiseParameters
from exposurediffusion.physics.sensor import Metadata
from exposurediffusion.process.sampling import Sampling
from exposurediffusion.weights.file import ModelCard, TrainedDenoiser, TrainedDiffusion, save_weights

SMALL = DenoiserConfig("unet", {"width": 4, "depth": 1})
STEADY = Sampling(steps=1, schedule="paper", transition="markov", increment="mean", clamp=(0.0, 1.0))
DRAWN = Sampling(steps=2, schedule="official", transition="restart", increment="sampled", clamp=(0.0, 1.0))


def photographs(folder: Path, count: int = 2) -> Path:
    """Pictures, smooth but bright in places."""
    random = np.random.default_rng(3)
    for number in range(count):
        coarse = Image.fromarray(random.integers(20, 250, (12, 12, 3)).astype(np.uint8))
        coarse.resize((200, 200), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return folder


def simulate(pictures: Path, output: Path, *options: Any) -> Path:
    """`expose simulate`, frames of 32x32 packed pixels."""
    words = ["simulate", "--images", pictures, "-o", output, "--size", 64, *options]
    assert main([str(word) for word in words]) == 0
    return output


def tiny(
    seed: int = 0, sampling: Sampling = STEADY, config: DenoiserConfig | DiffusionConfig = SMALL
) -> TrainedDenoiser | TrainedDiffusion:
    """An untrained network; another seed, another one."""
    torch.manual_seed(seed)
    card = ModelCard(config, sampling)
    model = TrainedDenoiser(card) if isinstance(config, DenoiserConfig) else TrainedDiffusion(card)
    return model.eval().requires_grad_(False)


def tiny_weights(path: Path, seed: int = 0, sampling: Sampling = STEADY, planes: int = 4) -> Path:
    """The untrained network as a file."""
    model = tiny(seed, sampling, replace(SMALL, planes=planes))
    save_weights(path, model, model.card)
    return path


def tiny_diffusion() -> DiffusionConfig:
    """Of a diffusion model that takes no time."""
    return DiffusionConfig(channels=(8, 8), layers=1, groups=4, steps=2)


def weights_like(path: Path, preset_sampling: Sampling, seed: int, diffusion: bool = False) -> Path:
    """Weights as a preset leaves them, but tiny and untrained."""
    model = tiny(seed, preset_sampling, tiny_diffusion() if diffusion else SMALL)
    assert isinstance(model, ConditionalDiffusion) == diffusion
    save_weights(path, model, model.card)
    return path


def sample(planes: int = 4, side: int = 24, ratio: float = 100.0, seed: int = 5) -> Sample:
    """Smooth light with a saturated corner, and its capture."""
    source = torch.Generator().manual_seed(seed)
    clean = 0.05 + 0.3 * torch.rand((planes, 1, 1), generator=source) * torch.linspace(0.2, 1, side).expand(side, side)
    clean[:, :4, :4] = 1.0
    noise = NoiseParameters.gaussian(0.9, 2.5, 15583.0)
    capture = simulate_capture(clean[None], torch.tensor([ratio]), noise, source)[0]
    colours = Metadata(as_shot_neutral=(0.5, 1.0, 0.7))
    return Sample(clean, "corner", capture, ratio, 800.0, noise, colours)


@dataclass(frozen=True)
class Independent:
    """PSNR and SSIM in NumPy, double precision, of (c h w) images."""

    target: np.ndarray

    def corrected(self, estimate: np.ndarray) -> np.ndarray:
        """Least squares over the samples at which the target is not saturated."""
        target, estimate = self.target.clip(0, 1).astype(float), estimate.clip(0, 1).astype(float)
        used = target < 1
        scale = np.linalg.lstsq(estimate[used][:, None], target[used], rcond=None)[0][0]
        return (scale * estimate).clip(0, 1)

    def figures(self, estimate: np.ndarray) -> tuple[float, float]:
        """Of an estimate as it is, clipped."""
        target, estimate = (255 * x.clip(0, 1).astype(float) for x in (self.target, estimate))
        psnr = 10 * np.log10(255**2 / np.mean((target - estimate) ** 2))
        planes = zip(target, estimate, strict=True)
        ssim = np.mean([structural_similarity(a, b, data_range=255, win_size=7) for a, b in planes])
        return float(psnr), float(ssim)

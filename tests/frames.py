"""Light and captures that need no files."""

import torch

from exposurediffusion.models.denoiser import DenoiserConfig
from exposurediffusion.physics.cameras.known import load_profile
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.physics.sensor import RawFrame
from exposurediffusion.process.sampling import Sampling
from exposurediffusion.simulation.capture import simulate_short
from exposurediffusion.weights.file import ModelCard, TrainedDenoiser


def scene(rows: int, columns: int, planes: int = 4) -> torch.Tensor:
    """Smooth light with an edge and a lamp far above white."""
    y, x = torch.meshgrid(torch.linspace(0, 1, rows), torch.linspace(0, 1, columns), indexing="ij")
    light = 0.05 + 0.1 * y + 0.05 * (x > 0.5)
    light[rows // 4 : rows // 4 + 8, columns // 4 : columns // 4 + 8] = 20.0
    return light.expand(planes, rows, columns).clone()


def capture(name: str = "RGGB", rows: int = 64, columns: int = 80, ratio: float = 50.0) -> RawFrame:
    """A dark simulated capture by a calibrated camera."""
    cfa = CFA(name)
    generator = torch.Generator().manual_seed(5)
    light = scene(rows, columns, cfa.planes)
    profile = load_profile("SonyA7S2")
    noise = profile.at_iso(800)
    return simulate_short(light, cfa, profile, (0.5, 1.0, 0.6), ratio, 800.0, generator, noise)[0]


def tiny_model() -> TrainedDenoiser:
    """Untrained, but of the embedded model's kind."""
    torch.manual_seed(0)
    config = DenoiserConfig("unet", {"width": 4, "depth": 2}, origin=True, noise_map=True)
    return TrainedDenoiser(ModelCard(config, Sampling(steps=1, clamp=(-4.0, 2.0)))).eval().requires_grad_(False)

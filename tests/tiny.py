"""Patches and views that need no files, and a recipe and execution that take no time."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from exposurediffusion.datasets.samples import Sample
from exposurediffusion.models.denoiser import DenoiserConfig
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.physics.noise import simulate_capture
from exposurediffusion.physics.parameters import NoiseParameters
from exposurediffusion.physics.random import seeded
from exposurediffusion.pictures.prepared import in_memory
from exposurediffusion.pictures.views import CleanViews
from exposurediffusion.simulation.light import Panorama, Photograph
from exposurediffusion.training.execution import Execution
from exposurediffusion.training.recipe import Recipe

TINY = Recipe(
    iterations=6,
    batch=2,
    patch=16,
    seed=5,
    denoiser=DenoiserConfig("unet", {"width": 4, "depth": 1}),
)
PLAIN = Execution(device="cpu", precision="fp32", workers=0, validate_every=0, validation_patch=16, tensorboard=False)


@dataclass(frozen=True)
class Light:
    """Patches of even light, or pairs of them; their numbers alone decide what they are.

    Attributes:
        planes: of a patch.
        ratios: of the pairs, in turn; empty: clean patches.
        saturation: of the camera that took the pairs.
        largest: side of the largest patch, packed pixels, and where that is.
    """

    planes: int = 4
    ratios: tuple[float, ...] = ()
    saturation: float = 15583.0
    largest: tuple[int, str] = (1 << 16, "light")

    def patch(self, number: int, size: int) -> Sample:
        generator = seeded(77, number)
        clean = 0.1 + 0.5 * torch.rand((self.planes, 1, 1), generator=generator).expand(-1, size, size).clone()
        if not self.ratios:
            return Sample(clean, f"light {number}")
        ratio = self.ratios[number % len(self.ratios)]
        noise = NoiseParameters.gaussian(0.8, 3.0, self.saturation)
        capture = simulate_capture(clean[None], torch.tensor([ratio]), noise, generator)[0]
        return Sample(clean, f"light {number}", capture, ratio, 800.0, noise)


def clean_views(cfa: str = "RGGB", seed: int = 2) -> CleanViews:
    """Views of a panorama and crops of two photographs, all of noise."""
    generator = torch.Generator().manual_seed(seed)
    panorama, *photographs = (
        torch.rand((3, *shape), generator=generator).half() for shape in ((48, 96), (64, 50), (40, 72))
    )
    return CleanViews(in_memory([Panorama(panorama, "wide"), *(Photograph(p, "flat") for p in photographs)]), CFA(cfa))

"""How much of the paper's training is done again: its own recipe, or one that an evening on a CPU is enough for."""

from __future__ import annotations

from dataclasses import dataclass, replace

from exposurediffusion.training.presets import Preset
from exposurediffusion.training.recipe import OptimizerRecipe, Recipe

STAND_INS: dict[str, dict[str, object]] = {
    "unet": {"width": 8, "depth": 4},
    "nafnet": {"width": 8, "encoders": [1, 1, 1, 1], "middle": 1, "decoders": [1, 1, 1, 1]},
}
"""What takes the place of the UNet and of NAFNet-2 in a small budget: about the time of NAFNet-1, and twice that."""
_DIFFUSION_CHANNELS: dict[tuple[int, ...], tuple[int, ...]] = {
    (64, 128, 128, 128): (32, 64, 64, 64),
    (32, 64, 64, 64): (16, 32, 32, 32),
}
EVENING = 2000
"""Iterations of the method, batches of 4 patches of 64x64: a few minutes a run on one core."""


@dataclass(frozen=True)
class Budget:
    """Iterations of the method, and with them the size of everything.

    Attributes:
        iterations: of the method; None: all of the paper's recipe, its networks included.
    """

    iterations: int | None = None

    @staticmethod
    def parse(text: str) -> Budget:
        """From `paper`, `evening`, or a number of iterations.

        Raises:
            ValueError: none of these.
        """
        if text == "paper":
            return Budget()
        if text == "evening":
            return Budget(EVENING)
        if not text.isdecimal() or int(text) < 1:
            raise ValueError(f"--budget is paper, evening, or a number of iterations of the method, not {text!r}")
        return Budget(int(text))

    def recipe(self, preset: Preset, matched: bool = False, seed: int = 0, rate: float | None = None) -> Recipe:
        """The recipe of a preset at this budget.

        Args:
            preset: a row of the paper.
            matched: as many network evaluations as the method takes with T = 2, three for each of its iterations.
            seed: of the run.
            rate: learning rate; None: the budget's own.
        """
        recipe = self._sized(replace(preset.recipe, seed=seed), 3 if matched else 1)
        return recipe if rate is None else replace(recipe, optimizer=replace(recipe.optimizer, lr=rate))

    def _sized(self, recipe: Recipe, factor: int) -> Recipe:
        if self.iterations is None:
            return replace(recipe, iterations=recipe.iterations * factor)
        recipe = replace(
            recipe,
            iterations=self.iterations * factor,
            batch=4,
            patch=64,
            optimizer=OptimizerRecipe(lr=_rate(recipe), law="cosine", warmup=100, clip_norm=1.0, ema=0.99),
        )
        if recipe.diffusion is not None:
            channels = _DIFFUSION_CHANNELS[tuple(recipe.diffusion.channels)]
            return replace(recipe, diffusion=replace(recipe.diffusion, channels=channels, layers=1))
        denoiser = recipe.denoiser
        if denoiser.backbone == "unet" or "encoders" in denoiser.options:  # NAFNet-1 has none, and is small already
            recipe = replace(recipe, denoiser=replace(denoiser, options=dict(STAND_INS[denoiser.backbone])))
        return recipe


def _rate(recipe: Recipe) -> float:
    """Learning rate of a run that is not searched for: of the backbones, not of the method or its baselines."""
    return 3e-3 if recipe.diffusion is None and recipe.denoiser.backbone == "nafnet" else 1e-3


def run_name(preset: str, matched: bool = False, seed: int = 0, rate: float | None = None) -> str:
    """Folder of a run below the folder of weights: `PRESET[+compute][+seedN][@RATE]`."""
    ending = "" if rate is None else f"@{rate:g}"
    return preset + ("+compute" if matched else "") + (f"+seed{seed}" if seed else "") + ending

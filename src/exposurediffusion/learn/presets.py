"""Named training recipes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from exposurediffusion.models.denoiser import DenoiserConfig
from exposurediffusion.physics.noise import ELDNoise, NoiseModel, PoissonGaussian
from exposurediffusion.process.sampling import Sampling

NOISE_MODELS: dict[str, Callable[[tuple[float, float] | None], NoiseModel]] = {
    "p+g": lambda gain_range: PoissonGaussian(gain_range=gain_range),
    "eld": lambda gain_range: ELDNoise(gain_range=gain_range),
    "eld+bias": lambda gain_range: ELDNoise(gain_range=gain_range, colour_bias=True),
}


@dataclass(frozen=True)
class Phase:
    """A stretch of training.

    Attributes:
        iterations: optimiser steps.
        steps: simulated exposures T of the unrolled loss; 0 trains feed-forward.
        lr: learning rate at the beginning and at the end; a cosine leads from one to the other.
        batch, patch: patches per step and their side in packed pixels.
    """

    iterations: int
    steps: int = 2
    lr: tuple[float, float] = (1e-4, 1e-4)
    batch: int = 8
    patch: int = 64


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a training run computes.

    Attributes:
        phases: one after the other.
        denoiser: the network.
        sampling: how the weights will be run; transition, increment and clamp hold for training too.
        noise: a name in `NOISE_MODELS`.
        gain_range: of the log-uniform gain, DN per electron; None: each camera's own range.
        ratio: range of the amplification.
        ratio_law: `uniform`; or `mixed`: three quarters uniform from 20 up, one quarter log-uniform in all of it.
        level: range of the mean green level of the clean patches (log-uniform).
        uncertainty: relative spread of the gain and read noise that the network is told, since nobody knows them
            exactly.
        pixel, branch, balance: of the objective, see `process.objectives.Objective`.
        ema: decay of the averaged weights that are kept; 0: none.
        clip_norm: largest norm of the gradient.
        warmup: iterations over which the first learning rate is reached.
        seed: of weights, data and noise.
    """

    phases: tuple[Phase, ...]
    denoiser: DenoiserConfig = field(default_factory=DenoiserConfig)
    sampling: Sampling = field(default_factory=Sampling)
    noise: Literal["p+g", "eld", "eld+bias"] = "eld"
    gain_range: tuple[float, float] | None = (0.1, 30.0)
    ratio: tuple[float, float] = (20.0, 300.0)
    ratio_law: Literal["uniform", "mixed"] = "uniform"
    level: tuple[float, float] = (0.01, 0.4)
    uncertainty: float = 0.0
    pixel: Literal["l1", "kl"] = "l1"
    branch: float = 1.0
    balance: float | None = None
    ema: float = 0.999
    clip_norm: float = 1.0
    warmup: int = 500
    seed: int = 0

    @property
    def iterations(self) -> int:
        """Of all phases."""
        return sum(phase.iterations for phase in self.phases)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


EMBEDDED = Recipe(
    phases=(
        Phase(38_000, steps=0, lr=(5e-4, 5e-4)),
        Phase(10_000, steps=2, lr=(4e-4, 1e-6)),
    ),
    denoiser=DenoiserConfig("unet", {"width": 16, "depth": 4}, origin=True, noise_map=True),
    sampling=Sampling(steps=1, schedule="paper", transition="markov", increment="mean", clamp=(-4.0, 2.0)),
    noise="eld+bias",
    gain_range=None,
    ratio=(1.5, 300.0),
    ratio_law="mixed",
    uncertainty=0.1,
    branch=0.5,
    balance=0.02,
    ema=0.9995,
    seed=1,
)

PRESETS: dict[str, Recipe] = {"embedded": EMBEDDED}

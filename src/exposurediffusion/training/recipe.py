"""Everything that decides what a training run computes, as plain data: it is overridden by name, and travels along."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import cos, pi
from typing import Literal

from exposurediffusion.baselines.diffusion import DiffusionConfig
from exposurediffusion.models.denoiser import RANGES, DenoiserConfig
from exposurediffusion.physics.noise import NOISE_MODELS
from exposurediffusion.physics.ranges import check
from exposurediffusion.process.sampling import Sampling


@dataclass(frozen=True)
class CaptureRecipe:
    """How the dark captures of training come about.

    Attributes:
        supervision: `clean`: noise is made for clean pictures; `paired`: short and long exposures of a data set;
            `noise2noise`: two noisy captures of a scene, one is the target (Lehtinen et al., ICML 2018).
        noise: of made captures, a name in `NOISE_MODELS`: p+g, eld, eld+bias, wide.
        camera: whose noise: a profile's name or JSON file, or several with commas; None: any of the calibrated cameras.
        gain_range: the gain is log-uniform in it, DN per electron; None: each camera's own range of ISO 100 to 6400.
        iso: draw one of these ISO settings instead of a gain; for one's own camera.
        ratio: range of the amplification; pairs outside it are left out.
        ratio_law: `uniform`; or `mixed`: three quarters uniform from 20 up, one quarter log-uniform in all of it.
        level: range of the mean green level of clean pictures (log-uniform).
        clip: clip captures to [0, 1], as the published experiments do.
        augment: largest factor of PMN's shot-noise augmentation (log-uniform from 1); 1: none.
        uncertainty: relative spread of the gain and read noise that the network is given: nobody knows them exactly.
    """

    supervision: Literal["clean", "paired", "noise2noise"] = "clean"
    noise: str = "eld"
    camera: str | None = None
    gain_range: tuple[float, float] | None = (0.1, 30.0)
    iso: tuple[float, ...] = ()
    ratio: tuple[float, float] = (20.0, 300.0)
    ratio_law: Literal["uniform", "mixed"] = "uniform"
    level: tuple[float, float] = (0.01, 0.4)
    clip: bool = True
    augment: float = 1.0
    uncertainty: float = 0.0

    def __post_init__(self) -> None:
        ranges = {
            "gain_range": (1e-6, 1e6),
            "iso": (1, 1e8),
            "ratio": (1, 1e6),
            "level": (1e-6, 1),
            "augment": (1, 1e3),
        }
        check(self, "capture", **ranges, uncertainty=(0, 10))
        for name in ("gain_range", "ratio", "level"):
            low, high = getattr(self, name) or (0, 0)
            if low > high:
                raise ValueError(f"capture.{name} is a range from a number to a larger one, got {low:g} to {high:g}")
        if self.noise not in NOISE_MODELS:
            raise ValueError(f"capture.noise: no noise model {self.noise!r}; there are {', '.join(NOISE_MODELS)}")
        if self.augment > 1 and self.supervision == "noise2noise":
            raise ValueError(
                "capture.augment needs a clean image, which says what light is added: not with noise2noise"
            )


@dataclass(frozen=True)
class ObjectiveRecipe:
    """What is minimised (Algorithm 1).

    Attributes:
        steps: simulated exposures T of the unrolled loss; 0 trains feed-forward.
        pixel: `l1`, or `kl` (Eq. 11).
        branch: weight of the auxiliary loss on both branches of the adaptive residual layer.
        balance: divide each image's loss by its capture's error plus this floor; None: plain mean.
        curve: weight of the error of square roots, nearer to what eyes see.
        averages: weight of the errors of 2x2 to 16x16 averages, which are seen as blotches.
        learned_weights: learn the weights of the steps' losses instead of equal ones.
        corrected: the illuminance correction of every step by the target, as in the published training.
    """

    steps: int = 2
    pixel: Literal["l1", "kl"] = "l1"
    branch: float = 1.0
    balance: float | None = None
    curve: float = 0.0
    averages: float = 0.0
    learned_weights: bool = False
    corrected: bool = False

    def __post_init__(self) -> None:
        check(self, "objective", steps=(0, 100), balance=(1e-9, 1e6))


@dataclass(frozen=True)
class OptimizerRecipe:
    """Adam and its learning rate.

    Attributes:
        lr: learning rate at the start.
        law: `paper`: halved at half of the iterations, a tenth from 90 %; `cosine` down to `final`; or `constant`.
        final: learning rate at the end of the cosine.
        warmup: iterations over which the rate first rises.
        betas: of Adam.
        clip_norm: largest norm of the gradient; 0: unbounded.
        ema: decay of the averaged weights that are kept; 0: none.
    """

    lr: float = 1e-4
    law: Literal["paper", "cosine", "constant"] = "paper"
    final: float = 0.0
    warmup: int = 0
    betas: tuple[float, float] = (0.9, 0.999)
    clip_norm: float = 0.0
    ema: float = 0.0

    def __post_init__(self) -> None:
        check(self, "optimizer", lr=(0, 1), final=(0, 1), betas=(0, 0.999999), ema=(0, 1))

    def rate(self, done: float) -> float:
        """The learning rate after a share `done` of the iterations, without the warm-up."""
        if self.law == "cosine":
            return self.final + (self.lr - self.final) * (1 + cos(pi * done)) / 2
        if self.law == "paper":
            return self.lr * (1.0 if done < 0.5 else 0.5 if done < 0.9 else 0.1)
        return self.lr


@dataclass(frozen=True)
class Prelude:
    """A feed-forward beginning: an unrolled step costs T + 1 plain ones, and the first thousands need no unrolling.

    Attributes:
        share: of the run, 0 to below 1.
        lr: constant learning rate.
    """

    share: float = 0.0
    lr: float = 1e-4

    def __post_init__(self) -> None:
        check(self, "prelude", share=(0, 1), lr=(0, 1))
        if self.share == 1:
            raise ValueError(f"prelude.share is a part of the run, 0 or more and below 1, got {self.share:g}")


@dataclass(frozen=True)
class Recipe:
    """A training run.

    Attributes:
        iterations: optimiser steps in all.
        batch: patches per step and process.
        patch: side of a patch in packed pixels; smaller where the frames are.
        seed: of weights, data and noise.
        capture, objective, optimizer, prelude: see there.
        denoiser: the network of the method and of the feed-forward rows.
        diffusion: the conditional diffusion model of Table 7 instead of it.
        sampling: how the weights will be run; transition, increment and clamp hold for training too.
    """

    iterations: int = 386_400
    batch: int = 1
    patch: int = 512
    seed: int = 0
    capture: CaptureRecipe = field(default_factory=CaptureRecipe)
    objective: ObjectiveRecipe = field(default_factory=ObjectiveRecipe)
    optimizer: OptimizerRecipe = field(default_factory=OptimizerRecipe)
    prelude: Prelude = field(default_factory=Prelude)
    denoiser: DenoiserConfig = field(default_factory=DenoiserConfig)
    diffusion: DiffusionConfig | None = None
    sampling: Sampling = field(default_factory=Sampling)

    def __post_init__(self) -> None:
        check(self, iterations=(1, 1e12), batch=(1, 1e6), patch=(1, 1e5), seed=(0, 2**63))
        check(self.denoiser, "denoiser", **RANGES)
        check(self.sampling, "sampling", clamp=(-1e6, 1e6))
        if self.diffusion is not None:
            check(self.diffusion, "diffusion")
        if self.objective.averages and self.patch < 16:
            raise ValueError(f"objective.averages are of up to 16x16 pixels: patch is at least 16, got {self.patch}")

    @property
    def planes(self) -> int:
        """Colour planes of the network: 4 (Bayer) or 9 (X-Trans)."""
        return self.denoiser.planes if self.diffusion is None else self.diffusion.planes

    def steps_at(self, done: float) -> int:
        """Simulated exposures T of the loss after a share `done` of the run."""
        return 0 if done < self.prelude.share else self.objective.steps

    def rate_at(self, done: float, iteration: int) -> float:
        """Learning rate after a share `done` of the run, in its iteration `iteration`."""
        first = self.prelude.share
        rate = self.prelude.lr if done < first else self.optimizer.rate((done - first) / (1 - first))
        return rate * min(1.0, (iteration + 1) / max(1, self.optimizer.warmup))

"""Whatever can be measured: the capture itself, BM3D, networks in the simulated exposure, conditional diffusion models.

Each turns a sample of a data set into an estimate of its clean image, and says how it was set.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from exposurediffusion.baselines.bm3d import denoise_anscombe_bm3d, denoise_bm3d, plane_deviation
from exposurediffusion.datasets.samples import Sample
from exposurediffusion.models.denoiser import BoundDenoiser
from exposurediffusion.models.xtrans import BayerOnXTrans
from exposurediffusion.physics.conditions import Conditions
from exposurediffusion.physics.noise import noise_level
from exposurediffusion.physics.parameters import NoiseParameters
from exposurediffusion.process.exposure import Adjust
from exposurediffusion.process.faithful import faithful
from exposurediffusion.process.sampling import Sampling, StepRule
from exposurediffusion.weights.file import TrainedDenoiser, TrainedDiffusion


@dataclass(frozen=True)
class Prediction:
    """What a method makes of a sample.

    Attributes:
        estimate: of the clean image, not yet clipped.
        mask: of the adaptive residual layer at the last step, where there is one.
        first: the estimate of the first step, of methods that take several.
    """

    estimate: Float[Tensor, "c h w"]
    mask: Float[Tensor, "1 h w"] | None = None
    first: Float[Tensor, "c h w"] | None = None


@runtime_checkable
class Method(Protocol):
    """`method(sample, seed, adjust) -> Prediction`; `adjust` is the oracle's correction of every step.

    Attributes:
        name: for tables.
        iterates: a correction inside its loop is another thing than one at the end.
        random: another seed may give another prediction.
        settings: everything that decides the prediction, as plain values.
    """

    @property
    def name(self) -> str: ...
    @property
    def iterates(self) -> bool: ...
    @property
    def random(self) -> bool: ...
    @property
    def settings(self) -> dict[str, Any]: ...
    def __call__(self, sample: Sample, seed: int = 0, adjust: Adjust = lambda estimate: estimate) -> Prediction: ...


@dataclass(frozen=True)
class Capture:
    """The capture itself, amplified: what every method has to beat."""

    name: str = "capture"
    iterates: bool = field(default=False, init=False)
    random: bool = field(default=False, init=False)

    @property
    def settings(self) -> dict[str, Any]:
        """Nothing is set."""
        return {"method": "capture"}

    def __call__(self, sample: Sample, seed: int = 0, adjust: Adjust = lambda estimate: estimate) -> Prediction:
        """The capture."""
        return Prediction(adjust(_capture(sample)[None])[0])


@dataclass(frozen=True)
class BlockMatching:
    """BM3D of each plane, or A-BM3D behind the generalised Anscombe transformation, given the sample's noise."""

    anscombe: bool = False
    iterates: bool = field(default=False, init=False)
    random: bool = field(default=False, init=False)

    @property
    def name(self) -> str:
        """As the paper has it."""
        return "A-BM3D" if self.anscombe else "BM3D"

    @property
    def settings(self) -> dict[str, Any]:
        """The method; its noise level is the data set's affair."""
        return {"method": self.name}

    def __call__(self, sample: Sample, seed: int = 0, adjust: Adjust = lambda estimate: estimate) -> Prediction:
        """Denoise all planes; takes seconds for a plane of 200x200."""
        capture, (ratio, noise) = _capture(sample), _known(sample)
        if self.anscombe:
            estimate = denoise_anscombe_bm3d(capture, ratio, noise)
        else:
            estimate = denoise_bm3d(capture, plane_deviation(capture, ratio, noise))
        return Prediction(adjust(estimate[None])[0])


@dataclass(frozen=True)
class Network:
    """A trained denoiser in the simulated exposure (Algorithm 2).

    Attributes:
        model: from `weights.file.load`, on its device.
        sampling: how it is run.
        weights: what the weights are called.
        digest: of their file: weights that were trained anew are others.
        label: name in tables; empty: made of the weights and the steps.
        rule: number of steps of each capture by its noise level; None: `sampling.steps` for all.
        faithful: the last estimate is brought back into what the capture says (`process.faithful`).
    """

    model: TrainedDenoiser
    sampling: Sampling
    weights: str
    digest: str = ""
    label: str = ""
    rule: StepRule | None = None
    faithful: bool = False

    @property
    def name(self) -> str:
        """Weights and number of simulated exposures."""
        steps = "auto" if self.rule else self.sampling.steps
        return self.label or f"{self.weights}, T = {steps}{', faithful' if self.faithful else ''}"

    @property
    def iterates(self) -> bool:
        """With T = 0 the first estimate is the last."""
        return self.rule is not None or self.sampling.steps > 0

    @property
    def random(self) -> bool:
        """Sampled increments are."""
        return self.iterates and self.sampling.increment == "sampled"

    @property
    def settings(self) -> dict[str, Any]:
        """Weights and sampling."""
        known = {"method": "exposure", "weights": self.weights, "digest": self.digest, **asdict(self.sampling)}
        steps = {} if self.rule is None else {"steps": str(self.rule)}
        return {**known, **steps, **({"faithful": True} if self.faithful else {})}

    def __call__(self, sample: Sample, seed: int = 0, adjust: Adjust = lambda estimate: estimate) -> Prediction:
        """Expose on from the capture.

        Raises:
            ValueError: weights for X-Trans on a Bayer capture.
        """
        capture, (ratio, noise) = _capture(sample), _known(sample)
        network = self._network(len(capture))
        device = next(self.model.parameters()).device
        capture, noise = capture[None].to(device), noise.to(device)
        conditions = Conditions.of(noise, ratio)
        denoise = BoundDenoiser(network, conditions, keep=True)
        source = torch.Generator(device).manual_seed(seed)
        sampling = self.sampling
        if self.rule is not None:
            sampling = replace(sampling, steps=self.rule.steps(float(noise_level(capture, conditions.ratio, noise))))
        with torch.inference_mode():
            steps = sampling.run(denoise, capture, conditions, adjust=adjust, generator=source)
            first = last = next(steps).estimate
            for step in steps:
                last = step.estimate
                del denoise.estimates[:-1]  # a whole frame's branches are heavy
        mask, last = denoise.estimates[-1].mask, last.float().cpu()
        if self.faithful:
            last = adjust(faithful(last[0].clamp(0, 1), capture[0].cpu(), ratio, noise.to("cpu"))[None])
        return Prediction(last[0], None if mask is None else mask[0].float().cpu(), first[0].float().cpu())

    def _network(self, planes: int) -> TrainedDenoiser | BayerOnXTrans:
        wanted = self.model.config.planes
        if wanted > planes:
            raise ValueError(
                f"{self.weights}: these weights are for X-Trans ({wanted} planes), the data set is a Bayer one "
                f"({planes} planes): give weights for Bayer"
            )
        return BayerOnXTrans(self.model) if wanted < planes else self.model


@dataclass(frozen=True)
class Diffusion:
    """The conditional diffusion model of Table 7, sampled by DDIM.

    Attributes:
        model: from `weights.file.load_diffusion`, on its device.
        steps: of DDIM, each one evaluation.
        weights, digest, label: see `Network`.
    """

    model: TrainedDiffusion
    steps: int
    weights: str
    digest: str = ""
    label: str = ""
    iterates: bool = field(default=False, init=False)  # the oracle corrects an exposure; this is none
    random: bool = field(default=True, init=False)

    @property
    def name(self) -> str:
        """Weights and DDIM steps."""
        return self.label or f"{self.weights}, {self.steps} DDIM steps"

    @property
    def settings(self) -> dict[str, Any]:
        """Weights and steps."""
        return {"method": "ddim", "weights": self.weights, "digest": self.digest, "steps": self.steps}

    def __call__(self, sample: Sample, seed: int = 0, adjust: Adjust = lambda estimate: estimate) -> Prediction:
        """Denoise from pure noise, the capture beside it."""
        device = next(self.model.parameters()).device
        capture = _capture(sample)[None].to(device)
        with torch.inference_mode():
            estimate = self.model.sample(capture, self.steps, torch.Generator(device).manual_seed(seed))
        return Prediction(adjust(estimate.float().cpu())[0])


def _capture(sample: Sample) -> Tensor:
    if sample.capture is None:
        raise ValueError(f"{sample.name}: a clean picture without a capture cannot be measured")
    return sample.capture


def _known(sample: Sample) -> tuple[float, NoiseParameters]:
    if sample.ratio is None or sample.noise is None:
        raise ValueError(f"{sample.name}: a capture without its ratio and noise cannot be measured")
    return sample.ratio, sample.noise

"""From clean patches, or pairs, to what a training step sees: dark captures, their targets, and what is known of them.

Everything that is random is drawn from the number of the patch: image n of a run is the same on one process or on many.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from exposurediffusion.data.synthesis import seeded
from exposurediffusion.learn.batches import Batch
from exposurediffusion.learn.presets import NOISE_MODELS
from exposurediffusion.learn.recipe import CaptureRecipe
from exposurediffusion.models.denoiser import Conditions
from exposurediffusion.physics.dark import augment_shot_noise
from exposurediffusion.physics.noise import NoiseModel, simulate_capture, stack_parameters
from exposurediffusion.physics.profile import NoiseParameters, load_profile, log_uniform

_DRAWS, _PIXELS = 2, 3  # keep the streams of parameters, of pixels and of the data apart


@dataclass(frozen=True)
class Captures:
    """A batch as the loss wants it.

    Attributes:
        capture: X_T at reference brightness, amplified by `conditions.ratio`.
        target: X_ref, or another noisy capture (Noise2Noise).
        conditions: what the network is told.
        noise: gain and read noise that the captures have; the network may be told something else.
        generators: one for each image, for whatever is still to be drawn.
    """

    capture: Float[Tensor, "b c h w"]
    target: Float[Tensor, "b c h w"]
    conditions: Conditions
    noise: NoiseParameters
    generators: list[torch.Generator]


class CaptureMaker:
    """Makes captures by a recipe.

    Args:
        recipe: of the captures.
        seed: of the run.

    Raises:
        ValueError: no such camera, or ISO settings that it does not have.
    """

    def __init__(self, recipe: CaptureRecipe, seed: int) -> None:
        self.recipe, self.seed = recipe, seed
        cameras = {} if recipe.camera is None else {"cameras": (load_profile(recipe.camera),)}
        for iso in recipe.iso:
            for camera in cameras.get("cameras", ()):
                camera.gain(iso)
        self.model: NoiseModel = NOISE_MODELS[recipe.noise](gain_range=recipe.gain_range, iso=recipe.iso, **cameras)

    def __call__(self, batch: Batch) -> Captures:
        """Captures of a batch, on its device.

        Raises:
            ValueError: pairs are wanted and the batch has none.
        """
        device = batch.clean.device
        hosts = [seeded(self.seed, n, _DRAWS) for n in batch.numbers]
        streams = [seeded(self.seed, n, _PIXELS).initial_seed() for n in batch.numbers]
        pixels = [torch.Generator(device).manual_seed(stream) for stream in streams]
        if self.recipe.supervision == "paired" or batch.capture is not None:
            capture, target, ratio, noise = self._paired(batch)
        else:
            capture, target, ratio, noise = self._made(batch, hosts, pixels)
        if self.recipe.augment > 1:
            capture, target = augment_shot_noise(capture, target, ratio, noise, self.recipe.augment, pixels)
        if self.recipe.clip:
            capture = capture.clamp(0, 1)
        if self.recipe.supervision != "noise2noise":  # the mean of a clipped target would be another
            target = target.clamp(0, 1)
        return Captures(capture, target, self._told(ratio, noise, hosts), noise, pixels)

    def _made(
        self, batch: Batch, hosts: list[torch.Generator], pixels: list[torch.Generator]
    ) -> tuple[Tensor, Tensor, Tensor, NoiseParameters]:
        device = batch.clean.device
        noise = stack_parameters([self._parameters(host) for host in hosts]).to(device)
        ratio = torch.cat([draw_ratios(self.recipe, 1, host) for host in hosts]).to(device)
        capture = simulate_capture(batch.clean, ratio, noise, pixels)
        if self.recipe.supervision == "noise2noise":
            return capture, simulate_capture(batch.clean, ratio, noise, pixels), ratio, noise
        return capture, batch.clean, ratio, noise

    def _parameters(self, host: torch.Generator) -> NoiseParameters:
        return self.model.parameters(1, host)

    def _paired(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, NoiseParameters]:
        if batch.capture is None or batch.ratio is None or batch.gain is None or batch.read_variance is None:
            raise ValueError(
                "this recipe trains on pairs of short and long exposures, and the data has clean images only: "
                "give a data set with pairs (`expose simulate` makes one), or use --capture.supervision clean"
            )
        zero = torch.zeros_like(batch.gain)
        noise = NoiseParameters(batch.gain, batch.read_variance.sqrt(), zero, quantisation=0.0, source="of the pair")
        return batch.capture, batch.clean, batch.ratio, noise

    def _told(self, ratio: Tensor, noise: NoiseParameters, hosts: list[torch.Generator]) -> Conditions:
        spread = torch.cat([torch.randn(2, 1, generator=host) for host in hosts], dim=1)
        gain, read = torch.exp(self.recipe.uncertainty * spread).to(ratio.device)
        return Conditions(ratio, noise.gain * gain, noise.read_variance * read**2, noise.saturation)


def draw_ratios(recipe: CaptureRecipe, count: int, generator: torch.Generator) -> Float[Tensor, "b"]:
    """Amplifications by the recipe's law."""
    low, high = recipe.ratio
    if recipe.ratio_law == "uniform":
        return low + (high - low) * torch.rand(count, generator=generator)
    floor = min(max(20.0, low), high)
    uniform = floor + (high - floor) * torch.rand(count, generator=generator)
    small = log_uniform(low, high, count, generator)
    return torch.where(torch.rand(count, generator=generator) < 0.25, small, uniform)

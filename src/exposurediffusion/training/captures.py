"""From clean patches, or pairs, to what a training step sees: dark captures, their targets, and what is known of them.

Everything that is random follows from the seed, the iteration and the process. What is drawn for each image is drawn on
the host, what is drawn for each pixel on the device, a batch at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from exposurediffusion.physics.cameras.known import load_profiles
from exposurediffusion.physics.conditions import Conditions
from exposurediffusion.physics.noise import NOISE_MODELS, NoiseModel, augment_shot_noise, simulate_capture
from exposurediffusion.physics.parameters import NoiseParameters
from exposurediffusion.physics.random import Stream, log_uniform, seeded
from exposurediffusion.training.batches import Batch
from exposurediffusion.training.recipe import CaptureRecipe


@dataclass(frozen=True)
class Captures:
    """A batch as the loss wants it.

    Attributes:
        capture: X_T at reference brightness, amplified by `conditions.ratio`.
        target: X_ref, or another noisy capture (Noise2Noise).
        conditions: what the network is given.
        noise: gain and read noise that the captures have; the network may be given other values.
        generator: on the device of the captures, for whatever is still to be drawn.
    """

    capture: Float[Tensor, "b c h w"]
    target: Float[Tensor, "b c h w"]
    conditions: Conditions
    noise: NoiseParameters
    generator: torch.Generator

    def parts(self, count: int) -> Iterator[Captures]:
        """The same in `count` parts, as equal as may be."""
        if count == 1:
            yield self
            return
        for images in torch.arange(len(self.target)).tensor_split(count):
            pick = slice(int(images[0]), int(images[-1]) + 1)
            yield Captures(
                self.capture[pick], self.target[pick], self.conditions[pick], self.noise[pick], self.generator
            )


class CaptureMaker:
    """Makes captures by a recipe.

    Args:
        recipe: of the captures.
        seed: of the run.
        white: the brightest target.

    Raises:
        ValueError: no such camera, or ISO settings that it does not have.
    """

    def __init__(self, recipe: CaptureRecipe, seed: int, white: float = 1.0) -> None:
        self.recipe, self.seed, self.white = recipe, seed, white
        cameras = {} if recipe.camera is None else {"cameras": load_profiles(recipe.camera)}
        for iso in recipe.iso:
            for camera in cameras.get("cameras", ()):
                camera.gain(iso)
        self.model: NoiseModel = NOISE_MODELS[recipe.noise](gain_range=recipe.gain_range, iso=recipe.iso, **cameras)

    def __call__(self, batch: Batch, iteration: int, process: int = 0) -> Captures:
        """Captures of a batch, on its device.

        Raises:
            ValueError: pairs are wanted and the batch has none.
        """
        host = seeded(self.seed, iteration, process, Stream.CAPTURES)
        pixels = seeded(self.seed, iteration, process, Stream.PIXELS, device=batch.clean.device)
        if self.recipe.supervision == "paired" or batch.capture is not None:
            capture, target, ratio, noise = self._paired(batch)
            read_variance = noise.read_variance
        else:
            noise = self.model.parameters(len(batch.clean), host)
            if batch.clean.shape[1] != 4:  # errors of the black level are known of Bayer's planes alone
                noise = replace(noise, colour_bias=None)
            read_variance = noise.read_variance.to(batch.clean.device, non_blocking=True)
            noise = noise.to(batch.clean.device)
            capture, target, ratio = self._made(batch.clean, noise, host, pixels)
        if self.recipe.augment > 1:
            capture, target = augment_shot_noise(capture, target, ratio, noise, self.recipe.augment, pixels)
        if self.recipe.clip:
            capture = capture.clamp(0, 1)
        if self.recipe.supervision != "noise2noise":  # the mean of a clipped target would be another
            target = target.clamp(0, self.white)
        spread = self.recipe.uncertainty * torch.randn((2, len(ratio)), generator=host)
        gain, read = spread.exp().to(ratio.device, non_blocking=True)
        given = Conditions(ratio, noise.gain * gain, read_variance * read**2, noise.saturation)
        return Captures(capture, target, given, noise, pixels)

    def _made(
        self, clean: Tensor, noise: NoiseParameters, host: torch.Generator, pixels: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Capture, target and ratio."""
        ratio = draw_ratios(self.recipe, len(clean), host).to(clean.device, non_blocking=True)
        capture = simulate_capture(clean, ratio, noise, pixels)
        target = simulate_capture(clean, ratio, noise, pixels) if self.recipe.supervision == "noise2noise" else clean
        return capture, target, ratio

    def _paired(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, NoiseParameters]:
        if batch.capture is None or batch.ratio is None or batch.gain is None or batch.read_variance is None:
            raise ValueError(
                "this recipe trains on pairs of short and long exposures, and the data has clean images only: "
                "give a data set with pairs (`expose simulate` makes one), or use --capture.supervision clean"
            )
        zero = torch.zeros_like(batch.gain)
        noise = NoiseParameters(batch.gain, batch.read_variance.sqrt(), zero, quantisation=0.0, source="of the pair")
        return batch.capture, batch.clean, batch.ratio, noise


def draw_ratios(recipe: CaptureRecipe, count: int, generator: torch.Generator) -> Float[Tensor, "b"]:
    """Amplifications by the recipe's law."""
    low, high = recipe.ratio
    if recipe.ratio_law == "uniform":
        return low + (high - low) * torch.rand(count, generator=generator)
    floor = min(max(20.0, low), high)
    uniform = floor + (high - floor) * torch.rand(count, generator=generator)
    small = log_uniform(low, high, count, generator)
    return torch.where(torch.rand(count, generator=generator) < 0.25, small, uniform)

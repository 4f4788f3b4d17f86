"""The conditional Gaussian diffusion model that the paper's supplement compares with (B., Table 7, Fig. 7-9).

It begins with pure noise, whatever the capture has collected; the capture only stands beside it, concatenated (SR3,
Saharia et al., 2021). Trained to predict the noise of the linear schedule of DDPM (Ho et al., 2020), sampled by DDIM
(Song et al., 2021) in any number of steps. Network and noise schedule are those of the library `diffusers` (extra
`baselines`). Images are in [0, 1] at reference brightness outside, in [-1, 1] inside.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from exposurediffusion.baselines.bm3d import import_extra
from exposurediffusion.models.denoiser import Estimate
from exposurediffusion.physics.conditions import Conditions
from exposurediffusion.physics.mosaic import pad_planes
from exposurediffusion.physics.plain import build
from exposurediffusion.physics.random import RandomSource, rand, randn
from exposurediffusion.physics.sensor import SATURATION
from exposurediffusion.process.exposure import Denoise


@dataclass(frozen=True)
class DiffusionConfig:
    """Everything that is needed to build a `ConditionalDiffusion`; it travels in the header of a weights file.

    Attributes:
        planes: colour planes of an image, 4 (Bayer) or 9 (X-Trans).
        channels: of each level of the U-Net, the finest first.
        layers: residual blocks of a level on the way down; one more on the way up.
        groups: of the group normalisation; divides every number of channels.
        timesteps: of the noise schedule.
        steps: of DDIM, unless the caller says otherwise. The paper sees it converge at about ten.
    """

    planes: int = 4
    channels: Sequence[int] = (64, 128, 128, 128)
    layers: int = 2
    groups: int = 8
    timesteps: int = 1000
    steps: int = 10

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))  # lists come from JSON
        if min((self.planes, self.layers, self.groups, *self.channels), default=0) < 1 or not self.channels:
            raise ValueError("planes, channels, layers and groups are positive numbers")
        if any(width % self.groups for width in self.channels):
            raise ValueError(f"{self.groups} groups do not divide the channels {self.channels}")
        self.times(self.steps)

    @staticmethod
    def from_dict(values: Any) -> DiffusionConfig:
        """Inverse of `asdict`; headers of before name a schedule and a prediction, of which one kind is left.

        Raises:
            ValueError: they name another kind, or something else.
        """
        values = dict(values)
        kind = values.pop("schedule", "linear"), values.pop("prediction", "epsilon")
        if kind != ("linear", "epsilon"):
            raise ValueError(f"a diffusion model of the kind {' / '.join(map(str, kind))}, no longer supported")
        return build(DiffusionConfig, values, "diffusion")

    def times(self, steps: int) -> list[int]:
        """The timesteps of a DDIM run, from the noisiest, `timesteps - 1`, down; evenly spaced.

        Raises:
            ValueError: fewer than 1, or more than the schedule has.
        """
        if not 1 <= steps <= self.timesteps:
            raise ValueError(f"DDIM takes 1 to {self.timesteps} steps with this model, not {steps}")
        return [self.timesteps - 1 - step * self.timesteps // steps for step in range(steps)]


DIFFUSION_SIZES: dict[str, DiffusionConfig] = {
    "large": DiffusionConfig(),
    "small": DiffusionConfig(channels=(32, 64, 64, 64), layers=1),
}
"""Table 7b: 8.619 M parameters, 367.15 G multiply-adds a step at 512x512 packed; and 1.472 M, 63.07 G.

The paper gives no more than these numbers; of the plain U-Nets that come close to the one, these do to the other."""


class ConditionalDiffusion(nn.Module):
    """A U-Net that predicts the noise in an image from the noisy image, the capture and the timestep.

    There is no attention, so that any size works. But group normalisation looks at the whole of what it is given:
    tiles of a frame would differ, and so would their noise. Frames are therefore sampled whole.

    Attributes:
        multiple: the U-Net takes heights and widths that are multiples of this; smaller images are padded.
        halo: packed pixels around a tile that its convolutions see; see above for the normalisation.

    Raises:
        ValueError: the extra `baselines` is not installed.
    """

    def __init__(self, config: DiffusionConfig) -> None:
        super().__init__()
        diffusers = import_extra("diffusers")
        levels = len(config.channels)
        self.config = config
        self.backbone = diffusers.UNet2DModel(
            in_channels=2 * config.planes,
            out_channels=config.planes,
            block_out_channels=config.channels,
            layers_per_block=config.layers,
            norm_num_groups=config.groups,
            down_block_types=("DownBlock2D",) * levels,
            up_block_types=("UpBlock2D",) * levels,
            add_attention=False,
        )
        self.noise_schedule = diffusers.DDPMScheduler(config.timesteps, beta_schedule="linear")
        self.multiple = 2 ** (levels - 1)
        # Two 3x3 convolutions a residual block, and one at each change of level, down and up.
        blocks = sum((2 * (2 * config.layers + 1) + 2) * 2**level for level in range(levels))
        self.halo = blocks + 4 * self.multiple

    def loss(
        self, capture: Float[Tensor, "b c h w"], clean: Float[Tensor, "b c h w"], generator: RandomSource = None
    ) -> Float[Tensor, ""]:
        """Mean squared error of the predicted noise at a random time for each image.

        Args:
            capture: X_T at reference brightness; the network sees it clipped to [0, 1].
            clean: X_ref, clipped likewise.
            generator: of times and noise: one, or one for each image.
        """
        pair, (height, width) = pad_planes(_inside(torch.cat([clean, capture], dim=1)), self.multiple)
        truth, condition = pair.tensor_split(2, dim=1)
        times = (rand((len(truth),), generator, truth.device) * self.config.timesteps).long()
        noise = randn(tuple(truth.shape), generator, truth.device)
        state = self.noise_schedule.add_noise(truth, noise, times)
        predicted = self._predict(state, condition, times)
        return F.mse_loss(predicted[..., :height, :width], noise[..., :height, :width])

    def steps(
        self,
        capture: Float[Tensor, "b c h w"],
        steps: int | None = None,
        generator: RandomSource = None,
    ) -> Iterator[Float[Tensor, "b c h w"]]:
        """Yield the estimate of the clean image at each step of DDIM, in [0, 1]; the last is the result.

        Args:
            capture: at reference brightness.
            steps: how many, None: as configured.
            generator: of the noise that it begins with: one, or one for each image.

        Raises:
            ValueError: fewer than 1 step, or more than the schedule has; or another number of planes.
        """
        if capture.shape[1] != self.config.planes:
            raise ValueError(
                f"these weights are for {self.config.planes} planes, the image has {capture.shape[1]} "
                "(4: Bayer, 9: X-Trans)"
            )
        times = self.config.times(self.config.steps if steps is None else steps)
        condition, (height, width) = pad_planes(_inside(capture), self.multiple)
        state = randn(tuple(condition.shape), generator, condition.device)
        for time, then in zip(times, [*times[1:], None], strict=True):
            with torch.no_grad():  # not around the yield, where it would hold for the caller, too
                predicted = self._predict(state, condition, time)
            clean, noise = self._parted(state, predicted, time)
            yield (clean[..., :height, :width] + 1) / 2
            if then is not None:
                signal, spread = self._levels(then)  # Eq. 12 of DDIM; the library's takes all steps as equally long
                state = signal * clean + spread * noise

    def sample(
        self,
        capture: Float[Tensor, "b c h w"],
        steps: int | None = None,
        generator: RandomSource = None,
    ) -> Float[Tensor, "b c h w"]:
        """The clean image, in [0, 1]: the last of `steps`; see there."""
        return deque(self.steps(capture, steps, generator), maxlen=1).pop()

    def forward(
        self, state: Float[Tensor, "b c h w"], exposure: Float[Tensor, "b"], conditions: Conditions
    ) -> Estimate:
        """As `ExposureDenoiser.forward`, from the state alone; with the configured steps, from seed 0."""
        return Estimate(self.denoiser()(state, exposure))

    def denoiser(
        self,
        ratio: float | Tensor = 1.0,
        gain: float | Tensor = 1.0,
        read: float | Tensor = 0.0,
        saturation: float = SATURATION,
        *,
        steps: int | None = None,
        seed: int = 0,
    ) -> Denoise:
        """`denoise(state, exposure) -> estimate`, as `ExposureDenoiser.denoiser` gives it; meant for no exposures.

        Args:
            ratio, gain, read, saturation: not needed: the network sees the state alone.
            steps: of DDIM, None: as configured.
            seed: of the noise that each image begins with: the same in any batch, on one kind of device.
        """

        def denoise(state: Tensor, exposure: Tensor) -> Tensor:
            sources = [torch.Generator(state.device).manual_seed(seed) for _ in state]
            return self.sample(state, steps, sources)

        return denoise

    def _predict(self, state: Tensor, condition: Tensor, time: Tensor | int) -> Tensor:
        """The noise in a noisy image, float32."""
        return self.backbone(torch.cat([state, condition], dim=1), time, return_dict=False)[0].float()

    def _levels(self, time: int) -> tuple[float, float]:
        """Factors of image and noise in a state: `state = first * clean + second * noise`."""
        kept = float(self.noise_schedule.alphas_cumprod[time])
        return kept**0.5, (1 - kept) ** 0.5

    def _parted(self, state: Tensor, predicted: Tensor, time: int) -> tuple[Tensor, Tensor]:
        """Image and noise of a state; the image within its range, the noise what then remains."""
        signal, spread = self._levels(time)
        clean = ((state - spread * predicted) / signal).clamp(-1, 1)
        return clean, (state - signal * clean) / spread


def _inside(image: Tensor) -> Tensor:
    """[0, 1], to which it is clipped, to [-1, 1]."""
    return 2 * image.clamp(0, 1) - 1

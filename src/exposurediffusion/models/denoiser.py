"""The denoiser F(X_t): conditioning planes -> backbone -> adaptive residual layer (Eq. 12).

It works on any backbone with `in_channels` and `out_channels`; to add one, see `BACKBONES`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from inspect import Parameter, signature
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from exposurediffusion.models.nafnet import NAFNet
from exposurediffusion.models.resunet import ResUNet
from exposurediffusion.models.stabilised import Stabiliser
from exposurediffusion.models.unet import UNet
from exposurediffusion.physics.conditions import Conditions
from exposurediffusion.physics.mosaic import pad_planes
from exposurediffusion.physics.sensor import SATURATION, photon_counts

BACKBONES: dict[str, Callable[..., nn.Module]] = {"unet": UNet, "nafnet": NAFNet, "resunet": ResUNet}

RANGES = {"planes": (1.0, 1e3), "white": (1e-3, 1e6)}
"""Of fields of a `DenoiserConfig` (`physics.ranges.check`)."""


def backbone_options(name: str) -> dict[str, Any]:
    """The options of a backbone with their defaults; none of a backbone that is unknown."""
    parameters = signature(BACKBONES[name]).parameters.values() if name in BACKBONES else ()
    return {each.name: each.default for each in parameters if each.default is not Parameter.empty}


@dataclass(frozen=True)
class DenoiserConfig:
    """Everything that is needed to build an `ExposureDenoiser`; it travels in the header of a weights file.

    Attributes:
        backbone: a name in `BACKBONES`.
        options: further arguments of the backbone (width, depth, ...).
        planes: colour planes of an image, 4 (Bayer) or 9 (X-Trans).
        photons: feed the state in electrons, over the saturation.
        origin: feed the capture again beside the state.
        noise_map: feed the expected noise of a state, for cameras other than the one trained on.
        adaptive_residual: mask, direct and residual branch (Eq. 12) instead of one image.
        domain: what the backbone sees and says: `linear` light; or light on a scale where a capture's noise is uniform
            (`models/stabilised.py`), of the state and of the capture, and the noise of both: the three flags before
            `adaptive_residual` are not asked then.
        white: the brightest estimate; above 1 there is headroom for highlights that the capture still holds.
    """

    backbone: str = "unet"
    options: dict[str, Any] = field(default_factory=dict)
    planes: int = 4
    photons: bool = True
    origin: bool = False
    noise_map: bool = False
    adaptive_residual: bool = True
    domain: Literal["linear", "stabilised"] = "linear"
    white: float = 1.0

    @property
    def in_channels(self) -> int:
        """Planes that the backbone is given."""
        if self.domain == "stabilised":
            return 2 * self.planes + 2
        return self.planes * (1 + self.photons + self.origin + self.noise_map)

    @property
    def out_channels(self) -> int:
        """Planes that the backbone gives."""
        return 1 + 2 * self.planes if self.adaptive_residual else self.planes


class Estimate(NamedTuple):
    """What the denoiser says of a state; without the adaptive residual layer only `image` is there.

    `image` = mask * direct + (1 - mask) * residual; `direct` is X_hat, `residual` is state + R_hat, all (b c h w) in
    [0, white] but for a network without the layer, whose image is not clipped; `mask` is (b 1 h w).
    """

    image: Tensor
    mask: Tensor | None = None
    direct: Tensor | None = None
    residual: Tensor | None = None


def noise_map(
    state: Float[Tensor, "b c h w"], exposure: Float[Tensor, "b"], conditions: Conditions
) -> Float[Tensor, "b c h w"]:
    """Expected noise of a state at reference brightness: `sqrt(gain * signal + read variance)`.

    The signal is the state itself, clipped at 0; a state of exposure e has collected e times the light and one read.
    """
    amplification = conditions.ratio / (exposure * conditions.saturation)  # DN -> reference brightness
    shot = (conditions.gain * amplification).reshape(-1, 1, 1, 1)
    read = (conditions.read_variance * amplification**2).reshape(-1, 1, 1, 1)
    return torch.sqrt(state.clamp(min=0) * shot + read)


def _stabilised(state: Tensor, exposure: Tensor, conditions: Conditions) -> list[Tensor]:
    """State and capture on the capture's scale, and the noise of both.

    What is collected after the capture is expected light without noise of its own, so that a state of exposure e holds
    the capture's noise divided by e: uniform, too.
    """
    scale = Stabiliser.of(conditions)
    seen = scale.forward(state)
    capture = seen if conditions.origin is None else scale.forward(conditions.origin)
    noise = scale.deviation.expand(len(state), 1, *state.shape[-2:])
    return [seen, capture, noise, noise / exposure.reshape(-1, 1, 1, 1)]


class ExposureDenoiser(nn.Module):
    """A backbone with the paper's inputs and outputs.

    Input planes of linear light, in this order: the state; its electrons over the saturation; the capture; the noise
    map (the last three by configuration). On the stabilised scale: state, capture, noise of the capture and of the
    state (one plane each).
    """

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        if config.backbone not in BACKBONES:
            raise ValueError(f"unknown backbone {config.backbone!r}: one of {', '.join(BACKBONES)}")
        self.config = config
        try:
            self.backbone = BACKBONES[config.backbone](config.in_channels, config.out_channels, **config.options)
        except TypeError as error:
            options = ", ".join(config.options)
            raise ValueError(f"backbone {config.backbone!r} cannot be made with options {options} ({error})") from error

    @property
    def multiple(self) -> int:
        """The backbone takes heights and widths that are multiples of this; `forward` pads by reflection."""
        return int(self.backbone.multiple)  # type: ignore[arg-type]

    @property
    def halo(self) -> int:
        """Packed pixels around a tile that can change it."""
        return int(self.backbone.halo)  # type: ignore[arg-type]

    def condition(
        self, state: Float[Tensor, "b c h w"], exposure: Float[Tensor, "b"], conditions: Conditions
    ) -> Float[Tensor, "b c2 h w"]:
        """The planes that the backbone is given.

        Raises:
            ValueError: the state has another number of planes than the network.
        """
        if state.shape[1] != self.config.planes:
            raise ValueError(
                f"these weights are for {self.config.planes} planes, the image has {state.shape[1]} "
                "(4: Bayer, 9: X-Trans)"
            )
        if self.config.domain == "stabilised":
            planes = _stabilised(state, exposure, conditions)
        else:
            planes = self._linear(state, exposure, conditions)
        kind = state.device.type
        if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
            planes = [plane.to(torch.get_autocast_dtype(kind)) for plane in planes]  # as the first convolution would
        return torch.cat(planes, dim=1)

    def _linear(self, state: Tensor, exposure: Tensor, conditions: Conditions) -> list[Tensor]:
        planes = [state]
        if self.config.photons:
            counts = photon_counts(state, exposure, conditions.ratio, conditions.gain, conditions.saturation)
            planes.append(counts / SATURATION)
        if self.config.origin:
            planes.append(state if conditions.origin is None else conditions.origin)
        if self.config.noise_map:
            planes.append(noise_map(state, exposure, conditions))
        return planes

    def forward(
        self, state: Float[Tensor, "b c h w"], exposure: Float[Tensor, "b"], conditions: Conditions
    ) -> Estimate:
        """Estimate the clean image from a state, both at reference brightness (Eq. 12). Any size."""
        padded, (height, width) = pad_planes(self.condition(state, exposure, conditions), self.multiple)
        return self.estimate(self.backbone(padded)[..., :height, :width], state, conditions)

    def estimate(
        self, output: Float[Tensor, "b c3 h w"], state: Float[Tensor, "b c h w"], conditions: Conditions
    ) -> Estimate:
        """What the planes that the backbone gives mean."""
        output = output.to(state.dtype)
        scale = Stabiliser.of(conditions) if self.config.domain == "stabilised" else None
        start = state if scale is None else scale.forward(state)

        def light(values: Tensor) -> Tensor:
            return values if scale is None else scale.inverse(values)

        if not self.config.adaptive_residual:
            return Estimate(light(start + output if self.backbone.predicts_residual else output))
        planes, white = self.config.planes, self.config.white
        mask = torch.sigmoid(output[:, :1])
        direct = clip(light(output[:, 1 : 1 + planes]), white)
        residual = clip(light(start + output[:, 1 + planes :]), white)
        return Estimate((mask * direct + (1 - mask) * residual).clamp(0.0, white), mask, direct, residual)

    def denoiser(
        self,
        ratio: float | Tensor,
        gain: float | Tensor,
        read: float | Tensor = 0.0,
        saturation: float = SATURATION,
    ) -> BoundDenoiser:
        """The denoiser of one batch of captures, as `expose` wants it.

        Args:
            ratio: amplification.
            gain: K, DN per electron.
            read: light-free standard deviation, DN; matters to weights with a noise map only.
            saturation: white - black, DN, to which gain and read refer.
        """
        device = next(self.parameters()).device

        def vector(x: float | Tensor) -> Tensor:
            return torch.as_tensor(x, dtype=torch.float32, device=device).reshape(-1)

        conditions = Conditions(vector(ratio), vector(gain), vector(read) ** 2, saturation)
        return BoundDenoiser(self, conditions)


@dataclass
class BoundDenoiser:
    """`denoise(state, exposure) -> estimate` of one batch of captures.

    Attributes:
        model: the network: an `ExposureDenoiser`, or what is called like one.
        conditions: of the batch. If `origin` is None, the first state that it is given becomes the origin: `expose`
            begins with the capture. Make one for each run.
        estimates: what the network said at each call, mask and branches included, if `keep` is set.
    """

    model: nn.Module
    conditions: Conditions
    keep: bool = False
    estimates: list[Estimate] = field(default_factory=list)

    def __call__(self, state: Float[Tensor, "b c h w"], exposure: Float[Tensor, "b"]) -> Float[Tensor, "b c h w"]:
        """The estimate alone."""
        if self.conditions.origin is None:
            scalars = (self.conditions.ratio, self.conditions.gain, self.conditions.read_variance)
            ratio, gain, read_variance = (values.expand(len(state)) for values in scalars)
            self.conditions = Conditions(ratio, gain, read_variance, self.conditions.saturation, state)
        estimate = self.model(state, exposure, self.conditions)
        if self.keep:
            self.estimates.append(estimate)
        return estimate.image


def clip(image: Tensor, white: float = 1.0) -> Tensor:
    """`image` clipped to [0, white], with the gradient of what would bring a clipped value back.

    Where a value is inside, the gradient is the identity, as it is of `clamp`. Outside, that of `clamp` is 0 whatever
    the loss says, so that a network whose every output has left the range learns nothing any more; here a descent that
    leads back into the range passes, and one that leads farther away does not.
    """
    return _Clip.apply(image, white) if image.requires_grad else image.clamp(0.0, white)


class _Clip(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, image: Tensor, white: float) -> Tensor:
        context.save_for_backward(image)
        context.white = white
        return image.clamp(0.0, white)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (image,) = context.saved_tensors
        away = ((image < 0) & (gradient > 0)) | (
            (image > context.white) & (gradient < 0)
        )  # a descent goes against the gradient
        return gradient.masked_fill(away, 0), None

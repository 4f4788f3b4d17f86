"""Noise of a capture: shot, read (Gaussian or Tukey-lambda), row, quantisation, colour bias.

Everything is computed in DN on packed planes and given back at *reference brightness* (multiplied by
`ratio / saturation`), where 1 is white. Nothing is clipped unless asked: a capture may be negative, the black level is
an offset, not a wall.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields

import torch
from jaxtyping import Float
from torch import Tensor

from exposurediffusion.physics.mosaic import CFA, pack
from exposurediffusion.physics.profile import CameraProfile, NoiseParameters, calibrated_cameras, log_uniform


def tukey_lambda(
    shape: Float[Tensor, "b"], size: tuple[int, ...], generator: torch.Generator | None = None
) -> Float[Tensor, "b ..."]:
    """Samples of the Tukey-lambda law of unit scale: quantile `(u^l - (1-u)^l) / l`, logistic at l = 0."""
    u = torch.rand(size, generator=generator, device=shape.device)
    step = torch.finfo(u.dtype).eps / 2  # of torch.rand, which gives 0 but not 1: there is no more tail than that
    u = u.clamp(step / 2, 1 - step)
    log_u, log_v = torch.log(u), torch.log1p(-u)
    lam = shape.reshape(-1, *[1] * (len(size) - 1))
    safe = torch.where(lam == 0, 1.0, lam)
    return torch.where(lam == 0, log_u - log_v, (torch.exp(safe * log_u) - torch.exp(safe * log_v)) / safe)


def row_offsets(
    size: tuple[int, int, int, int], generator: torch.Generator | None = None, device: torch.device | str = "cpu"
) -> Float[Tensor, "b c h w"]:
    """A unit Gaussian offset per *sensor* row, on packed planes of `size`.

    In a packed Bayer row R and G1 share one offset, G2 and B the other; X-Trans follows its table.
    """
    b, c, h, w = size
    cfa = CFA("RGGB" if c == 4 else "XTRANS")
    cell = cfa.period // cfa.stride  # an odd number of packed X-Trans rows or columns ends inside a tile
    rows, columns = -(-h // cell) * cfa.period, -(-w // cell) * cfa.period
    offsets = torch.randn((b, rows, 1), generator=generator, device=device)
    return pack(offsets.expand(b, rows, columns), cfa)[..., :h, :w]


def simulate_capture(
    clean: Float[Tensor, "b c h w"],
    ratio: Float[Tensor, "b"],
    noise: NoiseParameters,
    generator: torch.Generator | None = None,
    clip: bool = False,
) -> Float[Tensor, "b c h w"]:
    """A short exposure of a clean scene, amplified to reference brightness (Eq. 1-3 and the noise model of ELD).

    Args:
        clean: expected noise-free image at reference brightness, 1 = white; values above 1 are highlights that the
            long exposure would clip and the capture still holds.
        ratio: amplification lambda_ref / lambda_T, >= 1.
        noise: parameters of each image; DN figures refer to `noise.saturation`.
        generator: source of every draw, on the device of `clean`.
        clip: clip the result to [0, 1], as the published experiments do.

    Returns:
        The capture at reference brightness. Its mean is `clean` plus the amplified colour bias.
    """

    def per_image(values: Tensor) -> Tensor:
        return values.to(clean.device).reshape(-1, 1, 1, 1)

    (b, c, h, w), device = clean.shape, clean.device
    size = (b, c, h, w)
    scale = per_image(noise.saturation / ratio)  # DN of white at the capture's exposure
    gain = per_image(noise.gain)
    dn = torch.poisson(clean.clamp(min=0) * scale / gain, generator=generator) * gain
    if noise.tukey_shape is None:
        read = torch.randn(size, generator=generator, device=device)
    else:
        read = tukey_lambda(noise.tukey_shape.to(device), size, generator)
    dn.addcmul_(read, per_image(noise.read))
    if bool((noise.row > 0).any()):
        dn.addcmul_(row_offsets(size, generator, device), per_image(noise.row))
    if noise.quantisation > 0:
        dn.add_(torch.rand(size, generator=generator, device=device).sub_(0.5), alpha=noise.quantisation)
    if noise.colour_bias is not None:
        dn.add_(noise.colour_bias.to(device)[:, :, None, None])
    capture = dn / scale
    return capture.clamp(0, 1) if clip else capture


@dataclass(frozen=True)
class NoiseModel(ABC):
    """Draws the noise parameters of a batch; `simulate_capture` makes the noise.

    Attributes:
        cameras: profiles to draw from, one per image.
        gain_range: K is log-uniform in it, DN per electron; None: in each camera's own range of ISO 100 to 6400.
    """

    cameras: tuple[CameraProfile, ...] = field(default_factory=lambda: tuple(calibrated_cameras().values()))
    gain_range: tuple[float, float] | None = (0.1, 30.0)

    def parameters(self, count: int, generator: torch.Generator | None = None) -> NoiseParameters:
        """Parameters of `count` images, each of a random camera at a random gain."""
        drawn = []
        for index in torch.randint(len(self.cameras), (count,), generator=generator).tolist():
            camera = self.cameras[index]
            low, high = self.gain_range or (camera.gain_iso_100, camera.gain_iso_6400)
            drawn.append(self._at_gain(camera, log_uniform(low, high, 1, generator), generator))
        return stack_parameters(drawn)

    @abstractmethod
    def _at_gain(self, camera: CameraProfile, gain: Tensor, generator: torch.Generator | None) -> NoiseParameters:
        """Parameters of one capture at a gain, (1)."""


@dataclass(frozen=True)
class PoissonGaussian(NoiseModel):
    """`P+g`: shot noise and Gaussian read noise, nothing else."""

    def _at_gain(self, camera: CameraProfile, gain: Tensor, generator: torch.Generator | None) -> NoiseParameters:
        read = camera.gaussian_read.sample(gain, generator)
        return NoiseParameters(gain, read, torch.zeros_like(gain), quantisation=0.0, source="P+g")


@dataclass(frozen=True)
class ELDNoise(NoiseModel):
    """ELD, `P+G*+r+u`: shot, Tukey-lambda read, row and quantisation noise; optionally the colour bias.

    Attributes:
        colour_bias: add a black level error per plane, drawn from the camera's calibration (Bayer only).
    """

    colour_bias: bool = False

    def _at_gain(self, camera: CameraProfile, gain: Tensor, generator: torch.Generator | None) -> NoiseParameters:
        return camera.sample(gain, "tukey", self.colour_bias, generator)


def stack_parameters(items: list[NoiseParameters]) -> NoiseParameters:
    """One batch of parameters from several of the same kind."""
    first = items[0]
    joined = {
        f.name: torch.cat([getattr(item, f.name) for item in items])
        for f in fields(first)
        if isinstance(getattr(first, f.name), Tensor)
    }
    rest = {f.name: getattr(first, f.name) for f in fields(first) if f.name not in joined}
    return NoiseParameters(**joined, **rest)

"""Noise of a capture: shot, read (Gaussian or Tukey-lambda), row, column, quantisation, colour bias.

Everything is computed in DN on packed planes and given back at *reference brightness* (multiplied by
`ratio / saturation`), where 1 is white. Nothing is clipped unless asked: a capture may be negative, the black level is
an offset, not a wall.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from math import log
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from exposurediffusion.physics.cameras.known import calibrated_cameras
from exposurediffusion.physics.cameras.profile import CameraProfile
from exposurediffusion.physics.mosaic import CFA, pack
from exposurediffusion.physics.parameters import NoiseParameters, select_parameters, tukey_lambda_variance
from exposurediffusion.physics.poisson import poisson
from exposurediffusion.physics.random import (
    PART,
    RandomSource,
    Sources,
    for_each_image,
    fractions,
    image_sources,
    log_uniform,
    rand,
    randn,
    rounding,
)
from exposurediffusion.physics.sensor import electrons_per_unit


def tukey_lambda(
    shape: Float[Tensor, "b"], size: tuple[int, ...], generator: RandomSource = None
) -> Float[Tensor, "b ..."]:
    """Samples of the Tukey-lambda law of unit scale: quantile `(u^l - (1-u)^l) / l`, logistic at l = 0.

    A shape nearer to 0 than 1e-4 counts as 1e-4, which moves no sample by more than 0.1 %.
    """
    u = fractions(size, generator, shape.device).clamp_(min=0.5)  # of 2^24: neither 0 nor 1, and no more tail than that
    v = 2.0**24 - u
    lam = torch.where(shape.abs() < 1e-4, 1e-4, shape).reshape(-1, *[1] * (len(size) - 1))
    return u.log_().mul_(lam).exp_().sub_(v.log_().mul_(lam).exp_()).mul_(2 ** (-24 * lam) / lam)


def line_offsets(
    size: tuple[int, int, int, int],
    deviation: Float[Tensor, "b"],
    generator: Sources = None,
    of: Literal["rows", "columns"] = "rows",
) -> Float[Tensor, "b c h w"]:
    """A Gaussian offset per *sensor* row or column, of each image's standard deviation, on packed planes of `size`.

    In a packed Bayer row R and G1 share one offset, G2 and B the other; in a packed column R and G2 do, G1 and B the
    other. X-Trans follows its table.
    """
    b, c, h, w = size
    cfa = CFA("RGGB" if c == 4 else "XTRANS")  # planes begin with a whole tile, wherever the frame does
    cell = cfa.period // cfa.stride  # an odd number of packed X-Trans rows or columns ends inside a tile
    down, across = -(-h // cell), -(-w // cell)
    lines = (down * cfa.period, 1) if of == "rows" else (1, across * cfa.period)
    offsets = randn((b, *lines), generator, deviation.device).mul_(deviation.reshape(-1, 1, 1))
    tiles = pack(offsets.expand(b, *(max(n, cfa.period) for n in lines)), cfa)  # those along a line are all the same
    return tiles.repeat(1, 1, *((1, across) if of == "rows" else (down, 1)))[..., :h, :w]


def simulate_capture(
    clean: Float[Tensor, "b c h w"],
    ratio: Float[Tensor, "b"],
    noise: NoiseParameters,
    generator: RandomSource = None,
    clip: bool = False,
) -> Float[Tensor, "b c h w"]:
    """A short exposure of a clean scene, amplified to reference brightness (Eq. 1-3 and the noise model of ELD).

    Args:
        clean: expected noise-free image at reference brightness, 1 = white; values above 1 are highlights that the
            long exposure would clip and the capture still holds.
        ratio: amplification lambda_ref / lambda_T, >= 1.
        noise: parameters of each image; DN figures refer to `noise.saturation`.
        generator: source of every draw, on the device of `clean`: one, or one for each image.
        clip: clip the result to [0, 1], as the published experiments do.

    Returns:
        The capture at reference brightness. Its mean is `clean` plus the amplified colour bias.
    """
    b, c, h, w = clean.shape
    sources = image_sources(generator, b)
    lines = line_offsets((b, c, h, w), noise.row.to(clean.device), sources)
    if noise.column is not None:
        lines = lines + line_offsets((b, c, h, w), noise.column.to(clean.device), sources, "columns")
    if clean.device.type != "cpu":
        return _expose(clean, ratio.to(clean.device), noise.to(clean.device), lines, generator, clip)
    capture = torch.empty_like(clean, memory_format=torch.contiguous_format)
    height = max(1, PART // max(1, c * w))  # of a band: what is done to it stays in the processor's cache

    def expose_part(images: slice, own: RandomSource, drawn: Tensor) -> None:
        parameters = noise[images]
        for top in range(0, h, height):
            band = (images, slice(None), slice(top, top + height))
            drawn[:, :, band[2]] = _expose(clean[band], ratio[images], parameters, lines[band], own, clip)

    def expose_image(image: int, own: torch.Generator | None, drawn: Tensor) -> None:
        expose_part(slice(image, image + 1), own, drawn[None])

    if generator is None or isinstance(generator, torch.Generator):
        together = max(1, PART // max(1, c * h * w))  # small images are drawn several at a time
        with torch.inference_mode():
            for first in range(0, b, together):
                images = slice(first, first + together)
                expose_part(images, generator, capture[images])
        return capture
    for_each_image(expose_image, range(b), capture, sources)
    return capture


def _expose(
    clean: Tensor, ratio: Tensor, noise: NoiseParameters, lines: Tensor, generator: RandomSource, clip: bool
) -> Tensor:
    """Captures, or one band of one, with the offsets of lines that were drawn for them; all on one device."""

    def per_image(values: Tensor) -> Tensor:
        return values.reshape(-1, 1, 1, 1)

    size, device, shape = tuple(clean.shape), clean.device, noise.tukey_shape
    unit = per_image(ratio / noise.saturation)  # one DN at reference brightness
    electron = per_image(noise.gain) * unit
    capture = poisson(clean.clamp(min=0).div_(electron), generator).mul_(electron)
    read = randn(size, generator, device) if shape is None else tukey_lambda(shape, size, generator)
    capture.addcmul_(read, per_image(noise.read) * unit)
    capture.add_(lines * unit)
    if isinstance(noise.quantisation, Tensor):
        capture.addcmul_(rounding(size, generator, device), per_image(noise.quantisation) * unit)
    elif noise.quantisation > 0:
        capture.addcmul_(rounding(size, generator, device), noise.quantisation * unit)
    if noise.colour_bias is not None:
        capture.add_(noise.colour_bias[:, :, None, None] * unit)
    return capture.clamp_(0, 1) if clip else capture


@dataclass(frozen=True)
class NoiseModel(ABC):
    """Draws the noise parameters of a batch; `simulate_capture` makes the noise.

    Attributes:
        cameras: profiles to draw from, one per image.
        gain_range: K is log-uniform in it, DN per electron; None: in each camera's own range of ISO 100 to 6400.
        iso: settings of a camera to draw from instead: the gains that its captures really have; empty: any gain.
    """

    cameras: tuple[CameraProfile, ...] = field(default_factory=lambda: tuple(calibrated_cameras().values()))
    gain_range: tuple[float, float] | None = (0.1, 30.0)
    iso: tuple[float, ...] = ()

    def parameters(self, count: int, generator: torch.Generator | None = None) -> NoiseParameters:
        """Parameters of `count` images, each of a random camera at a random gain; drawn on the host."""
        pick = torch.randint(len(self.cameras), (count,), generator=generator)
        drawn = [self._at_gain(c, self._gains(c, count, generator), generator) for c in self.cameras]
        return select_parameters(drawn, pick)

    def _gains(self, camera: CameraProfile, count: int, generator: torch.Generator | None) -> Float[Tensor, "b"]:
        """Random gains of a camera."""
        if self.iso:
            gains = torch.tensor([camera.gain(iso) for iso in self.iso])
            return gains[torch.randint(len(gains), (count,), generator=generator)]
        low, high = self.gain_range or (camera.gain_iso_100, camera.gain_iso_6400)
        return log_uniform(low, high, count, generator)

    @abstractmethod
    def _at_gain(
        self, camera: CameraProfile, gain: Float[Tensor, "b"], generator: torch.Generator | None
    ) -> NoiseParameters:
        """Parameters of captures of a camera at these gains."""


@dataclass(frozen=True)
class PoissonGaussian(NoiseModel):
    """`P+g`: shot noise and Gaussian read noise, nothing else."""

    def _at_gain(self, camera: CameraProfile, gain: Tensor, generator: torch.Generator | None) -> NoiseParameters:
        read = camera.gaussian_read.sample(gain, generator)
        row = torch.zeros_like(gain)
        return NoiseParameters(gain, read, row, quantisation=0.0, saturation=camera.saturation, source="P+g")


@dataclass(frozen=True)
class ELDNoise(NoiseModel):
    """ELD, `P+G*+r+u`: shot, Tukey-lambda read, row and quantisation noise; optionally the colour bias.

    Attributes:
        colour_bias: add a black level error per plane, drawn from the camera's calibration (Bayer only).
    """

    colour_bias: bool = False

    def _at_gain(self, camera: CameraProfile, gain: Tensor, generator: torch.Generator | None) -> NoiseParameters:
        return camera.sample(gain, "tukey", self.colour_bias, generator)


@dataclass(frozen=True)
class WideNoise(ELDNoise):
    """ELD noise, half of it of cameras that nobody calibrated: any gain, read noise, tails, rows and bits.

    An invented camera has a read noise of 0.7 to 6 electrons before its amplifier and 0.3 to 6 DN (of 14 bits) after
    it, tails from heavy to none, row offsets of 0.01 to 0.3 of the read noise, 14, 12 or 10 bits, and a black level
    error of a tenth of the read noise, common to the planes and of each. Its gain is log-uniform from 0.05 to 30 DN per
    electron.
    """

    colour_bias: bool = True

    def parameters(self, count: int, generator: torch.Generator | None = None) -> NoiseParameters:
        """Parameters of `count` images, of a calibrated or an invented camera each."""
        known = super().parameters(count, generator)
        pick = torch.randint(2, (count,), generator=generator)
        return select_parameters([known, self._invented(count, generator).rescaled(known.saturation)], pick)

    def _invented(self, count: int, generator: torch.Generator | None) -> NoiseParameters:
        gain, electrons, after, row, bits = (
            log_uniform(low, high, count, generator)
            for low, high in ((0.05, 30.0), (0.7, 6.0), (0.3, 6.0), (0.01, 0.3), (1.0, 6.0))
        )
        shape = -0.25 + 0.4 * torch.rand(count, generator=generator)
        deviation = torch.sqrt((electrons * gain) ** 2 + after**2)
        error = torch.randn((count, 1), generator=generator) + 0.5 * torch.randn((count, 4), generator=generator)
        return NoiseParameters(
            gain,
            deviation / tukey_lambda_variance(shape).float().sqrt(),
            row * deviation,
            shape,
            torch.where(bits < 3, 1.0, torch.where(bits < 5, 4.0, 16.0)),
            colour_bias=0.1 * deviation[:, None] * error,
            black=0.11 * deviation,
            source="an invented camera",
        )


def noise_level(
    capture: Float[Tensor, "b c h w"], ratio: Float[Tensor, "b"], noise: NoiseParameters
) -> Float[Tensor, "b"]:
    """Root mean square of the noise of a capture at reference brightness, where 1 is white; one number per image.

    `sqrt(K a x + s^2 a^2)` with a = ratio / saturation, s^2 the light-free variance and x the mean of the capture, in
    which what is above white counts as white, and what is below black as it is: noise around black is no light.
    """
    scale = ratio / noise.saturation
    signal = capture.clamp(max=1).mean(dim=(1, 2, 3), dtype=torch.float64).clamp(min=0).to(capture.dtype)
    return torch.sqrt(noise.gain * scale * signal + noise.read_variance * scale**2)


def augment_shot_noise(
    capture: Float[Tensor, "b c h w"],
    clean: Float[Tensor, "b c h w"],
    ratio: Float[Tensor, "b"],
    noise: NoiseParameters,
    limit: float = 2.0,
    generator: RandomSource = None,
) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b c h w"]]:
    """The pair that a brighter scene would have given: a times the light, the same read noise (PMN).

    The capture gets the photo-electrons that it lacks, `K Pois((a - 1) electrons)`; `Pois(n) + Pois((a - 1) n)` is
    `Pois(a n)`. Ratio and gain stay. Where the clean image is clipped, how much is lacking is not known; there both
    images stay bright, at 1 and about 1.

    Args:
        capture: at reference brightness; not clipped, or the dark is biased.
        clean: at reference brightness; what is negative counts as 0.
        ratio: amplification of each capture.
        noise: gain of each capture, and the saturation.
        limit: largest factor a, which is log-uniform in [1, limit].
        generator: source of the factors and counts, on the device of `clean`: one, or one for each image.

    Returns:
        Capture and clean image, the latter clipped at 1 as the long exposure is.
    """
    device = clean.device
    factor = torch.exp(log(limit) * rand((len(clean),), generator, device)).reshape(-1, 1, 1, 1)
    electrons = electrons_per_unit(ratio.to(device), noise.gain.to(device), noise.saturation)
    per_unit = torch.as_tensor(electrons).reshape(-1, 1, 1, 1)
    lacking = poisson(clean.clamp(min=0) * ((factor - 1) * per_unit), generator).div_(per_unit)
    return lacking.add_(capture), (clean * factor).clamp_(max=1)


NOISE_MODELS: dict[str, Callable[..., NoiseModel]] = {
    "p+g": PoissonGaussian,
    "eld": ELDNoise,
    "eld+bias": lambda **options: ELDNoise(**options, colour_bias=True),
    "wide": WideNoise,
}

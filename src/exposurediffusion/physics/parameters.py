"""The noise parameters of captures: the interface between who knows them and who uses them."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from math import log2, pi

import torch
from jaxtyping import Float, Int
from torch import Tensor

from exposurediffusion.physics.sensor import SATURATION


def tukey_lambda_variance(shape: float | Tensor) -> Float[Tensor, "*b"]:
    """Variance of the Tukey-lambda distribution of unit scale; infinite for shape <= -1/2 (pi^2/3 at 0)."""
    given = torch.as_tensor(shape, dtype=torch.float64)
    # The closed form cancels near 0, and has no value at and below -1/2.
    safe = torch.where((given.abs() < 1e-4) | (given <= -0.5), 1.0, given)
    ratio = torch.exp(2 * torch.lgamma(safe + 1) - torch.lgamma(2 * safe + 2))
    variance = 2 / safe**2 * (1 / (1 + 2 * safe) - ratio)
    variance = torch.where(given.abs() < 1e-4, pi**2 / 3, variance)
    return torch.where(given <= -0.5, torch.inf, variance)


@dataclass(frozen=True)
class NoiseParameters:
    """Noise of a batch of captures. All but `gain` and `tukey_shape` in DN of a camera with `saturation`.

    Attributes:
        gain: system gain K, DN per electron, shape (b).
        read: standard deviation (Gaussian) or scale (Tukey-lambda) of the read noise, (b).
        row: standard deviation of the offset of each sensor row, (b).
        column: standard deviation of the offset of each sensor column, (b); None: none.
        tukey_shape: Tukey-lambda shape of the read noise, (b); None: Gaussian.
        quantisation: width of the uniform rounding error, DN; one for all or one for each.
        colour_bias: black level error per plane, (b, planes); None: none.
        black: standard deviation of an unknown error of the black level, (b); None: it is known to be right.
        saturation: white - black, DN.
        source: where these come from, for people.
    """

    gain: Float[Tensor, "b"]
    read: Float[Tensor, "b"]
    row: Float[Tensor, "b"]
    tukey_shape: Float[Tensor, "b"] | None = None
    quantisation: float | Float[Tensor, "b"] = 1.0
    colour_bias: Float[Tensor, "b planes"] | None = None
    black: Float[Tensor, "b"] | None = None
    saturation: float = SATURATION
    source: str = "given"
    column: Float[Tensor, "b"] | None = None

    @property
    def line_variance(self) -> Float[Tensor, "b"]:
        """Variance of the offsets of rows and columns, DN squared."""
        return self.row**2 if self.column is None else self.row**2 + self.column**2

    @property
    def read_variance(self) -> Float[Tensor, "b"]:
        """Variance of everything that does not depend on light (read, rows, columns, rounding), DN squared."""
        unit = torch.ones_like(self.read)
        if self.tukey_shape is not None:
            unit = tukey_lambda_variance(self.tukey_shape).to(self.read)
        return self.read**2 * unit + self.line_variance + self.quantisation**2 / 12

    def __getitem__(self, images: slice) -> NoiseParameters:
        """Of some images of the batch."""
        own = {name: value[images] for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **own)

    @staticmethod
    def gaussian(gain: float, read: float, saturation: float = SATURATION, source: str = "given") -> NoiseParameters:
        """Shot noise and Gaussian read noise of a single capture; `read` is the whole light-free deviation in DN."""
        g, r = torch.tensor([float(gain)]), torch.tensor([float(read)])
        return NoiseParameters(g, r, torch.zeros(1), quantisation=0.0, saturation=saturation, source=source)

    def to(self, device: torch.device | str) -> NoiseParameters:
        """The same parameters on another device."""
        moved = {k: v.to(device, non_blocking=True) for k, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **moved)

    def rescaled(self, saturation: float) -> NoiseParameters:
        """The same noise for a raw with another range of DN.

        A difference of whole bits is another bit depth, by which every figure in DN is scaled; what remains (cameras
        of 14 bits have ranges from 13,000 to 16,000 DN) is a different full well, with the same DN.
        """
        s = 2.0 ** round(log2(saturation / self.saturation))
        return replace(
            self,
            gain=self.gain * s,
            read=self.read * s,
            row=self.row * s,
            column=None if self.column is None else self.column * s,
            quantisation=self.quantisation * s,
            colour_bias=None if self.colour_bias is None else self.colour_bias * s,
            black=None if self.black is None else self.black * s,
            saturation=saturation,
        )


def select_parameters(drawn: list[NoiseParameters], pick: Int[Tensor, "b"]) -> NoiseParameters:
    """For each image i of a batch the parameters i of `drawn[pick[i]]`; all of them of the same kind."""
    first, chosen = drawn[0], {}
    image = torch.arange(len(pick))
    for f in fields(first):
        values = [getattr(one, f.name) for one in drawn]
        if f.name in ("quantisation", "column") and any(isinstance(value, Tensor) for value in values):
            values = [torch.as_tensor(0.0 if value is None else value).expand(len(pick)) for value in values]
        if isinstance(values[0], Tensor):
            chosen[f.name] = torch.stack(values)[pick, image]
    return replace(first, **chosen)

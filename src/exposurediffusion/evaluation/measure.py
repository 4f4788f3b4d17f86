"""Measuring methods on a data set: one record per image, seed and correction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from exposurediffusion.datasets.samples import Sample
from exposurediffusion.evaluation.methods import Method, Prediction
from exposurediffusion.evaluation.metrics import illuminance_correction, psnr, ssim
from exposurediffusion.evaluation.pictures import colours
from exposurediffusion.files.develop import develop, encode_srgb
from exposurediffusion.physics.sensor import Metadata

Correction = Literal["none", "final", "oracle"]
CORRECTIONS: tuple[Correction, ...] = ("none", "final", "oracle")


@dataclass(frozen=True)
class Protocol:
    """How figures are taken; the published one is a crop of 512 (SID) or the whole frame (ELD) and `oracle`.

    Attributes:
        crop: side of the centre crop in packed pixels, taken before anything is computed; None: the whole frame.
        corrections: `none`; `final`, the illuminance correction once at the end; `oracle`, after every step.
        seeds: of methods that draw.
        srgb: measure a fixed sRGB rendering, too.
    """

    crop: int | None = None
    corrections: Sequence[Correction] = CORRECTIONS
    seeds: int = 1
    srgb: bool = False

    def __post_init__(self) -> None:
        if unknown := [c for c in self.corrections if c not in CORRECTIONS]:
            raise ValueError(f"unknown correction {unknown[0]!r}: one of {', '.join(CORRECTIONS)}")
        if not self.corrections or self.seeds < 1 or (self.crop is not None and self.crop < 7):
            raise ValueError("at least one correction and one seed, and a crop of at least 7 (the window of SSIM)")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, with what is fixed beside what is chosen."""
        fixed = {"clip": "[0, 1]", "range": 255, "space": "raw, packed planes", "ssim": "7x7 uniform, per plane"}
        return {**asdict(self), "corrections": list(self.corrections), **fixed}


@dataclass(frozen=True)
class Record:
    """Figures of one estimate.

    Attributes:
        method: its name.
        file: the capture's.
        scene, ratio, iso: of the capture.
        seed: of its draws.
        correction: that was made.
        psnr: dB, infinite where the estimate equals the reference.
        ssim: 1 where it does.
        psnr_srgb, ssim_srgb: of the rendering, where it was wanted.
    """

    method: str
    file: str
    scene: str
    ratio: float
    iso: float | None
    seed: int
    correction: Correction
    psnr: float
    ssim: float
    psnr_srgb: float | None = None
    ssim_srgb: float | None = None

    def to_row(self) -> dict[str, Any]:
        """For a CSV: what is not known is empty."""
        return {name: "" if value is None else value for name, value in asdict(self).items()}

    @staticmethod
    def from_row(row: dict[str, str]) -> Record:
        """Inverse of `to_row`, of text; the column `method` was once called `contender`.

        Raises:
            ValueError: a column is missing or no number.
        """
        kinds: dict[str, Callable[[str], Any]] = {"seed": int, "ratio": float, "psnr": float, "ssim": float}
        values: dict[str, Any] = {}
        row = {"method" if name == "contender" else name: value for name, value in row.items()}
        try:
            for name in (f.name for f in fields(Record)):
                if name in ("iso", "psnr_srgb", "ssim_srgb"):
                    values[name] = float(row[name]) if row[name] else None
                else:
                    values[name] = kinds.get(name, str)(row[name])
        except (KeyError, TypeError) as error:
            raise ValueError(f"no column {error}") from error
        return Record(**values)


def measure(
    method: Method,
    sample: Sample,
    protocol: Protocol,
    file: str = "",
    show: Callable[[Prediction, Tensor], None] | None = None,
) -> Iterator[Record]:
    """Records of a sample (cropped already), for every seed and correction.

    Args:
        method: what is measured.
        sample: with its capture.
        protocol: how.
        file: name of the capture.
        show: is given the prediction of the first seed, and its estimate after the correction `final`.
    """
    target = sample.clean.clamp(0, 1)[None]
    for seed in range(protocol.seeds if method.random else 1):
        prediction = method(sample, seed)
        plain = prediction.estimate[None].clamp(0, 1)
        final = illuminance_correction(plain, target)
        if show is not None and seed == 0:
            show(prediction, final[0])
        for correction in protocol.corrections:
            estimate = {"none": plain, "final": final}.get(correction)
            if estimate is None:
                estimate = _oracle(method, sample, seed, target) if method.iterates else final
            figures = psnr(estimate[0], target[0]), ssim(estimate[0], target[0])
            rendered = _in_srgb(estimate[0], target[0], sample.metadata) if protocol.srgb else (None, None)
            facts = method.name, file, sample.name, float(sample.ratio or 1), sample.iso, seed, correction
            yield Record(*facts, *figures, *rendered)


def _oracle(method: Method, sample: Sample, seed: int, target: Tensor) -> Tensor:
    """The published protocol: every step sees the reference's brightness."""
    prediction = method(sample, seed, lambda estimate: illuminance_correction(estimate, target.to(estimate.device)))
    return prediction.estimate[None].clamp(0, 1)


def _in_srgb(estimate: Tensor, target: Tensor, metadata: Metadata | None) -> tuple[float, float]:
    return _figures(*(rendering(planes, metadata) for planes in (estimate, target)))


def _figures(estimate: Tensor, target: Tensor) -> tuple[float, float]:
    return psnr(estimate, target), ssim(estimate, target)


def rendering(planes: Float[Tensor, "c h w"], metadata: Metadata | None) -> Float[Tensor, "3 h w"]:
    """The fixed rendering in which sRGB figures are taken, 0 to 1.

    The mean of each colour in each cell (no demosaicing), white balance as shot and the colour matrix of the
    reference's file, highlights clipped, sRGB's transfer curve; brightness as the reference has it.
    """
    rgb = colours(planes).permute(1, 2, 0).numpy()
    return torch.from_numpy(encode_srgb(develop(rgb, metadata or Metadata()))).permute(2, 0, 1).float()


def cropped(sample: Sample, side: int | None) -> Sample:
    """The centre `side` x `side` of a sample, packed pixels; all of it if None, or along an axis that is shorter."""
    if side is None:
        return sample
    height, width = sample.clean.shape[-2:]
    top, left = max(0, (height - side) // 2), max(0, (width - side) // 2)
    window = (slice(None), slice(top, top + side), slice(left, left + side))
    capture = None if sample.capture is None else sample.capture[window]
    return replace(sample, clean=sample.clean[window], capture=capture)

"""Measuring contenders on a data set: one record an image, seed and correction; then means and spreads."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from math import inf, isinf, sqrt
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from exposurediffusion.data.datasets import Sample
from exposurediffusion.data.develop import develop, encode_srgb
from exposurediffusion.learn.contenders import Answer, Contender
from exposurediffusion.learn.evaluation import illuminance_correction, psnr, ssim
from exposurediffusion.learn.pictures import colours
from exposurediffusion.physics.sensor import Metadata

Correction = Literal["none", "final", "oracle"]
CORRECTIONS: tuple[Correction, ...] = ("none", "final", "oracle")
_NOMINAL = (1, 10, 100, 200, 250, 300)
_NEAR = 0.05  # EXIF rounds its times


@dataclass(frozen=True)
class Protocol:
    """How figures are taken; the published one is a crop of 512 (SID) or the whole frame (ELD) and `oracle`.

    Attributes:
        crop: side of the centre crop in packed pixels, taken before anything is computed; None: the whole frame.
        corrections: `none`; `final`, the illuminance correction once at the end; `oracle`, after every step.
        seeds: of contenders that draw.
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
        contender: its name.
        file: the capture's.
        scene, ratio, iso: of the capture.
        seed: of its draws.
        correction: that was made.
        psnr: dB, infinite where the estimate equals the reference.
        ssim: 1 where it does.
        psnr_srgb, ssim_srgb: of the rendering, where it was wanted.
    """

    contender: str
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
        """Inverse of `to_row`, of text.

        Raises:
            ValueError: a column is missing or no number.
        """
        kinds: dict[str, Callable[[str], Any]] = {"seed": int, "ratio": float, "psnr": float, "ssim": float}
        values: dict[str, Any] = {}
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
    contender: Contender,
    sample: Sample,
    protocol: Protocol,
    file: str = "",
    show: Callable[[Answer, Tensor], None] | None = None,
) -> Iterator[Record]:
    """Records of a sample (cropped already), for every seed and correction.

    Args:
        contender: what is measured.
        sample: with its capture.
        protocol: how.
        file: name of the capture.
        show: is given the answer of the first seed, and its estimate after the correction `final`.
    """
    target = sample.clean.clamp(0, 1)[None]
    for seed in range(protocol.seeds if contender.random else 1):
        answer = contender(sample, seed)
        plain = answer.estimate[None].clamp(0, 1)
        final = illuminance_correction(plain, target)
        if show is not None and seed == 0:
            show(answer, final[0])
        for correction in protocol.corrections:
            estimate = {"none": plain, "final": final}.get(correction)
            if estimate is None:
                estimate = _oracle(contender, sample, seed, target) if contender.iterates else final
            figures = psnr(estimate[0], target[0]), ssim(estimate[0], target[0])
            rendered = _in_srgb(estimate[0], target[0], sample.metadata) if protocol.srgb else (None, None)
            facts = contender.name, file, sample.name, float(sample.ratio or 1), sample.iso, seed, correction
            yield Record(*facts, *figures, *rendered)


def _oracle(contender: Contender, sample: Sample, seed: int, target: Tensor) -> Tensor:
    """The published protocol: every step sees the reference's brightness."""
    answer = contender(sample, seed, lambda estimate: illuminance_correction(estimate, target.to(estimate.device)))
    return answer.estimate[None].clamp(0, 1)


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


def nominal(ratio: float) -> int:
    """The ratio that a table's column bears: a published one within 5 %, else the nearest whole number."""
    near = [n for n in _NOMINAL if abs(ratio / n - 1) < _NEAR]
    return min(near, key=lambda n: abs(ratio / n - 1)) if near else round(ratio)


@dataclass(frozen=True)
class Figure:
    """A cell of a table.

    Attributes:
        psnr, ssim: means over images, then over seeds.
        spread: standard deviation of the mean PSNR over seeds; None: one seed.
        images: how many.
        psnr_srgb, ssim_srgb: of the rendering, where there is one.
        seeds: how many.
    """

    psnr: float
    ssim: float
    spread: float | None = None
    images: int = 0
    psnr_srgb: float | None = None
    ssim_srgb: float | None = None
    seeds: int = 1

    def __str__(self) -> str:
        spread = "" if self.spread is None else f" ±{self.spread:.2f}"
        return f"{self.psnr:.2f}{spread} / {self.ssim:.3f}"


Key = tuple[str, int, Correction]
"""Contender, nominal ratio, correction."""


def summarise(records: Iterable[Record]) -> dict[Key, Figure]:
    """PSNR per image, then the mean; several seeds: the mean of their means, and its spread."""
    groups: dict[Key, dict[int, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        groups[record.contender, nominal(record.ratio), record.correction][record.seed].append(record)
    return {key: _figure(list(seeds.values())) for key, seeds in groups.items()}


def _figure(seeds: list[list[Record]]) -> Figure:
    means = [mean([record.psnr for record in records]) for records in seeds]
    every = [record for records in seeds for record in records]
    rendered = [record for record in every if record.psnr_srgb is not None and record.ssim_srgb is not None]
    srgb = None, None
    if rendered:
        srgb = mean([r.psnr_srgb or 0.0 for r in rendered]), mean([r.ssim_srgb or 0.0 for r in rendered])
    return Figure(mean(means), mean([r.ssim for r in every]), deviation(means), len(seeds[0]), *srgb, len(seeds))


def mean(values: Sequence[float]) -> float:
    """The mean; infinite where a value is."""
    return inf if any(map(isinf, values)) else sum(values) / len(values)


def deviation(values: Sequence[float]) -> float | None:
    """Standard deviation of a sample of at least two finite values, else None."""
    if len(values) < 2 or any(map(isinf, values)):
        return None
    centre = mean(values)
    return sqrt(sum((value - centre) ** 2 for value in values) / (len(values) - 1))

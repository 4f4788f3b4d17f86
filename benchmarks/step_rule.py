"""How many exposures are worth their time: figures of every T, and the cheapest rule that loses next to nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise

import numpy as np
import torch
from captures import SimulatedCapture
from numpy.lib.stride_tricks import sliding_window_view

from exposurediffusion.evaluation.metrics import illuminance_correction, psnr
from exposurediffusion.physics.noise import noise_level
from exposurediffusion.process.sampling import StepRule
from exposurediffusion.weights.file import TrainedDenoiser

REFERENCE = 2
"""The fixed T that a rule is compared with: that of the published tables."""
TOLERANCE = 0.01
"""Average loss against it that a rule may have where it is fitted, dB."""
BINS = 12
WINDOW = 3
"""Bins that are evaluated together: one has too few captures."""


@dataclass(frozen=True)
class StepFigures:
    """PSNR of captures by number of steps.

    Attributes:
        levels: noise level of each capture, (n).
        psnr: dB, (n, len(steps)).
        steps: the T of each column, `REFERENCE` among them.
    """

    levels: np.ndarray
    psnr: np.ndarray
    steps: tuple[int, ...] = (0, 1, 2)

    def __post_init__(self) -> None:
        if self.psnr.shape != (len(self.levels), len(self.steps)):
            raise ValueError(f"{len(self.levels)} captures at {len(self.steps)} T need as many PSNRs in each row")
        if REFERENCE not in self.steps:
            raise ValueError(f"the figures of T = {REFERENCE}, which others are compared with, are missing")

    def loss(self, steps: int | StepRule) -> np.ndarray:
        """What a fixed T, or a rule, loses against T = 2 on each capture, dB; negative: it gains."""
        chosen = self.chosen(steps)
        if missing := set(chosen) - set(self.steps):
            raise ValueError(f"T = {min(missing)} was not measured, only {', '.join(map(str, self.steps))}")
        columns = [self.steps.index(count) for count in chosen]
        return self.psnr[:, self.steps.index(REFERENCE)] - self.psnr[np.arange(len(self.psnr)), columns]

    def chosen(self, steps: int | StepRule) -> list[int]:
        """T of each capture."""
        return [steps.steps(level) if isinstance(steps, StepRule) else steps for level in self.levels.tolist()]

    def pick(self, which: Sequence[int] | np.ndarray) -> StepFigures:
        """Some of the captures."""
        return replace(self, levels=self.levels[which], psnr=self.psnr[which])

    def bins(self, count: int = BINS) -> list[StepFigures]:
        """The captures by noise level, in equal numbers."""
        return [self.pick(part) for part in np.array_split(np.argsort(self.levels, kind="stable"), count) if len(part)]


def measure_steps(
    model: TrainedDenoiser, case: SimulatedCapture, steps: Sequence[int] = (0, 1, 2)
) -> tuple[float, list[float]]:
    """Noise level of a capture, and PSNR (dB, raw space, correction `final`) at each T, by the model's own sampling.

    The model is on the CPU, as `load` gives it.
    """
    level = float(noise_level(case.capture, torch.tensor([case.ratio]), case.noise))
    denoise, values = case.denoiser(model), []
    for count in steps:
        estimate = case.expose(denoise, replace(model.card.sampling, steps=count))
        values.append(psnr(illuminance_correction(estimate, case.clean)[0], case.clean[0]))
    return level, values


def fit_rule(figures: StepFigures, tolerance: float = TOLERANCE, changes: int = 3, bins: int = BINS) -> StepRule:
    """The cheapest rule that loses at most `tolerance` against T = 2 at any noise level.

    The captures are cut into bins of noise level. In every `WINDOW` neighbouring bins of one T the mean of the losses
    may not exceed the tolerance, and a bin that gains counts as one that loses nothing: a rule may not pay for a loss
    at one noise level with a gain at another, so that the promise holds whatever noise a user's captures have. A T
    holds for two bins at least, or one odd bin would have its own.

    Args:
        figures: of validation captures.
        tolerance: dB.
        changes: of T, at most.
        bins: of noise level, equally filled.

    Raises:
        ValueError: fewer captures than bins.
    """
    parts = figures.bins(bins)
    if len(parts) < bins:
        raise ValueError(f"{len(figures.levels)} captures are too few for {bins} bins of noise level")
    losses = np.array([[part.loss(count).mean() for count in figures.steps] for part in parts])
    best: tuple[float, int, float] | None = None
    rule = StepRule(counts=(REFERENCE,))
    for number in range(changes + 1):
        for cuts in combinations(range(1, bins), number):
            spans = list(pairwise((0, *cuts, bins)))
            if any(b - a < 2 for a, b in spans):
                continue
            counts = [_cheapest(losses[a:b], figures.steps, tolerance) for a, b in spans]
            chosen = [count for (a, b), count in zip(spans, counts, strict=True) for _ in range(a, b)]
            lost = sum(row[figures.steps.index(count)] for row, count in zip(losses, chosen, strict=True))
            cost = float(sum(chosen)), number, float(lost)
            if best is None or cost < best:
                best, rule = cost, _rule(parts, cuts, counts)
    return rule


def _cheapest(losses: np.ndarray, steps: tuple[int, ...], tolerance: float) -> int:
    """The smallest T whose losses, gains not counted, average to no more than the tolerance in each window of bins.

    Args:
        losses: of each T against T = 2, (bins, len(steps)).
        steps: T of each column.
        tolerance: dB.
    """
    windows = sliding_window_view(np.maximum(losses, 0), min(WINDOW, len(losses)), axis=0)
    worst = windows.mean(axis=-1).max(axis=0)
    return min(count for count, loss in zip(steps, worst, strict=True) if loss <= tolerance or count == REFERENCE)


def _rule(parts: list[StepFigures], cuts: tuple[int, ...], counts: list[int]) -> StepRule:
    """T changes half-way (of the logarithm) between the last capture of a bin and the first of the next."""
    levels, kept = [], [counts[0]]
    for cut, count in zip(cuts, counts[1:], strict=True):
        if count != kept[-1]:
            edge = (parts[cut - 1].levels.max() * parts[cut].levels.min()) ** 0.5
            levels.append(float(f"{edge:.3g}"))
            kept.append(count)
    return StepRule(tuple(levels), tuple(kept))


@dataclass(frozen=True)
class RuleRow:
    """What a rule does on some captures.

    Attributes:
        levels: least and largest noise level.
        captures: their number.
        loss: mean loss against T = 2 of the rule, dB, and its standard error.
        evaluations: mean number of network evaluations; T = 2 takes three.
        fixed: mean loss of each fixed T.
    """

    levels: tuple[float, float]
    captures: int
    loss: float
    error: float
    evaluations: float
    fixed: dict[int, float]


def evaluate_rule(rule: StepRule, figures: StepFigures, bins: int = BINS) -> tuple[RuleRow, list[RuleRow]]:
    """What a rule does on captures that it was not fitted on: on all of them, and by noise level."""
    return _row(rule, figures), [_row(rule, part) for part in figures.bins(bins)]


def _row(rule: StepRule, figures: StepFigures) -> RuleRow:
    loss = figures.loss(rule)
    return RuleRow(
        levels=(float(figures.levels.min()), float(figures.levels.max())),
        captures=len(loss),
        loss=float(loss.mean()),
        error=float(loss.std() / len(loss) ** 0.5),
        evaluations=1 + float(np.mean(figures.chosen(rule))),
        fixed={count: float(figures.loss(count).mean()) for count in figures.steps},
    )

"""The curve behind `--steps auto`: what each number of steps loses, and what the rule makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from exposurediffusion.apps.plotting import COLOURS, GREY, canvas, legend_below, look
from exposurediffusion.learn.steps import REFERENCE, RuleRow
from exposurediffusion.process.steps import StepRule

_TICKS = (-1, -0.5, -0.2, -0.1, -0.05, 0, 0.05, 0.1, 0.2, 0.5, 1)  # dB
_LINEAR = 0.1  # dB: beyond it the axis is logarithmic, or the gains at little noise would flatten all else


def plot_steps(path: Path, rule: StepRule, rows: Sequence[RuleRow]) -> None:
    """Loss against T = 2 and network evaluations, of each fixed T and of the rule, against the noise level.

    Args:
        path: of the PNG file.
        rule: in question.
        rows: of `judge_rule`, by noise level.

    Raises:
        ValueError: matplotlib is not installed.
    """
    centres = [(row.levels[0] * row.levels[1]) ** 0.5 for row in rows]
    ends = rows[0].levels[0], rows[-1].levels[1]
    style = {"color": COLOURS[-1], "linewidth": 3.5, "alpha": 0.5, "zorder": 1}
    with canvas(path, 2, (10, 4.2)) as (left, right):
        for index, count in enumerate(rows[0].fixed):
            left.plot(centres, [row.fixed[count] for row in rows], label=f"T = {count}", **look(index))
            right.plot(ends, [count + 1] * 2, color=COLOURS[index])
        errors = [2 * row.error for row in rows]
        left.errorbar(centres, [row.loss for row in rows], errors, label="rule, 2 standard errors", **style)
        levels = np.geomspace(*ends, 500)
        right.plot(levels, [rule.steps(level) + 1 for level in levels.tolist()], **style)
        for panel in (left, right):
            panel.set(xscale="log", xlabel="noise level of the capture, rms, 1 = white")
            for level in rule.levels:
                panel.axvline(level, color=GREY, linestyle=":", linewidth=1)
        low = min(min(row.fixed.values()) for row in rows)
        high = max(max(row.fixed.values()) for row in rows)
        left.set_yscale("symlog", linthresh=_LINEAR)
        left.set_yticks(_TICKS, [f"{tick:+g}" if tick else "0" for tick in _TICKS], minor=False)
        left.set_ylim(1.3 * min(low, -_LINEAR / 2), 1.3 * max(high, _LINEAR / 2))
        left.set(ylabel=f"loss against T = {REFERENCE}, dB (below 0: a gain)")
        right.set_yticks([count + 1 for count in rows[0].fixed])
        right.set(ylabel="network evaluations", ylim=(0, max(rows[0].fixed) + 1.5))
        legend_below([left], 5)

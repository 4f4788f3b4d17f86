"""Offsets of whole rows and columns are taken out of a capture before it is exposed on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from exposurediffusion.analysis.banding import LineFilter, line_planes, strip_means
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.physics.parameters import NoiseParameters


@dataclass(frozen=True)
class Levelled:
    """A capture without the offsets of its lines.

    Attributes:
        capture: at reference brightness.
        rows, columns: what was subtracted from each sensor row and column, at reference brightness; None: nothing.
        estimate: from the capture as it is now, where it is known already (nothing was subtracted), else None.
    """

    capture: Float[Tensor, "1 c h w"]
    rows: np.ndarray | None = None
    columns: np.ndarray | None = None
    estimate: Float[Tensor, "1 c h w"] | None = None


def level_lines(
    evaluate: Callable[[Tensor], Tensor],
    capture: Float[Tensor, "1 c h w"],
    cfa: CFA,
    shape: tuple[int, int],
    noise: NoiseParameters,
    ratio: float,
) -> Levelled:
    """Find the offsets of rows and columns by what a denoiser leaves of them, and subtract those that are plain.

    A network takes a part of each offset for the scene. How large a part shows in the second evaluation: by so much
    less than was subtracted the residual has shrunk (the secant method).

    Args:
        evaluate: a denoiser's estimate from a capture, at exposure 1.
        capture: at reference brightness; not changed in place.
        cfa, shape: of the frame, in sites.
        noise: of the capture.
        ratio: amplification.

    Returns:
        The capture as it came, with its estimate, if no lines are plainly off; that costs no evaluation of its own.
        Else what is to be exposed, after two evaluations.
    """

    def rest(lines: LineFilter, axis: int, probe: Tensor, estimate: Tensor) -> np.ndarray:
        return lines.spectrum(*strip_means(probe[0], estimate[0], cfa, noise, ratio, axis))

    def without(offsets: dict[int, np.ndarray]) -> Tensor:
        return capture - sum(line_planes(values, cfa, shape, axis) for axis, values in offsets.items())

    def of_frame(axis: int, values: np.ndarray) -> np.ndarray:
        return values[cfa.origin[axis] :][: shape[axis]]

    estimate = evaluate(capture)
    means = {axis: strip_means(capture[0], estimate[0], cfa, noise, ratio, axis) for axis in (0, 1)}
    plain = {axis: lines for axis in means if (lines := LineFilter.of(*means[axis], cfa.stride)) is not None}
    if not plain:
        return Levelled(capture, estimate=estimate)
    first = {axis: lines.spectrum(*means[axis]) for axis, lines in plain.items()}
    probe = without({axis: of_frame(axis, lines.offsets(first[axis])) for axis, lines in plain.items()})
    estimate = evaluate(probe)
    offsets = {
        axis: of_frame(axis, lines.offsets(first[axis], rest(lines, axis, probe, estimate)))
        for axis, lines in plain.items()
    }
    return Levelled(without(offsets), offsets.get(0), offsets.get(1))

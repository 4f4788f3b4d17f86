from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from exposurediffusion.analysis.banding import line_planes
from exposurediffusion.physics.mosaic import CFA, pack, unpack
from exposurediffusion.physics.noise import simulate_capture
from exposurediffusion.physics.parameters import NoiseParameters
from exposurediffusion.process.lines import level_lines

RATIO, SATURATION, SHAPE = 30.0, 15871.0, (384, 480)
UNIT = RATIO / SATURATION
NOISE = NoiseParameters.gaussian(2.0, 6.0, SATURATION)
"""3 DN of a row are a quarter of a site's noise."""


def picture(cfa: CFA, structure: str = "") -> torch.Tensor:
    """A scene at reference brightness: soft shading, and text, a horizon or blinds over the whole width."""
    y, x = torch.meshgrid(torch.arange(SHAPE[0]), torch.arange(SHAPE[1]), indexing="ij")
    light = 0.1 + 0.04 * torch.sin(x / 60) * torch.cos(y / 80)
    if structure == "text":
        light = light + 0.1 * ((y % 24 < 10) & (y % 4 < 2) & ((x // 14) % 3 > 0) & (x % 14 < 9))
    elif structure == "horizon":
        light = torch.where(y > 170, 0.4 * light, light)
    elif structure == "blinds":
        light = light + 0.06 * (y % 20 < 12)
    return pack(light, cfa)[None].contiguous()


def captured(clean: torch.Tensor, cfa: CFA, deviation: float, axis: int = 0) -> tuple[torch.Tensor, np.ndarray]:
    generator = torch.Generator().manual_seed(3)
    capture = simulate_capture(clean, torch.tensor([RATIO]), NOISE, generator)
    offsets = deviation * UNIT * np.random.default_rng(4).standard_normal(SHAPE[axis])
    return capture + line_planes(offsets, cfa, SHAPE, axis), offsets


class Leaking:
    """The truth, with a part of whatever noise neighbours in the same line share: what networks do with offsets."""

    def __init__(self, clean: torch.Tensor, leak: float = 0.4, axis: int = 0) -> None:
        self.clean, self.leak, self.calls = clean, leak, 0
        self.kernel = (1, 31) if axis == 0 else (31, 1)

    def __call__(self, capture: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        padding = (self.kernel[0] // 2, self.kernel[1] // 2)
        local = F.avg_pool2d(capture - self.clean, self.kernel, 1, padding, count_include_pad=False)
        return self.clean + self.leak * local


def share_left(image: torch.Tensor, clean: torch.Tensor, offsets: np.ndarray, cfa: CFA, axis: int) -> float:
    """Of the offsets, in an image."""
    lines = unpack(image - clean, cfa, SHAPE)[0].mean(1 - axis).numpy()
    return float(np.polyfit(offsets, lines, 1)[0])


@pytest.mark.parametrize("cfa", [CFA("RGGB"), CFA("GRBG"), CFA("XTRANS"), CFA("XTRANS", (1, 3))], ids=str)
@pytest.mark.parametrize("axis", [0, 1])
def test_offsets_of_lines_are_subtracted(cfa, axis):
    clean = picture(cfa)
    capture, offsets = captured(clean, cfa, 3.0, axis)
    before = capture.clone()
    evaluate = Leaking(clean, axis=axis)
    done = level_lines(evaluate, capture, cfa, SHAPE, NOISE, RATIO)
    assert evaluate.calls == 2
    found, other = (done.rows, done.columns) if axis == 0 else (done.columns, done.rows)
    assert found is not None and other is None and done.estimate is None  # noqa: PT018
    assert torch.equal(capture, before)
    torch.testing.assert_close(done.capture, capture - line_planes(found, cfa, SHAPE, axis))
    assert abs(share_left(evaluate(done.capture), clean, offsets, cfa, axis)) < 0.1
    assert share_left(evaluate(capture), clean, offsets, cfa, axis) > 0.3  # the twin
    wrong = level_lines(lambda x: x, capture, cfa, SHAPE, NOISE, RATIO)  # a denoiser that keeps all shows none
    assert wrong.rows is wrong.columns is None


def test_rows_and_columns_at_once():
    cfa, clean = CFA("RGGB"), picture(CFA("RGGB"))
    capture, rows = captured(clean, cfa, 3.0)
    columns = 3 * UNIT * np.random.default_rng(9).standard_normal(SHAPE[1])
    done = level_lines(Leaking(clean, 0.0), capture + line_planes(columns, cfa, SHAPE, 1), cfa, SHAPE, NOISE, RATIO)
    assert abs(share_left(done.capture, clean, rows, cfa, 0)) < 0.2
    assert abs(share_left(done.capture, clean, columns, cfa, 1)) < 0.2


@pytest.mark.parametrize("structure", ["", "text", "horizon", "blinds"])
def test_a_frame_without_offsets_is_left_alone_for_one_evaluation(structure):
    cfa = CFA("RGGB")
    clean = picture(cfa, structure)
    capture, _ = captured(clean, cfa, 0.0)
    evaluate = Leaking(clean)
    done = level_lines(evaluate, capture, cfa, SHAPE, NOISE, RATIO)
    assert done.capture is capture
    assert evaluate.calls == 1
    assert done.rows is done.columns is None
    torch.testing.assert_close(done.estimate, evaluate(capture))


LOSS = 0.05


class Smoothing(Leaking):
    """Loses a part of what is fine in the scene, too: `LOSS` of every line's own brightness."""

    def __call__(self, capture: torch.Tensor) -> torch.Tensor:
        lines = self.clean.mean(-1, keepdim=True)
        lost = lines - F.avg_pool2d(lines, (9, 1), 1, (4, 0), count_include_pad=False)
        return super().__call__(capture) - LOSS * lost


@pytest.mark.parametrize("structure", ["text", "horizon", "blinds"])
@pytest.mark.parametrize("deviation", [0.0, 3.0])
def test_structure_along_lines_keeps_its_amplitude(structure, deviation):
    cfa = CFA("RGGB")
    clean, plain = picture(cfa, structure), picture(cfa)
    capture, _ = captured(clean, cfa, deviation)
    evaluate = Smoothing(clean)
    done = level_lines(evaluate, capture, cfa, SHAPE, NOISE, RATIO)
    pattern = unpack(clean - plain, cfa, SHAPE)[0].mean(1).numpy()
    pattern -= pattern.mean()

    def eaten(rows: np.ndarray) -> float:
        return float(rows @ pattern) / float(pattern @ pattern)

    chance = 3 * deviation * UNIT / float(pattern @ pattern) ** 0.5  # offsets that happen to look like the pattern
    assert abs(eaten(np.zeros(SHAPE[0]) if done.rows is None else done.rows)) < LOSS / (1 - evaluate.leak) + chance
    naive = unpack(capture - plain, cfa, SHAPE)[0].mean(1).numpy()
    assert abs(eaten(naive)) > 0.8  # the twin: means of the capture itself

from __future__ import annotations

import numpy as np
import pytest
import torch

from exposurediffusion.analysis.banding import STRIPS, LineFilter, line_planes, masked_row_offsets, strip_means
from exposurediffusion.physics.mosaic import CFA, unpack
from exposurediffusion.physics.parameters import NoiseParameters
from exposurediffusion.physics.sensor import MaskedArea, RawFrame, Sensor

ROWS = 384


def masked_frame(row: float, *areas: tuple[int, int], height: int = ROWS, seed: int = 0):
    """Areas (left, width) with read noise of 6 DN, one site in 200 hot; and the offsets of the rows."""
    rng = np.random.default_rng(seed)
    offsets = row * rng.standard_normal(ROWS)
    pieces = []
    for left, width in areas:
        values = 20 + offsets[:height, None] + 6 * rng.standard_normal((height, width))
        values[rng.random(values.shape) < 0.005] += 1000
        pieces.append(MaskedArea(values.astype(np.float32), 0, left))
    sensor = Sensor.uniform(CFA("RGGB"), 512, 16383)
    return RawFrame(np.full((ROWS, 512), 600, np.uint16), sensor, optical_black=tuple(pieces)), offsets


@pytest.mark.parametrize("areas", [((-70, 64),), ((-40, 32), (512, 32))])
def test_masked_columns_tell_rows(areas):
    frame, offsets = masked_frame(3.0, *areas)
    found = masked_row_offsets(frame)
    assert found is not None
    assert (found - offsets + offsets.mean()).std() < 1.2 * 6 / 64**0.5  # no more than the noise of 64 sites
    assert abs(np.polyfit(offsets, offsets - found, 1)[0]) < 0.1


@pytest.mark.parametrize(
    ("row", "areas", "height"),
    [(0.0, ((-70, 64),), ROWS), (3.0, ((10, 64),), ROWS), (3.0, ((-70, 64),), ROWS - 1), (3.0, (), ROWS)],
    ids=["no offsets", "not beside the frame", "too short", "no areas"],
)
def test_masked_columns_say_nothing(row, areas, height):
    assert masked_row_offsets(masked_frame(row, *areas, height=height)[0]) is None


@pytest.mark.parametrize("cfa", [CFA("RGGB"), CFA("GBRG"), CFA("XTRANS", (2, 5))], ids=str)
@pytest.mark.parametrize("axis", [0, 1])
def test_lines_are_those_of_the_sensor(cfa, axis):
    shape = (48, 60)
    offsets = np.arange(shape[axis], dtype=float)
    planes = line_planes(offsets, cfa, shape, axis)
    mosaic = unpack(planes, cfa, shape).numpy()
    np.testing.assert_array_equal(mosaic, np.broadcast_to(np.expand_dims(offsets, 1 - axis), shape))
    noise = NoiseParameters.gaussian(1.0, 100.0)
    means, precision = strip_means(planes, torch.zeros_like(planes), cfa, noise, 1e5, axis)
    inner = slice(cfa.origin[axis] + 6, cfa.origin[axis] + shape[axis] - 6)  # the first and last tiles are completed
    np.testing.assert_allclose(means[inner], np.tile(offsets[6:-6, None], STRIPS), rtol=1e-5)
    assert (precision > 0).all()


def strips(offsets: np.ndarray, scatter: float, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Means of strips with an error that they do not share."""
    errors = scatter * STRIPS**0.5 * np.random.default_rng(seed).standard_normal((len(offsets), STRIPS))
    return offsets[:, None] + errors, np.ones((len(offsets), STRIPS))


def test_offsets_are_told_from_chance_by_what_strips_share():
    offsets = np.random.default_rng(0).standard_normal(ROWS)
    plain = LineFilter.of(*strips(2 * offsets, 0.5), 2)
    assert plain is not None
    found = plain.offsets(plain.spectrum(*strips(2 * offsets, 0.5)))
    assert (found - 2 * offsets).std() < 0.8
    assert LineFilter.of(*strips(0.4 * offsets, 0.5), 2) is None
    assert LineFilter.of(*strips(0 * offsets, 0.5), 2) is None


def test_shading_and_blinds_are_no_offsets():
    line = np.arange(ROWS)
    offsets = np.random.default_rng(0).standard_normal(ROWS)
    scene = 3 * np.sin(2 * np.pi * line / ROWS) + 3 * np.sin(2 * np.pi * line / 16)
    plain = LineFilter.of(*strips(offsets + scene, 0.2), 2)
    assert plain is not None
    found = plain.offsets(plain.spectrum(*strips(offsets + scene, 0.2)))
    assert abs(found @ scene) / (scene @ scene) < 0.05
    assert found @ offsets / (offsets @ offsets) > 0.7


@pytest.mark.parametrize("lines", [12, ROWS])
def test_a_small_or_saturated_frame_has_no_plain_offsets(lines):
    means, precision = strips(np.random.default_rng(0).standard_normal(lines), 0.1)
    assert LineFilter.of(means, precision * (lines == 12), 2) is None

"""The numbers of `benchmarks/picture.py`, on planes whose defect is known."""

import defects
import pytest
import torch

SIDE, LEVEL, GRAIN = 64, 0.06, 1e-3
ALTERNATING = (-1.0) ** torch.arange(SIDE)
MESHES = {
    "rows": ALTERNATING[:, None].expand(SIDE, SIDE),
    "columns": ALTERNATING[None].expand(SIDE, SIDE),
    "both": ALTERNATING[:, None] * ALTERNATING[None],
}


def grey(generator: torch.Generator, side: int = SIDE) -> torch.Tensor:
    """An even field with white grain."""
    return LEVEL + GRAIN * torch.randn((side, side), generator=generator)


@pytest.mark.parametrize("pattern", MESHES.values(), ids=MESHES)
def test_a_mesh_has_its_power(generator, pattern):
    amplitude = 5e-4
    # A cosine at Nyquist of amplitude a adds (a N)^2 to a power of N s^2 |z|^2, whose median is N s^2 ln 2.
    expected = amplitude**2 * SIDE**2 / (GRAIN**2 * torch.log(torch.tensor(2.0)))
    field = grey(generator)
    assert defects.mesh(field + amplitude * pattern) == pytest.approx(float(expected), rel=0.25)
    assert defects.mesh(field + 0.7 * amplitude * pattern) != pytest.approx(float(expected), rel=0.25)  # mutant


def test_grain_and_waves_below_nyquist_are_no_mesh(generator):
    wave = torch.cos(2 * torch.pi * 0.375 * torch.arange(SIDE))[:, None]
    assert defects.mesh(grey(generator)) < 10  # the largest of three, each exponential of mean 1.4: 10 in one of 400
    assert defects.mesh(grey(generator) + 5e-4 * wave) < 10


def test_streaks_are_the_rows_without_their_slow_part():
    rows = 0.003 * ALTERNATING[:, None].expand(SIDE, 16)
    gradient = LEVEL * torch.linspace(0.99, 1.01, SIDE)[:, None]  # light, not streaks
    assert defects.streaks(gradient + rows, LEVEL) == pytest.approx(0.003 * 16 / 17 / LEVEL, rel=0.03)
    assert defects.streaks(gradient.expand(SIDE, 16), LEVEL) < 1e-3
    columns = rows.T.contiguous()
    assert defects.streaks(LEVEL + columns, LEVEL) < 1e-6


def test_blotches_are_blocks_and_neither_grain_nor_level(generator):
    signs = 1 - 2 * (torch.arange(16).reshape(4, 4) % 2)
    blocks = 0.004 * signs.repeat_interleave(16, 0).repeat_interleave(16, 1)
    assert defects.blotches(2 * LEVEL + blocks, LEVEL) == pytest.approx(0.004 / LEVEL)
    assert defects.blotches(grey(generator), LEVEL) == pytest.approx(GRAIN / 16 / LEVEL, rel=0.6)
    fine = 0.004 * MESHES["both"]
    assert defects.blotches(LEVEL + fine, LEVEL) < 1e-5


def test_an_error_is_low_frequency_where_it_keeps_its_sign_over_a_block():
    truth = torch.rand((4, 32, 32), generator=torch.Generator().manual_seed(1))
    assert defects.block_error(truth + 0.01, truth) == pytest.approx(0.01, rel=1e-4)
    assert defects.block_error(truth + 0.01 * MESHES["both"][:32, :32], truth) < 1e-6


def test_tones_share_the_sites_out_and_know_their_errors():
    truth = torch.tensor([0.0, 0.1, 0.3, 0.7, 0.95, 1.0]).reshape(1, 2, 3)
    estimate = truth + torch.tensor([0.01, 0.03, 0.0, 0.02, -0.04, -0.06]).reshape(1, 2, 3)
    tones = defects.tone_errors(estimate, truth)
    assert [tone.count for tone in tones] == [2, 1, 1, 2]
    assert [tone.bias for tone in tones] == pytest.approx([0.02, 0.0, 0.02, -0.05], abs=1e-7)
    assert tones[-1].rms == pytest.approx((0.5 * (0.04**2 + 0.06**2)) ** 0.5, rel=1e-5)
    both = tones[0] + tones[-1]
    assert (both.count, both.bias) == (4, pytest.approx(-0.015))


@pytest.mark.parametrize(
    ("estimate", "electrons", "deviation", "kept", "contradicts"),
    [
        (0.096, 5000.0, 0.0001, True, False),  # 4 % off, which is allowed though the light knows better
        (0.094, 5000.0, 0.0001, False, True),  # 6 % off
        (0.094, 5000.0, 0.0030, False, False),  # ... where the capture itself leaves it open
        (0.094, 900.0, 0.0030, True, False),  # too few electrons: three deviations are allowed
        (0.090, 900.0, 0.0030, False, True),
    ],
)
def test_a_patch_is_kept_as_far_as_its_light_goes(estimate, electrons, deviation, kept, contradicts):
    plane = defects.PatchPlane(0.1, estimate, 0.1, electrons, deviation)
    assert plane.ratio == pytest.approx(10 * estimate)
    assert plane.kept(estimate) == kept
    assert plane.contradicts_light() == contradicts


def test_a_cast_is_told_by_the_slope_of_the_errors():
    black = [-0.02, -0.01, 0.01, 0.02]
    slope, rms = defects.slope_and_rms(black, [0.4 * value + 0.005 for value in black])
    assert slope == pytest.approx(0.4)
    assert rms == pytest.approx((0.4**2 * 0.00025 + 0.005**2) ** 0.5)
    assert defects.slope_and_rms(black, [0.005] * 4)[0] == pytest.approx(0.0, abs=1e-12)

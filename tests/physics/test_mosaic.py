"""Packing: golden figures, the inverse for every array and size, and crops and flips that keep the colours right."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from exposurediffusion.physics.mosaic import (
    BAYER_COLOURS,
    CFA,
    PHASES,
    TABLE,
    mosaic_from_rgb,
    pack,
    pack_unmoved,
    packed_shape,
    pad_planes,
    unpack,
)
from exposurediffusion.physics.sensor import Sensor
from tests.golden.weights import golden

GOLDEN = golden()
BAYER = ("RGGB", "BGGR", "GRBG", "GBRG")
bayers = st.sampled_from([CFA(name) for name in BAYER])
xtrans = st.builds(lambda row, column: CFA("XTRANS", (row, column)), st.integers(0, 5), st.integers(0, 5))
arrays = st.one_of(bayers, xtrans)
sides = st.integers(6, 23)
shifts = st.integers(0, 7)


def numbered(rows: int, columns: int) -> Tensor:
    """A mosaic whose every site has a number of its own."""
    return torch.arange(rows * columns, dtype=torch.int64).reshape(rows, columns)


def coloured(rows: int, columns: int, cfa: CFA) -> Tensor:
    """A mosaic that holds the code of each site's colour, written from the array's letters alone."""
    letters = np.array([ord(letter) for letter in cfa.pattern()]).reshape(cfa.period, cfa.period)
    repeats = (-(-rows // cfa.period), -(-columns // cfa.period))
    return torch.as_tensor(np.tile(letters, repeats)[:rows, :columns].copy())


def has_the_colours_of(mosaic: Tensor, cfa: CFA) -> bool:
    rows, columns = mosaic.shape
    return torch.equal(mosaic, coloured(rows, columns, cfa))


@pytest.mark.parametrize("name", BAYER)
def test_golden_bayer_packing(name: str) -> None:
    """The published code's: R, G1, B, G2 of each cell; the black level belongs to LibRaw's colour index of a site."""
    indices = GOLDEN[f"pack.{name}.libraw_pattern"]
    cfa = CFA.from_pattern([BAYER_COLOURS[index] for index in indices.ravel()])
    assert cfa == CFA(name)
    sensor = Sensor(cfa, tuple(512.0 + index for index in indices.ravel()), 16383)
    planes = pack_unmoved(sensor.normalise(GOLDEN[f"pack.{name}.raw"]), cfa).clamp(0, 1)
    np.testing.assert_allclose(planes.numpy(), GOLDEN[f"pack.{name}.packed"], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(cfa.site_planes(), indices)


def test_golden_xtrans_packing() -> None:
    sensor = Sensor.uniform(CFA("XTRANS"), 1024, 16383)
    planes = pack(sensor.normalise(GOLDEN["pack.XTRANS.raw"]), sensor.cfa).clamp(0, 1)
    np.testing.assert_allclose(planes.numpy(), GOLDEN["pack.XTRANS.packed"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", TABLE)
def test_table_visits_every_site_of_the_tile_once(name: str) -> None:
    cfa = CFA(name)
    sites = {tuple(site) for site in cfa.table.reshape(-1, 2).tolist()}
    assert len(sites) == cfa.period**2 == cfa.table.size // 2


@given(cfa=arrays, rows=sides, columns=sides)
def test_unpack_is_the_inverse_of_pack(cfa: CFA, rows: int, columns: int) -> None:
    mosaic = numbered(rows, columns)
    planes = pack(mosaic, cfa)
    assert tuple(planes.shape) == (cfa.planes, *packed_shape((rows, columns), cfa))
    assert torch.equal(unpack(planes, cfa, (rows, columns)), mosaic)


@given(cfa=bayers, rows=st.integers(2, 9), columns=st.integers(2, 9))
def test_small_and_odd_bayer_frames(cfa: CFA, rows: int, columns: int) -> None:
    mosaic = numbered(rows, columns).expand(2, 1, rows, columns)
    assert torch.equal(unpack(pack(mosaic, cfa), cfa, (rows, columns)), mosaic)


@given(cfa=arrays, rows=sides, columns=sides)
def test_each_plane_holds_one_colour_completion_included(cfa: CFA, rows: int, columns: int) -> None:
    planes = pack(coloured(rows, columns, cfa), cfa)
    for letter, plane in zip(cfa.colours, planes, strict=True):
        assert (plane == ord(letter)).all()


def whole_tiles(origin: int, length: int, cfa: CFA) -> slice:
    """The packed rows or columns of a frame's own sites alone, from where it begins in the tile and how long it is."""
    k = cfa.period // cfa.stride
    return slice(-(-origin // cfa.period) * k, (origin + length) // cfa.period * k)


@given(cfa=bayers, top=shifts, left=shifts, rows=sides, columns=sides)
def test_the_planes_of_a_crop_are_a_part_of_the_planes(cfa: CFA, top: int, left: int, rows: int, columns: int) -> None:
    mosaic = numbered(32, 32)
    crop, array = mosaic[top : top + rows, left : left + columns], cfa.shifted(top, left)
    own, there = (
        tuple(whole_tiles(start, length, cfa) for start, length in zip(starts, (rows, columns), strict=True))
        for starts in (array.origin, (cfa.origin[0] + top, cfa.origin[1] + left))
    )
    assert torch.equal(pack(crop, array)[..., *own], pack(mosaic, cfa)[..., *there])


@pytest.mark.parametrize("name", BAYER)
def test_the_published_packing_moves_colours_against_each_other(name: str) -> None:
    """The twin of the above: it is ours for RGGB alone, and of a crop other planes than of the whole."""
    (top, left), whole = PHASES[name], pack(numbered(12, 12), CFA("RGGB"))
    crop, array = numbered(12, 12)[top : top + 8, left : left + 8], CFA("RGGB").shifted(top, left)
    assert array == CFA(name)
    ours, published = pack(crop, array), pack_unmoved(crop, array)
    assert torch.equal(ours[:, 1:4, 1:4], whole[:, 1:4, 1:4])
    assert torch.equal(published[:, 1:4, 1:4], whole[:, 1:4, 1:4]) == (name == "RGGB")


def test_a_bayer_frame_is_completed_as_in_a_mirror() -> None:
    mosaic = numbered(4, 6)
    planes = pack(mosaic, CFA("BGGR"))
    assert planes[:, 0, 0].tolist() == [mosaic[1, 1], mosaic[1, 0], mosaic[0, 0], mosaic[0, 1]]
    assert planes[:, -1, -1].tolist() == [mosaic[3, 5], mosaic[3, 4], mosaic[2, 4], mosaic[2, 5]]


@given(cfa=arrays, top=shifts, left=shifts, rows=sides, columns=sides)
def test_a_crop_has_the_array_that_it_says(cfa: CFA, top: int, left: int, rows: int, columns: int) -> None:
    crop = coloured(32, 32, cfa)[top : top + rows, left : left + columns]
    assert has_the_colours_of(crop, cfa.shifted(top, left))


def test_the_colour_check_notices_a_wrong_array() -> None:
    crop = coloured(32, 32, CFA("RGGB"))[1:13, :12]
    assert not has_the_colours_of(crop, CFA("RGGB"))
    assert has_the_colours_of(crop, CFA("GBRG"))


@given(cfa=arrays, rows=sides, columns=sides)
def test_a_sensor_sees_one_colour_of_each_site(cfa: CFA, rows: int, columns: int) -> None:
    rgb = torch.tensor([float(ord(letter)) for letter in "RGB"]).reshape(1, 3, 1, 1).expand(1, 3, rows, columns)
    assert has_the_colours_of(mosaic_from_rgb(rgb, cfa)[0].long(), cfa)


@given(cfa=arrays)
def test_an_array_is_what_its_fields_say(cfa: CFA) -> None:
    assert CFA(**asdict(cfa)) == cfa
    assert cfa.tile.shifted(*cfa.origin).pattern() == cfa.pattern()


@given(cfa=arrays)
def test_an_array_is_found_by_its_letters(cfa: CFA) -> None:
    assert CFA.from_pattern(cfa.pattern()).pattern() == cfa.pattern()
    assert CFA.from_pattern(np.array(list(cfa.pattern())).reshape(cfa.period, -1)).pattern() == cfa.pattern()


@pytest.mark.parametrize("letters", ["RGBG", "RRGG", "GGGG", "RGGC", "RGB", "G" * 36, ""])
def test_other_arrays_are_refused(letters: str) -> None:
    with pytest.raises(ValueError, match="neither Bayer"):
        CFA.from_pattern(letters)


def test_impossible_requests_say_why() -> None:
    with pytest.raises(ValueError, match="unknown colour filter array 'FOVEON'"):
        CFA("FOVEON")
    with pytest.raises(ValueError, match="phase is its name"):
        CFA("RGGB", (1, 0))
    with pytest.raises(ValueError, match="planes of 4x4 do not hold 8x8 sites of GRBG"):
        unpack(torch.zeros(4, 4, 4), CFA("GRBG"), (8, 8))
    with pytest.raises(ValueError, match="5x9 sites is smaller than one 6x6 tile"):
        pack(numbered(5, 9), CFA("XTRANS"))
    with pytest.raises(ValueError, match="GRBG has 4 planes, not 9"):
        unpack(torch.zeros(9, 4, 4), CFA("GRBG"))


@given(height=st.integers(1, 20), width=st.integers(1, 20), multiple=st.sampled_from([1, 4, 16]))
def test_padding_reaches_a_multiple_and_keeps_the_image(height: int, width: int, multiple: int) -> None:
    planes = torch.rand(1, 4, height, width, generator=torch.Generator().manual_seed(height * 32 + width))
    padded, size = pad_planes(planes, multiple)
    assert size == (height, width)
    assert [-side % multiple for side in padded.shape[-2:]] == [0, 0]
    assert max(padded.shape[-2] - height, padded.shape[-1] - width) < multiple
    assert torch.equal(padded[..., :height, :width], planes)

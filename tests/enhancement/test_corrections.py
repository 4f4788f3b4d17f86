"""What is put right before a frame is exposed on: black, defects, rows."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from exposurediffusion.enhancement.corrections import prepare, with_hot_sites_of, without_lines
from exposurediffusion.files.darktable import DETAIL
from exposurediffusion.physics.cameras.known import load_profile
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.physics.parameters import NoiseParameters
from exposurediffusion.physics.sensor import MaskedArea, Metadata, RawFrame, Sensor

BLACK, WHITE = 512.0, 16383.0
NOISE = NoiseParameters.gaussian(2.0, 6.0, WHITE - BLACK)
HOT = (33, 47)


def flat(light: float = 60.0, shape: tuple[int, int] = (96, 128), seed: int = 0, hot: float = 0.0) -> RawFrame:
    draw = np.random.default_rng(seed)
    electrons = draw.poisson(light / 2, shape)
    mosaic = (BLACK + 2 * electrons + draw.normal(0, 6, shape)).round()
    mosaic[HOT] += hot
    return RawFrame(mosaic.clip(0).astype(np.uint16), Sensor.uniform(CFA("RGGB"), BLACK, WHITE))


def test_black_is_as_told_or_as_the_margin_says() -> None:
    frame = flat()
    dark = np.random.default_rng(1).normal(4, 6, (96, 40)).astype(np.float32)
    frame = replace(frame, optical_black=(MaskedArea(dark, 0, -46),))
    assert prepare(frame, noise=NOISE).frame.sensor.black_level == pytest.approx((516.0,) * 4, abs=0.5)
    assert prepare(frame, noise=NOISE, black=(500.0,)).frame.sensor.black_level == (500.0,) * 4
    with pytest.raises(ValueError, match="black levels"):
        prepare(frame, noise=NOISE, black=(500.0, 510.0))


def gradient() -> RawFrame:
    """Large and light enough to show its noise."""
    light = np.broadcast_to(np.linspace(20, 3000, 384), (384, 384))
    frame = flat(shape=light.shape)
    frame.mosaic[:] = BLACK + 2 * np.random.default_rng(9).poisson(light / 2) + frame.mosaic % 7
    return frame


def test_an_installed_darktable_is_a_source_and_a_damaged_one_a_note(no_darktable: Path) -> None:
    file = no_darktable / "darktable" / "noiseprofiles.json"
    settings = [{"iso": iso, "a": [0, iso * 1e-8, 0], "b": [0, 1e-8, 0]} for iso in (100, 400)]
    models = [{"model": "One", "profiles": settings}]
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"version": 0, "noiseprofiles": [{"maker": "Acme", "models": models}]}))
    frame = replace(gradient(), metadata=Metadata(make="Acme", model="One", iso=200))
    try:
        estimate, darktable = prepare(frame).sources
        assert estimate.is_estimate
        assert darktable.noise.source == "darktable's profile of Acme One at ISO 200"
        assert float(darktable.noise.gain) == pytest.approx(2e-6 / DETAIL * (WHITE - BLACK))
        assert prepare(frame, noise=NOISE).sources == ()
        assert len(prepare(replace(frame, metadata=Metadata(make="Acme", model="One"))).sources) == 1
        file.write_text("{")
        (note,) = prepare(frame).frame.notes
        assert "noiseprofiles.json" in note
        assert "passed over" in note
    finally:
        file.unlink()


def test_sources_that_disagree_are_noted() -> None:
    frame = replace(gradient(), metadata=Metadata(noise_profile=(1.0, 1e-3)))
    (note,) = prepare(frame).frame.notes
    assert "the file's NoiseProfile is" in note
    assert "too large" in note
    assert prepare(gradient()).frame.notes == ()


def test_a_hot_site_is_mended_and_counted_unless_it_is_not_wanted() -> None:
    frame = flat(hot=900.0)
    ready = prepare(frame, noise=NOISE)
    assert (ready.found, ready.listed) == (1, 0)
    assert abs(float(ready.frame.mosaic[HOT]) - BLACK - 60) < 40
    others = np.ones(frame.shape, bool)
    others[HOT] = False
    assert np.array_equal(ready.frame.mosaic[others], frame.mosaic[others])
    assert prepare(frame, noise=NOISE, defects=False).frame.mosaic[HOT] == frame.mosaic[HOT]


def test_listed_sites_are_mended_whatever_they_say() -> None:
    frame = flat()
    frame.mosaic[HOT] += 25  # two deviations: not to be found
    assert prepare(frame, noise=NOISE).found == 0
    listed = prepare(replace(frame, defects=np.array([HOT])), noise=NOISE)
    camera = prepare(frame, noise=NOISE, camera=replace(load_profile("SonyA7S2"), defects=(HOT,)))
    for ready in (listed, camera):
        assert ready.listed == 1
        assert ready.frame.mosaic[HOT] != frame.mosaic[HOT]
    with pytest.raises(ValueError, match="outside the frame"):
        prepare(frame, noise=NOISE, camera=replace(load_profile("SonyA7S2"), defects=((96, 0),)))


def test_what_is_no_number_is_mended_even_if_defects_are_left() -> None:
    frame = flat()
    frame = replace(frame, mosaic=frame.mosaic.astype(np.float32))
    frame.mosaic[HOT] = np.nan
    ready = prepare(frame, defects=False)
    assert np.isfinite(ready.frame.mosaic).all()
    assert ready.listed == 1


def test_hot_sites_of_a_dark_frame_are_known_in_another() -> None:
    dark, frame = flat(light=0.0, seed=3, hot=300.0), flat(seed=4)
    known = with_hot_sites_of(dark, frame).defects
    assert known is not None
    assert list(HOT) in known.tolist()
    assert len(known) <= 3
    picture = flat()
    picture.mosaic[:, 64:] += 40
    for light in (flat(light=4000.0), picture):
        with pytest.raises(ValueError, match="lens cap"):
            with_hot_sites_of(light, frame)
    with pytest.raises(ValueError, match="same sensor"):
        with_hot_sites_of(flat(light=0.0, shape=(96, 96)), frame)
    with pytest.raises(ValueError, match="same camera"):
        with_hot_sites_of(replace(dark, metadata=Metadata(model="Another")), frame)


def test_masked_columns_take_row_offsets_out() -> None:
    draw = np.random.default_rng(5)
    offsets = draw.normal(0, 6, 96)
    frame = flat()
    dark = (draw.normal(0, 6, (96, 200)) + offsets[:, None]).astype(np.float32)
    frame = replace(
        frame, mosaic=(frame.mosaic + offsets[:, None]).astype(np.float32), optical_black=(MaskedArea(dark, 0, -206),)
    )
    rows = prepare(frame, noise=NOISE, defects=False).frame.mosaic.mean(axis=1)
    before = frame.mosaic.mean(axis=1)
    assert rows.std() < 0.3 * before.std()


def test_lines_are_taken_off_but_for_saturated_sites() -> None:
    frame = flat()
    frame.mosaic[5, 7] = int(WHITE)
    rows, columns = np.arange(96) / 10, np.arange(128) / 20
    result = without_lines(frame, rows, columns).mosaic
    expected = frame.mosaic - np.add.outer(rows, columns)
    expected[5, 7] = WHITE
    np.testing.assert_allclose(result, expected, atol=1e-3)
    np.testing.assert_allclose(without_lines(frame, None, columns).mosaic[9], frame.mosaic[9] - columns, atol=1e-3)

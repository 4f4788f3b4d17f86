"""Sources of a frame's noise: their order, the frame as judge, and what is said when they disagree."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from exposurediffusion.analysis.sources import chosen, disagreement, noise_of, noise_of_line, noise_sources
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.physics.parameters import NoiseParameters
from exposurediffusion.physics.sensor import SATURATION, Metadata, RawFrame, Sensor

BLACK, GAIN, READ = 512.0, 2.0, 8.0
OTHERS = "others say"


def frame(noise_profile: tuple[float, float] | None = None) -> RawFrame:
    """A gradient from 0 to 3000 DN whose noise is known, 384x384."""
    draw = np.random.default_rng(0)
    light = np.broadcast_to(np.linspace(0, 3000, 384), (384, 384))
    mosaic = BLACK + GAIN * draw.poisson(light / GAIN) + draw.normal(0, READ, light.shape)
    sensor = Sensor.uniform(CFA("RGGB"), BLACK, BLACK + SATURATION)
    return RawFrame(mosaic.round().clip(0).astype(np.uint16), sensor, Metadata(noise_profile=noise_profile))


def line(factor: float = 1.0) -> tuple[float, float]:
    return factor * GAIN / SATURATION, factor * (READ / SATURATION) ** 2


def others(factor: float) -> list[NoiseParameters]:
    return [noise_of_line(*line(factor), SATURATION, OTHERS)]


def names(sources) -> list[str]:
    return [source.noise.source.split(" from")[0] for source in sources]


def test_a_line_is_gain_and_read_noise() -> None:
    (noise,) = others(1)
    assert (float(noise.gain), float(noise.read)) == pytest.approx((GAIN, READ))
    assert float(noise_of_line(1e-4, -1e-6, SATURATION, "").read) == pytest.approx(12**-0.5)


def test_where_the_frame_shows_its_noise_it_is_trusted_more_than_others() -> None:
    sources = noise_sources(frame(line(1.2)), None, others(0.1))
    assert names(sources) == ["the file's NoiseProfile", "estimated", OTHERS]
    assert [source.factor for source in sources] == pytest.approx([1.2, 1.0, 0.1], rel=0.1)
    assert [source.agrees for source in sources] == [True, True, False]
    assert [source.is_estimate for source in sources] == [False, True, False]
    mean = GAIN * 1500 + READ**2
    assert [source.variance / mean for source in sources] == pytest.approx([1.2, 1.0, 0.1], rel=0.1)
    assert chosen(sources) is sources[0]
    assert disagreement(sources) is None  # what is trusted less changes nothing
    assert noise_of(frame(), None, others(1)).source.startswith("estimated")


def test_what_the_frame_contradicts_is_passed_over_and_said() -> None:
    sources = noise_sources(frame(line(8)), None, others(1))
    assert chosen(sources).is_estimate
    said = disagreement(sources)
    assert said is not None
    assert "the file's NoiseProfile is 8" in said.replace("7.9", "8").replace("8.1", "8")
    assert "too large" in said
    assert OTHERS not in said
    assert "passed over: the file's NoiseProfile" in noise_of(frame(line(8)), None, others(1)).source


@pytest.mark.parametrize(("factor", "is_said"), [(2.0, False), (5.0, True), (0.2, True)])
def test_where_the_frame_shows_nothing_others_go_before_it(factor: float, is_said: bool) -> None:
    clipped = replace(frame(), mosaic=np.zeros((64, 64), np.uint16))
    sources = noise_sources(clipped, None, others(1))
    assert names(sources)[0] == OTHERS
    assert sources[-1].is_estimate
    assert noise_of(clipped, None, others(1)).source == OTHERS
    assert disagreement(sources) is None  # an estimate of nothing is no witness
    told = replace(clipped, metadata=Metadata(noise_profile=line(factor)))
    both = noise_sources(told, None, others(1))
    assert names(both)[:2] == ["the file's NoiseProfile", OTHERS]
    assert (disagreement(both) is not None) == is_said

"""White balance: what a file says as a chromaticity, and other choices than the file's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from exposurediffusion.files.develop import XYZ_FROM_SRGB
from exposurediffusion.files.tiff import RATIONAL, SHORT, SRATIONAL, entry
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.physics.sensor import Metadata, RawFrame, Sensor
from exposurediffusion.raw.read import read_raw
from exposurediffusion.raw.white_balance import NO_WHITE, white_balance
from tests.dng.test_writer import MATRIX
from tests.raw.test_read import camera_file, noise

WARM = tuple(m * s for m, s in zip(MATRIX, np.repeat((1.6, 1.0, 0.7), 3), strict=True))
ONE = {50721: entry(SRATIONAL, *MATRIX), 50778: entry(SHORT, 21)}
TWO = {
    50721: entry(SRATIONAL, *WARM),
    50778: entry(SHORT, 17),
    50722: entry(SRATIONAL, *MATRIX),
    50779: entry(SHORT, 21),
}
D65, TUNGSTEN, BETWEEN = (0.3127, 0.3290), (0.4476, 0.4074), (0.3805, 0.3768)  # 6500, 2850 and 4000 K


def as_shot(path: Path, white: tuple[float, float], matrices: dict) -> np.ndarray:
    """Neutral of a DNG with AsShotWhiteXY instead of AsShotNeutral."""
    camera_file(path, noise((64, 64)), CFA("RGGB"), main=matrices | {50729: entry(RATIONAL, *white)})
    data = path.read_bytes()
    tag = data.index((50728).to_bytes(2, "little") + (5).to_bytes(2, "little"))
    path.write_bytes(data[:tag] + (65001).to_bytes(2, "little") + data[tag + 2 :])  # AsShotNeutral becomes unknown
    found = read_raw(path).metadata.as_shot_neutral
    assert found is not None
    return np.array(found)


def expected(matrix: tuple[float, ...], white: tuple[float, float]) -> np.ndarray:
    camera = np.reshape(matrix, (3, 3)) @ (*white, 1 - sum(white))
    return camera / camera[1]


@pytest.mark.parametrize("white", [D65, TUNGSTEN, (0.27939, 0.37328)])
def test_white_as_chromaticity(tmp_path: Path, white: tuple[float, float]) -> None:
    np.testing.assert_allclose(as_shot(tmp_path / "a.dng", white, ONE), expected(MATRIX, white), rtol=1e-4)


def test_two_calibrations_are_mixed_by_temperature(tmp_path: Path) -> None:
    for white, share in ((D65, 0), (TUNGSTEN, 1), (BETWEEN, (1 / 4000 - 1 / 6500) / (1 / 2850 - 1 / 6500))):
        mixed = tuple(share * w + (1 - share) * m for w, m in zip(WARM, MATRIX, strict=True))
        np.testing.assert_allclose(as_shot(tmp_path / "a.dng", white, TWO), expected(mixed, white), rtol=0.01)


def grey_frame(neutral: tuple[float, float, float], light: float = 0.3) -> RawFrame:
    """A textured grey scene whose blocks vary around a grey mean, with clipped blocks of no colour."""
    rng = np.random.default_rng(8)
    scene = light * np.kron(rng.uniform(0.2, 1, (16, 16)), np.ones((32, 32)))
    cells = np.tile([[neutral[0], neutral[1]], [neutral[1], neutral[2]]], (256, 256))
    sensor = Sensor.uniform(CFA("RGGB"), 512, 16383)
    values = np.minimum(scene * cells * rng.uniform(0.9, 1.1, (512, 512)), 1)
    values[:64, :128] = 1
    noise_dn = rng.normal(0, 20, values.shape)
    mosaic = (512 + values * (16383 - 512) + noise_dn).astype(np.float32)
    return RawFrame(mosaic, sensor, Metadata(colour_matrix=MATRIX))


def test_auto_finds_the_light_of_a_grey_scene() -> None:
    found = white_balance(grey_frame((0.4, 1, 0.7)), "auto").metadata.as_shot_neutral
    np.testing.assert_allclose(found or (), (0.4, 1, 0.7), rtol=0.02)


def test_daylight_and_numbers() -> None:
    frame = grey_frame((0.4, 1, 0.7))
    frame = replace(frame, metadata=replace(frame.metadata, as_shot_neutral=(0.9, 1, 0.2)))
    assert white_balance(frame, "shot") is frame
    daylight = np.reshape(MATRIX, (3, 3)) @ XYZ_FROM_SRGB.sum(1)
    np.testing.assert_allclose(
        white_balance(frame, "daylight").metadata.as_shot_neutral or (), daylight / daylight[1], rtol=1e-6
    )
    for choice in ("2,1,1.6", (4.0, 2.0, 3.2)):
        assert white_balance(frame, choice).metadata.as_shot_neutral == pytest.approx((0.5, 1, 0.625))


def test_a_white_balance_that_was_chosen_is_not_missed() -> None:
    frame = replace(grey_frame((0.4, 1, 0.7)), notes=(NO_WHITE, "another"))
    assert white_balance(frame, "shot").notes == (NO_WHITE, "another")
    assert white_balance(frame, "2,1,1.6").notes == ("another",)


@pytest.mark.parametrize("choice", ["sunny", "1,2", "1,0,2", "1,nan,2", (1.0, -1.0, 1.0), ""])
def test_other_choices_are_refused(choice: str) -> None:
    with pytest.raises(ValueError, match="daylight"):
        white_balance(grey_frame((0.4, 1, 0.7)), choice)

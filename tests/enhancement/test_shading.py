"""Dark shading is taken out before anything else: exactly, for the right frames, and to the good of the picture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from exposurediffusion.datasets.dark_frames import save_dark_shading
from exposurediffusion.enhancement.corrections import prepare
from exposurediffusion.enhancement.frame import enhance
from exposurediffusion.enhancement.options import EnhanceOptions
from exposurediffusion.enhancement.plan import plan, ratio_of
from exposurediffusion.enhancement.shading import without_dark_shading
from exposurediffusion.physics.cameras.known import load_profile
from exposurediffusion.physics.cameras.profile import CameraProfile
from exposurediffusion.physics.dark_shading import DarkShading
from exposurediffusion.physics.mosaic import CFA, pack
from exposurediffusion.physics.parameters import NoiseParameters
from exposurediffusion.physics.sensor import MaskedArea, Metadata, RawFrame, Sensor

BLACK, WHITE, ISO, RATIO = 512.0, 16383.0, 800.0, 30.0
NOISE = NoiseParameters.gaussian(2.0, 6.0, WHITE - BLACK)
X_TRANS = CFA("XTRANS", (1, 4))


def parts(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Of each site: an amplifier's glow in a corner, DN per unit of ISO; a pattern of columns, DN."""
    y, x = np.mgrid[: shape[0], : shape[1]] / max(shape)
    columns = np.random.default_rng(7).normal(0, 4, shape[1])
    return 60 / ISO * np.exp(-8 * (x**2 + y**2)), np.tile(columns, (shape[0], 1))


def glow(shape: tuple[int, int], cfa: CFA) -> DarkShading:
    """These with a black level error of 3 DN, as a map."""
    slope, offset = (pack(torch.from_numpy(part.astype(np.float32)), cfa) for part in parts(shape))
    return DarkShading(slope, offset, ((ISO, 3.0),), WHITE - BLACK)


def shaded(
    shape: tuple[int, int] = (64, 80), cfa: CFA | None = None, light: float = 200.0, noisy: bool = False
) -> RawFrame:
    """A grey frame with the dark shading in it, and with shot and read noise if wanted."""
    slope, offset = parts(shape)
    mosaic = light + slope * ISO + offset + 3
    if noisy:
        draw = np.random.default_rng(3)
        mosaic += 2 * draw.poisson(light / 2, shape) - light + draw.normal(0, 6, shape)
    sensor = Sensor.uniform(cfa or CFA("RGGB"), BLACK, WHITE)
    return RawFrame((BLACK + mosaic).astype(np.float32), sensor, Metadata(iso=ISO))


@pytest.mark.parametrize(("cfa", "shape"), [(CFA("RGGB"), (64, 80)), (CFA("GBRG"), (65, 83)), (X_TRANS, (65, 83))])
def test_every_site_loses_its_own_whatever_the_array_and_the_size(cfa: CFA, shape: tuple[int, int]) -> None:
    frame = shaded(shape, cfa)
    result = without_dark_shading(frame, glow(shape, cfa))
    np.testing.assert_allclose(result.mosaic, BLACK + 200, atol=0.01)
    assert result.mosaic.dtype == np.float32
    assert result.notes == ()
    assert without_dark_shading(frame, "off") is frame
    assert without_dark_shading(frame) is frame  # no profile, no map
    twelve = replace(frame, sensor=Sensor.uniform(cfa, BLACK / 4, WHITE / 4), mosaic=frame.mosaic / 4)
    np.testing.assert_allclose(without_dark_shading(twelve, glow(shape, cfa)).mosaic, (BLACK + 200) / 4, atol=0.01)


def test_saturated_sites_and_what_is_no_number_stay() -> None:
    frame = shaded()
    frame.mosaic[0, 0], frame.mosaic[1, 1] = WHITE, np.nan
    result = without_dark_shading(frame, glow(frame.shape, frame.sensor.cfa)).mosaic
    assert result[0, 0] == WHITE
    assert np.isnan(result[1, 1])


def test_the_black_level_error_of_the_map_is_not_counted_again() -> None:
    frame = shaded(light=0.0, noisy=True)
    margin = (
        np.random.default_rng(1).normal(3.0, 6.0, (64, 200)).astype(np.float32)
    )  # 3 DN above black, as the map says
    frame = replace(frame, optical_black=(MaskedArea(margin, 0, -206),))
    ready = prepare(frame, noise=NOISE, dark_shading=glow(frame.shape, frame.sensor.cfa))
    assert ready.shaded
    assert ready.frame.sensor.black_level == pytest.approx((BLACK,) * 4, abs=0.5)
    assert float(ready.frame.mosaic.mean()) == pytest.approx(BLACK, abs=0.5)
    assert not prepare(frame, noise=NOISE).shaded
    assert prepare(frame, noise=NOISE).frame.sensor.black_level == pytest.approx((BLACK + 3,) * 4, abs=0.5)


def test_a_map_that_cannot_serve_is_left_out_and_said(tmp_path: Path) -> None:
    frame = shaded()
    other = without_dark_shading(frame, glow((64, 64), frame.sensor.cfa))
    nameless = without_dark_shading(replace(frame, metadata=Metadata()), glow(frame.shape, frame.sensor.cfa))
    camera = replace(load_profile("SonyA7S2"), dark_shading=str(tmp_path / "gone.safetensors"))
    for result, why in ((other, "4 planes of 32x32, the frame has 4 planes of 32x40"), (nameless, "--iso"),
                        (without_dark_shading(frame, "auto", camera), "gone.safetensors")):  # fmt: skip
        assert result.mosaic is frame.mosaic
        (note,) = result.notes
        assert note.startswith("dark shading left in")
        assert why in note
    with pytest.raises(ValueError, match="no such file"):
        without_dark_shading(frame, tmp_path / "gone.safetensors")


@pytest.fixture
def camera(tmp_path: Path) -> CameraProfile:
    """A profile as a file, with its dark shading beside it."""
    save_dark_shading(tmp_path / "dark.safetensors", glow((64, 80), CFA("RGGB")))
    profile = replace(load_profile("SonyA7S2"), name="Mine", dark_shading="dark.safetensors")
    (tmp_path / "mine.json").write_text(profile.to_json())
    return load_profile(str(tmp_path / "mine.json"))


def test_a_profile_brings_its_own(
    camera: CameraProfile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model
) -> None:
    monkeypatch.chdir(tmp_path.parent)  # it is found beside the profile, wherever one is
    frame = shaded(noisy=True)
    assert plan(frame, tiny_model, EnhanceOptions(camera=camera)).shaded
    assert not plan(frame, tiny_model, EnhanceOptions(camera=camera, dark_shading="off")).shaded
    assert plan(frame, tiny_model, EnhanceOptions(dark_shading=tmp_path / "dark.safetensors")).shaded
    assert load_profile("SonyA7S2").dark_shading == ""


def test_the_ratio_of_a_series_is_that_of_corrected_frames(camera: CameraProfile, tiny_model) -> None:
    frame = shaded(light=20.0, noisy=True)
    frame = replace(frame, metadata=Metadata())
    options = EnhanceOptions(camera=camera, iso=ISO)
    assert ratio_of(frame, options) == plan(frame, tiny_model, replace(options, defects=False)).ratio
    assert ratio_of(frame, options) > 1.2 * ratio_of(frame, replace(options, dark_shading="off"))


def grey(state: torch.Tensor, exposure: torch.Tensor) -> torch.Tensor:
    """A perfect denoiser of the frames here: it knows the light."""
    return torch.full_like(state, 200.0 / (WHITE - BLACK) * RATIO)


def blur(state: torch.Tensor, exposure: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.avg_pool2d(state, 5, 1, 2, count_include_pad=False)


@pytest.mark.parametrize("denoise", [grey, blur])
def test_the_result_is_better_and_faithful_to_the_corrected_light(denoise, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = shaded((128, 128), noisy=True)
    truth = 200.0 / (WHITE - BLACK) * RATIO

    def error(shading: DarkShading | str) -> float:
        """Root mean square, of white."""
        result = enhance(frame, denoise, ratio=RATIO, steps=0, noise=NOISE, black=[BLACK], dark_shading=shading)
        return float(((result.planes - truth) ** 2).mean() ** 0.5)

    with_map, without = error(glow(frame.shape, frame.sensor.cfa)), error("off")
    assert with_map < 0.4 * without
    right = DarkShading.map
    monkeypatch.setattr(DarkShading, "map", lambda *arguments: -right(*arguments))  # the mutant adds it
    assert error(glow(frame.shape, frame.sensor.cfa)) > without

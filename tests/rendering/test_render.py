"""Pictures: the colours of a known scene come back, upright, and every format says that it is sRGB."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageCms

from exposurediffusion.files.develop import encode_srgb, srgb_from_camera
from exposurediffusion.physics.mosaic import CFA, mosaic_from_rgb
from exposurediffusion.physics.sensor import Metadata, RawFrame, Sensor
from exposurediffusion.rendering.render import Rendering, render, upright

NEUTRAL = (0.5, 1.0, 0.625)
METADATA = Metadata(
    make="Acme",
    model="One",
    iso=800,
    shutter=0.05,
    as_shot_neutral=NEUTRAL,
    colour_matrix=(0.902, -0.289, -0.0715, -0.4535, 1.2436, 0.2348, -0.0934, 0.1919, 0.7086),
)
PATCHES = np.array([[0.4, 0.4, 0.4], [0.5, 0.1, 0.05], [0.05, 0.3, 0.1], [0.05, 0.1, 0.4]])  # linear sRGB
PHASES = [CFA("RGGB"), CFA("GBRG"), CFA("XTRANS", (1, 4))]


def scene(cfa: CFA, rows: int = 96, columns: int = 144, **metadata: object) -> RawFrame:
    """Four patches, left to right in the upper half and right to left in the lower, as a camera would see them."""
    upper = PATCHES.repeat(columns // 4, 0)[None].repeat(rows // 2, 0)
    rgb = np.concatenate([upper, upper[:, ::-1]])
    camera = rgb @ np.linalg.inv(srgb_from_camera(METADATA)).T * NEUTRAL
    sensor = Sensor.uniform(cfa, 512, 16383)
    mosaic = mosaic_from_rgb(torch.tensor(camera, dtype=torch.float32).permute(2, 0, 1), cfa)
    return RawFrame(sensor.digitise(mosaic), sensor, replace(METADATA, **metadata))


def patches(picture: np.ndarray) -> np.ndarray:
    """The means of the upper half's patches, away from their edges, 0..1."""
    height, width = picture.shape[:2]
    high = np.iinfo(picture.dtype).max
    step = width // 4
    means = [picture[height // 8 : height // 3, i * step + step // 3 : (i + 1) * step - step // 3] for i in range(4)]
    return np.array([m.mean((0, 1)) for m in means]) / high


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("cfa", PHASES, ids=lambda c: c.name)
def test_colours_come_back(cfa: CFA, quick: bool) -> None:
    rendering = render(scene(cfa), quick=quick)
    assert rendering.rgb.dtype == (np.uint8 if quick else np.uint16)
    np.testing.assert_allclose(patches(rendering.rgb), encode_srgb(PATCHES), atol=0.012)


@pytest.mark.parametrize("name", ["RGGB", "GRBG", "GBRG", "BGGR"])
def test_a_preview_has_a_pixel_for_each_cell(name: str) -> None:
    assert render(scene(CFA(name)), quick=True).rgb.shape == (48, 72, 3)


@pytest.mark.parametrize("quick", [False, True])
def test_exposure_and_baseline_brighten(quick: bool) -> None:
    rendering = render(scene(CFA("RGGB"), baseline_exposure=-3.0), exposure=2.0, quick=quick)
    np.testing.assert_allclose(patches(rendering.rgb), encode_srgb(PATCHES / 2), atol=0.012)


@pytest.mark.parametrize("quick", [False, True])
def test_highlights_clip_to_white(quick: bool) -> None:
    bright = patches(render(scene(CFA("GRBG")), exposure=4.0, quick=quick).rgb)
    assert bright[0].min() > 0.995


def test_crop_is_cut_before_turning() -> None:
    frame = scene(CFA("RGGB"), crop=(36, 0, 108, 48), orientation=8)
    picture = render(frame).rgb
    assert picture.shape == (108, 48, 3)
    # Turned 90 degrees anti-clockwise: what was at the right is at the top.
    np.testing.assert_allclose(picture[8:20, 12:36].mean((0, 1)) / 65535, encode_srgb(PATCHES[3]), atol=0.012)
    assert render(frame, quick=True).rgb.shape == (54, 24, 3)


@pytest.mark.parametrize("quick", [False, True])
def test_user_crop_and_pixel_aspect_are_obeyed(quick: bool) -> None:
    cell = 2 if quick else 1
    frame = scene(CFA("RGGB"), crop=(0, 0, 144, 48), user_crop=(0.5, 0.25, 1.0, 0.75), orientation=6)
    picture = render(frame, quick=quick).rgb
    assert picture.shape == (72 // cell, 24 // cell, 3)
    high = np.iinfo(picture.dtype).max
    centre = picture[16 // cell : 20 // cell, 10 // cell : 14 // cell].mean((0, 1)) / high
    np.testing.assert_allclose(centre, encode_srgb(PATCHES[1]), atol=0.02)
    for aspect, shape in ((2.0, (48, 288)), (0.5, (96, 144))):
        wide = render(scene(CFA("RGGB"), crop=(0, 0, 144, 48), pixel_aspect=aspect), quick=quick).rgb
        assert wide.shape[:2] == (shape[0] // cell, shape[1] // cell)
        left = wide[: shape[0] // cell // 2, : shape[1] // cell // 8].mean((0, 1)) / np.iinfo(wide.dtype).max
        np.testing.assert_allclose(left, encode_srgb(PATCHES[0]), atol=0.02)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright_agrees_with_pillow(orientation: int) -> None:
    picture = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    image = Image.fromarray(picture)
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    expected = image.transpose(turns[orientation]) if orientation in turns else image
    np.testing.assert_array_equal(upright(picture, orientation), np.asarray(expected))


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.JPEG"])
def test_saved_pictures_carry_profile_and_exif(tmp_path: Path, name: str) -> None:
    rendering = render(scene(CFA("RGGB")))
    with Image.open(rendering.save(tmp_path / name)) as image:
        image.load()
        assert np.abs(np.asarray(image).astype(int) - rendering.rgb8).mean() < 1.5
        exif = image.getexif()
        assert exif[271] == "Acme"
        assert exif[274] == 1
        assert exif.get_ifd(34665)[34855] == 800
        profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
        assert "sRGB" in ImageCms.getProfileDescription(profile)
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
def test_a_picture_written_later_is_the_same_file(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """LittleCMS writes the second into the profile's header."""
    rendering = render(scene(CFA("RGGB")))
    first = rendering.save(tmp_path / name).read_bytes()
    create = ImageCms.ImageCmsProfile.tobytes
    monkeypatch.setattr(
        ImageCms.ImageCmsProfile, "tobytes", lambda profile: (b := create(profile))[:24] + bytes(12) + b[36:]
    )
    assert rendering.save(tmp_path / name).read_bytes() == first


def test_tiff_keeps_16_bits(tmp_path: Path) -> None:
    rendering = render(scene(CFA("RGGB")))
    with tifffile.TiffFile(rendering.save(tmp_path / "a.tif")) as tif:
        page = tif.pages.first
        np.testing.assert_array_equal(page.asarray(), rendering.rgb)
        assert page.tags[34665].value["ISOSpeedRatings"] == 800
        assert 34675 in page.tags


def test_8_bits_round_to_nearest() -> None:
    values = np.array([0, 128, 129, 65535], np.uint16).repeat(3).reshape(1, 4, 3)
    assert Rendering(values, Metadata()).rgb8[0, :, 0].tolist() == [0, 0, 1, 255]


def test_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"unknown picture format.*\.png"):
        Rendering(np.zeros((4, 4, 3), np.uint8), Metadata()).save(tmp_path / "a.webp")


def test_png_holds_sixteen_bits(tmp_path: Path) -> None:
    rendering = render(scene(CFA("RGGB")))
    decoded = imagecodecs.png_decode(rendering.save(tmp_path / "x.png").read_bytes())
    assert decoded.dtype == np.uint16
    assert np.array_equal(decoded, rendering.rgb)
    assert len(np.unique(decoded)) > 256

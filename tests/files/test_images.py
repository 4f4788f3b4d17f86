"""Clean pictures: known values come back as linear light from every format, and what is no picture is named."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from exposurediffusion.datasets.listing import find_images
from exposurediffusion.files.develop import encode_srgb, srgb_to_linear
from exposurediffusion.files.images import read_linear

PICTURE = np.random.default_rng(4).integers(0, 256, (12, 20, 3)).astype(np.uint8)
LIGHT = np.random.default_rng(5).gamma(0.7, 3.0, (12, 20, 3)).astype(np.float32)


def curve(code: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1, as its text says it, in float64."""
    x = code.astype(np.float64)
    return np.array([v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in x.ravel()]).reshape(x.shape)


@pytest.mark.parametrize(
    ("code", "light"),
    [(0, 0.0), (0.02, 0.02 / 12.92), (0.04045, 0.0031308), (0.5, 0.2140411), (188 / 255, 0.5028865), (1, 1.0)],
)
def test_srgb_curve_at_known_values(code: float, light: float) -> None:
    assert float(srgb_to_linear(np.array(code))) == pytest.approx(light, abs=1e-6)


def test_srgb_curve_is_continuous_and_inverse_to_the_encoder() -> None:
    codes = np.linspace(0, 1, 4001)
    linear = srgb_to_linear(codes)
    assert linear.dtype == np.float32
    assert (np.diff(linear) > 0).all()
    assert np.diff(linear).max() < 2.4 / 4000  # the slope at white is 2.27: no jump
    np.testing.assert_allclose(encode_srgb(linear), codes, atol=2e-6)


@pytest.mark.parametrize("name", ["a.png", "a.PNG", "a.webp"])
def test_lossless_eight_bits(name: str, tmp_path: Path) -> None:
    Image.fromarray(PICTURE).save(tmp_path / name, lossless=True)
    linear = read_linear(tmp_path / name)
    assert linear.dtype == np.float32
    np.testing.assert_allclose(linear, curve(PICTURE / 255), atol=1e-6)


def test_jpeg(tmp_path: Path) -> None:
    flat = np.broadcast_to(np.array([200, 90, 30], np.uint8), (32, 32, 3))
    Image.fromarray(flat).save(tmp_path / "a.jpg", quality=98)
    np.testing.assert_allclose(read_linear(tmp_path / "a.jpg"), curve(flat / 255), atol=0.015)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK"])
def test_other_modes_become_rgb(mode: str, tmp_path: Path) -> None:
    step = np.where(np.arange(16) < 8, 0, 255).astype(np.uint8)
    grey = np.broadcast_to(step[None, :, None], (8, 16, 3))
    suffix = "jpg" if mode == "CMYK" else "png"
    Image.fromarray(grey).convert(mode).save(tmp_path / f"a.{suffix}")
    np.testing.assert_allclose(read_linear(tmp_path / f"a.{suffix}"), curve(grey / 255), atol=0.02)


@pytest.mark.parametrize("shape", [(9, 14), (9, 14, 3)])
def test_png_of_sixteen_bits(shape: tuple[int, ...], tmp_path: Path) -> None:
    codes = np.random.default_rng(6).integers(0, 65536, shape).astype(np.uint16)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(codes))
    linear = read_linear(tmp_path / "a.png")
    expected = curve(codes / 65535)
    np.testing.assert_allclose(linear, expected if codes.ndim == 3 else expected[..., None].repeat(3, -1), atol=0.01)


@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_integer_tiff_is_srgb(dtype: type, compression: str | None, tmp_path: Path) -> None:
    high = np.iinfo(dtype).max
    codes = (PICTURE.astype(np.float64) / 255 * high).round().astype(dtype)
    tifffile.imwrite(
        tmp_path / "a.tif", codes, photometric="rgb", compression=compression, predictor=compression is not None
    )
    np.testing.assert_allclose(read_linear(tmp_path / "a.tif"), curve(codes / high), atol=1e-6)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floating_tiff_is_linear(dtype: type, compression: str | None, tmp_path: Path) -> None:
    predictor = compression is not None and dtype != np.float64
    tifffile.imwrite(
        tmp_path / "a.tiff", LIGHT.astype(dtype), photometric="rgb", compression=compression, predictor=predictor
    )
    linear = read_linear(tmp_path / "a.tiff")
    assert linear.dtype == np.float32
    assert linear.max() > 1  # highlights stay
    np.testing.assert_array_equal(linear, LIGHT.astype(dtype).astype(np.float32))


def test_planes_one_after_the_other(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", LIGHT.transpose(2, 0, 1), photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_linear(tmp_path / "a.tif"), LIGHT)


def test_grey_tiff_and_its_first_page(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", LIGHT[..., 0], photometric="minisblack")
    np.testing.assert_array_equal(read_linear(tmp_path / "a.tif"), LIGHT[..., :1].repeat(3, -1))
    tifffile.imwrite(tmp_path / "b.tif", LIGHT.transpose(2, 0, 1), photometric="minisblack")
    np.testing.assert_array_equal(read_linear(tmp_path / "b.tif"), LIGHT[..., :1].repeat(3, -1))


def test_alpha_is_left_out(tmp_path: Path) -> None:
    rgba = np.concatenate([LIGHT, np.zeros_like(LIGHT[..., :1])], axis=-1)
    tifffile.imwrite(tmp_path / "a.tif", rgba, photometric="rgb", extrasamples=["unassalpha"])
    np.testing.assert_array_equal(read_linear(tmp_path / "a.tif"), LIGHT)


def test_light_is_finite_and_not_negative(tmp_path: Path) -> None:
    odd = np.array([[[np.nan, np.inf, -np.inf], [-3, 0, 7]]], np.float32)
    tifffile.imwrite(tmp_path / "a.tif", odd, photometric="rgb")
    assert read_linear(tmp_path / "a.tif").tolist() == [[[0, 65504, 0], [0, 0, 7]]]


def test_radiance_hdr(tmp_path: Path) -> None:
    (tmp_path / "a.hdr").write_bytes(imagecodecs.rgbe_encode(LIGHT))
    linear = read_linear(tmp_path / "a.hdr")
    assert linear.dtype == np.float32
    assert linear.max() > 2
    assert (np.abs(linear - LIGHT) <= LIGHT.max(-1, keepdims=True) / 127).all()  # eight bits of a shared exponent


def test_radiance_hdr_by_hand(tmp_path: Path) -> None:
    pixels = bytes([128, 64, 32, 129, 0, 0, 0, 0, 255, 128, 0, 138])  # mantissas / 256 x 2^(exponent - 128)
    (tmp_path / "a.hdr").write_bytes(b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 1 +X 3\n" + pixels)
    expected = [[[1.0, 0.5, 0.25], [0, 0, 0], [255 / 256 * 1024, 512, 0]]]
    np.testing.assert_allclose(read_linear(tmp_path / "a.hdr"), expected, atol=1e-6)


def encoded(suffix: str) -> bytes:
    stream = io.BytesIO()
    if suffix == "hdr":
        return bytes(imagecodecs.rgbe_encode(LIGHT))
    if suffix == "tif":
        tifffile.imwrite(stream, LIGHT, photometric="rgb", compression="zlib", predictor=True)
    else:
        Image.fromarray(PICTURE).save(stream, suffix)
    return stream.getvalue()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", ["png", "jpeg", "webp", "hdr", "tif"])
def test_damaged_files_are_named_or_read(suffix: str, tmp_path: Path) -> None:
    """Cut short, or bytes changed: a picture of the right kind, or a ValueError that names the file."""
    whole, path, random = encoded(suffix), tmp_path / f"a.{suffix}", np.random.default_rng(9)
    messages = []
    for trial in range(40):
        damaged = np.frombuffer(whole, np.uint8).copy()
        if trial % 2:
            damaged = damaged[: random.integers(len(damaged))]
        else:
            damaged[random.integers(min(len(damaged), 300), size=4)] = random.integers(256, size=4)
        path.write_bytes(damaged.tobytes())
        try:
            linear = read_linear(path)
        except ValueError as error:
            messages.append(str(error))
        else:
            assert linear.shape[2] == 3
            assert (linear >= 0).all()
    assert len(messages) > 5
    assert all(f"a.{suffix}: " in message for message in messages)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.hdr", "a.webp"])
@pytest.mark.parametrize("content", [b"", b"I am a text"])
def test_what_is_no_picture_is_named(content: bytes, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"a\.{name[2:]}: cannot be read as a picture"):
        read_linear(tmp_path / name)
    with pytest.raises(ValueError, match=rf"b\.{name[2:]}: cannot be read as a picture"):
        read_linear(tmp_path / f"b.{name[2:]}")


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros((6, 8, 2), np.float32), "not an RGB picture"),
        (np.zeros((6, 8, 3), np.int16), "samples of type int16"),
        (np.zeros((6, 8), bool), "samples of type bool"),
    ],
)
def test_other_samples_are_refused(samples: np.ndarray, message: str, tmp_path: Path) -> None:
    photometric = "rgb" if samples.shape[-1] == 3 else "minisblack"
    tifffile.imwrite(tmp_path / "a.tif", samples, photometric=photometric, planarconfig="contig")
    with pytest.raises(ValueError, match=rf"a\.tif: {message}"):
        read_linear(tmp_path / "a.tif")


@pytest.mark.parametrize("photometric", ["miniswhite", "separated", "cielab", "palette"])
def test_tiffs_whose_samples_are_no_light_are_refused(photometric: str, tmp_path: Path) -> None:
    samples = PICTURE[..., 0] if photometric in ("miniswhite", "palette") else np.repeat(PICTURE, 2, axis=-1)[..., :4]
    samples = samples[..., :3] if photometric == "cielab" else samples
    colours = np.zeros((3, 256), np.uint16) if photometric == "palette" else None
    tifffile.imwrite(tmp_path / "a.tif", samples, photometric=photometric, colormap=colours)
    with pytest.raises(ValueError, match=rf"a\.tif: .*its samples are {photometric.upper()}, .*; save it as RGB"):
        read_linear(tmp_path / "a.tif")


def test_pictures_are_found_below_and_sorted(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.tiff", "sub/c.hdr", "notes.txt", "raw.ARW", "sub/deep/d.jpeg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    found = [p.relative_to(tmp_path).as_posix() for p in find_images(tmp_path)]
    assert found == ["a.tiff", "b.PNG", "sub/c.hdr", "sub/deep/d.jpeg"]


def closed_folder(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let folders of a name be unreadable, for root as well."""
    scandir = os.scandir

    def patched(path: Any) -> Any:
        if Path(path).name == name:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", patched)


def test_what_cannot_be_looked_at_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("good/a.png", "closed/b.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    (tmp_path / "good" / "link.jpg").symlink_to(tmp_path / "gone.jpg")
    (tmp_path / "good" / "notes.txt").symlink_to(tmp_path / "gone.txt")  # would not have been a picture
    closed_folder("closed", monkeypatch)
    told: list[str] = []
    assert [path.name for path in find_images(tmp_path, told.append)] == ["a.png"]
    assert sorted(told) == [
        f"{tmp_path}/closed: this folder cannot be read (Permission denied); left out",
        f"{tmp_path}/good/link.jpg: a link that leads nowhere, to {tmp_path}/gone.jpg; left out",
    ]


def bomb(side: int) -> bytes:
    """A PNG of side x side black pixels of one bit, header and a bit of data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    data = zlib.compress(bytes(1 + side // 8))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_megapixels_are_limited_before_anything_is_decoded(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(bomb(30_000))
    (tmp_path / "a.hdr").write_bytes(b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 30000 +X 30000\n\0\0")
    tifffile.imwrite(tmp_path / "a.tif", LIGHT, photometric="rgb", metadata=None)
    content = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        for tag in ("ImageWidth", "ImageLength"):
            at = file.pages.first.tags[tag].offset
            content[at + 2 : at + 12] = struct.pack("<HII", 4, 1, 30_000)
    (tmp_path / "a.tif").write_bytes(content)
    for name in ("a.png", "a.hdr", "a.tif"):
        with pytest.raises(ValueError, match=rf"{name}: .*30000x30000 pixels are more than 400 .*--max-megapixels"):
            read_linear(tmp_path / name)


@pytest.mark.parametrize("suffix", ["png", "hdr", "tif"])
def test_the_limit_is_the_users(suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"a.{suffix}").write_bytes(encoded(suffix))
    rows, columns = read_linear(tmp_path / f"a.{suffix}").shape[:2]
    read_linear(tmp_path / f"a.{suffix}", max_megapixels=rows * columns / 1e6)
    with pytest.raises(ValueError, match="--max-megapixels"):
        read_linear(tmp_path / f"a.{suffix}", max_megapixels=(rows * columns - 1) / 1e6)


def test_pillows_own_limit_is_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(PICTURE).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # beyond twice of which Pillow refuses
    assert read_linear(tmp_path / "a.png").shape == PICTURE.shape
    assert Image.MAX_IMAGE_PIXELS == 10


def test_no_other_kind_of_picture_is_tried(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(ValueError, match=r"a\.png: cannot be read as a picture"):
        read_linear(tmp_path / "a.png")

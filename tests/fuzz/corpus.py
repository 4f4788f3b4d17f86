"""Sound small files of every kind that is read: what the mutations begin from."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
import torch
from PIL import Image

from exposurediffusion.datasets.cache import FrameCache
from exposurediffusion.datasets.dark_frames import save_dark_shading
from exposurediffusion.dng.writer import dng_chunks, write_dng
from exposurediffusion.files.tiff import LONG, SHORT, Tags, entry, text_entry, tiff_bytes
from exposurediffusion.physics.cameras.known import calibrated_cameras
from exposurediffusion.physics.dark_shading import DarkShading
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.physics.sensor import RawFrame, Sensor
from exposurediffusion.pictures.codec import encode
from exposurediffusion.pictures.prepared import Entry, write_pictures
from exposurediffusion.training.run import Run
from exposurediffusion.weights.file import save_weights
from tests import frames, simulated
from tests.golden.weights import filled, nafnet_shapes
from tests.raw.test_hostile import dng, tiles
from tests.tiny import PLAIN, TINY
from tests.trees import SONY, write_raw

ROWS, COLUMNS = 48, 64


@dataclass(frozen=True)
class Seed:
    """A sound file, in a folder of its own with all that it needs.

    Attributes:
        target: what reads it: a name in `targets.TARGETS`.
        form: how it is built, a name in `mutations.FORMS`, or "" where bytes are all that is known.
        path: its place; mutated contents go there.
        content: its bytes.
    """

    target: str
    form: str
    path: Path
    content: bytes

    @property
    def name(self) -> str:
        return f"{self.target}-{self.path.parent.name}{self.path.suffix}"


def make(folder: Path) -> list[Seed]:
    """The whole corpus, in folders below this one."""
    seeds = []
    for target, form, name, content in _contents(folder):
        path = folder / f"{len(seeds):02d}" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        seeds.append(Seed(target, form, path, content))
    return seeds + list(_cached(folder / "cached"))


def _contents(folder: Path) -> Iterator[tuple[str, str, str, bytes]]:
    """Target, form, file name and bytes of files that stand alone."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in _raws(folder):
        yield "raw", "tiff", name, content
        if name in ("lossless.dng", "a.arw"):
            yield "photograph", "tiff", name, content
    yield "raw", "boxes", "a.cr3", _cr3()
    yield "raw", "", "a.raf", _raf()
    for name, content in _pictures():
        yield (
            "picture",
            {"a.png": "png", "b.png": "png"}.get(name, "tiff" if name.endswith("tif") else ""),
            name,
            content,
        )
    yield from _networks(folder / "made")
    yield from _texts(folder / "made")


def _raws(folder: Path) -> Iterator[tuple[str, bytes]]:
    frame = frames.capture(rows=ROWS // 2, columns=COLUMNS // 2)
    yield "lossless.dng", b"".join(dng_chunks(frame))
    yield "plain.dng", b"".join(dng_chunks(frame, compression="none"))
    light = replace(frame, mosaic=frame.mosaic.astype(np.float32))
    yield "half.dng", b"".join(dng_chunks(light, bits="16f"))
    fuji = frames.capture("XTRANS", rows=8, columns=10)
    yield "xtrans.dng", b"".join(dng_chunks(fuji))
    yield "tiled.dng", dng(folder / "tiled.dng", tiles((128, 128), 2), (128, 128)).read_bytes()
    packed = np.random.default_rng(1).integers(0, 256, (ROWS, COLUMNS), dtype=np.uint8).tobytes()
    yield "a.arw", _camera("SONY", "ILCE-7M2", 32767, 8, packed)
    yield "a.nef", _camera("NIKON CORPORATION", "NIKON D850", 34713, 14, packed * 2)
    yield "a.cr2", _canon()
    yield "a.rw2", _panasonic(packed * 2)


def _camera(make: str, model: str, compression: int, bits: int, strip: bytes) -> bytes:
    """A TIFF as cameras of a make write it, with a mosaic of its own compression in a sub-directory."""
    raw: Tags = {
        254: entry(LONG, 0),
        256: entry(LONG, COLUMNS),
        257: entry(LONG, ROWS),
        258: entry(SHORT, bits),
        259: entry(SHORT, compression),
        262: entry(SHORT, 32803),
        277: entry(SHORT, 1),
        278: entry(LONG, ROWS),
        279: entry(LONG, len(strip)),
        33421: entry(SHORT, 2, 2),
        33422: entry(1, 0, 1, 1, 2),
    }
    return tiff_bytes([_shot(make, model), raw], {330: [1]}, [(1, [len(strip)])]) + strip


def _shot(make: str, model: str) -> Tags:
    return {271: text_entry(make), 272: text_entry(model), 274: entry(SHORT, 1), 306: text_entry("2026:01:02 03:04:05")}


def _canon() -> bytes:
    """The header of a CR2, and a mosaic in one lossless JPEG of two components."""
    values = np.random.default_rng(2).integers(600, 9000, (ROWS, COLUMNS // 2, 2), dtype=np.uint16)
    strip = bytes(imagecodecs.jpeg8_encode(values, lossless=True, predictor=1, bitspersample=14))
    head = _shot("Canon", "Canon EOS 5D Mark IV") | {
        256: entry(SHORT, COLUMNS),
        257: entry(SHORT, ROWS),
        259: entry(SHORT, 6),
        279: entry(LONG, len(strip)),
        50752: entry(SHORT, 1, COLUMNS // 2, COLUMNS // 2),
    }
    return tiff_bytes([head], {}, [(0, [len(strip)])]) + strip


def _panasonic(strip: bytes) -> bytes:
    head = _shot("Panasonic", "DMC-GH4") | {
        1: entry(7, 48, 51, 49, 48),
        2: entry(SHORT, COLUMNS),
        3: entry(SHORT, ROWS),
        4: entry(SHORT, 0),
        5: entry(SHORT, 0),
        6: entry(SHORT, ROWS),
        7: entry(SHORT, COLUMNS),
        9: entry(SHORT, 1),
        10: entry(SHORT, 12),
        11: entry(SHORT, 34316),
        23: entry(SHORT, 800),
        279: entry(LONG, len(strip)),
    }
    return b"IIU\0" + (tiff_bytes([head], {}, [(0, [len(strip)])]) + strip)[4:]


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


def _cr3() -> bytes:
    """The boxes of a CR3 as far as a decoder looks for its directories, and a track of nothing."""
    tags = _box(b"CMT1", tiff_bytes([_shot("Canon", "Canon EOS R6")], {}, []))
    canon = bytes.fromhex("85c0b687820f11e08111f4ce462b6a48")
    sizes = struct.pack(">16I", 0, 0, 0, 0, COLUMNS, ROWS, COLUMNS, ROWS, 14 << 24, 0, 0, 0, 0, 0, 0, 0)
    craw = _box(b"CRAW", bytes(24) + struct.pack(">2H", COLUMNS, ROWS) + bytes(54) + _box(b"CMP1", sizes))
    table = _box(b"stsd", struct.pack(">2I", 0, 1) + craw) + _box(b"stsz", struct.pack(">4I", 0, 512, 1, 512))
    table += _box(b"co64", struct.pack(">2IQ", 0, 1, 600))
    track = _box(b"trak", _box(b"mdia", _box(b"minf", _box(b"stbl", table))))
    movie = _box(b"moov", _box(b"uuid", canon + tags) + track)
    return _box(b"ftyp", b"crx \0\0\0\1crx isom") + movie + _box(b"mdat", bytes(range(256)) * 4)


def _raf() -> bytes:
    """The header of a RAF, its table of the sensor, and a mosaic of 16 bits."""
    table = struct.pack(">I", 3)
    table += struct.pack(">4H", 0x100, 4, ROWS, COLUMNS) + struct.pack(">4H", 0x121, 4, ROWS, COLUMNS)
    table += struct.pack(">2H4B", 0x130, 4, 0, 8, 0, 0)
    preview = io.BytesIO()
    Image.new("RGB", (16, 16)).save(preview, "JPEG")
    shown, mosaic = preview.getvalue(), np.arange(ROWS * COLUMNS, dtype="<u2").tobytes()
    starts = np.cumsum([160, len(shown), len(table)]).tolist()
    head = b"FUJIFILMCCD-RAW 0201FF389501" + b"X100".ljust(32, b"\0") + b"0100" + bytes(20)
    head += struct.pack(">6I", starts[0], len(shown), starts[1], len(table), starts[2], len(mosaic))
    return head.ljust(160, b"\0") + shown + table + mosaic


def _pictures() -> Iterator[tuple[str, bytes]]:
    rgb = np.random.default_rng(3).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    for name, options in {"a.png": {}, "a.jpg": {"quality": 90}, "p.jpg": {"progressive": True}, "a.webp": {}}.items():
        out, form = io.BytesIO(), {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}[name.partition(".")[2]]
        Image.fromarray(rgb).save(out, form, **options)
        yield name, out.getvalue()
    out = io.BytesIO()
    Image.fromarray(rgb[..., 0].astype(np.uint16) * 257).save(out, "PNG")
    yield "b.png", out.getvalue()
    for name, samples, options in (
        ("a.tif", rgb, {}),
        ("b.tif", rgb.astype(np.uint16) * 257, {"compression": "zlib", "predictor": True}),
        ("c.tif", rgb.astype(np.float32) / 255, {"compression": "lzw", "tile": (16, 16)}),
    ):
        out = io.BytesIO()
        tifffile.imwrite(out, samples, photometric="rgb", **options)
        yield name, out.getvalue()
    yield "a.hdr", bytes(imagecodecs.rgbe_encode(rgb.astype(np.float32) / 99))


def _networks(folder: Path) -> Iterator[tuple[str, str, str, bytes]]:
    """Weights, the authors' checkpoint, the checkpoint of a run."""
    folder.mkdir(exist_ok=True)
    model = frames.tiny_model()
    save_weights(folder / "a.safetensors", model, model.card)
    yield "weights", "safetensors", "a.safetensors", (folder / "a.safetensors").read_bytes()
    torch.save(filled(nafnet_shapes(8, 9, 4, (1,), 1, (1,))), folder / "theirs.pt")
    yield "official", "zip", "theirs.pt", (folder / "theirs.pt").read_bytes()
    Run(TINY, PLAIN).save(folder / "checkpoint.pt")
    yield "checkpoint", "zip", "checkpoint.pt", (folder / "checkpoint.pt").read_bytes()


def _texts(folder: Path) -> Iterator[tuple[str, str, str, bytes]]:
    """What people write, and what is kept of pictures and darks."""
    profile = calibrated_cameras()["SonyA7S2"]
    yield "profile", "json", "mine.json", profile.to_json().encode()
    simulated.photographs(folder, 1)
    simulated.simulate(folder, folder / "set", "--scenes", 1, "--darks", 1)
    yield "manifest", "json", "dataset.json", (folder / "set" / "dataset.json").read_bytes()
    yield (
        "settings",
        "json",
        "a.json",
        json.dumps({"ratio": 20, "weights": "default", "denoiser": asdict(TINY)}).encode(),
    )
    yield "settings", "", "a.toml", b'ratio = 20\nweights = "default"\n[optimizer]\nlr = 1e-3\nbetas = [0.9, 0.99]\n'
    yield (
        "statement",
        "",
        "MANIFEST.tsv",
        b"file\tlicence\tprocessing\nphoto/*.jpg *.png\tCC0-1.0\tbox 2\na.png\tMIT\t\n",
    )
    lines = [{"kind": "training", "iteration": n, "loss": 0.5 / n, "rate": 1e-3} for n in range(1, 4)]
    yield "log", "", "log.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode()
    light = np.linspace(0.01, 1, 3 * 16 * 24, dtype=np.float32).reshape(3, 16, 24)
    facts = Entry("a/b.png", "CC0-1.0", "0" * 64, False, 16, 24, 1.0)
    write_pictures(folder / "p.safetensors", [(facts, encode(light, 1.0, 50.0))])
    yield "prepared", "safetensors", "p.safetensors", (folder / "p.safetensors").read_bytes()
    means = {iso: torch.full((4, 16, 16), iso / 800) for iso in (100.0, 800.0, 3200.0)}
    save_dark_shading(folder / "d.safetensors", DarkShading.from_means(means, 15871.0))
    yield "shading", "safetensors", "d.safetensors", (folder / "d.safetensors").read_bytes()


def _cached(folder: Path) -> Iterator[Seed]:
    """A frame in a cache: its record and its planes."""
    write_raw(folder / "a.dng")
    assert FrameCache(folder / "kept").build([folder / "a.dng"], 0) == []
    for path in sorted((folder / "kept").rglob("*")):
        if path.is_file():
            yield Seed("cache", path.suffix.removeprefix("."), path, path.read_bytes())


def dark(path: Path) -> Path:
    """A tiny photograph for the commands."""
    return write_dng(path, RawFrame(frames.capture().mosaic, Sensor.uniform(CFA("RGGB"), 512, 16383), SONY))

"""Prepared pictures: light comes back from the file as it went in, and what is no such file is said in one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.nn import functional as F

from exposurediffusion.pictures.codec import curve, decode, encode
from exposurediffusion.pictures.prepared import FORMAT, Entry, Pictures, read_pictures, write_pictures

SIZES = {"a/dark.png": (33, 47), "a/small.png": (40, 56), "b/sky.hdr": (64, 128)}
EXPOSURE = {"a/dark.png": 12.0, "a/small.png": 1.0, "b/sky.hdr": 0.3}


def smooth(rows: int, columns: int, seed: int) -> torch.Tensor:
    """A picture of soft colours, linear light from 0 to 1."""
    coarse = torch.rand(1, 3, rows // 8 + 2, columns // 8 + 2, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, (rows, columns), mode="bilinear")[0].contiguous()


@pytest.fixture(scope="module")
def lights() -> dict[str, torch.Tensor]:
    found = {name: smooth(*size, seed) for seed, (name, size) in enumerate(SIZES.items())}
    found["a/dark.png"] = found["a/dark.png"] / 20
    found["b/sky.hdr"] = found["b/sky.hdr"] * 3
    found["b/sky.hdr"][:, 20:40, 50:70] = 5e4  # the sun
    return found


@pytest.fixture(scope="module")
def file(lights, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("prepared") / "pictures.safetensors"
    entries = [
        Entry(name, "CC0-1.0", "0" * 64, name.endswith("hdr"), rows, columns, EXPOSURE[name])
        for name, (rows, columns) in SIZES.items()
    ]
    write_pictures(path, [(entry, encode(lights[entry.name].numpy(), entry.exposure, 50.0)) for entry in entries])
    return path


@pytest.fixture(scope="module")
def pictures(file) -> Pictures:
    return read_pictures(file)


def test_light_comes_back(lights, pictures) -> None:
    for index, (name, light) in enumerate(lights.items()):
        again = pictures.picture(index)
        assert again.shape == light.shape
        scaled, restored = (curve((of * EXPOSURE[name]).numpy()) for of in (light, again))
        assert 10 * np.log10(np.square(scaled - restored).mean()) < -48
    sun = pictures.picture(2)[:, 26:34, 56:64]
    torch.testing.assert_close(sun, torch.full_like(sun, 5e4), rtol=0.05, atol=0)


def test_the_same_pictures_are_the_same_file(lights, tmp_path) -> None:
    light = lights["a/small.png"]
    entry = Entry("ä.png", "CC0-1.0", "0" * 64, False, light.shape[1], light.shape[2], 1.0)
    one = entry, encode(light.numpy(), 1.0, 40.0)
    for number in range(8):  # a header in any of two orders would pass one time in 128
        write_pictures(tmp_path / f"{number}.safetensors", [one])
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1
    assert read_pictures(tmp_path / "0.safetensors").names == ("ä.png",)


def test_low_quality_loses_more(lights) -> None:
    light = lights["a/small.png"]
    errors = []
    for quality in (30.0, 50.0):
        streams = encode(light.numpy(), 1.0, quality)
        again = decode(streams, 1.0, *light.shape[1:]).float().T.reshape(light.shape)
        errors.append(float((again.sqrt() - light.sqrt()).square().mean()))
    assert errors[0] > 5 * errors[1]


def test_one_buffer_with_all_of_them(pictures) -> None:
    assert pictures.names == tuple(SIZES)
    assert len(pictures) == 3
    assert pictures.pixels.dtype == torch.float16
    assert pictures.first.tolist() == [0, 33 * 47, 33 * 47 + 40 * 56]
    assert list(zip(pictures.rows.tolist(), pictures.columns.tolist(), strict=True)) == list(SIZES.values())
    assert pictures.panorama.tolist() == [False, False, True]
    assert len(pictures.pixels) == sum(rows * columns for rows, columns in SIZES.values())
    row, column = 7, 11
    pixel = pictures.pixels[pictures.first[1] + row * pictures.columns[1] + column]
    assert torch.equal(pixel.float(), pictures.picture(1)[:, row, column])


def test_another_device(pictures) -> None:
    moved = pictures.to("meta")
    assert {moved.pixels.device.type, moved.first.device.type, moved.panorama.device.type} == {"meta"}
    assert moved.names == pictures.names


def test_some_are_left_out(file, pictures) -> None:
    some = read_pictures(file, exclude=["a/*"])
    assert some.names == ("b/sky.hdr",)
    assert torch.equal(some.picture(0), pictures.picture(2))
    with pytest.raises(ValueError, match=r"pictures\.safetensors: none of its 3 pictures is left; leave out fewer"):
        read_pictures(file, exclude=["*"])


def test_a_single_one_leaves_none_for_validation(file) -> None:
    """Which is no fault of the file: making it anew would not help."""
    with pytest.raises(ValueError, match="one file only, so none is left for validation; give a folder") as told:
        read_pictures(file, ["a/*"], "validation")
    assert "anew" not in str(told.value)


def test_pictures_of_one_name_are_all_there(file, lights, tmp_path) -> None:
    """Folders of the same name may hold files of the same name."""
    tensors, facts, metadata = parts(file)
    again = [fact | {"name": "a/small.png"} for fact in facts]
    del metadata["crc32"]
    save_file(tensors, tmp_path / "twins.safetensors", metadata | {"pictures": json.dumps(again)})
    assert read_pictures(tmp_path / "twins.safetensors").names == ("a/small.png",) * 3
    train, validation = (read_pictures(tmp_path / "twins.safetensors", split=s) for s in ("train", "validation"))
    assert [len(train), len(validation)] == [2, 1]
    assert validation.picture(0).shape == lights["b/sky.hdr"].shape


def test_the_threads_of_the_decoder_are_nobody_elses(file, monkeypatch) -> None:
    monkeypatch.delenv("OPJ_NUM_THREADS", raising=False)
    read_pictures(file)
    assert "OPJ_NUM_THREADS" not in os.environ


def test_no_raw_decoder_and_no_command_line_is_needed(file) -> None:
    code = (
        "import sys\n"
        "for name in ('rawpy', 'imagecodecs', 'tifffile', 'tyro', 'rich', 'skimage'): sys.modules[name] = None\n"
        "from exposurediffusion.pictures.prepared import read_pictures\n"
        "print(len(read_pictures(sys.argv[1])))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "3"


def parts(file: Path) -> tuple[dict, list, dict]:
    """Tensors, facts and metadata, to be damaged."""
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a dict
    return tensors, json.loads(metadata["pictures"]), metadata


def refused(path: Path, match: str) -> None:
    with pytest.raises(ValueError, match=match) as told:
        read_pictures(path)
    assert str(path) in str(told.value)
    assert "expose prepare" in str(told.value)


def test_no_such_file(tmp_path) -> None:
    refused(tmp_path / "none.safetensors", "no such file")


@pytest.mark.parametrize("keep", [0, 5, 100, 900, -1])
def test_cut_short(keep, file, tmp_path) -> None:
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(file.read_bytes()[:keep])
    refused(cut, "not usable as prepared pictures")


def test_one_byte_is_wrong(file, tmp_path) -> None:
    data = bytearray(file.read_bytes())
    data[-100] ^= 1
    (tmp_path / "bad.safetensors").write_bytes(data)
    refused(tmp_path / "bad.safetensors", "damaged")


@pytest.mark.parametrize("format", [None, "exposurediffusion-pictures/0", "exposurediffusion-dark/2"])
def test_another_version(format, file, tmp_path) -> None:
    tensors, _, metadata = parts(file)
    path = tmp_path / "other.safetensors"
    save_file(tensors, path, {"pictures": metadata["pictures"]} | ({} if format is None else {"format": format}))
    refused(path, "format .*, not 'exposurediffusion-pictures/1'")


def test_one_bit_of_the_header_is_wrong(file, pictures, tmp_path) -> None:
    """It is refused, or it says the same."""
    data = file.read_bytes()
    told, path = 0, tmp_path / "bad.safetensors"
    for place in range(0, 8 + int.from_bytes(data[:8], "little"), 3):
        path.write_bytes(data[:place] + bytes([data[place] ^ 2]) + data[place + 1 :])
        try:
            again = read_pictures(path)
        except ValueError as error:
            told += str(path) in str(error) and "make it anew by expose prepare" in str(error)
            continue
        assert again.names == pictures.names
        assert torch.equal(again.pixels, pictures.pixels)
        told += 1
    assert told == len(range(0, 8 + int.from_bytes(data[:8], "little"), 3))


def test_a_file_from_before_there_were_checksums_of_headers(file, pictures, tmp_path) -> None:
    tensors, _, metadata = parts(file)
    del metadata["crc32"]
    save_file(tensors, tmp_path / "old.safetensors", metadata)
    assert torch.equal(read_pictures(tmp_path / "old.safetensors").pixels, pictures.pixels)


WRONG = {
    "name": [None, 5, ["a"]],
    "licence": [None],
    "sha256": [7],
    "panorama": [1, "no"],
    "rows": [0, -40, 1 << 30, 10**30, 33.0, "forty", True, None, 57],  # the last is of another picture
    "columns": [0, 1 << 30, [47]],
    "exposure": [0.0, -1.0, float("nan"), float("inf"), 1e300, "bright", True],
    "sizes": [[], [1, 2, 3], None, [1 << 62] * 3, [-1, 1, 1], ["a", "b", "c"], [1.5, 2, 3], {}],
    "crc32": [-1, "0", None, 1 << 40],
}


@pytest.mark.parametrize("field", WRONG)
def test_false_facts(field, file, tmp_path) -> None:
    tensors, facts, _ = parts(file)
    path = tmp_path / "false.safetensors"
    for value in WRONG[field]:
        save_file(tensors, path, {"format": FORMAT, "pictures": json.dumps([facts[0] | {field: value}, *facts[1:]])})
        refused(path, "not a plane of this picture" if value == 57 else rf"not usable .*{field}")


def test_fields_that_are_missing_or_unknown(file, tmp_path) -> None:
    tensors, facts, _ = parts(file)
    path = tmp_path / "false.safetensors"
    for field in Entry.__dataclass_fields__:
        less = {name: value for name, value in facts[1].items() if name != field}
        save_file(tensors, path, {"format": FORMAT, "pictures": json.dumps([facts[0], less, facts[2]])})
        refused(path, f"picture 1: the fields '{field}' are missing or unknown")
    save_file(tensors, path, {"format": FORMAT, "pictures": json.dumps([facts[0] | {"nonsense": 1}])})
    refused(path, "picture 0: the fields 'nonsense' are missing or unknown")


@pytest.mark.parametrize("text", ["", "[]", "{}", "[1]", "nothing", "[" * 100000], ids=lambda text: text[:8])
def test_false_list(text, file, tmp_path) -> None:
    tensors, _, _ = parts(file)
    path = tmp_path / "false.safetensors"
    save_file(tensors, path, {"format": FORMAT, "pictures": text})
    refused(path, "not usable as prepared pictures")


def test_a_tensor_is_missing(file, tmp_path) -> None:
    tensors, _, metadata = parts(file)
    del tensors["1"]
    save_file(tensors, tmp_path / "less.safetensors", metadata)
    refused(tmp_path / "less.safetensors", "not usable as prepared pictures")


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path) -> None:
    with pytest.raises(OSError, match="none"):
        write_pictures(tmp_path / "none" / "a.safetensors", [])
    assert not list(tmp_path.iterdir())

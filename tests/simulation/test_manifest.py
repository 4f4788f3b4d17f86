"""The manifest of a simulated data set, as strangers may have changed it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from exposurediffusion.physics.parameters import NoiseParameters
from exposurediffusion.simulation.scenes import MANIFEST, known_noise, noise_from_json, noise_to_json, read_manifest

NOISE = {"gain": 0.75, "read": 1.75, "row": 0.33, "quantisation": 1.0, "saturation": 15583.0, "tukey_shape": -0.08,
         "colour_bias": [1.0, -2.0, 0.5, 0.0]}  # fmt: skip
FILE = {"ratio": 100.0, "iso": 800, "shutter": 0.0125, "noise": NOISE}


def manifest(folder: Path, noise: Any = NOISE, **changed: Any) -> Path:
    scene = {"files": {"Sony/short/1.dng": {**FILE, "noise": noise}, "Sony/long/1.dng": {**FILE, "noise": None}}}
    (folder / MANIFEST).write_text(json.dumps({"scenes": {"Sony/1": scene | changed}}))
    return folder


def test_noise_survives(tmp_path: Path) -> None:
    (path, noise), *others = known_noise(manifest(tmp_path)).items()
    assert (path, others) == ("Sony/short/1.dng", [])
    assert isinstance(noise, NoiseParameters)
    assert noise_to_json(noise_from_json(noise_to_json(noise))) == noise_to_json(noise)
    assert noise_to_json(noise) == pytest.approx({**NOISE, "colour_bias": pytest.approx(NOISE["colour_bias"])})


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        ([], "a group of fields is wanted, not a list"),
        ({**NOISE, "gain": "x"}, r"gain: a number is wanted"),
        ({**NOISE, "gain": 0}, "gain is a number from"),
        ({**NOISE, "read": -1}, "read is a number from"),
        ({**NOISE, "row": 1e300}, "row is a number from"),
        ({**NOISE, "row": float("nan")}, "row: a number is wanted, not 'NaN'"),
        ({**NOISE, "gain": 10**400}, "gain: a number of more than 20 digits"),
        ({**NOISE, "colour_bias": {}}, "colour_bias: a list"),
        ({**NOISE, "colour_bias": [1, None]}, "colour_bias: a number is wanted"),
        ({**NOISE, "colour": 1}, "colour: no such field"),
        ({"gain": 1.0}, "read: missing"),
    ],
)
def test_noise_of_another_kind_is_refused_by_field(noise: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"dataset\.json: damaged, or of another program \(.*{message}"):
        known_noise(manifest(tmp_path, noise))


@pytest.mark.parametrize("files", [3, [], "x", {"a.dng": 3}, {"a.dng": []}, None])
def test_files_of_another_kind_are_refused(files: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"dataset\.json: damaged, or of another program"):
        read_manifest(manifest(tmp_path, files=files))


@pytest.mark.parametrize("text", ["", "[", "[]", "3", '{"scenes": []}', '{"scenes": {"a": 3}}', "[" * 100_000])
def test_what_is_no_manifest_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(ValueError, match=r"dataset\.json: damaged, or of another program"):
        read_manifest(tmp_path)

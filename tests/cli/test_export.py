"""`expose export`: files that other programs run, with numbers to compare."""

from __future__ import annotations

import json
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest

from exposurediffusion.cli.main import main
from exposurediffusion.weights import onnx_file
from exposurediffusion.weights.file import load
from exposurediffusion.weights.tile_package import check_package
from tests.simulated import tiny_weights

onnxruntime = pytest.importorskip("onnxruntime")


def test_a_file_and_its_known_numbers_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights, file = tiny_weights(tmp_path / "tiny.safetensors"), tmp_path / "tiny.onnx"
    assert main(["export", "--weights", str(weights), "-o", str(file), "--json"]) == 0
    [said] = json.loads(capsys.readouterr().out)["results"]
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    facts = session.get_modelmeta().custom_metadata_map
    assert int(facts["multiple"]) == said["multiple"]
    assert json.loads(facts["card"])["denoiser"]["backbone"] == "unet"
    with np.load(said["check"]) as known:
        inputs = {each.name: known[each.name] for each in session.get_inputs()}
        np.testing.assert_allclose(session.run(None, inputs)[0], known["estimate"], atol=1e-4)
    before = file.read_bytes()
    assert main(["export", "-o", str(file)]) == 0  # kept
    assert file.read_bytes() == before


def test_a_file_that_disagrees_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, other = (tiny_weights(tmp_path / f"{seed}.safetensors", seed) for seed in (0, 1))
    wrong = onnx_file.to_onnx(load(other))
    monkeypatch.setattr(onnx_file, "to_onnx", lambda *_: wrong)
    assert main(["export", "--weights", str(weights), "-o", str(tmp_path / "tiny.onnx")]) == 1
    assert "differs" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.onnx")) + list(tmp_path.glob("*.npz"))


def test_a_package_for_darktable_is_of_a_camera_or_of_any(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = tiny_weights(tmp_path / "tiny.safetensors")
    said = {}
    for name, options in (("any", []), ("sony", ["--camera", "SonyA7S2", "--iso", "1600", "--ratio", "50"])):
        file = tmp_path / f"{name}.dtmodel"
        words = ["--for", "darktable", "--weights", str(weights), "-o", str(file), "--size", "128", "128", *options]
        assert main(["export", *words, "--json"]) == 0
        [result] = json.loads(capsys.readouterr().out)["results"]
        assert result["size"] == 128
        check_package(file.read_bytes())
        with ZipFile(file) as archive:
            said[name] = json.loads(archive.read(f"{name}/config.json"))["description"]
    assert "any camera" in said["any"]
    assert "gain 9.643e-05" in said["sony"]  # 1.50266 DN of 15583


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-o", "x.pt"], "end in .onnx"),
        (["-o", "x.onnx", "--weights", "nothing"], "no weights 'nothing'"),
        (["-o", "x.onnx", "--size", "30", "32"], "multiples of 16"),
        (["-o", "x.onnx", "--for", "darktable"], "end in .dtmodel"),
        (["-o", "x.onnx", "--ratio", "3"], "go with --for darktable"),
        (["-o", "x.dtmodel", "--for", "darktable", "--iso", "800"], "go together"),
        (["-o", "x.dtmodel", "--for", "darktable", "--ratio", "0.5"], "give 1 to 300"),
        (["-o", "x.dtmodel", "--for", "darktable", "--size", "256", "128"], "square"),
        (["-o", "x.dtmodel", "--for", "darktable", "--size", "64", "64"], "at least 128"),
        (["-o", "x.dtmodel", "--for", "darktable", "--camera", "none", "--iso", "9"], "no camera profile"),
    ],
)
def test_wrong_usage(options: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", *options]) in (1, 2)
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())

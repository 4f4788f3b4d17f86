"""`expose calibrate`: folders of frames in, a profile that `enhance` takes, a report and a dark shading out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from sensors import SimulatedSensor

from exposurediffusion.calibration.shots import Shot
from exposurediffusion.cli.main import main
from exposurediffusion.dng.writer import write_dng
from exposurediffusion.physics.cameras.known import load_profile


def write(folder: Path, shots: list[Shot]) -> None:
    folder.mkdir(exist_ok=True)
    for shot in shots:
        frame = shot.read()
        write_dng(
            folder / f"{shot.iso:g}-{shot.path.name}",
            replace(frame, metadata=replace(frame.metadata, shutter=shot.shutter)),
        )


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("frames")
    for iso in (200, 800):
        sensor = SimulatedSensor(iso, (96, 96), gain=0.002 * iso, scale=1 + iso / 400, iso=float(iso))
        write(root / "darks", sensor.darks(16))
        write(root / "flats", sensor.flats(8))
    return root


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """The report is tested with the calibration; its plots take seconds."""
    monkeypatch.setattr("exposurediffusion.cli.calibrate.report", lambda *_: "<html>")


def run(*words: object) -> int:
    return main(["calibrate", *map(str, words)])


def test_a_camera_is_calibrated_and_used(
    frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "made" / "mine.json"
    arguments = ("--darks", frames / "darks", "--flats", frames / "flats", "-o", output)
    assert run(*arguments) == 0
    said = capsys.readouterr().out
    assert "what was measured" in said
    assert "good: ISO 200: 16 dark frames" in said
    assert sorted(path.name for path in output.parent.iterdir()) == ["mine-dark.safetensors", "mine.html", "mine.json"]
    profile = load_profile(str(output))
    assert profile.gain(200) == pytest.approx(0.4, rel=0.05)
    assert main(["info", str(frames / "darks" / "200-dark-000.dng"), "--camera", str(output)]) == 0
    assert "profile AcmeOne at ISO 200" in capsys.readouterr().out
    assert run(*arguments) == 0
    assert "--overwrite" in capsys.readouterr().out
    monkeypatch.setattr("exposurediffusion.cli.calibrate.report", lambda *_: "<html>")
    assert run(*arguments, "--overwrite", "--json", "--name", "Mine", "--model", "Acme Two") == 0
    (entry,) = json.loads(capsys.readouterr().out)["results"]
    assert [row["ISO"] for row in entry["isos"]] == ["200", "800"]
    assert (load_profile(str(output)).name, load_profile(str(output)).exif_model) == ("Mine", "Acme Two")


@pytest.mark.usefixtures("no_plots")
def test_mosaics_of_an_industrial_camera(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sensor, lines = SimulatedSensor(1, (96, 96), cfa="GRBG", white=4095.0, black=64.0), ["file,iso,shutter"]
    for folder, shots in (("darks", sensor.darks(4)), ("flats", sensor.flats(6))):
        (tmp_path / folder).mkdir()
        for shot in shots:
            name = shot.path.with_suffix(".tif").name
            tifffile.imwrite(tmp_path / folder / name, shot.read().mosaic)
            lines.append(f"{folder}/{name},100,{shot.shutter or ''}")
    (tmp_path / "list.csv").write_text("\n".join(lines))
    output = tmp_path / "camera.json"
    options = ("--cfa", "GRBG", "--black", 64, "--white", 4095, "--list", tmp_path / "list.csv", "-o", output)
    assert run("--darks", tmp_path / "darks", "--flats", tmp_path / "flats", *options) == 0
    assert load_profile(str(output)).gain(100) == pytest.approx(1.5, rel=0.05)
    assert "4 dark frames; 16 or more" in capsys.readouterr().out


@pytest.mark.usefixtures("no_plots")
def test_wrong_usage_and_damaged_files(frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    darks, flats, output = frames / "darks", frames / "flats", tmp_path / "a.json"
    assert run("--darks", darks, "-o", output) == 2
    assert run("--darks", darks, "--flats", flats, "-o", tmp_path / "a.txt") == 2
    assert run("--darks", darks, "--flats", flats, "-o", output, "--cfa", "RGB") == 2
    assert "--cfa" in capsys.readouterr().err
    broken = tmp_path / "darks"
    broken.mkdir()
    for path in sorted(darks.iterdir())[:5]:
        (broken / path.name).write_bytes(path.read_bytes())
    half = sorted(darks.iterdir())[6].read_bytes()
    (broken / "z-half.dng").write_bytes(half[: len(half) // 2])
    assert run("--darks", broken, "--flats", flats, "-o", output) == 1
    said = capsys.readouterr()
    assert "z-half.dng" in said.err
    assert output.exists()
    assert len(load_profile(str(output)).settings) == 1


@pytest.mark.usefixtures("no_plots")
def test_lit_darks_are_refused(frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--darks", frames / "flats", "--flats", frames / "flats", "-o", tmp_path / "a.json") == 1
    assert "lens cap" in capsys.readouterr().err
    assert not np.any([path.suffix == ".json" for path in tmp_path.iterdir()])


@pytest.mark.usefixtures("no_plots")
def test_less_than_darks_and_flats(frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--flats", frames / "flats", "-o", tmp_path / "flats.json") == 0
    assert "tails and black there follow the calibrated cameras" in capsys.readouterr().out
    profile = load_profile(str(tmp_path / "flats.json"))
    assert profile.gain(800) == pytest.approx(1.6, rel=0.05)
    assert "flats alone" in profile.source
    assert run("--gain", 0.5, "--read", 2.1, "--iso", 800, "-o", tmp_path / "one.json", "--model", "Acme One") == 0
    assert float(load_profile(str(tmp_path / "one.json")).at_iso(800).read_variance) == pytest.approx(2.1**2, rel=0.01)
    assert run("--gain", 0.5, 1, "--read", 2.1, "--iso", 800, "-o", tmp_path / "two.json") == 2
    assert run("--gain", 0.5, "--read", -1, "--iso", 800, "-o", tmp_path / "two.json") == 2
    assert run("-o", tmp_path / "two.json") == 2
    assert run("--frames", frames / "flats", "-o", tmp_path / "two.json") == 1
    assert "add some of the night" in capsys.readouterr().err
    assert not (tmp_path / "two.json").exists()

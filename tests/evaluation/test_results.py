"""A folder of results: gone on with, refused where it was taken otherwise or is damaged, never half written."""

from __future__ import annotations

import json
from dataclasses import replace
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest

from exposurediffusion.evaluation.measure import Record
from exposurediffusion.evaluation.methods import Capture, Network
from exposurediffusion.evaluation.results import Results, for_json, write_text
from tests.simulated import STEADY, tiny

SETTINGS: dict[str, Any] = {"data": {"root": "a", "ratios": (100, 300)}, "crop": 512, "corrections": ["none", "final"]}
ONE = Record("capture", "short/a.dng", "a", 303.03030303030306, 3200.0, 0, "final", 31.123456789012345, 0.7)
OTHER = replace(ONE, method="net, T = 2", scene="b", psnr=inf, iso=None, psnr_srgb=30.5, ssim_srgb=0.25)


def begun(folder: Path) -> Results:
    results = Results(folder, SETTINGS)
    results.admit(Capture())
    results.add([ONE, OTHER])
    return results


def test_records_are_kept_and_gone_on_with(tmp_path: Path) -> None:
    begun(tmp_path / "new" / "folder")
    again = Results(tmp_path / "new" / "folder", SETTINGS)
    assert again.records == [ONE, OTHER]
    assert again.of("capture") == [ONE]
    assert again.has("capture", "a", "short/a.dng")
    assert not again.has("capture", "a", "short/b.dng")
    assert not again.has("capture", "b", "short/a.dng")  # the same name in the folder of another scene
    assert not again.has("net, T = 2", "a", "short/a.dng")
    again.admit(Capture())
    again.add([replace(ONE, file="short/b.dng")])
    assert len(Results(tmp_path / "new" / "folder", SETTINGS).records) == 3


def test_what_was_taken_otherwise_is_refused(tmp_path: Path) -> None:
    begun(tmp_path)
    with pytest.raises(ValueError, match=r"taken otherwise \(crop 512 there, None here\): use --overwrite"):
        Results(tmp_path, {**SETTINGS, "crop": None})
    with pytest.raises(ValueError, match="seeds None there, 3 here"):
        Results(tmp_path, {**SETTINGS, "seeds": 3})
    assert Results(tmp_path, SETTINGS).records  # and is left as it was


def test_overwriting_forgets(tmp_path: Path) -> None:
    begun(tmp_path)
    assert Results(tmp_path, {**SETTINGS, "crop": 7}, overwrite=True).records == []
    with pytest.raises(ValueError, match="crop 7 there"):
        Results(tmp_path, SETTINGS)


def test_weights_that_were_trained_anew_are_others(tmp_path: Path) -> None:
    def network(**changes: Any) -> Network:
        return replace(Network(tiny(), STEADY, "mine", "0123"), **changes)  # type: ignore[arg-type] - a denoiser

    results = begun(tmp_path)
    results.admit(network())
    results.add([])
    again = Results(tmp_path, SETTINGS)
    again.admit(network())
    for other in (network(digest="4567"), network(sampling=replace(STEADY, transition="restart"))):
        with pytest.raises(ValueError, match=r"'mine, T = 1' was measured with other settings .*0123"):
            again.admit(other)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("images.csv", "method,file\ncapture,a.dng\n"),
        ("images.csv", None),
        ("images.csv", b"\xff\xfe\x00"),
        ("images.csv", "method,file,scene,ratio,iso,seed,correction,psnr,ssim,psnr_srgb,ssim_srgb\na,b,c\n"),
        (
            "images.csv",
            "method,file,scene,ratio,iso,seed,correction,psnr,ssim,psnr_srgb,ssim_srgb\n" + "a" * 200_000,
        ),
        ("settings.json", "{"),
        ("settings.json", "{}"),
        ("settings.json", "[]"),
        ("settings.json", "null"),
    ],
)
def test_damaged_results_are_reported(file: str, content: str | bytes | None, tmp_path: Path) -> None:
    begun(tmp_path)
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=r"results that are there are damaged .*--overwrite"):
        Results(tmp_path, SETTINGS)
    assert Results(tmp_path, SETTINGS, overwrite=True).records == []


def test_a_folder_that_cannot_be_written_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError, match=r"cannot make .*file.*; choose another folder"):
            Results(folder, SETTINGS)
    (tmp_path / "taken" / "images.csv").mkdir(parents=True)
    with pytest.raises(OSError, match="cannot write"):
        Results(tmp_path / "taken", SETTINGS)


def test_nothing_is_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = begun(tmp_path)
    before = (tmp_path / "images.csv").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.replace", full)
        with pytest.raises(OSError, match="No space left"):
            results.add([replace(ONE, file="short/b.dng")])
    assert (tmp_path / "images.csv").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images.csv", "settings.json"]


def test_settings_say_how_methods_are_set(tmp_path: Path) -> None:
    begun(tmp_path)
    settings = json.loads((tmp_path / "settings.json").read_text())
    assert settings["methods"] == {"capture": {"method": "capture"}}
    assert settings["crop"] == 512


def test_numbers_that_json_lacks(tmp_path: Path) -> None:
    assert [for_json(value) for value in (inf, nan, 1.5, 3, None)] == ["inf", "nan", 1.5, 3, None]
    write_text(tmp_path / "a.md", "±\n")
    assert (tmp_path / "a.md").read_bytes() == b"\xc2\xb1\n"


def test_results_of_before_methods_were_called_so_are_read(tmp_path: Path) -> None:
    results = begun(tmp_path)
    results.admit(Capture())
    results.add([ONE])
    for file, new, old in (("settings.json", '"methods"', '"contenders"'), ("images.csv", "method,", "contender,")):
        path = tmp_path / file
        path.write_text(path.read_text().replace(new, old))
    again = Results(tmp_path, SETTINGS)
    assert (again.records, again.settings) == (results.records, results.settings)
    assert (tmp_path / "images.csv").read_text().startswith("method,")

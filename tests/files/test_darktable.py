"""Noise of an installed darktable: where it is looked for, whose it is, between ISOs, and what is damaged."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exposurediffusion.files.darktable import DETAIL, darktable_line, installed_profiles
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.physics.sensor import Metadata, RawFrame, Sensor

SETTINGS = [(400, 4e-6, 8e-9), (100, 1e-6, -2e-9), (200, 2e-6, 2e-9)]


def write(folder: Path, settings: list[Any] | None = None, version: int = 0, model: str = "EOS 5D Mark IV") -> Path:
    """A file of one Canon, with `settings` of ISO and the greens' a and b."""
    entries = [
        {"name": f"{model} iso {iso}", "iso": iso, "a": [9.0, a, 9.0], "b": [9.0, b, 9.0]}
        for iso, a, b in SETTINGS
    ] if settings is None else settings  # fmt: skip
    models = [{"model": "EOS 5D", "profiles": []}, {"model": model, "comment": "made", "profiles": entries}]
    makers = [{"maker": "Nikon", "models": []}, {"maker": "Canon", "models": models}]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "noiseprofiles.json"
    path.write_text(json.dumps({"version": version, "noiseprofiles": makers}))
    return path


def canon(iso: float | None = 100.0, make: str = "Canon", model: str = "Canon EOS 5D Mark IV") -> Metadata:
    return Metadata(make=make, model=model, iso=iso)


def test_greens_are_told_as_the_noise_of_sites_linear_between_settings(tmp_path: Path) -> None:
    path = write(tmp_path)
    for iso, slope, offset in [(100, 1e-6, -2e-9), (150, 1.5e-6, 0), (300, 3e-6, 5e-9), (400, 4e-6, 8e-9)]:
        assert darktable_line(path, canon(iso)) == pytest.approx((slope / DETAIL, offset / DETAIL), abs=1e-15)
    assert [darktable_line(path, canon(iso)) for iso in (None, 99.0, 401.0)] == [None] * 3


@pytest.mark.parametrize(
    ("make", "model", "is_known"),
    [
        ("Canon", "Canon EOS 5D Mark IV", True),
        ("CANON INC.", "EOS 5D MARK-IV", True),
        ("Canon", "Canon EOS 5D", False),
        ("Canon", "Canon EOS 5D Mark IVs", False),
        ("Nikon", "EOS 5D Mark IV", False),
        ("", "Canon EOS 5D Mark IV", True),
        ("Canon", "", False),
    ],
)
def test_a_camera_is_found_by_its_whole_model(tmp_path: Path, make: str, model: str, is_known: bool) -> None:
    assert (darktable_line(write(tmp_path), canon(make=make, model=model)) is not None) == is_known
    assert darktable_line(write(tmp_path, model="Canon EOS 5D Mark IV"), canon()) is not None


def entry(iso: Any = 100, a: Any = 1e-6, b: Any = 1e-9, **more: Any) -> dict[str, Any]:
    return {"iso": iso, "a": [1e-6, a, 0.0], "b": [0.0, b, 0.0], **more}


@pytest.mark.parametrize(
    "odd", [entry(200, skip=True), entry(200, a=0.0), entry(200, a=-1e-6), entry(200, a=float("nan")),
            entry(200, b=float("inf")), entry(200, a=7.0)],
)  # fmt: skip
def test_settings_that_cannot_be_are_left_out(tmp_path: Path, odd: dict[str, Any]) -> None:
    path = write(tmp_path, [entry(100), odd, entry(300, a=3e-6)])
    assert darktable_line(path, canon(200)) == pytest.approx((2e-6 / DETAIL, 1e-9 / DETAIL))
    assert darktable_line(write(tmp_path, [odd]), canon(200)) is None


@pytest.mark.parametrize(
    "settings",
    [[entry(iso="x")], [entry(a="x")], [{"iso": 100}], [{**entry(), "a": []}], [3], 3, [{**entry(), "b": None}]],
)
def test_a_damaged_file_is_said(tmp_path: Path, settings: Any) -> None:
    with pytest.raises(ValueError, match=r"noiseprofiles\.json"):
        darktable_line(write(tmp_path, settings), canon())


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"version": 0}', "[" * 100_000, '{"version": 1}'])
def test_another_file_is_said(tmp_path: Path, text: str) -> None:
    path = tmp_path / "noiseprofiles.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"noiseprofiles\.json"):
        darktable_line(path, canon())


@pytest.mark.skipif(sys.platform == "win32", reason="XDG folders are not looked into")
def test_it_is_looked_for_where_programs_put_their_data(no_darktable: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exposurediffusion.files.darktable._LINUX", ())
    assert installed_profiles() is None
    everyones = write(no_darktable / "darktable")
    assert installed_profiles() == everyones
    own = write(no_darktable / "own" / "darktable")
    assert installed_profiles() == own
    own.unlink()
    everyones.unlink()


def test_on_macos_the_bundle_and_on_windows_the_programs_are_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(Path, "is_file", lambda path: bool(seen.append(path.as_posix())))
    monkeypatch.setenv("ProgramFiles", "C:/Programs")
    for platform in ("darwin", "win32"):
        monkeypatch.setattr(sys, "platform", platform)
        assert installed_profiles() is None
    assert "/Applications/darktable.app/Contents/Resources/share/darktable/noiseprofiles.json" in seen
    assert "C:/Programs/darktable/share/darktable/noiseprofiles.json" in seen


def test_the_part_of_the_noise_that_darktable_measures(tmp_path: Path) -> None:
    """White noise, demosaiced by PPG, one step of a Haar transform: the factor between its numbers and a site's."""
    rawpy = pytest.importorskip("rawpy")
    from exposurediffusion.dng.writer import write_dng

    mosaic = np.random.default_rng(0).normal(6000, 60, (512, 512)).round().astype(np.uint16)
    data = Metadata(as_shot_neutral=(1.0, 1.0, 1.0), colour_matrix=(1.0, 0, 0, 0, 1, 0, 0, 0, 1))
    write_dng(tmp_path / "x.dng", RawFrame(mosaic, Sensor.uniform(CFA("RGGB"), 512, 16383), data))
    with rawpy.imread(str(tmp_path / "x.dng")) as raw:
        picture = raw.postprocess(
            demosaic_algorithm=rawpy.DemosaicAlgorithm.PPG, user_wb=[1, 1, 1, 1], gamma=(1, 1), no_auto_bright=True,
            output_color=rawpy.ColorSpace.raw, output_bps=16, user_flip=0,
        )[..., 1] * ((16383 - 512) / 65535)  # fmt: skip
    details = (picture[::2, ::2] - picture[::2, 1::2] - picture[1::2, ::2] + picture[1::2, 1::2]) / 4
    assert (np.median(np.abs(details)) / 0.6745 / 60) ** 2 == pytest.approx(DETAIL, rel=0.05)
    assert details.var() < 0.15 * 60**2  # a mutant that takes its numbers as they are is off by far more than twice

"""Dark shading from folders of dark raw frames, and its file."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from exposurediffusion.datasets.dark_frames import FORMAT, load_dark_shading, save_dark_shading
from exposurediffusion.dng.writer import write_dng
from exposurediffusion.files import atomic as files
from exposurediffusion.physics.dark_shading import DarkShading
from exposurediffusion.physics.mosaic import CFA, pack
from exposurediffusion.physics.sensor import Metadata, RawFrame, Sensor
from tests.statistics import BOUND, mean_z, variance_z

SHAPE = (60, 72)
ISOS = (200, 800, 3200)
READ, FRAMES = 4.0, 6


def true_shading(iso: float) -> np.ndarray:
    """DN of each site: a slanted offset, and columns that grow with the ISO."""
    offset = np.add.outer(np.arange(SHAPE[0]) / 20, np.arange(SHAPE[1]) / 30)
    return offset + iso * 2e-3 * np.random.default_rng(5).standard_normal(SHAPE[1])


def dark_frame(
    iso: float | None, generator: np.random.Generator, cfa: str = "RGGB", light: float = 0.0, rows: int = SHAPE[0]
) -> RawFrame:
    values = 512 + light + true_shading(iso or 100)[:rows] + READ * generator.standard_normal((rows, SHAPE[1]))
    mosaic = values.round().clip(0, 16383).astype(np.uint16)
    return RawFrame(mosaic, Sensor.uniform(CFA(cfa), 512, 16383), Metadata(make="Acme", model="Acme One", iso=iso))


@pytest.fixture
def darks(tmp_path: Path) -> Path:
    folder, generator = tmp_path / "darks", np.random.default_rng(1)
    folder.mkdir()
    for iso in ISOS:
        for index in range(FRAMES):
            write_dng(folder / f"{index}-{iso}.dng", dark_frame(iso, generator))
    (folder / "notes.txt").write_text("lens cap on")
    return folder


@pytest.mark.parametrize("iso", [200.0, 800.0, 3200.0, 1500.0])
def test_a_folder_of_dark_frames_gives_their_shading(darks: Path, iso: float) -> None:
    shading = load_dark_shading(darks)
    assert shading.saturation == 16383 - 512
    truth = pack(torch.from_numpy(true_shading(iso)).float(), CFA("RGGB"))
    spread = np.array(ISOS) - np.mean(ISOS)
    line = 1 / len(ISOS) + (iso - np.mean(ISOS)) ** 2 / float(spread @ spread)
    error, variance = shading.map(iso) - truth, float((READ**2 + 1 / 12) / FRAMES * line)
    assert abs(mean_z(error, 0.0)) < BOUND
    assert abs(variance_z(error, variance)) < BOUND
    assert variance_z(shading.map(100.0 if iso > 1000 else 6400.0) - truth, variance) > 2 * BOUND  # twin: another ISO


def test_frames_are_averaged_as_a_stack_is(darks: Path) -> None:
    generator, stacks = np.random.default_rng(1), {}
    for iso in ISOS:
        frames = [dark_frame(iso, generator).planes * (16383 - 512) for _ in range(FRAMES)]
        stacks[float(iso)] = torch.stack(frames)
    stacked, loaded = DarkShading.fit(stacks, 16383 - 512), load_dark_shading(darks)
    torch.testing.assert_close(loaded.map(1600.0), stacked.map(1600.0), atol=5e-3, rtol=0)


def test_what_is_saved_is_loaded(darks: Path, tmp_path: Path) -> None:
    shading = load_dark_shading(darks)
    save_dark_shading(tmp_path / "made" / "shading.safetensors", shading)
    again = load_dark_shading(tmp_path / "made" / "shading.safetensors")
    for made, kept in ((shading.slope, again.slope), (shading.offset, again.offset)):
        grain = 1.4826 * (made - made.median()).abs().median()
        torch.testing.assert_close(kept, made, atol=float(grain) / 16, rtol=0)
        assert (tmp_path / "made" / "shading.safetensors").stat().st_size < 2 * made.numel() * 4  # of two maps
    assert (again.black_level_error, again.saturation) == (shading.black_level_error, shading.saturation)


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shading = DarkShading(torch.zeros(4, 2, 2), torch.ones(4, 2, 2), ((100.0, 0.5),), 15000.0)
    path = tmp_path / "shading.safetensors"
    save_dark_shading(path, shading)
    before = path.read_bytes()

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "replace", full_disk)
    with pytest.raises(OSError, match=r"shading\.safetensors.*No space left"):
        save_dark_shading(path, shading)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_x_trans_frames_are_as_good(tmp_path: Path) -> None:
    generator = np.random.default_rng(2)
    for index in range(2):
        write_dng(tmp_path / f"{index}.dng", dark_frame(800, generator, cfa="XTRANS"))
    shading = load_dark_shading(tmp_path)
    assert shading.slope.shape == (9, 20, 24)
    assert (shading.slope == 0).all()


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"cfa": "BGGR"}, r"zz\.dng \(BGGR 72x60\) and .*0-200\.dng \(RGGB 72x60\) differ: one camera"),
        ({"rows": 58}, r"zz\.dng \(RGGB 72x58\) and .* differ"),
        ({"iso": None}, r"zz\.dng: says no ISO"),
        ({"light": 4000.0}, r"zz\.dng: not dark \(25 % of white.*lens cap"),
    ],
)
def test_frames_that_do_not_belong_are_named(darks: Path, bad: dict[str, object], message: str) -> None:
    options = {"iso": 800, "generator": np.random.default_rng(3)} | bad
    write_dng(darks / "zz.dng", dark_frame(**options))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=message):
        load_dark_shading(darks)


def test_unreadable_frames_and_missing_ones_are_named(darks: Path, tmp_path: Path) -> None:
    content = (darks / "0-200.dng").read_bytes()
    (darks / "zz.arw").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"zz\.arw: .*(damaged|truncated)"):
        load_dark_shading(darks)
    with pytest.raises(ValueError, match=r"nowhere: no such file or folder"):
        load_dark_shading(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty: no raw files"):
        load_dark_shading(tmp_path / "empty")


def test_files_of_another_kind_are_refused(darks: Path, tmp_path: Path) -> None:
    raw = shutil.copy(darks / "0-200.dng", tmp_path / "single.dng")
    with pytest.raises(ValueError, match=r"single\.dng: not a safetensors file .*give the folder"):
        load_dark_shading(raw)
    other = tmp_path / "weights.safetensors"
    save_file({"slope": torch.zeros(2)}, other)
    with pytest.raises(ValueError, match="not a dark shading"):
        load_dark_shading(other)
    save_dark_shading(other, DarkShading(torch.zeros(4, 2, 2), torch.ones(4, 2, 2), ((100.0, 0.5),), 15000.0))
    sound, own = load_file(other), {"format": FORMAT, "saturation": "15000"}
    for damage in (
        {"slope.0": torch.zeros(9, dtype=torch.uint8)},
        {"offset.steps": torch.ones(3, 2)},
        {"black_level_error": torch.ones(0, 2)},
        {"black_level_error": torch.ones(3)},
    ):
        save_file(sound | damage, other, metadata=own)
        with pytest.raises(ValueError, match=r"weights\.safetensors: damaged"):
            load_dark_shading(other)

"""`expose prepare`: odd pictures are prepared or named, and the file says what each picture is."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from safetensors import safe_open

from exposurediffusion.cli.main import main
from exposurediffusion.files.develop import srgb_to_linear
from exposurediffusion.pictures.prepared import read_pictures

ROWS, COLUMNS = 260, 300


def codes(seed: int, rows: int = ROWS, columns: int = COLUMNS) -> np.ndarray:
    """A photograph of soft colours, uint8."""
    coarse = np.random.default_rng(seed).integers(20, 240, (6, 6, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((columns, rows), Image.Resampling.BICUBIC))


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "album").mkdir()
    return tmp_path / "album"


@pytest.fixture
def output(tmp_path) -> Path:
    return tmp_path / "out" / "pictures.safetensors"


@pytest.fixture
def prepare(capsys, folder, output):
    """Prepare the album: exit code, results of --json, stderr."""

    def call(*options, output=output, folders=(folder,)):
        command = ["prepare", *folders, "-o", output, "--downscale", 1, "--json", *options]
        try:
            code = main([str(word) for word in command])
        except SystemExit as leave:
            code = leave.code
        captured = capsys.readouterr()
        out = json.loads(captured.out)["results"] if captured.out.startswith("{") else []
        return code, out, " ".join(captured.err.split())

    return call


def named(results: list[dict]) -> list[str]:
    return [result["name"] for result in results if "name" in result]


def error_of(light: np.ndarray, again: torch.Tensor) -> float:
    """On the scale of a square root, root mean square."""
    return float(np.sqrt(np.square(np.sqrt(light) - np.sqrt(np.moveaxis(again.numpy(), 0, -1))).mean()))


def test_photographs_of_every_kind(folder, output, prepare) -> None:
    grey = codes(2)[..., 0]
    Image.fromarray(codes(1)).save(folder / "a.png")
    Image.fromarray(grey).save(folder / "b.png")
    Image.fromarray(codes(3)).convert("CMYK").save(folder / "c.jpg", quality=98)
    Image.fromarray(codes(4)[..., 0].astype(np.uint16) * 257).save(folder / "d.png")
    Image.fromarray(np.dstack([codes(5), np.full((ROWS, COLUMNS), 128, np.uint8)])).save(folder / "e.png")
    Image.fromarray(codes(6)).convert("P").save(folder / "f.png")
    code, results, err = prepare()
    assert (code, err) == (0, "")
    pictures = read_pictures(output)
    assert (
        list(pictures.names)
        == named(results)
        == [f"album/{name}" for name in ("a.png", "b.png", "c.jpg", "d.png", "e.png", "f.png")]
    )
    for index, expected in ((0, codes(1)), (1, grey), (3, codes(4)[..., 0]), (4, codes(5))):
        expected = np.broadcast_to(expected if expected.ndim == 3 else expected[..., None], (ROWS, COLUMNS, 3))
        assert error_of(srgb_to_linear(expected / 255), pictures.picture(index)) < 10 ** (-41 / 20)
    assert min(result["decibels"] for result in results) > 40


def test_downscaling_in_linear_light(folder, output, prepare) -> None:
    stripes = np.zeros((2 * ROWS, 2 * COLUMNS, 3), np.uint8)
    stripes[::2] = codes(1, ROWS, 2 * COLUMNS)
    Image.fromarray(stripes).save(folder / "a.png")
    assert prepare("--downscale", 2)[0] == 0
    half = srgb_to_linear(stripes[::2].reshape(ROWS, COLUMNS, 2, 3) / 255).mean(axis=2) / 2
    assert error_of(half, read_pictures(output).picture(0)) < 0.01


def test_what_is_clean_already_is_not_averaged(folder, prepare) -> None:
    for number, name in enumerate(("clean.png", "other.png")):
        Image.fromarray(codes(number, 2 * ROWS, 2 * COLUMNS)).save(folder / name)
    rows = [
        "file\tlicence as stated [where]\tprocessing",
        "clean.png\tCC0 [README]\tbox 3",
        "*.png\tMIT\tbyte for byte",
    ]
    (folder / "MANIFEST.tsv").write_text("\n".join(rows))
    code, results, _ = prepare("--downscale", 2)
    assert code == 0
    assert [(one["rows"], one["licence"]) for one in results] == [(2 * ROWS, "CC0 [README]"), (ROWS, "MIT")]


def test_licences_from_a_table_above(folder, prepare) -> None:
    (folder / "photo").mkdir()
    (folder / "sky").mkdir()
    Image.fromarray(codes(1)).save(folder / "photo" / "a.png")
    Image.fromarray(codes(2)).save(folder / "photo" / "b.jpg")
    Image.fromarray(codes(3)).save(folder / "sky" / "c.png")
    (folder.parent / "MANIFEST.tsv").write_text(
        "folder/file\twhat\tlicence\nalbum/photo/*.png *.webp\tsome\tCC-BY-4.0\n"
    )
    _, results, _ = prepare()
    assert [one["licence"] for one in results] == ["CC-BY-4.0", "not stated", "not stated"]


def test_what_the_file_says_of_each(folder, output, prepare) -> None:
    Image.fromarray(codes(1)).save(folder / "a.png")
    prepare()
    with safe_open(output, "pt") as file:
        (facts,) = json.loads(file.metadata()["pictures"])
    assert facts["sha256"] == hashlib.sha256((folder / "a.png").read_bytes()).hexdigest()
    assert (facts["name"], facts["rows"], facts["columns"]) == ("album/a.png", ROWS, COLUMNS)
    assert facts["panorama"] is False


def test_panoramas_and_stills_of_high_dynamic_range(folder, output, prepare) -> None:
    sky = srgb_to_linear(codes(1, 256, 512) / 255)
    sky[20:40, 100:120] = 4e4
    (folder / "sky.hdr").write_bytes(imagecodecs.rgbe_encode(sky, header=True))
    still = srgb_to_linear(codes(2) / 255) * 30
    tifffile.imwrite(folder / "still.tif", still, photometric="rgb")
    code, results, err = prepare()
    assert (code, err) == (0, "")
    assert [one["panorama"] for one in results] == [True, False]
    pictures = read_pictures(output)
    assert pictures.picture(0)[:, 22:38, 102:118].median() == pytest.approx(4e4, rel=0.1)
    assert pictures.picture(1).mean() == pytest.approx(still.mean(), rel=0.02)


def test_values_that_are_no_numbers(folder, output, prepare) -> None:
    light = srgb_to_linear(codes(2) / 255)
    light[5, 5], light[7, 7] = np.nan, np.inf
    tifffile.imwrite(folder / "a.tif", light, photometric="rgb")
    code, _, err = prepare()
    assert code == 0
    assert "a.tif: 6 values are no finite numbers" in err
    assert read_pictures(output).pixels.isfinite().all()


def test_too_large_pictures_become_smaller(folder, output, prepare) -> None:
    Image.fromarray(codes(1, 600, 800)).save(folder / "a.png")
    sky = srgb_to_linear(codes(2, 400, 800) / 255) + 1
    (folder / "b.hdr").write_bytes(imagecodecs.rgbe_encode(sky, header=True))
    code, results, _ = prepare("--megapixels", 0.2)
    assert code == 0
    assert all(0.19e6 < one["rows"] * one["columns"] <= 0.2e6 for one in results)
    assert results[1]["columns"] == 2 * results[1]["rows"]
    mean = srgb_to_linear(codes(1, 600, 800) / 255).mean()
    assert read_pictures(output).picture(0).mean() == pytest.approx(mean, rel=0.01)


def test_bad_pictures_are_named_and_the_others_done(folder, output, prepare) -> None:
    Image.fromarray(codes(1)).save(folder / "good.png")
    (folder / "text.jpg").write_text("no picture")
    (folder / "short.png").write_bytes((folder / "good.png").read_bytes()[:2000])
    (folder / "empty.hdr").write_bytes(b"")
    Image.new("RGB", (1, 1), "red").save(folder / "dot.png")
    Image.fromarray(codes(2, 255, 400)).save(folder / "low.png")
    Image.new("RGB", (300, 300), "red").save(folder / "flat.png")
    code, results, err = prepare("--downscale", 2)
    assert code == 1  # and good.png is too small at half the size
    assert "none of the pictures can be used" in err
    assert not output.exists()
    code, results, err = prepare()
    assert code == 1
    assert named(results) == ["album/good.png"]
    for name, why in {
        "text.jpg": "cannot be read",
        "short.png": "cannot be read",
        "empty.hdr": "cannot be read",
    }.items():
        assert f"{name}: {why}" in err
    assert "dot.png: too small (1 x 1 pixels" in err
    assert "low.png: too small (400 x 255 pixels" in err
    assert "flat.png: of one colour" in err
    assert len(read_pictures(output)) == 1


def test_links_that_lead_nowhere_are_told_and_the_others_done(folder, prepare) -> None:
    Image.fromarray(codes(1)).save(folder / "good.png")
    (folder / "sub").mkdir()
    (folder / "sub" / "a.png").symlink_to(folder / "gone.png")
    code, results, err = prepare()
    assert code == 1
    assert named(results) == ["album/good.png"]
    assert "sub/a.png: a link that leads nowhere" in err


def test_outputs_where_nothing_can_be_written(folder, tmp_path, prepare, monkeypatch) -> None:
    Image.fromarray(codes(1)).save(folder / "good.png")
    (tmp_path / "file").write_text("of the user")
    code, _, err = prepare(output=tmp_path / "file" / "below" / "a.safetensors")
    assert code == 1
    assert f"{tmp_path}/file/below: cannot be made, {tmp_path}/file is no folder; choose another place" in err
    (tmp_path / "closed").mkdir()
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may do everything
    code, _, err = prepare(output=tmp_path / "closed" / "a.safetensors")
    assert code == 1
    assert f"{tmp_path}/closed: nothing can be written into this folder; choose another place" in err
    assert not list((tmp_path / "closed").iterdir())


def test_of_copies_the_largest_is_kept(folder, prepare) -> None:
    large = Image.fromarray(codes(1, 520, 600))
    large.resize((300, 260)).save(folder / "a.jpg")
    large.save(folder / "b.png")
    large.point(lambda code: code * 0.9).resize((400, 340)).save(folder / "c.jpg")
    Image.fromarray(codes(2, 520, 600)).save(folder / "d.png")
    code, results, err = prepare()
    assert code == 0
    assert named(results) == ["album/b.png", "album/d.png"]
    assert "album/a.jpg: left out, nearly the same as album/b.png" in err
    assert "album/c.jpg: left out, nearly the same as album/b.png" in err


def test_a_folder_in_another_counts_once(folder, prepare) -> None:
    (folder / "sub").mkdir()
    Image.fromarray(codes(1)).save(folder / "sub" / "a.png")
    code, results, err = prepare(folders=(folder, folder / "sub"))
    assert (code, err, named(results)) == (0, "", ["album/sub/a.png"])


def test_a_table_for_people(folder, tmp_path, capsys) -> None:
    Image.fromarray(codes(1)).save(folder / "a.png")
    assert main(["prepare", str(folder), "-o", str(tmp_path / "p.safetensors"), "--downscale", "1"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "photographs" in out
    assert "Licences not stated: 1 of 1" in out


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--downscale", 0], "--downscale lies between"),
        (["--megapixels", "nan"], "--megapixels between"),
        (["--quality", 10], "--quality"),
    ],
)
def test_wrong_options(options, why, folder, prepare) -> None:
    Image.fromarray(codes(1)).save(folder / "a.png")
    code, _, err = prepare(*options)
    assert code == 2
    assert why in err


def test_wrong_folders_and_outputs(folder, tmp_path, prepare) -> None:
    code, _, err = prepare()
    assert code == 2
    assert "no pictures" in err
    code, _, err = prepare(folders=(tmp_path / "none",))
    assert code == 2
    assert "no such folder" in err
    assert prepare(folders=())[0] == 2
    Image.fromarray(codes(1)).save(folder / "a.png")
    code, _, err = prepare(output=tmp_path / "a.zip")
    assert code == 2
    assert "end in .safetensors" in err
    (tmp_path / "a.safetensors").mkdir()
    code, _, err = prepare("--overwrite", output=tmp_path / "a.safetensors")
    assert code == 2
    assert "a.safetensors is a folder: name a file" in err
    code, _, err = prepare(folders=(folder / "a.png",))
    assert code == 2
    assert "a.png: a file, give its folder" in err
    assert prepare()[0] == 0
    code, out, _ = prepare()
    assert code == 0
    assert [entry["kept"] for entry in out] == [True]
    assert prepare("--overwrite")[0] == 0

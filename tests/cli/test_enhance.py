"""What `expose enhance` makes of several files, and how pictures are written; see also `test_main`."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from exposurediffusion.cli.main import main
from exposurediffusion.datasets.dark_frames import save_dark_shading
from exposurediffusion.dng.writer import write_dng
from exposurediffusion.photographs import enhancer
from exposurediffusion.physics.dark_shading import DarkShading
from exposurediffusion.raw.read import read_raw
from tests.frames import capture


@pytest.fixture
def enhance(tiny_weights, capsys):
    """`expose enhance`: its exit code, and what it wrote to stdout and stderr."""

    def run(*arguments):
        code = main(["enhance", *map(str, arguments), "--weights", str(tiny_weights)])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def album(tmp_path) -> Path:
    """Three shots of two brightnesses, one in a subfolder, one in a hidden one."""
    for place, ratio in (("a b.dng", 20.0), ("ü.dng", 80.0), ("sub/c.dng", 80.0), (".thumbs/d.dng", 80.0)):
        (tmp_path / "in" / place).parent.mkdir(parents=True, exist_ok=True)
        write_dng(tmp_path / "in" / place, capture(ratio=ratio))
    return tmp_path / "in"


def made(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.*"))


def test_subfolders_are_taken_if_asked_for_and_keep_their_places(enhance, album, tmp_path):
    assert enhance(album, "-o", tmp_path / "flat", "--ratio", 50)[0] == 0
    assert made(tmp_path / "flat") == ["a b.dng", "ü.dng"]
    code, out, _ = enhance(album, "-o", tmp_path / "flat", "--ratio", 50, "--recursive")
    assert code == 0
    assert made(tmp_path / "flat") == ["a b.dng", "sub/c.dng", "ü.dng"]
    assert out.splitlines()[-1] == "1 done, 2 kept, 0 failed"
    assert "--recursive" in enhance(tmp_path)[2]  # where a folder holds none itself


def test_results_below_the_input_are_no_input(enhance, album):
    for done, kept in ((3, 0), (0, 3)):
        code, out, _ = enhance(album, "-o", album / "out", "--ratio", 50, "--recursive")
        assert code == 0
        assert made(album / "out") == ["a b.dng", "sub/c.dng", "ü.dng"]
        assert not kept or out.splitlines()[-1] == f"{done} done, {kept} kept, 0 failed"


def test_one_ratio_for_all(enhance, album, tmp_path):
    def ratios(ratio: str) -> list[float]:
        _, out, _ = enhance(album, "-o", tmp_path / ratio, "--recursive", "--ratio", ratio, "--json")
        return [result["ratio"] for result in json.loads(out)["results"]]

    automatic, same = ratios("auto"), ratios("same")
    assert automatic[0] < 0.5 * automatic[1]
    assert same == pytest.approx([sorted(automatic)[1]] * 3)


def test_denoising_alone(enhance, dark_dng, tmp_path):
    code, out, _ = enhance(dark_dng, "-o", tmp_path / "x.dng", "--ratio", 1, "--json")
    assert code == 0
    assert (json.loads(out)["results"][0]["steps"], json.loads(out)["results"][0]["baseline_exposure"]) == (0, 0)
    light = [float(read_raw(path).planes.mean()) for path in (dark_dng, tmp_path / "x.dng")]
    assert light[1] == pytest.approx(light[0], rel=0.2)


@pytest.mark.parametrize(("name", "suffix"), [("jpg", ".jpg"), ("tif", ".tif"), ("jpeg", ".jpg"), ("tiff", ".tif")])
def test_formats_have_their_usual_names(enhance, dark_dng, tmp_path, name, suffix):
    assert enhance(dark_dng, "-o", tmp_path, "--format", name, "--ratio", 50)[0] == 0
    assert made(tmp_path) == [f"dark{suffix}"]


def test_pictures_have_size_quality_brightness_and_tone(enhance, dark_dng, tmp_path):
    def picture(*options) -> tuple[Path, np.ndarray]:
        path = tmp_path / "x.jpg"
        assert enhance(dark_dng, "-o", path, "--ratio", 50, "--overwrite", *options)[0] == 0
        return path, np.asarray(Image.open(path)).astype(float)

    path, plain = picture()
    size = path.stat().st_size
    assert plain.shape == (128, 160, 3)
    assert picture("--size", 64)[1].shape == (51, 64, 3)
    assert picture("--quality", 40)[0].stat().st_size < 0.6 * size
    assert picture("--ev", 1)[1].mean() > plain.mean() + 20
    linear = picture("--tone", "linear")[1]
    assert 3 < abs(linear - plain).mean() < 60


def test_a_page_before_and_after(enhance, dark_dng, tmp_path):
    assert enhance(dark_dng, "-o", tmp_path / "x.dng", "--ratio", 50, "--before-after")[0] == 0
    assert made(tmp_path) == ["x-compare.html", "x.dng"]
    assert b"data:image/jpeg" in (tmp_path / "x-compare.html").read_bytes()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--size", "3"], "size is at least 16"),
        (["--quality", "0"], "quality lies between 1 and 100"),
        (["--ev", "nan"], "ev lies between"),
        (["--gain", "2"], "belong together"),
        (["--iso", "0"], "iso lies between"),
    ],
)
def test_wrong_values_are_wrong_usage(enhance, dark_dng, tmp_path, options, says):
    code, _, err = enhance(dark_dng, "-o", tmp_path / "x.jpg", *options)
    assert code == 2
    assert says in err
    assert not made(tmp_path)


def test_a_profile_that_cannot_be_used_is_an_error(enhance, tmp_path):
    frame = capture()
    nameless = write_dng(tmp_path / "n.dng", type(frame)(frame.mosaic, frame.sensor))
    code, _, err = enhance(nameless, "-o", tmp_path / "x.dng", "--ratio", 50, "--camera", "NikonD850")
    assert code == 1
    assert "--iso" in err
    code, out, _ = enhance(
        nameless, "-o", tmp_path / "x.dng", "--ratio", 50, "--camera", "NikonD850", "--iso", 800, "--json"
    )
    assert code == 0
    assert json.loads(out)["results"][0]["noise_source"].startswith("profile NikonD850 at ISO 800")


def test_info_says_of_each_file_what_would_be_done(album, capsys):
    assert main(["info", str(album), "--recursive", "--json"]) == 0
    results = json.loads(capsys.readouterr().out)["results"]
    assert [Path(result["input"]).name for result in results] == ["a b.dng", "ü.dng", "c.dng"]
    assert all({"ratio", "brighter (EV)", "steps T", "weights"} <= result.keys() for result in results)
    assert results[0]["ratio"] < results[1]["ratio"] == pytest.approx(results[2]["ratio"])


def test_a_dark_shading_is_taken_out_or_said_to_be_left(enhance, dark_dng, tmp_path):
    planes = torch.zeros(read_raw(dark_dng).planes.shape)
    shading = DarkShading(planes, planes + 40.0, ((800.0, 0.0),), 15583.0)
    save_dark_shading(tmp_path / "dark.safetensors", shading)
    save_dark_shading(tmp_path / "small.safetensors", replace(shading, slope=planes[:, 1:], offset=planes[:, 1:]))
    code, _, err = enhance(
        dark_dng, "-o", tmp_path / "x.png", "--ratio", 50, "--dark-shading", tmp_path / "dark.safetensors"
    )
    assert code == 0
    assert "dark shading taken out" in err
    code, out, err = enhance(
        dark_dng, "-o", tmp_path / "y.png", "--ratio", 50, "--dark-shading", tmp_path / "small.safetensors", "--json"
    )
    assert code == 0
    assert "dark shading left in" in err
    assert "dark shading left in" in json.loads(out)["results"][0]["notes"][0]
    for options in (["--dark-shading", tmp_path / "none"], ["--dark-shading", dark_dng]):
        code, _, err = enhance(dark_dng, "-o", tmp_path / "z.png", *options)
        assert code == 2
        assert str(options[1]) in err


def test_sidecars_lie_beside_a_dng(enhance, dark_dng, tmp_path):
    assert enhance(dark_dng, "-o", tmp_path / "x.dng", "--ratio", 50, "--sidecar")[0] == 0
    assert made(tmp_path) == ["x.dng", "x.dng.pp3", "x.dng.xmp"]


def test_the_form_of_a_dng_is_chosen(enhance, dark_dng, tmp_path):
    def mosaic(*options) -> np.ndarray:
        assert enhance(dark_dng, "-o", tmp_path / "x.dng", "--ratio", 50, "--overwrite", *options)[0] == 0
        return read_raw(tmp_path / "x.dng").mosaic

    assert mosaic("--bits", "16f", "--compression", "none").dtype == np.float32
    assert mosaic("--exposure", "capture").dtype == np.float32  # 5.6 EV: 16 bits would show
    assert mosaic().dtype == np.uint16


@pytest.mark.parametrize(("error", "options"), [(OSError, ["--debug"]), (KeyError, [])])
def test_an_error_of_the_last_writing_is_not_lost(enhance, dark_dng, tmp_path, monkeypatch, error, options):
    """Results are written in a thread; what it does not report itself comes back to the command."""

    def broken(*arguments):
        raise error("broken")

    monkeypatch.setattr(enhancer, "write_result", broken)
    with pytest.raises(error):
        enhance(dark_dng, "-o", tmp_path / "x.dng", "--ratio", 50, *options)


def test_a_photograph_that_is_too_large_is_refused(
    dark_dng: Path, tiny_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["enhance", str(dark_dng), "-o", str(tmp_path / "a.dng"), "--weights", str(tiny_weights)]
    assert main([*words, "--max-megapixels", "0.001"]) == 1
    assert (
        "are more than 0.001 megapixels; if the file is sound, give a larger --max-megapixels"
        in capsys.readouterr().err
    )
    assert not list(tmp_path.iterdir())
    for wrong in ("0", "nan", "-3", "1e9"):
        assert main([*words, "--max-megapixels", wrong]) == 2

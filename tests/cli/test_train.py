"""`expose train`: every preset from raw files to an enhanced frame, overrides by name, answers to bad input."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from exposurediffusion.cli.main import main
from exposurediffusion.enhancement.frame import enhance
from exposurediffusion.raw.read import read_raw
from exposurediffusion.training.presets import PRESETS
from exposurediffusion.weights.file import load, load_diffusion

TINY = ["--iterations", 2, "--batch", 2, "--patch", 16, "--validation-patch", 16, "--workers", 0, "--no-tensorboard"]
WIDTHS = ["--denoiser.options.widths", 2, 2, 3, 3, 4]
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photographs, smooth enough to learn something from."""
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(3)
    for name in ("a", "b", "c"):
        coarse = Image.fromarray(random.integers(20, 250, (12, 12, 3)).astype(np.uint8))
        coarse.resize((260, 260), Image.Resampling.BICUBIC).save(folder / f"{name}.png")
    return folder


def simulate(pictures: Path, output: Path, *options: Any) -> Path:
    words = ["simulate", "--images", pictures, "-o", output, "--size", 96, *options]
    assert main([str(word) for word in words]) == 0
    return output


@pytest.fixture(scope="module")
def sid(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree in SID's layout: four scenes to train on, two to validate, two short exposures of each ratio."""
    root = tmp_path_factory.mktemp("sid")
    shading = ["--dark-shading", 4, "--darks", 3, "--seed", 1]
    simulate(pictures, root, "--split", "train", "--scenes", 4, "--shorts", 2, *shading)
    return simulate(pictures, root, "--split", "validation", "--scenes", 2, *shading)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Call:
    """Call `expose train`: exit code, stdout, stderr."""

    def call(*options: Any) -> tuple[int, str, str]:
        try:
            code = main(["train", *map(str, options)])
        except SystemExit as leave:
            code = int(leave.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def tiny(name: str) -> list[Any]:
    """A preset at the size of a test."""
    recipe = PRESETS[name].recipe
    if recipe.diffusion is not None:
        return [*TINY, "--diffusion.channels", 8, 8, "--diffusion.groups", 4, "--diffusion.steps", 2]
    options = list(TINY)
    if recipe.prelude.share:
        options += ["--prelude.share", 0.5]
    if "widths" in recipe.denoiser.options:
        options += WIDTHS
    if "width" in recipe.denoiser.options:
        options += ["--denoiser.options.width", 4]
    if "encoders" in recipe.denoiser.options:  # one block in each place; `test_cost` counts those of the preset
        options += ["--denoiser.options.encoders", 1, 1, "--denoiser.options.middle", 1]
        options += ["--denoiser.options.decoders", 1, 1]
    return options


def settings_of(fields: dict[str, Any], path: str = "") -> set[str]:
    """Every setting of a recipe as text."""
    parts = {f"{path}{name}": value for name, value in fields.items()}
    below = (settings_of(value, f"{name}.") for name, value in parts.items() if isinstance(value, dict))
    return {f"{name} {value}" for name, value in parts.items() if not isinstance(value, dict)}.union(*below)


def covering() -> list[str]:
    """Few presets that have every setting of all of them."""
    settings = {name: settings_of(asdict(preset.recipe)) for name, preset in PRESETS.items()}
    chosen: list[str] = []
    while left := set.union(*settings.values()).difference(*(settings[name] for name in chosen)):
        chosen.append(max(PRESETS, key=lambda name: len(settings[name] & left)))
    return chosen


@pytest.mark.parametrize("name", covering())
def test_presets_of_every_setting_train_save_load_and_enhance(name: str, sid: Path, run: Call, tmp_path: Path) -> None:
    code, out, error = run("--preset", name, "--data", sid, "-o", tmp_path / "run", *tiny(name))
    assert code == 0, error
    weights = tmp_path / "run" / "weights.safetensors"
    assert str(weights) in out
    frame = read_raw(next((sid / "Sony" / "short").glob("2*_0.1s.dng")))
    if PRESETS[name].recipe.diffusion is not None:
        clean = load_diffusion(weights).sample(frame.planes[None] * 100, generator=torch.Generator().manual_seed(0))
        assert clean.shape[1:] == frame.planes.shape
        assert bool(clean.isfinite().all())
        return
    model = load(weights)
    assert model.card.training["preset"] == name
    assert model.card.training["iterations"] == 2
    assert model.card.sampling == PRESETS[name].recipe.sampling
    assert bool(enhance(frame, model, ratio=100.0).planes.isfinite().all())
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [entry["kind"] for entry in log] == ["training", "validation"]
    assert log[1]["psnr_x100"] > 5
    assert (tmp_path / "run" / "validation" / "0000002-x100.png").is_file()


def test_dry_run_resolves_what_is_overridden(run: Call) -> None:
    options = ["--optimizer.lr", "2e-4", "--capture.ratio", 50, 60, "--sampling.transition", "markov"]
    code, out, _ = run("--preset", "eld-nafnet1-exposure", "--dry-run", *options)
    resolved = json.loads(out)
    assert code == 0
    assert resolved["optimizer"]["lr"] == 2e-4
    assert resolved["capture"]["ratio"] == [50.0, 60.0]
    assert resolved["sampling"]["transition"] == "markov"
    assert resolved["capture"]["noise"] == "eld"
    assert resolved["iterations"] == 386_400


def test_another_backbone_has_its_own_options(run: Call) -> None:
    words = ["--preset", "p+g-unet-exposure", "--denoiser.backbone", "resunet", "--denoiser.options.widths", "4", "8"]
    _, out, _ = run(*words, "--dry-run")
    options = json.loads(out)["denoiser"]["options"]
    assert options == {"widths": [4, 8], "encoders": [1] * 5, "decoders": [1] * 4, "bias": False}


def test_list_shows_every_preset(run: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    code, out, _ = run("--list")
    assert code == 0
    assert all(name in out for name in PRESETS)
    assert "38.89 / 0.902" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--preset", "eld-nafnet1-exposre"], "did you mean eld-nafnet1-exposure"),
        (["--preset", "qqqq"], "--list"),
        ([], "--preset NAME is missing"),
        (["--preset", "embedded"], "--data DIR and -o RUN are needed"),
        (["--preset", "embedded", "--data", "nowhere", "-o", "x"], "nowhere: no such folder"),
        (["--preset", "embedded", "--data", ".", "-o", "x", "--minutes", 0], "--minutes 0: a run needs more than 0"),
        (
            ["--preset", "embedded", "--data", ".", "-o", "x", "--minutes", "inf"],
            "--minutes inf: a run needs more than 0, and",
        ),
        (
            ["--preset", "embedded", "--data", ".", "-o", "x", "--minutes", "nan"],
            "--minutes nan: a run needs more than 0, and",
        ),
        (["--preset", "embedded", "--iterations", "many", "--dry-run"], "iterations"),
        (["--preset", "embedded", "--optimizer.lr", "nan"], "optimizer.lr is a number from 0 to 1, got nan"),
        (["--preset", "embedded", "--optimizer.ema", "1.5"], "optimizer.ema is a number from 0 to 1, got 1.5"),
        (["--preset", "embedded", "--workers", "-1"], "workers is a number from 0 to 1000, got -1"),
        (["--preset", "embedded", "--checkpoint-minutes", "-1"], "checkpoint_minutes is a number from 0"),
        (["--preset", "embedded", "--validate-every", "-1"], "validate_every is a number from 0"),
        (["--preset", "default", "--capture.noise", "white", "--dry-run"], "no noise model 'white'"),
        (["--preset", "embedded", "--capture.camera", "nosuch.json", "--dry-run"], "no camera profile 'nosuch.json'"),
        (["--preset", "embedded", "--no-such-thing", "1", "--dry-run"], "no-such-thing"),
    ],
)
def test_wrong_usage(options: list[Any], message: str, run: Call) -> None:
    code, _, error = run(*options)
    assert code == 2
    assert message in " ".join(error.replace("│", " ").split())


def test_output_below_a_file_is_refused_before_anything_is_read(pictures: Path, run: Call, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("of the user")
    for output in ("file", "file/run"):
        code, _, error = run("--preset", "embedded", "--data", pictures, "-o", tmp_path / output, *TINY)
        assert code == 1
        assert error == (
            f"expose: {tmp_path}/{output}: cannot be made, {tmp_path}/file is no folder; "
            "choose another place for the output (-o)\n"
        )


def test_a_checkpoint_of_another_preset_names_the_difference(sid: Path, run: Call, tmp_path: Path) -> None:
    options = ["--data", sid, "-o", tmp_path / "run", *TINY]
    assert run("--preset", "p+g-nafnet1-exposure", *options)[0] == 0
    code, _, error = run("--preset", "eld-nafnet1-exposure", *options)
    assert code == 2
    assert "capture.noise p+g there, eld here" in error


def test_pairs_are_wanted_and_there_are_pictures(pictures: Path, run: Call, tmp_path: Path) -> None:
    code, _, error = run("--preset", "paired-unet-exposure", "--data", pictures, "-o", tmp_path / "run", *TINY)
    assert code == 1
    assert "expose simulate" in error


def test_missing_long_exposures_are_told_or_stop(pictures: Path, run: Call, tmp_path: Path) -> None:
    root = simulate(pictures, tmp_path / "sid", "--split", "train", "--scenes", 3)
    simulate(pictures, root, "--split", "validation", "--scenes", 1)
    next((root / "Sony" / "long").glob("0*")).unlink()
    options = ["--preset", "paired-nafnet1-feedforward", "--data", root, "-o", tmp_path / "run", *TINY]
    code, _, error = run(*options, "--on-problem", "stop")
    assert code == 1
    assert "problem" in error
    code, _, error = run(*options)
    assert code == 0
    assert "going on without" in error


def test_problems_of_a_folder_of_pairs_are_told_once(sid: Path, run: Call, tmp_path: Path) -> None:
    """Of a folder without splits of its own both parts are listed; a list is one line each."""
    for side in ("short", "long"):
        (tmp_path / side).mkdir()
        for name, raw in zip("abc", sorted((sid / "Sony" / side).glob("0*"))[:1] * 3, strict=True):
            shutil.copy(raw, tmp_path / side / f"{name}.dng")
    (tmp_path / "long" / "a.dng").unlink()
    options = ["--preset", "paired-nafnet1-feedforward", "--data", tmp_path, "-o", tmp_path / "run", *TINY]
    code, _, error = run(*options)
    assert code == 0
    assert error.count("its long exposure is missing") == 1
    (tmp_path / "short" / "c.dng").write_bytes(b"no raw")  # the only one held out
    code, _, error = run(*options)
    assert code == 1
    assert "nothing is left to use for validation; give another folder by --validation" in error.splitlines()
    assert any(line.startswith(f"  {tmp_path}/short/c.dng: ") for line in error.splitlines())


def test_dark_shading_of_dark_frames(sid: Path, run: Call, tmp_path: Path) -> None:
    preset = ["--preset", "pmn-nafnet1-exposure", "--data", sid, *tiny("pmn-nafnet1-exposure")]
    assert run(*preset, "-o", tmp_path / "with", "--dark-shading", sid / "Sony" / "dark")[0] == 0
    assert run(*preset, "-o", tmp_path / "without")[0] == 0
    first, second = (load(tmp_path / name / "weights.safetensors").state_dict() for name in ("with", "without"))
    assert any(not torch.equal(first[name], second[name]) for name in first)


def test_xtrans_from_a_fuji_tree(pictures: Path, run: Call, tmp_path: Path) -> None:
    root = simulate(pictures, tmp_path / "sid", "--cfa", "xtrans", "--split", "train", "--scenes", 2)
    simulate(pictures, root, "--cfa", "xtrans", "--split", "validation", "--scenes", 1)
    options = ["--preset", "eld-nafnet1-exposure", "--data", root, "-o", tmp_path / "run", *TINY]
    code, _, error = run(*options)
    assert code == 1
    assert "--denoiser.planes 9" in error
    assert run(*options, "--denoiser.planes", 9)[0] == 0
    assert load(tmp_path / "run" / "weights.safetensors").config.planes == 9


def test_prepared_pictures_train_for_some_minutes(pictures: Path, run: Call, tmp_path: Path) -> None:
    """Validation is on pictures held out of the file; the number of iterations is not asked."""
    file = tmp_path / "pictures.safetensors"
    assert main(["prepare", str(pictures), "-o", str(file), "--downscale", "1"]) == 0
    options = ["--preset", "default", "--data", file, "-o", tmp_path / "run", *tiny("default"), "--minutes", 0.02]
    code, out, error = run(*options)
    assert code == 0, error
    weights = tmp_path / "run" / "weights.safetensors"
    assert str(weights) in out
    assert "0.02 minutes; Ctrl-C keeps a checkpoint" in error
    assert "100.0 %" in error  # what is said of a run whose messages go to a file
    first = load(weights)
    assert first.card.training["iterations"] >= 1
    assert first.card.training["data"] == "pictures.safetensors"
    assert first.config.white == 4
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert log[-1]["kind"] == "validation"
    code, _, error = run(*options)  # there is no time left
    assert code == 0
    assert "going on from" in error
    assert all(torch.equal(tensor, load(weights).state_dict()[name]) for name, tensor in first.state_dict().items())


def test_a_run_from_other_weights_needs_no_feed_forward_beginning(sid: Path, run: Call, tmp_path: Path) -> None:
    options = ["--preset", "default", "--data", sid, *TINY, *WIDTHS]
    assert run(*options, "-o", tmp_path / "first")[0] == 0
    start = tmp_path / "first" / "weights.safetensors"
    _, out, _ = run(*options, "--initial", start, "--dry-run")
    assert json.loads(out)["prelude"]["share"] == 0
    _, out, _ = run(*options, f"--initial={start}", "--prelude.share", 0.25, "--dry-run")
    assert json.loads(out)["prelude"]["share"] == 0.25
    code, _, error = run(*options, "--initial", start, "-o", tmp_path / "second", "--optimizer.lr", 0)
    assert code == 0, error


def test_xtrans_views_of_pictures(pictures: Path, run: Call, tmp_path: Path) -> None:
    """Black levels are known of Bayer's planes alone."""
    options = ["--preset", "default", "--data", pictures, *tiny("default"), "--denoiser.planes", 9]
    code, _, error = run(*options, "-o", tmp_path / "run")
    assert code == 0, error
    assert load(tmp_path / "run" / "weights.safetensors").config.planes == 9


def test_begins_from_other_weights(sid: Path, run: Call, tmp_path: Path) -> None:
    options = ["--preset", "p+g-nafnet1-exposure", "--data", sid, *TINY]
    assert run(*options, "-o", tmp_path / "first")[0] == 0
    start = tmp_path / "first" / "weights.safetensors"
    assert run(*options, "-o", tmp_path / "second", "--initial", start, "--optimizer.lr", 0)[0] == 0
    first, second = (load(tmp_path / name / "weights.safetensors").state_dict() for name in ("first", "second"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    code, _, error = run(*options, "-o", tmp_path / "third", "--initial", "default")
    assert code == 1
    assert "weights of another network" in error

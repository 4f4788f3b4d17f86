"""`expose evaluate`: its figures by an independent computation, its files, resuming, and answers to bad input."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import tukeylambda

from exposurediffusion.cli import evaluate
from exposurediffusion.cli.main import main
from exposurediffusion.physics.conditions import Conditions
from exposurediffusion.process.sampling import StepRule
from exposurediffusion.raw.read import read_raw
from exposurediffusion.weights.file import load, save_weights
from tests.simulated import DRAWN, SMALL, STEADY, Independent, simulate, tiny, tiny_diffusion, tiny_weights

Call = Callable[..., tuple[int, str, str]]
TIMES = {"0.1": 100.0, "0.04": 250.0, "0.033": 300.0}  # min(10 s / time, 300)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """Call `expose evaluate`, networks alone unless said otherwise: exit code, stdout, stderr."""
    monkeypatch.setenv("COLUMNS", "300")

    def call(*options: Any) -> tuple[int, str, str]:
        options = options if "--faithful" in options else (*options, "--faithful", "off")
        try:
            code = main(["evaluate", *map(str, options)])
        except SystemExit as leave:
            code = int(leave.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, " ".join(captured.err.split())

    return call


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_weights(tmp_path_factory.mktemp("weights") / "mine" / "weights.safetensors")


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "images.csv", newline="") as stream:
        return list(csv.DictReader(stream))


# ------------------------------------------------------------------------------------- the independent computation


def decoded(path: Path) -> np.ndarray:
    """Packed planes R, G1, B, G2, black 0, white 1: by hand from the mosaic."""
    mosaic = (read_raw(path).mosaic.astype(np.float32) - 512) / np.float32(16383 - 512)
    sites = [(0, 0), (0, 1), (1, 1), (1, 0)]
    return np.stack([mosaic[row::2, column::2] for row, column in sites])


def exposed(
    path: Path, capture: np.ndarray, ratio: float, noise: dict[str, float], adjust: Callable[..., np.ndarray]
) -> np.ndarray:
    """The network at the capture and at the reference exposure (paper, markov, mean, T = 1, clamped)."""
    model, one = load(path), torch.ones(1)
    read = noise["read"] ** 2 * np.asarray(tukeylambda.var(noise["tukey_shape"])).item() + noise["row"] ** 2 + 1 / 12
    state = capture.clip(0, 1)
    origin = torch.from_numpy(state)[None]
    conditions = Conditions(ratio * one, noise["gain"] * one, float(read) * one, 15871.0, origin)
    estimate = adjust(model(torch.from_numpy(state)[None], one, conditions).image[0].numpy())
    state = (state + (ratio - 1) * estimate.clip(0, 1)) / ratio
    return adjust(model(torch.from_numpy(state.astype(np.float32))[None], ratio * one, conditions).image[0].numpy())


def ratio_of(name: str) -> float:
    return TIMES[name.rpartition("_")[2].removesuffix("s.dng")]


@pytest.mark.parametrize("crop", [None, 20])
def test_figures_are_those_of_an_independent_computation(
    crop: int | None, simsid: Path, run: Call, tmp_path: Path
) -> None:
    """Decoding, packing, ratio, crop, noise, sampler, corrections, PSNR and SSIM: every image, to 1e-6."""
    model = tiny(config=replace(SMALL, origin=True, noise_map=True))
    weights = tmp_path / "mine" / "weights.safetensors"
    save_weights(weights, model, model.card)
    options = ["--root", simsid, "--weights", weights, "--noise", "known", "--crop", crop or "whole", "--json"]
    code, out, error = run(*options, "-o", tmp_path)
    assert code == 0, error
    files = {
        name: facts
        for scene in json.loads((simsid / "dataset.json").read_text())["scenes"].values()
        for name, facts in scene["files"].items()
    }
    expected: dict[tuple[str, str, str], tuple[float, float]] = {}
    edge = 0 if crop is None else (32 - crop) // 2
    window = (slice(None), slice(edge, 32 - edge), slice(edge, 32 - edge))
    for scene in ("10001", "10002"):
        target = decoded(simsid / "Sony" / "long" / f"{scene}_00_10s.dng")[window]
        independent = Independent(target)
        for time, ratio in TIMES.items():
            name = f"short/{scene}_00_{time}s.dng"
            capture = (decoded(simsid / "Sony" / name) * np.float32(ratio))[window]
            noise = files[f"Sony/{name}"]["noise"]
            plain = exposed(weights, capture, ratio, noise, lambda estimate: estimate)
            oracle = exposed(weights, capture, ratio, noise, independent.corrected)
            expected[name, "capture", "none"] = independent.figures(capture)
            expected[name, "capture", "final"] = independent.figures(independent.corrected(capture))
            expected[name, "capture", "oracle"] = expected[name, "capture", "final"]
            expected[name, "mine, T = 1", "none"] = independent.figures(plain)
            expected[name, "mine, T = 1", "final"] = independent.figures(independent.corrected(plain))
            expected[name, "mine, T = 1", "oracle"] = independent.figures(oracle)
    found = {
        (row["file"], row["method"], row["correction"]): (float(row["psnr"]), float(row["ssim"]))
        for row in rows(tmp_path)
    }
    assert found.keys() == expected.keys()
    for key, figures in expected.items():
        assert found[key] == pytest.approx(figures, abs=1e-6), key
    assert len({round(psnr, 4) for psnr, _ in found.values()}) == len(found) - 6  # the captures' `oracle` alone repeats
    for entry in json.loads(out)["results"]:  # per image, then the mean
        wanted = entry["method"], entry["correction"], entry["ratio"]
        of = [figures for (name, *key), figures in found.items() if (*key, ratio_of(name)) == wanted]
        assert (entry["psnr"], entry["ssim"]) == pytest.approx(np.mean(of, axis=0))
        assert entry["images"] == 2


# ------------------------------------------------------------------------------------------------------------ files


def test_files_tables_and_pictures(simsid: Path, weights: Path, run: Call, tmp_path: Path) -> None:
    options = ["--root", simsid, "--weights", weights, "--steps", 0, 2, "--ratios", 100, "--srgb", "-o", tmp_path]
    code, out, error = run(*options, "--pictures", "10001", "--corrections", "none", "final")
    assert code == 0, error
    assert {path.name for path in tmp_path.iterdir()} == {
        "images.csv",
        "settings.json",
        "summary.csv",
        "summary.json",
        "summary.md",
        "pictures",
    }
    assert str(tmp_path / "summary.md") in out
    assert "Correction: final" in out
    content = (tmp_path / "summary.md").read_text()
    assert all(f"\n| {name} | " in content for name in ("capture", "mine, T = 0", "mine, T = 2"))
    for part in (
        "sid-sony, simulated",
        "split test",
        "noise profile",
        "crop whole, 512 were asked for",
        "clip [0, 1]",
        "seeds 1",
    ):
        assert part in content
    for part in ("schedule paper", "transition markov", "increment mean", "digest "):
        assert part in content
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert len(summary["figures"]) == 3 * 2
    assert all(figure["psnr_srgb"] > 5 for figure in summary["figures"])
    assert set(summary["settings"]["methods"]) == {"capture", "mine, T = 0", "mine, T = 2"}
    header = (tmp_path / "summary.csv").read_text().splitlines()[0]
    assert header == ",x100 PSNR,x100 SSIM"
    (folder,) = (tmp_path / "pictures").iterdir()
    assert folder.name == "10001_00_0.1s"
    assert len(list(folder.iterdir())) == 1 + 2 + 3 + 3
    for path in folder.iterdir():
        with Image.open(path) as picture:
            assert picture.size == (32, 32)
    with Image.open(folder / "mine-T-2-mask.png") as mask, Image.open(folder / "reference.png") as reference:
        assert (mask.mode, reference.mode) == ("L", "RGB")


def test_the_whole_frame_is_told_as_such(simsid: Path, run: Call, tmp_path: Path) -> None:
    assert run("--root", simsid, "--crop", "whole", "--ratios", 100, "-o", tmp_path)[0] == 0
    assert "crop whole" in (tmp_path / "summary.md").read_text()


def test_networks_are_measured_without_and_with_faithfulness(
    simsid: Path, weights: Path, run: Call, tmp_path: Path
) -> None:
    options = ["--root", simsid, "--weights", weights, "--ratios", 100, "-o", tmp_path, "--baselines", "--json"]
    code, out, error = run(*options, "--faithful", "off", "on", "--corrections", "final")
    assert code == 0, error
    found = {entry["method"]: entry["psnr"] for entry in json.loads(out)["results"]}
    assert list(found) == ["mine, T = 1", "mine, T = 1, faithful"]
    assert found["mine, T = 1, faithful"] > found["mine, T = 1"] + 3  # the network is not trained; the capture knows


def test_it_goes_on_and_takes_more(simsid: Path, weights: Path, run: Call, tmp_path: Path) -> None:
    options = ["--root", simsid, "-o", tmp_path]
    assert run(*options)[0] == 0
    first = rows(tmp_path)
    assert len(first) == 6 * 3
    assert run(*options, "--weights", weights)[0] == 0
    both = rows(tmp_path)
    assert both[: len(first)] == first
    assert len(both) == 2 * len(first)
    code, out, _ = run(*options, "--weights", weights, "--json")
    assert (code, rows(tmp_path)) == (0, both)
    assert {entry["method"] for entry in json.loads(out)["results"]} == {"capture", "mine, T = 1"}
    code, _, error = run(*options, "--crop", 20)
    assert code == 2
    assert "crop 512 there, 20 here" in error
    code, _, error = run(*options, "--weights", weights, "--transition", "restart")
    assert code == 2
    assert "measured with other settings" in error
    assert run(*options, "--crop", 20, "--overwrite")[0] == 0
    assert len(rows(tmp_path)) == 18


def test_seeds_give_a_spread(simsid: Path, weights: Path, run: Call, tmp_path: Path) -> None:
    options = ["--weights", weights, "--increment", "sampled", "--clamp", "none", "--seeds", 2, "--ratios", 300]
    code, out, error = run("--root", simsid, *options, "--corrections", "final", "--json", "-o", tmp_path)
    assert code == 0, error
    capture, network = json.loads(out)["results"]
    assert capture["spread"] is None
    assert network["spread"] > 0
    assert len(rows(tmp_path)) == 2 + 2 * 2
    settings = json.loads((tmp_path / "settings.json").read_text())["methods"]["mine, T = 1"]
    assert (settings["increment"], settings["clamp"]) == ("sampled", None)
    assert "±" in (tmp_path / "summary.md").read_text()


def test_diffusion_models_take_ddim_steps(simsid: Path, run: Call, tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    model = tiny(config=tiny_diffusion())
    save_weights(tmp_path / "ddim.safetensors", model, model.card)
    options = ["--root", simsid, "--weights", tmp_path / "ddim.safetensors", "--ratios", 100, "--baselines"]
    code, out, error = run(*options, "--steps", 1, 3, "--json", "-o", tmp_path / "out")
    assert code == 0, error
    assert {e["method"] for e in json.loads(out)["results"]} == {"ddim, 1 DDIM steps", "ddim, 3 DDIM steps"}
    code, _, error = run(*options, "--steps", 0, "-o", tmp_path / "out")
    assert code == 2
    assert "DDIM takes 1 to 1000 steps" in error


# --------------------------------------------------------------------------------------------------------- mistakes


def test_a_missing_long_exposure_is_told_and_the_others_are_done(simsid: Path, run: Call, tmp_path: Path) -> None:
    root = shutil.copytree(simsid, tmp_path / "sid")
    (root / "Sony" / "long" / "10002_00_10s.dng").unlink()
    code, _, error = run("--root", root, "-o", tmp_path / "out")
    assert code == 0
    assert "its long exposure is missing (long/10002_00_*s)" in error
    assert "going on without these files" in error
    assert {row["scene"] for row in rows(tmp_path / "out")} == {"10001"}


def test_an_unreadable_capture_is_a_failure_and_the_others_are_counted(simsid: Path, run: Call, tmp_path: Path) -> None:
    root = shutil.copytree(simsid, tmp_path / "sid")
    short = sorted((root / "Sony" / "short").glob("1*.dng"))[0]
    short.write_bytes(short.read_bytes()[:2000])
    code, out, err = run("--root", root, "--baselines", "capture", "-o", tmp_path / "out", "--subset", "all")
    assert code == 1
    assert short.name in err
    assert "cannot be decoded" in err
    assert "images 1/2" in " ".join(out.split())  # of one ratio one scene is left


def test_captures_that_cannot_be_measured_are_reported(simsid: Path, run: Call, tmp_path: Path) -> None:
    """X-Trans weights on Bayer data: the other methods are done, the exit code is 1."""
    weights = tiny_weights(tmp_path / "fuji.safetensors", planes=9)
    code, out, error = run("--root", simsid, "--weights", weights, "--json", "-o", tmp_path / "out")
    assert code == 1
    assert "fuji: these weights are for X-Trans (9 planes), the data set is a Bayer one" in error
    assert "give weights for Bayer" in error
    assert json.loads(out)["failed"] == 6
    assert {row["method"] for row in rows(tmp_path / "out")} == {"capture"}


def test_bayer_weights_on_xtrans(photographs: Path, weights: Path, run: Call, tmp_path: Path) -> None:
    root = simulate(photographs, tmp_path / "fuji", "--size", 96, "--cfa", "xtrans", "--split", "test", "--scenes", 1)
    code, _, error = run("--root", root, "--weights", weights, "--ratios", 100, "-o", tmp_path / "out")
    assert code == 0, error
    assert len(rows(tmp_path / "out")) == 6


def test_a_folder_that_cannot_be_written(simsid: Path, run: Call, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        code, _, error = run("--root", simsid, "-o", place)
        assert code == 1
        assert str(place.name) in error
    assert (tmp_path / "file").read_text() == ""


def test_a_ratio_that_is_not_there(simsid: Path, run: Call, tmp_path: Path) -> None:
    code, _, error = run("--root", simsid, "--ratios", 100, 200, "-o", tmp_path / "out")
    assert code == 1
    assert "no pair has ratio 200; there are 100, 250, 300" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--root", "nowhere"], "nowhere: no such folder"),
        (["--weights", "nothing"], "no weights 'nothing'"),
        (["--crop", 5], "a crop of at least 7"),
        (["--seeds", 0], "one seed"),
        (["--corrections", "best"], "best"),
        (["--baselines"], "nothing to measure"),
        (["--baselines", "bm4d"], "--baselines: no baseline 'bm4d'; there are capture, bm3d, a-bm3d"),
        (["--pictures", "10009"], "no scene 10009"),
        (["--dataset", "eld"], "as in ELD"),
    ],
)
def test_wrong_usage(options: list[Any], message: str, simsid: Path, run: Call, tmp_path: Path) -> None:
    code, _, error = run("--root", simsid, *options, "-o", tmp_path / "out")
    assert code in (1, 2)
    assert message in error


def test_steps_out_of_range_and_weights_of_one_name(simsid: Path, weights: Path, run: Call, tmp_path: Path) -> None:
    options = ["--root", simsid, "-o", tmp_path / "out", "--weights", weights]
    code, _, error = run(*options, "--steps", 101)
    assert (code, "--steps lie between 0 and 100" in error) == (2, True)
    other = tiny_weights(tmp_path / "mine" / "weights.safetensors", seed=2, sampling=DRAWN)
    code, _, error = run(*options, other, "--steps", 1)
    assert (code, "two weights are called 'mine, T = 1'" in error) == (2, True)


def test_the_number_of_steps_by_a_rule(simsid: Path, weights: Path, run: Call, tmp_path: Path) -> None:
    code, _, error = run("--root", simsid, "-o", tmp_path / "out", "--weights", weights, "--steps", "auto")
    assert (code, "no rule for the number of steps" in error) == (2, True)
    model = tiny()
    ruled = tmp_path / "ruled.safetensors"
    save_weights(ruled, model, replace(model.card, rule=StepRule((1e-6,), (0, 2))))
    options = ["--root", simsid, "-o", tmp_path / "out", "--weights", ruled, "--steps", "auto", 2, "--baselines"]
    code, out, error = run(*options, "--ratios", 300, "--json")
    assert code == 0, error
    found = {(e["method"], e["correction"]): e["psnr"] for e in json.loads(out)["results"]}
    for correction in ("none", "final", "oracle"):  # all captures are noisier than a millionth
        assert found["ruled, T = auto", correction] == found["ruled, T = 2", correction]


def test_debug_shows_what_went_wrong(simsid: Path, run: Call, tmp_path: Path) -> None:
    weights = tiny_weights(tmp_path / "fuji.safetensors", planes=9)
    with pytest.raises(ValueError, match="X-Trans"):
        run("--root", simsid, "--weights", weights, "--debug", "-o", tmp_path / "out")


def test_a_machine_without_that_device(simsid: Path, run: Call, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this one has it")
    code, _, error = run("--root", simsid, "--device", "cuda", "-o", tmp_path / "out")
    assert (code, "use --device cpu" in error) == (2, True)


def test_baselines_by_name() -> None:
    assert [method.name for method in evaluate.BASELINES.values()] == ["capture", "BM3D", "A-BM3D"]


def test_a_feed_forward_network_at_more_steps_is_noted(simsid: Path, run: Call, tmp_path: Path) -> None:
    weights = tiny_weights(tmp_path / "plain" / "weights.safetensors", sampling=replace(STEADY, steps=0))
    code, _, said = run("--root", simsid, "--weights", weights, "--steps", 0, 2, "-o", tmp_path / "out")
    assert code == 0
    assert said.count("made for T = 0 (feed-forward), so T = 2 is nothing that it was trained for") == 1
    assert "so T = 0" not in said

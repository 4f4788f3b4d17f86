import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from exposurediffusion.analysis.sources import noise_of
from exposurediffusion.cli.console import complain, note
from exposurediffusion.cli.main import COMMANDS, command, main
from exposurediffusion.dng.writer import write_dng
from exposurediffusion.physics.cameras import known
from exposurediffusion.physics.cameras.known import calibrated_cameras
from exposurediffusion.process.sampling import StepRule
from exposurediffusion.raw.read import read_raw
from exposurediffusion.weights.file import save_weights
from tests.frames import capture


@pytest.fixture
def run(capsys, tiny_weights):
    """Call a command in this process: exit code, stdout, stderr."""

    def call(*arguments, weights=True):
        command = [str(a) for a in arguments]
        if weights and command[0] == "enhance":
            command += ["--weights", str(tiny_weights)]
        try:
            code = main(command)
        except SystemExit as leave:
            code = leave.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.endswith(".part")]


def is_one_line(message: str, *names: str) -> bool:
    lines = [line for line in message.splitlines() if line.startswith("expose:")]
    return len(lines) == 1 and all(name in lines[0] for name in names) and "Traceback" not in message


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_the_docstring(run, name):
    code, out, _ = run(name, "--help", weights=False)
    assert code == 0
    assert command(name, []).__doc__.splitlines()[0].split(",")[0] in " ".join(out.split())


def test_overview_names_all_commands_and_imports_none():
    script = """
import sys
from exposurediffusion.cli.main import main
main(["--help"])
heavy = {"torch", "numpy", "rawpy", "scipy", "PIL"} & set(sys.modules)
assert not heavy, heavy
"""
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert all(name in told for name in COMMANDS)


def test_a_command_that_there_is_not_is_refused_with_the_nearest(run):
    code, _, err = run("enhence", "night.ARW", weights=False)
    assert code == 2
    assert is_one_line(err, "enhence", "did you mean enhance?")


@pytest.mark.parametrize("suffix", [".dng", ".png", ".tif", ".jpg"])
def test_enhance_writes_each_format(run, dark_dng, tmp_path, suffix):
    target = tmp_path / f"night{suffix}"
    code, out, err = run("enhance", dark_dng, "-o", target, "--ratio", 50, "--json")
    assert code == 0, err
    result = json.loads(out)["results"][0]
    assert result["output"] == str(target)
    assert result["exposure"] == ("reference" if suffix == ".tif" else "auto")
    assert 0 <= result["baseline_exposure"] <= 3
    assert "profile SonyA7S2" in result["noise_source"]
    assert all(note in err for note in result["notes"])
    if suffix == ".dng":
        frame = read_raw(target)
        assert frame.shape == (128, 160)
        assert frame.metadata.baseline_exposure == result["baseline_exposure"]
    else:
        with Image.open(target) as image:
            assert image.size == (160, 128)
    assert not leftovers(tmp_path)


def test_enhance_a_folder_next_to_the_inputs(run, tmp_path):
    for name in ("a.dng", "b.dng"):
        write_dng(tmp_path / name, capture())
    code, out, _ = run("enhance", tmp_path, "--ratio", 50)
    assert code == 0
    assert sorted(p.name for p in tmp_path.glob("*-enhanced.dng")) == ["a-enhanced.dng", "b-enhanced.dng"]
    assert len(out.splitlines()) == 2
    write_dng(tmp_path / "c.dng", capture())
    code, out, _ = run("enhance", tmp_path, "--ratio", 50)  # results are not inputs, and are kept
    assert code == 0
    assert out.count("kept: it is there already") == 2
    assert out.splitlines()[-1] == "1 done, 2 kept, 0 failed"


def test_a_bad_file_does_not_stop_the_others(run, dark_dng, tmp_path):
    broken = tmp_path / "broken.ARW"
    broken.write_text("this is no raw file")
    code, out, err = run("enhance", broken, dark_dng, tmp_path / "missing.nef", "-o", tmp_path / "out", "--ratio", 50)
    assert code == 1
    assert (tmp_path / "out" / "dark.dng").exists()
    assert "broken.ARW" in err
    assert "missing.nef" in err
    assert "Traceback" not in err
    assert out.splitlines()[1:] == ["1 done, 0 kept, 2 failed"]
    assert os.listdir(tmp_path / "out") == ["dark.dng"]


def test_a_folder_without_raws(run, tmp_path):
    code, _, err = run("enhance", tmp_path)
    assert code == 1
    assert is_one_line(err, str(tmp_path), "no raw files")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--ratio", "0"],
        ["--ratio", "nan"],
        ["--ratio", "1e9"],
        ["--ratio", "many"],
        ["--steps", "-1"],
        ["--strength", "2"],
        ["--tile", "3"],
        ["--samples", "0"],
        ["--samples", "3", "--steps", "0"],
        ["--samples", "3", "--increment", "mean"],
        ["--camera", "Kodak Brownie"],
        ["--black", "dark"],
        ["--black=-5"],
        ["--black", "512,nan,512,512"],
        ["--dark", "nothing.dng"],
        ["--maps", "--faithful", "off"],
        ["-o", "picture.bmp"],
        ["--format", "png", "-o", "x.dng"],
        ["--frobnicate"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_code_2(run, dark_dng, arguments):
    code, out, err = run("enhance", dark_dng, *arguments)
    assert code == 2
    assert out == "" or "usage" in out.lower()
    assert "Traceback" not in err


def test_no_input_and_unknown_weights_are_wrong_usage(run, dark_dng):
    assert run("enhance")[0] == 2
    code, _, err = run("enhance", dark_dng, "--weights", "nothing.safetensors", weights=False)
    assert code == 2
    assert is_one_line(err, "nothing.safetensors")


def test_one_output_file_for_two_inputs_is_wrong_usage(run, dark_dng, tmp_path):
    code, _, err = run("enhance", dark_dng, dark_dng, "-o", tmp_path / "x.dng")
    assert code == 2
    assert is_one_line(err, "several inputs")


def test_an_output_is_not_overwritten_unasked_and_never_the_input(run, dark_dng, tmp_path):
    target = tmp_path / "x.dng"
    target.write_bytes(b"precious")
    code, out, _ = run("enhance", dark_dng, "-o", target, "--ratio", 50)
    assert code == 0
    assert "x.dng  kept" in out
    assert target.read_bytes() == b"precious"
    assert run("enhance", dark_dng, "-o", target, "--ratio", 50, "--overwrite")[0] == 0
    assert run("enhance", dark_dng, "-o", dark_dng, "--overwrite")[0] == 1


def test_samples_leave_a_spread_beside_the_output(run, dark_dng, tmp_path):
    target, spread = tmp_path / "x.png", tmp_path / "x-spread.tif"
    arguments = ("enhance", dark_dng, "-o", target, "--ratio", 50, "--samples", 3, "--json")
    code, out, err = run(*arguments)
    assert code == 0, err
    result = json.loads(out)["results"][0]
    assert (result["samples"], result["steps"], result["spread"]) == (3, 1, str(spread))
    first = tifffile.imread(spread)
    assert first.dtype == np.float32
    assert first.shape == read_raw(dark_dng).shape
    assert first.max() > 0
    with Image.open(spread) as image:  # another reader agrees
        assert image.mode == "F"
        assert np.array_equal(np.asarray(image), first)
    target.unlink()
    code, _, err = run(*arguments)  # the spread alone is in the way
    assert code == 1
    assert is_one_line(err, "x-spread.tif", "--overwrite")
    assert not target.exists()
    assert run(*arguments, "--overwrite")[0] == 0
    assert np.array_equal(tifffile.imread(spread), first)
    assert run(*arguments, "--overwrite", "--seed", 9)[0] == 0
    assert not np.array_equal(tifffile.imread(spread), first)
    assert not leftovers(tmp_path)


def test_a_spread_is_not_written_over_a_result(run, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("x", "x-spread"):
        write_dng(tmp_path / "in" / f"{name}.dng", capture())
    options = ("--format", "tiff", "--ratio", 50, "--samples", 2, "--overwrite")
    code, _, err = run("enhance", tmp_path / "in", "-o", tmp_path / "out", *options)
    assert code == 1
    assert is_one_line(err, "x.dng: it would overwrite the result of", "x-spread.dng")
    assert tifffile.imread(tmp_path / "out" / "x-spread.tif").ndim == 3  # the picture of x-spread.dng


def test_one_sample_leaves_no_spread(run, dark_dng, tmp_path):
    code, out, _ = run("enhance", dark_dng, "-o", tmp_path / "x.dng", "--ratio", 50, "--json")
    assert code == 0
    assert "spread" not in json.loads(out)["results"][0]
    assert os.listdir(tmp_path) == ["x.dng"]


def test_steps_are_chosen_by_the_rule_of_the_weights_and_told(run, dark_dng, tiny_model, tmp_path):
    weights = tmp_path / "ruled.safetensors"
    save_weights(weights, tiny_model, replace(tiny_model.card, rule=StepRule((0.001, 0.5), (4, 2, 3))))

    def steps(*options):
        arguments = ("enhance", dark_dng, "-o", tmp_path / "x.dng", "--ratio", 50, "--overwrite", "--weights", weights)
        code, out, err = run(*arguments, *options, weights=False)
        assert code == 0, err
        return out

    result = json.loads(steps("--json"))["results"][0]
    assert result["steps"] == 2
    assert 0.001 < result["noise_level"] < 0.5
    assert "T = 2," in steps()
    assert "T = 2," in steps("--steps", "auto", "--transition", "markov")  # what the weights do anyway
    assert "T = 0," in steps("--steps", "0")
    assert "T = 1," in steps("--transition", "restart")  # the rule does not hold: the weights' own number
    assert "T = 2, 3 samples," in steps("--samples", "3")


def test_two_inputs_of_one_name_do_not_overwrite_each_other(run, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_dng(tmp_path / name / "x.dng", capture())
    code, _, err = run("enhance", tmp_path / "a", tmp_path / "b", "-o", tmp_path / "out", "--ratio", 50)
    assert code == 1
    assert is_one_line(err, "overwrite")


@pytest.mark.skipif(os.name != "posix" or not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_folder_that_cannot_be_written(run, dark_dng):
    code, _, err = run("enhance", dark_dng, "-o", "/proc/nowhere/x.dng", "--ratio", 50)
    assert code == 1
    assert is_one_line(err, "/proc/nowhere")


def test_info_says_where_each_number_comes_from(run, dark_dng):
    code, out, _ = run("info", dark_dng)
    assert code == 0
    assert "profile SonyA7S2 at ISO 800" in out
    code, out, _ = run("info", dark_dng, "--json")
    assert json.loads(out)["results"][0]["ISO"] == 800


def test_cameras_lists_the_five(run):
    code, out, _ = run("cameras", "--json")
    assert code == 0
    assert len(json.loads(out)["results"]) == 5
    assert "SonyA7S2" in run("cameras")[1]


@pytest.fixture
def own_profile(tmp_path, monkeypatch):
    """A profile in the user's folder, of a Sony A7S II with eight times the gain, beside a damaged one."""
    folder = tmp_path / "cameras"
    folder.mkdir()
    monkeypatch.setattr(known, "user_folder", lambda: folder)
    monkeypatch.setattr("exposurediffusion.cli.cameras.user_folder", lambda: folder)
    sony = calibrated_cameras()["SonyA7S2"]
    own = replace(sony, name="Mine", gain_iso_100=8 * sony.gain_iso_100, gain_iso_6400=8 * sony.gain_iso_6400)
    (folder / "mine.json").write_text(own.to_json())
    (folder / "other.json").write_text("{}")
    return folder / "mine.json"


def test_cameras_lists_ones_own_and_where_they_are(run, own_profile):
    code, out, err = run("cameras", "--json")
    assert code == 0
    assert err.startswith("passed over: ")
    assert "other.json: not a camera profile: name: missing" in err
    assert err.count("\n") == 1
    first, *others = json.loads(out)["results"]
    assert (first["name"], first["own"], first["file"]) == ("Mine", True, str(own_profile))
    assert len(others) == 5
    assert all(not entry["own"] and Path(entry["file"]).is_file() for entry in others)
    out = run("cameras")[1]
    assert str(own_profile) in out
    assert str(own_profile.parent) in out.splitlines()


def test_cameras_checks_files(run, own_profile, tmp_path):
    code, out, err = run("cameras", "--validate", own_profile)
    assert (code, err) == (0, "")
    assert "Mine is in order; ISO 100 to 6400" in out
    (tmp_path / "bad.json").write_text(own_profile.read_text().replace('"slope": 0.54075', '"slope": "abc"'))
    code, out, err = run("cameras", "--json", "--validate", own_profile, tmp_path / "bad.json", tmp_path / "none.json")
    assert code == 1
    assert "bad.json: not a camera profile: gaussian_read.slope: a number is wanted, not 'abc'" in err
    assert json.loads(out)["failed"] == 2
    assert json.loads(out)["results"][0]["iso_range"] == [100, 6400]


def test_ones_own_profile_is_found_by_model_and_measurements_stay(run, own_profile, dark_dng):
    code, out, err = run("info", dark_dng)
    assert code == 0
    assert err.count("passed over: ") == 1
    assert "profile Mine at ISO 800" in out  # and then passed over, for the frame contradicts it
    assert noise_of(read_raw(dark_dng)).source == "profile SonyA7S2 at ISO 800"


def test_defects_of_ones_own_profile_that_lie_outside_are_left_out(run, own_profile, dark_dng):
    rows = read_raw(dark_dng).shape[0]
    sony = calibrated_cameras()["SonyA7S2"]
    for defects, listed in (((2, 3), (4, 5)), 2), (((2, 3), (rows, 5)), 0):
        own_profile.write_text(replace(sony, name="Mine", defects=defects).to_json())
        os.utime(own_profile, ns=(listed, listed))
        code, out, _ = run("info", dark_dng, "--json")
        assert code == 0
        assert json.loads(out)["results"][0]["defects listed"] == listed
    assert run("info", dark_dng, "--camera", own_profile)[0] == 1  # asked for, it has to serve


def test_interrupt_leaves_nothing_half_written(tmp_path):
    frame = capture(rows=300, columns=300)
    first = write_dng(tmp_path / "00.dng", frame)
    for index in range(1, 20):
        shutil.copy(first, tmp_path / f"{index:02}.dng")
    command = [sys.executable, "-m", "exposurediffusion", "enhance", str(tmp_path), "-o", str(tmp_path / "out")]
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}  # threads that wait for each other take minutes on a busy machine
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # A suite that a shell runs in the background hands down that SIGINT is to be ignored.
    heeding = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, **pipes, env=alone, preexec_fn=heeding) as process:
        while not list((tmp_path / "out").glob("*.dng")) and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert is_one_line(err, "interrupted")
    assert not leftovers(tmp_path / "out")
    for path in (tmp_path / "out").glob("*.dng"):
        assert read_raw(path).shape == frame.shape


@pytest.mark.parametrize("module", ["torch", "tyro", "accelerate"])
def test_interrupt_before_anything_is_done(module, tmp_path):
    """While modules are imported: those of all commands, and those of training, which come after its pictures."""
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (80, 90, 3)).astype(np.uint8)).save(tmp_path / "a.png")
    shutil.copy(tmp_path / "a.png", tmp_path / "b.png")
    code = (
        "import os, signal, sys\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == {module!r}:\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        "from exposurediffusion.__main__ import main\n"
        "sys.exit(main())\n"
    )
    words = ["train", "--preset", "embedded", "--data", str(tmp_path), "-o", str(tmp_path / "run"), "--device", "cpu"]
    heeding = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, capture_output=True, text=True, env=alone, preexec_fn=heeding, timeout=300)
    assert (done.returncode, done.stdout) == (130, "")
    assert "Traceback" not in done.stderr
    assert ("interrupted" in done.stderr) == (module != "tyro")
    assert not list((tmp_path / "run").glob("*"))


def test_one_of_several_processes_talks_and_all_complain(monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    note("for all")
    complain("of this one")
    monkeypatch.setenv("RANK", "0")
    note("once")
    assert capsys.readouterr().err == "expose: of this one\nonce\n"

"""What every command has: version, quiet, settings files, values in plain words, readable lists."""

import json
import re
import sys

import pytest

from exposurediffusion.cli.arguments import as_words, take
from exposurediffusion.cli.console import UsageError, print_table
from exposurediffusion.cli.main import COMMANDS, main


@pytest.fixture
def run(capsys):
    """Call a command in this process: exit code, stdout, stderr."""

    def call(*words):
        try:
            code = main([str(word) for word in words])
        except SystemExit as leave:
            code = leave.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_the_version_is_the_packages(run):
    assert run("--version") == (0, "expose 0.1.0\n", "")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["enhance", "x", "--ratio", "abc"], "--ratio: 'abc' is neither a number nor auto"),
        (["simulate", "--images", "a", "-o", "b", "--seed", "1.5"], "--seed: '1.5' is not a whole number"),
        (["train", "--optimizer.lr", "small"], "--optimizer.lr: 'small' is not a number"),
        (["enhance", "x", "--format", "bmp"], "--format: 'bmp' is none of auto, dng, jpeg, jpg, png, tif, tiff"),
        (["train", "--precision", "x"], "--precision: 'x' is none of auto, bf16, fp32"),
        (["enhance", "x", "--faithful", "maybe"], "--faithful: 'maybe' is none of off, on"),
        (["reproduce", "tabel5", "--root", ".", "--weights", ".", "-o", "x"], "artefacts: 'tabel5' is none of"),
        (["train", "--capture.noise", "bad"], "capture.noise: no noise model 'bad'; there are p+g, eld"),
        (["demo", "--seed"], "--seed: what it is set to is missing"),
        (["convert"], "checkpoint, -o/--output: missing; see expose convert --help"),
    ],
    ids=" ".join,
)
def test_values_are_refused_in_plain_words(run, words, told):
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert err.startswith(f"expose: {told}")
    assert len(err.splitlines()) == 1


def test_a_mistyped_option_gets_suggestions_of_its_own_command(run):
    code, _, err = run("enhance", "x", "--ration", "100")
    assert code == 2
    assert "--ratio" in err
    assert "expose enhance --help" in err
    assert "--iterations" not in err


@pytest.mark.parametrize("output", [["-o", "-"], ["--output", "-"], ["-o=-"], ["--output=-"]], ids=" ".join)
@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("info", "cameras")])
def test_results_do_not_go_to_stdout(run, name, output, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(name, *output)
    assert code == 2
    assert err.startswith("expose: -o -: results go to files")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words", [["enhance", "-"], ["info", "-"], ["convert", "-", "-o", "x"], ["train", "--data", "-"]], ids=" ".join
)
def test_standard_input_is_not_read(run, words):
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert err.startswith("expose: -: standard input is not read")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_no_empty_defaults_and_no_nested_brackets(run, name):
    code, out, _ = run(name, "--help")
    assert code == 0
    assert "[[" not in out.partition("\n\n")[0]
    assert not re.search(r"\{None\}|default: (None)?\)", re.sub(r"[│\s]+", " ", out))
    assert "--quiet" in out
    if name in ("enhance", "info", "prepare"):
        assert "PATH ..." in out


def test_words_that_every_command_has_are_taken_out():
    assert take("--quiet", ["a", "--quiet", "b"]) == ("--quiet", ["a", "b"])
    assert take("--quiet", ["a", "--", "--quiet"]) == (None, ["a", "--", "--quiet"])
    assert take("--config", ["--config", "f", "b"], value=True) == ("f", ["b"])
    assert take("--config", ["--config=f", "b"], value=True) == ("f", ["b"])
    with pytest.raises(UsageError):
        take("--config", ["--config"], value=True)


def test_settings_become_words_and_the_command_line_wins():
    found = {
        "ratio": 50,
        "seed": 1,
        "json": False,
        "capture.clip": False,
        "tags": ["a", "b"],
        "output": "x",
        "top": True,
    }
    words = as_words(found, ["in.dng", "--ratio=100", "-o", "y"], {"json"})
    assert words == ["--seed", "1", "--capture.no-clip", "--tags", "a", "b", "--top"]


def test_a_dry_run_can_be_given_back(run, tmp_path):
    asked = ("train", "--preset", "eld-nafnet1-exposure", "--dry-run", "--optimizer.lr", "2e-4", "--capture.no-clip")
    code, out, _ = run(*asked)
    assert code == 0
    file = tmp_path / "run.json"
    file.write_text(out)
    assert run("train", "--config", file, "--dry-run") == (0, out, "")
    code, other, _ = run("train", "--config", file, "--dry-run", "--optimizer.lr", "1e-3")
    assert code == 0
    assert json.loads(other)["optimizer"]["lr"] == 1e-3  # the command line wins
    assert not json.loads(other)["capture"]["clip"]


def test_an_unknown_setting_names_key_and_file(run, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("seed = 3\nsurprise = 4\n")
    code, _, err = run("demo", "--config", file)
    assert code == 2
    assert all(word in err for word in ("mine.toml", "'surprise'", "expose demo --help"))
    file.write_text("seed = \n")
    assert run("demo", "--config", file)[0] == 2
    assert run("demo", "--config", tmp_path / "nothing.toml")[0] == 2


@pytest.fixture
def narrow(monkeypatch, capsys):
    """A terminal of 80 columns, as far as the commands can see."""
    monkeypatch.setattr(type(sys.stdout), "isatty", lambda stream: True)
    for name, value in {"COLUMNS": "80", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("words", [("train", "--list"), ("cameras",)], ids=" ".join)
def test_lists_fit_a_narrow_terminal_and_no_cell_is_broken(run, words, narrow):
    code, out, _ = run(*words)
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in out.splitlines()]
    assert code == 0
    assert max(map(len, lines[:-1])) <= 80  # the last is a sentence
    for whole in ("eld-nafnet1-exposure", "38.31 / 0.884") if words[0] == "train" else ("Canon EOS 5D Mark IV",):
        assert any(whole in line for line in lines)


def test_a_table_is_columns_where_they_fit_and_paragraphs_where_not(narrow, monkeypatch, capsys):
    header, row = ["name", "a long name of a column", "what"], ["one", "1.25", "z" * 20]
    print_table(header, [row])
    assert "│ one" in capsys.readouterr().out
    monkeypatch.setenv("COLUMNS", "50")  # the name of the column is broken
    print_table(header, [row])
    assert "│ one" in capsys.readouterr().out
    monkeypatch.setenv("COLUMNS", "36")
    print_table(header, [row, ["two", "-", ""]], "Numbers")
    assert capsys.readouterr().out == f"Numbers\none\n  a long name of a column: 1.25;\n  what: {'z' * 20}\ntwo\n"


def test_lists_are_whole_in_a_pipe_and_alike_as_json(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = run("train", "--list")
    assert "eld-nafnet1-exposure" in out
    assert "…" not in out
    for words in (("train", "--list", "--json"), ("cameras", "--json")):
        told = json.loads(run(*words)[1])
        assert told["results"]
        assert told["failed"] == 0


def test_a_device_that_is_not_there_is_wrong_usage(run, tmp_path):
    code, _, err = run("train", "--preset", "embedded", "--data", tmp_path, "-o", tmp_path / "r", "--device", "mps")
    assert code == 2
    assert "--device mps" in err


def test_quiet_silences_notes_and_not_errors(run, tmp_path):
    (tmp_path / "broken.png").write_text("no picture")
    words = ("simulate", "--images", tmp_path, "-o", tmp_path / "out")
    loud, quiet = run(*words), run(*words, "--quiet")
    assert loud[0] == quiet[0]
    assert "expose:" in quiet[2]

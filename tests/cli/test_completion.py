"""`expose --completion`: what the scripts offer, asked of the shells themselves."""

import shutil
import subprocess

import pytest

from exposurediffusion.cli.completion import completion
from exposurediffusion.cli.console import UsageError
from exposurediffusion.cli.main import COMMANDS, main
from exposurediffusion.physics.cameras.known import calibrated_cameras
from exposurediffusion.training.presets import PRESETS

SHELLS = ["bash", "zsh", "fish"]


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    """A file for each shell."""
    folder = tmp_path_factory.mktemp("completion")
    for shell in SHELLS:
        (folder / shell).write_text(completion(shell))
    return folder


@pytest.fixture
def offered(scripts):
    """What bash offers for the last of some words; no program can be called meanwhile."""

    def ask(*words):
        line = (
            'PATH=/nowhere; . "$0"; COMP_WORDS=(expose "$@"); COMP_CWORD=$#; _expose; printf "%s\\n" "${COMPREPLY[@]}"'
        )
        command = [shutil.which("bash") or "bash", "--norc", "-c", line, str(scripts / "bash"), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()

    return ask


def test_commands_first(offered):
    assert set(COMMANDS) < set(offered(""))
    assert offered("en") == ["enhance"]
    assert "--version" in offered("--")


def test_options_of_each_command(offered):
    assert {"--ratio", "--camera", "--quiet", "--overwrite"} <= set(offered("enhance", "night.ARW", "--"))
    assert offered("simulate", "--lay") == ["--layout"]
    assert offered("train", "--optimizer.l") == ["--optimizer.lr", "--optimizer.law"]
    assert offered("cameras", "--ratio") == []


def test_names_of_things(offered):
    assert offered("train", "--preset", "") == list(PRESETS)
    assert offered("enhance", "--camera", "") == list(calibrated_cameras())
    assert offered("enhance", "--weights", "d") == ["default"]
    assert offered("enhance", "--format", "=", "ti") == ["tif", "tiff"]
    assert "table5" in offered("reproduce", "table2", "")


def test_files_where_nothing_else_fits(offered):
    """bash takes them itself where nothing is offered."""
    assert offered("enhance", "") == offered("enhance", "--ratio", "") == offered("reproduce", "--weights", "") == []


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shells_can_read_it(scripts, shell):
    if not (program := shutil.which(shell)):
        pytest.skip(f"there is no {shell} here")
    subprocess.run([program, "-n", str(scripts / shell)], check=True)


def test_fish_completes_names(scripts):
    if not (program := shutil.which("fish")):
        pytest.skip("there is no fish here")
    ask = 'source $argv[1]; complete -C "expose enhance --camera N"'
    told = subprocess.run([program, "-c", ask, str(scripts / "fish")], capture_output=True, text=True, check=True)
    assert "NikonD850" in told.stdout.split()


def test_it_is_printed_and_other_shells_are_refused(capsys):
    assert main(["--completion", "bash"]) == 0
    assert "complete -o default" in capsys.readouterr().out
    assert main(["--completion", "tcsh"]) == 2
    assert "tcsh" in capsys.readouterr().err
    with pytest.raises(UsageError, match="fish"):
        completion("")

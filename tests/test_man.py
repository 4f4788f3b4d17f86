"""The man page: all that `--help` tells, in roff that man accepts."""

import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

from exposurediffusion.cli.main import COMMANDS

MAN = runpy.run_path(str(Path(__file__).parents[1] / "docs" / "man.py"))


@pytest.fixture(scope="module")
def page():
    return MAN["page"]()


def test_tells_of_every_command_and_its_options(page):
    assert all(f".SH EXPOSE {name.upper()}\n" in page for name in COMMANDS)
    assert r"\fB\-\-before\-after\fR" in page
    assert "expose enhance night.ARW \\-o night.dng" in page
    assert page.rstrip().endswith("130 Ctrl\\-C.")


def test_nothing_in_a_text_is_taken_for_roff():
    assert MAN["plain"](".dng files\n'tis a \\ -o") == "\\&.dng files\n\\&'tis a \\e \\-o"


@pytest.mark.skipif(not shutil.which("man"), reason="there is no man here")
def test_man_shows_it_and_warns_of_nothing(page, tmp_path):
    file = tmp_path / "expose.1"
    file.write_text(page, "utf-8")
    command = ["man", "--warnings", "-P", "cat", "-l", str(file)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert shown.stderr == ""
    assert "dark raw photographs in, clean raw photographs out" in shown.stdout

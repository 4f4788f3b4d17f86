"""What is done is done where nobody reads, or can be told, what: full, broken and closed standard streams."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from exposurediffusion.cli.main import main
from exposurediffusion.raw.read import read_raw

needs_full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
Call = Callable[..., int]


@pytest.fixture
def enhance(dark_dng: Path, tiny_weights: Path, tmp_path: Path) -> Call:
    """Enhance two files; the exit code. Their results are whole."""

    def call(*options: str) -> int:
        for name in ("a.dng", "b.dng"):
            (tmp_path / name).write_bytes(dark_dng.read_bytes())
        weights = ["--weights", str(tiny_weights), "--ratio", "50"]
        code = main(["enhance", str(tmp_path), "-o", str(tmp_path / "out"), *weights, *options])
        for name in ("a.dng", "b.dng"):
            assert read_raw(tmp_path / "out" / name).mosaic.any()
        return code

    return call


@needs_full
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_report_that_cannot_be_written_is_one_message(
    options: tuple[str, ...], enhance: Call, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", open("/dev/full", "w"))  # noqa: SIM115
    assert enhance(*options) == 1
    messages = [line for line in capsys.readouterr().err.splitlines() if line.startswith("expose:")]
    assert len(messages) == 1
    assert "standard output (No space left on device)" in messages[0]
    assert main(["--version"]) == 0  # it is said once


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_report_that_nobody_reads_is_no_error(
    options: tuple[str, ...], enhance: Call, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    monkeypatch.setattr(sys, "stdout", os.fdopen(writer, "w"))
    assert enhance(*options) == 0
    assert "expose:" not in capsys.readouterr().err


@needs_full
def test_messages_that_cannot_be_written_are_no_failure(enhance: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", open("/dev/full", "w", buffering=1))  # noqa: SIM115
    assert enhance() == 0


@pytest.mark.skipif(os.name != "posix", reason="closed streams of POSIX")
@pytest.mark.parametrize(("call", "code"), [("module._open_standard_streams()", 0), ("None", 1)])
def test_no_file_takes_the_place_of_a_closed_stream(call: str, code: int, tmp_path: Path) -> None:
    """The second is the mutant twin: without, a result would have what is printed."""
    script = f"""
import os, sys
from exposurediffusion import __main__ as module
os.closerange(0, 3)
{call}
number = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)
os.write(1, b"for people")
os._exit(int(number < 3 or os.path.getsize(sys.argv[1]) > 0))
"""
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path / "result")], check=False).returncode == code

"""Files are whole or not there, on the disk before they are named; what killed processes left behind goes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from exposurediffusion.files import atomic as module
from exposurediffusion.files.atomic import alone_in, atomic

posix = pytest.mark.skipif(os.name != "posix", reason="locks of POSIX")


def parts(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.suffix == ".part"]


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process in the middle of writing `a.bin`, and with `run` for itself."""
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom exposurediffusion.files.atomic import alone_in, atomic\n"
        "with alone_in(Path(sys.argv[1]) / 'run'), atomic(Path(sys.argv[1]) / 'a.bin') as stream:\n"
        "    stream.write(b'half')\n    stream.flush()\n    print('there', flush=True)\n    time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "there\n"
    yield process
    process.kill()
    process.wait()


@posix
def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(
    tmp_path: Path, busy: subprocess.Popen[str]
) -> None:
    (tmp_path / ".mine.part").write_text("not one of ours")
    with pytest.raises(ValueError, match="another process writes to this folder; wait"), alone_in(tmp_path / "run"):
        pass
    module._remove_orphans.cache_clear()
    with atomic(tmp_path / "b.bin") as stream:
        stream.write(b"b")
    assert len(parts(tmp_path)) == 2
    busy.send_signal(signal.SIGKILL)
    busy.wait()
    with alone_in(tmp_path / "run"):
        module._remove_orphans.cache_clear()
        with atomic(tmp_path / "b.bin") as stream:
            stream.write(b"again")
    assert parts(tmp_path) == [".mine.part"]
    assert (tmp_path / "b.bin").read_bytes() == b"again"
    assert not (tmp_path / "a.bin").exists()


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda number: (done.append("sync"), sync(number))[1])
    monkeypatch.setattr(os, "replace", lambda *names: (done.append("name"), replace(*names))[1])
    with atomic(tmp_path / "a.bin") as stream:
        stream.write(b"a")
    assert done[:2] == ["sync", "name"]
    assert done[2:] == (["sync"] if os.name == "posix" else [])


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, OSError])
def test_an_error_leaves_what_was_there(tmp_path: Path, error: type[BaseException]) -> None:
    (tmp_path / "a.bin").write_bytes(b"before")

    def fail() -> None:
        with atomic(tmp_path / "a.bin") as stream:
            stream.write(b"half")
            raise error

    with pytest.raises(error):
        fail()
    assert (tmp_path / "a.bin").read_bytes() == b"before"
    assert not parts(tmp_path)


@pytest.mark.parametrize("name", ["a" * 255, "ü" * 127, "夜" * 85, "🌃" * 63, os.fsdecode(b"\xff\xfe" * 127)])
def test_names_as_long_as_the_file_system_allows(tmp_path: Path, name: str) -> None:
    try:
        (tmp_path / name).write_bytes(b"")
    except (OSError, UnicodeEncodeError):
        pytest.skip("no such names here")
    with atomic(tmp_path / name) as stream:
        stream.write(b"whole")
    assert (tmp_path / name).read_bytes() == b"whole"


def test_a_folder_is_free_again_after_an_error(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), alone_in(tmp_path / "new"):
            raise KeyboardInterrupt

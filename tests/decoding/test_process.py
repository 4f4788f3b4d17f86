"""A decoder that crashes, hangs, or takes too much is an error of one file; the next is read."""

import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from exposurediffusion.decoding import limits
from exposurediffusion.decoding.messages import receive, send
from exposurediffusion.decoding.process import DecodingError, _process, decode

linux = pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")


def _child(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str) -> None:
    """Let the decoding process have decoders of our own."""
    (tmp_path / "more.py").write_text(
        "import os, signal, socket, subprocess, sys, time\nimport numpy as np\n"
        "from exposurediffusion.decoding import decoders, limits\n"
        f"def mine():\n    {code}\n    return 'done', []\ndecoders.mine = mine\n"
    )
    (tmp_path / "sitecustomize.py").write_text("import more\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    _process.end()


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    yield
    _process.end()


@pytest.fixture
def picture(tmp_path: Path) -> str:
    from PIL import Image

    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3)).save(tmp_path / "a.png")
    return str(tmp_path / "a.png")


def test_a_decoder_that_raises_is_named_and_the_process_stays(picture: str, tmp_path: Path) -> None:
    first = decode("picture", picture, 1.0)
    process = _process.child.pid
    (tmp_path / "b.png").write_bytes(b"no picture")
    with pytest.raises(DecodingError, match="cannot identify") as caught:
        decode("picture", str(tmp_path / "b.png"), 1.0)
    assert "UnidentifiedImageError" in caught.value.kinds
    np.testing.assert_array_equal(decode("picture", picture, 1.0).arrays[0], first.arrays[0])
    assert _process.child.pid == process


@pytest.mark.parametrize(
    ("code", "match"),
    [
        ("os.abort()", "crashed|unexpectedly"),
        ("sys.stdout.flush(); os._exit(3)", "unexpectedly"),
        ("limits._SECONDS = -1; limits.allow(1 << 30); any(iter(int, 1))", "reasonable time"),
    ],
)
@linux
def test_a_decoder_that_dies_is_begun_anew(
    code: str, match: str, picture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _child(monkeypatch, tmp_path, code)
    with pytest.raises(DecodingError, match=match) as caught:
        decode("mine")
    assert not caught.value.kinds
    assert decode("picture", picture, 1.0).arrays[0].shape == (4, 4, 3)


def test_a_decoder_that_waits_for_ever_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _child(monkeypatch, tmp_path, "time.sleep(60)")
    monkeypatch.setattr("exposurediffusion.decoding.process._PATIENCE", 0.5)
    with pytest.raises(DecodingError, match="stopped"):
        decode("mine")


@linux
def test_memory_is_limited_to_what_was_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _child(monkeypatch, tmp_path, "limits.allow(50 << 20); np.ones(100 << 20, np.uint8)")
    with pytest.raises(MemoryError):
        decode("mine")
    _child(monkeypatch, tmp_path, "limits.allow(200 << 20); np.ones(100 << 20, np.uint8)")
    assert decode("mine").value == "done"


@linux
@pytest.mark.parametrize(
    "code",
    [
        "socket.socket()",
        "subprocess.run(['true'])",
        "os.fork()",
        "open('made', 'w')",
        "os.open('made', os.O_CREAT)",
        "os.unlink('kept')",
        "os.rename('kept', 'made')",
        "os.chmod('kept', 0)",
        "os.truncate('kept', 0)",
        "os.kill(os.getppid(), 0)",
    ],
)
def test_no_network_no_programs_no_changes(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyseccomp")
    (tmp_path / "kept").write_text("kept")
    monkeypatch.chdir(tmp_path)
    _child(monkeypatch, tmp_path, code)
    with pytest.raises(DecodingError) as caught:
        decode("mine")
    assert {"PermissionError", "OSError"} & set(caught.value.kinds)
    assert (tmp_path / "kept").read_text() == "kept"
    assert not (tmp_path / "made").exists()


def test_the_same_is_allowed_without_the_filter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant twin: what is refused above is refused by the filter, and by nothing else."""
    _child(monkeypatch, tmp_path, "socket.socket().close(); open(os.devnull, 'w').close()")
    with (tmp_path / "more.py").open("a") as more:
        more.write("limits._filter = lambda: None\n")
    assert decode("mine").value == "done"


def test_what_is_printed_is_kept_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _child(monkeypatch, tmp_path, "os.write(1, b'out'); os.write(2, b'err' * 5)")
    assert decode("mine").printed == "outerrerrerrerrerr"
    assert decode("mine").printed == "outerrerrerrerrerr"


def test_threads_take_turns(picture: str, tmp_path: Path) -> None:
    from PIL import Image

    names = []
    for shade in range(8):
        names.append(str(tmp_path / f"{shade}.png"))
        Image.fromarray(np.full((3, 5, 3), shade, np.uint8)).save(names[-1])
    with ThreadPoolExecutor(4) as pool:
        read = list(pool.map(lambda name: decode("picture", name, 1.0).arrays[0], names * 3))
    assert [int(pixels[0, 0, 0]) for pixels in read] == [*range(8)] * 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_process_has_a_decoder_of_its_own(picture: str) -> None:
    decode("picture", picture, 1.0)
    mine = _process.child.pid
    process = os.fork()
    if process == 0:
        from exposurediffusion.decoding import process as forked

        good = forked._process.child is None and decode("picture", picture, 1.0).arrays[0].shape == (4, 4, 3)
        good = good and forked._process.child.pid != mine
        forked._process.end()
        os._exit(0 if good else 1)
    assert os.waitpid(process, 0)[1] == 0
    assert decode("picture", picture, 1.0).arrays[0].shape == (4, 4, 3)
    assert _process.child.pid == mine


def test_an_interrupt_leaves_no_answer_for_the_next(
    picture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _child(monkeypatch, tmp_path, "time.sleep(5)")
    timer = threading.Timer(0.7, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        decode("mine")
    assert decode("picture", picture, 1.0).value is None


@pytest.mark.parametrize(
    "array",
    [np.zeros((0, 3), np.uint16), np.arange(6.0).reshape(2, 3).T, np.array([[True], [False]]), np.ones(2, np.float16)],
)
def test_messages_hold_arrays(array: np.ndarray) -> None:
    stream = io.BytesIO()
    send(stream, {"a": [1, None, "ü"]}, [array, array])
    stream.seek(0)
    value, found = receive(stream)
    assert value == {"a": [1, None, "ü"]}
    for each in found:
        np.testing.assert_array_equal(each, array, strict=True)
    with pytest.raises(EOFError):
        receive(stream)


@pytest.mark.parametrize(
    ("header", "match"),
    [
        ('[1, [["|O", [1]]]]', "kind"),
        ('[1, [["<f4", [-1]]]]', "kind"),
        ("{", "Expecting"),
        ('[1, [["S9", [1]]]]', "kind"),
    ],
)
def test_other_messages_are_refused(header: str, match: str) -> None:
    content = len(header).to_bytes(8, "little") + header.encode() + bytes(64)
    with pytest.raises(ValueError, match=match):
        receive(io.BytesIO(content))
    with pytest.raises(ValueError, match="too long"):
        receive(io.BytesIO(b"\xff" * 16))


def test_a_limit_is_never_above_the_hard_one(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    asked = []
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (10, 20))
    monkeypatch.setattr(resource, "setrlimit", lambda kind, pair: asked.append(pair))
    limits._lower(resource.RLIMIT_CPU, 50)
    limits._lower(resource.RLIMIT_CPU, 15)
    assert asked == [(20, 20), (15, 20)]

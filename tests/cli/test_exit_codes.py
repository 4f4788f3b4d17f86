"""One rule of exit codes: 0 all done or kept, 1 an input failed, 2 wrong usage, 130 Ctrl-C; for every command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from exposurediffusion.cli.main import COMMANDS, main
from exposurediffusion.dng.writer import write_dng
from tests.frames import capture
from tests.golden.weights import filled, nafnet_shapes

Call = Callable[..., int]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Call:
    """Call a command: its exit code."""

    def call(*words: Any) -> int:
        try:
            return main([str(word) for word in words])
        except SystemExit as leave:
            return int(leave.code or 0)

    return call


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory, tiny_weights: Path) -> dict[str, Path]:
    """Inputs that are sound, broken and missing."""
    root = tmp_path_factory.mktemp("things")
    random = np.random.default_rng(4)
    pictures, mixed, empty = root / "pictures", root / "mixed", root / "empty"
    for folder in (pictures, mixed, empty):
        folder.mkdir()
    for folder, number in ((pictures, 0), (pictures, 1), (mixed, 2)):
        coarse = Image.fromarray(random.integers(20, 250, (12, 12, 3)).astype(np.uint8))
        coarse.resize((300, 300), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    (mixed / "broken.png").write_text("no picture")
    torch.save(filled(nafnet_shapes(8, 9, 4, (1,), 1, (1,))), root / "theirs.pt")
    return {
        "dark": write_dng(root / "dark.dng", capture()),
        "weights": tiny_weights,
        "checkpoint": root / "theirs.pt",
        "pictures": pictures,
        "mixed": mixed,
        "empty": empty,
        "missing": root / "missing",
    }


def words_of(command: str, things: dict[str, Path], **named: Any) -> list[Any]:
    return [things.get(word, named.get(word, word)) for word in command.split()]


KEPT = [
    "enhance dark -o result.dng --weights weights --ratio 50",
    "convert checkpoint -o result.safetensors",
    "prepare pictures -o result.safetensors --downscale 1",
    "simulate --images pictures -o result --size 64",
]


@pytest.mark.parametrize("command", KEPT, ids=[command.split()[0] for command in KEPT])
def test_what_is_there_already_is_kept(
    command: str, run: Call, things: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*words_of(command, things)) == 0
    results = [path for path in tmp_path.rglob("*") if path.suffix in (".dng", ".safetensors")]
    before = {path: path.stat().st_mtime_ns for path in results}
    assert before
    assert run(*words_of(command, things)) == 0
    assert before == {path: path.stat().st_mtime_ns for path in before}


@pytest.mark.parametrize(
    "command",
    [
        "enhance missing dark -o out --weights weights --ratio 50",
        "info missing dark --weights weights",
        "convert missing -o result.safetensors",
        "prepare mixed -o result.safetensors --downscale 1",
        "simulate --images mixed -o out --size 64",
        "train --preset default --data weights -o run",
    ],
    ids=lambda command: command.split()[0],
)
def test_an_input_that_fails_is_1(
    command: str, run: Call, things: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*words_of(command, things)) == 1


@pytest.mark.parametrize(
    "command",
    [
        *(f"{name} --nonsense" for name in COMMANDS),
        "enhance dark --weights missing",
        "enhance dark --ratio 0",
        "enhance dark --engine onnx --precision bf16",
        "export -o weights.pt",
        "demo --ratio 0",
        "info dark --camera Brownie",
        "prepare empty -o result.safetensors",
        "simulate --images empty -o out",
        "train --preset default --data empty -o run",
        "train --preset default --data missing -o run",
        "train --preset default --data pictures -o run --initial missing",
        "evaluate --root empty --weights weights -o out",
        "evaluate --root missing --weights weights -o out",
        "reproduce table4 --root missing --weights empty -o out",
    ],
)
def test_wrong_usage_is_2_and_begins_nothing(
    command: str, run: Call, things: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*words_of(command, things)) == 2
    assert not list(tmp_path.iterdir())


def test_an_output_folder_made_with_other_options_is_2(run: Call, things: dict[str, Path], tmp_path: Path) -> None:
    """So do `evaluate` and `train`; their own tests have it."""
    words = words_of("simulate --images pictures -o out --size 64", things, out=tmp_path / "set")
    assert run(*words) == 0
    assert run(*words, "--seed", 3) == 2
    assert run(*words, "--seed", 3, "--overwrite") == 0


@pytest.mark.parametrize("name", COMMANDS)
def test_an_interrupt_is_130(name: str, run: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("exposurediffusion.cli.main.parse", lambda *_: interrupted)
    assert run(name) == 130

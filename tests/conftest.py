"""Fixtures of all tests, and settings that keep them fast and repeatable."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import torch
from hypothesis import settings

import tests.typechecking  # noqa: F401 - jaxtyping's option in pyproject.toml names it but imports only `tests`

# Examples may be slow the first time (shapes are being checked); in CI the same ones are drawn every time.
settings.register_profile("default", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("default")


def pytest_configure(config: pytest.Config) -> None:
    """Workers of pytest-xdist share the cores: more threads than cores slow PyTorch and NumPy down tenfold.

    Said in the environment, before workers and what they start exist, it holds for the libraries' own threads, too.
    """
    if config.getoption("numprocesses", None):
        os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True, scope="session")
def _no_profiles_of_ones_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Camera profiles that a developer keeps must change no test, nor what tests start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))
        yield


@pytest.fixture(autouse=True)
def no_darktable(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder where programs' data is looked for: no figure depends on what a machine has installed."""
    folder = tmp_path_factory.getbasetemp() / "share" / uuid4().hex  # need not exist
    monkeypatch.setenv("XDG_DATA_HOME", str(folder / "own"))
    monkeypatch.setenv("XDG_DATA_DIRS", str(folder))
    return folder


@pytest.fixture
def generator() -> torch.Generator:
    """A random source that is the same in every run."""
    return torch.Generator().manual_seed(20231004)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real and damaged raw files beside a developer's checkout; its tests are left out elsewhere."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"{folder.name}/ is not beside this checkout")
    return folder


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two pictures."""
    from tests import simulated  # not above: the package is imported only after its shapes are being checked

    return simulated.photographs(tmp_path_factory.mktemp("photographs"))


@pytest.fixture(scope="session")
def simsid(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree in SID's layout, 32x32 packed pixels: two scenes for tests, two to train on, one to validate; darks."""
    from tests import simulated

    root = tmp_path_factory.mktemp("simsid")
    for split, scenes in (("test", 2), ("train", 2), ("validation", 1)):
        simulated.simulate(photographs, root, "--split", split, "--scenes", scenes, "--darks", 2)
    return root


@pytest.fixture(scope="session")
def tiny_model() -> Any:
    """Untrained, but of the embedded model's kind."""
    from tests import frames

    return frames.tiny_model()


@pytest.fixture(scope="session")
def tiny_weights(tiny_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as a file."""
    from exposurediffusion.weights.file import save_weights

    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(path, tiny_model, tiny_model.card)
    return path


@pytest.fixture(scope="session")
def dark_dng(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dark simulated capture as a raw file."""
    from exposurediffusion.dng.writer import write_dng
    from tests import frames

    return write_dng(tmp_path_factory.mktemp("raw") / "dark.dng", frames.capture())

"""What an error says to people: in plain words, and of which file."""

from __future__ import annotations

from pathlib import Path

import pytest

from exposurediffusion.photographs.enhancer import failure
from exposurediffusion.photographs.photograph import Job


@pytest.mark.parametrize(
    "text",
    [
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
        "allocate 24576000 bytes. Error code 12 (Cannot allocate memory)",
        "CUDA out of memory. Tried to allocate 2.00 GiB",
    ],
)
def test_no_memory_is_said_in_plain_words(text: str) -> None:
    job = Job(Path("night.dng"), Path("clean.dng"), "dng")
    assert failure(RuntimeError(text), job).startswith("night.dng: not enough memory; try a smaller --tile")


def test_a_file_in_this_folder_is_named() -> None:
    """Its folder is "." - which an error may hold without meaning it."""
    job = Job(Path("night.dng"), Path("clean.dng"), "dng")
    assert failure(ValueError("it is broken."), job) == "night.dng: it is broken."
    assert failure(ValueError("night.dng: broken"), job) == "night.dng: broken"
    assert failure(OSError("cannot write clean.dng: no"), job) == "cannot write clean.dng: no"

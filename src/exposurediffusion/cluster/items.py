"""What is to be done: photographs, and where their results go."""

from __future__ import annotations

import os
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path

from exposurediffusion.photographs.enhancer import Enhancer
from exposurediffusion.photographs.photograph import SUFFIXES, Format, Job


@dataclass(frozen=True, slots=True)
class Item:
    """A photograph and its result, as paths or URLs.

    Attributes:
        source: the raw file.
        target: the result.
    """

    source: str
    target: str


def pair(
    sources: Mapping[str, str], output: str, enhancer: Enhancer, format: Format, finished: Container[str] = ()
) -> tuple[list[Item], dict[str, str]]:
    """Items that do not get into each other's way.

    Args:
        sources: raw files, each with the folder below which it keeps its place.
        output: folder of the results.
        enhancer: knows which files a result has.
        format: of the results.
        finished: sources whose results are there and stay.

    Returns:
        The items, and why the other sources are none.

    Raises:
        ValueError: a result would replace its own raw file.
    """
    items: list[Item] = []
    refused: dict[str, str] = {}
    taken: dict[Path, str] = {}
    for source in sorted(sources, key=lambda source: source not in finished):
        name = os.path.splitext(source.removeprefix(sources[source]).lstrip("/"))[0]
        target = f"{output}/{name}{SUFFIXES.get(format, f'.{format}')}"
        files = enhancer.results.files(Job(Path(source), Path(target), format, enhancer.maps))
        other = next((taken[file] for file in files if file in taken), None)
        if target == source:
            raise ValueError(f"{source}: its result would replace it; choose another output folder (-o)")
        if other is not None:
            refused[source] = f"{source}: it would overwrite the result of {other}: put it into a batch of its own"
        else:
            taken |= dict.fromkeys(files, source)
            items.append(Item(source, target))
    return items, refused

"""What a process that was killed left behind: files under temporary names, which nobody will ever finish."""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterable

from exposurediffusion.cluster.urls import is_url, listed, remove

_TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{8}\.part")


def sweep(output: str, folders: Iterable[str], names: Container[str]) -> None:
    """Remove the temporary files of results.

    Args:
        output: where results go, a folder or a URL.
        folders: in which they lie; those at a URL are found.
        names: of results, as far as temporary names have them.
    """

    def is_left(name: str) -> bool:
        match = _TEMPORARY.fullmatch(name)
        return match is not None and match[1] in names

    if is_url(output):
        for url in listed(output):
            if is_left(url.rpartition("/")[2]):
                remove(url)
        return
    for folder in filter(os.path.isdir, folders):
        for name in filter(is_left, os.listdir(folder)):
            os.unlink(os.path.join(folder, name))

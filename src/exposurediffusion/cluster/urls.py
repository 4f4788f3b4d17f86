"""Files at URLs, through fsspec; each scheme's own library raises errors of its own, which become ValueErrors."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
from fsspec.core import has_magic

from exposurediffusion.datasets.listing import RAW_EXTENSIONS


def is_url(place: str) -> bool:
    """Whether a place is named by a URL, not by a path."""
    return "://" in place


@contextmanager
def _opened(url: str) -> Iterator[tuple[Any, str]]:
    """The file system of a URL, and the path there.

    Raises:
        ValueError: there is no such scheme, its library is not installed, or what is done there fails.
    """
    try:
        yield fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise ValueError(f"{url}: a library is missing here: {error}") from error
    except Exception as error:
        if isinstance(error, ValueError) and "Protocol not known" in str(error):
            raise ValueError(
                f"{url}: {error}; give a path, or a URL of a scheme that fsspec has (s3, gs, sftp ...)"
            ) from error
        raise ValueError(f"{url}: {error or type(error).__name__}") from error


def find(url: str, recursive: bool) -> dict[str, str]:
    """The raw files that a URL stands for, each with the folder below which it keeps its place.

    Args:
        url: of a file, a folder or a glob.
        recursive: take the subfolders of a folder too.

    Raises:
        ValueError: nothing is there, or it cannot be listed.
    """
    with _opened(url) as (system, path):
        if not has_magic(path) and system.isfile(path):
            return {url: url.rpartition("/")[0]}
        if has_magic(path):
            folder = path[: next(n for n in range(len(path)) if has_magic(path[: n + 1]))].rpartition("/")[0]
            found = [each for each in system.glob(path) if not system.isdir(each)]
        else:
            folder = path.rstrip("/")
            found = system.find(path, maxdepth=None if recursive else 1)
        base = system.unstrip_protocol(folder)
    photographs = {
        f"{base}/{name}": base
        for name in (each.removeprefix(folder).lstrip("/") for each in sorted(found))
        if Path(name).suffix.lower() in RAW_EXTENSIONS
        and not any(part.startswith(".") for part in name.split("/"))
        and not Path(name).stem.endswith("-enhanced")
    }
    if not photographs:
        below = "" if recursive or has_magic(path) else " (--recursive looks into its subfolders)"
        raise ValueError(f"{url}: no raw files there{below}")
    return photographs


def listed(url: str) -> set[str]:
    """The URLs of all files below a folder; none where it is not there."""
    with _opened(url) as (system, path):
        try:
            return {f"{url}{each.removeprefix(path.rstrip('/'))}" for each in system.find(path)}
        except FileNotFoundError:
            return set()


def fetch(url: str, path: Path) -> None:
    """Copy a file from a URL.

    Raises:
        ValueError: it cannot be read.
    """
    with _opened(url) as (system, there):
        system.get_file(there, str(path))


def put(path: Path, url: str) -> None:
    """Copy a file to a URL, under a temporary name first.

    Raises:
        ValueError: it cannot be written.
    """
    with _opened(url) as (system, there):
        folder, _, name = there.rpartition("/")
        temporary = f"{folder}/.{name[:100]}.{secrets.token_hex(4)}.part"
        system.makedirs(folder, exist_ok=True)
        try:
            system.put_file(str(path), temporary)
            system.mv(temporary, there)
        except BaseException:
            if system.exists(temporary):
                system.rm_file(temporary)
            raise


def remove(url: str) -> None:
    """Remove a file.

    Raises:
        ValueError: it cannot be removed.
    """
    with _opened(url) as (system, there):
        system.rm_file(there)

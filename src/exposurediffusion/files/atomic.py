"""Files that appear whole or not at all."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

SOFTWARE_NAME = "ExposureDiffusion"
"""What written files say in their Software tag."""


@contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[BufferedIOBase]:
    """A binary stream to a temporary file beside `path`, which takes its place only if all goes well.

    Raises:
        OSError: it cannot be written; the message names `path`, and nothing is left behind.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}.part")
    try:
        try:
            with open(temporary, "xb") as stream:
                yield stream
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(error.errno, f"cannot write {target}: {reason}") from error


def make_folder(path: Path) -> None:
    """Make a folder to write to, unless it is there.

    Raises:
        ValueError: it cannot be made, or written to; with what to do.
    """
    remedy = "choose another place for the output (-o)"
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        file = next(
            (above for above in (path, *path.parents) if os.path.lexists(above) and not os.path.isdir(above)), None
        )
        reason = f"{file} is no folder" if file else error.strerror
        raise ValueError(f"{path}: cannot be made, {reason}; {remedy}") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise ValueError(f"{path}: nothing can be written into this folder; {remedy}, or allow it")


def safetensors_bytes(tensors: dict[str, Tensor], metadata: dict[str, str]) -> bytes:
    """A safetensors file. `save` alone writes the metadata in another order each time, so that files would differ."""
    content = save(tensors, metadata=metadata)
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(metadata.items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors are aligned
    return len(text).to_bytes(8, "little") + text + content[end:]

"""Clean pictures prepared once: one file that training starts from in seconds, wherever PyTorch and Pillow are.

It is a safetensors file. Each picture is one uint8 tensor, named by its number: the three codestreams of `data.codec`,
one after the other, of light times the picture's own exposure. The metadata say the version and, as JSON, what is
known of each picture (`Entry`). Nothing here needs a raw decoder or the command line.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatch
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float16, Float32, Int64
from safetensors import SafetensorError, safe_open
from torch import Tensor

from exposurediffusion.data.codec import all_cores, decode
from exposurediffusion.data.files import atomic, safetensors_bytes
from exposurediffusion.data.splits import Split, choose
from exposurediffusion.data.synthesis import Panorama, Photograph

FORMAT = "exposurediffusion-pictures/1"
_MOST = 1 << 28  # pixels of one picture: beyond it a header is wrong


@dataclass(frozen=True)
class Entry:
    """What a file says of a picture.

    Attributes:
        name: of the source: its folder, and its path below.
        licence: as stated where the source came from.
        sha256: of the source's bytes.
        panorama: an equirectangular panorama.
        rows, columns: size in pixels.
        exposure: stored light is the picture's times this.
        sizes: bytes of each of the three codestreams.
        crc32: of all of them.
    """

    name: str
    licence: str
    sha256: str
    panorama: bool
    rows: int
    columns: int
    exposure: float
    sizes: tuple[int, ...] = ()
    crc32: int = 0


@dataclass(frozen=True)
class Pictures:
    """Clean pictures of any size in one buffer, so that a batch of crops is one gather.

    Attributes:
        pixels: linear sRGB light, at most 6e4, all pictures one after the other, row by row.
        first: row of `pixels` where each picture begins.
        rows, columns: sizes in pixels.
        panorama: which are equirectangular panoramas.
        names: one each.
    """

    pixels: Float16[Tensor, "n 3"]
    first: Int64[Tensor, " count"]
    rows: Int64[Tensor, " count"]
    columns: Int64[Tensor, " count"]
    panorama: Bool[Tensor, " count"]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def to(self, device: torch.device | str) -> Pictures:
        """The same on another device."""
        fields = ("pixels", "first", "rows", "columns", "panorama")
        return replace(self, **{name: getattr(self, name).to(device) for name in fields})

    def picture(self, index: int) -> Float32[Tensor, "3 rows columns"]:
        """One of them, linear light."""
        start, rows, columns = (int(of[index]) for of in (self.first, self.rows, self.columns))
        return self.pixels[start : start + rows * columns].float().T.reshape(3, rows, columns)


def write_pictures(path: str | os.PathLike[str], pictures: Sequence[tuple[Entry, Sequence[bytes]]]) -> None:
    """Write pictures, compressed by `encode`, whole or not at all; sizes and checksums are filled in here.

    Raises:
        OSError: it cannot be written.
    """
    tensors, facts = {}, []
    for number, (entry, streams) in enumerate(pictures):
        joined = b"".join(streams)
        sizes = tuple(len(stream) for stream in streams)
        facts.append(asdict(replace(entry, sizes=sizes, crc32=zlib.crc32(joined))))
        tensors[str(number)] = torch.from_numpy(np.frombuffer(joined, np.uint8).copy())
    with atomic(path) as stream:
        stream.write(safetensors_bytes(tensors, {"format": FORMAT, "pictures": json.dumps(facts)}))


def read_pictures(path: str | os.PathLike[str], exclude: Sequence[str] = (), split: Split = "all") -> Pictures:
    """Read the pictures of a file made by `expose prepare`.

    Args:
        path: the .safetensors file.
        exclude: patterns such as `train/photo/*` of names to leave out.
        split: the pictures that `held_out` names are for validation, the others for training.

    Raises:
        ValueError: no such file, not one of prepared pictures, of another version, damaged, or nothing is left.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file; make it by expose prepare FOLDER -o {path}")
    with _usable(path), safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        if metadata.get("format") != FORMAT:
            raise ValueError(f"format {metadata.get('format')!r}, not {FORMAT!r}")
        known = [_entry(facts) for facts in json.loads(metadata["pictures"])]
        if not known:
            raise ValueError("it holds no pictures")
    left = [(e.name, n) for n, e in enumerate(known) if not any(fnmatch(e.name, pattern) for pattern in exclude)]
    if not left:
        raise ValueError(f"{path}: none of its {len(known)} pictures is left; leave out fewer of them")
    wanted = [number for _, number in choose(sorted(left), split, path)]  # folders of one name may share names
    with _usable(path), safe_open(path, framework="pt") as file:
        return _assemble([known[n] for n in wanted], [file.get_tensor(str(n)) for n in wanted])


@contextmanager
def _usable(path: Path) -> Iterator[None]:
    """Say of which file an error is."""
    try:
        yield
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: not usable as prepared pictures ({error}); make it anew by expose prepare"
        ) from error


def in_memory(sources: Sequence[Panorama | Photograph]) -> Pictures:
    """Pictures as they are, of at least one source."""
    pixels = torch.cat([source.pixels.flatten(1).T for source in sources])
    rows, columns = (torch.tensor([source.pixels.shape[axis] for source in sources]) for axis in (1, 2))
    panorama = torch.tensor([isinstance(source, Panorama) for source in sources])
    names = tuple(source.name for source in sources)
    return Pictures(pixels, (rows * columns).cumsum(0) - rows * columns, rows, columns, panorama, names)


def _entry(facts: dict[str, Any]) -> Entry:
    entry = Entry(**{**facts, "sizes": tuple(facts["sizes"])})
    if min(entry.rows, entry.columns) < 1 or entry.rows * entry.columns > _MOST or not entry.exposure > 0:
        raise ValueError(f"{entry.name}: impossible size or exposure")
    return entry


def _streams(entry: Entry, data: Tensor) -> list[bytes]:
    joined = data.numpy().tobytes()
    if zlib.crc32(joined) != entry.crc32:
        raise ValueError(f"{entry.name}: damaged")
    return [joined[begin:end] for begin, end in pairwise(np.cumsum((0, *entry.sizes)))]


def _assemble(entries: list[Entry], coded: list[Tensor]) -> Pictures:
    rows, columns = torch.tensor([entry.rows for entry in entries]), torch.tensor([entry.columns for entry in entries])
    ends = (rows * columns).cumsum(0)
    first = ends - rows * columns
    streams = [_streams(entry, data) for entry, data in zip(entries, coded, strict=True)]
    pixels = torch.empty(int(ends[-1]), 3, dtype=torch.float16)

    def fill(entry: Entry, streams: list[bytes], start: int, end: int) -> None:
        pixels[start:end] = decode(streams, entry.exposure, entry.rows, entry.columns)

    with all_cores(), ThreadPoolExecutor(4) as pool:  # while one picture is decoded, others are linearised
        list(pool.map(fill, entries, streams, first.tolist(), ends.tolist()))
    panorama = torch.tensor([entry.panorama for entry in entries])
    return Pictures(pixels, first, rows, columns, panorama, tuple(entry.name for entry in entries))

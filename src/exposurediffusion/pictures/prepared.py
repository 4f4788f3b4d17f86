"""Clean pictures prepared once: one file that training starts from in seconds, wherever PyTorch and Pillow are.

It is a safetensors file. Each picture is one uint8 tensor, named by its number: the three codestreams of
`pictures.codec`, one after the other, of light times the picture's own exposure. The metadata say the version and, as
JSON, what is known of each picture (`Entry`), with a checksum of that. Nothing here needs a raw decoder or the command
line.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
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

from exposurediffusion.files.atomic import atomic, safetensors_bytes
from exposurediffusion.physics.plain import parse_json
from exposurediffusion.pictures.codec import all_cores, decode
from exposurediffusion.pictures.splits import Split, choose
from exposurediffusion.simulation.light import Panorama, Photograph

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
    known = json.dumps(facts)
    with atomic(path) as stream:
        stream.write(safetensors_bytes(tensors, {"format": FORMAT, "pictures": known, "crc32": _crc32(known)}))


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
        known = _entries(metadata.get("pictures", ""), metadata.get("crc32"))
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
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError, MemoryError) as error:
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


def _crc32(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"


def _entries(text: str, checksum: str | None) -> list[Entry]:
    """What a file says of its pictures; files of before there were checksums have none.

    Raises:
        ValueError: it is damaged, or no such list; the picture and the field are named.
    """
    if checksum not in (None, _crc32(text)):
        raise ValueError("damaged, the checksum of its header is wrong")
    found = parse_json(text)
    if not isinstance(found, list) or not found:
        raise ValueError("it holds no list of pictures")
    return [_entry(number, facts) for number, facts in enumerate(found)]


def _entry(number: int, facts: Any) -> Entry:
    """One picture."""
    if not isinstance(facts, dict):
        raise ValueError(f"picture {number}: {facts!r:.40} instead of its fields")
    if wrong := facts.keys() ^ Entry.__dataclass_fields__.keys():
        raise ValueError(f"picture {number}: the fields {', '.join(map(repr, sorted(wrong)))} are missing or unknown")
    for field, value in facts.items():
        if not _SOUND[field](value):
            raise ValueError(f"picture {number}: {field} is {value!r:.40}")
    if facts["rows"] * facts["columns"] > _MOST:
        raise ValueError(f"picture {number}: rows and columns are {facts['rows']} and {facts['columns']}")
    return Entry(**{**facts, "sizes": tuple(facts["sizes"])})


def _is_whole(value: Any, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most  # True is an int, too


_SOUND: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("name", "licence", "sha256"), lambda value: isinstance(value, str)),
    **dict.fromkeys(("rows", "columns"), lambda value: _is_whole(value, 1, _MOST)),
    "panorama": lambda value: isinstance(value, bool),
    "exposure": lambda value: type(value) in (int, float) and 1e-9 <= value <= 1e9,
    "sizes": lambda value: isinstance(value, list) and len(value) == 3 and all(_is_whole(n, 1, 1 << 40) for n in value),
    "crc32": lambda value: _is_whole(value, 0, 0xFFFFFFFF),
}
"""What the fields of an `Entry` may be."""


def _streams(entry: Entry, data: Tensor) -> list[bytes]:
    joined = data.numpy().tobytes()
    if len(joined) != sum(entry.sizes):
        raise ValueError(f"{entry.name}: sizes are of {sum(entry.sizes)} bytes, there are {len(joined)}")
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

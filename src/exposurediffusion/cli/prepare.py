"""`expose prepare`: clean pictures decoded, downscaled, screened and compressed once, into one file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from torch import Tensor

from exposurediffusion.cli.console import Flag, Inputs, MaxMegapixels, Summary, UsageError, note, progress, show
from exposurediffusion.datasets.listing import find_images
from exposurediffusion.decoding.megapixels import MAX_MEGAPIXELS
from exposurediffusion.evaluation.summary import Table
from exposurediffusion.files.atomic import make_folder
from exposurediffusion.pictures import screening
from exposurediffusion.pictures.codec import encode
from exposurediffusion.pictures.manifests import NOT_STATED, stated
from exposurediffusion.pictures.prepared import Entry, write_pictures
from exposurediffusion.pictures.screening import decibels, exposure_of, originals, thumbnail


@dataclass(frozen=True)
class _Prepared:
    """One picture: what the file will say, its codestreams, what they cost (dB), and what distinguishes it."""

    entry: Entry
    streams: Sequence[bytes]
    decibels: float
    thumbnail: Tensor

    @property
    def pixels(self) -> int:
        return self.entry.rows * self.entry.columns

    @property
    def size(self) -> int:
        return sum(map(len, self.streams))


def prepare(
    folders: Inputs,
    /,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    downscale: int = 2,
    megapixels: float = 1.2,
    quality: float = 42.4,
    max_megapixels: MaxMegapixels = MAX_MEGAPIXELS,
    overwrite: Flag = False,
    json: Flag = False,
) -> int:
    """Prepare clean pictures once, so that training starts from one file in seconds.

    Photographs are averaged in linear light, which removes noise and compression, unless a MANIFEST.tsv beside or above
    them says of their processing "box N". Licences are taken from there too. Pictures that cannot be read, are too
    small, of one colour or nearly the same as a larger one are named and left out.

    Example: expose prepare pictures/ -o pictures.safetensors

    Args:
        folders: of .hdr panoramas, photographs and floating-point .tif, searched with their subfolders.
        output: the .safetensors file.
        downscale: PNG, JPEG and WebP are averaged so many pixels square.
        megapixels: larger pictures are made as small as this.
        max_megapixels: larger files are refused before they are decoded.
        quality: signal-to-noise ratio that compression leaves, about so many dB.
        overwrite: replace the file if it exists; it is kept otherwise.
        json: print the summary as JSON.
    """
    if output.suffix != ".safetensors":
        raise UsageError(f"{output}: files of prepared pictures end in .safetensors")
    if output.is_dir():
        raise UsageError(f"{output} is a folder: name a file")
    if not 1 <= downscale <= 16 or not 0.1 <= megapixels <= 100 or not 20 <= quality <= 80:
        raise UsageError("--downscale lies between 1 and 16, --megapixels between 0.1 and 100, --quality 20 and 80 dB")
    summary = Summary(json)
    files = _find(folders, summary)
    if output.exists() and not overwrite:
        summary.keep(output)
        return summary.finish()
    make_folder(output.parent)
    prepared: list[_Prepared] = []
    with progress("Preparing", len(files)) as tick:
        for path, folder in files:
            try:
                prepared.append(_prepare(path, folder, downscale, (megapixels, max_megapixels), quality))
            except (ValueError, OSError) as error:
                summary.fail(str(error), input=str(path))
            tick()
    kept = _without_copies(prepared, summary)
    if not kept:
        raise ValueError("none of the pictures can be used, so no file is written; give folders with others")
    write_pictures(output, [(one.entry, one.streams) for one in kept])
    _report(kept, output, summary)
    return summary.finish()


def _find(folders: Sequence[Path], summary: Summary) -> list[tuple[Path, Path]]:
    """The pictures, each once, with the folder each was found in."""
    if not folders:
        raise UsageError("no input: give folders of pictures")
    files: dict[Path, tuple[Path, Path]] = {}
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"{folder}: {'a file, give its folder' if folder.exists() else 'no such folder'}")
        found = find_images(folder, lambda text: summary.fail(text))
        if not found:
            raise UsageError(f"{folder}: no pictures (.hdr, .tif, .png, .jpg, .webp)")
        for path in found:
            files.setdefault(path.resolve(), (path, folder))
    return list(files.values())


def _prepare(path: Path, folder: Path, downscale: int, megapixels: tuple[float, float], quality: float) -> _Prepared:
    statement, (kept, most) = stated(path, folder), megapixels
    light, panorama = screening.prepare(path, 1 if statement.clean else downscale, kept, note, most)
    exposure = exposure_of(light)
    streams = encode(light.numpy(), exposure, quality)
    entry = Entry(
        name=f"{folder.resolve().name}/{path.relative_to(folder).as_posix()}",
        licence=statement.licence,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        panorama=panorama,
        rows=light.shape[-2],
        columns=light.shape[-1],
        exposure=exposure,
    )
    return _Prepared(entry, streams, decibels(light, streams, exposure), thumbnail(light))


def _without_copies(prepared: list[_Prepared], summary: Summary) -> list[_Prepared]:
    copies = originals([one.thumbnail for one in prepared], [one.pixels for one in prepared]) if prepared else {}
    for place, other in sorted(copies.items()):
        line = f"{prepared[place].entry.name}: left out, nearly the same as {prepared[other].entry.name}"
        note(line)
        summary.add(None, left_out=prepared[place].entry.name, same_as=prepared[other].entry.name)
    return [one for place, one in enumerate(prepared) if place not in copies]


def _report(kept: list[_Prepared], output: Path, summary: Summary) -> None:
    for one in kept:
        facts = {"name": one.entry.name, "licence": one.entry.licence, "sha256": one.entry.sha256}
        size = {"rows": one.entry.rows, "columns": one.entry.columns, "bytes": one.size}
        summary.add(None, **facts, **size, panorama=one.entry.panorama, decibels=round(one.decibels, 2))
    if summary.as_json:
        return
    kinds = {
        "photographs": [one for one in kept if not one.entry.panorama],
        "panoramas": [one for one in kept if one.entry.panorama],
        "all": kept,
    }
    rows = [_row(kind, of) for kind, of in kinds.items() if of]
    unstated = sum(one.entry.licence == NOT_STATED for one in kept)
    worst = min(kept, key=lambda one: one.decibels)
    notes = [
        f"{output}: {output.stat().st_size / 1e6:.1f} MB. Licences not stated: {unstated} of {len(kept)}.",
        f"dB: what compression leaves of the pictures as sRGB has them; the worst is {worst.entry.name}.",
    ]
    header = ("kind", "pictures", "megapixels", "MB", "dB, mean", "dB, worst")
    show(Table("Prepared pictures", header, rows, notes))


def _row(kind: str, of: list[_Prepared]) -> list[str | int]:
    decibels = [one.decibels for one in of]
    megapixels, megabytes = sum(one.pixels for one in of) / 1e6, sum(one.size for one in of) / 1e6
    figures = megapixels, megabytes, sum(decibels) / len(of), min(decibels)
    return [kind, len(of), *(f"{figure:.1f}" for figure in figures)]

"""A data set chosen, methods in, figures out: what `expose evaluate` and `expose reproduce` share."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from exposurediffusion.datasets.samples import FramePair, PairDataset, Sample
from exposurediffusion.evaluation.measure import Protocol, cropped, measure
from exposurediffusion.evaluation.methods import Method, Prediction
from exposurediffusion.evaluation.pictures import brightness, developed, error_map, mask_map, png
from exposurediffusion.evaluation.results import Results


def score(
    opened: PairDataset,
    methods: Sequence[Method],
    protocol: Protocol,
    results: Results,
    *,
    pictures: Sequence[str] = (),
    failed: Callable[[str, str], None] | None = None,
    tick: Callable[[], None] = lambda: None,
) -> None:
    """Measure every method on every pair whose figures, or wanted pictures, are not there yet.

    Args:
        opened: the pairs.
        methods: with names that differ.
        protocol: how figures are taken.
        results: are added to, capture by capture.
        pictures: scenes to keep pictures of, `all`: all.
        failed: is given a capture that cannot be measured, and why; the others are done. None: it is an error.
        tick: is called after each method and pair.
    """
    for method in methods:
        results.admit(method)
    for index, pair in enumerate(opened.pairs):
        file = f"{Path(pair.short.source).parent.name}/{Path(pair.short.source).name}"
        folder = results.folder / "pictures" / _folder(pair) if {"all", pair.scene} & {*pictures} else None
        todo = [
            method
            for method in methods
            if not results.has(method.name, pair.scene, file)
            or (folder is not None and not _picture(folder, method.name).is_file())
        ]
        sample: Sample | None = None
        for method in methods:
            if method in todo:
                try:
                    sample = cropped(opened[index], protocol.crop) if sample is None else sample
                    keep = None if folder is None else _Pictures(sample, folder, method.name)
                    records = list(measure(method, sample, protocol, file, keep))
                    if not results.has(method.name, pair.scene, file):  # else pictures alone were missing
                        results.add(records)
                except ValueError as error:
                    if failed is None:
                        raise
                    failed(file, str(error))
                    if sample is None:  # the capture's own fault, and the same for all
                        todo = []
            tick()


def _folder(pair: FramePair) -> str:
    """Of the pictures of a capture; the names of ELD's and others' files do not name their scenes."""
    stem = Path(pair.short.source).stem
    return stem if stem.startswith(pair.scene) else _plain(f"{pair.scene}-{stem}")


def _plain(name: str) -> str:
    """A name without what file systems dislike."""
    return re.sub(r"[^\w.+]+", "-", name)


def _picture(folder: Path, method: str) -> Path:
    return folder / f"{_plain(method)}.png"


@dataclass(frozen=True)
class _Pictures:
    """Keeps pictures of a prediction."""

    sample: Sample
    folder: Path
    method: str

    def __call__(self, prediction: Prediction, final: Tensor) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        stem, sample, clean = _plain(self.method), self.sample, self.sample.clean.clamp(0, 1)
        exposure = brightness(clean)
        pictures = {
            "reference": developed(clean, sample.metadata, exposure),
            f"{stem}-error": error_map(final, clean),
        }
        if prediction.mask is not None:
            pictures[f"{stem}-mask"] = mask_map(prediction.mask)
        pictures[stem] = developed(final, sample.metadata, exposure)  # the last: if it is there, all are
        for name, pixels in pictures.items():
            _picture(self.folder, name).write_bytes(png(pixels))

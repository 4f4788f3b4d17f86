"""Batches of training patches: what a batch is follows from the seed, the iteration and the process.

Views of clean pictures are cut from memory on the training device, a batch at a time. Raw files and pairs are read by
loader processes, patch by patch: their numbers count over the whole run and all processes.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from exposurediffusion.physics.random import Stream, seeded
from exposurediffusion.physics.sensor import SATURATION
from exposurediffusion.pictures.views import CleanViews

if TYPE_CHECKING:  # it brings in the raw decoders, which machines that only train may lack
    from exposurediffusion.datasets.samples import Sample

TOGETHER = 4
"""Batches of views that are made at once on a GPU."""


@runtime_checkable
class Patches(Protocol):
    """What is needed of a data set; those of `datasets.samples` have it."""

    @property
    def planes(self) -> int:
        """Colour planes of an image."""
        ...

    @property
    def largest(self) -> tuple[int, str]:
        """Side of the largest patch that every frame holds, packed pixels, and the name of the smallest frame."""
        ...

    def patch(self, number: int, size: int) -> Sample:
        """Training patch `number` of `size` x `size` packed pixels: the same in every process."""
        ...


@dataclass(frozen=True)
class Batch:
    """Patches of equal size; what is known of their captures is None where captures are still to be made.

    Attributes:
        numbers: of the patches, counted over the whole run and all processes.
        clean: noise-free image at reference brightness.
        capture: amplified by `ratio`.
        ratio: amplification.
        gain: K, DN per electron, and
        read_variance: light-free variance, DN^2, both of a camera with `SATURATION`.
    """

    numbers: tuple[int, ...]
    clean: Float[Tensor, "b c h w"]
    capture: Float[Tensor, "b c h w"] | None = None
    ratio: Float[Tensor, "b"] | None = None
    gain: Float[Tensor, "b"] | None = None
    read_variance: Float[Tensor, "b"] | None = None

    def tensors(self) -> dict[str, Tensor]:
        """Those that there are, by name."""
        found = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "numbers"}
        return {name: tensor for name, tensor in found.items() if tensor is not None}

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        return Batch(self.numbers, **{k: v.to(device, non_blocking=True) for k, v in self.tensors().items()})

    def pin_memory(self) -> Batch:
        """The same in page-locked memory (the loader's hook)."""
        return Batch(self.numbers, **{k: v.pin_memory() for k, v in self.tensors().items()})


def collate(numbers: tuple[int, ...], samples: list[Sample]) -> Batch:
    """One batch of samples of the same kind."""
    clean = torch.stack([sample.clean for sample in samples])
    captures = [sample.capture for sample in samples if sample.capture is not None]
    if not captures:
        return Batch(numbers, clean)
    ratio, gain, variance = [], [], []
    for sample in samples:
        if sample.capture is None or sample.ratio is None or sample.noise is None:
            raise ValueError(f"{sample.name}: a capture without its ratio and noise cannot be trained on")
        scale = SATURATION / sample.noise.saturation
        ratio.append(sample.ratio)
        gain.append(float(sample.noise.gain) * scale)
        variance.append(float(sample.noise.read_variance) * scale**2)
    return Batch(numbers, clean, torch.stack(captures), *map(torch.tensor, (ratio, gain, variance)))


def _numbers(iteration: int, batch: int, rank: int, processes: int) -> tuple[int, ...]:
    begin = (iteration * processes + rank) * batch
    return tuple(range(begin, begin + batch))


def _cut(
    views: CleanViews, size: int, batch: int, iterations: range, seed: int, rank: int, processes: int
) -> Iterator[Batch]:
    """Views, on a GPU several batches at a time: there each operation takes as long to order as to do."""
    together = 1 if views.device.type == "cpu" else TOGETHER
    made, of = torch.empty(0), -1
    for iteration in iterations:
        if iteration // together != of:
            of = iteration // together
            made = views.batch(together * batch, size, seeded(seed, of, rank, Stream.VIEWS, device=views.device))
        clean = made[iteration % together :: together]  # every one has its share of panoramas, which come first
        yield Batch(_numbers(iteration, batch, rank, processes), clean)


@dataclass(frozen=True)
class _Share(Dataset[Batch]):
    """The batches of one process, from iteration `first` on."""

    patches: Patches
    size: int
    batch: int
    first: int
    count: int
    rank: int
    processes: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Batch:
        numbers = _numbers(self.first + index, self.batch, self.rank, self.processes)
        return collate(numbers, [self.patches.patch(number, self.size) for number in numbers])


def batches(
    patches: Patches | CleanViews,
    size: int,
    batch: int,
    first: int,
    count: int,
    *,
    seed: int = 0,
    workers: int = 0,
    rank: int = 0,
    processes: int = 1,
    pin: bool = False,
) -> Iterator[Batch]:
    """The batches of iterations `first` to `first + count` that process `rank` of `processes` has to train on.

    Args:
        patches: where they come from.
        size: side of a patch in packed pixels.
        batch: patches per iteration and process.
        first, count: iterations.
        seed: of views.
        workers: loader processes; 0: none.
        rank, processes: this process, of how many.
        pin: put batches in page-locked memory.

    Raises:
        OSError: the loader processes need more open files than there may be.
    """
    if isinstance(patches, CleanViews):
        yield from _cut(patches, size, batch, range(first, first + count), seed, rank, processes)
        return
    share = _Share(patches, size, batch, first, count, rank, processes)
    try:
        yield from DataLoader(
            share, batch_size=None, shuffle=False, num_workers=workers, worker_init_fn=_begin_worker, pin_memory=pin
        )
    except (OSError, RuntimeError) as error:  # each tensor that a process sends is an open file
        if any(words in str(error) for words in ("Too many open files", "ancdata", "error code 24")):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE)) from error
        raise


def _begin_worker(_: int) -> None:
    """One thread each. Ctrl-C reaches every process of a terminal; the run itself must live to write its checkpoint."""
    torch.set_num_threads(1)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)

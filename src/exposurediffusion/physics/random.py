"""Random draws of a batch, from one generator or from one for each image."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import IntEnum
from functools import lru_cache
from math import log
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

RandomSource = torch.Generator | Sequence[torch.Generator] | None
"""One generator for the whole batch (None: torch's own), or one for each image: then image n gets the same draws in
any batch, on any number of processes. On the device of what is drawn."""

Sources = RandomSource | Sequence[torch.Generator | None]
"""What `image_sources` gives, too: torch's own generator for single images."""

Device = torch.device | str


PART = 1 << 16  # counts at a time: in cache from step to step, and enough for what a step costs beside its numbers


class Stream(IntEnum):
    """Numbers for `seeded` that keep what is drawn from one seed apart.

    The training streams begin with the seed of the run and end with one of these; the crop of a patch has its number
    there. Validation has no seed, as its captures are the same in each run: its stream begins with its number.
    """

    ORDER = 1
    """Of scenes."""
    CAPTURES = 2
    """Ratios and noise parameters of a batch."""
    PIXELS = 3
    """Photons and noise of a batch."""
    VALIDATION = 4
    """All that validation draws."""
    VIEWS = 5
    """Windows and colours of clean pictures."""


def image_sources(source: Sources, count: int) -> list[torch.Generator | None]:
    """The generator of each of `count` images.

    Raises:
        ValueError: there is not one for each.
    """
    if source is None or isinstance(source, torch.Generator):
        return [source] * count
    if len(source) != count:
        raise ValueError(f"{len(source)} random generators for a batch of {count} images: give one, or one for each")
    return list(source)


def rand(size: tuple[int, ...], source: RandomSource = None, device: Device = "cpu") -> Tensor:
    """Uniform in [0, 1), in steps of 2^-24; the first dimension of `size` counts the images."""
    return _fill(torch.empty(size, device=device), source, lambda image, own: image.uniform_(generator=own))


def randn(size: tuple[int, ...], source: Sources = None, device: Device = "cpu") -> Tensor:
    """Standard normal; the first dimension of `size` counts the images."""
    return _fill(torch.empty(size, device=device), source, lambda image, own: image.normal_(generator=own))


def fractions(size: tuple[int, ...], source: RandomSource = None, device: Device = "cpu") -> Tensor:
    """Whole numbers from 0 to 2^24 - 1: `rand` times 2^24, in two thirds of its time."""
    return _fill(torch.empty(size, device=device), source, _fraction)


def rounding(size: tuple[int, ...], source: RandomSource = None, device: Device = "cpu") -> Tensor:
    """A rounding error: uniform in (-1/2, 1/2), in steps of 2^-16, four of one draw of the generator."""
    return _fill(torch.empty(size, device=device), source, _round)


def for_each_image(law: Callable[[Any, Any, Tensor], object], of: Any, drawn: Tensor, source: Sources) -> None:
    """Fill `drawn` by `law(of, generator, drawn)`: with one generator all at once, else image by image.

    Images with generators of their own are made on as many threads as PyTorch may use: drawing is what takes the time,
    and no PyTorch generator draws on two. A law should work in parts of at most `PART` numbers, which PyTorch divides
    among two threads of its own at most.
    """

    def fill(*image: Any) -> None:
        with torch.inference_mode():  # nothing here is differentiated, and keeping the books for it takes a tenth
            law(*image)

    if source is None or isinstance(source, torch.Generator):
        fill(of, source, drawn)
        return
    sources = image_sources(source, len(drawn))
    threads = min(torch.get_num_threads(), len(sources)) if drawn.device.type == "cpu" else 1
    if threads < 2 or drawn[0].numel() < PART or len(set(map(id, sources))) < len(sources):
        for image in zip(of, sources, drawn, strict=True):
            fill(*image)
        return
    with ThreadPoolExecutor(threads) as pool:  # made anew: threads do not survive the fork of a data loader's worker
        list(pool.map(fill, of, sources, drawn))


def _fill(drawn: Tensor, source: Sources, law: Callable[[Tensor, torch.Generator | None], object]) -> Tensor:
    for_each_image(lambda _, own, image: law(image, own), drawn, drawn, source)
    return drawn


def _fraction(drawn: Tensor, generator: torch.Generator | None) -> None:
    bits = random_bits(drawn.numel(), torch.int32, generator, drawn.device)
    drawn.copy_(bits.view(drawn.shape).bitwise_and_(constant(0xFFFFFF)))


def _round(drawn: Tensor, generator: torch.Generator | None) -> None:
    bits = random_bits(drawn.numel(), torch.int16, generator, drawn.device)
    drawn.copy_(bits.view(drawn.shape)).add_(constant(0.5)).mul_(constant(2.0**-16))


def random_bits(
    count: int, kind: torch.dtype, generator: torch.Generator | None, device: Device
) -> Int[Tensor, "count"]:
    """Integers of a kind, all of whose bits are random; drawn as words of 64 bits, which is faster."""
    words = torch.empty(-(-count * kind.itemsize // 8), dtype=torch.int64, device=device)
    return words.random_(-(2**63), None, generator=generator).view(kind)[:count]


@lru_cache(typed=True)
def constant(value: float) -> Tensor:
    """A constant as a tensor; PyTorch would make one of it in each operation, which takes as long as 8000 sums."""
    return torch.tensor(value, dtype=torch.int32 if isinstance(value, int) else torch.float32)


def log_uniform(low: float, high: float, count: int, generator: torch.Generator | None = None) -> Float[Tensor, "b"]:
    """`count` values whose logarithm is uniform between log low and log high."""
    return torch.exp(log(low) + (log(high) - log(low)) * torch.rand(count, generator=generator)).clamp(low, high)


def seeded(*numbers: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A random source on a device that depends on these numbers alone, such as a seed and the number of a patch.

    They are hashed: PyTorch's own seeding on the CPU keeps the low 32 bits, so that sums and shifts repeat streams.
    """
    digest = hashlib.sha256("/".join(map(str, numbers)).encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:4], "little"))


@lru_cache(maxsize=8)
def _shuffled(count: int, seed: int, epoch: int) -> tuple[int, ...]:
    return tuple(torch.randperm(count, generator=seeded(seed, epoch, Stream.ORDER)).tolist())


def scene_of(number: int, count: int, seed: int) -> int:
    """Which of `count` scenes patch `number` is of: each comes once per epoch, in an order shuffled anew."""
    return _shuffled(count, seed, number // count)[number % count]


def seed_of(*parts: object) -> int:
    """A seed that depends on all parts and on nothing else."""
    text = "/".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7])

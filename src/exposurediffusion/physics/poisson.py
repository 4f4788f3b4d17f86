"""Poisson counts that are fast on a CPU.

`torch.poisson` takes 20 to 70 ns per count on a CPU, as long as a third of a training step of a small network. Here the
law of a rate r is made of whole-tensor operations, of 32 random bits per count:

- r < 24: `Pois(r) = Pois(a) + Pois(d)` with a = r rounded down to a multiple of 1/16. Pois(a) comes from a table by
  Walker's alias method. The Pois(d) of all counts together are a Poisson process, thinned (Lewis and Shedler 1979):
  events that fall at rate 1/16 on every count, of which a count keeps a share of 16 d. The only errors are those of a
  table whose probabilities have 31 bits: less than 1e-7 in total variation.
- r >= 24: a normal number w goes through the expansion of the Poisson quantile in powers of r^(-1/2), which is rounded
  down (Cornish-Fisher about the incomplete gamma function; cf. Giles, ACM TOMS 2016, "Algorithm 955"). Its total
  variation distance to the Poisson law is 4e-6 at r = 24 and falls as r^-2; float32 adds its own rounding of large r.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from exposurediffusion.physics.random import PART, RandomSource, constant, for_each_image, random_bits

SMALL = 24.0  # rates below it come from the table

GRID = 16  # rates of the table per electron

COUNTS = 64  # counts of the table: P(N >= 64) is 2e-11 at rate 24; a power of two

LARGEST = 2.0**20  # rates beyond it are torch's

NORMAL_END = 1 - 2.0**-24  # largest float32 below 1: as far as the normal numbers of float32 reach, 5.3 deviations


def poisson(rate: Float[Tensor, "*size"], source: RandomSource = None) -> Float[Tensor, "*size"]:
    """Poisson counts of the shape and type of `rate`, whose first dimension counts the images.

    A pure function of the rates and the state of the generators. A rate of 0 gives 0.

    Raises:
        RuntimeError: a rate is negative or not a number (as `torch.poisson`; on the CPU only).
    """
    counts = torch.empty_like(rate, memory_format=torch.contiguous_format)
    fast = rate.device.type == "cpu" and rate.dtype == torch.float32
    for_each_image(_count if fast else _count_by_torch, rate.detach(), counts, source)
    return counts


def _count_by_torch(rate: Tensor, generator: torch.Generator | None, counts: Tensor) -> None:
    counts.copy_(torch.poisson(rate, generator=generator))


def _count(rate: Tensor, generator: torch.Generator | None, counts: Tensor) -> None:
    for rates, out in zip(rate.reshape(-1).split(PART), counts.view(-1).split(PART), strict=True):
        low, high = map(float, torch.aminmax(rates)) if len(rates) else (0.0, 0.0)
        if not (low >= 0 and high <= LARGEST):  # it says what it will not take
            _count_by_torch(rates, generator, out)
            continue
        bits = random_bits(len(rates), torch.int32, generator, "cpu")
        if low >= SMALL:
            out.copy_(_many(rates, bits))
        elif high < SMALL:
            out.copy_(_few(rates * GRID, bits, generator))
        else:
            small = rates.numpy() < SMALL
            for here, law in ((small, lambda r, b: _few(r.mul_(GRID), b, generator)), (~small, _many)):
                where = torch.from_numpy(np.flatnonzero(here))  # which NumPy finds much sooner than PyTorch
                counted = law(rates.index_select(0, where), bits.index_select(0, where))
                out.index_copy_(0, where, counted.to(out.dtype))


def _negative(values: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
    """-1 (all bits) where a value is negative, else 0; in place. `torch.where` is ten times slower on a CPU."""
    return values.bitwise_right_shift_(constant(31))


def _choose(mask: Int[Tensor, "n"], first: Int[Tensor, "n"], second: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
    """`first` where the mask is -1, `second` where it is 0; in place of `first`."""
    return first.bitwise_xor_(second).bitwise_and_(mask).bitwise_xor_(second)


def _few(cells: Float[Tensor, "n"], bits: Int[Tensor, "n"], generator: torch.Generator | None) -> Int[Tensor, "n"]:
    """Counts of rates below `SMALL`, given as `rate * GRID` (overwritten), from 31 random bits and a few events."""
    row = cells.floor()
    rest = cells.sub_(row)
    column = bits & constant(COUNTS - 1)
    entry = _table().index_select(0, torch.add(column, row.int(), alpha=COUNTS))
    stay = _negative((bits & constant(0x7FFFFFFF)).bitwise_or_(constant(COUNTS - 1)).sub_(entry))
    count = _choose(stay, column, entry.bitwise_and_(constant(COUNTS - 1)))
    events = int(torch.poisson(torch.tensor(len(rest) / GRID), generator=generator))
    if events:
        where = torch.randint(len(rest), (events,), generator=generator)
        kept = torch.rand(events, generator=generator) < rest.index_select(0, where)
        count.index_add_(0, where, kept.int())
    return count


def _many(rate: Float[Tensor, "n"], bits: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
    """Counts of rates from `SMALL` up, from 32 random bits: the quantile of a normal number w, rounded down.

    r + w r^(1/2) + (1/3 + w^2/6) - (w/36 + w^3/72) r^(-1/2) + (-8/405 + 7 w^2/810 + w^4/270) r^-1
    + (671 w/38880 - 137 w^3/38880 - 23 w^5/17280) r^(-3/2)
    """
    w = bits.float().mul_(constant(2.0**-31)).clamp_(-NORMAL_END, NORMAL_END).erfinv_().mul_(constant(2**0.5))
    square, root = w * w, rate.sqrt()
    step = root.reciprocal()
    odd = w * step
    third = _plus(671 / 38880, square, _line(-137 / 38880, -23 / 17280, square))
    second = _plus(-8 / 405, square, _line(7 / 810, 1 / 270, square)).addcmul_(odd, third)
    first = _line(-1 / 36, -1 / 72, square)
    sum_ = torch.addcmul(rate, w, root).add_(_line(1 / 3, 1 / 6, square))
    return sum_.addcmul_(odd, first).addcmul_(second, step.mul_(step)).int()


def _line(start: float, slope: float, x: Tensor) -> Tensor:
    """`start + slope x` in one pass."""
    return torch.add(constant(start), x, alpha=slope)


def _plus(start: float, x: Tensor, y: Tensor) -> Tensor:
    """`start + x y` in one pass."""
    return torch.addcmul(constant(start), x, y)


@cache
def _table() -> Int[Tensor, "cells"]:
    """Walker's alias table of the rates 0, 1/GRID, ..., below SMALL: for each rate a row of COUNTS entries.

    A random column is the count with the probability in the upper 25 bits of its entry, else the count in the lower 6.
    """
    rows = int(SMALL * GRID)
    rate, count = torch.arange(rows, dtype=torch.float64)[:, None] / GRID, torch.arange(COUNTS, dtype=torch.float64)
    share = torch.exp(torch.xlogy(count, rate) - rate - torch.lgamma(count + 1))
    share *= COUNTS / share.sum(dim=1, keepdim=True)
    stay, alias = torch.ones_like(share), torch.arange(COUNTS).repeat(rows, 1)
    row = torch.arange(rows)
    for _ in range(COUNTS):  # fill the emptiest column of every row from its fullest
        least, most = share.argmin(dim=1), share.argmax(dim=1)
        left = share[row, least]
        open_ = left < 1
        stay[row, least] = torch.where(open_, left, stay[row, least])
        alias[row, least] = torch.where(open_, most, alias[row, least])
        share[row, most] -= (1 - left).clamp(min=0)
        share[row, least] = left.clamp(min=1)
    entries = (stay * 2**25).round().long().clamp(max=2**25 - 1) * COUNTS + alias
    return entries.int().flatten()

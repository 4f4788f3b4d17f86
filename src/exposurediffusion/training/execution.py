"""How a recipe is computed: device, precision, intervals; the processes of a run, and its time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from exposurediffusion.models.device import is_good_at_bfloat16
from exposurediffusion.physics.ranges import check

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Execution:
    """How a recipe is computed: nothing here is meant to change what comes out, but for rounding.

    Attributes:
        device: `auto` takes a GPU where there is one.
        precision: of the network; `auto`: bfloat16 on a GPU that has it and on a CPU with matrix units (AMX); on others
            its way back costs more than it saves.
        compile: let `torch.compile` make the network faster; it takes minutes to begin with.
        workers: processes that prepare patches.
        checkpoint_minutes: between checkpoints.
        validate_every: iterations between validations; 0: only at the end.
        validation_patch: side of the patches to validate on, packed pixels; smaller where the frames are.
        tensorboard: write its files.
    """

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    compile: bool = False
    workers: int = 1
    checkpoint_minutes: float = 5.0
    validate_every: int = 1000
    validation_patch: int = 128
    tensorboard: bool = True

    def __post_init__(self) -> None:
        check(self, workers=(0, 1000), checkpoint_minutes=(0, 1e6), validation_patch=(1, 1e5))

    def bf16_on(self, device: torch.device) -> bool:
        """Whether the network computes in bfloat16."""
        fit = torch.cpu._is_amx_tile_supported() if device.type == "cpu" else is_good_at_bfloat16(device)
        return self.precision == "bf16" or (self.precision == "auto" and fit)

    def accelerator(self) -> Accelerator:
        """Devices and processes, as `accelerate launch` or `torchrun` set them up.

        Raises:
            ValueError: there is no such device.
        """
        from accelerate import Accelerator  # slow to import, and only training needs it

        found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True, "auto": True}
        if not found[self.device]:
            raise ValueError(f"PyTorch finds no {self.device} on this machine; use --device cpu")
        cpu = self.device == "cpu" or not (found["cuda"] or found["mps"])
        return Accelerator(cpu=cpu)


class WorkerLost(Exception):
    """Another process of a distributed run has ended: the last checkpoint is whole."""


@dataclass(frozen=True)
class Peers:
    """The processes of a run, which add up what each of them has.

    Attributes:
        accelerator: that started them.
    """

    accelerator: Accelerator

    def sum(self, value: Tensor) -> Tensor:
        """Over all processes, which is for the device to wait for."""
        if self.accelerator.num_processes == 1:
            return value
        total = self.accelerator.reduce(value, "sum")
        assert isinstance(total, Tensor)
        return total

    @contextmanager
    def waited_for(self, iteration: int) -> Iterator[None]:
        """Turn a broken connection into a clear message.

        Raises:
            WorkerLost: another process does not answer.
        """
        try:
            yield
        except RuntimeError as error:
            broken = ("gloo", "NCCL", "Connection", "connection", "closed by peer")
            if self.accelerator.num_processes > 1 and any(word in str(error) for word in broken):
                raise WorkerLost(
                    f"another process of this run has ended (at iteration {iteration}); "
                    "the last checkpoint is whole: run the same command to go on"
                ) from error
            raise


class Clock:
    """The time of a run, over all its sessions.

    Args:
        minutes: that the run has; None: as many as it takes.

    Attributes:
        reserve: minutes to keep for what is written at the end.
    """

    def __init__(self, minutes: float | None) -> None:
        if minutes is not None and not 0 < minutes < inf:
            raise ValueError(f"a run of {minutes:g} minutes does not train and end; give it more than 0")
        self.minutes, self.reserve = minutes, 0.0
        self._earlier, self._begun = 0.0, time.monotonic()
        self._stepping_since: float | None = None

    @property
    def spent(self) -> float:
        """Minutes, earlier sessions included."""
        return self._earlier + (time.monotonic() - self._begun) / 60

    def resume(self, spent: float) -> None:
        """Go on after earlier sessions."""
        self._earlier, self._begun = spent, time.monotonic()

    def step(self) -> None:
        """A step begins."""
        if self._stepping_since is None:
            self._stepping_since = self.spent

    def read(self) -> None:
        """The steps so far have been read."""
        self._stepping_since = None

    def share(self, before: float, settled: bool) -> float:
        """Of the time that there is for steps; 1 as soon as as many as since the last reading would exceed it.

        Args:
            before: the share at the last reading.
            settled: there was a reading in this session: of the first steps it is not known what is their own, and
                what is setting up.
        """
        if self.minutes is None:
            return 0.0
        spent, usable = self.spent, self.minutes - self.reserve
        again = spent - self._stepping_since if settled and self._stepping_since is not None else 0.0
        return 1.0 if spent + again >= usable else max(before, spent / usable)

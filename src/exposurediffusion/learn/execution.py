"""How a recipe is computed: device, precision, processes, intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from exposurediffusion.learn.ranges import check

if TYPE_CHECKING:
    from accelerate import Accelerator


def is_good_at_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is usually faster than float32 there."""
    if device.type == "cpu":
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return device.type == "cuda" and torch.cuda.is_bf16_supported()


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
        validation_patch: side of the patches to validate on, packed pixels.
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

"""Which device a network runs on, and what the device is good at."""

from __future__ import annotations

import torch


def best_device() -> torch.device:
    """CUDA or MPS where there is one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def find_device(name: str) -> torch.device:
    """A device by its name (cpu, cuda, cuda:1, mps); `auto`: the best one.

    Raises:
        ValueError: there is none of that name.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return best_device()
    if not available.get(name.partition(":")[0]):
        raise ValueError(f"--device {name}: PyTorch finds none on this machine; use --device cpu")
    return torch.device(name)


def is_good_at_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is usually faster than float32 there."""
    if device.type == "cpu":
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return device.type == "cuda" and torch.cuda.is_bf16_supported()

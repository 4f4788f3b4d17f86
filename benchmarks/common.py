"""What the benchmarks share: a description of what was measured on."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import torch


def machine(device: str = "cpu") -> dict[str, str]:
    """Processor, device, libraries and commit; a commit ends in + where the package's files differ from it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": str(torch.get_num_threads()),
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": _git("rev-parse", "--short", "HEAD") + ("+" if _git("diff", "HEAD", "--", "src") else ""),
    }


def _git(*words: str) -> str:
    folder = Path(__file__).parents[1]
    if shutil.which("git") is None:
        return ""
    return subprocess.run(["git", *words], capture_output=True, text=True, check=False, cwd=folder).stdout.strip()

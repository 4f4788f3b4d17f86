"""What the benchmarks share: a description of what was measured on."""

from __future__ import annotations

import platform
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from exposurediffusion.pictures.views import CleanViews
    from exposurediffusion.training.run import Run


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


def rate_of(work: Callable[[], object], seconds: float, device: torch.device) -> float:
    """Calls per second, after three that are not counted."""
    for _ in range(3):
        work()
    count, begun = 0, synchronised(device)
    while time.monotonic() - begun < seconds:
        work()
        count += 1
        if count % 10 == 0:
            synchronised(device)
    return count / (synchronised(device) - begun)


def synchronised(device: torch.device) -> float:
    """The time when all is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.monotonic()


def training_rates(run: Run, views: CleanViews, seconds: float) -> dict[str, float]:
    """Images a second of whole feed-forward steps, of the network on one batch alone, and of the data alone.

    `share` is what the network would take of a whole step; each is measured for `seconds`.
    """
    stream = run.batches(views, 0)
    whole = rate_of(lambda: run.step(next(stream)), seconds, run.device)
    data = rate_of(lambda: run.capture(next(stream), 0), seconds / 3, run.device)
    captures = run.capture(next(stream), 0)

    def network() -> None:
        loss = run.loss(captures, 0)
        run.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        run.optimizer.step()

    alone = rate_of(network, seconds, run.device)
    rates = {"whole": whole, "network": alone, "data": data}
    return {**{name: round(run.images * rate, 2) for name, rate in rates.items()}, "share": round(whole / alone, 3)}


def _git(*words: str) -> str:
    folder = Path(__file__).parents[1]
    if shutil.which("git") is None:
        return ""
    return subprocess.run(["git", *words], capture_output=True, text=True, check=False, cwd=folder).stdout.strip()

"""Time to make the noise of a training batch, against one training step of the smallest network.

    python benchmarks/noise.py [--repeats 9] [--threads N] [--batch 8] [--size 128] [--device cpu] [--output FILE]

Programs, taken in turn in one process: ELD noise on a batch of 4 planes (one generator for each image) as the package
makes it, the same with `torch.poisson` for the shot noise, and a training step (forward, backward, Adam) of NAFNet-1,
feed-forward in fp32 and in bf16 autocast, and with the method (T = 2) in fp32, channels last. Every repeat draws new
noise parameters, the same for all. Figures: milliseconds, the median of the repeats, and the noise as a share of the
faster feed-forward step and of the step with the method; of the clock on the wall, and of processor time, which a busy
machine distorts less.
"""

from __future__ import annotations

import json
import platform
import subprocess
import time
from collections.abc import Callable
from math import log
from pathlib import Path
from statistics import median
from unittest.mock import patch

import torch
import tyro
from torch import Tensor

from exposurediffusion.models.denoiser import DenoiserConfig, ExposureDenoiser
from exposurediffusion.physics import poisson, random
from exposurediffusion.physics.conditions import Conditions
from exposurediffusion.physics.noise import ELDNoise, simulate_capture
from exposurediffusion.training.batches import Batch
from exposurediffusion.training.captures import CaptureMaker
from exposurediffusion.training.loss import loss_of
from exposurediffusion.training.presets import find_preset

NAFNET1 = DenoiserConfig("nafnet", {"width": 16, "middle": 1}, photons=False, adaptive_residual=False)
METHOD = "step, method"
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
BRIGHTNESS = (0.01, 0.4)  # of the scenes, log-uniform from pixel to pixel


def make_noise(clean: Tensor, seed: int) -> Tensor:
    """Captures of a batch, as training makes them."""
    host, pixels = torch.Generator().manual_seed(seed), torch.Generator(clean.device).manual_seed(seed)
    ratio = (20 + 280 * torch.rand(len(clean), generator=host)).to(clean.device)
    noise = ELDNoise().parameters(len(clean), host).to(clean.device)
    return simulate_capture(clean, ratio, noise, pixels)


def make_noise_by_torch(clean: Tensor, seed: int) -> Tensor:
    """The same with torch's Poisson counts."""
    with patch.object(random, "_count", poisson._count_by_torch):
        return make_noise(clean, seed)


class Step:
    """A training step, feed-forward: L1 of the estimate of a capture."""

    def __init__(self, autocast: bool, device: torch.device) -> None:
        self.autocast, self.device = autocast, device
        self.model = ExposureDenoiser(NAFNET1).to(device, memory_format=torch.channels_last)  # pyright: ignore
        self.optimizer = torch.optim.Adam(self.model.parameters(), 1e-4)

    def __call__(self, clean: Tensor, seed: int) -> None:
        """On a batch; the seed is for the programs that draw."""
        one = torch.ones(len(clean), device=self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            estimate = self.model(clean.contiguous(memory_format=torch.channels_last), one, Conditions(one, one, one))
        self.optimizer.zero_grad(set_to_none=True)
        (estimate.image - clean).abs().mean().backward()
        self.optimizer.step()


class MethodStep:
    """A training step with the method, on captures that are made already."""

    def __init__(self, clean: Tensor) -> None:
        recipe = find_preset("eld-nafnet1-exposure").recipe
        self.loss = loss_of(recipe).to(clean.device, memory_format=torch.channels_last)  # pyright: ignore
        self.captures = CaptureMaker(recipe.capture, seed=0)(Batch(tuple(range(len(clean))), clean), 0)
        self.optimizer = torch.optim.Adam(self.loss.parameters(), 1e-4)

    def __call__(self, clean: Tensor, seed: int) -> None:
        """The arguments are for the programs that draw."""
        self.optimizer.zero_grad(set_to_none=True)
        self.loss(self.captures, 2).backward()
        self.optimizer.step()


def milliseconds(work: Callable[[Tensor, int], object], clean: Tensor, seed: int) -> dict[str, float]:
    """Of one call, by each clock."""
    _finish(clean.device)
    started = {name: clock() for name, clock in CLOCKS.items()}
    work(clean, seed)
    _finish(clean.device)
    return {name: 1e3 * (clock() - started[name]) for name, clock in CLOCKS.items()}


def main(
    repeats: int = 9,
    threads: int | None = None,
    batch: int = 8,
    size: int = 128,
    device: str = "cpu",
    output: Path | None = None,
) -> None:
    """Measure in turn and print the medians as JSON.

    Args:
        repeats: of each program, after two that are not counted.
        threads: of PyTorch; None: its own choice.
        batch: images.
        size: their side, packed pixels.
        device: of PyTorch.
        output: JSON file.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    place = torch.device(device)
    low, high = (log(level) for level in BRIGHTNESS)
    shares = torch.rand((batch, 4, size, size), generator=torch.Generator().manual_seed(0))
    clean = torch.exp(low + (high - low) * shares).to(place)
    programs: dict[str, Callable[[Tensor, int], object]] = {
        "noise": make_noise,
        "noise, torch.poisson": make_noise_by_torch,
        "step, fp32": Step(False, place),
        "step, bf16": Step(True, place),
        METHOD: MethodStep(clean),
    }
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in programs}
    for repeat in range(repeats + 2):
        for name, work in programs.items():
            elapsed = milliseconds(work, clean, 1000 * repeat)
            if repeat >= 2:
                runs[name].append(elapsed)
    medians = {
        clock: {name: round(median(run[clock] for run in times), 2) for name, times in runs.items()} for clock in CLOCKS
    }
    share = {clock: shares_of(times, plain=True) for clock, times in medians.items()}
    of_method = {clock: shares_of(times, plain=False) for clock, times in medians.items()}
    size_of = {"batch": batch, "planes": 4, "size": size, "repeats": repeats}
    result = {
        "machine": machine(place),
        **size_of,
        "milliseconds": medians,
        "share_of_faster_step": share,
        "share_of_step_with_the_method": of_method,
        "runs": runs,
    }
    print(json.dumps({key: value for key, value in result.items() if key != "runs"}, indent=1))
    if output is not None:
        output.write_text(json.dumps(result, indent=1))


def shares_of(times: dict[str, float], plain: bool) -> dict[str, float]:
    """Of the faster feed-forward step, or of the one with the method."""
    step = min(time for name, time in times.items() if name.startswith("step") and (name != METHOD) == plain)
    return {name: round(time / step, 4) for name, time in times.items() if name.startswith("noise")}


def machine(device: torch.device) -> dict[str, str]:
    """What was measured on, and with which libraries."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": str(len(names)),
        "threads": str(torch.get_num_threads()),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "commit": commit.stdout.strip(),
    }


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    tyro.cli(main)

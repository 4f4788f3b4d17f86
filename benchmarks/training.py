"""Training speed and memory, against a plain loop that does what research code usually does.

    python benchmarks/training.py [--networks unet nafnet1] [--patch 128] [--seconds 6] [--output results.json]

Contenders, each a process of its own, taken in turn, on the same simulated SID tree through the same cache, with the
same network, loss, patch size, threads and loader processes:

- plain: ELD noise made in NumPy by the data loader, batches of one image, fp32, ordinary memory layout, one Adam step
  an image (Algorithm 1 with the released transition and T = 2 for the method);
- ours: `learn.run.Run` on `learn.batches.batches` as `expose train` runs them: noise on the training device, batches
  of 8, channels last, bfloat16 where the device is good at it.

Figures: images a second, of a window of time after the first steps, and images a second of processor time (loaders
included), which other work on the machine distorts less; peak memory: resident, of the training process, plus what its
loaders have for themselves (sampled), and the GPU's. Medians of the repeats, and the ratio of the two.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from math import exp, log
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np
import psutil
import torch
import tyro
from common import machine
from PIL import Image
from skimage import data
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from exposurediffusion.data.datasets import RawDataset
from exposurediffusion.data.opening import open_dataset
from exposurediffusion.learn.execution import Execution
from exposurediffusion.learn.presets import find_preset
from exposurediffusion.learn.recipe import Recipe
from exposurediffusion.learn.run import Run
from exposurediffusion.models.denoiser import Conditions, Estimate, ExposureDenoiser
from exposurediffusion.physics.profile import LogLinear, calibrated_cameras
from exposurediffusion.physics.sensor import SATURATION

Network = Literal["unet", "nafnet1", "nafnet2"]
Mode = Literal["feedforward", "exposure"]
UNCOUNTED = 2  # first steps: memory and kernels are being set up
STEPS_AT_MOST = 1_000_000
SCENES = 8


@dataclass(frozen=True)
class Job:
    """One run of one contender.

    Attributes:
        root: of the SID tree.
        batch: images a step, of ours.
        patch: packed pixels.
        seconds: to measure for.
        threads, workers: of PyTorch, and loader processes.
    """

    contender: str
    network: str
    mode: str
    root: str
    batch: int
    patch: int
    seconds: float
    threads: int
    workers: int
    device: str

    def recipe(self) -> Recipe:
        """The preset of the row, in this benchmark's size."""
        base = find_preset(f"eld-{self.network}-{self.mode}").recipe
        return replace(base, batch=self.batch, patch=self.patch, iterations=STEPS_AT_MOST)

    def command(self) -> list[str]:
        """This file again, for this job."""
        return [sys.executable, __file__, "--job", json.dumps(asdict(self))]


def numpy_capture(clean: np.ndarray, ratio: float, random: np.random.Generator) -> tuple[np.ndarray, float]:
    """ELD noise on packed planes (R, G1, B, G2), and the gain it was drawn at."""
    cameras = list(calibrated_cameras().values())
    camera = cameras[random.integers(len(cameras))]
    gain = exp(random.uniform(log(0.1), log(30)))

    def scale(law: LogLinear) -> float:
        return exp(law.slope * log(gain) + law.bias + law.sigma * random.standard_normal())

    light = clean * SATURATION / ratio
    noisy = random.poisson(light / gain) * gain
    shape, u = random.choice(camera.tukey_shapes), random.uniform(1e-7, 1 - 1e-7, clean.shape)
    noisy = noisy + scale(camera.tukey_read) * (
        np.log(u / (1 - u)) if shape == 0 else (u**shape - (1 - u) ** shape) / shape
    )
    rows = scale(camera.row) * random.standard_normal((2, clean.shape[1], 1))
    noisy = noisy + rows[[0, 0, 1, 1]] + random.uniform(-0.5, 0.5, clean.shape)
    return np.clip(noisy * ratio / SATURATION, 0, 1).astype(np.float32), gain


@dataclass(frozen=True)
class NumpyCaptures(Dataset[tuple[np.ndarray, np.ndarray, np.float32, np.float32]]):
    """Clean patch, noisy patch, ratio, gain."""

    frames: RawDataset
    patch: int
    ratio: tuple[float, float]

    def __len__(self) -> int:
        return STEPS_AT_MOST

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, np.float32, np.float32]:
        random = np.random.default_rng(index)
        clean = self.frames.patch(index, self.patch).clean.numpy().clip(0, 1)
        ratio = random.uniform(*self.ratio)
        capture, gain = numpy_capture(clean, ratio, random)
        return clean, capture, np.float32(ratio), np.float32(gain)


class PlainStep:
    """Forward (T + 1 times), backward, Adam: fp32, one image."""

    def __init__(self, recipe: Recipe, device: str) -> None:
        self.steps, self.model = recipe.objective.steps, ExposureDenoiser(recipe.denoiser).to(device)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-4)

    def __call__(self, clean: Tensor, capture: Tensor, ratio: Tensor, gain: Tensor) -> None:
        """On a batch of one; the state starts again from the capture at each step."""
        conditions = Conditions(ratio, gain, torch.zeros_like(gain))
        later = 1 + (ratio - 1) * torch.rand(self.steps, device=ratio.device).sort().values
        state, exposure = capture, torch.ones_like(ratio)
        loss = torch.zeros((), device=clean.device)
        for then in [*later[:, None], None]:
            estimate = self.model(state, exposure, conditions)
            loss = loss + plain_loss(estimate, clean)
            if then is not None:
                per_unit = (then - 1) * SATURATION / (ratio * gain)
                mean = estimate.image.clamp(0, 1)
                light = mean + (torch.poisson(mean.detach() * per_unit) / per_unit - mean.detach())
                state, exposure = (capture + (then - 1) * light) / then, then
        self.optimizer.zero_grad()
        (loss / (self.steps + 1)).backward()
        self.optimizer.step()


def plain_loss(estimate: Estimate, clean: Tensor) -> Tensor:
    """L1 of the estimate and, weighted by the mask, of both branches."""
    error = (estimate.image - clean).abs()
    if estimate.mask is not None and estimate.direct is not None and estimate.residual is not None:
        error = error + (estimate.direct - clean).abs() * estimate.mask
        error = error + (estimate.residual - clean).abs() * (1 - estimate.mask)
    return error.mean()


def steps_of_plain(job: Job, frames: RawDataset) -> Iterator[int]:
    """Train; yields the number of images of each step."""
    recipe = job.recipe()
    step = PlainStep(recipe, job.device)
    for batch in DataLoader(NumpyCaptures(frames, job.patch, recipe.capture.ratio), 1, num_workers=job.workers):
        step(*(tensor.to(job.device) for tensor in batch))
        yield 1


def steps_of_ours(job: Job, frames: RawDataset) -> Iterator[int]:
    """The same, by the package."""
    run = Run(job.recipe(), Execution(device="cuda" if job.device.startswith("cuda") else "cpu", workers=job.workers))
    for batch in run.batches(frames, job.workers):
        run.step(batch)
        yield job.batch


CONTENDERS: dict[str, Callable[[Job, RawDataset], Iterator[int]]] = {"plain": steps_of_plain, "ours": steps_of_ours}


def perform(job: Job) -> None:
    """Run a job and print what was measured."""
    torch.set_num_threads(job.threads)
    frames = open_dataset(Path(job.root), "sid-sony")
    assert isinstance(frames, RawDataset)
    images, started, worked, speed, efficiency = 0, 0.0, 0.0, 0.0, 0.0
    for number, count in enumerate(CONTENDERS[job.contender](job, frames), 1):
        if number <= UNCOUNTED:
            _finish(job.device)
            started, worked = time.perf_counter(), processor_seconds()
            continue
        images += count
        if time.perf_counter() - started > job.seconds:
            _finish(job.device)  # the loader's processes are still there
            speed = images / (time.perf_counter() - started)
            efficiency = images / (processor_seconds() - worked)
            break
    gpu = torch.cuda.max_memory_allocated() / 1e9 if job.device.startswith("cuda") else 0.0
    figures = {"images_per_second": speed, "images_per_processor_second": efficiency, "gpu_gb": gpu}
    print(json.dumps(figures), flush=True)


def processor_seconds() -> float:
    """That this process and its loaders have used."""
    children = [child.cpu_times() for child in psutil.Process().children(recursive=True)]
    return time.process_time() + sum(times.user + times.system for times in children)


def _finish(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def measured(job: Job) -> dict[str, float]:
    """What the job prints, and the peak memory of its processes in GB."""
    with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
        with subprocess.Popen(job.command(), stdout=stdout, stderr=stderr) as process:
            loaders = 0.0
            while (ended := os.wait4(process.pid, os.WNOHANG))[0] == 0:
                loaders = max(loaders, own_memory(process.pid))
                time.sleep(0.2)
            process.returncode = os.waitstatus_to_exitcode(ended[1])
        stdout.seek(0)
        stderr.seek(0)
        if process.returncode:
            raise SystemExit(f"{job} failed: {stderr.read()}")
        return {**json.loads(stdout.read()), "peak_gb": ended[2].ru_maxrss / 1e6 + loaders}


def own_memory(pid: int) -> float:
    """Gigabytes that the children of a process share with nobody."""
    total = 0.0
    try:
        for child in psutil.Process(pid).children(recursive=True):
            total += child.memory_full_info().uss / 1e9
    except psutil.Error:  # one has just ended
        pass
    return total


def make_data(folder: Path, side: int) -> Path:
    """A SID tree of `SCENES` long exposures of NASA's public-domain photograph, `side` sites each, decoded once."""
    pictures, root = folder / "pictures", folder / "SID"
    pictures.mkdir()
    Image.fromarray(data.astronaut()).resize((2 * side, 2 * side)).save(pictures / "astronaut.png")
    command = [
        sys.executable, "-m", "exposurediffusion", "simulate", "--images", str(pictures), "-o", str(root),
        "--scenes", str(SCENES), "--split", "train", "--size", str(side), "--ratios", "100", "--isos", "800",
    ]  # fmt: skip
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    open_dataset(root, "sid-sony")
    return root


def main(
    networks: tuple[Network, ...] = ("unet", "nafnet1"),
    modes: tuple[Mode, ...] = ("feedforward", "exposure"),
    patch: int = 128,
    batch: int = 8,
    repeats: int = 5,
    seconds: float = 6.0,
    threads: int | None = None,
    workers: int = 1,
    device: str = "cpu",
    output: Path | None = None,
    job: str | None = None,
) -> None:
    """Measure in turn and print medians.

    Args:
        networks: of the paper.
        modes: feed-forward, or with the method (T = 2).
        patch: side, packed pixels.
        batch: images a step, of ours.
        repeats: of each contender.
        seconds: to measure for, each time.
        threads: of PyTorch; None: its own choice.
        workers: loader processes.
        device: cpu or cuda.
        output: JSON file.
        job: (used by itself) run this and stop.
    """
    if job is not None:
        perform(Job(**json.loads(job)))
        return
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        root = make_data(Path(folder), 2 * max(576, patch))
        size = (batch, patch, seconds, threads or torch.get_num_threads(), workers, device)
        for network in networks:
            for mode in modes:
                runs: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS}
                for _ in range(repeats):
                    for name, figures in runs.items():
                        figures.append(measured(Job(name, network, mode, str(root), *size)))
                results.append(summary(network, mode, runs))
    if output is not None:
        told = {"batch": batch, "patch": patch, "seconds": seconds, "threads": size[3], "workers": workers}
        output.write_text(json.dumps({"machine": machine(device), **told, "results": results}, indent=1) + "\n")


def summary(network: str, mode: str, runs: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Medians of a row, printed; the ratio is that of the medians."""
    row: dict[str, Any] = {"network": network, "mode": mode}
    for name, figures in runs.items():
        row[name] = {key: round(median(run[key] for run in figures), 3) for key in figures[0]} | {"runs": figures}
        speed, peak = row[name]["images_per_second"], row[name]["peak_gb"]
        work = row[name]["images_per_processor_second"]
        line = f"{speed:8.2f} images/s {work:8.2f} images/processor s  {peak:.2f} GB"
        print(f"{network:<8} {mode:<12} {name:<6} {line}", flush=True)
    for ratio, figure in (("ratio", "images_per_second"), ("processor_ratio", "images_per_processor_second")):
        row[ratio] = round(row["ours"][figure] / row["plain"][figure], 3)
    print(f"{network:<8} {mode:<12} ratio  {row['ratio']:8.2f} {row['processor_ratio']:17.2f}", flush=True)
    return row


if __name__ == "__main__":
    tyro.cli(main)

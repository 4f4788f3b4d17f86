"""Time and memory of `expose enhance`, all in, by every engine, against the plain forwards that it replaces.

    python benchmarks/enhance.py [--megapixels 12 61] [--repeats 5] [--steps 2] [--output results.json]

Programs, each a process of its own, taken in turn: `expose enhance` (read, T + 1 evaluations, write DNG) of a
simulated frame by each engine; as many plain fp32 whole-frame forwards of the same network, without reading or writing;
and the authors' way, three of their UNet of width 32. Figures: seconds and peak resident memory, the median of the
repeats, and how many times as fast as the authors' way.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
import tyro

from exposurediffusion.dng.writer import write_dng
from exposurediffusion.models.unet import UNet
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.physics.sensor import Metadata, RawFrame, Sensor
from exposurediffusion.weights.file import load

SIZES = {12: (2848, 4256), 61: (6336, 9504)}  # rows and columns of sites
RATIO = 100.0


def make_frame(megapixels: int, path: Path) -> None:
    """A dark frame with plausible noise; content does not matter to the time."""
    rows, columns = SIZES[megapixels]
    generator = np.random.default_rng(0)
    mosaic = np.empty((rows, columns), dtype=np.uint16)
    for top in range(0, rows, 512):  # in bands: the benchmark itself should stay small
        shape = (min(512, rows - top), columns)
        light = 40 + 30 * np.sin(np.arange(columns) / 90)
        mosaic[top : top + 512] = (512 + generator.poisson(light, shape) + generator.normal(0, 4, shape)).clip(0, 16383)
    metadata = Metadata(make="Sony", model="ILCE-7SM2", iso=800, shutter=0.1)
    write_dng(path, RawFrame(mosaic, Sensor.uniform(CFA("RGGB"), 512, 16383), metadata))


def plain_forwards(megapixels: int, evaluations: int, width: int | None) -> None:
    """The reference: fp32, NCHW, the whole frame at once; of the embedded network, or of a UNet of some width."""
    network = load().backbone if width is None else UNet(8, 9, width)
    rows, columns = SIZES[megapixels]
    multiple = int(network.multiple)  # type: ignore[arg-type]
    planes = 8 if width else load().config.in_channels
    x = torch.rand(1, planes, rows // 2 // multiple * multiple, columns // 2 // multiple * multiple)
    started = time.perf_counter()
    with torch.inference_mode():
        for _ in range(evaluations):
            network(x)
    print(time.perf_counter() - started)  # without the start of Python, which `expose enhance` is charged for


def measured(command: list[str]) -> dict[str, float]:
    """Seconds (of the whole process, unless it prints its own) and peak resident gigabytes."""
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
        with subprocess.Popen(command, stdout=stdout, stderr=stderr) as process:
            usage = wait(process)
        seconds = time.perf_counter() - started
        stdout.seek(0)
        stderr.seek(0)
        printed = stdout.read().strip()
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} failed: {stderr.read()}")
    own = printed.replace(".", "", 1).isdigit()
    return {"seconds": float(printed) if own else seconds, "peak_gb": usage.ru_maxrss / 1e6}


def wait(process: subprocess.Popen[bytes]) -> resource.struct_rusage:
    """Wait for a process, with its own resource usage."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage


def main(
    megapixels: tuple[int, ...] = (12,),
    repeats: int = 5,
    steps: int = 2,
    engines: tuple[str, ...] = ("torch", "openvino", "onnx"),
    output: Path | None = None,
    plain: int | None = None,
    width: int | None = None,
) -> None:
    """Measure in turn and print medians.

    Args:
        megapixels: of the frames, 12 and 61 are known.
        repeats: of each program.
        steps: simulated exposures; one evaluation more than that.
        engines: to measure.
        output: JSON file.
        plain, width: (used by itself) run this many plain forwards, of a UNet of this width, and stop.
    """
    if plain is not None:
        plain_forwards(megapixels[0], plain, width)
        return
    evaluations = steps + 1
    results = []
    for size in megapixels:
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "frame.dng", Path(folder) / "out.dng"
            make_frame(size, source)
            enhance = [
                sys.executable, "-m", "exposurediffusion", "enhance", str(source), "-o", str(target),
                "--ratio", str(RATIO), "--steps", str(steps), "--overwrite",
            ]  # fmt: skip
            forwards = [sys.executable, __file__, "--megapixels", str(size), "--plain"]
            programs = {f"expose enhance, {engine}": [*enhance, "--engine", engine] for engine in engines}
            programs["plain fp32 forwards"] = [*forwards, str(evaluations)]
            programs["the authors' way"] = [*forwards, "3", "--width", "32"]
            runs: dict[str, list[dict[str, float]]] = {name: [] for name in programs}
            for _ in range(repeats):
                for name, command in programs.items():
                    runs[name].append(measured(command))
        authors = median(run["seconds"] for run in runs["the authors' way"])
        for name, figures in runs.items():
            row = {"program": name, "megapixels": size, "evaluations": evaluations, "runs": figures}
            row |= {key: median(run[key] for run in figures) for key in ("seconds", "peak_gb")}
            results.append(row)
            times = f"{authors / row['seconds']:.2f} times as fast as the authors' way"
            print(f"{size} MP  {name:<24} {row['seconds']:7.2f} s  {row['peak_gb']:.2f} GB  {times}", flush=True)
    if output is not None:
        output.write_text(json.dumps({"machine": machine(), "results": results}, indent=1))


def machine() -> dict[str, str]:
    """What was measured on, and with which libraries."""
    model = next((line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")), "")
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "cpu": model or platform.processor(),
        "threads": str(torch.get_num_threads()),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": commit.stdout.strip(),
    }


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


if __name__ == "__main__":
    tyro.cli(main)

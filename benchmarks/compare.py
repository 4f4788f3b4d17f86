"""Whether two checkouts compute the same: the digests of what their commands write, side by side.

    python benchmarks/compare.py OLD NEW [--presets 8]

In each checkout: a data set is simulated, its captures are enhanced in several ways, networks are evaluated, and two
steps of each preset are trained on tiny patches. Compared are the bytes of every file but for dates, times and
rates. Printed: what differs. The exit code is 1 if anything does.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import runpy
import subprocess
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from PIL import Image
from safetensors import safe_open
from tifffile import imread

VARYING = re.compile(r"seconds|minutes|per_second|date|time|program|version|command|path|folder")
ENHANCE = {
    "plain": (),
    "steps": ("--steps", "2", "--ratio", "120"),
    "samples": ("--steps", "1", "--samples", "2", "--maps"),
    "camera": ("--camera", "NikonD850", "--steps", "0"),
    "alone": ("--faithful", "off", "--defects", "off", "--steps", "0"),
    "png": ("--format", "png", "--steps", "0"),
    "tiff": ("--format", "tiff", "--steps", "0"),
}


def expose(*words: object) -> int:
    """Run `expose` in this process."""
    sys.argv = ["expose", *map(str, words)]
    said = StringIO()
    try:
        with redirect_stdout(said), redirect_stderr(said):
            runpy.run_module("exposurediffusion", run_name="__main__")
    except SystemExit as leave:
        if leave.code:
            print(f"{' '.join(sys.argv)}\n{said.getvalue()}", file=sys.stderr)
        return int(leave.code or 0)
    return 0


def named(attribute: str) -> Any:
    """A public name of the package, wherever it is."""
    modules = [module for name, module in sys.modules.items() if name.startswith("exposurediffusion.")]
    return next(getattr(module, attribute) for module in modules if hasattr(module, attribute))


def make(output: Path, presets: int) -> None:
    """What is compared, by the package that Python finds."""
    torch.set_num_threads(1)
    pictures = output / "pictures"
    pictures.mkdir()
    random = np.random.default_rng(3)
    for number in range(3):
        coarse = Image.fromarray(random.integers(20, 250, (12, 12, 3)).astype(np.uint8))
        coarse.resize((400, 400), Image.Resampling.BICUBIC).save(pictures / f"{number}.png")
    data = output / "data"
    for split in ("test", "train", "validation"):
        expose(
            "simulate", "--images", pictures, "-o", data, "--size", 128, "--split", split, "--scenes", 1, "--darks", 2
        )
    shorts = sorted((data / "Sony" / "short").iterdir())
    for name, options in ENHANCE.items():
        expose("enhance", shorts[0], "-o", output / "enhanced" / name, *options)
    expose(
        "evaluate", "--root", data, "--subset", "all", "--baselines", "capture",
        "--weights", "default", "--steps", 0, 1, "-o", output / "results",
    )  # fmt: skip
    expose("train", "--list")
    for name, preset in list(named("PRESETS").items())[:presets]:
        source = pictures if preset.recipe.capture.supervision == "clean" else data
        expose(
            "train", "--preset", name, "--data", source, "-o", output / "runs" / name, "--iterations", 2,
            "--batch", 2, "--patch", 32, "--validate-every", 0, "--validation-patch", 32, "--device", "cpu",
            "--precision", "fp32", "--workers", 0, "--no-tensorboard",
        )  # fmt: skip


def plain(value: Any) -> Any:
    """JSON without what differs from run to run, and numbers as far as float32 reaches."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items() if not VARYING.search(key)}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return float(f"{value:.7g}") if isinstance(value, float) else value


def digest(path: Path) -> str:
    """Of the content, without dates and times."""
    data = path.read_bytes()
    if path.suffix == ".safetensors":
        with safe_open(path, "np") as file:  # type: ignore[no-untyped-call]
            data = b"".join(name.encode() + file.get_tensor(name).tobytes() for name in sorted(file.keys()))
    elif path.suffix in (".png", ".tif"):  # their headers hold the hour
        data = (np.asarray(Image.open(path)) if path.suffix == ".png" else imread(path)).tobytes()
    elif path.suffix in (".json", ".jsonl"):
        lines = data.decode().splitlines() if path.suffix == ".jsonl" else [data.decode()]
        data = json.dumps([plain(json.loads(line)) for line in lines]).encode()
    elif path.suffix == ".csv":
        rows = [line.split(",") for line in data.decode().splitlines()]
        kept = [place for place, name in enumerate(rows[0]) if not VARYING.search(name)]
        data = json.dumps([[row[place] for place in kept if place < len(row)] for row in rows]).encode()
    else:
        data = re.sub(rb"\d{4}:\d\d:\d\d \d\d:\d\d:\d\d", b"", data)
    return hashlib.sha256(data).hexdigest()[:16]


def digests(checkout: Path, presets: int, folder: Path) -> dict[str, str]:
    """File -> digest of all that a checkout writes."""
    environment = {**os.environ, "PYTHONPATH": str(checkout.resolve() / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, str(checkout), str(checkout), "--presets", str(presets), "--worker", "."]
    subprocess.run(command, cwd=folder, env=environment, check=True)
    skipped = (".pt", ".md")  # pickles and prose
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix not in skipped]
    return {str(path.relative_to(folder)): digest(path) for path in files}


def main(
    old: tyro.conf.Positional[Path], new: tyro.conf.Positional[Path], presets: int = 1000, worker: Path | None = None
) -> int:
    """Compare two checkouts.

    Args:
        old: one checkout.
        new: another.
        presets: how many of the presets are trained.
        worker: folder to write to; given by the script to itself.
    """
    if worker:
        make(worker, presets)
        return 0
    found = []
    for checkout in (old, new):
        with tempfile.TemporaryDirectory() as folder:
            found.append(digests(checkout, presets, Path(folder)))
    before, after = found
    different = [name for name in sorted({*before, *after}) if before.get(name) != after.get(name)]
    for name in different:
        print(f"{name}: {before.get(name, 'missing')} {after.get(name, 'missing')}")
    print(f"{len(before)} files before, {len(after)} after, {len(different)} differ")
    return bool(different)


if __name__ == "__main__":
    sys.exit(tyro.cli(main))

"""Everything worth doing on a GPU that is lent for a quarter of an hour, by one command.

    python benchmarks/gpu.py --minutes 9.5 --pictures pictures.safetensors -o OUT [--initial W W] [--trials SECONDS]

In this order: what the machine can do (bf16 matrix rate, copy bandwidth); whether it computes what the CPU does; how
fast it enhances and trains, and how much of a training step is the network's; trials of the recipe, of equal time, if
wanted; then `default` and `fine` are trained for the rest of the time, from the newest weights if these are given. OUT
gets figures.json, the logs, and the averaged weights in half precision, each of less than 16 MB; they are written every
minute, so that a machine that goes away takes little with it.

Needs PyTorch, accelerate, safetensors and Pillow. To try it without a GPU: --device cpu --tiny.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from common import machine, rate_of, training_rates

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from exposurediffusion.models.denoiser import ExposureDenoiser
from exposurediffusion.physics.conditions import Conditions
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.pictures.prepared import read_pictures
from exposurediffusion.pictures.views import CleanViews
from exposurediffusion.simulation.capture import LEVEL
from exposurediffusion.training.checkpoints import NonFiniteLoss
from exposurediffusion.training.execution import Execution
from exposurediffusion.training.presets import PRESETS
from exposurediffusion.training.recipe import Recipe
from exposurediffusion.training.run import Run
from exposurediffusion.training.trainer import train
from exposurediffusion.training.validation import Validation
from exposurediffusion.weights.file import load, save_weights

BEGUN = time.monotonic()
AGREES = {"fp32": 1e-4, "bf16": 1e-3}  # of the estimates, root mean square over the CPU's
LEAVE = 12.0  # seconds at the end, for what the machine itself takes


def limits(device: torch.device, side: int) -> dict[str, float]:
    """bf16 matrix rate, TFLOP/s, and the bandwidth of a copy, read and written, GB/s."""
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    source = torch.randn(side * side * 4, device=device)
    target = torch.empty_like(source)
    matrices = rate_of(lambda: a @ b, 1.0, device) * 2 * side**3 / 1e12
    copies = rate_of(lambda: target.copy_(source), 1.0, device) * 2 * source.numel() * 4 / 1e9
    return {"bf16_tflops": round(matrices, 1), "copy_gb_per_second": round(copies)}


def agreement(recipe: Recipe, device: torch.device) -> dict[str, float]:
    """Difference between the estimates of the device and of the CPU, root mean square over the CPU's."""
    torch.manual_seed(0)
    model = ExposureDenoiser(recipe.denoiser).eval()
    capture = torch.rand(2, recipe.planes, 128, 128)
    one = torch.ones(2)
    conditions = Conditions(100 * one, 2 * one, 9 * one)
    with torch.no_grad():
        wanted = model(capture, one, conditions).image
        model.to(device)
        there = replace(
            conditions, **{k: getattr(conditions, k).to(device) for k in ("ratio", "gain", "read_variance")}
        )
        found = {}
        for name, half in (("fp32", False), ("bf16", True)):
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                image = model(capture.to(device), one.to(device), there).image.float().cpu()
            found[name] = float((image - wanted).square().mean().sqrt() / wanted.square().mean().sqrt())
    return found


def enhance_rate(recipe: Recipe, device: torch.device, shape: tuple[int, int]) -> dict[str, float]:
    """Megapixels a second of two evaluations of a whole frame (T = 1)."""
    model = ExposureDenoiser(recipe.denoiser).to(device, memory_format=torch.channels_last).eval()  # pyright: ignore
    capture, one = torch.rand(1, recipe.planes, *shape, device=device), torch.ones(1, device=device)
    conditions = Conditions(100 * one, 2 * one, 9 * one)
    megapixels = capture.numel() / 1e6
    found = {}
    for name, half in (("fp32", False), ("bf16", True)):

        def twice(half: bool = half) -> None:
            with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=half):
                model(model(capture, one, conditions).image, 100 * one, replace(conditions, origin=capture))

        found[name] = round(rate_of(twice, 1.0, device) * megapixels, 1)
    return found


def train_for(
    name: str, recipe: Recipe, views: CleanViews, minutes: float, initial: Path | None, out: Path, device: torch.device
) -> None:
    """Train, with half-precision weights in `out` every minute."""
    folder, written = out.parent / f"{out.name}-runs" / name, time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)

    def tick(run: Run, loss: float) -> None:
        nonlocal written
        if time.monotonic() - written > 60:
            run.export(out / f"{name}.safetensors", {"preset": name}, torch.float16)
            written = time.monotonic()
            print(f"{name}: {run.iteration} iterations, {run.clock.spent:.2f} minutes, loss {loss:.4f}", flush=True)
        if run.done >= 1:
            run.export(out / f"{name}.safetensors", {"preset": name}, torch.float16)

    execution = Execution(device=device.type, validate_every=0, tensorboard=False)  # type: ignore[arg-type]
    try:
        for _ in range(20):
            try:
                train(recipe, views, folder, execution=execution, initial=initial, minutes=minutes, tick=tick)
                break
            except NonFiniteLoss as error:  # the weights are whole, and the time is precious
                print(f"{name}: {error}", flush=True)
    finally:
        shutil.copy(folder / "log.jsonl", out / f"{name}.jsonl")


def changed(recipe: Recipe, denoiser: dict[str, Any] = {}, objective: dict[str, Any] = {}, **rest: Any) -> Recipe:  # noqa: B006 - read only
    """A recipe with other fields; feed-forward, with a cosine over its whole time."""
    optimizer = replace(recipe.optimizer, lr=rest.pop("lr", recipe.optimizer.lr))
    return replace(
        recipe,
        denoiser=replace(recipe.denoiser, **denoiser),
        objective=replace(recipe.objective, steps=0, **objective),
        optimizer=optimizer,
        prelude=replace(recipe.prelude, share=0.0),
        sampling=replace(recipe.sampling, steps=0),
        **rest,
    )


TRIALS: dict[str, Callable[[Recipe], Recipe]] = {
    "base": changed,
    "linear": lambda r: changed(r, {"domain": "linear", "noise_map": True}),
    "plain-loss": lambda r: changed(r, objective={"curve": 0.0, "averages": 0.0}),
    "unet": lambda r: changed(r, {"backbone": "unet", "options": {"width": 16, "depth": 4}}),
    "patch-64": lambda r: changed(r, patch=r.patch // 2, batch=4 * r.batch),
    "lr-x2": lambda r: changed(r, lr=2 * r.optimizer.lr),
}


def trial(
    name: str, recipe: Recipe, views: CleanViews, unseen: CleanViews, seconds: float, out: Path
) -> dict[str, float]:
    """Train for some seconds, and measure on scenes that were not trained on."""
    execution = Execution(device=views.device.type, validate_every=0, tensorboard=False)  # type: ignore[arg-type]
    folder = out.parent / f"{out.name}-runs" / f"trial-{name}"
    shutil.rmtree(folder, ignore_errors=True)
    weights = train(recipe, views, folder, execution=execution, minutes=seconds / 60)
    model = load(weights, views.device)
    figures, _ = Validation(unseen, recipe, count=24)(model)
    figures["iterations"] = model.card.training["iterations"]
    (out / "trials").mkdir(exist_ok=True)
    save_weights(out / "trials" / f"{name}.safetensors", model, model.card, torch.float16)
    return {name: round(value, 4) for name, value in figures.items()}


def seconds_left(minutes: float) -> float:
    """Until the end of the whole command."""
    return 60 * minutes - (time.monotonic() - BEGUN) - LEAVE


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, required=True, help="of everything")
    parser.add_argument("--pictures", type=Path, required=True, help="made by `expose prepare`")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder")
    parser.add_argument("--networks", nargs="+", default=["default", "fine"], help="presets, trained in this order")
    parser.add_argument("--shares", nargs="+", type=float, default=[0.5, 0.5], help="of the time of training")
    parser.add_argument("--initial", nargs="+", type=Path, default=[], help="weights to begin from, one for each")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--trials", type=float, default=0.0, help="seconds of each trial of the recipe; 0: none")
    parser.add_argument("--unseen", type=Path, help="prepared pictures to validate the trials on")
    parser.add_argument("--skip-training", action="store_true", help="figures and trials alone")
    parser.add_argument("--skip-figures", action="store_true", help="train alone")
    parser.add_argument("--tiny", action="store_true", help="small sizes, to try it on a CPU")
    options = parser.parse_args()
    device = torch.device(options.device)
    torch.backends.cudnn.benchmark = True
    options.out.mkdir(parents=True, exist_ok=True)
    recipes = {name: PRESETS[name].recipe for name in options.networks}
    if options.tiny:
        recipes = {name: replace(recipe, batch=4, patch=32) for name, recipe in recipes.items()}
    figures: dict[str, object] = {"machine": machine(device.type)}

    def record(name: str, value: object) -> None:
        figures[name] = value
        (options.out / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
        print(f"{time.monotonic() - BEGUN:6.1f} s  {name}: {value}", flush=True)

    begun = time.monotonic()
    views = CleanViews(read_pictures(options.pictures).to(device), CFA("RGGB"))
    record("seconds_to_read_pictures", round(time.monotonic() - begun, 1))
    if not options.skip_figures:
        record("limits", limits(device, 256 if options.tiny else 8192))
        for name, recipe in recipes.items():
            found = agreement(recipe, device)
            record(f"{name}_difference_to_cpu", found)
            record(f"{name}_agrees", {precision: found[precision] < most for precision, most in AGREES.items()})
            record(
                f"{name}_megapixels_per_second",
                enhance_rate(recipe, device, (64, 64) if options.tiny else (1504, 2000)),
            )
            record(
                f"{name}_training_images_per_second",
                training_rates(Run(recipe, Execution(device=device.type)), views, 3.0),  # type: ignore[arg-type]
            )
    if options.trials:
        unseen = CleanViews(read_pictures(options.unseen).to(device), CFA("RGGB"), LEVEL)
        base = next(iter(recipes.values()))
        for name, change in TRIALS.items():
            record(f"trial_{name}", trial(name, change(base), views, unseen, options.trials, options.out))
        weights = sorted((options.out / "trials").iterdir())
        for first in range(0, len(weights), 3):  # a file of more than 16 MB might not come back
            with tarfile.open(options.out / f"trials-{first}.tar", "w") as archive:
                for path in weights[first : first + 3]:
                    archive.add(path, path.name)
        shutil.rmtree(options.out / "trials")
    if options.skip_training:
        return
    initial = [*options.initial, *[None] * len(recipes)]
    shares = options.shares[: len(recipes)]
    for place, (name, recipe) in enumerate(recipes.items()):
        minutes = seconds_left(options.minutes) / 60 * shares[place] / sum(shares[place:])
        record(f"{name}_minutes", round(minutes, 2))
        train_for(name, recipe, views, minutes, initial[place], options.out, device)


if __name__ == "__main__":
    main()

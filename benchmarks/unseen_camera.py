"""A camera that was never trained on: networks of four of the five calibrated cameras, judged on the fifth.

    python benchmarks/unseen_camera.py --pictures FILE --unseen FILE --iterations 400 --output OUT

One recipe for as many iterations, with one seed: once with the noise of all five cameras, and with each left out in
turn. Captures of kept scenes by each camera are enhanced (T = 0, its own noise known) by the network that never saw it
and by the five that did; printed: PSNR after the illuminance correction at x100, x250 and x300 (of those that did: the
mean), how much lower the first is on average, and the standard deviation over the five, which is what leaving out any
other camera does. A run that has ended is not trained again.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import tyro
from common import machine

from exposurediffusion.physics.cameras.known import calibrated_cameras
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.pictures.prepared import read_pictures
from exposurediffusion.pictures.views import CleanViews
from exposurediffusion.simulation.capture import SID_SETTINGS
from exposurediffusion.training.execution import Execution
from exposurediffusion.training.presets import PRESETS
from exposurediffusion.training.recipe import Recipe
from exposurediffusion.training.trainer import train
from exposurediffusion.training.validation import Validation
from exposurediffusion.weights.file import load

SIZE = (0.03, 0.16)  # mean levels of the kept views, as in the validation of the presets


def recipe_of(cameras: list[str], iterations: int = 1) -> Recipe:
    """The preset `default` on small patches, with the noise of these cameras."""
    recipe = PRESETS["default"].recipe
    capture = replace(recipe.capture, noise="eld+bias", camera=",".join(cameras))
    return replace(recipe, batch=8, patch=64, iterations=iterations, capture=capture)


def main(pictures: Path, unseen: Path, output: Path, iterations: int = 400, count: int = 32) -> None:
    """Run it; see the module's docstring."""
    print(machine())
    names = sorted(calibrated_cameras())
    views = CleanViews(read_pictures(pictures), CFA("RGGB"))
    kept = CleanViews(read_pictures(unseen), CFA("RGGB"), SIZE)
    execution = Execution(device="cpu", precision="fp32", validate_every=0, tensorboard=False)
    made: dict[str, Path] = {}
    for left_out in ("", *names):
        cameras = [name for name in names if name != left_out]
        folder = output / (f"without-{left_out}" if left_out else "all")
        made[left_out] = train(recipe_of(cameras, iterations), views, folder, execution=execution)
        print(f"trained {folder.name}", file=sys.stderr, flush=True)
    models = {left_out: load(network) for left_out, network in made.items()}
    print("| camera | known: x100 / x250 / x300 | never seen | costs | spread of those that know it |")
    print("|---|---|---|---|---|")
    for name in names:
        judge, figures = Validation(kept, recipe_of([name]), count), {}
        for left_out, model in models.items():
            judge.recipe = replace(judge.recipe, sampling=replace(model.card.sampling, steps=0))
            found, _ = judge(model)
            figures[left_out] = np.array([found[f"psnr_x{ratio:g}"] for ratio, _ in SID_SETTINGS])
        unseen_by = figures.pop(name)
        known = np.array(list(figures.values()))
        texts = [" / ".join(f"{value:.2f}" for value in own) for own in (known.mean(axis=0), unseen_by)]
        cost, spread = known.mean() - unseen_by.mean(), known.mean(axis=1).std(ddof=1)
        print(f"| {name} | {texts[0]} | {texts[1]} | {cost:+.2f} dB | {spread:.2f} dB |", flush=True)


if __name__ == "__main__":
    tyro.cli(main)

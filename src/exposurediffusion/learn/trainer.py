"""Training: one visible loop."""

from __future__ import annotations

import json
import math
import os
import pickle
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from exposurediffusion.data.synthesis import CleanPatches
from exposurediffusion.learn.presets import NOISE_MODELS, Phase, Recipe
from exposurediffusion.learn.weights import ModelCard, save_weights
from exposurediffusion.models.denoiser import Conditions, Estimate, ExposureDenoiser
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.physics.noise import simulate_capture
from exposurediffusion.physics.profile import log_uniform
from exposurediffusion.process.exposure import ExposureSchedule
from exposurediffusion.process.objectives import Objective, unrolled_loss
from exposurediffusion.process.sampling import TRANSITIONS


class Interrupted(Exception):
    """Ctrl-C or SIGTERM: the checkpoint has been written."""


class NonFiniteLoss(Exception):
    """The loss or its gradient is not a number: the weights are those of the last checkpoint."""


class _Batches(Dataset[Tensor]):
    """Clean batch number i of a phase, for a loader process."""

    def __init__(self, patches: CleanPatches, first: int, count: int, batch: int) -> None:
        self.patches, self.first, self.count, self.size = patches, first, count, batch

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Tensor:
        return self.patches.batch(self.first + index, self.size)


class Run:
    """The state of a training run: network, averaged weights, optimiser, iteration."""

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.device, self.iteration = recipe, device, 0
        self.model = ExposureDenoiser(recipe.denoiser).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = {name: p.detach().clone() for name, p in self.model.named_parameters()}
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1.0, betas=(0.9, 0.999))

    def phase(self) -> tuple[Phase, int]:
        """The present phase, and the number of its iterations already done."""
        done = self.iteration
        for phase in self.recipe.phases:
            if done < phase.iterations:
                return phase, done
            done -= phase.iterations
        raise IndexError("training is finished")

    def learning_rate(self) -> float:
        """Of the next step."""
        phase, done = self.phase()
        start, end = phase.lr
        rate = end + (start - end) * (1 + math.cos(math.pi * done / phase.iterations)) / 2
        return rate * min(1.0, (self.iteration + 1) / max(1, self.recipe.warmup))

    def step(self, clean: Tensor, autocast: bool) -> float:
        """One optimiser step on a batch of clean patches; gives the loss."""
        phase, _ = self.phase()
        loss = self._loss(clean.to(self.device), phase, autocast)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise NonFiniteLoss(f"the loss became {value} at iteration {self.iteration}")
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm)
        if not bool(norm.isfinite()):  # one step with it would make every weight a NaN
            raise NonFiniteLoss(f"the gradient became {float(norm)} at iteration {self.iteration}")
        self.optimizer.step()
        self.iteration += 1
        decay = min(self.recipe.ema, (1 + self.iteration) / (10 + self.iteration))
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                self.average[name].lerp_(parameter, 1 - decay)
        return value

    def _loss(self, light: Tensor, phase: Phase, autocast: bool) -> Tensor:
        """Draw captures of the clean light and unroll the exposure on them (Algorithm 1)."""
        recipe, count = self.recipe, len(light)
        generator = torch.Generator(self.device).manual_seed((1 << 40) + recipe.seed * 7_368_787 + self.iteration)
        host = torch.Generator().manual_seed((1 << 41) + recipe.seed * 9_999_991 + self.iteration)
        noise = NOISE_MODELS[recipe.noise](recipe.gain_range).parameters(count, host).to(self.device)
        ratio = draw_ratios(recipe, count, host).to(self.device)
        capture = simulate_capture(light, ratio, noise, generator)
        told = torch.exp(recipe.uncertainty * torch.randn(2, count, generator=host)).to(self.device)
        conditions = Conditions(
            ratio, noise.gain * told[0], noise.read_variance * told[1] ** 2, noise.saturation, origin=None
        )
        clamp = recipe.sampling.clamp
        capture = capture if clamp is None else capture.clamp(*clamp)
        conditions = replace(conditions, origin=capture)

        def evaluate(state: Tensor, exposure: Tensor) -> Estimate:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=autocast):
                return self.model(state.contiguous(memory_format=torch.channels_last), exposure, conditions)

        objective = Objective(
            recipe.pixel,
            recipe.branch,
            recipe.balance,
            TRANSITIONS[recipe.sampling.transition],
            recipe.sampling.increments(noise.saturation / (ratio * noise.gain)),
            clamp,
        )
        schedule = ExposureSchedule.random(ratio, phase.steps, generator)
        loss, _ = unrolled_loss(evaluate, capture, light.clamp(0, 1), schedule, objective, generator=generator)
        return loss

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs."""
        return {
            "iteration": self.iteration,
            "recipe": json.dumps(self.recipe.to_dict()),
            "model": self.model.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
        }

    def restore(self, path: Path) -> None:
        """Continue from a checkpoint (read by PyTorch's restricted loader).

        Raises:
            ValueError: it is damaged, or a checkpoint of another recipe.
        """
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
            raise ValueError(f"{path}: not a checkpoint, or damaged: remove it to begin anew") from error
        if state["recipe"] != json.dumps(self.recipe.to_dict()):
            raise ValueError(f"{path} is of another recipe: choose another output folder, or remove it")
        self.iteration = state["iteration"]
        self.model.load_state_dict(state["model"])
        self.average = state["average"]
        self.optimizer.load_state_dict(state["optimizer"])

    def save(self, folder: Path, name: str) -> None:
        """Write the checkpoint and, beside it, the averaged weights as a weights file."""
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".{name}.pt.part"
        torch.save(self.state(), temporary)
        os.replace(temporary, folder / f"{name}.pt")
        averaged = ExposureDenoiser(self.recipe.denoiser)
        averaged.load_state_dict({**self.model.state_dict(), **self.average})
        training = {"recipe": self.recipe.to_dict(), "iterations": self.iteration}
        card = ModelCard(self.recipe.denoiser, self.recipe.sampling, folder.name, training)
        save_weights(folder / f"{name}.safetensors", averaged, card)


def draw_ratios(recipe: Recipe, count: int, generator: torch.Generator) -> Tensor:
    """Amplifications of a batch by the recipe's law, (b)."""
    low, high = recipe.ratio
    if recipe.ratio_law == "uniform":
        return low + (high - low) * torch.rand(count, generator=generator)
    floor = min(max(20.0, low), high)
    uniform = floor + (high - floor) * torch.rand(count, generator=generator)
    small = log_uniform(low, high, count, generator)
    return torch.where(torch.rand(count, generator=generator) < 0.25, small, uniform)


def _clean_batches(run: Run, images: Path, workers: int) -> Iterator[Tensor]:
    """The clean batches that are still to come, phase after phase."""
    sources = None
    while run.iteration < run.recipe.iterations:
        phase, done = run.phase()
        cfa = CFA("RGGB" if run.recipe.denoiser.planes == 4 else "XTRANS")
        if sources is None:
            largest = max(phase.patch for phase in run.recipe.phases)  # told now, not when a later phase begins
            sources = CleanPatches.from_folder(images, largest, cfa, run.recipe.seed).sources
        patches = CleanPatches(sources, phase.patch, cfa, run.recipe.level, run.recipe.seed)
        batches = _Batches(patches, run.iteration, phase.iterations - done, phase.batch)
        yield from DataLoader(
            batches, batch_size=None, shuffle=False, num_workers=workers, worker_init_fn=_begin_worker
        )


def _begin_worker(_: int) -> None:
    """One thread each. Ctrl-C reaches every process of a terminal; the run itself must live to write its checkpoint."""
    torch.set_num_threads(1)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def train(
    recipe: Recipe,
    images: Path,
    output: Path,
    *,
    device: str = "cpu",
    autocast: bool = True,
    workers: int = 1,
    checkpoint_minutes: float = 5.0,
    tick: Callable[[int, float], None] = lambda iteration, loss: None,
) -> Path:
    """Train a recipe on clean pictures, or go on where a run in `output` stopped.

    Args:
        recipe: what to train.
        images: folder of clean pictures.
        output: folder of the run: checkpoint.pt, weights (.safetensors), log.jsonl.
        device: of PyTorch.
        autocast: compute in bfloat16 where PyTorch deems it safe.
        workers: processes that prepare clean patches.
        checkpoint_minutes: between checkpoints.
        tick: called after each iteration with its number and loss.

    Returns:
        The final weights file.

    Raises:
        Interrupted: by Ctrl-C or SIGTERM, after a checkpoint.
        NonFiniteLoss: with the weights of the last checkpoint left whole.
    """
    run = Run(recipe, torch.device(device))
    checkpoint = output / "checkpoint.pt"
    if checkpoint.exists():
        run.restore(checkpoint)
    stop: list[int] = []
    handlers = {s: signal.signal(s, lambda number, _: stop.append(number)) for s in (signal.SIGINT, signal.SIGTERM)}
    output.mkdir(parents=True, exist_ok=True)
    saved, total, since = time.monotonic(), 0.0, run.iteration
    try:
        with (output / "log.jsonl").open("a") as log:
            for clean in _clean_batches(run, images, workers):
                loss = run.step(clean, autocast)
                total += loss
                tick(run.iteration, loss)
                boundary = run.iteration in _boundaries(recipe)
                if run.iteration % 100 == 0 or boundary or stop:
                    entry = {
                        "iteration": run.iteration,
                        "loss": total / (run.iteration - since),
                        "lr": run.optimizer.param_groups[0]["lr"],
                        "seconds": time.time(),
                    }
                    print(json.dumps(entry), file=log, flush=True)
                    total, since = 0.0, run.iteration
                if boundary:
                    run.save(output, f"iteration-{run.iteration}")
                if stop or boundary or time.monotonic() - saved > 60 * checkpoint_minutes:
                    run.save(output, "checkpoint")
                    saved = time.monotonic()
                if stop:
                    raise Interrupted(f"stopped at iteration {run.iteration}; run the same command to go on")
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    run.save(output, "weights")
    return output / "weights.safetensors"


def _boundaries(recipe: Recipe) -> set[int]:
    ends, total = set(), 0
    for phase in recipe.phases:
        total += phase.iterations
        ends.add(total)
    return ends

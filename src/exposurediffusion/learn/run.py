"""A training run: its state, one step of it, and its checkpoint; on one process or on many."""

from __future__ import annotations

import io
import json
import math
import pickle
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from exposurediffusion.baselines.ddim import ConditionalDiffusion
from exposurediffusion.data.files import atomic
from exposurediffusion.learn.batches import Batch, Patches, batches
from exposurediffusion.learn.captures import CaptureMaker
from exposurediffusion.learn.execution import Execution
from exposurediffusion.learn.loss import loss_of
from exposurediffusion.learn.recipe import Recipe
from exposurediffusion.learn.weights import ModelCard, load, load_diffusion, save_weights
from exposurediffusion.models.denoiser import ExposureDenoiser


class NonFiniteLoss(Exception):
    """The loss or its gradient is not a number: the weights are those of the last checkpoint, the batch is saved."""


class WorkerLost(Exception):
    """Another process of a distributed run has ended: the last checkpoint is whole."""


class Run:
    """The state of a training run: network, averaged weights, optimiser, iteration."""

    def __init__(self, recipe: Recipe, execution: Execution = Execution(device="cpu", precision="fp32")) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.iteration = recipe, 0
        self.accelerator = execution.accelerator()
        self.device = torch.device(self.accelerator.device)
        self.loss = loss_of(recipe, execution.bf16_on(self.device)).to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = {name: p.detach().clone() for name, p in self.loss.denoiser.named_parameters()}
        self.optimizer = torch.optim.Adam(self.loss.parameters(), lr=1.0, betas=recipe.optimizer.betas)
        if execution.compile:
            self.loss.denoiser.backbone.compile(dynamic=False)
        self.capture = CaptureMaker(recipe.capture, recipe.seed)
        # Of (1, c, 1, 1) parameters, whose layout is ambiguous once the memory is channels last; it costs nothing.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        self._distributed = self.accelerator.prepare_model(self.loss)

    @property
    def is_main(self) -> bool:
        """This process writes the files."""
        return self.accelerator.is_main_process

    def batches(self, patches: Patches, workers: int) -> Iterator[Batch]:
        """This process's share of the batches that are still to come."""
        recipe = self.recipe
        return batches(
            patches,
            recipe.patch,
            recipe.batch,
            self.iteration,
            recipe.iterations - self.iteration,
            workers=workers,
            rank=self.accelerator.process_index,
            processes=self.accelerator.num_processes,
            pin=self.device.type == "cuda",
        )

    def step(self, batch: Batch, stop: bool = False) -> tuple[float, bool]:
        """One optimiser step; gives the loss, and whether any process was asked to stop.

        Raises:
            NonFiniteLoss: in any process; the weights are left as they were.
            WorkerLost: another process does not answer.
        """
        with self._peers():
            captures = self.capture(batch.to(self.device))
            loss = self._distributed(captures, self.recipe.steps_at(self.iteration))
            self.optimizer.zero_grad(set_to_none=True)
            self.accelerator.backward(loss)
            value, stopping = self._agreed(torch.stack([loss.detach().float(), loss.new_tensor(float(stop)).float()]))
        norm = float(
            torch.nn.utils.clip_grad_norm_(self.loss.parameters(), self.recipe.optimizer.clip_norm or math.inf)
        )
        for name, number in (("loss", value), ("gradient", norm)):
            if not math.isfinite(number):  # one step with it would make every weight a NaN
                raise NonFiniteLoss(f"the {name} became {number} at iteration {self.iteration}")
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate_at(self.iteration)
        self.optimizer.step()
        self.iteration += 1
        self._average()
        return value, stopping > 0

    def _agreed(self, values: Tensor) -> tuple[float, float]:
        """The mean of (loss, stop) over all processes, so that all of them decide alike."""
        mean = self.accelerator.reduce(values, "mean")
        assert isinstance(mean, Tensor)  # accelerate gives back what it was given
        return float(mean[0]), float(mean[1])

    @contextmanager
    def _peers(self) -> Iterator[None]:
        """Turn a broken connection into a clear message."""
        try:
            yield
        except RuntimeError as error:
            broken = ("gloo", "NCCL", "Connection", "connection", "closed by peer")
            if self.accelerator.num_processes > 1 and any(word in str(error) for word in broken):
                raise WorkerLost(
                    f"another process of this run has ended (at iteration {self.iteration}); "
                    "the last checkpoint is whole: run the same command to go on"
                ) from error
            raise

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.recipe.optimizer.ema, (1 + self.iteration) / (10 + self.iteration))
        for name, parameter in self.loss.denoiser.named_parameters():
            self.average[name].lerp_(parameter, 1 - decay)

    @contextmanager
    def averaged(self) -> Iterator[ExposureDenoiser | ConditionalDiffusion]:
        """The denoiser with its averaged weights, for as long as the block lasts."""
        kept = {name: p.detach().clone() for name, p in self.loss.denoiser.named_parameters()}
        self._load(self.average)
        try:
            yield self.loss.denoiser
        finally:
            self._load(kept)

    @torch.no_grad()
    def _load(self, values: dict[str, Tensor]) -> None:
        for name, parameter in self.loss.denoiser.named_parameters():
            parameter.copy_(values[name])

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs."""
        return {
            "iteration": self.iteration,
            "processes": self.accelerator.num_processes,
            "recipe": json.dumps(self.recipe.to_dict()),
            "model": self.loss.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
        }

    def restore(self, path: Path) -> None:
        """Continue from a checkpoint (read by PyTorch's restricted loader).

        Raises:
            ValueError: it is damaged, or a checkpoint of another recipe or number of processes.
        """
        content = io.BytesIO(path.read_bytes())  # of a file cut short PyTorch would say "invalid argument"
        try:
            state = torch.load(content, map_location="cpu", weights_only=True)
            recipe, processes = json.loads(state["recipe"]), state["processes"]
        except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: not a checkpoint, or damaged: remove it to begin anew") from error
        changed = _differences(recipe, json.loads(json.dumps(self.recipe.to_dict())))
        if changed:
            raise ValueError(
                f"{path} is of another recipe ({', '.join(changed[:4])}): choose another output folder, or remove it"
            )
        if processes != self.accelerator.num_processes:
            raise ValueError(
                f"{path} was written by {processes} processes, this run has {self.accelerator.num_processes}: "
                "the order of the data would change; use as many, or choose another output folder"
            )
        self.iteration = state["iteration"]
        self.loss.load_state_dict(state["model"])
        self.average = {name: tensor.to(self.device) for name, tensor in state["average"].items()}
        self.optimizer.load_state_dict(state["optimizer"])

    def begin_from(self, weights: str | Path) -> None:
        """Take the weights of a trained model of the same network.

        Raises:
            ValueError: there are none, or they are of another network.
        """
        wanted = self.recipe.diffusion or self.recipe.denoiser
        model = (load if self.recipe.diffusion is None else load_diffusion)(weights, self.device)
        if model.card.denoiser != wanted:
            raise ValueError(f"{weights}: weights of another network ({model.card.denoiser}, wanted {wanted})")
        self._load(dict(model.named_parameters()))
        self.average = {name: p.detach().clone() for name, p in model.named_parameters()}

    def save(self, path: Path) -> None:
        """Write a checkpoint, whole or not at all; the main process alone does."""
        if self.is_main:
            path.parent.mkdir(parents=True, exist_ok=True)
            content = io.BytesIO()
            torch.save(self.state(), content)
            with atomic(path) as stream:
                stream.write(content.getbuffer())

    def export(self, path: Path, provenance: dict[str, Any] | None = None) -> None:
        """Write the averaged weights as a weights file; the main process alone does."""
        if not self.is_main:
            return
        recipe = self.recipe
        origin = {**(provenance or {}), "recipe": recipe.to_dict(), "iterations": self.iteration}
        card = ModelCard(recipe.diffusion or recipe.denoiser, recipe.sampling, path.parent.name, origin)
        with self.averaged() as denoiser:
            save_weights(path, denoiser, card)


def _differences(first: Any, second: Any, name: str = "") -> list[str]:
    """Names of the fields in which two recipes differ."""
    if isinstance(first, dict) and isinstance(second, dict):
        keys = sorted(first.keys() | second.keys())
        inner = (_differences(first.get(k), second.get(k), f"{name}.{k}".lstrip(".")) for k in keys)
        return [difference for found in inner for difference in found]
    return [] if first == second else [f"{name} {first} there, {second} here"]

"""A training run: its state, one step of it, and its checkpoint; on one process or on many."""

from __future__ import annotations

import json
import math
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from exposurediffusion.baselines.diffusion import ConditionalDiffusion
from exposurediffusion.models.averages import AveragedWeights, set_parameters
from exposurediffusion.models.denoiser import ExposureDenoiser
from exposurediffusion.pictures.views import CleanViews
from exposurediffusion.training.batches import Batch, Patches, batches
from exposurediffusion.training.captures import CaptureMaker, Captures
from exposurediffusion.training.checkpoints import (
    DamagedError,
    NonFiniteLoss,
    differences,
    kept,
    read_checkpoint,
    write_checkpoint,
)
from exposurediffusion.training.execution import Clock, Execution, Peers
from exposurediffusion.training.loss import loss_of
from exposurediffusion.training.recipe import Recipe
from exposurediffusion.weights.file import ModelCard, load, load_diffusion, save_weights


@dataclass(frozen=True)
class Reading:
    """What a run says of its iterations since the last reading; the same in all processes.

    Attributes:
        loss: their mean loss, over all processes.
        stopping: a process was asked to stop.
        ruined: the first iteration whose loss or gradient was not a number, so that it was left out; None: none.
    """

    loss: float
    stopping: bool
    ruined: int | None


class Run:
    """The state of a training run: network, averaged weights, optimiser, iteration, time.

    A step waits for nothing that a GPU computes; `read` does.

    Args:
        recipe: what is trained.
        execution: device, precision, ...
        minutes: the run's time, over all its sessions; None: it has `recipe.iterations`.
        report: is given what people should read.

    Attributes:
        iteration: steps done.
        clock: its time; the main process's counts.
        average: the averaged weights.
    """

    def __init__(
        self,
        recipe: Recipe,
        execution: Execution = Execution(device="cpu", precision="fp32"),
        minutes: float | None = None,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.clock = Clock(minutes)
        torch.manual_seed(recipe.seed)
        self.recipe, self.iteration = recipe, 0
        self.accelerator = execution.accelerator()
        self.peers = Peers(self.accelerator)
        self.device = torch.device(self.accelerator.device)
        self.loss = loss_of(recipe, execution.bf16_on(self.device)).to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = AveragedWeights(self.loss.denoiser, recipe.optimizer.ema)
        self.optimizer = torch.optim.Adam(self.loss.parameters(), lr=1.0, betas=recipe.optimizer.betas, fused=True)
        self._make_moments()
        if execution.compile:
            self.loss.denoiser.backbone.compile(dynamic=False)
        self.capture = CaptureMaker(recipe.capture, recipe.seed, recipe.denoiser.white)
        self._share = 0.0
        self._read_at = self._restored_at = 0
        self._parts, self._report = 1, report
        self._losses = torch.zeros((), device=self.device)
        self._ruined = torch.full((), -1.0, device=self.device)
        # Of (1, c, 1, 1) parameters, whose layout is ambiguous once the memory is channels last; it costs nothing.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        self._distributed = self.accelerator.prepare_model(self.loss)

    def _make_moments(self) -> None:
        """Have the optimiser make its moments, zeros, so that the first checkpoint is as large as the last."""
        for parameter in self.loss.parameters():
            parameter.grad = torch.zeros_like(parameter)
        self.optimizer.found_inf = torch.ones((), device=self.device)  # type: ignore[attr-defined]  # leaves out the step
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    @property
    def is_main(self) -> bool:
        """This process writes the files."""
        return self.accelerator.is_main_process

    @property
    def images(self) -> int:
        """Of one iteration, all processes together."""
        return self.recipe.batch * self.accelerator.num_processes

    @property
    def done(self) -> float:
        """The share of the run that is done: of its iterations, or of its time as of the last reading."""
        return self.iteration / self.recipe.iterations if self.clock.minutes is None else self._share

    @property
    def rate(self) -> float:
        """The learning rate of the next step."""
        return self.recipe.rate_at(self.done, self.iteration)

    def batches(self, patches: Patches | CleanViews, workers: int) -> Iterator[Batch]:
        """This process's share of the batches that are still to come."""
        count = self.recipe.iterations - self.iteration
        if self.clock.minutes is not None:
            count = sys.maxsize // 2 if self.done < 1 else 0
        return self._batches(patches, self.iteration, count, workers)

    def batch(self, patches: Patches | CleanViews, iteration: int) -> Batch:
        """This process's share of the batch of one iteration."""
        return next(iter(self._batches(patches, iteration, 1, 0)))

    def _batches(self, patches: Patches | CleanViews, first: int, count: int, workers: int) -> Iterator[Batch]:
        return batches(
            patches,
            self.recipe.patch,
            self.recipe.batch,
            first,
            count,
            seed=self.recipe.seed,
            workers=workers,
            rank=self.accelerator.process_index,
            processes=self.accelerator.num_processes,
            pin=self.device.type == "cuda",
        )

    def step(self, batch: Batch) -> None:
        """One optimiser step. If the loss or its gradient is not a number the weights stay as they are.

        Raises:
            WorkerLost: another process does not answer.
        """
        self.clock.step()
        with self.peers.waited_for(self.iteration):
            captures = self.capture(batch.to(self.device), self.iteration, self.accelerator.process_index)
            loss = self._gradients(captures)
            bound = self.recipe.optimizer.clip_norm or math.inf
            norm = torch.nn.utils.clip_grad_norm_(self.loss.parameters(), bound, foreach=True)
            bad = self.peers.sum(1 - (loss.isfinite() & norm.isfinite()).float()) > 0
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate
        self.optimizer.found_inf = bad.float()  # type: ignore[attr-defined]  # as a gradient scaler has it skip
        self.optimizer.step()
        self._losses += torch.where(bad, 0.0, loss)
        self._ruined = torch.where(bad & (self._ruined < 0), float(self.iteration), self._ruined)
        self.iteration += 1
        self.average.update(self.iteration)

    def _gradients(self, captures: Captures) -> Float[Tensor, ""]:
        """Compute the gradients of the batch; its loss. A batch that is too large for a GPU is taken in parts."""
        draws = captures.generator.get_state()
        while True:
            self.optimizer.zero_grad(set_to_none=True)
            captures.generator.set_state(draws)  # a try that failed has drawn already
            try:
                losses = []
                for part in captures.parts(self._parts):
                    loss = self._distributed(part, self.recipe.steps_at(self.done))
                    self.accelerator.backward(loss * (len(part.target) / len(captures.target)))
                    losses.append(loss.detach().float() * (len(part.target) / len(captures.target)))
                return torch.stack(losses).sum()
            except torch.OutOfMemoryError:
                if self._parts >= len(captures.target) or self.accelerator.num_processes > 1:
                    raise  # one image is too large; or the other processes would wait for this one's gradients
            self._parts *= 2
            torch.cuda.empty_cache()
            self._report(f"not enough memory on the GPU: batches are now computed in {self._parts} parts")

    @torch.no_grad()
    def is_sound(self, batch: Batch) -> bool:
        """Whether the weights are numbers, and give a loss that is one; the same in all processes."""
        captures = self.capture(batch.to(self.device), self.iteration, self.accelerator.process_index)
        with self.peers.waited_for(self.iteration):
            loss = self.loss(captures, self.recipe.steps_at(self.done))
            return self._finite() and bool(self.peers.sum(1 - loss.isfinite().float()) == 0)

    @torch.no_grad()
    def _finite(self) -> bool:
        """Whether all weights and their averages are numbers; they are the same in all processes."""
        return all(bool(tensor.isfinite().all()) for tensor in (*self.loss.parameters(), *self.average.values.values()))

    def read(self, stop: bool = False) -> Reading:
        """What the iterations since the last reading gave; waits for the device.

        Args:
            stop: this process was asked to stop.

        Raises:
            WorkerLost: another process does not answer.
        """
        count = max(1, self.iteration - self._read_at) * self.accelerator.num_processes
        share = self.clock.share(self._share, self._read_at > self._restored_at) if self.is_main else 0.0
        message = self._losses.new_tensor([float(stop), share])
        with self.peers.waited_for(self.iteration):
            loss, stopping, self._share = self.peers.sum(torch.cat([(self._losses / count)[None], message])).tolist()
        ruined = int(self._ruined)
        self._losses.zero_()
        self._read_at = self.iteration
        self.clock.read()
        return Reading(loss, stopping > 0, None if ruined < 0 else ruined)

    @contextmanager
    def averaged(self) -> Iterator[ExposureDenoiser | ConditionalDiffusion]:
        """The denoiser with its averaged weights, for as long as the block lasts."""
        with self.average.in_place():
            yield self.loss.denoiser

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs."""
        return {
            "iteration": self.iteration,
            "spent": self.clock.spent,
            "minutes": self.clock.minutes,
            "share": self._share,
            "processes": self.accelerator.num_processes,
            "recipe": json.dumps(asdict(self.recipe)),
            "model": self.loss.state_dict(),
            "average": self.average.values,
            "optimizer": self.optimizer.state_dict(),
        }

    def restore(self, path: Path) -> None:
        """Continue from a checkpoint (read by PyTorch's restricted loader).

        Raises:
            DamagedError: it is not as it was written, or of another version.
            ValueError: it is of another recipe or number of processes.
        """
        by_time, processes = self.clock.minutes is not None, self.accelerator.num_processes
        state = read_checkpoint(path, self.recipe, processes, by_time, self.loss)
        try:
            self._take(state)
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            text = f"{path}: a checkpoint of another version, or damaged: remove it to begin anew"
            raise DamagedError(text) from error

    def _take(self, state: dict[str, Any]) -> None:
        """Be as `state` says."""
        self.iteration = self._read_at = self._restored_at = state["iteration"]
        self.clock.resume(state["spent"])
        if (minutes := self.clock.minutes) is not None:  # more or less of it is another place in the schedule
            self._share = state["share"] if state["minutes"] == minutes else min(1.0, self.clock.spent / minutes)
        self.loss.load_state_dict(state["model"])
        self.average.values = {name: tensor.to(self.device) for name, tensor in state["average"].items()}
        self.optimizer.load_state_dict(
            state["optimizer"] | {"param_groups": self.optimizer.state_dict()["param_groups"]}
        )

    def begin_from(self, weights: str | Path) -> None:
        """Take the weights of a trained model of the same network.

        Raises:
            ValueError: there are none, or they are of another network.
        """
        wanted = self.recipe.diffusion or self.recipe.denoiser
        model = (load if self.recipe.diffusion is None else load_diffusion)(weights, self.device)
        if model.card.denoiser != wanted:
            changed = differences(asdict(model.card.denoiser), asdict(wanted))
            raise ValueError(
                f"{weights}: weights of another network ({', '.join(changed)}): take the preset that made them"
            )
        set_parameters(self.loss.denoiser, dict(model.named_parameters()))
        self.average = AveragedWeights(self.loss.denoiser, self.recipe.optimizer.ema)

    def save(self, path: Path) -> None:
        """Write a checkpoint, whole or not at all; the main process alone does.

        Raises:
            OSError: it cannot be written.
            NonFiniteLoss: there are weights that are no numbers.
        """
        if not self._finite():
            raise NonFiniteLoss(f"weights are no numbers at iteration {self.iteration}; {kept(path)}")
        if self.is_main:
            write_checkpoint(path, self.state())

    def export(self, path: Path, provenance: dict[str, Any] | None = None, dtype: torch.dtype = torch.float32) -> None:
        """Write the averaged weights as a weights file; the main process alone does."""
        if not self.is_main:
            return
        recipe = self.recipe
        origin = {**(provenance or {}), "recipe": asdict(recipe), "iterations": self.iteration}
        card = ModelCard(recipe.diffusion or recipe.denoiser, recipe.sampling, path.parent.name, origin)
        with self.averaged() as denoiser:
            save_weights(path, denoiser, card, dtype)

"""A training run: its state, one step of it, and its checkpoint; on one process or on many."""

from __future__ import annotations

import json
import math
import sys
import time
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
from exposurediffusion.models.denoiser import ExposureDenoiser
from exposurediffusion.pictures.views import CleanViews
from exposurediffusion.training.batches import Batch, Patches, batches
from exposurediffusion.training.captures import CaptureMaker, Captures
from exposurediffusion.training.checkpoints import differences, kept, read_checkpoint, write_checkpoint
from exposurediffusion.training.loss import loss_of
from exposurediffusion.training.recipe import Execution, Recipe
from exposurediffusion.weights.file import ModelCard, load, load_diffusion, save_weights


class NonFiniteLoss(Exception):
    """A loss or its gradient, or a weight, was not a number; the checkpoint on disk is of sound weights."""


class WorkerLost(Exception):
    """Another process of a distributed run has ended: the last checkpoint is whole."""


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
        reserve: minutes to keep for what is written at the end; the main process's counts.
        average: the averaged weights, by name.
    """

    def __init__(
        self,
        recipe: Recipe,
        execution: Execution = Execution(device="cpu", precision="fp32"),
        minutes: float | None = None,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        if minutes is not None and not 0 < minutes < math.inf:
            raise ValueError(f"a run of {minutes:g} minutes does not train and end; give it more than 0")
        torch.manual_seed(recipe.seed)
        self.recipe, self.iteration, self.minutes = recipe, 0, minutes
        self.accelerator = execution.accelerator()
        self.device = torch.device(self.accelerator.device)
        self.loss = loss_of(recipe, execution.bf16_on(self.device)).to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = {name: p.detach().clone() for name, p in self.loss.denoiser.named_parameters()}
        self.optimizer = torch.optim.Adam(self.loss.parameters(), lr=1.0, betas=recipe.optimizer.betas, fused=True)
        self._make_moments()
        if execution.compile:
            self.loss.denoiser.backbone.compile(dynamic=False)
        self.capture = CaptureMaker(recipe.capture, recipe.seed, recipe.denoiser.white)
        self._share, self.reserve = 0.0, 0.0
        self._spent, self._begun = 0.0, time.monotonic()
        self._read_at = self._restored_at = 0
        self._stepping_since: float | None = None
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
    def spent(self) -> float:
        """Minutes of this run, earlier sessions included."""
        return self._spent + (time.monotonic() - self._begun) / 60

    @property
    def done(self) -> float:
        """The share of the run that is done: of its iterations, or of its time as of the last reading."""
        return self.iteration / self.recipe.iterations if self.minutes is None else self._share

    @property
    def rate(self) -> float:
        """The learning rate of the next step."""
        return self.recipe.rate_at(self.done, self.iteration)

    def batches(self, patches: Patches | CleanViews, workers: int) -> Iterator[Batch]:
        """This process's share of the batches that are still to come."""
        if self.minutes is not None:
            return self._batches(patches, self.iteration, sys.maxsize // 2 if self.done < 1 else 0, workers)
        return self._batches(patches, self.iteration, self.recipe.iterations - self.iteration, workers)

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
        if self._stepping_since is None:
            self._stepping_since = self.spent
        with self._peers():
            captures = self.capture(batch.to(self.device), self.iteration, self.accelerator.process_index)
            loss = self._gradients(captures)
            bound = self.recipe.optimizer.clip_norm or math.inf
            norm = torch.nn.utils.clip_grad_norm_(self.loss.parameters(), bound, foreach=True)
            bad = self._sum(1 - (loss.isfinite() & norm.isfinite()).float()) > 0
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate
        self.optimizer.found_inf = bad.float()  # type: ignore[attr-defined]  # as a gradient scaler tells it to skip
        self.optimizer.step()
        self._losses += torch.where(bad, 0.0, loss)
        self._ruined = torch.where(bad & (self._ruined < 0), float(self.iteration), self._ruined)
        self.iteration += 1
        self._average()

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
        with self._peers():
            loss = self.loss(captures, self.recipe.steps_at(self.done))
            return self._finite() and bool(self._sum(1 - loss.isfinite().float()) == 0)

    @torch.no_grad()
    def _finite(self) -> bool:
        """Whether all weights and their averages are numbers; they are the same in all processes."""
        return all(bool(tensor.isfinite().all()) for tensor in (*self.loss.parameters(), *self.average.values()))

    def read(self, stop: bool = False) -> Reading:
        """What the iterations since the last reading gave; waits for the device.

        Args:
            stop: this process was asked to stop.

        Raises:
            WorkerLost: another process does not answer.
        """
        count = max(1, self.iteration - self._read_at) * self.accelerator.num_processes
        told = self._losses.new_tensor([float(stop), self._share_of_time() if self.is_main else 0.0])
        with self._peers():
            loss, stopping, self._share = self._sum(torch.cat([(self._losses / count)[None], told])).tolist()
        ruined = int(self._ruined)
        self._losses.zero_()
        self._read_at, self._stepping_since = self.iteration, None
        return Reading(loss, stopping > 0, None if ruined < 0 else ruined)

    def _share_of_time(self) -> float:
        """Of the time that there is for steps; 1 as soon as as many as since the last reading would exceed it."""
        if self.minutes is None:
            return 0.0
        spent, usable = self.spent, self.minutes - self.reserve
        again = 0.0  # of the first steps of a session it is not known what is their own, and what is setting up
        if self._read_at > self._restored_at and self._stepping_since is not None:
            again = spent - self._stepping_since
        return 1.0 if spent + again >= usable else max(self._share, spent / usable)

    def _sum(self, value: Tensor) -> Tensor:
        """Over all processes, which is for the device to wait for."""
        if self.accelerator.num_processes == 1:
            return value
        total = self.accelerator.reduce(value, "sum")
        assert isinstance(total, Tensor)
        return total

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
        now = [p.detach() for p in self.loss.denoiser.parameters()]
        torch._foreach_lerp_(list(self.average.values()), now, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]

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
            "spent": self.spent,
            "minutes": self.minutes,
            "share": self._share,
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
        state = read_checkpoint(path, self.recipe, self.accelerator.num_processes, self.minutes is not None)
        try:
            self._take(state)
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: a checkpoint of another version, or damaged: remove it to begin anew") from error

    def _take(self, state: dict[str, Any]) -> None:
        """Be as `state` says."""
        self.iteration = self._read_at = self._restored_at = state["iteration"]
        self._spent, self._begun = state["spent"], time.monotonic()
        if self.minutes is not None:  # more or less time than before is another place in the schedule
            same = state["minutes"] == self.minutes
            self._share = state["share"] if same else min(1.0, self.spent / self.minutes)
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
            changed = differences(asdict(model.card.denoiser), asdict(wanted))
            raise ValueError(
                f"{weights}: weights of another network ({', '.join(changed)}): take the preset that made them"
            )
        self._load(dict(model.named_parameters()))
        self.average = {name: p.detach().clone() for name, p in model.named_parameters()}

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
        origin = {**(provenance or {}), "recipe": recipe.to_dict(), "iterations": self.iteration}
        card = ModelCard(recipe.diffusion or recipe.denoiser, recipe.sampling, path.parent.name, origin)
        with self.averaged() as denoiser:
            save_weights(path, denoiser, card, dtype)

"""Checkpoint files of training runs: written whole or not at all, and taken only by the run that they are of."""

from __future__ import annotations

import io
import json
import os
import zlib
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from exposurediffusion.files.atomic import atomic
from exposurediffusion.files.made import MadeOtherwise
from exposurediffusion.physics.plain import build, fitting, parse_json
from exposurediffusion.physics.ranges import check
from exposurediffusion.training.recipe import Recipe

_MARK = b"\ncrc32:"  # what follows is the checksum of all that is before, eight hexadecimal digits


class DamagedError(ValueError):
    """A checkpoint that is not as it was written."""


def earlier(path: Path) -> Path:
    """Where the checkpoint before this one is kept, should this one be damaged."""
    return path.with_name(f"{path.stem}-before{path.suffix}")


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write the state of a run (`Run.state`), whole or not at all; the one before it is kept as `earlier(path)`.

    Raises:
        OSError: it cannot be written; what was there before stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    torch.save(state, content)
    with atomic(path) as stream:
        stream.write(content.getbuffer())
        stream.write(_MARK + b"%08x" % zlib.crc32(content.getbuffer()))
        with suppress(OSError):  # there is none yet, or the file system has no links
            earlier(path).unlink(missing_ok=True)
            os.link(path, earlier(path))


def read_checkpoint(path: Path, recipe: Recipe, processes: int, by_time: bool, loss: nn.Module) -> dict[str, Any]:
    """The state of a run, read by PyTorch's restricted loader, tensors on the CPU.

    Args:
        path: the file.
        recipe: of the run that goes on.
        processes: that it has.
        by_time: whether it ends by time (`minutes`), not by iterations.
        loss: whose parameters it has.

    Raises:
        DamagedError: it is not as it was written.
        ValueError: it is of another recipe, number of processes, or measure of its length.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); choose another output folder") from error
    whole, mark, digits = content.rpartition(_MARK)
    if mark and digits != b"%08x" % zlib.crc32(whole):
        raise DamagedError(f"{path}: damaged, its checksum is wrong: {_remedy(path)}")
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        fitting(state, dict[str, Any], "it")
        known, before = parse_json(state["recipe"]), state["processes"]
    except MemoryError:
        raise
    except Exception as error:  # the loader raises whatever garbage leads to
        raise DamagedError(f"{path}: not a checkpoint, or damaged: {_remedy(path)}") from error
    changed = differences(known, json.loads(json.dumps(asdict(recipe))))
    if changed:
        raise MadeOtherwise(
            f"{path} is of another recipe ({', '.join(changed[:4])}): choose another output folder, or remove it"
        )
    if before != processes:
        raise MadeOtherwise(
            f"{path} was written by {before} processes, this run has {processes}: "
            "the order of the data would change; use as many, or choose another output folder"
        )
    if (state.get("minutes") is not None) != by_time:
        length = "iterations" if by_time else "minutes"
        raise ValueError(f"{path} is of a run by {length}: go on by these, or choose another output folder")
    try:
        _check_state(state, loss)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise DamagedError(f"{path}: a checkpoint of another version, or damaged: remove it to begin anew") from error
    return state


@dataclass(frozen=True)
class _Facts:
    """What a checkpoint says besides its tensors."""

    iteration: int
    spent: float
    minutes: float | None
    share: float

    def __post_init__(self) -> None:
        check(self, "checkpoint", share=(0, 1))


def _check_state(state: dict[str, Any], loss: nn.Module) -> None:
    """Raise ValueError unless the numbers of a run's state are of the right kind, finite, and for these parameters."""
    build(_Facts, {field.name: state[field.name] for field in fields(_Facts)}, "checkpoint")
    groups, seen = [state[name] for name in ("model", "average", "optimizer")], set[int]()
    while groups:
        group = groups.pop()
        if id(group) not in seen:
            seen.add(id(group))
            for value in group.values() if isinstance(group, dict) else group:
                if isinstance(value, dict | list | tuple):
                    groups.append(value)
                elif isinstance(value, torch.Tensor | float) and not bool(torch.as_tensor(value).isfinite().all()):
                    raise ValueError("it holds what is no number")
    shapes = {name: parameter.shape for name, parameter in loss.named_parameters() if name.startswith("denoiser.")}
    if {f"denoiser.{name}": tensor.shape for name, tensor in state["average"].items()} != shapes:
        raise ValueError("averages of another network")
    for place, parameter in enumerate(loss.parameters()):
        moments = state["optimizer"]["state"][place]
        if any(moments[name].shape != parameter.shape for name in ("exp_avg", "exp_avg_sq")):
            raise ValueError("moments of another network")


def kept(path: Path) -> str:
    """What there is of a run whose present weights are not worth keeping, and what to do."""
    there = f"{path}, of an earlier iteration, stays" if path.exists() else "there is no checkpoint"
    return f"{there}; begin anew in another folder with a lower --optimizer.lr, or a --optimizer.clip-norm of 1"


def _remedy(path: Path) -> str:
    """What to do about a checkpoint that is no good."""
    weights = path.with_suffix(".safetensors")
    begin = f"begin from its weights by --initial {weights} in another folder, or " if weights.is_file() else ""
    return f"{begin}remove it to begin anew"


def differences(first: Any, second: Any, name: str = "") -> list[str]:
    """The fields in which two recipes or networks differ, each with both values."""
    if isinstance(first, dict) and isinstance(second, dict):
        keys = sorted(first.keys() | second.keys())
        inner = (differences(first.get(k), second.get(k), f"{name}.{k}".lstrip(".")) for k in keys)
        return [difference for found in inner for difference in found]
    return [] if first == second else [f"{name} {first} there, {second} here"]


class NonFiniteLoss(Exception):
    """A loss or its gradient, or a weight, was not a number; the checkpoint on disk is of sound weights."""

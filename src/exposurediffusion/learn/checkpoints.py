"""Checkpoint files of training runs: written whole or not at all, and taken only by the run that they are of."""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path
from typing import Any

import torch

from exposurediffusion.data.files import atomic
from exposurediffusion.learn.recipe import Recipe


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write the state of a run (`Run.state`), whole or not at all.

    Raises:
        OSError: it cannot be written; what was there before stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    torch.save(state, content)
    with atomic(path) as stream:
        stream.write(content.getbuffer())


def read_checkpoint(path: Path, recipe: Recipe, processes: int, by_time: bool) -> dict[str, Any]:
    """The state of a run, read by PyTorch's restricted loader, tensors on the CPU.

    Args:
        path: the file.
        recipe: of the run that goes on.
        processes: that it has.
        by_time: whether it ends by time (`minutes`), not by iterations.

    Raises:
        ValueError: it is damaged, or of another recipe, number of processes, or measure of its length.
    """
    content = io.BytesIO(path.read_bytes())  # of a file cut short PyTorch would say "invalid argument"
    try:
        state = torch.load(content, map_location="cpu", weights_only=True)
        known, before = json.loads(state["recipe"]), state["processes"]
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not a checkpoint, or damaged: remove it to begin anew") from error
    changed = differences(known, json.loads(json.dumps(recipe.to_dict())))
    if changed:
        raise ValueError(
            f"{path} is of another recipe ({', '.join(changed[:4])}): choose another output folder, or remove it"
        )
    if before != processes:
        raise ValueError(
            f"{path} was written by {before} processes, this run has {processes}: "
            "the order of the data would change; use as many, or choose another output folder"
        )
    if (state.get("minutes") is not None) != by_time:
        length = "iterations" if by_time else "minutes"
        raise ValueError(f"{path} is of a run by {length}: go on by these, or choose another output folder")
    return state


def differences(first: Any, second: Any, name: str = "") -> list[str]:
    """The fields in which two recipes or networks differ, each with both values."""
    if isinstance(first, dict) and isinstance(second, dict):
        keys = sorted(first.keys() | second.keys())
        inner = (differences(first.get(k), second.get(k), f"{name}.{k}".lstrip(".")) for k in keys)
        return [difference for found in inner for difference in found]
    return [] if first == second else [f"{name} {first} there, {second} here"]

"""The authors' `.pt` checkpoints, turned into weights of this package.

Only tensors are read, by PyTorch's restricted loader; nothing else in a checkpoint is ever unpickled. Every
hyper-parameter is found from the tensors' shapes, so the checkpoint is all that is needed.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from exposurediffusion.models.denoiser import DenoiserConfig
from exposurediffusion.process.sampling import Sampling
from exposurediffusion.weights.file import LARGEST_WEIGHT, ModelCard, TrainedDenoiser, save_weights

PUBLISHED = Sampling(steps=2, schedule="official", transition="restart", increment="sampled", clamp=(0.0, 1.0))
"""How the released experiments run; the published numbers come from it."""

# (planes in, planes out) of a network -> its configuration. Out: 1 + 2 n with the adaptive residual layer, else n.
_LAYOUTS: dict[tuple[int, int], dict[str, Any]] = {
    (n * (1 + photons + origin), 1 + 2 * n if adaptive else n): {
        "planes": n,
        "photons": photons,
        "origin": origin,
        "adaptive_residual": adaptive,
    }
    for n in (4, 9)
    for photons, origin in ((False, False), (True, False), (True, True))
    for adaptive in (False, True)
}


def from_official(checkpoint: Path | Mapping[str, Any]) -> TrainedDenoiser:
    """A checkpoint of the authors, ready for inference.

    UNet and NAFNet of any width, NAFNet of any depth; with or without photon planes, origin planes and the adaptive
    residual layer; Bayer or X-Trans.

    Args:
        checkpoint: a `.pt` file, or what it holds: a dictionary with `netG`, or the network's state dict itself.

    Raises:
        ValueError: the file is not such a checkpoint or holds other objects than tensors; a tensor is missing, unknown
            or of another shape than the rest implies.
    """
    if isinstance(checkpoint, Path):
        try:
            return _convert(_load(checkpoint), checkpoint.stem)
        except ValueError as error:
            raise ValueError(f"{checkpoint}: {error}") from error
    return _convert(checkpoint, "official")


def convert(checkpoint: Path, output: Path) -> TrainedDenoiser:
    """Write a checkpoint of the authors as a weights file (.safetensors), and give the model.

    Raises:
        ValueError: see `from_official`; nothing is written then.
    """
    model = from_official(checkpoint)
    save_weights(output, model, model.card)
    return model


def _load(path: Path) -> Any:
    """What the file holds, by the restricted loader alone."""
    if not path.is_file():
        raise ValueError("no such file")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+) was not an allowed global", str(error))
        what = f" ({found[1]})" if found else ""
        raise ValueError(
            f"holds pickled objects besides tensors{what}, which could run code: refused, nothing was unpickled. "
            "Ask for a file that holds the state dict alone"
        ) from error
    except Exception as error:  # the loader raises whatever garbage leads to: KeyError, EOFError, OSError, ...
        raise ValueError(f"not a PyTorch checkpoint, or a damaged one ({type(error).__name__}: {error})") from error


def _convert(content: Any, name: str) -> TrainedDenoiser:
    state = _state_dict(content)
    if "conv1_1.weight" in state or "conv10_1.weight" in state:
        config, rename = _unet(state), _unet_name
    elif "intro.weight" in state or "ending.weight" in state:
        config, rename = _nafnet(state), _nafnet_name
    else:
        raise ValueError(f"neither a UNet nor a NAFNet of the authors: its tensors are {_listed(list(state))}")
    exposed = config.photons or config.adaptive_residual
    sampling = PUBLISHED if exposed else replace(PUBLISHED, steps=0)
    card = ModelCard(config, sampling, name, {"source": "the authors' checkpoint", **_progress(content)})
    with torch.device("meta"):
        model = TrainedDenoiser(card)
    names = {rename(ours.removeprefix("backbone.")): ours for ours in model.state_dict()}
    _check(state, {theirs: tuple(model.state_dict()[ours].shape) for theirs, ours in names.items()})
    tensors = {ours: state[theirs].detach().float().clone() for theirs, ours in names.items()}
    if wrong := [name for name, tensor in tensors.items() if not float(tensor.abs().max()) <= LARGEST_WEIGHT]:
        raise ValueError(f"the tensors {_listed(wrong)} have values that are no numbers, or beyond {LARGEST_WEIGHT:g}")
    model.load_state_dict(tensors, assign=True)
    return model.eval().requires_grad_(False)


def _state_dict(content: Any) -> dict[str, Tensor]:
    """The network's tensors by the authors' names, without the prefix of data-parallel training."""
    state = content.get("netG", content) if isinstance(content, Mapping) else content
    entries = dict(state) if isinstance(state, Mapping) else {}
    views = [str(key) for key, value in entries.items() if isinstance(value, Tensor) and _is_blown_up(value)]
    if views:
        raise ValueError(f"the tensors {_listed(views)} claim more numbers than the file holds")
    strange = [f"{key} ({type(value).__name__})" for key, value in entries.items() if not isinstance(value, Tensor)]
    if "recipe" in entries:
        raise ValueError(
            "a checkpoint of `expose train`, which needs no conversion: beside it is checkpoint.safetensors"
        )
    if strange or not entries:
        what = f"it also holds {_listed(strange)}" if strange else f"it is a {type(state).__name__} without any"
        raise ValueError(f"not a dictionary of tensors: {what}")
    return {str(key).removeprefix("module."): value for key, value in entries.items()}


def _is_blown_up(tensor: Tensor) -> bool:
    """Whether a tensor repeats what it stores, so that a copy would be larger than the file; networks' never do."""
    return tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes()


def _progress(content: Mapping[str, Any]) -> dict[str, int]:
    """How long the network was trained, if the checkpoint says so."""
    return {key: content[key] for key in ("epoch", "iterations") if isinstance(content.get(key), int)}


def _unet(state: Mapping[str, Tensor]) -> DenoiserConfig:
    width, in_channels = _convolution(state, "conv1_1.weight")
    out_channels, _ = _convolution(state, "conv10_1.weight")
    return DenoiserConfig("unet", {"width": width, "depth": 4}, **_layout(in_channels, out_channels))


def _nafnet(state: Mapping[str, Tensor]) -> DenoiserConfig:
    width, in_channels = _convolution(state, "intro.weight")
    out_channels, _ = _convolution(state, "ending.weight")
    levels = _count(state, r"(?:downs|ups)\.(\d+)\.")
    options = {
        "width": width,
        "encoders": [_count(state, rf"encoders\.{level}\.(\d+)\.") for level in range(levels)],
        "middle": _count(state, r"middle_blks\.(\d+)\."),
        "decoders": [_count(state, rf"decoders\.{level}\.(\d+)\.") for level in range(levels)],
    }
    return DenoiserConfig("nafnet", options, **_layout(in_channels, out_channels))


def _convolution(state: Mapping[str, Tensor], name: str) -> tuple[int, int]:
    """Channels out and in of a convolution."""
    if name not in state:
        raise ValueError(f"the tensor {name} is missing")
    if state[name].ndim != 4:
        raise ValueError(f"the tensor {name} has the shape {tuple(state[name].shape)}, not that of a convolution")
    return state[name].shape[0], state[name].shape[1]


def _layout(in_channels: int, out_channels: int) -> dict[str, Any]:
    layout = _LAYOUTS.get((in_channels, out_channels))
    if layout is None:
        known = ", ".join(f"{a}->{b}" for a, b in _LAYOUTS)
        raise ValueError(f"the network has {in_channels} planes in and {out_channels} out; known are {known}")
    return layout


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    """Number of parts of a kind, by the highest index among the tensors' names."""
    count = max((int(found[1]) + 1 for key in state if (found := re.match(pattern, key))), default=0)
    if count > len(state):
        raise ValueError(f"the tensors' names count up to {count - 1}, but there are only {len(state)}")
    return count


def _unet_name(ours: str) -> str:
    """The authors' name of a tensor of `models.unet.UNet`; their levels are numbered down and up again, 1 to 9."""
    part, *rest = ours.split(".")
    if part == "head":
        return ".".join(["conv10_1", *rest])
    if part == "ups":
        return f"upv{6 + int(rest[0])}.{rest[1]}"
    level = int(rest[0]) + (1 if part == "encoders" else 6)
    return f"conv{level}_{1 if rest[1] == 'first' else 2}.{rest[2]}"


def _nafnet_name(ours: str) -> str:
    """The authors' name of a tensor of `models.nafnet.NAFNet`."""
    theirs = re.sub(r"^middle\.", "middle_blks.", ours.replace(".attention.", ".sca.1."))
    return re.sub(r"^ups\.(\d+)\.", r"ups.\1.0.", theirs)


def _check(state: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Compare the tensors with what the network needs, and name those that differ."""
    missing = [name for name in expected if name not in state]
    unexpected = [name for name in state if name not in expected]
    wrong = [
        f"{name} has the shape {tuple(state[name].shape)}, needs {shape}"
        for name, shape in expected.items()
        if name in state and tuple(state[name].shape) != shape
    ]
    problems = {"missing": missing, "unexpected": unexpected, "wrong shape": wrong}
    if found := [f"{problem}: {_listed(names)}" for problem, names in problems.items() if names]:
        raise ValueError(f"the tensors do not fit together; {'; '.join(found)}")


def _listed(names: list[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more

"""Weights files: safetensors whose header holds everything that is needed to build and run the model."""

from __future__ import annotations

import hashlib
import json
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from exposurediffusion.baselines.bm3d import import_extra
from exposurediffusion.baselines.diffusion import ConditionalDiffusion, DiffusionConfig
from exposurediffusion.files.atomic import atomic, safetensors_bytes
from exposurediffusion.models.denoiser import DenoiserConfig, ExposureDenoiser
from exposurediffusion.process.sampling import Sampling, StepRule

FORMAT = "exposurediffusion/1"
PRETRAINED: dict[str, str] = {"default": "default.safetensors"}
"""Weights inside the package: name -> file in `exposurediffusion/weights/pretrained`."""


@dataclass(frozen=True)
class ModelCard:
    """What travels in the header of a weights file.

    Attributes:
        denoiser: the network; or the conditional diffusion model that the paper compares with.
        sampling: how it wants to be run unless the user says otherwise.
        name: for people.
        training: provenance, e.g. preset, seed, iterations, data.
        rule: number of steps by noise level, for this very way of sampling; None: always `sampling.steps`.
    """

    denoiser: DenoiserConfig | DiffusionConfig
    sampling: Sampling = Sampling()
    name: str = ""
    training: dict[str, Any] = field(default_factory=dict)
    rule: StepRule | None = None

    def steps(self, level: float) -> int:
        """T for a capture with this noise level."""
        return self.sampling.steps if self.rule is None else self.rule.steps(level)

    def to_json(self) -> str:
        """As JSON text."""
        kind = "denoiser" if isinstance(self.denoiser, DenoiserConfig) else "diffusion"
        content = {kind: self.denoiser.to_dict(), "sampling": self.sampling.to_dict()}
        if self.rule is not None:
            content["rule"] = self.rule.to_dict()
        return json.dumps({**content, "name": self.name, "training": self.training}, sort_keys=True)

    @staticmethod
    def from_json(text: str) -> ModelCard:
        """Inverse of `to_json`.

        Raises:
            ValueError: not such a text, or from another version.
        """
        try:
            content = json.loads(text)
            if "diffusion" in content:
                denoiser = DiffusionConfig(
                    **{**content["diffusion"], "channels": tuple(content["diffusion"]["channels"])}
                )
            else:
                denoiser = DenoiserConfig(**content["denoiser"])
            rule = None if content.get("rule") is None else StepRule.from_dict(content["rule"])
            sampling = Sampling.from_dict(content["sampling"])
            return ModelCard(denoiser, sampling, content["name"], content["training"], rule)
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"the header does not describe a model ({error})") from error


class TrainedDenoiser(ExposureDenoiser):
    """An `ExposureDenoiser` that knows how it wants to be run."""

    def __init__(self, card: ModelCard) -> None:
        if not isinstance(card.denoiser, DenoiserConfig):
            raise TypeError("the card is of a diffusion model")
        super().__init__(card.denoiser)
        self.card = card


class TrainedDiffusion(ConditionalDiffusion):
    """A `ConditionalDiffusion` that knows how it wants to be run."""

    def __init__(self, card: ModelCard) -> None:
        if not isinstance(card.denoiser, DiffusionConfig):
            raise TypeError("the card is of a denoiser")
        super().__init__(card.denoiser)
        self.card = card


def save_weights(
    path: Path, model: ExposureDenoiser | ConditionalDiffusion, card: ModelCard, dtype: torch.dtype = torch.float32
) -> None:
    """Write a weights file, whole or not at all.

    Args:
        path: ends in .safetensors.
        model: its parameters are stored.
        card: goes into the header.
        dtype: of the stored parameters; bfloat16 or float16 halve the file.
    """
    tensors = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in model.state_dict().items()}
    _write(path, tensors, card)


def store_rule(path: Path, rule: StepRule | None) -> None:
    """Put a rule for the number of steps into the header of a weights file; its tensors stay as they are, bit for bit.

    Raises:
        ValueError: not a weights file of ours, or a diffusion model, whose steps are another matter.
    """
    card, tensors = _read(path)
    if isinstance(card.denoiser, DiffusionConfig):
        raise ValueError(f"{path}: a diffusion model simulates no exposures")
    _write(path, tensors, replace(card, rule=rule))


def _write(path: Path, tensors: dict[str, Tensor], card: ModelCard) -> None:
    content = safetensors_bytes(tensors, {"format": FORMAT, "card": card.to_json()})
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as stream:
        stream.write(content)


def load(name_or_file: str | Path = "default", device: torch.device | str = "cpu") -> TrainedDenoiser:
    """A trained model, ready for inference.

    Args:
        name_or_file: a name in `PRETRAINED`, or a .safetensors file of ours.
        device: where the parameters go (float32).

    Raises:
        ValueError: no such name or file, not our format, tensors that do not fit the header, or a diffusion model.
    """
    card, tensors = _read_named(name_or_file)
    if isinstance(card.denoiser, DiffusionConfig):
        raise ValueError(f"{name_or_file}: a diffusion model, for comparisons only; `load_diffusion` reads it")
    return _filled(TrainedDenoiser, card, tensors, name_or_file).to(device)


def load_diffusion(name_or_file: str | Path, device: torch.device | str = "cpu") -> TrainedDiffusion:
    """A trained conditional diffusion model (Table 7), ready for inference.

    Args:
        name_or_file: a .safetensors file of ours.
        device: where the parameters go (float32).

    Raises:
        ValueError: no such file, not our format, tensors that do not fit the header, another kind of model, or the
            extra `baselines` is missing.
    """
    card, tensors = _read_named(name_or_file)
    if not isinstance(card.denoiser, DiffusionConfig):
        raise ValueError(f"{name_or_file}: not a diffusion model; `load` reads it")
    import_extra("diffusers")  # say what is missing before anything is said of the file
    return _filled(TrainedDiffusion, card, tensors, name_or_file).to(device)


def load_any(name_or_file: str | Path, device: torch.device | str = "cpu") -> TrainedDenoiser | TrainedDiffusion:
    """A trained model of either kind; see `load` and `load_diffusion`.

    Raises:
        ValueError: as for these.
    """
    card, _ = _read_named(name_or_file)
    return (load_diffusion if isinstance(card.denoiser, DiffusionConfig) else load)(name_or_file, device)


def weights_name(name_or_file: str | Path) -> str:
    """What weights are called in tables: a run's by its folder, others by their file."""
    path = Path(name_or_file)
    return path.absolute().parent.name if path.stem in ("weights", "checkpoint") else path.stem


def weights_digest(name_or_file: str | Path) -> str:
    """The first 12 digits of the SHA-256 of a weights file."""
    with _path_of(name_or_file) as path:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


_Model = TypeVar("_Model", TrainedDenoiser, TrainedDiffusion)


def _filled(kind: type[_Model], card: ModelCard, tensors: dict[str, Tensor], origin: str | Path) -> _Model:
    """The network that a header describes, with the tensors of its file."""
    try:
        model = kind(card)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{origin}: the header does not describe a network ({error})") from error
    try:
        model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    except RuntimeError as error:
        raise ValueError(f"{origin}: the tensors do not fit the header ({error})") from error
    return model.eval().requires_grad_(False)


def _read_named(name_or_file: str | Path) -> tuple[ModelCard, dict[str, Tensor]]:
    with _path_of(name_or_file) as path:
        return _read(path)


def _path_of(name_or_file: str | Path) -> AbstractContextManager[Path]:
    if str(name_or_file) in PRETRAINED:
        files = resources.files("exposurediffusion.weights") / "pretrained" / PRETRAINED[str(name_or_file)]
        return resources.as_file(files)
    path = Path(name_or_file)
    if not path.is_file():
        raise ValueError(
            f"no weights {str(name_or_file)!r}: give a .safetensors file or one of {', '.join(PRETRAINED)}"
        )
    return resources.as_file(path)


def _read(path: Path) -> tuple[ModelCard, dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError) as error:
        hint = "; convert the authors' .pt checkpoints with `expose convert`" if path.suffix in (".pt", ".pth") else ""
        raise ValueError(f"{path}: not a safetensors file ({error}){hint}") from error
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path}: not weights of this program (format {metadata.get('format')!r}, not {FORMAT!r})")
    try:
        return ModelCard.from_json(metadata["card"]), tensors
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error

"""Weights files: safetensors whose header holds everything that is needed to build and run the model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any, get_type_hints

import torch
from safetensors import SafetensorError
from safetensors.torch import load as safetensors_load
from torch import Tensor

from exposurediffusion.baselines.diffusion import ConditionalDiffusion, DiffusionConfig
from exposurediffusion.files.atomic import atomic, safetensors_bytes
from exposurediffusion.models.denoiser import BACKBONES, RANGES, DenoiserConfig, ExposureDenoiser
from exposurediffusion.models.device import find_device
from exposurediffusion.physics.plain import build, fitting, parse_json
from exposurediffusion.physics.ranges import check
from exposurediffusion.process.sampling import Sampling, StepRule

FORMAT = "exposurediffusion/1"
PRETRAINED: dict[str, str] = {"default": "default.safetensors"}
"""Weights inside the package: name -> file in `exposurediffusion/weights/pretrained`."""
MOST_TENSORS, LARGEST_WEIGHT, _MOST_BYTES = 4096, 1e6, 1 << 32
"""Of a weights file: tensors, and the size of a parameter; beyond them it is damaged, or made to do harm."""


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
        content = {kind: asdict(self.denoiser), "sampling": asdict(self.sampling)}
        if self.rule is not None:
            content["rule"] = asdict(self.rule)
        return json.dumps({**content, "name": self.name, "training": self.training}, sort_keys=True)

    @staticmethod
    def from_json(text: str) -> ModelCard:
        """Inverse of `to_json`.

        Raises:
            ValueError: not such a text, or from another version; a field that is wrong is named.
        """
        try:
            content = parse_json(text)
            if "diffusion" in content:
                denoiser = DiffusionConfig.from_dict(content["diffusion"])
            else:
                denoiser = _denoiser(content["denoiser"])
            rule = None if content.get("rule") is None else StepRule.from_dict(content["rule"])
            sampling = Sampling.from_dict(content["sampling"])
            name, training = fitting(content["name"], str, "name"), content["training"]
            return ModelCard(denoiser, sampling, name, fitting(training, dict[str, Any], "training"), rule)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"the header does not describe a model ({error})") from error


def _denoiser(values: Any) -> DenoiserConfig:
    """A network's configuration from JSON, the options of its backbone of the right kinds."""
    config = build(DenoiserConfig, values, "denoiser")
    kinds = get_type_hints(BACKBONES[config.backbone].__init__) if config.backbone in BACKBONES else {}
    for option, value in config.options.items():
        fitting(value, kinds.get(option, Any), f"denoiser.options.{option}")
    check(config, "denoiser", **RANGES)
    return config


class TrainedDenoiser(ExposureDenoiser):
    """An `ExposureDenoiser` that knows how it wants to be run; `digest`: of its file, see `read_weights`."""

    def __init__(self, card: ModelCard, digest: str = "") -> None:
        if not isinstance(card.denoiser, DenoiserConfig):
            raise TypeError("the card is of a diffusion model")
        super().__init__(card.denoiser)
        self.card, self.digest = card, digest


class TrainedDiffusion(ConditionalDiffusion):
    """A `ConditionalDiffusion` that knows how it wants to be run; `digest`: of its file, see `read_weights`."""

    def __init__(self, card: ModelCard, digest: str = "") -> None:
        if not isinstance(card.denoiser, DiffusionConfig):
            raise TypeError("the card is of a denoiser")
        super().__init__(card.denoiser)
        self.card, self.digest = card, digest


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
    card, tensors, _ = read_weights(path)
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
        device: where the parameters go (float32); auto: a GPU, if there is one.

    Raises:
        ValueError: no such name, file or device, not our format, tensors that do not fit the header, or a diffusion
            model.
    """
    model = load_any(name_or_file, device)
    if not isinstance(model, TrainedDenoiser):
        raise ValueError(f"{name_or_file}: a diffusion model, for comparisons only; `load_diffusion` reads it")
    return model


def load_diffusion(name_or_file: str | Path, device: torch.device | str = "cpu") -> TrainedDiffusion:
    """A trained conditional diffusion model (Table 7), ready for inference; see `load`.

    Raises:
        ValueError: as for `load_any`, or another kind of model.
    """
    model = load_any(name_or_file, device)
    if not isinstance(model, TrainedDiffusion):
        raise ValueError(f"{name_or_file}: not a diffusion model; `load` reads it")
    return model


def load_any(name_or_file: str | Path, device: torch.device | str = "cpu") -> TrainedDenoiser | TrainedDiffusion:
    """A trained model of either kind, ready for inference; see `load`.

    Raises:
        ValueError: no such name or file, not our format, tensors that do not fit the header, or the extra `baselines`,
            which a diffusion model needs, is missing.
    """
    card, tensors, digest = read_weights(name_or_file)
    kind = TrainedDiffusion if isinstance(card.denoiser, DiffusionConfig) else TrainedDenoiser
    if 2 * (blocks := _blocks(card.denoiser)) > len(tensors):  # before memory is taken for what the file does not hold
        there = f"{len(tensors)} of them ({', '.join(list(tensors)[:3])}), {blocks} blocks of layers there"
        raise ValueError(f"{name_or_file}: the tensors do not fit the header; {there}")
    try:
        with torch.device("meta"):
            planned = kind(card).state_dict()
    except (ArithmeticError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{name_or_file}: the network of its header cannot be made ({error})") from error
    if wrong := _misfits(planned, tensors):
        raise ValueError(f"{name_or_file}: the tensors do not fit the header ({wrong})")
    model = kind(card, digest)
    model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return model.eval().requires_grad_(False).to(find_device(device) if isinstance(device, str) else device)


_COUNTS = ("depth", "encoders", "middle", "decoders")  # options of our networks; those of others may mean anything


def _blocks(config: DenoiserConfig | DiffusionConfig) -> int:
    """How many blocks of layers a network has, each of two tensors or more, as its options count them."""
    if isinstance(config, DiffusionConfig):
        return len(config.channels) * config.layers
    counts = [count for option, count in config.options.items() if option in _COUNTS]
    return sum(sum(count) if isinstance(count, list | tuple) else count for count in counts)


def _misfits(planned: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> str:
    """The first tensors that are missing, superfluous, or of another shape than the network's."""
    names = sorted(planned.keys() ^ tensors.keys())
    names += [name for name in planned.keys() & tensors.keys() if planned[name].shape != tensors[name].shape]

    def shape(of: Mapping[str, Tensor], name: str) -> str:
        return str(list(of[name].shape)) if name in of else "none"

    return "; ".join(f"{name}: {shape(tensors, name)}, wanted {shape(planned, name)}" for name in names[:5])


def weights_name(name_or_file: str | Path) -> str:
    """What weights are called in tables: a run's by its folder, others by their file."""
    path = Path(name_or_file)
    return path.absolute().parent.name if path.stem in ("weights", "checkpoint") else path.stem


def read_weights(name_or_file: str | Path) -> tuple[ModelCard, dict[str, Tensor], str]:
    """What a weights file holds, read once: its header, its tensors, and the first 12 digits of its SHA-256.

    Raises:
        ValueError: no such name or file, or not our format.
    """
    content = _content(name_or_file)
    try:
        tensors = safetensors_load(content)
        header = parse_json(content[8 : 8 + int.from_bytes(content[:8], "little")].decode())
    except (SafetensorError, ValueError) as error:
        old = Path(name_or_file).suffix in (".pt", ".pth")
        hint = "; convert the authors' .pt checkpoints with `expose convert`" if old else ""
        raise ValueError(f"{name_or_file}: not a safetensors file ({error}){hint}") from error
    metadata = header.get("__metadata__") or {}
    if (found := metadata.get("format")) != FORMAT:
        raise ValueError(f"{name_or_file}: not weights of this program (format {found!r}, not {FORMAT!r})")
    try:
        card = ModelCard.from_json(metadata["card"])
        _check_numbers(tensors)
    except (KeyError, ValueError) as error:
        raise ValueError(f"{name_or_file}: {error}") from error
    return card, tensors, hashlib.sha256(content).hexdigest()[:12]


def _check_numbers(tensors: Mapping[str, Tensor]) -> None:
    """Raise ValueError unless all parameters are numbers that a network can have."""
    if len(tensors) > MOST_TENSORS:
        raise ValueError(f"{len(tensors)} tensors, more than the {MOST_TENSORS} that are read")
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise ValueError(f"the tensor {name} is of {tensor.dtype}, not of floating-point numbers")
        if tensor.numel() and not float(tensor.float().abs().max()) <= LARGEST_WEIGHT:
            raise ValueError(f"damaged: the tensor {name} has values that are no numbers, or beyond {LARGEST_WEIGHT:g}")


def _content(name_or_file: str | Path) -> bytes:
    """The bytes of a weights file, or of those inside the package."""
    if str(name_or_file) in PRETRAINED:
        folder = resources.files("exposurediffusion.weights") / "pretrained"
        return (folder / PRETRAINED[str(name_or_file)]).read_bytes()
    path = Path(name_or_file)
    if not path.is_file():
        names = ", ".join(PRETRAINED)
        raise ValueError(f"no weights {str(name_or_file)!r}: give a .safetensors file or one of {names}")
    try:
        if (size := path.stat().st_size) > _MOST_BYTES:
            raise ValueError(f"{path}: {size} bytes, more than the {_MOST_BYTES} that are read")
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error

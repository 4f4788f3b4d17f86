"""Weights files: everything comes back from the file alone, and what is no such file is refused without harm."""

from __future__ import annotations

import json
import math
import pickle
import sys
from dataclasses import asdict, replace
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from exposurediffusion.baselines.diffusion import ConditionalDiffusion, DiffusionConfig
from exposurediffusion.models.denoiser import DenoiserConfig, Estimate, ExposureDenoiser
from exposurediffusion.models.device import best_device
from exposurediffusion.process.sampling import Sampling, StepRule
from exposurediffusion.weights.file import (
    FORMAT,
    PRETRAINED,
    ModelCard,
    TrainedDenoiser,
    TrainedDiffusion,
    load,
    load_any,
    load_diffusion,
    read_weights,
    save_weights,
    store_rule,
)

CONFIG = DenoiserConfig("unet", {"width": 4, "depth": 1}, origin=True, noise_map=True)
CARD = ModelCard(
    CONFIG,
    Sampling(steps=3, schedule="official", transition="restart", increment="sampled", clamp=(-4.0, 2.0)),
    "ours",
    {"seed": 3, "recipe": {"iterations": 7}},
)


@pytest.fixture
def model() -> ExposureDenoiser:
    torch.manual_seed(3)
    return ExposureDenoiser(CONFIG)


def estimate(model: ExposureDenoiser) -> Tensor:
    """What it says of a fixed state."""
    state = torch.rand((2, 4, 10, 14), generator=torch.Generator().manual_seed(8))
    denoise = model.denoiser(torch.tensor([100.0, 30.0]), torch.tensor([2.0, 5.0]), torch.tensor([3.0, 6.0]))
    with torch.no_grad():
        return denoise(state, torch.ones(2))


def header(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return file.metadata()


def test_saved_and_loaded_is_the_same_model(model: ExposureDenoiser, tmp_path: Path) -> None:
    save_weights(tmp_path / "new" / "a.safetensors", model, CARD)
    loaded = load(tmp_path / "new" / "a.safetensors")  # no other argument
    assert loaded.card == CARD
    assert loaded.config == CONFIG
    assert torch.equal(estimate(loaded), estimate(model))
    assert estimate(loaded).std() > 0.01
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.safetensors"]
    assert torch.equal(estimate(load(str(tmp_path / "new" / "a.safetensors"))), estimate(model))


def test_the_same_model_is_the_same_file(model: ExposureDenoiser, tmp_path: Path) -> None:
    for number in range(8):  # a header in any of two orders would pass one time in 128
        save_weights(tmp_path / f"{number}.safetensors", model, CARD)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def test_a_network_on_the_stabilised_scale_comes_back_as_it_was(tmp_path: Path) -> None:
    scales = {"widths": [4, 6], "encoders": [1, 1], "decoders": [1]}
    card = ModelCard(DenoiserConfig("resunet", scales, domain="stabilised", white=4.0), CARD.sampling)
    torch.manual_seed(3)
    model = ExposureDenoiser(card.denoiser)  # pyright: ignore[reportArgumentType]
    save_weights(tmp_path / "a.safetensors", model, card)
    loaded = load(tmp_path / "a.safetensors")
    assert loaded.card == card
    assert torch.equal(estimate(loaded), estimate(model))
    other = replace(card, denoiser=replace(card.denoiser, domain="linear", white=1.0))  # as before there was a scale
    assert ModelCard.from_json(other.to_json()) == other
    old = json.loads(other.to_json())
    del old["denoiser"]["domain"], old["denoiser"]["white"]
    assert ModelCard.from_json(json.dumps(old)) == other


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 2e-2), (torch.float16, 2e-3)])
def test_half_precision_is_half_the_file_and_close(
    dtype: torch.dtype, tolerance: float, model: ExposureDenoiser, tmp_path: Path
) -> None:
    save_weights(tmp_path / "a.safetensors", model, CARD, dtype)
    loaded = load(tmp_path / "a.safetensors")
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    for name, tensor in model.state_dict().items():  # rounded once, not twice
        assert torch.equal(loaded.state_dict()[name], tensor.to(dtype).float())
    difference = (estimate(loaded) - estimate(model)).abs().max()
    assert 0 < difference < tolerance
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        assert {file.get_tensor(name).dtype for name in model.state_dict()} == {dtype}


def test_a_file_is_read_once_and_known_by_its_digest(
    model: ExposureDenoiser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.safetensors"
    save_weights(path, model, CARD)
    content, reads = path.read_bytes(), []
    monkeypatch.setattr(Path, "read_bytes", lambda self: reads.append(self) or content)
    card, tensors, digest = read_weights(path)
    assert (card, digest) == (CARD, sha256(content).hexdigest()[:12])
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == {
        name: tuple(tensor.shape) for name, tensor in model.state_dict().items()
    }
    assert load_any(path).digest == load(path).digest == digest
    assert reads == [path] * 3


def test_header_alone_describes_the_model(model: ExposureDenoiser, tmp_path: Path) -> None:
    save_weights(tmp_path / "a.safetensors", model, CARD)
    metadata = header(tmp_path / "a.safetensors")
    assert metadata["format"] == FORMAT
    content = json.loads(metadata["card"])
    assert content["sampling"] == {
        "steps": 3,
        "schedule": "official",
        "transition": "restart",
        "increment": "sampled",
        "clamp": [-4.0, 2.0],
    }
    assert content["denoiser"] == asdict(CONFIG)
    assert set(content["denoiser"]) == set(DenoiserConfig.__dataclass_fields__)
    assert (content["name"], content["training"]) == ("ours", CARD.training)
    assert ModelCard.from_json(metadata["card"]) == CARD


@pytest.mark.parametrize("clamp", [None, (0.0, 1.0), (-4.0, 2.0)])
def test_clamp_survives_json_as_a_tuple(clamp: tuple[float, float] | None) -> None:
    card = replace(CARD, sampling=Sampling(clamp=clamp))
    assert ModelCard.from_json(card.to_json()).sampling.clamp == clamp


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '"text"',
        json.dumps({"denoiser": {"colour": 3}, "sampling": {}, "name": "", "training": {}}),
        json.dumps({"denoiser": {}, "sampling": {"schedule": "slow"}, "name": "", "training": {}}),
        json.dumps({"denoiser": {}, "sampling": {"clamp": 3}, "name": "", "training": {}}),
        json.dumps({"denoiser": None, "sampling": {}, "name": "", "training": {}}),
        json.dumps({"denoiser": {}, "sampling": {}, "name": ""}),
    ],
)
def test_broken_header_is_refused_by_the_file_that_has_it(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r".+"):
        ModelCard.from_json(text)
    save_file({"a": torch.zeros(1)}, tmp_path / "bad.safetensors", metadata={"format": FORMAT, "card": text})
    with pytest.raises(ValueError, match=r"bad\.safetensors: "):
        load(tmp_path / "bad.safetensors")


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"format": "exposurediffusion/0"}, {"card": "{}"}])
def test_foreign_safetensors_are_refused(metadata: dict[str, str] | None, tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, tmp_path / "foreign.safetensors", metadata=metadata)
    with pytest.raises(ValueError, match=r"foreign\.safetensors: not weights of this program \(format .*" + FORMAT):
        load(tmp_path / "foreign.safetensors")


def test_a_format_without_a_card_is_refused(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, tmp_path / "bare.safetensors", metadata={"format": FORMAT})
    with pytest.raises(ValueError, match=r"bare\.safetensors: .*card"):
        load(tmp_path / "bare.safetensors")


def test_missing_names_and_files_are_reported(tmp_path: Path) -> None:
    for missing in ("defualt", tmp_path / "none.safetensors", tmp_path, ""):
        with pytest.raises(ValueError, match=r"no weights .*give a \.safetensors file or one of default"):
            load(missing)


@pytest.mark.parametrize("content", [b"", b"{", b"I am a text, and no weights at all.\n" * 20, b"\x10" + b"\0" * 40])
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.safetensors: not a safetensors file") as info:
        load(tmp_path / "a.safetensors")
    assert "convert" not in str(info.value)


def test_a_file_cut_short_is_refused(model: ExposureDenoiser, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_weights(path, model, CARD)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"a\.safetensors: not a safetensors file"):
        load(path)


def without(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if name != "backbone.head.bias"}


def test_tensors_that_do_not_fit_the_header(model: ExposureDenoiser, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    metadata = {"format": FORMAT, "card": CARD.to_json()}
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    misfits = [
        (without(state), r"backbone\.head\.bias"),
        ({**state, "extra": torch.zeros(1)}, "extra"),
        ({**state, "backbone.head.bias": torch.zeros(5)}, r"backbone\.head\.bias"),
        ({"weight": torch.zeros(2)}, "weight"),
    ]
    for tensors, name in misfits:
        save_file(tensors, path, metadata=metadata)
        with pytest.raises(ValueError, match=r"(?s)a\.safetensors: the tensors do not fit the header.*" + name):
            load(path)


@pytest.mark.parametrize(
    "config",
    [
        DenoiserConfig("transformer"),
        DenoiserConfig("unet", {"heads": 3}),
        DenoiserConfig("unet", {"width": "wide"}),
        DenoiserConfig("unet", {"width": -4}),
    ],
)
def test_a_header_of_an_impossible_network_is_refused(config: DenoiserConfig, tmp_path: Path) -> None:
    metadata = {"format": FORMAT, "card": ModelCard(config).to_json()}
    save_file({"a": torch.zeros(1)}, tmp_path / "odd.safetensors", metadata=metadata)
    with pytest.raises(ValueError, match=r"odd\.safetensors: "):
        load(tmp_path / "odd.safetensors")


class Bomb:
    """An object that leaves a trace when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.trace,))


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
def test_pickles_are_never_executed(form: str, suffix: str, tmp_path: Path) -> None:
    trace, path = tmp_path / "trace", tmp_path / f"run{suffix}"
    if form == "pickle":
        path.write_bytes(pickle.dumps(Bomb(trace)))
    else:
        torch.save({"netG": Bomb(trace)}, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(ValueError, match=f"run{suffix}: not a safetensors file") as info:
        load(path)
    assert ("`expose convert`" in str(info.value)) == (suffix != ".safetensors")
    assert not trace.exists()
    pickle.loads(pickle.dumps(Bomb(trace)))
    assert trace.exists()  # the bomb does go off where it is let


def test_failed_saving_leaves_the_old_file_and_nothing_else(
    model: ExposureDenoiser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.safetensors"
    save_weights(path, model, CARD)
    before = path.read_bytes()

    def fails(source: object, target: object) -> None:
        raise OSError(28, "disk full")

    monkeypatch.setattr("exposurediffusion.files.atomic.os.replace", fails)  # all is written, but not yet in place
    with pytest.raises(OSError, match="disk full"):
        save_weights(path, model, CARD)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_saving_where_a_file_or_a_folder_is_in_the_way(model: ExposureDenoiser, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(OSError, match="file"):
        save_weights(tmp_path / "file" / "a.safetensors", model, CARD)
    (tmp_path / "a.safetensors").mkdir()
    with pytest.raises(OSError, match=r"a\.safetensors"):
        save_weights(tmp_path / "a.safetensors", model, CARD)
    assert (tmp_path / "file").read_text() == "kept"
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a.safetensors", "file"]


def test_a_card_that_json_cannot_hold_writes_nothing(model: ExposureDenoiser, tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        save_weights(tmp_path / "a.safetensors", model, replace(CARD, training={"path": tmp_path}))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", PRETRAINED)
def test_pretrained_weights_are_small_and_load(name: str, generator: torch.Generator) -> None:
    file = resources.files("exposurediffusion.weights") / "pretrained" / PRETRAINED[name]
    with resources.as_file(file) as path:
        assert path.stat().st_size <= 16_000_000
        assert header(path)["format"] == FORMAT
    model = load(name)
    state = torch.rand((1, 4, 32, 32), generator=generator)
    with torch.no_grad():
        said = model(state, torch.ones(1), model.denoiser(100.0, 2.0, 3.0).conditions)
    assert isinstance(said, Estimate)
    assert said.image.shape == state.shape
    assert said.image.isfinite().all()


def test_default_is_what_load_gives_without_a_name() -> None:
    assert "default" in PRETRAINED
    assert load().card == load("default").card


# ------------------------------------------------------------------------------------------------ the rule for T

RULE = StepRule((0.01, 0.2), (0, 2, 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_rule_is_stored_beside_untouched_tensors(dtype: torch.dtype, model: ExposureDenoiser, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_weights(path, model, CARD, dtype)
    with safe_open(path, framework="pt") as file:
        before = {name: file.get_tensor(name) for name in model.state_dict()}
    store_rule(path, RULE)
    assert load(path).card == replace(CARD, rule=RULE)
    with safe_open(path, framework="pt") as file:
        for name, tensor in before.items():
            assert file.get_tensor(name).dtype == dtype
            assert torch.equal(file.get_tensor(name).view(torch.uint8), tensor.view(torch.uint8))
    store_rule(path, None)
    assert load(path).card == CARD
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_without_a_rule_the_cards_own_steps_are_taken() -> None:
    assert "rule" not in json.loads(CARD.to_json())  # older programs read the files of newer ones without a rule
    assert CARD.rule is None
    assert CARD.steps(0.5) == CARD.sampling.steps == 3
    assert [replace(CARD, rule=RULE).steps(level) for level in (0.001, 0.1, 0.5)] == [0, 2, 1]


@pytest.mark.parametrize("rule", [{"levels": [0.1]}, {"levels": [2, 1], "counts": [1, 2, 3]}, 3, "two"])
def test_a_broken_rule_is_refused(rule: Any) -> None:
    text = json.dumps({**json.loads(CARD.to_json()), "rule": rule})
    with pytest.raises(ValueError, match=r".+"):
        ModelCard.from_json(text)


def test_a_rule_needs_weights_of_ours(diffusion: Path, tmp_path: Path) -> None:
    (tmp_path / "other.safetensors").write_text("nothing")
    with pytest.raises(ValueError, match=r"other\.safetensors: not a safetensors file"):
        store_rule(tmp_path / "other.safetensors", RULE)
    before = diffusion.read_bytes()
    with pytest.raises(ValueError, match=r"diffusion\.safetensors: a diffusion model simulates no exposures"):
        store_rule(diffusion, RULE)
    assert diffusion.read_bytes() == before


def test_the_embedded_weights_bring_a_rule() -> None:
    rule = load().card.rule
    assert rule is not None
    assert set(rule.counts) <= {0, 1, 2}
    assert rule.steps(0.001) < 2  # it is cheaper


# -------------------------------------------------------------------------------------------------- diffusion models

DIFFUSION = DiffusionConfig(channels=(8, 8), layers=1, groups=4, timesteps=50, steps=3)


@pytest.fixture
def diffusion(tmp_path: Path) -> Path:
    """Weights of a tiny conditional diffusion model."""
    pytest.importorskip("diffusers")
    torch.manual_seed(4)
    path = tmp_path / "diffusion.safetensors"
    save_weights(path, ConditionalDiffusion(DIFFUSION), ModelCard(DIFFUSION, Sampling(steps=0), "ddim", {"seed": 4}))
    return path


def test_a_diffusion_model_comes_back_from_its_file_alone(diffusion: Path) -> None:
    loaded = load_diffusion(diffusion)
    assert isinstance(load_any(diffusion), TrainedDiffusion)
    assert loaded.config == loaded.card.denoiser == DIFFUSION
    assert (loaded.card.sampling, loaded.card.name, loaded.card.training) == (Sampling(steps=0), "ddim", {"seed": 4})
    torch.manual_seed(4)
    model = ConditionalDiffusion(DIFFUSION)
    capture = torch.rand((1, 4, 8, 8), generator=torch.Generator().manual_seed(8))
    said = [m.sample(capture, generator=torch.Generator().manual_seed(1)) for m in (loaded, model)]
    assert torch.equal(*said)
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())


def test_the_header_of_a_diffusion_model_names_its_kind(diffusion: Path) -> None:
    content = json.loads(header(diffusion)["card"])
    assert "denoiser" not in content
    assert content["diffusion"] == json.loads(json.dumps(asdict(DIFFUSION)))
    assert ModelCard.from_json(header(diffusion)["card"]).denoiser == DIFFUSION


@pytest.mark.parametrize(
    ("schedule", "prediction"), [("linear", "epsilon"), ("linear", "velocity"), ("cosine", "epsilon")]
)
def test_headers_that_name_a_schedule_and_a_prediction(schedule: str, prediction: str) -> None:
    content = json.loads(ModelCard(DIFFUSION).to_json())
    content["diffusion"] |= {"schedule": schedule, "prediction": prediction}
    if (schedule, prediction) == ("linear", "epsilon"):
        assert ModelCard.from_json(json.dumps(content)) == ModelCard(DIFFUSION)
    else:
        with pytest.raises(ValueError, match=f"{schedule} / {prediction}, no longer supported"):
            ModelCard.from_json(json.dumps(content))


def test_each_kind_of_model_has_its_own_loader(diffusion: Path, model: ExposureDenoiser, tmp_path: Path) -> None:
    save_weights(tmp_path / "a.safetensors", model, CARD)
    with pytest.raises(ValueError, match=r"diffusion\.safetensors: a diffusion model.*`load_diffusion` reads it"):
        load(diffusion)
    with pytest.raises(ValueError, match=r"a\.safetensors: not a diffusion model; `load` reads it"):
        load_diffusion(tmp_path / "a.safetensors")
    for kind, card in ((TrainedDenoiser, ModelCard(DIFFUSION)), (TrainedDiffusion, CARD)):
        with pytest.raises(TypeError, match="the card is of a"):
            kind(card)


def test_without_the_extra_it_is_named(diffusion: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ValueError, match=r"exposurediffusion\[baselines\]"):
        load_diffusion(diffusion)


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"channels": None},
        {"channels": [7, 9]},
        {"channels": [8], "schedule": "slow"},
        {"channels": [8], "colour": 3},
        {"channels": [8], "steps": 0},
    ],
)
def test_a_broken_diffusion_header_is_refused(content: dict[str, Any], tmp_path: Path) -> None:
    card = json.dumps({"diffusion": content, "sampling": asdict(Sampling()), "name": "", "training": {}})
    save_file({"a": torch.zeros(1)}, tmp_path / "bad.safetensors", metadata={"format": FORMAT, "card": card})
    for loader in (load, load_diffusion):
        with pytest.raises(ValueError, match=r"bad\.safetensors: "):
            loader(tmp_path / "bad.safetensors")


@pytest.mark.parametrize("device", ["nonsense", "mps:0"])
def test_a_device_that_is_not_there_is_a_plain_error(device: str) -> None:
    if device == "mps:0" and torch.backends.mps.is_available():
        pytest.skip("there is one")
    with pytest.raises(ValueError, match=f"{device}: PyTorch finds none on this machine"):
        load("default", device=device)


def test_the_best_device_is_found() -> None:
    assert next(load("default", device="auto").parameters()).device.type == best_device().type


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 2e6])
def test_weights_that_are_no_numbers_are_refused_by_the_tensor(
    value: float, model: ExposureDenoiser, tmp_path: Path
) -> None:
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state["backbone.head.bias"][-1] = value
    path = tmp_path / "a.safetensors"
    save_file(state, path, metadata={"format": FORMAT, "card": CARD.to_json()})
    for read in (load, read_weights):
        with pytest.raises(ValueError, match=r"a\.safetensors: damaged: the tensor backbone\.head\.bias"):
            read(path)


def test_whole_numbers_are_no_weights(model: ExposureDenoiser, tmp_path: Path) -> None:
    state = {name: tensor.int() for name, tensor in model.state_dict().items()}
    save_file(state, tmp_path / "a.safetensors", metadata={"format": FORMAT, "card": CARD.to_json()})
    with pytest.raises(ValueError, match=r"a\.safetensors: the tensor \S+ is of torch\.int32"):
        load(tmp_path / "a.safetensors")


WRONG_CARDS = {
    "denoiser.options.width: a whole number is wanted, not 1.5": {"denoiser": {"options": {"width": 1.5}}},
    "denoiser.options: a group of fields is wanted, not 64": {"denoiser": {"options": 64}},
    "denoiser.planes: a whole number is wanted, not '4'": {"denoiser": {"planes": "4"}},
    "denoiser.planes is a number from 1 to 1000": {"denoiser": {"planes": 10**9}},
    "denoiser.photons: true or false is wanted": {"denoiser": {"photons": 1}},
    "denoiser: a group of fields is wanted, not a list": {"denoiser": []},
    "sampling.steps: a whole number is wanted, not 1.5": {"sampling": {"steps": 1.5}},
    "sampling.steps is a number from 0 to 1000": {"sampling": {"steps": 10**9}},
    "sampling: a group of fields is wanted, not a list": {"sampling": []},
    "sampling.clamp: a list of its length is wanted": {"sampling": {"clamp": [1]}},
    "rule.levels: a number is wanted": {"rule": {"levels": ["a"], "counts": [0, 1]}},
    "name: text is wanted": {"name": 3},
    "training: a group of fields is wanted": {"training": 100000},
}


@pytest.mark.parametrize("message", WRONG_CARDS)
def test_a_card_of_the_wrong_kinds_is_refused_by_field(message: str, tmp_path: Path) -> None:
    card = json.dumps({"denoiser": {}, "sampling": {}, "name": "", "training": {}} | WRONG_CARDS[message])
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors", metadata={"format": FORMAT, "card": card})
    with pytest.raises(ValueError, match=rf"a\.safetensors: the header does not describe a model \({message}"):
        load(tmp_path / "a.safetensors")


HUGE = [
    DenoiserConfig("unet", {"width": 1 << 20, "depth": 4}),
    DenoiserConfig("unet", {"width": 4, "depth": 2000}),
    DenoiserConfig("nafnet", {"width": 1 << 30, "middle": 1}),
    DenoiserConfig("nafnet", {"middle": 10**9}),
    DenoiserConfig("nafnet", {"encoders": [10**6] * 4, "decoders": [10**6] * 4}),
    DenoiserConfig("resunet", {"widths": [1 << 20] * 3, "encoders": [1, 1, 1], "decoders": [1, 1]}),
]


@pytest.mark.parametrize("config", HUGE, ids=lambda config: f"{config.options}")
def test_a_network_that_the_file_does_not_hold_is_never_built(
    config: DenoiserConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def initialise(tensor: Tensor, *_: object, **__: object) -> Tensor:
        assert tensor.is_meta, "memory is taken for it"
        return tensor

    monkeypatch.setattr(torch.nn.init, "kaiming_uniform_", initialise)
    metadata = {"format": FORMAT, "card": ModelCard(config).to_json()}
    save_file({f"t{number}": torch.zeros(2) for number in range(90)}, tmp_path / "a.safetensors", metadata)
    with pytest.raises(ValueError, match=r"a\.safetensors: the (tensors do not fit the|network of its) header"):
        load(tmp_path / "a.safetensors")

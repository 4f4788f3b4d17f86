"""The authors' checkpoints: golden figures through the converter, hyper-parameters by shape, and what is refused."""

from __future__ import annotations

import pickle
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from exposurediffusion.process.exposure import Adjust, ExposureStep
from exposurediffusion.weights.file import TrainedDenoiser, load
from exposurediffusion.weights.official import PUBLISHED, convert, from_official
from tests.golden.weights import NAFNET1, NAFNET2, filled, golden, nafnet_shapes, unet_shapes

GOLDEN = golden()
CAPTURE, CLEAN = (torch.from_numpy(GOLDEN[key])[None] for key in ("noisy", "clean"))
RATIO, GAIN = float(GOLDEN["ratio"]), float(GOLDEN["gain"])
TOLERANCE = 1e-5
CLOSE = {"unet": TOLERANCE, "nafnet1": 2e-5}  # by the processor, NAFNet's float32 rounding alone reaches 1.2e-5


@cache
def official_state(net: str, in_channels: int = 8, out_channels: int = 9) -> dict[str, Tensor]:
    """State dict of a network of the golden figures, by the authors' names."""
    if net == "unet":
        return filled(unet_shapes(in_channels, out_channels))
    return filled(nafnet_shapes(in_channels, out_channels, 16, **(NAFNET1 if net == "nafnet1" else NAFNET2)))


@cache
def official_model(net: str, in_channels: int = 8, out_channels: int = 9) -> TrainedDenoiser:
    """The network of such a state dict; no test changes it."""
    return from_official(official_state(net, in_channels, out_channels))


def run(model: TrainedDenoiser, **options: Any) -> tuple[list[ExposureStep], list[Tensor]]:
    """The published loop with the mean of every draw: its steps, and the network's masks."""
    denoise = model.denoiser(RATIO, GAIN)
    denoise.keep = True
    sampling = replace(model.card.sampling, increment="mean")
    steps = list(sampling.run(denoise, CAPTURE, denoise.conditions, **options))
    return steps, [estimate.mask for estimate in denoise.estimates if estimate.mask is not None]


def errors(tensor: Tensor, key: str) -> np.ndarray:
    """Absolute differences from a golden figure."""
    return np.abs(tensor[0].numpy() - GOLDEN[key])


def replaying(prefix: str) -> tuple[Adjust, list[Tensor]]:
    """A hook that exposes on from the golden estimate of each step, and the network's own estimates."""
    own: list[Tensor] = []

    def adjust(estimate: Tensor) -> Tensor:
        own.append(estimate)
        return torch.from_numpy(GOLDEN[f"{prefix}.step{len(own) - 1}"])[None]

    return adjust, own


@pytest.mark.parametrize("concat", [0, 1])
@pytest.mark.parametrize("net", ["unet", "nafnet1", "nafnet2"])
def test_parameter_count_is_the_authors(net: str, concat: int) -> None:
    model = official_model(net, 8 + 4 * concat)
    assert sum(p.numel() for p in model.parameters()) == GOLDEN[f"{net}.concat{concat}.params"]
    assert model.card.sampling == PUBLISHED


@pytest.mark.parametrize("concat", [0, 1])
@pytest.mark.parametrize("net", ["unet", "nafnet1"])
def test_every_step_of_the_published_run(net: str, concat: int) -> None:
    steps, masks = run(official_model(net, 8 + 4 * concat))
    assert len(steps) == 3
    for step in steps:
        assert errors(step.estimate, f"{net}.concat{concat}.T2.step{step.index}").max() < CLOSE[net]
    if not concat:
        assert errors(masks[-1], f"{net}.concat0.mask.last").max() < CLOSE[net]


@pytest.mark.parametrize("net", ["unet", "nafnet1"])
def test_published_protocol_corrects_inside_the_loop(net: str) -> None:
    evaluation = pytest.importorskip("exposurediffusion.evaluation.metrics")
    model = official_model(net)
    steps, _ = run(model, adjust=lambda estimate: evaluation.illuminance_correction(estimate, CLEAN))
    assert errors(steps[-1].estimate, f"{net}.concat0.T2.oracle.last").max() < CLOSE[net]


@pytest.mark.parametrize("concat", [0, 1])
def test_deep_nafnet_step_by_step(concat: int) -> None:
    """With formula weights NAFNet-2 magnifies rounding: its own float32 figures are up to 1.5e-4 (rms 6e-6) from a
    float64 evaluation, and a run accumulates that. So each step starts from the golden one before it, and the root mean
    square error is judged; an epsilon of the normalisation that is 10 % off gives 2e-5."""
    prefix = f"nafnet2.concat{concat}.T2"
    adjust, own = replaying(prefix)
    _, masks = run(official_model("nafnet2", 8 + 4 * concat), adjust=adjust)
    for index, estimate in enumerate(own):
        assert np.sqrt(np.mean(errors(estimate, f"{prefix}.step{index}") ** 2)) < 1.2 * TOLERANCE
    if not concat:
        assert np.sqrt(np.mean(errors(masks[-1], "nafnet2.concat0.mask.last") ** 2)) < TOLERANCE


def test_deep_nafnet_in_the_published_protocol() -> None:
    evaluation = pytest.importorskip("exposurediffusion.evaluation.metrics")
    model = official_model("nafnet2")
    steps, _ = run(model, adjust=lambda estimate: evaluation.illuminance_correction(estimate, CLEAN))
    error = errors(steps[-1].estimate, "nafnet2.concat0.T2.oracle.last")
    assert np.median(error) < TOLERANCE
    assert np.sqrt(np.mean(error**2)) < 1e-3  # three evaluations of magnified rounding, see above


def test_feed_forward_unet() -> None:
    model = official_model("unet", 4, 4)
    assert sum(p.numel() for p in model.parameters()) == GOLDEN["unet.feedforward.params"]
    steps, masks = run(model)
    assert len(steps) == 1
    assert masks == []
    assert errors(steps[0].estimate.clamp(0, 1), "unet.feedforward").max() < TOLERANCE


@pytest.mark.parametrize("planes", [4, 9])
@pytest.mark.parametrize("inputs", [1, 2, 3])
@pytest.mark.parametrize("adaptive", [False, True])
def test_layout_is_found_from_the_planes(planes: int, inputs: int, adaptive: bool) -> None:
    out_channels = 1 + 2 * planes if adaptive else planes
    config = from_official(filled(nafnet_shapes(planes * inputs, out_channels, width=4))).config
    assert (config.planes, config.photons, config.origin) == (planes, inputs > 1, inputs > 2)
    assert config.adaptive_residual == adaptive
    assert (config.in_channels, config.out_channels) == (planes * inputs, out_channels)


@pytest.mark.parametrize(
    ("encoders", "middle", "decoders"), [((), 3, ()), ((1,), 1, (2,)), ((1, 0, 2), 2, (0, 1, 3)), ((1, 1), 0, (1, 1))]
)
def test_nafnet_of_any_depth(encoders: tuple[int, ...], middle: int, decoders: tuple[int, ...]) -> None:
    model = from_official(filled(nafnet_shapes(8, 9, 6, encoders, middle, decoders)))
    expected = {"width": 6, "encoders": list(encoders), "middle": middle, "decoders": list(decoders)}
    assert model.config.options == expected


def test_unet_of_any_width() -> None:
    model = from_official(filled(unet_shapes(27, 19, width=4)))
    assert model.config.options == {"width": 4, "depth": 4}
    assert (model.config.planes, model.config.origin) == (9, True)


def test_feed_forward_runs_once_and_a_network_of_the_process_three_times() -> None:
    assert from_official(filled(nafnet_shapes(4, 4, 4))).card.sampling == replace(PUBLISHED, steps=0)
    assert from_official(filled(nafnet_shapes(8, 4, 4))).card.sampling.steps == 2


def small_state() -> dict[str, Tensor]:
    """A two-level NAFNet that is quick to make."""
    return filled(nafnet_shapes(8, 9, 4, (1,), 1, (1,)))


def same_tensors(first: TrainedDenoiser, second: TrainedDenoiser) -> bool:
    mine, other = first.state_dict(), second.state_dict()
    return mine.keys() == other.keys() and all(torch.equal(mine[name], other[name]) for name in mine)


@pytest.mark.parametrize("form", ["netG", "bare", "module", "half", "legacy"])
def test_every_form_of_checkpoint_gives_the_same_model(form: str, tmp_path: Path) -> None:
    state = {name: tensor.half().float() for name, tensor in small_state().items()}
    content: dict[str, Any] = state
    if form in ("netG", "legacy"):
        moments = {"state": {0: {"exp_avg": torch.zeros(3), "step": 7}}, "param_groups": [{"lr": 1e-4}]}
        content = {"netG": state, "opt_g": moments, "epoch": 300, "iterations": 386_400}
    if form == "module":
        content = {"netG": {f"module.{name}": tensor for name, tensor in state.items()}}
    if form == "half":
        content = {name: tensor.half() for name, tensor in state.items()}
    torch.save(content, tmp_path / "run.pt", _use_new_zipfile_serialization=form != "legacy")
    model = from_official(tmp_path / "run.pt")
    assert same_tensors(model, from_official(state))
    assert model.card.name == "run"
    assert model.card.training.get("epoch") == (300 if form in ("netG", "legacy") else None)
    assert not model.training


def test_converted_file_loads_without_any_argument(tmp_path: Path) -> None:
    torch.save({"netG": small_state(), "epoch": 3}, tmp_path / "run.pt")
    converted = convert(tmp_path / "run.pt", tmp_path / "out" / "run.safetensors")
    loaded = load(tmp_path / "out" / "run.safetensors")
    assert same_tensors(loaded, converted)
    assert loaded.card == converted.card
    ours, theirs = (run(model)[0][-1].estimate for model in (loaded, converted))
    assert torch.equal(ours, theirs)


def test_says_which_tensor_is_missing_unknown_or_of_another_shape() -> None:
    state = small_state()
    del state["middle_blks.0.sca.1.bias"]
    with pytest.raises(ValueError, match=r"missing: middle_blks\.0\.sca\.1\.bias"):
        from_official(state)
    with pytest.raises(ValueError, match=r"unexpected: ema\.decay"):
        from_official({**small_state(), "ema.decay": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"downs\.0\.weight has the shape \(8, 4, 3, 3\), needs \(8, 4, 2, 2\)"):
        from_official({**small_state(), "downs.0.weight": torch.zeros(8, 4, 3, 3)})
    unet = filled(unet_shapes(8, 9, 4))
    del unet["conv1_1.weight"]
    with pytest.raises(ValueError, match=r"conv1_1\.weight is missing"):
        from_official(unet)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (filled(nafnet_shapes(7, 9, 4)), "7 planes in and 9 out"),
        ({"features.0.weight": torch.zeros(3)}, r"neither a UNet nor a NAFNet.*features\.0\.weight"),
        ({"intro.weight": torch.zeros(4), "ending.weight": torch.zeros(4)}, r"intro\.weight has the shape \(4,\)"),
        ({**small_state(), "encoders.0.900000000.beta": torch.zeros(1)}, "count up to 900000000"),
        ({"epoch": 3}, r"not a dictionary of tensors: it also holds epoch \(int\)"),
        ({"netG": {}}, "not a dictionary of tensors"),
        ({"netG": [torch.zeros(1)]}, "it is a list"),
    ],
)
def test_refuses_what_is_no_network_of_the_authors(state: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_official(state)


class Bomb:
    """An object that leaves a trace when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.trace,))


@pytest.mark.parametrize("zipped", [True, False])
def test_other_objects_are_refused_and_never_unpickled(zipped: bool, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    content = {"netG": small_state(), "options": Bomb(trace)}
    torch.save(content, tmp_path / "run.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"run\.pt: holds pickled objects besides tensors.*refused"):
        convert(tmp_path / "run.pt", tmp_path / "run.safetensors")
    assert not trace.exists()
    assert not (tmp_path / "run.safetensors").exists()
    pickle.loads(pickle.dumps(Bomb(trace)))
    assert trace.exists()  # the bomb does go off where it is let


def test_a_checkpoint_of_ours_needs_no_conversion(tmp_path: Path) -> None:
    torch.save({"recipe": "{}", "iteration": 3, "model": small_state()}, tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match=r"needs no conversion: beside it is checkpoint\.safetensors"):
        convert(tmp_path / "checkpoint.pt", tmp_path / "run.safetensors")


@pytest.mark.parametrize("content", [b"", b"hello, I am a text", b"PK\x03\x04 cut off"])
def test_files_that_are_no_checkpoint(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "run.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"run\.pt: not a PyTorch checkpoint, or a damaged one"):
        from_official(tmp_path / "run.pt")


def test_a_file_cut_short_and_one_that_is_not_there(tmp_path: Path) -> None:
    torch.save(small_state(), tmp_path / "run.pt")
    whole = (tmp_path / "run.pt").read_bytes()
    (tmp_path / "run.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="not a PyTorch checkpoint, or a damaged one"):
        from_official(tmp_path / "run.pt")
    with pytest.raises(ValueError, match="no such file"):
        from_official(tmp_path / "other.pt")

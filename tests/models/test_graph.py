"""Networks as ONNX graphs: the same estimate, of any size, and what cannot be one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from exposurediffusion.models.denoiser import DenoiserConfig, ExposureDenoiser
from exposurediffusion.models.graph import INPUTS, Compiled, Graph, example, to_onnx
from exposurediffusion.models.xtrans import BayerOnXTrans
from exposurediffusion.physics.conditions import Conditions

onnxruntime = pytest.importorskip("onnxruntime")
NETWORKS = {
    "all planes": DenoiserConfig("unet", {"width": 4, "depth": 2}, origin=True, noise_map=True),
    "stabilised": DenoiserConfig(
        "resunet", {"widths": [4, 6], "encoders": [1, 1], "decoders": [1]}, domain="stabilised", white=4.0
    ),
    "pooling": DenoiserConfig("nafnet", {"width": 4, "encoders": [1], "middle": 1, "decoders": [1]}, planes=9),
    "plain": DenoiserConfig("unet", {"width": 4, "depth": 1}, photons=False, adaptive_residual=False),
}


def network(config: DenoiserConfig) -> ExposureDenoiser:
    torch.manual_seed(3)
    return ExposureDenoiser(config).eval().requires_grad_(False)


def run(graph: bytes):
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    known = {each.name for each in session.get_inputs()}
    return lambda inputs: session.run(None, {name: x for name, x in inputs.items() if name in known})[0]


@pytest.mark.parametrize("config", NETWORKS.values(), ids=NETWORKS)
def test_a_graph_gives_the_same_estimate_at_any_size(config: DenoiserConfig) -> None:
    model = network(config)
    evaluate = run(to_onnx(model))
    for size in ((16, 16), (32, 48)):
        state, capture, _, *others = example(model, size, seed=size[1])
        inputs = (state * 0.9, capture, torch.tensor([7.0]), *others)
        found = evaluate({name: value.numpy() for name, value in zip(INPUTS, inputs, strict=True)})
        np.testing.assert_allclose(found, Graph(model)(*inputs).numpy(), atol=1e-5)


def test_a_size_may_be_fixed_and_has_to_suit() -> None:
    model = network(NETWORKS["all planes"])
    session = onnxruntime.InferenceSession(to_onnx(model, (16, 24)), providers=["CPUExecutionProvider"])
    assert [tuple(each.shape) for each in session.get_inputs()[:2]] == [(1, 4, 16, 24)] * 2
    with pytest.raises(ValueError, match="multiples of 4"):
        to_onnx(model, (16, 22))


@pytest.mark.parametrize("saturation", [1023.0, 15583.0])
def test_compiled_is_called_as_the_network_is(saturation: float) -> None:
    model = network(NETWORKS["all planes"])
    twin = Compiled(model, run(to_onnx(model)))
    state = torch.rand((2, 4, 21, 34), generator=torch.Generator().manual_seed(1))
    conditions = Conditions(
        torch.tensor([90.0, 40.0]), torch.tensor([1.3, 2.0]), torch.tensor([6.0, 9.0]), saturation, state.flip(-1)
    )
    exposure = torch.tensor([3.0, 2.0])
    torch.testing.assert_close(
        twin(state, exposure, conditions).image, model(state, exposure, conditions).image, atol=1e-5, rtol=0
    )
    other = Conditions(conditions.ratio, conditions.gain, conditions.read_variance, saturation / 2, conditions.origin)
    assert not torch.allclose(
        twin(state, exposure, other).image, model(state, exposure, conditions).image, atol=1e-5
    )  # the mutant: gain and read noise of another range


def test_bayer_weights_work_on_xtrans_planes_compiled() -> None:
    model = network(NETWORKS["all planes"])
    state = torch.rand((1, 9, 16, 16), generator=torch.Generator().manual_seed(2))
    conditions = Conditions(torch.tensor([90.0]), torch.tensor([1.3]), torch.tensor([6.0]), 15583.0, state)
    ours, twin = (BayerOnXTrans(each) for each in (model, Compiled(model, run(to_onnx(model)))))
    exposure = torch.ones(1)
    torch.testing.assert_close(
        twin(state, exposure, conditions).image, ours(state, exposure, conditions).image, atol=1e-5, rtol=0
    )

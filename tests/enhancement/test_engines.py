"""Engines give what PyTorch gives, and are chosen where they serve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from exposurediffusion.enhancement import engines
from exposurediffusion.enhancement.engines import WORTH, choose_engine, compiled
from exposurediffusion.enhancement.frame import enhance
from exposurediffusion.models.denoiser import DenoiserConfig
from exposurediffusion.weights.file import ModelCard, TrainedDenoiser, load
from tests.frames import capture, tiny_model
from tests.simulated import tiny_weights

pytest.importorskip("openvino")
pytest.importorskip("onnxruntime")
MODEL = tiny_model()
POOLING = TrainedDenoiser(ModelCard(DenoiserConfig("nafnet", {"width": 4, "encoders": [1], "decoders": [1]})))


@pytest.mark.parametrize(("engine", "cfa"), [("openvino", "GBRG"), ("openvino", "XTRANS"), ("onnx", "RGGB")])
def test_every_engine_gives_the_same_frame(engine: Any, cfa: str) -> None:
    options = {"ratio": 50.0, "steps": 2, "tile": 16, "precision": "fp32", "exposure": "auto"}
    frame = capture(cfa, 66, 84)
    ours = enhance(frame, MODEL, engine="torch", **options)
    theirs = enhance(frame, MODEL, engine=engine, **options)
    white = frame.sensor.saturation
    torch.testing.assert_close(theirs.planes / white, ours.planes / white, atol=1e-4, rtol=0)
    assert (ours.metadata.history["Engine"], theirs.metadata.history["Engine"]) == ("torch", engine)


def test_a_network_is_compiled_once() -> None:
    assert compiled(MODEL, "onnx") is compiled(MODEL, "onnx")


def test_the_graph_of_a_file_is_kept_and_made_again_where_it_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "user_cache_path", lambda *_, **__: tmp_path / "cache")
    model = load(tiny_weights(tmp_path / "weights.safetensors"))
    first = engines._graph(model)
    [kept] = (tmp_path / "cache" / "graphs").iterdir()
    assert kept.read_bytes() == first
    assert model.digest in kept.name
    monkeypatch.setattr(engines, "to_onnx", lambda _: pytest.fail("it is kept"))
    assert engines._graph(model) == first
    monkeypatch.setattr(engines, "user_cache_path", lambda *_, **__: kept / "below a file")
    monkeypatch.setattr(engines, "to_onnx", lambda _: b"again")
    assert engines._graph(model) == b"again"


def test_auto_is_pytorch_unless_another_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    def auto(model: object = MODEL, precision: str = "auto", pixels: int = WORTH, bfloat16: bool = False) -> str:
        monkeypatch.setattr(engines, "is_good_at_bfloat16", lambda _: bfloat16)
        return choose_engine("auto", model, precision, pixels)  # type: ignore[arg-type]

    assert auto() == "openvino"
    assert auto(bfloat16=True) == "torch"
    assert auto(bfloat16=True, precision="fp32") == "openvino"
    assert auto(pixels=WORTH - 1) == "torch"
    assert auto(precision="bf16") == "torch"
    assert auto(POOLING) == "torch"
    assert auto(lambda state, exposure: state) == "torch"
    monkeypatch.setitem(engines.MODULES, "openvino", "not_there")
    assert auto() == "torch"


@pytest.mark.parametrize(
    ("model", "precision", "message"),
    [
        (POOLING, "auto", "the whole frame at once; use --engine torch"),
        (MODEL, "bf16", "float32 alone"),
        (abs, "auto", "weights of this program alone"),
    ],
)
def test_what_an_engine_cannot_run_is_refused(model: object, precision: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        choose_engine("openvino", model, precision, WORTH)  # type: ignore[arg-type]


def test_an_engine_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(engines.MODULES, "onnx", "not_there")
    with pytest.raises(ValueError, match=r"--engine onnx: not installed; pip install 'exposurediffusion\[export\]'"):
        choose_engine("onnx", MODEL, "auto", WORTH)

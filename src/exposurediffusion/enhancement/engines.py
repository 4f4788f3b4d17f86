"""What computes the network's evaluations: PyTorch, OpenVINO or ONNX Runtime. The rest stays PyTorch's."""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from typing import Literal

import numpy as np
import torch
from platformdirs import user_cache_path

from exposurediffusion.files.atomic import atomic, make_folder
from exposurediffusion.models.device import is_good_at_bfloat16
from exposurediffusion.models.graph import INPUTS, Compiled, Run, to_onnx
from exposurediffusion.models.nafnet import GlobalPool
from exposurediffusion.weights.file import TrainedDenoiser

Engine = Literal["torch", "openvino", "onnx"]
MODULES: dict[str, str] = {"openvino": "openvino", "onnx": "onnxruntime"}
"""The module of each engine."""
WORTH = 6_000_000
"""Packed pixels to evaluate from which on a faster engine makes up for the time that it takes to start."""


def choose_engine(
    asked: Engine | Literal["auto"], model: object, precision: Literal["auto", "fp32", "bf16"], pixels: int
) -> Engine:
    """The engine that is used.

    auto: OpenVINO where it is installed and wins (docs/engines.md); PyTorch on a GPU, on a processor that is good at
    bfloat16, for small jobs, and for what no other engine can run.

    Args:
        asked: by the user.
        model: that is to run.
        precision: as asked for.
        pixels: packed pixels of all evaluations of this frame.

    Raises:
        ValueError: what was asked for is not installed, or cannot run this.
    """
    installed = [engine for engine, module in MODULES.items() if find_spec(module) and find_spec("onnx")]
    reason = _why_not(model, precision)
    if asked == "auto":
        at_home = reason or pixels < WORTH or (precision == "auto" and is_good_at_bfloat16(torch.device("cpu")))
        return "torch" if at_home or "openvino" not in installed else "openvino"
    if asked == "torch":
        return "torch"
    if asked not in installed:
        raise ValueError(f"--engine {asked}: not installed; pip install 'exposurediffusion[export]'")
    if reason:
        raise ValueError(f"--engine {asked}: {reason}; use --engine torch")
    return asked


def _why_not(model: object, precision: str) -> str:
    """Why PyTorch alone can run this; empty: others can."""
    if not isinstance(model, TrainedDenoiser):
        return "it runs weights of this program alone"
    if next(model.parameters()).device.type != "cpu":
        return "it runs on the processor alone (--device cpu)"
    if any(isinstance(module, GlobalPool) for module in model.modules()):
        return f"these weights ({model.config.backbone}) look at the whole frame at once"
    return "it computes in float32 alone" if precision == "bf16" else ""


@lru_cache(maxsize=2)
def compiled(model: TrainedDenoiser, engine: Engine) -> Compiled:
    """The network, compiled once for each model and engine."""
    graph = _graph(model)
    return Compiled(model, (_openvino if engine == "openvino" else _onnxruntime)(graph))


def _graph(model: TrainedDenoiser) -> bytes:
    """The network as ONNX; of a weights file it is made once, and kept in the user's cache."""
    if not model.digest:
        return to_onnx(model)
    folder = user_cache_path("exposurediffusion", appauthor=False) / "graphs"
    path = folder / f"{model.digest}-{version('exposurediffusion')}-{torch.__version__}.onnx"
    try:
        return path.read_bytes()
    except OSError:
        graph = to_onnx(model)
    try:
        make_folder(folder)
        with atomic(path) as stream:
            stream.write(graph)
    except (OSError, ValueError):
        pass  # a cache that cannot be written costs a second each time, and nothing else
    return graph


def _openvino(graph: bytes) -> Run:
    from openvino import Core

    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    core = Core()
    network = core.compile_model(core.read_model(graph), "CPU", settings)
    named = [each.names for each in network.inputs]  # an input may have further names
    wanted = [next(name for name in INPUTS if name in names) for names in named]
    return lambda inputs: network({name: inputs[name] for name in wanted})[0]


def _onnxruntime(graph: bytes) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.enable_cpu_mem_arena = False  # tiles are few and large: it would keep the largest for good
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    return lambda inputs: np.asarray(session.run(None, {name: inputs[name] for name in names})[0])

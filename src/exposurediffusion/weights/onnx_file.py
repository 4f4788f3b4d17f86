"""Weights for other programs: an ONNX file that was compared with PyTorch, and the numbers to compare it again."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch

from exposurediffusion.files.atomic import atomic
from exposurediffusion.models.graph import INPUTS, Graph, example, to_onnx
from exposurediffusion.weights.file import TrainedDenoiser

AGREEMENT = 1e-4
"""By how much the two may differ; 1 is white."""
_SIDE = 64  # at least so many packed pixels a side are compared


def export_onnx(path: Path, model: TrainedDenoiser, size: tuple[int, int] | None = None) -> tuple[Path, float]:
    """Write a network as an ONNX file (`models.graph.Graph`), and beside it a known input with its estimate.

    The file is run by ONNX Runtime first, on an amplified capture and on a state of nine times its exposure. In its
    metadata stand the card of the weights, their digest, and what sides of planes have to be multiples of.

    Args:
        path: ends in .onnx.
        model: on the host.
        size: see `to_onnx`.

    Returns:
        The file NAME-check.npz: arrays by the names of the inputs, and `estimate`; and the largest difference.

    Raises:
        ValueError: what `to_onnx` says, or the two disagree by more than `AGREEMENT`: then nothing is written.
    """
    graph = to_onnx(model, size)
    import onnx  # with to_onnx, which says what to install
    import onnxruntime

    described = onnx.load_from_string(graph)
    facts = {"weights": model.card.name, "digest": model.digest, "multiple": model.multiple, "halo": model.halo}
    onnx.helper.set_model_props(described, {"card": model.card.to_json(), **{k: str(v) for k, v in facts.items()}})
    described.producer_name = "exposurediffusion"
    graph = described.SerializeToString()
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    side = -(-_SIDE // model.multiple) * model.multiple
    worst, known = 0.0, {}
    for exposure in (9.0, 1.0):  # the last is kept
        state, *others = example(model, size or (side, side))
        inputs = (state, others[0], torch.tensor([exposure]), *others[2:])
        values = dict(zip(INPUTS, inputs, strict=True))
        known = {each.name: values[each.name].numpy() for each in session.get_inputs()}
        with torch.inference_mode():
            estimate = Graph(model)(*inputs).numpy()
        worst = max(worst, float(np.abs(np.asarray(session.run(None, known)[0]) - estimate).max()))
        known["estimate"] = estimate
    if not worst <= AGREEMENT:
        raise ValueError(f"{path}: ONNX Runtime differs by {worst:.2g} of white from PyTorch; nothing was written")
    check, content = path.with_name(f"{path.stem}-check.npz"), io.BytesIO()
    np.savez(content, **known)  # type: ignore[arg-type] (no array is called allow_pickle)
    for file, text in ((check, content.getvalue()), (path, graph)):
        with atomic(file) as stream:
            stream.write(text)
    return check, worst

"""A network as a model package of darktable (.dtmodel), for its raw denoising, and the rules of such a package.

darktable gives a tile of packed planes R, G1, G2, B and takes camera RGB of twice the sides, of which it keeps at every
site the colour of that site. Its contract: doc `AI_Tasks.md` and `src/common/ai/restore.h` of darktable, `bayer_v1`.
"""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, BadZipFile, ZipFile, ZipInfo

import numpy as np
import torch

from exposurediffusion.files.atomic import atomic
from exposurediffusion.models.graph import as_onnx
from exposurediffusion.models.tile_graph import BRIGHTNESS, TileGraph
from exposurediffusion.weights.file import TrainedDenoiser
from exposurediffusion.weights.onnx_file import AGREEMENT

SMALLEST = 128
"""Packed pixels along a side of the smallest tile: darktable blends 32 of each side with the neighbours."""
GRAPH = "model_bayer.onnx"
POLICY = {
    "input_kind": ("bayer_v1",),
    "bayer_orientation": ("force_rggb", "native"),
    "wb_norm": ("none", "daylight", "as_shot"),
    "output_scale": ("absolute", "match_gain"),
    "edge_pad": ("mirror_cropped", "mirror"),
}
"""What the package says of its graph, and the words that darktable knows; the first are ours."""
_FIELDS = ("id", "name", "description", "task", "backend", "version")


def export_darktable(
    path: Path,
    model: TrainedDenoiser,
    size: int = 512,
    noise: tuple[float, float] | None = None,
    ratio: float | None = None,
) -> float:
    """Write a package that darktable installs; its identifier is the name of the file.

    The graph is run by ONNX Runtime first, and the package is checked (`check_package`).

    Args:
        path: ends in .dtmodel.
        model: of Bayer planes, on the host.
        size: packed pixels along a side of a tile, at least `SMALLEST`, a multiple of 8 and of `model.multiple`.
        noise, ratio: see `TileGraph`.

    Returns:
        The largest difference between ONNX Runtime and PyTorch, at the brightness at which the network works.

    Raises:
        ValueError: the size or the model does not suit, or the two disagree by more than `AGREEMENT`: then nothing is
            written.
    """
    if size < SMALLEST or size % model.multiple or size % 8:
        raise ValueError(
            f"tiles of {size} packed pixels: give a multiple of {max(8, model.multiple)}, at least {SMALLEST}"
        )
    graph = TileGraph(model, noise, ratio)
    generator = torch.Generator().manual_seed(0)
    light = 0.01 * torch.rand((1, 4, size, size), generator=generator)
    tile = light + 1e-3 * torch.randn(light.shape, generator=generator)
    with torch.inference_mode():
        wanted = graph(tile).numpy()
    content = as_onnx(graph, (tile,), ("input",), "output")
    import onnx  # with as_onnx, which says what to install
    import onnxruntime

    described = onnx.load_from_string(content)
    for side, length in zip(described.graph.output[0].type.tensor_type.shape.dim, wanted.shape, strict=True):
        side.dim_value = length  # the exporter leaves them open
    described.producer_name = "exposurediffusion"
    content = described.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    found = np.asarray(session.run(None, {"input": tile.numpy()})[0])
    worst = float(np.abs(found - wanted).max()) * BRIGHTNESS / float(tile.mean())
    if not worst <= AGREEMENT:
        raise ValueError(f"{path}: ONNX Runtime differs by {worst:.2g} of white from PyTorch; nothing was written")
    config = json.dumps(_config(path.stem, model, size, noise), indent=2)
    package = packed({f"{path.stem}/config.json": config.encode(), f"{path.stem}/{GRAPH}": content})
    check_package(package)
    with atomic(path) as stream:
        stream.write(package)
    return worst


def _config(name: str, model: TrainedDenoiser, size: int, noise: tuple[float, float] | None) -> dict[str, Any]:
    policy = {key: words[0] for key, words in POLICY.items()}
    made_for = "any camera" if noise is None else f"gain {noise[0]:.4g} and read variance {noise[1]:.4g} of white"
    return {
        "id": name,
        "name": name.replace("-", " "),
        "description": f"ExposureDiffusion for dark Bayer raws ({made_for})",
        "task": "rawdenoise",
        "arch": model.config.backbone,
        "backend": "onnx",
        "version": "1.0",
        "tiling": True,
        "model_card": {
            "license": "Apache-2.0",
            "paper": "https://arxiv.org/abs/2307.07710",
            "notes": f"weights {model.card.name or 'without a name'}, digest {model.digest}",
        },
        "attributes": {
            "input_sizes": [size],
            "model_bayer": {"input_sizes": [size], **policy},
            "variants": {"bayer": {"onnx": GRAPH, **policy}},  # where earlier versions look
        },
    }


def packed(files: dict[str, bytes]) -> bytes:
    """An archive of files by name, the same for the same files."""
    stream = io.BytesIO()
    with ZipFile(stream, "w", ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = ZipInfo(name)  # of 1980
            entry.compress_type, entry.external_attr = ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, content)
    return stream.getvalue()


def check_package(package: bytes) -> None:
    """Hold a package against each rule of darktable's contract for Bayer raw denoising.

    Raises:
        ValueError: the first rule that is broken.
    """
    try:
        with ZipFile(io.BytesIO(package)) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
    except BadZipFile as error:
        raise ValueError("a package is a zip archive") from error
    tops = {name.split("/")[0] for name in files}
    _rule(
        len(tops) == 1 and all("/" in name for name in files), "everything lies in one folder, the model's identifier"
    )
    folder = tops.pop()
    _rule(folder not in ("", ".", "..") and "\\" not in folder, "the folder's name is an identifier")
    _rule(not any(".." in name for name in files), "no name contains `..`: such files are not unpacked")
    _rule(f"{folder}/config.json" in files, "the folder holds config.json")
    try:
        config = json.loads(files[f"{folder}/config.json"])
    except ValueError as error:
        raise ValueError("rule of darktable packages broken: config.json is JSON") from error
    _rule(isinstance(config, dict), "config.json is an object")
    for field in _FIELDS:
        _rule(isinstance(config.get(field), str) and config[field] != "", f"config.json has {field}, a text")
    _rule(config["id"] == folder, "id is the folder's name")
    _rule(config["task"] == "rawdenoise", "task is rawdenoise")
    _rule(config["backend"] == "onnx", "backend is onnx")
    _rule(re.fullmatch(r"\d+\.\d+", config["version"]) is not None, "version is two numbers and a dot")
    attributes = config.get("attributes")
    _rule(
        isinstance(attributes, dict) and isinstance(attributes.get("model_bayer"), dict), "attributes has model_bayer"
    )
    said = attributes["model_bayer"]
    for key, words in POLICY.items():
        _rule(said.get(key) in words, f"{key} of model_bayer is {' or '.join(words)}")
    sizes = said.get("input_sizes", attributes.get("input_sizes"))
    _rule(isinstance(sizes, list) and bool(sizes) and type(sizes[0]) is int, "input_sizes is a list of whole numbers")
    _rule(sizes[0] >= SMALLEST, f"tiles have at least {SMALLEST} packed pixels a side: smaller ones leave seams")
    earlier = attributes.get("variants", {}).get("bayer")
    _rule(
        earlier is None or earlier == {"onnx": GRAPH, **{key: said[key] for key in POLICY}},
        "variants.bayer says the same as model_bayer",
    )
    _rule(f"{folder}/{GRAPH}" in files, f"the folder holds {GRAPH}")
    _check_graph(files[f"{folder}/{GRAPH}"], sizes[0])


def _check_graph(content: bytes, size: int) -> None:
    import onnx

    try:
        graph = onnx.load_from_string(content)
        onnx.checker.check_model(graph)
    except Exception as error:  # of protobuf, or of the checker
        raise ValueError(f"rule of darktable packages broken: {GRAPH} is an ONNX file ({error})") from error
    for what, name, entries, shape in (
        ("input", "input", graph.graph.input, [1, 4, size, size]),
        ("output", "output", graph.graph.output, [1, 3, 2 * size, 2 * size]),
    ):
        _rule([each.name for each in entries] == [name], f"the graph has one {what}, called {name}")
        kind = entries[0].type.tensor_type
        _rule(kind.elem_type == onnx.TensorProto.FLOAT, f"the {what} is float32")
        _rule([side.dim_value for side in kind.shape.dim] == shape, f"the {what} is {shape}, every side fixed")


def _rule(holds: bool, text: str) -> None:
    if not holds:
        raise ValueError(f"rule of darktable packages broken: {text}")

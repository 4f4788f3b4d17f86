"""`expose export`: a network for other programs."""

from __future__ import annotations

from typing import Annotated

import tyro

from exposurediffusion.cli.console import Flag, Output, Summary, UsageError, as_usage
from exposurediffusion.weights.file import load
from exposurediffusion.weights.onnx_file import export_onnx


def export(
    *,
    output: Output,
    weights: str = "default",
    size: Annotated[tuple[int, int] | None, tyro.conf.arg(metavar="ROWS COLUMNS", help_behavior_hint="")] = None,
    overwrite: Flag = False,
    json: Flag = False,
) -> int:
    """Write a network as an ONNX file, for ONNX Runtime, OpenVINO and other programs.

    Its inputs are named: state and capture (packed planes at reference brightness, 1 is white), exposure, ratio, gain
    and read_variance (one number for each image); its output is estimate. The noise planes are made inside. The file is
    compared with PyTorch before it is written; FILE-check.npz beside it holds a known input and its estimate.

    Examples:
        expose export -o default.onnx
        expose export -o tile.onnx --size 256 256

    Args:
        output: the .onnx file to write.
        weights: a name, or a .safetensors file.
        size: rows and columns of packed pixels that every image shall have; without it they are free.
        overwrite: replace the file if it exists; it is kept otherwise.
        json: print the summary as JSON.
    """
    if output.suffix != ".onnx":
        raise UsageError(f"{output}: ONNX files end in .onnx")
    summary = Summary(json)
    if output.exists() and not overwrite:
        summary.keep(output)
        return summary.finish()
    with as_usage():
        model = load(weights)
    check, worst = export_onnx(output, model, size)
    facts = {"backbone": model.config.backbone, "multiple": model.multiple, "difference": worst}
    line = (
        f"{output}  {facts['backbone']}, sides multiples of {model.multiple}; within {worst:.1g} of PyTorch ({check})"
    )
    summary.add(line, output=str(output), check=str(check), **facts)
    return summary.finish()

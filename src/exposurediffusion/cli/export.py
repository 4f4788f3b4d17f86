"""`expose export`: a network for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from exposurediffusion.cli.console import Flag, Optional, Output, Summary, UsageError, as_usage
from exposurediffusion.models.tile_graph import LARGEST
from exposurediffusion.physics.cameras.known import load_profile
from exposurediffusion.physics.parameters import NoiseParameters
from exposurediffusion.weights.file import load
from exposurediffusion.weights.onnx_file import export_onnx
from exposurediffusion.weights.tile_package import export_darktable

_NAMES = {"onnx": "ONNX files", "darktable": "packages of darktable"}
_TILE = (512, 512)  # of darktable: 77 % of it are kept


def export(
    *,
    output: Output,
    program: Annotated[Literal["onnx", "darktable"], tyro.conf.arg(name="for")] = "onnx",
    weights: str = "default",
    size: Annotated[tuple[int, int] | None, tyro.conf.arg(metavar="ROWS COLUMNS", help_behavior_hint="")] = None,
    camera: Annotated[str | None, tyro.conf.arg(metavar="NAME|FILE", help_behavior_hint="")] = None,
    iso: Annotated[float | None, Optional] = None,
    ratio: Annotated[float | None, Optional] = None,
    overwrite: Flag = False,
    json: Flag = False,
) -> int:
    """Write a network for other programs: an ONNX file, or a model package for the raw denoising of darktable.

    The inputs of the ONNX file are named: state and capture (packed planes at reference brightness, 1 is white),
    exposure, ratio, gain and read_variance (one number for each image); its output is estimate. The noise planes are
    made inside. FILE-check.npz beside it holds a known input and its estimate. The package for darktable denoises one
    tile in one step, and leaves the brightness to darktable. Both are compared with PyTorch before they are written.

    Examples:
        expose export -o default.onnx
        expose export -o tile.onnx --size 256 256
        expose export --for darktable -o exposurediffusion.dtmodel
        expose export --for darktable -o sony-3200.dtmodel --camera SonyA7S2 --iso 3200

    Args:
        output: the file to write: .onnx, or for darktable .dtmodel, whose name is the model's.
        program: onnx for ONNX Runtime, OpenVINO and others; darktable.
        weights: a name, or a .safetensors file.
        size: rows and columns of packed pixels that every image shall have; without it they are free, and tiles of
            darktable, which are square, have 512.
        camera: for darktable: the noise of one camera at the ISO of --iso, a name or a JSON file; without it the noise
            is estimated from each tile.
        iso: see --camera.
        ratio: for darktable: amplification before the network, taken back after it; without it from each tile's mean.
        overwrite: replace the file if it exists; it is kept otherwise.
        json: print the summary as JSON.
    """
    _check(program, output, size, camera, iso, ratio)
    summary = Summary(json)
    if output.exists() and not overwrite:
        summary.keep(output)
        return summary.finish()
    with as_usage():
        model = load(weights)
        noise = None if camera is None or iso is None else _of_white(load_profile(camera).at_iso(iso))
    if program == "darktable":
        side = (size or _TILE)[0]
        worst = export_darktable(output, model, side, noise, ratio)
        facts = {"backbone": model.config.backbone, "size": side, "difference": worst}
        line = f"{output}  {model.config.backbone}, tiles of {side} packed pixels; within {worst:.1g} of PyTorch"
        summary.add(line, output=str(output), **facts)
        return summary.finish()
    check, worst = export_onnx(output, model, size)
    facts = {"backbone": model.config.backbone, "multiple": model.multiple, "difference": worst}
    line = (
        f"{output}  {facts['backbone']}, sides multiples of {model.multiple}; within {worst:.1g} of PyTorch ({check})"
    )
    summary.add(line, output=str(output), check=str(check), **facts)
    return summary.finish()


def _check(
    program: str,
    output: Path,
    size: tuple[int, int] | None,
    camera: str | None,
    iso: float | None,
    ratio: float | None,
) -> None:
    """Options that contradict each other."""
    suffix = ".onnx" if program == "onnx" else ".dtmodel"
    if output.suffix != suffix:
        raise UsageError(f"{output}: {_NAMES[program]} end in {suffix}")
    if program == "onnx" and (camera, iso, ratio) != (None, None, None):
        raise UsageError("--camera, --iso and --ratio go with --for darktable: an ONNX file is told the noise")
    if (camera is None) != (iso is None):
        raise UsageError("--camera and --iso go together")
    if ratio is not None and not 1 <= ratio <= LARGEST:
        raise UsageError(f"--ratio {ratio:g}: give 1 to {LARGEST:g}")
    if program == "darktable" and size is not None and size[0] != size[1]:
        raise UsageError(f"--size {size[0]} {size[1]}: tiles of darktable are square")


def _of_white(noise: NoiseParameters) -> tuple[float, float]:
    """Gain and read variance, where 1 is white."""
    return float(noise.gain) / noise.saturation, float(noise.read_variance) / noise.saturation**2

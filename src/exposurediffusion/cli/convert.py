"""`expose convert`: the authors' checkpoints as weights of this package."""

from __future__ import annotations

from pathlib import Path

from exposurediffusion.cli.console import Flag, Output, Positional, Summary, UsageError
from exposurediffusion.weights import official


def convert(checkpoint: Positional[Path], /, output: Output, overwrite: Flag = False, json: Flag = False) -> int:
    """Convert a checkpoint of the authors' release (.pt) into a weights file of ours.

    UNet and NAFNet of any size, with or without origin planes, and the plain feed-forward UNet; all is found from the
    shapes of the tensors. The file is read by PyTorch's restricted loader: nothing in it is executed.

    Args:
        checkpoint: the .pt file.
        output: the .safetensors file to write.
        overwrite: replace it if it exists; it is kept otherwise.
        json: print the summary as JSON.
    """
    if output.suffix != ".safetensors":
        raise UsageError(f"{output}: weights files end in .safetensors")
    if not checkpoint.is_file():
        raise ValueError(f"{checkpoint}: no such file")
    summary = Summary(json)
    if output.exists() and not overwrite:
        summary.keep(output)
        return summary.finish()
    model = official.convert(checkpoint, output)
    count = sum(parameter.numel() for parameter in model.parameters())
    facts = {"backbone": model.config.backbone, "parameters": count, "planes": model.config.planes}
    line = f"{output}  {facts['backbone']}, {count:,} parameters, {facts['planes']} planes"
    summary.add(line, input=str(checkpoint), output=str(output), **facts)
    return summary.finish()

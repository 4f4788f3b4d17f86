"""Weights of a U-Net whose even fields stay even: the mesh of its transposed convolutions is taken out of them.

A transposed 2x2 convolution gives each of its four phases weights of its own. Where the field is even, its input is
the same everywhere but for noise, and phases that answer it differently make a mesh. Of the difference of the phases
the part is taken out that lies along the mean inputs of even fields (of many levels, colours, ratios and ISO speeds);
what they do with edges and texture stays. Nothing is trained, and nothing costs time when the network runs.

python benchmarks/even_phases.py --weights FILE --output FILE
python benchmarks/picture.py --weights FILE --only mesh
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import torch
import tyro
from jaxtyping import Float64
from subjects import Shot, lit_field
from torch import Tensor, nn

from exposurediffusion.enhancement.frame import enhance
from exposurediffusion.models.unet import UNet
from exposurediffusion.weights.file import TrainedDenoiser, load, save_weights

SIDE = 96  # packed pixels
ISOS = (400, 800, 1600, 3200, 6400, 12800)


def even_fields(count: int, seed: int = 5) -> list[Shot]:
    """Captures of even fields: levels from 0.001 to 0.8 of white, ratios from 3 to 300."""
    draw, shots = random.Random(seed), []
    for number in range(count):
        ratio, green = 10 ** draw.uniform(0.5, 2.48), 10 ** draw.uniform(-3, -0.1)
        red, blue = (green * 10 ** draw.uniform(-0.5, 0.3) for _ in range(2))
        shots.append(lit_field((red, green, blue, green), SIDE, ratio, draw.choice(ISOS), 100 + number))
    return shots


def mean_inputs(model: TrainedDenoiser, layer: nn.Module, shots: Sequence[Shot]) -> Float64[Tensor, "n c"]:
    """What a layer is given on average, at each evaluation of the network with T = 1."""
    seen: list[Tensor] = []
    hook = layer.register_forward_hook(lambda _, given, __: seen.append(given[0].double().mean(dim=(0, 2, 3))))
    try:
        for shot in shots:
            enhance(shot.frame, model, ratio=shot.ratio, steps=1, noise=shot.noise, faithful=False, engine="torch")
    finally:
        hook.remove()
    return torch.stack(seen)


def even_out(up: nn.ConvTranspose2d, inputs: Float64[Tensor, "n c"], least: float) -> int:
    """Let the phases of an upsampling answer these inputs alike; how many directions they span.

    Args:
        up: a transposed 2x2 convolution.
        inputs: each as important as the others, whatever its length.
        least: directions with less than this part of the greatest singular value are noise, and stay.
    """
    _, values, directions = torch.linalg.svd(inputs / inputs.norm(dim=1, keepdim=True), full_matrices=False)
    along = directions[values > least * values[0]]
    weight = up.weight.data.double()
    apart = weight - weight.mean(dim=(2, 3), keepdim=True)
    up.weight.data = (weight - torch.einsum("kc,kd,doij->coij", along, along, apart)).to(up.weight.dtype)
    return len(along)


def main(weights: str, output: Path, least: float = 0.1, fields: int = 36) -> None:
    """Write the weights, evened out from the deepest upsampling to the last, in half precision.

    Args:
        weights: name or file.
        output: .safetensors file.
        least: see `even_out`.
        fields: captures that are looked at.
    """
    model = load(weights)
    (network,) = (part for part in model.modules() if isinstance(part, UNet))
    shots = even_fields(fields)
    for number, up in enumerate(network.ups):  # each changes what those after it are given
        assert isinstance(up, nn.ConvTranspose2d)
        count = even_out(up, mean_inputs(model, up, shots), least)
        print(f"upsampling {number + 1}: {count} of {up.in_channels} directions")
    save_weights(output, model, model.card, torch.float16)


if __name__ == "__main__":
    tyro.cli(main)

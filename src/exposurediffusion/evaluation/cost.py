"""What a network costs: parameters, multiply-adds and time of one evaluation (Tables 5b and 7b)."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from exposurediffusion.baselines.diffusion import ConditionalDiffusion
from exposurediffusion.models.denoiser import ExposureDenoiser
from exposurediffusion.models.nafnet import release_pooling
from exposurediffusion.models.xtrans import BayerOnXTrans
from exposurediffusion.physics.conditions import Conditions

Network = ExposureDenoiser | BayerOnXTrans | ConditionalDiffusion


@dataclass(frozen=True)
class Cost:
    """Of one evaluation of a network; an inference takes several.

    Attributes:
        parameters: how many.
        multiply_adds: on one frame, 512x512 packed pixels in the paper; half the floating-point operations.
        seconds: wall time, None: not measured.
    """

    parameters: int
    multiply_adds: float
    seconds: float | None = None


def cost(model: Network, size: int = 512, repeats: int = 5) -> Cost:
    """All three; `repeats` = 0 leaves the time out.

    Args:
        model, size: see `multiply_adds`.
        repeats: see `seconds`.
    """
    time = seconds(model, size, repeats) if repeats else None
    return Cost(parameters(model), multiply_adds(model, size), time)


def parameters(model: nn.Module) -> int:
    """All of them, whether they are trained or not."""
    return sum(parameter.numel() for parameter in model.parameters())


def multiply_adds(model: Network, size: int = 512, *, as_published: bool = False) -> float:
    """Of one evaluation on one frame; convolutions alone, as usual. Nothing is computed, only shapes are followed.

    Args:
        model: of a diffusion model, one step: one evaluation of its U-Net.
        size: side of the frame, packed pixels.
        as_published: count as the paper's tool does, which lets a transposed kernel act at each site of its output
            instead of its input: four times as often as it does for the UNet, 55.17 G instead of 48.73 G.
    """
    twin = deepcopy(model).to("meta")
    release_pooling(twin)  # held vectors would stay on the device
    surplus: list[int] = []

    def add_surplus(layer: nn.ConvTranspose2d, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        surplus.append(layer.weight.numel() * (output[0, 0].numel() - inputs[0][0, 0].numel()))

    for module in twin.modules() if as_published else ():
        if isinstance(module, nn.ConvTranspose2d):
            module.register_forward_hook(add_surplus)
    evaluate = _evaluation(twin, size, torch.device("meta"))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        evaluate()
    return counter.get_total_flops() / 2 + sum(surplus)


def seconds(model: Network, size: int = 512, repeats: int = 5) -> float:
    """Median wall time of one evaluation where the model lies, with PyTorch's present number of threads.

    Args:
        model, size: see `multiply_adds`.
        repeats: how many are timed, after one that is not.
    """
    device = next(model.parameters()).device
    evaluate, times = _evaluation(model, size, device), []
    training = model.training
    model.eval()
    with torch.inference_mode():
        for _ in range(repeats + 1):
            begin = perf_counter()
            evaluate()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(perf_counter() - begin)
    model.train(training)
    return median(times[1:])


def _evaluation(model: Network, size: int, device: torch.device) -> Callable[[], object]:
    """One evaluation on an even grey frame."""
    one = torch.ones(1, device=device)
    state = torch.full((1, model.config.planes, size, size), 0.5, device=device)
    if isinstance(model, ConditionalDiffusion):
        padded = -(-size // model.multiple) * model.multiple
        inputs = torch.zeros(1, 2 * model.config.planes, padded, padded, device=device)
        return lambda: model.backbone(inputs, one.long())
    return lambda: model(state, one, Conditions(100 * one, one, one))

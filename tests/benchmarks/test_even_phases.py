"""A U-Net whose phases were evened out leaves an even field even, and edges as they were."""

import torch
from even_phases import even_fields, even_out, mean_inputs
from torch import nn

from exposurediffusion.models.denoiser import DenoiserConfig
from exposurediffusion.models.unet import UNet
from exposurediffusion.process.sampling import Sampling
from exposurediffusion.weights.file import ModelCard, TrainedDenoiser


def unevenness(up: nn.Module, field: torch.Tensor) -> float:
    with torch.inference_mode():
        out = up(field)
    return float((out - out.mean(dim=(2, 3), keepdim=True)).abs().max())


def test_even_inputs_stay_even_and_others_keep_their_phases() -> None:
    torch.manual_seed(0)
    up = nn.ConvTranspose2d(8, 4, 2, stride=2)
    inputs = torch.rand(3, 8, dtype=torch.float64)
    field = inputs[1].float()[None, :, None, None].expand(1, 8, 6, 6)
    other = torch.linalg.svd(inputs).Vh[-1].float()[None, :, None, None].expand(1, 8, 6, 6)
    before = up(other).detach()
    assert unevenness(up, field) > 0.1
    assert even_out(up, inputs, 1e-6) == 3
    assert unevenness(up, field) < 1e-6
    torch.testing.assert_close(up(other), before)


def test_means_are_those_of_each_evaluation() -> None:
    torch.manual_seed(0)
    card = ModelCard(DenoiserConfig("unet", {"width": 2, "depth": 2}), Sampling(), "tiny", {})
    model = TrainedDenoiser(card).eval().requires_grad_(False)
    (network,) = (part for part in model.modules() if isinstance(part, UNet))
    shots = even_fields(2)
    inputs = mean_inputs(model, network.ups[0], shots)
    assert inputs.shape == (4, 8)  # T = 1: two evaluations each
    assert len(network.ups[0]._forward_hooks) == 0

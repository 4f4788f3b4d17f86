"""The residual U-Net without biases: homogeneous, of a reach that tiles can rely on, and without a mesh."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from exposurediffusion.models.resunet import ResUNet
from exposurediffusion.models.unet import UNet
from tests.models.conftest import randomised

DEPTHS = {
    "one": {"widths": (4, 6), "encoders": (1, 1), "decoders": (1,)},
    "two": {"widths": (4, 4, 6), "encoders": (2, 1, 2), "decoders": (1, 3)},
    "four": {"widths": (2, 2, 3, 3, 4), "encoders": (1,) * 5, "decoders": (1,) * 4},
}


def network(depth: str = "two", bias: bool = False) -> ResUNet:
    return randomised(ResUNet(3, 5, bias=bias, **DEPTHS[depth]))


@pytest.mark.parametrize("bias", [False, True])
def test_without_biases_twice_the_image_gives_twice_the_estimate(bias: bool, generator: torch.Generator) -> None:
    model, image = network(bias=bias), torch.randn(1, 3, 16, 16, generator=generator)
    for factor in (2.0, 0.01, 1e4):
        once, scaled = factor * model(image), model(factor * image)
        assert torch.allclose(scaled, once, rtol=1e-4, atol=1e-4 * float(once.std())) == (not bias)
    assert bool(model(torch.zeros(1, 3, 16, 16)).any()) == bias


@pytest.mark.parametrize("depth", DEPTHS)
def test_a_tile_with_its_halo_equals_the_whole(depth: str, generator: torch.Generator) -> None:
    model = network(depth)
    image = torch.rand(1, 3, 384, 384, generator=generator)
    whole = model(image)[..., 176:208, 176:208]

    def tile(halo: int) -> Tensor:
        halo = -(-halo // model.multiple) * model.multiple
        cut = image[..., 176 - halo : 208 + halo, 176 - halo : 208 + halo]
        return model(cut)[..., halo : halo + 32, halo : halo + 32]

    torch.testing.assert_close(tile(model.halo), whole, rtol=1e-4, atol=1e-5)
    assert (tile(model.multiple) - whole).abs().max() > 1e-3  # twin: too small a halo


@pytest.mark.parametrize("depth", DEPTHS)
def test_the_halo_is_what_reaches_a_tile_and_no_more(depth: str, generator: torch.Generator) -> None:
    """The slopes of a tile on multiples with respect to the image are zero outside the halo, and not up to its rim."""
    model = network(depth).double()
    side, middle = 2 * (model.halo // model.multiple + 2) * model.multiple, model.multiple
    begin = side // 2 // model.multiple * model.multiple
    image = torch.randn(1, 3, side, side, generator=generator, dtype=torch.float64).requires_grad_()
    square = model(image)[..., begin : begin + middle, begin : begin + middle]
    (slope,) = torch.autograd.grad((square * torch.randn(square.shape, generator=generator)).sum(), image)
    for axis in (2, 3):
        (reached,) = torch.where(slope.abs().amax(dim=(0, 1, 5 - axis)) > 0)
        reach = begin - int(reached[0]), int(reached[-1]) - (begin + middle - 1)
        assert max(reach) <= model.halo
        assert max(reach) > model.halo - model.multiple


@pytest.mark.parametrize("depth", DEPTHS)
def test_a_flat_field_stays_flat(depth: str) -> None:
    """Away from the edges of the frame; the twin, whose transposed convolution treats sites apart, makes a mesh."""
    levels = len(DEPTHS[depth]["widths"]) - 1
    flat = torch.tensor([0.3, -0.1, 0.7]).reshape(1, 3, 1, 1)
    spread = []
    bilinear = randomised(UNet(3, 5, width=4, depth=levels, upsampling="bilinear"))
    for model in (network(depth, bias=True), bilinear, randomised(UNet(3, 5, width=4, depth=levels))):
        margin = -(-model.halo // model.multiple) * model.multiple
        side = 2 * margin + 2 * model.multiple
        inner = model(flat.expand(1, 3, side, side))[..., margin:-margin, margin:-margin]
        assert inner.abs().mean() > 1e-2
        spread.append(float(inner.std(dim=(2, 3)).max() / inner.abs().max()))
    assert max(spread[:2]) < 1e-5
    assert spread[2] > 1e-3


def test_blocks_are_as_many_as_asked_for() -> None:
    model = ResUNet(3, 5, (4, 8, 16), (1, 2, 3), (4, 5))
    parts = [*model.encoders, *model.decoders]
    assert [len(list(part.children())) for part in parts] == [1, 2, 3, 4, 5]
    assert model.multiple == 4
    assert not [name for name, _ in model.named_parameters() if name.endswith("bias")]
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 2 * 15 + 2 + 2 + 2  # blocks, down, up, both ends


@pytest.mark.parametrize("options", [{"encoders": (1, 1)}, {"decoders": (1, 1, 1)}, {"widths": (4, 8)}])
def test_scales_that_do_not_fit_are_refused(options: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match="encoders are as many as widths and decoders one less, got"):
        ResUNet(3, 5, **{"widths": (4, 8, 16), "encoders": (1, 1, 1), "decoders": (1, 1), **options})


def test_it_says_its_image_in_full_precision_under_autocast(generator: torch.Generator) -> None:
    model, image = network(), torch.rand(1, 3, 16, 16, generator=generator)
    with torch.autocast("cpu", torch.bfloat16):
        said = model(image)
    assert said.dtype == torch.float32
    assert not torch.equal(said, said.bfloat16().float())
    torch.testing.assert_close(said, model(image), rtol=0.1, atol=0.05)


def test_it_exports(generator: torch.Generator) -> None:
    model = network()
    image, other = torch.rand(2, 1, 3, 24, 32, generator=generator)
    program = torch.export.export(model, (image,))
    assert "autocast" not in str(program.graph)
    torch.testing.assert_close(program.module()(other), model(other))

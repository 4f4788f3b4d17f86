"""Networks: their sizes as published, what they are given and say, and what tiling, batching and export rely on."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from exposurediffusion.models.denoiser import BACKBONES, DenoiserConfig, ExposureDenoiser, noise_map
from exposurediffusion.models.nafnet import ChannelNorm, GlobalPool, NAFNet, pooling_recorded, release_pooling
from exposurediffusion.models.unet import UNet
from exposurediffusion.models.xtrans import BayerOnXTrans
from exposurediffusion.physics.conditions import Conditions
from exposurediffusion.physics.noise import simulate_capture
from exposurediffusion.physics.parameters import NoiseParameters
from tests.golden.weights import NAFNET1, NAFNET2
from tests.models.conftest import Fixed, conditions_of, randomised
from tests.statistics import BOUND, variance_z

CONFIGS = {
    "unet": DenoiserConfig("unet", {"width": 32}),
    "nafnet1": DenoiserConfig("nafnet", {"width": 16, **NAFNET1}),
    "nafnet2": DenoiserConfig("nafnet", {"width": 16, **NAFNET2}),
    "feed-forward": DenoiserConfig("unet", photons=False, adaptive_residual=False),
}
SMALL = {
    "unet": DenoiserConfig("unet", {"width": 4, "depth": 2}, origin=True, noise_map=True),
    "bilinear": DenoiserConfig("unet", {"width": 4, "depth": 2, "upsampling": "bilinear"}, noise_map=True),
    "nafnet": DenoiserConfig("nafnet", {"width": 4, "encoders": (1, 1), "decoders": (1, 1)}, origin=True),
    "resunet": DenoiserConfig("resunet", {"widths": (4, 6), "encoders": (1, 1), "decoders": (1,)}, domain="stabilised"),
}


@pytest.mark.parametrize(
    ("name", "count"), [("feed-forward", 7_760_484), ("unet", 7_761_801), ("nafnet1", 4_793), ("nafnet2", 6_897_865)]
)
def test_parameters_are_as_many_as_published(name: str, count: int) -> None:
    with torch.device("meta"):
        model = ExposureDenoiser(CONFIGS[name])
    assert sum(p.numel() for p in model.parameters()) == count


@pytest.mark.parametrize("upsampling", ["transposed", "bilinear"])
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_a_tile_with_its_halo_equals_the_whole_for_the_unet(
    depth: int, upsampling: Literal["transposed", "bilinear"], generator: torch.Generator
) -> None:
    network = randomised(UNet(3, 5, width=4, depth=depth, upsampling=upsampling))
    image = torch.rand(1, 3, 384, 384, generator=generator)
    whole = network(image)[..., 176:208, 176:208]

    def tile(halo: int) -> Tensor:
        halo = -(-halo // network.multiple) * network.multiple
        return network(image[..., 176 - halo : 208 + halo, 176 - halo : 208 + halo])[
            ..., halo : halo + 32, halo : halo + 32
        ]

    torch.testing.assert_close(tile(network.halo), whole, rtol=1e-4, atol=1e-5)
    assert (tile(network.multiple) - whole).abs().max() > 1e-3  # twin: too small a halo


def test_an_unknown_upsampling_is_refused_by_the_names_of_the_others() -> None:
    with pytest.raises((TypeError, ValueError), match=r"upsampling.*nearest"):  # TypeError: while types are checked
        UNet(3, 5, upsampling="nearest")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("levels", [(), (1,), (1, 2)])
def test_a_tile_with_its_halo_equals_the_whole_for_nafnet_with_held_pooling(
    levels: tuple[int, ...], generator: torch.Generator
) -> None:
    network = randomised(NAFNet(3, 5, 4, levels, 1, levels))
    image = torch.rand(1, 3, 128, 128, generator=generator)
    with pooling_recorded(network) as pools:
        recorded = network(image)
    assert len(pools) == 1 + 2 * sum(levels)
    halo = -(-network.halo // network.multiple) * network.multiple
    cut = image[..., 56 - halo : 72 + halo, 56 - halo : 72 + halo]

    def middle(output: Tensor) -> Tensor:
        return output[..., halo : halo + 16, halo : halo + 16]

    whole = recorded[..., 56:72, 56:72]
    torch.testing.assert_close(middle(network(cut)), whole, rtol=1e-4, atol=1e-5)
    release_pooling(network)
    torch.testing.assert_close(network(image), recorded)
    assert (middle(network(cut)) - whole).abs().max() > 1e-4  # twin: each tile pools for itself


def test_held_pooling_is_that_of_the_whole_probe(generator: torch.Generator) -> None:
    pool, parts = GlobalPool(), torch.rand(4, 3, 8, 8, generator=generator)
    with pooling_recorded(pool):
        assert pool(parts).shape == (4, 3, 1, 1)
    torch.testing.assert_close(pool(torch.zeros(2, 3, 5, 5))[1, :, 0, 0], parts.mean(dim=(0, 2, 3)))
    release_pooling(pool)
    torch.testing.assert_close(pool(parts), parts.mean(dim=(2, 3), keepdim=True))


def test_channel_norm_is_layer_normalisation_of_each_pixel(generator: torch.Generator) -> None:
    norm, x = randomised(ChannelNorm(6)), torch.randn(2, 6, 5, 7, generator=generator)
    expected = F.layer_norm(x.movedim(1, -1), (6,), norm.weight, norm.bias, 1e-6).movedim(-1, 1)
    torch.testing.assert_close(norm(x), expected)


@pytest.mark.parametrize("name", SMALL)
def test_a_batch_of_n_is_n_batches_of_one(name: str, generator: torch.Generator) -> None:
    model = randomised(ExposureDenoiser(SMALL[name]))
    states, exposure = torch.rand(3, 4, 12, 16, generator=generator), torch.tensor([1.0, 30.0, 200.0])
    ratio, gain, read = torch.tensor([2.0, 100.0, 300.0]), torch.tensor([0.1, 2.0, 20.0]), torch.tensor([1.0, 5.0, 9.0])
    together = model(states, exposure, Conditions(ratio, gain, read**2, origin=states.flip(0)))
    for i in range(3):
        one = slice(i, i + 1)
        conditions = Conditions(ratio[one], gain[one], read[one] ** 2, origin=states.flip(0)[one])
        alone = model(states[one], exposure[one], conditions)
        for both, single in zip(together, alone, strict=True):
            torch.testing.assert_close(both[one], single)


def test_input_planes_in_their_order_and_units(generator: torch.Generator) -> None:
    model = ExposureDenoiser(SMALL["unet"])
    state, origin = torch.rand(2, 2, 4, 4, 4, generator=generator) - 0.3
    vectors = torch.tensor([[100.0, 10.0], [0.8, 4.0], [9.0, 25.0]])
    conditions = Conditions(vectors[0], vectors[1], vectors[2], origin=origin)
    exposure = np.array([34.0, 1.0]).reshape(2, 1, 1, 1)
    ratio, gain, read = (np.array(v).reshape(2, 1, 1, 1) for v in ([100.0, 10.0], [0.8, 4.0], [3.0, 5.0]))
    planes = model.condition(state, torch.tensor([34.0, 1.0]), conditions)
    x = state.double().numpy()
    white = 15583 * exposure / ratio  # DN that the state has collected where it is 1
    expected = [x, x * white / gain / 15583, origin, np.sqrt(gain * np.maximum(x, 0) * white + read**2) / white]
    np.testing.assert_allclose(planes, np.concatenate(expected, axis=1), rtol=1e-5, atol=1e-7)


def test_another_bit_depth_does_not_change_the_input(generator: torch.Generator) -> None:
    """Photon planes are electrons over one fixed number, whatever the camera's range of DN."""
    model, state = ExposureDenoiser(SMALL["unet"]), torch.rand(1, 4, 4, 4, generator=generator)
    one = torch.ones(1)
    planes = [
        model.condition(state, one, Conditions(100 * one, 0.8 * scale * one, 9 * scale**2 * one, 15583 * scale))
        for scale in (1.0, 0.25)
    ]
    torch.testing.assert_close(planes[0], planes[1])


def test_noise_map_is_the_deviation_of_a_real_exposure() -> None:
    clean = torch.tensor([0.0, 0.02, 0.2, 0.9]).reshape(1, 4, 1, 1).expand(1, 4, 200, 200)
    exposure, conditions = torch.tensor([8.0]), conditions_of(100, 2.0, read=6.0)
    noise, ratio = NoiseParameters.gaussian(2.0, 6.0), conditions.ratio / exposure
    real = simulate_capture(clean, ratio, noise, torch.Generator().manual_seed(4))[0]
    expected = noise_map(clean, exposure, conditions)[0, :, 0, 0].double().square()
    for plane, variance in zip(real, expected.tolist(), strict=True):
        assert abs(variance_z(plane, variance)) < BOUND
        assert abs(variance_z(plane, 2 * variance)) > 2 * BOUND


@pytest.mark.parametrize("logit", [-50.0, 0.4, 50.0])
def test_adaptive_residual_layer_works_on_any_backbone(logit: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKBONES, "fixed", Fixed)
    direct, residual = [0.3, 1.7, -0.2, 0.5], [0.1, -0.9, 0.9, 0.0]
    model = ExposureDenoiser(DenoiserConfig("fixed", {"says": [logit, *direct, *residual]}))
    estimate = model(torch.full((1, 4, 2, 3), 0.4), torch.ones(1), conditions_of(100, 1))
    mask = 1 / (1 + np.exp(-logit))
    branches = np.clip(direct, 0, 1), np.clip(np.add(residual, 0.4), 0, 1)
    expected = mask * branches[0] + (1 - mask) * branches[1]
    assert estimate.mask is not None
    assert estimate.mask.shape == (1, 1, 2, 3)
    for tensor, values in zip((estimate.image, estimate.direct, estimate.residual), (expected, *branches), strict=True):
        assert tensor is not None
        np.testing.assert_allclose(tensor[0, :, 1, 2].detach(), values, atol=1e-6)


@pytest.mark.parametrize("name", ["unet", "nafnet", "resunet"])
def test_without_the_layer_the_unet_says_the_image_and_the_others_what_to_add(
    name: str, generator: torch.Generator
) -> None:
    options = {"widths": (2, 2, 2, 2, 2)} if name == "resunet" else {"width": 4}
    model = randomised(ExposureDenoiser(DenoiserConfig(name, options, photons=False, adaptive_residual=False)))
    state = torch.rand(1, 4, 16, 16, generator=generator)
    said = model.backbone(state)
    estimate = model(state, torch.ones(1), conditions_of(100, 1))
    torch.testing.assert_close(estimate.image, said if name == "unet" else state + said)
    assert estimate[1:] == (None, None, None)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (12, 8), (17, 30)])
def test_any_size_comes_back_as_it_was(name: str, size: tuple[int, int], generator: torch.Generator) -> None:
    model = randomised(ExposureDenoiser(SMALL[name]))
    estimate = model.denoiser(100, 1)(torch.rand(2, 4, *size, generator=generator), torch.ones(2))
    assert estimate.shape == (2, 4, *size)
    assert estimate.isfinite().all()


def test_the_capture_is_the_origin_of_a_run(generator: torch.Generator) -> None:
    model = randomised(ExposureDenoiser(SMALL["nafnet"]))
    capture, later = torch.rand(2, 1, 4, 8, 8, generator=generator)
    bound = model.denoiser(100, 1.0)
    bound.keep = True
    bound(capture, torch.ones(1))
    second = bound(later, torch.full((1,), 50.0))
    given = Conditions(torch.tensor([100.0]), torch.ones(1), torch.zeros(1), origin=capture)
    assert torch.equal(second, model(later, torch.full((1,), 50.0), given).image)
    own = model.denoiser(100, 1.0)(later, torch.full((1,), 50.0))  # a run that begins with the later state
    assert not torch.equal(second, own)
    assert len(bound.estimates) == 2
    assert model.denoiser(100, 1.0).conditions.origin is None


def test_wrong_numbers_of_planes_are_refused() -> None:
    for planes, other in ((4, 9), (9, 4)):
        model = ExposureDenoiser(DenoiserConfig("nafnet", {"width": 4}, planes=planes))
        message = f"these weights are for {planes} planes, the image has {other}"
        with pytest.raises(ValueError, match=message):
            model.denoiser(100, 1)(torch.rand(1, other, 8, 8), torch.ones(1))


def test_impossible_networks_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown backbone 'resnet': one of unet, nafnet, resunet"):
        ExposureDenoiser(DenoiserConfig("resnet"))
    with pytest.raises(ValueError, match=r"backbone 'nafnet' cannot be made with options width, depth .*'depth'"):
        ExposureDenoiser(DenoiserConfig("nafnet", {"width": 4, "depth": 1}))
    with pytest.raises(ValueError, match="as many decoder as encoder levels, got 1 and 2"):
        NAFNet(4, 4, 4, (1, 1), 1, (1,))


@pytest.mark.parametrize("held", [False, True])
def test_nafnet_exports(held: bool, generator: torch.Generator) -> None:
    network = randomised(NAFNet(3, 5, 4, (1,), 1, (1,)))
    image, other = torch.rand(2, 1, 3, 24, 32, generator=generator)
    if held:
        with pooling_recorded(network):
            network(image)
    program = torch.export.export(network, (image,))
    torch.testing.assert_close(program.module()(other), network(other))


def test_unet_exports(generator: torch.Generator) -> None:
    network = randomised(UNet(3, 5, width=4, depth=2))
    image, other = torch.rand(2, 1, 3, 24, 32, generator=generator)
    program = torch.export.export(network, (image,))
    assert "autocast" not in str(program.graph)
    torch.testing.assert_close(program.module()(other), network(other))


def test_unet_says_its_image_in_full_precision_under_autocast(generator: torch.Generator) -> None:
    network, image = randomised(UNet(3, 5, width=4, depth=2)), torch.rand(1, 3, 16, 16, generator=generator)
    with torch.autocast("cpu", torch.bfloat16):
        said = network(image)
    assert said.dtype == torch.float32
    assert not torch.equal(said, said.bfloat16().float())
    torch.testing.assert_close(said, network(image), rtol=0.05, atol=0.02)


def test_bayer_weights_serve_each_xtrans_plane_in_its_own_place(
    generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BACKBONES, "fixed", Fixed)
    silent = {"says": [0.0] * 4}  # adds nothing to its input: what comes back has to be the state itself
    model = BayerOnXTrans(ExposureDenoiser(DenoiserConfig("fixed", silent, photons=False, adaptive_residual=False)))
    state = torch.rand(2, 9, 6, 4, generator=generator)
    assert torch.equal(model(state, torch.ones(2), conditions_of(100, 1, count=2)).image, state)
    with pytest.raises(ValueError, match="4 planes"):
        BayerOnXTrans(ExposureDenoiser(DenoiserConfig("nafnet", {"width": 4}, planes=9)))

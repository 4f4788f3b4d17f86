import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from exposurediffusion.enhancement.tiles import TiledDenoiser, split
from exposurediffusion.models.denoiser import DenoiserConfig, ExposureDenoiser
from exposurediffusion.models.xtrans import GROUPS, BayerOnXTrans
from exposurediffusion.physics.conditions import Conditions
from exposurediffusion.weights.file import ModelCard, TrainedDenoiser, load
from tests.enhancement.conftest import LEAST_SIDE

UNET = DenoiserConfig("unet", {"width": 4, "depth": 2}, origin=True, noise_map=True)
NAFNET = DenoiserConfig("nafnet", {"width": 8}, origin=True, noise_map=True)
SCALES = {"widths": (4, 6, 6), "encoders": (1, 1, 2), "decoders": (1, 1)}
RESUNET = DenoiserConfig("resunet", SCALES, domain="stabilised", white=4.0)


def model_of(config: DenoiserConfig) -> TrainedDenoiser:
    torch.manual_seed(3)
    model = TrainedDenoiser(ModelCard(config)).eval().requires_grad_(False)
    for parameter in model.parameters():  # NAFNet's residuals begin at zero, and would hide its pooling
        parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model


def conditions(origin: torch.Tensor) -> Conditions:
    return Conditions(torch.tensor([100.0]), torch.tensor([0.8]), torch.tensor([9.0]), origin=origin)


@given(st.integers(6, 300), st.integers(6, 300), st.one_of(st.none(), st.integers(16, 200)), st.integers(0, 40))
@settings(deadline=None, max_examples=50)
def test_tiles_cover_every_pixel_once_and_see_their_halo(rows, columns, side, halo):
    covered = torch.zeros(rows, columns, dtype=torch.int)
    for tile in split((rows, columns), side, halo, 16):
        covered[tile.inner] += 1
        for inner, outer, size in zip(tile.inner, tile.outer, (rows, columns), strict=True):
            assert outer.start <= max(0, inner.start - halo)
            assert outer.stop >= min(size, inner.stop + halo)
            assert outer.start % 16 == 0
    assert bool((covered == 1).all())


@pytest.mark.parametrize("config", [UNET, NAFNET, RESUNET], ids=["unet", "nafnet", "resunet"])
@pytest.mark.parametrize("shape", [(96, 112), (90, 77), (33, 130)])
def test_tiled_equals_whole(config, shape):
    model, state = model_of(config), config.white * torch.rand(1, 4, *shape)
    whole = TiledDenoiser(model, conditions(state), side=10_000)(state, torch.tensor([7.0]))
    tiled = TiledDenoiser(model, conditions(state), side=32)(state, torch.tensor([7.0]))
    torch.testing.assert_close(tiled, whole, atol=1e-5, rtol=0)
    direct = model(state, torch.tensor([7.0]), conditions(state)).image
    torch.testing.assert_close(whole, direct, atol=1e-5, rtol=0)
    assert config is not RESUNET or float(whole.max()) > 2  # there are highlights


@pytest.mark.parametrize("config", [UNET, RESUNET], ids=["unet", "resunet"])
def test_without_a_halo_tiles_would_show(config):
    model, state = model_of(config), torch.rand(1, 4, 96, 112)
    model.backbone.halo = 0  # pyright: ignore[reportArgumentType]
    whole = TiledDenoiser(model, conditions(state), side=10_000)(state, torch.ones(1))
    tiled = TiledDenoiser(model, conditions(state), side=32)(state, torch.ones(1))
    assert float((tiled - whole).abs().max()) > 1e-4


@pytest.mark.parametrize("side", [16, 64, 250])
def test_no_tile_is_smaller_than_the_kernels_want(side, least_side):
    least_side(LEAST_SIDE)
    for tile in split((700, 200), side, 16, 16):
        rows, columns = tile.outer
        assert rows.stop - rows.start >= LEAST_SIDE
        assert (columns.start, columns.stop) == (0, 200)
        assert rows.start % 16 == 0


def test_tiles_change_no_bit(generator, least_side):
    """Where libraries choose kernels as on the processors that this was measured on; else rounding alone."""
    model, state = load("default"), torch.rand(1, 4, 288, 320, generator=generator)
    corner = torch.zeros(1, 1, 288, 320)
    corner[..., :16, :16] = 1
    whole = TiledDenoiser(model, conditions(state), side=10_000)(state, torch.ones(1))[..., :16, :16]
    tiled = TiledDenoiser(model, conditions(state), side=16)
    small = tiled.where(corner, state)[..., :16, :16]
    least_side(LEAST_SIDE)
    large = tiled.where(corner, state)[..., :16, :16]
    torch.testing.assert_close(large, whole, atol=1e-5, rtol=0)
    if torch.backends.cpu.get_cpu_capability() == "AVX2":
        assert torch.equal(large, whole)
        assert not torch.equal(small, whole)  # twin: 144 packed pixels a side


def test_only_wanted_tiles_are_computed():
    model, state = model_of(UNET), torch.rand(1, 4, 96, 96)
    wanted = torch.zeros(1, 1, 96, 96)
    wanted[..., 40, 70] = 1
    tiled = TiledDenoiser(model, conditions(state), side=48)
    some, everything = tiled.where(wanted, state, torch.ones(1)), tiled(state, torch.ones(1))
    assert torch.equal(some[..., :48, 48:], everything[..., :48, 48:])
    assert torch.equal(some[..., 48:, :], state[..., 48:, :])


def test_bayer_weights_serve_each_xtrans_plane_in_its_own_place():
    class Scale(torch.nn.Module):
        """Gives each of the four places its own factor, so that a plane in a wrong place is found out."""

        multiple, halo, predicts_residual = 1, 0, False

        def forward(self, x):
            return x[:, :4] * torch.tensor([2.0, 3.0, 5.0, 7.0])[:, None, None]

    inner = ExposureDenoiser(DenoiserConfig("nafnet", {"width": 4}, adaptive_residual=False))
    inner.backbone = Scale()
    state = torch.rand(2, 9, 6, 6)
    scalars = torch.ones(2)
    image = BayerOnXTrans(inner)(state, scalars, Conditions(scalars, scalars, scalars)).image
    place = {plane: index for group in reversed(GROUPS) for index, plane in enumerate(group)}
    place[1] = 1  # the green that stands twice in the last group: its first place is the one used
    factor = torch.tensor([[2.0, 3.0, 5.0, 7.0][place[plane]] for plane in range(9)])
    torch.testing.assert_close(image, state * factor[:, None, None])


def test_bayer_on_xtrans_wants_bayer_weights():
    with pytest.raises(ValueError, match="4 planes"):
        BayerOnXTrans(ExposureDenoiser(DenoiserConfig("nafnet", {"width": 4}, planes=9)))

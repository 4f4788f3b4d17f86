"""Batched clean light equals the single views, in every symmetry; what is drawn has the shares and levels asked for."""

from __future__ import annotations

from dataclasses import replace
from math import atan2, log, pi

import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from exposurediffusion.files.develop import camera_from_rgb
from exposurediffusion.physics.cameras.known import calibrated_cameras
from exposurediffusion.physics.mosaic import CFA, pack
from exposurediffusion.pictures import colours
from exposurediffusion.pictures import views as views_module
from exposurediffusion.pictures.colours import draw_matrices, paint
from exposurediffusion.pictures.looks import Looks
from exposurediffusion.pictures.prepared import Pictures
from exposurediffusion.pictures.views import CleanViews
from exposurediffusion.simulation.light import Panorama, gain_for

CFAS = [CFA("RGGB"), CFA("GBRG"), CFA("XTRANS")]
by_name = pytest.mark.parametrize("cfa", CFAS, ids=lambda cfa: cfa.name)


def gathered(images: list[Tensor], panoramas: list[bool]) -> Pictures:
    """Pictures from images (3, rows, columns)."""
    rows, columns = (torch.tensor([image.shape[axis] for image in images]) for axis in (1, 2))
    pixels = torch.cat([image.flatten(1).T for image in images]).half()
    first = (rows * columns).cumsum(0) - rows * columns
    return Pictures(pixels, first, rows, columns, torch.tensor(panoramas), tuple("abcdefgh"[: len(images)]))


def smooth(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """A picture with structure everywhere, exact in 16 bits, the same on both sides."""
    coarse = torch.rand((1, 3, rows // 16, columns // 16), generator=generator)
    coarse[..., -1] = coarse[..., 0]
    return F.interpolate(coarse, (rows, columns), mode="bilinear", align_corners=True)[0].half().float()


@pytest.fixture
def pictures(generator: torch.Generator) -> Pictures:
    """A panorama between three photographs, one of which is smaller than most patches."""
    images = [torch.rand((3, *shape), generator=generator) for shape in ((90, 70), (64, 128), (20, 24), (61, 101))]
    images[1] = smooth(64, 128, generator)
    return gathered(images, [False, True, False, False])


def looking(
    picture: int, place: tuple[float, float], mirror: tuple[int, int] = (1, 1), swap: int = 0, count: int = 1
) -> Looks:
    one = torch.ones(count, dtype=torch.long)
    return Looks(
        picture * one,
        torch.tensor([place]).expand(count, 2),
        torch.tensor([mirror]).float().expand(count, 2),
        swap * one.float(),
        one,
        torch.zeros(count, 2, dtype=torch.long),
    )


def rgb_planes(views: CleanViews, looks: Looks, size: int, wide: bool, halved: int = 0) -> Tensor:
    """Red, green and blue light at the sites of all planes: (images, 3, planes, size, size)."""
    eye = torch.eye(3)[:, None, None, :].expand(3, len(looks), views.cfa.planes, 3)
    return torch.stack([views.light(looks, each, size, wide, halved) for each in eye], dim=1)


def single(pictures: Pictures, number: int) -> Tensor:
    return pictures.picture(number)


SYMMETRIES = [(y, x, swap) for y in (1, -1) for x in (1, -1) for swap in (0, 1)]


def turned(image: Tensor, y: int, x: int, swap: int) -> Tensor:
    """The image in a symmetry: mirrored in the picture's axes, then transposed."""
    image = image.flip([axis for axis, sign in ((-2, y), (-1, x)) if sign < 0])
    return image.transpose(-2, -1) if swap else image


@by_name
@pytest.mark.parametrize("symmetry", SYMMETRIES, ids=str)
def test_perspective_views_are_those_of_single_panoramas(
    cfa: CFA, symmetry: tuple[int, int, int], pictures: Pictures
) -> None:
    views, (y, x, swap), size = CleanViews(pictures, cfa), symmetry, 6
    panorama = Panorama(single(pictures, 1))
    for tilt, turn in ((0.5, 0.5), (0.2, 0.31), (0.9, 0.77)):
        looks = looking(1, (tilt, turn), (y, x), swap)
        yaw, pitch = (2 * turn - 1) * pi, atan2(2.4 * tilt - 1.2, 1.0)
        for zoom, halved in ((1.0, 0), (0.5, 1)):
            expected = turned(panorama.view(size * cfa.stride, yaw, pitch, zoom), y, x, swap)
            found = rgb_planes(views, looks, size, wide=True, halved=halved)[0]
            torch.testing.assert_close(found, pack(expected, cfa.tile), rtol=0, atol=1e-5)


@by_name
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("symmetry", SYMMETRIES, ids=str)
def test_crops_are_the_pixels_themselves(
    cfa: CFA, wide: bool, symmetry: tuple[int, int, int], pictures: Pictures
) -> None:
    views, (y, x, swap), size, side = CleanViews(pictures, cfa), symmetry, 6, 6 * cfa.stride
    picture = single(pictures, 3)
    for place in ((0.0, 0.0), (0.999999, 0.999999), (0.3, 0.6)):
        looks = looking(3, place, (y, x), swap)
        for step, halved in ((1, 0), (2, 1)):
            top, left = (int(at * (n - step * side + 1)) for at, n in zip(place, picture.shape[1:], strict=True))
            crop = turned(picture[:, top : top + step * side, left : left + step * side], y, x, swap)
            found = rgb_planes(views, looks, size, wide, halved)[0]
            expected = pack(F.avg_pool2d(crop[None], step)[0], cfa.tile)
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-6 if halved else 0)


def test_the_world_goes_on_behind(generator: torch.Generator) -> None:
    """At the seam, neighbours come from the panorama's other side; above the zenith there is nothing new."""
    pixels = torch.rand((3, 64, 128), generator=generator).half().float()
    rolled = gathered([pixels, pixels.roll(64, -1)], [True, True])
    views = CleanViews(rolled, CFA("RGGB"))
    for tilt in (0.0, 0.5, 1.0):
        behind = rgb_planes(views, looking(0, (tilt, 0.0)), 7, wide=True)
        ahead = rgb_planes(views, looking(1, (tilt, 0.5)), 7, wide=True)
        torch.testing.assert_close(behind, ahead, rtol=0, atol=1e-4)


def test_a_small_picture_is_mirrored_at_its_edges(pictures: Pictures) -> None:
    views = CleanViews(pictures, CFA("RGGB"))
    for wide in (False, True):
        found = rgb_planes(views, looking(2, (0.7, 0.9)), 30, wide)[0]
        mirrored = torch.cat([picture := single(pictures, 2), picture.flip(1), picture], 1)
        mirrored = torch.cat([mirrored, mirrored.flip(2), mirrored], 2)
        assert torch.equal(found, pack(mirrored[:, :60, :60], CFA("RGGB")))


def test_images_of_one_batch_do_not_touch_each_other(pictures: Pictures) -> None:
    views = CleanViews(pictures, CFA("XTRANS"))
    looks = [looking(1, (0.4, 0.2)), looking(0, (0.1, 0.8), (-1, 1), 1), looking(3, (0.5, 0.5)), looking(1, (0.9, 0.6))]
    joint = Looks(*(torch.cat([getattr(each, name) for each in looks]) for name in vars(looks[0])))
    together = rgb_planes(views, joint, 6, wide=True, halved=2)
    for number, each in enumerate(looks):
        alone = rgb_planes(views, each, 6, wide=True, halved=int(number < 2))[0]
        torch.testing.assert_close(together[number], alone, rtol=0, atol=1e-6)


# --------------------------------------------------------------------------------------------------- whole batches


@by_name
def test_batches_are_light_and_come_again_from_the_same_seed(cfa: CFA, pictures: Pictures) -> None:
    views = CleanViews(pictures, cfa)
    for count, size in ((1, 6), (2, 8), (7, 16), (16, 12)):
        batch, again, other = (views.batch(count, size, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6))
        assert batch.shape == (count, cfa.planes, size, size)
        assert torch.equal(batch, again)
        assert not torch.equal(batch, other)
        assert batch.isfinite().all()
        assert batch.min() >= 0
        assert batch.max() <= 4


@pytest.mark.parametrize("panorama", [False, True])
def test_one_picture_suffices_and_darkness_stays_dark(panorama: bool, generator: torch.Generator) -> None:
    for pixels in (torch.rand((3, 32, 64), generator=generator), torch.zeros(3, 32, 64)):
        batch = CleanViews(gathered([pixels], [panorama]), CFA("RGGB")).batch(5, 8, generator)
        assert batch.isfinite().all()
        assert bool(batch.any()) == bool(pixels.any())


def test_too_many_pixels_are_refused(pictures: Pictures, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views_module, "MOST", len(pictures.pixels))
    with pytest.raises(ValueError, match="use fewer"):
        CleanViews(pictures, CFA("RGGB"))


@by_name
def test_symmetries_keep_the_colour_filter_array(
    cfa: CFA, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture of one colour gives planes of one value, red, green and blue each in its own planes."""
    monkeypatch.setattr(views_module, "paint", lambda light, cfa, generator: light)
    flat = gathered([torch.tensor([0.6, 0.5, 0.3])[:, None, None].expand(3, 80, 80)], [False])
    batch = CleanViews(flat, cfa).batch(40, 8, generator)
    means = batch.mean((2, 3), keepdim=True)
    torch.testing.assert_close(batch, means.expand(batch.shape), rtol=1e-5, atol=1e-6)
    for letter in "RGB":
        same = means[:, [i for i, each in enumerate(cfa.colours) if each == letter]]
        torch.testing.assert_close(same, same[:, :1].expand(same.shape), rtol=1e-5, atol=1e-6)
    assert (means[:, 0] - means[:, 1]).abs().mean() > 0.01


def test_levels_are_those_asked_for_and_log_uniform(pictures: Pictures, generator: torch.Generator) -> None:
    batch = CleanViews(pictures, CFA("RGGB"), level=(0.01, 0.1)).batch(600, 8, generator)
    brightest = batch.clamp(max=1).mean((2, 3)).amax(1).double().log().numpy()
    assert stats.kstest(brightest, stats.uniform(log(0.01), log(10)).cdf).pvalue > 1e-4


def test_gains_are_each_images_own(generator: torch.Generator) -> None:
    light = torch.rand((5, 4, 400), generator=generator).exp() * torch.logspace(-2, 2, 5)[:, None, None]
    level = torch.tensor([0.4, 0.01, 0.3, 0.1, 0.2])
    gained = light * gain_for(light, level)[:, None, None]
    torch.testing.assert_close(gained.clamp(max=1).mean(-1).amax(-1), level, rtol=0.01, atol=0)
    torch.testing.assert_close(gain_for(light[2], level[2]), gain_for(light, level)[2])


def test_every_picture_is_equally_likely(pictures: Pictures, generator: torch.Generator) -> None:
    views = CleanViews(pictures, CFA("RGGB"))
    for count in (1, 3, 16):
        drawn = [views._draw(count, generator) for _ in range(2000 // count)]
        found = torch.cat([looks.picture for _, looks in drawn]).bincount(minlength=4)
        assert stats.chisquare(found.numpy()).pvalue > 1e-3
        assert not any(pictures.panorama[looks.picture[wide:]].any() for wide, looks in drawn)


def test_symmetries_and_places_are_all_drawn(pictures: Pictures, generator: torch.Generator) -> None:
    _, looks = CleanViews(pictures, CFA("RGGB"))._draw(4000, generator)
    kind = (looks.mirror[:, 0] > 0) * 4 + (looks.mirror[:, 1] > 0) * 2 + looks.swap
    assert stats.chisquare(kind.long().bincount(minlength=8).numpy()).pvalue > 1e-3
    for place in looks.place.T:
        assert stats.kstest(place.numpy(), "uniform").pvalue > 1e-4


# --------------------------------------------------------------------------------------------------------- colours


def test_white_stays_white_for_every_camera_in_usual_light(
    generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(colours, "LIT", 0.0)
    monkeypatch.setattr(colours, "TUNGSTEN_OR_SHADE", 0.0)
    red, green, blue = draw_matrices(2000, generator).sum(2).T
    torch.testing.assert_close(green, torch.ones(2000))
    for gain, low, high in ((1 / red, 1.4, 2.6), (1 / blue, 1.2, 2.5)):
        assert stats.kstest(gain.numpy(), stats.uniform(low, high - low).cdf).pvalue > 1e-4


def test_a_share_of_the_light_is_saturated(generator: torch.Generator) -> None:
    matrices = draw_matrices(4000, generator)
    white = matrices.sum(2)
    ratio = white.amax(1) / white.amin(1)
    share = float((ratio > 4).float().mean())  # more than any white balance
    assert 0.07 < share < 0.15
    assert float(ratio.max()) < 30 * 3.5 / 0.8


def test_hues_are_turned_around_grey(generator: torch.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    red = []
    for share in (0.0, 1.0):
        monkeypatch.setattr(colours, "TURNED", share)
        monkeypatch.setattr(colours, "LIT", 0.0)
        seen = draw_matrices(1000, generator.manual_seed(1))
        seen = seen / seen.sum(2, keepdim=True)  # white balanced
        red.append(seen[:, :, 0].argmax(1).bincount(minlength=3))
    assert int(red[0][0]) == 1000
    assert stats.chisquare(red[1].numpy()).pvalue > 1e-3


@by_name
def test_shapes_and_fields_are_painted_over_some_images(cfa: CFA, generator: torch.Generator) -> None:
    light = torch.ones(1200, cfa.planes, 12, 12)
    painted = paint(light, cfa, generator)
    assert painted.isfinite().all()
    assert painted.min() >= 0
    covered = (painted != 1).float().mean((1, 2, 3))
    touched, whole = float((covered > 0).float().mean()), float((covered == 1).float().mean())
    expected = colours.FIELD + colours.SHAPED
    assert 0.7 * expected < touched < 1.1 * expected  # some shapes are hardly on the image
    assert colours.FIELD / 2 < whole < 1.7 * colours.FIELD
    red, green = (painted[covered == 1][:, cfa.colours.index(letter)].mean((1, 2)) for letter in "RG")
    assert (red / green).log().abs().max() > log(10)


def test_a_shape_lies_in_the_same_place_in_every_plane(generator: torch.Generator) -> None:
    """Of a sharp shape, planes see the same sites: the mosaic's inside is one piece with straight or round edges."""
    cfa = CFA("XTRANS")
    painted = paint(torch.ones(400, cfa.planes, 24, 24), cfa, generator)
    inside = (painted != 1).float().mean((2, 3))
    torch.testing.assert_close(inside, inside[:, :1].expand(inside.shape), rtol=0, atol=0.06)


# ----------------------------------------------------------------------------------------------------------- device


class Watch(TorchDispatchMode):
    """Refuses operations that make a graphics card wait for the computer, or the other way round."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        assert name not in ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero"), name
        assert name != "lift_fresh", "a constant was made on the host"
        assert name != "where" or all(each.dim() for each in args), "a number is copied to the device"
        if name in ("index", "index_put_"):
            assert not any(each is not None and each.dtype == torch.bool for each in args[1])
        return func(*args, **(kwargs or {}))


@by_name
def test_nothing_is_read_from_the_device(cfa: CFA, pictures: Pictures, generator: torch.Generator) -> None:
    views = CleanViews(pictures, cfa)
    views.batch(5, 8, generator)  # what is read once
    with Watch():
        views.batch(5, 8, generator)
    with pytest.raises(AssertionError), Watch():  # twin
        bool(views.batch(5, 8, generator).any())
    assert replace(views, level=(0.1, 0.2)).batch(1, 6, generator).shape[0] == 1


def test_a_sixth_camera_is_drawn_and_one_without_colours_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    cameras = calibrated_cameras()
    last = cameras["NikonD850"]
    more = {
        "Sixth": replace(last, name="Sixth", colour_matrix=tuple(reversed(last.colour_matrix))),
        "Grey": replace(last, colour_matrix=()),
    }
    monkeypatch.setattr(colours, "calibrated_cameras", lambda: {**cameras, **more})
    colours._cameras.cache_clear()
    known = colours._cameras(torch.device("cpu"))
    colours._cameras.cache_clear()
    assert len(known) == len(cameras) + 1
    torch.testing.assert_close(known[-1], camera_from_rgb(more["Sixth"].colour_matrix))

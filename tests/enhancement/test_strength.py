import pytest
import torch

from exposurediffusion.enhancement.frame import enhance
from exposurediffusion.enhancement.options import EnhanceOptions
from exposurediffusion.enhancement.plan import GRAIN, plan
from exposurediffusion.enhancement.strength import blend
from tests.enhancement.test_custom import smooth
from tests.frames import capture


def noise_of(frame, estimate, luma: float, chroma: float) -> torch.Tensor:
    return (blend(estimate, frame, 50.0, luma, chroma) - estimate)[0]


@pytest.mark.parametrize("name", ["RGGB", "GBRG", "XTRANS"])
def test_brightness_and_colour_make_up_the_noise(name):
    frame = capture(name)
    estimate = (frame.planes[None] * 50).clamp(0, 1).mean((2, 3), keepdim=True).expand(1, *frame.planes.shape).clone()
    noise = frame.planes * 50 - estimate[0]
    bright, coloured = noise_of(frame, estimate, 0, 1), noise_of(frame, estimate, 1, 0)
    torch.testing.assert_close(bright + coloured, noise, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(noise_of(frame, estimate, 0.5, 1), bright / 2, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(noise_of(frame, estimate, 0.3, 0.3), 0.7 * noise, atol=1e-5, rtol=1e-4)
    assert bool((noise_of(frame, estimate, 1, 1) == 0).all())


def test_a_grey_change_is_brightness_alone():
    frame = capture()
    red, _, blue = frame.metadata.as_shot_neutral or (1, 1, 1)
    grey = torch.tensor([red, 1, blue, 1]).reshape(1, 4, 1, 1)
    estimate = frame.planes[None] * 50 - 0.1 * grey
    torch.testing.assert_close(noise_of(frame, estimate, 1, 0), torch.zeros_like(estimate[0]), atol=1e-5, rtol=0)


def test_grain_without_colour_is_less_coloured_than_the_blend(tiny_model):
    def spread(**options) -> float:
        red, _, blue, green = enhance(capture(), smooth, ratio=50.0, faithful=False, **options).planes[:, :14]
        return float((red / 0.5 - blue / 0.6).std() / green.std())

    assert spread(luma=0.2, chroma=1.0) < 0.8 * spread(strength=0.2)
    assert spread(luma=0.2, chroma=0.2) == spread(strength=0.2)


def test_an_automatic_strength_follows_the_noise(tiny_model):
    options = EnhanceOptions(ratio=50.0, strength="auto", chroma=1.0)
    decided = plan(capture(), tiny_model, options)
    assert decided.luma == pytest.approx(1 - GRAIN / decided.noise_level)
    assert decided.chroma == 1
    bright = plan(capture(), tiny_model, EnhanceOptions(ratio=2.0, strength="auto"))
    assert bright.luma == bright.chroma < decided.luma

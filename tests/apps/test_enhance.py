from dataclasses import replace
from math import log2

import pytest
import torch
from tests.apps.conftest import capture, scene

from exposurediffusion.apps.enhance import auto_ratio, enhance, plan, run_plan
from exposurediffusion.learn.weights import ModelCard, TrainedDenoiser
from exposurediffusion.models.denoiser import Estimate
from exposurediffusion.physics.mosaic import CFA
from exposurediffusion.physics.sensor import RawFrame, Sensor
from exposurediffusion.process.sampling import Sampling


class Truth(TrainedDenoiser):
    """Knows the clean scene: what comes out shows what the application itself does to an image."""

    def __init__(self, card: ModelCard, clean: torch.Tensor, ratio: float) -> None:
        super().__init__(card)
        self.clean, self.reference = clean, ratio

    def forward(self, state, exposure, conditions):
        """The scene at the amplification asked for, clipped at white."""
        return Estimate((self.clean * float(conditions.ratio) / self.reference).clamp(0, 1).expand_as(state))


def truth(tiny_model, frame_ratio: float = 50.0) -> Truth:
    return Truth(tiny_model.card, scene(64, 80)[None], frame_ratio).eval()


def test_reference_exposure_is_the_long_exposure(tiny_model):
    result = enhance(capture(), truth(tiny_model), ratio=50.0, exposure="reference")
    torch.testing.assert_close(result.planes, scene(64, 80).clamp(0, 1), atol=1e-5, rtol=0)
    assert result.metadata.baseline_exposure == 0


def test_capture_exposure_is_dark_and_keeps_the_highlights(tiny_model):
    frame = capture()
    result = enhance(frame, truth(tiny_model), ratio=50.0, exposure="capture")
    assert result.metadata.baseline_exposure == pytest.approx(log2(50))
    clean, lamp = scene(64, 80) / 50, (scene(64, 80)[0] > 1)
    torch.testing.assert_close(result.planes[:, ~lamp], clean[:, ~lamp], atol=1e-6, rtol=0)
    # 20 x white is beyond the darker bracket too: there the capture itself is taken.
    assert torch.equal(result.planes[:, lamp], frame.planes[:, lamp]) or torch.allclose(
        result.planes[:, lamp], frame.planes[:, lamp], atol=1e-6
    )


def test_highlights_just_above_white_come_from_the_bracket(tiny_model):
    clean = scene(64, 80)
    clean[clean > 1] = 3.0
    frame = capture()
    noisy = frame.with_planes(clean / 50 + 0.002 * torch.randn(4, 64, 80, generator=torch.Generator().manual_seed(1)))
    result = enhance(noisy, Truth(tiny_model.card, clean[None], 50.0).eval(), ratio=50.0, exposure="capture")
    torch.testing.assert_close(result.planes, clean / 50, atol=1e-5, rtol=0)


def test_strength_blends_with_the_capture(tiny_model):
    frame, model = capture(), truth(tiny_model)
    full = enhance(frame, model, ratio=50.0).planes
    half = enhance(frame, model, ratio=50.0, strength=0.5).planes
    torch.testing.assert_close(half, (full + frame.planes * 50) / 2, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("increment", ["mean", "sampled"])
@pytest.mark.parametrize("name", ["RGGB", "GBRG", "XTRANS"])
def test_result_depends_neither_on_tiles_nor_on_anything_but_the_seed(tiny_model, increment, name):
    frame = capture(name)
    sampling = Sampling(steps=2, increment=increment, clamp=(-4.0, 2.0))

    def run(**options):
        return enhance(frame, tiny_model, ratio=50.0, sampling=sampling, precision="fp32", **options).planes

    whole = run(tile=4096)
    torch.testing.assert_close(run(tile=16), whole, atol=1e-4, rtol=0)
    assert torch.equal(run(tile=4096), whole)
    assert torch.equal(run(tile=4096, seed=1), whole) == (increment == "mean")


def test_a_known_black_offset_is_taken_off(tiny_model):
    frame = capture()
    decided = plan(frame, tiny_model, ratio=50.0, strength=0.0)
    shifted = run_plan(frame, tiny_model, replace(decided, black_offset=3.0)).planes
    plain = run_plan(frame, tiny_model, decided).planes
    torch.testing.assert_close(
        plain - shifted, torch.full_like(plain, 50 * 3 / frame.sensor.saturation), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("name", ["RGGB", "BGGR", "XTRANS"])
def test_automatic_ratio_brings_the_green_to_its_key(name):
    cfa = CFA(name)
    sensor = Sensor.uniform(cfa, 512, 16383)
    blank = RawFrame(torch.zeros(120, 120).numpy(), sensor)

    def frame(level: float) -> RawFrame:
        planes = torch.full((cfa.planes, 120 // cfa.stride, 120 // cfa.stride), 0.9)
        greens = [i for i, colour in enumerate(cfa.colours) if colour == "G"]
        planes[greens] = level
        return blank.with_planes(planes)

    assert auto_ratio(frame(0.12 / 40)) == pytest.approx(40, rel=1e-3)
    assert auto_ratio(frame(0.5)) == pytest.approx(1.5, rel=1e-3)
    assert auto_ratio(frame(1e-6)) == pytest.approx(300, rel=1e-3)


@pytest.mark.parametrize("ratio", [0.0, 1.0, float("nan"), 1e9, -5.0])
def test_a_senseless_ratio_is_refused(tiny_model, ratio):
    with pytest.raises(ValueError, match=r"between 1\.5 and 1000"):
        plan(capture(), tiny_model, ratio=ratio)


def test_xtrans_weights_refuse_a_bayer_frame(tiny_model):
    card = replace(tiny_model.card, denoiser=replace(tiny_model.card.denoiser, planes=9))
    with pytest.raises(ValueError, match="X-Trans"):
        plan(capture(), TrainedDenoiser(card), ratio=50.0)

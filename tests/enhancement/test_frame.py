from dataclasses import replace
from math import log2

import numpy as np
import pytest
import torch

from exposurediffusion.enhancement import plan as planning
from exposurediffusion.enhancement.frame import enhance, enhance_with_maps, run_plan, tile_count
from exposurediffusion.enhancement.options import EnhanceOptions
from exposurediffusion.enhancement.plan import EnhancePlan, auto_ratio
from exposurediffusion.models.denoiser import Estimate
from exposurediffusion.physics.mosaic import CFA, PHASES, pack, unpack
from exposurediffusion.physics.noise import simulate_capture
from exposurediffusion.physics.parameters import NoiseParameters
from exposurediffusion.physics.sensor import RawFrame, Sensor, electrons_per_unit
from exposurediffusion.process.sampling import Sampling, StepRule
from exposurediffusion.weights.file import ModelCard, TrainedDenoiser, load
from tests.frames import capture, scene
from tests.rounding import FEW, flipped


def with_card(model: TrainedDenoiser, **changes) -> TrainedDenoiser:
    """The same network with another card."""
    twin = TrainedDenoiser(replace(model.card, **changes))
    twin.load_state_dict(model.state_dict())
    return twin.eval().requires_grad_(False)


class Truth(TrainedDenoiser):
    """Knows the clean scene: what comes out shows what the application itself does to an image."""

    def __init__(self, card: ModelCard, clean: torch.Tensor, ratio: float) -> None:
        super().__init__(card)
        self.clean, self.reference = clean, ratio

    def forward(self, state, exposure, conditions):
        """The scene at the amplification asked for, clipped at white."""
        return Estimate((self.clean * float(conditions.ratio) / self.reference).clamp(0, 1).expand_as(state))


def plan(frame: RawFrame, model: TrainedDenoiser, **options) -> EnhancePlan:
    return planning.plan(frame, model, EnhanceOptions(**options))


def enhance_with_spread(frame, model, samples: int, **options) -> tuple[RawFrame, np.ndarray]:
    result = enhance_with_maps(frame, model, samples=samples, **options)
    assert result.spread is not None
    return result.frame, result.spread


def truth(tiny_model, frame_ratio: float = 50.0) -> Truth:
    return Truth(tiny_model.card, scene(64, 80)[None], frame_ratio).eval()


def test_reference_exposure_is_the_long_exposure(tiny_model):
    result = enhance(capture(), truth(tiny_model), ratio=50.0, faithful=False, exposure="reference")
    torch.testing.assert_close(result.planes, scene(64, 80).clamp(0, 1), atol=1e-5, rtol=0)
    assert result.metadata.baseline_exposure == 0


def test_capture_exposure_is_dark_and_keeps_the_highlights(tiny_model):
    frame = capture()
    result = enhance(frame, truth(tiny_model), ratio=50.0, faithful=False, exposure="capture")
    assert result.metadata.baseline_exposure == pytest.approx(log2(50))
    clean, lamp = scene(64, 80) / 50, (scene(64, 80)[0] > 1)
    torch.testing.assert_close(result.planes[:, ~lamp], clean[:, ~lamp], atol=1e-6, rtol=0)
    # 20 x white is beyond the darker bracket too: there the capture itself is taken.
    assert torch.equal(result.planes[:, lamp], frame.planes[:, lamp]) or torch.allclose(
        result.planes[:, lamp], frame.planes[:, lamp], atol=1e-6
    )


@pytest.mark.parametrize(("lamp", "headroom"), [(0.9, 0), (1.8, 1), (3.5, 2), (7.0, 3), (12.0, 3)])
def test_an_automatic_exposure_has_headroom_for_what_the_capture_holds(tiny_model, lamp, headroom):
    clean = scene(64, 80)
    clean[clean > 1] = lamp
    frame = capture().with_planes(clean / 50)
    result = enhance(
        frame, Truth(tiny_model.card, clean[None], 50.0).eval(), ratio=50.0, faithful=False, exposure="auto"
    )
    assert result.metadata.baseline_exposure == headroom
    torch.testing.assert_close(result.planes, (clean / 2**headroom).clamp(max=1), atol=1e-5, rtol=0)


def test_a_bright_pixel_or_a_clipped_lamp_needs_no_headroom(tiny_model):
    clean = scene(64, 80)
    clean[clean > 1] = 50.0  # clipped in the capture
    clean[:, 0, 0] = 5.0  # one of 5120, more than 0.01 %
    model = Truth(tiny_model.card, clean[None], 50.0).eval()
    options = {"ratio": 50.0, "faithful": False, "defects": False, "exposure": "auto"}
    frame = capture().with_planes(clean / 50)
    assert enhance(frame, model, **options).metadata.baseline_exposure == 3
    clean[:, 0, 0] = 0.1
    assert enhance(capture().with_planes(clean / 50), model, **options).metadata.baseline_exposure == 0


def test_an_automatic_exposure_is_never_darker_than_the_capture(tiny_model):
    clean = scene(64, 80)
    clean[clean > 1] = 1.45
    clean[:, :4, :4] = 1.5  # clipped in the capture: stays white
    frame = capture().with_planes(clean / 1.5)
    result = enhance(
        frame,
        Truth(tiny_model.card, clean[None], 1.5).eval(),
        ratio=1.5,
        faithful=False,
        defects=False,
        exposure="auto",
    )
    assert result.metadata.baseline_exposure == pytest.approx(log2(1.5))
    assert float(result.planes[:, :4, :4].min()) > 0.9999


def test_highlights_just_above_white_come_from_the_bracket(tiny_model):
    clean = scene(64, 80)
    clean[clean > 1] = 3.0
    frame = capture()
    noisy = frame.with_planes(clean / 50 + 0.002 * torch.randn(4, 64, 80, generator=torch.Generator().manual_seed(1)))
    result = enhance(
        noisy, Truth(tiny_model.card, clean[None], 50.0).eval(), ratio=50.0, faithful=False, exposure="capture"
    )
    torch.testing.assert_close(result.planes, clean / 50, atol=1e-5, rtol=0)


def test_strength_blends_with_the_capture(tiny_model):
    frame, model = capture(), truth(tiny_model)
    full = enhance(frame, model, ratio=50.0).planes
    half = enhance(frame, model, ratio=50.0, strength=0.5).planes
    torch.testing.assert_close(half, (full + frame.planes * 50) / 2, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("increment", ["mean", "sampled"])
@pytest.mark.parametrize("name", ["RGGB", "GBRG", "XTRANS"])
def test_result_depends_neither_on_tiles_nor_on_anything_but_the_seed(tiny_model, increment, name):
    frame = capture(name, 48, 64)
    tiny_model = with_card(tiny_model, sampling=Sampling(2, increment=increment, clamp=(-4.0, 2.0)))
    one = electron(tiny_model) if increment == "sampled" else 0.0

    def run(**options):
        return enhance(frame, tiny_model, ratio=50.0, precision="fp32", faithful=False, **options).planes

    whole = run(tile=4096)
    assert flipped(run(tile=16), whole, one) <= FEW
    assert torch.equal(run(tile=4096), whole)
    assert torch.equal(run(tile=4096, seed=1), whole) == (increment == "mean")


def swapped(mosaic: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Rows or columns of each cell exchanged: another phase then looks like RGGB, mirrored inside its cells."""
    cells = mosaic.reshape(mosaic.shape[0] // 2, 2, -1, 2)
    return cells[:, :: -1 if rows else 1, :, :: -1 if columns else 1].reshape(mosaic.shape)


@pytest.mark.parametrize("name", ["GRBG", "GBRG", "BGGR"])
def test_every_phase_is_the_one_that_the_weights_know(name):
    """A crop of an RGGB frame that begins on another colour comes out as in the frame, away from its borders."""
    array, model = CFA("RGGB"), load()
    sensor = Sensor.uniform(array, 512, 16383)
    noise = NoiseParameters.gaussian(2.0, 6.0, sensor.saturation)
    y, x = torch.meshgrid(torch.arange(160.0), torch.arange(160.0), indexing="ij")
    grey = 0.3 + 0.2 * torch.sign(torch.sin(0.5 * x + 0.4 * y))  # slanting bars of five sites
    noisy = simulate_capture(pack(grey, array)[None], torch.tensor([30.0]), noise, torch.Generator().manual_seed(1))
    frame = sensor.digitise(unpack(noisy[0] / 30, array))

    def result(mosaic: np.ndarray, cfa: CFA) -> np.ndarray:
        capture = RawFrame(mosaic, Sensor.uniform(cfa, 512, 16383))
        clean = enhance(capture, model, ratio=30.0, steps=0, noise=noise, precision="fp32")
        return clean.sensor.normalise(clean.mosaic).numpy()

    rows, columns = PHASES[name]
    cut, inner = np.s_[rows : rows + 158, columns : columns + 158], np.s_[48:110, 48:110]
    whole = result(frame, array)[cut][inner]
    assert result(frame[cut], array.shifted(rows, columns))[inner] == pytest.approx(whole, abs=3e-4)
    twin = swapped(result(swapped(frame[cut], rows, columns), array), rows, columns)  # sorted by colour, tile unmoved
    assert abs(twin[inner] - whole).mean() > 1e-3


def electron(tiny_model) -> float:
    """What an electron more makes of the first simulated exposure of two (26 times the capture's); 1 is white."""
    noise = plan(capture(), tiny_model, ratio=50.0).noise
    return 1 / (26 * float(electrons_per_unit(50.0, noise.gain, noise.saturation)))


@pytest.mark.parametrize("name", ["RGGB", "BGGR", "XTRANS"])
def test_automatic_ratio_brings_the_green_to_its_key(name):
    cfa = CFA(name)
    sensor = Sensor.uniform(cfa, 512, 16383)
    blank = RawFrame(torch.zeros(120, 120).numpy(), sensor)

    def frame(level: float) -> RawFrame:
        planes = torch.full_like(blank.planes, 0.9)
        greens = [i for i, colour in enumerate(cfa.colours) if colour == "G"]
        planes[greens] = level
        return blank.with_planes(planes)

    assert auto_ratio(frame(0.12 / 40)) == pytest.approx(40, rel=1e-3)
    assert auto_ratio(frame(0.5)) == pytest.approx(1, rel=1e-3)
    assert auto_ratio(frame(1e-6)) == pytest.approx(300, rel=1e-3)


@pytest.mark.parametrize("ratio", [0.0, 0.99, float("nan"), 1e9, -5.0])
def test_a_senseless_ratio_is_refused(tiny_model, ratio):
    with pytest.raises(ValueError, match="between 1 and 1000"):
        plan(capture(), tiny_model, ratio=ratio)


def test_a_whole_number_is_a_ratio(tiny_model):
    assert enhance(capture(), tiny_model, ratio=50).planes.equal(enhance(capture(), tiny_model, ratio=50.0).planes)


def test_xtrans_weights_refuse_a_bayer_frame(tiny_model):
    card = replace(tiny_model.card, denoiser=replace(tiny_model.card.denoiser, planes=9))
    with pytest.raises(ValueError, match="X-Trans"):
        plan(capture(), TrainedDenoiser(card), ratio=50.0)


# ------------------------------------------------------------------------------------------------------- the rule for T


def ruled(tiny_model, rule: StepRule | None) -> TrainedDenoiser:
    return with_card(tiny_model, rule=rule)


def test_the_rule_chooses_by_the_noise_of_the_frame(tiny_model):
    level = plan(capture(), tiny_model, ratio=50.0).noise_level
    assert 0.001 < level < 0.2
    for counts, edge in (((0, 3), 0.9), ((3, 0), 1.1)):
        model = ruled(tiny_model, StepRule((edge * level,), counts))
        assert plan(capture(), model, ratio=50.0).sampling == replace(tiny_model.card.sampling, steps=3)
    doubled = plan(capture(), ruled(tiny_model, StepRule((1.5 * level,), (1, 0))), ratio=100.0)
    assert doubled.noise_level > 1.5 * level  # amplification makes noise
    assert doubled.sampling.steps == 0


@pytest.mark.parametrize("name", ["RGGB", "GBRG", "XTRANS"])
def test_the_noise_level_is_that_of_the_frame_whatever_its_array(tiny_model, name):
    decided = plan(capture(name), tiny_model, ratio=50.0)
    a = 50 / decided.noise.saturation
    signal = scene(64, 80).clamp(max=1).mean()
    expected = float((decided.noise.gain * a * signal + decided.noise.read_variance * a**2).sqrt())
    assert decided.noise_level == pytest.approx(expected, rel=0.02)
    assert plan(capture(name), tiny_model, ratio=50.0, tile=16).noise_level == decided.noise_level


def test_what_the_user_says_wins_over_the_rule(tiny_model):
    model = ruled(tiny_model, StepRule(counts=(3,)))
    assert plan(capture(), model, ratio=50.0, steps=0).sampling.steps == 0
    assert plan(capture(), model, ratio=50.0).sampling.steps == 3
    own = replace(tiny_model.card.sampling, transition="restart")  # the rule was not fitted for that
    assert plan(capture(), model, ratio=50.0, transition="restart").sampling == own


def test_without_a_rule_the_weights_own_steps_are_taken(tiny_model):
    assert plan(capture(), ruled(tiny_model, None), ratio=50.0).sampling == tiny_model.card.sampling


# ------------------------------------------------------------------------------------------------- spread of samples


def samples_of(tiny_model, count: int, **options) -> list[torch.Tensor]:
    """Single sampled exposures of the seeds that `samples` uses, as planes."""
    options = {"ratio": 50.0, "precision": "fp32", "faithful": False, "increment": "sampled", **options}
    return [enhance(capture(), tiny_model, seed=4 + n, **options).planes for n in range(count)]


def test_two_samples_are_the_runs_of_two_seeds(tiny_model):
    first, second = samples_of(tiny_model, 2)
    assert not torch.equal(first, second)
    result, spread = enhance_with_spread(capture(), tiny_model, 2, ratio=50.0, seed=4, precision="fp32", faithful=False)
    torch.testing.assert_close(result.planes, (first + second) / 2, atol=1e-6, rtol=1e-4)
    planes = pack(torch.from_numpy(spread), result.sensor.cfa)
    torch.testing.assert_close(planes, (first - second).abs() / 2**0.5, atol=1e-6, rtol=1e-3)
    assert spread.dtype == "float32"
    assert spread.shape == result.shape


def test_a_spread_has_the_scale_of_the_output(tiny_model):
    options = {"ratio": 50.0, "seed": 4, "precision": "fp32"}
    _, reference = enhance_with_spread(capture(), tiny_model, 3, exposure="reference", **options)
    _, dark = enhance_with_spread(capture(), tiny_model, 3, exposure="capture", **options)
    _, blend = enhance_with_spread(capture(), tiny_model, 3, strength=0.25, **options)
    plain = reference[:30]  # above the lamp
    assert plain.max() > 0
    assert dark[:30] == pytest.approx(plain / 50, rel=1e-4)
    assert blend == pytest.approx(reference / 4, rel=1e-4)


def test_highlights_of_the_capture_have_no_spread(tiny_model):
    class Bright(TrainedDenoiser):
        def forward(self, state, exposure, conditions):
            """Follows its state, so that samples differ everywhere."""
            return Estimate(state.clamp(0, 1) * 0.999)

    model = Bright(tiny_model.card).eval()
    _, spread = enhance_with_spread(capture(), model, 4, ratio=50.0, exposure="capture")
    lamp = unpack((scene(64, 80) > 1).float(), CFA("RGGB")).bool().numpy()
    assert spread[lamp].max() == 0
    assert spread[~lamp].mean() > 0


@pytest.mark.parametrize("name", ["RGGB", "GBRG", "XTRANS"])
def test_a_spread_depends_on_the_seed_and_not_on_tiles(tiny_model, name):
    def run(**options):
        values = {"ratio": 50.0, "steps": 2, "precision": "fp32", **options}
        return enhance_with_spread(capture(name, 48, 48), tiny_model, 3, **values)[1]

    whole, one = run(), electron(tiny_model)
    assert (run() == whole).all()
    assert flipped(run(tile=16), whole, one) <= FEW
    with pytest.raises(AssertionError, match="no rounding"):
        flipped(run(seed=1), whole, one)


def test_tiles_without_a_halo_are_no_matter_of_rounding(tiny_model, monkeypatch):
    def run(**options):
        values = {"ratio": 50.0, "steps": 2, "precision": "fp32", **options}
        return enhance_with_spread(capture(), tiny_model, 3, **values)[1]

    whole = run()
    monkeypatch.setattr(tiny_model.backbone, "halo", 0)
    with pytest.raises(AssertionError):
        assert flipped(run(tile=16), whole, electron(tiny_model)) <= FEW


def test_samples_need_steps_and_sampled_increments(tiny_model):
    with pytest.raises(ValueError, match="4 samples of T = 0 are all alike"):
        plan(capture(), tiny_model, ratio=50.0, steps=0, samples=4)
    with pytest.raises(ValueError, match="the increment has to be sampled"):
        plan(capture(), tiny_model, ratio=50.0, increment="mean", samples=4)
    with pytest.raises(ValueError, match="between 1 and 1000, got 0"):
        plan(capture(), tiny_model, ratio=50.0, samples=0)
    assert enhance_with_maps(capture(), tiny_model, ratio=50.0).spread is None
    decided = plan(capture(), ruled(tiny_model, StepRule(counts=(0,))), ratio=50.0, samples=4)
    assert (decided.sampling.steps, decided.sampling.increment) == (1, "sampled")


def test_samples_share_their_first_evaluation(tiny_model):
    decided = plan(capture(), tiny_model, ratio=50.0, samples=5, steps=2)
    ticks: list[int] = []
    run_plan(tiny_model, decided, tick=lambda: ticks.append(1))
    assert len(ticks) == tile_count(tiny_model, decided) == 1 + 5 * 2


def test_what_the_light_says_is_not_overruled_and_the_map_shows_where(tiny_model):
    """A network that sees no red: the capture brings it back, and the map is exactly what was added."""
    blind = truth(tiny_model)
    blind.clean = blind.clean * torch.tensor([0.2, 1.0, 1.0, 1.0]).reshape(1, 4, 1, 1)
    options = {"ratio": 50.0, "exposure": "reference", "noise": NoiseParameters.gaussian(0.5, 3.0, 15871.0)}
    alone = enhance(capture(), blind, faithful=False, **options).planes
    result = enhance_with_maps(capture(), blind, **options)
    clean = scene(64, 80).clamp(0, 1)
    assert float((alone[0] - clean[0]).mean()) < -0.09
    assert float((result.frame.planes[0] - clean[0]).abs().mean()) < 0.02
    assert result.spread is None
    torch.testing.assert_close(pack(torch.from_numpy(result.overruled), CFA("RGGB")), result.frame.planes - alone)
    assert enhance_with_maps(capture(), blind, faithful=False, **options).overruled is None


@pytest.mark.parametrize("shape", [(1, 64), (64, 1), (0, 0)])
def test_a_frame_smaller_than_a_tile_is_refused(tiny_model, shape):
    small = RawFrame(np.full(shape, 600, np.uint16), Sensor.uniform(CFA("RGGB"), 512, 16383))
    with pytest.raises(ValueError, match="too small"):
        plan(small, tiny_model)

"""The exposure process, given the truth, is a real exposure; and the schedules, increments and errors around it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from exposurediffusion.physics.conditions import Conditions
from exposurediffusion.physics.noise import simulate_capture
from exposurediffusion.physics.parameters import NoiseParameters
from exposurediffusion.physics.sensor import SATURATION, electrons_per_unit
from exposurediffusion.process.exposure import (
    TRANSITIONS,
    ExposureSchedule,
    ExposureStep,
    Transition,
    expose,
    sampled_light,
)
from exposurediffusion.process.sampling import Sampling
from tests.statistics import BOUND, covariance_z, mean_z, poisson_z, variance_z

RATIO, GAIN, READ = 100.0, 2.0, 6.0
LEVELS = (0.0, 0.03, 0.2, 0.8)  # of the four planes
ELECTRONS = float(electrons_per_unit(RATIO, GAIN))
TRUTH = torch.tensor(LEVELS).reshape(1, 4, 1, 1).expand(1, 4, 160, 160)


def capture_of_truth(gain: float = GAIN, read: float = READ, ratio: float = RATIO, seed: int = 1) -> Tensor:
    noise = NoiseParameters.gaussian(gain, read)
    return simulate_capture(TRUTH, torch.tensor([ratio]), noise, torch.Generator().manual_seed(seed))


def last_state(steps: Iterable[ExposureStep]) -> Tensor:
    return list(steps)[-1].state


def told_the_truth(
    transition: Transition, electrons: float | None = ELECTRONS, capture: Tensor | None = None, steps: int = 3
) -> dict[float, Tensor]:
    """The states of a simulated exposure whose denoiser knows the truth, by their exposure."""
    capture = capture_of_truth() if capture is None else capture
    run = expose(
        lambda state, exposure: TRUTH,
        capture,
        ExposureSchedule.paper(RATIO, steps),
        transition=transition,
        electrons=electrons,
        generator=torch.Generator().manual_seed(2),
    )
    return {float(step.exposure): step.state[0] for step in run}


def real_variance(level: float, exposure: float) -> float:
    """Variance of a real exposure of that length at reference brightness: its shot noise and one read."""
    white = SATURATION * exposure / RATIO  # DN
    return GAIN * level / white + (READ / white) ** 2


def largest_z(states: dict[float, Tensor]) -> float:
    """Of mean and variance of every plane of every state, against a real exposure's."""
    scores = [
        z
        for exposure, state in states.items()
        for plane, level in zip(state, LEVELS, strict=True)
        for z in (mean_z(plane, level), variance_z(plane, real_variance(level, exposure)))
    ]
    return float(np.abs(scores).max())


@pytest.mark.parametrize("transition", TRANSITIONS)
def test_every_state_is_a_real_exposure_with_one_read(transition: Transition) -> None:
    assert largest_z(told_the_truth(transition)) < BOUND


@pytest.mark.parametrize("transition", TRANSITIONS)
def test_last_state_has_the_whole_law_of_a_real_long_exposure(transition: Transition) -> None:
    last = told_the_truth(transition)[RATIO]
    real = capture_of_truth(ratio=1.0, seed=3)[0]
    for simulated, exposed in zip(last, real, strict=True):
        assert stats.ks_2samp(simulated.numpy().ravel(), exposed.numpy().ravel()).pvalue > 1e-5


MUTANTS: dict[str, Callable[[], dict[float, Tensor]]] = {
    "increments without noise": lambda: told_the_truth("markov", None),
    "gain of the increments doubled": lambda: told_the_truth("markov", ELECTRONS / 2),
    "gain of the increments doubled, restart": lambda: told_the_truth("restart", ELECTRONS / 2),
    "gain of the capture doubled": lambda: told_the_truth("markov", capture=capture_of_truth(gain=2 * GAIN)),
    "capture without read noise": lambda: told_the_truth("markov", capture=capture_of_truth(read=0.0)),
    "capture without noise": lambda: told_the_truth("markov", capture=TRUTH),
    "capture clipped at black": lambda: told_the_truth("markov", capture=capture_of_truth().clamp(min=0)),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_wrong_process_is_noticed(mutant: str) -> None:
    assert largest_z(MUTANTS[mutant]()) > 2 * BOUND


def states_covariance_z(transition: Transition, law: Transition) -> float:
    """Largest z of the covariance of two intermediate states of a run with `transition`, if `law` were right.

    Electrons and reads that both states hold: `markov` all of the earlier one, `restart` only the capture.
    """
    exposures = list(states := told_the_truth(transition))
    earlier, later = exposures[1], exposures[2]
    shared = earlier if law == "markov" else 1.0
    scores = []
    for plane, level in enumerate(LEVELS):
        expected = real_variance(level, shared) * shared**2 / (earlier * later)
        scores.append(covariance_z(states[earlier][plane], states[later][plane], expected))
    return float(np.abs(scores).max())


def test_covariance_of_two_states_tells_the_transitions_apart() -> None:
    pairs: tuple[tuple[Transition, Transition], ...] = (("markov", "restart"), ("restart", "markov"))
    for transition, other in pairs:
        assert states_covariance_z(transition, law=transition) < BOUND
        assert states_covariance_z(transition, law=other) > 2 * BOUND


ratios = st.floats(1, 10_000, width=32)
step_counts = st.integers(0, 12)


@given(ratio=ratios, steps=step_counts)
def test_paper_schedule_rises_from_the_capture_to_the_reference(ratio: float, steps: int) -> None:
    schedule = ExposureSchedule.paper(ratio, steps)
    exposures = schedule.exposures[:, 0].numpy()
    assert len(schedule) == len(exposures) == steps + 1
    np.testing.assert_allclose(exposures, np.linspace(1, ratio, steps + 1), rtol=1e-5)
    assert (np.diff(exposures) >= 0).all()


@given(ratio=st.floats(1.015625, 10_000, width=32), steps=step_counts)
def test_official_schedule_never_reaches_the_reference(ratio: float, steps: int) -> None:
    exposures = ExposureSchedule.official(ratio, steps).exposures[:, 0].numpy()
    np.testing.assert_allclose(exposures, np.linspace(1, ratio, steps + 2)[:-1], rtol=1e-5)
    assert exposures.max() < np.float32(ratio)


@given(ratio=st.lists(ratios, min_size=1, max_size=4), steps=step_counts, seed=st.integers(0, 2**30))
def test_random_schedule_starts_at_the_capture_and_is_sorted(ratio: list[float], steps: int, seed: int) -> None:
    drawn = ExposureSchedule.random(torch.tensor(ratio), steps, torch.Generator().manual_seed(seed)).exposures
    assert drawn.shape == (steps + 1, len(ratio))
    assert (drawn[0] == 1).all()
    assert (drawn.diff(dim=0) >= 0).all()
    assert (drawn <= torch.tensor(ratio)).all()


def test_random_schedule_is_uniform_between_capture_and_reference(generator: torch.Generator) -> None:
    drawn = ExposureSchedule.random(torch.full((20_000,), 300.0), 2, generator).exposures[1:].numpy()
    assert abs(mean_z(drawn.mean(axis=0), 150.5)) < BOUND
    assert stats.kstest(drawn.ravel(), stats.uniform(1, 299).cdf).pvalue > 1e-5


@pytest.mark.parametrize("law", [ExposureSchedule.paper, ExposureSchedule.official])
@pytest.mark.parametrize("ratio", [0.0, 0.99, -3.0, float("nan"), float("inf")])
def test_impossible_ratios_are_refused(law: Callable[..., ExposureSchedule], ratio: float) -> None:
    with pytest.raises(ValueError, match="finite number >= 1"):
        law(ratio, 2)
    with pytest.raises(ValueError, match="finite number >= 1"):
        law(torch.tensor([100.0, ratio]), 2)


def test_a_negative_number_of_steps_is_refused() -> None:
    for law in (ExposureSchedule.paper, ExposureSchedule.official):
        with pytest.raises(ValueError, match="cannot be negative"):
            law(torch.tensor([100.0]), -1)


@settings(max_examples=25)
@given(first=st.floats(0.1, 40), second=st.floats(0.1, 40), seed=st.integers(0, 2**30))
def test_two_stretches_count_what_one_of_their_length_does(first: float, second: float, seed: int) -> None:
    """Pois(a) + Pois(b) ~ Pois(a + b), through the increments themselves."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.ones(1, 1, 100, 200)

    def collect(duration: float) -> Tensor:
        return sampled_light(image, torch.tensor([duration]), generator) * duration

    counts = sum(collect(duration).double() for duration in (first, second))
    assert poisson_z(np.rint(np.asarray(counts)), first + second) < BOUND
    one_short = collect(first)
    assert poisson_z(one_short.round(), first + 0.1 * second + 1) > BOUND  # twin: another mean


def test_gradient_of_sampled_light_is_that_of_its_mean(generator: torch.Generator) -> None:
    capture, weight = torch.rand(2, 4, 8, 8, generator=generator), torch.rand(2, 4, 8, 8, generator=generator)
    schedule = ExposureSchedule.paper(torch.tensor([30.0, 200.0]), 1)
    gradients, states = [], []
    for electrons in (None, torch.tensor([5.0, 80.0])):
        estimate = torch.rand(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
        run = expose(lambda *_, say=estimate: say, capture, schedule, electrons=electrons, generator=generator)
        state = last_state(run)
        (state * weight).sum().backward()
        gradients.append(estimate.grad)
        states.append(state.detach())
    torch.testing.assert_close(gradients[1], gradients[0])
    assert (states[1] - states[0]).abs().max() > 0.01  # forward it is a sample
    assert gradients[0] is not None
    torch.testing.assert_close(gradients[0], weight * (1 - 1 / schedule.ratio).reshape(-1, 1, 1, 1))


def test_sampled_light_counts_whole_electrons(generator: torch.Generator) -> None:
    electrons = torch.tensor([6.0, 450.0])
    estimate = torch.rand(2, 4, 16, 16, generator=generator) - 0.2
    drawn = sampled_light(estimate, electrons, generator)
    counts = drawn * electrons.reshape(-1, 1, 1, 1)
    torch.testing.assert_close(counts, counts.round(), rtol=0, atol=1e-3)
    assert counts.max() > 20
    assert (drawn[estimate <= 0] == 0).all()


@pytest.mark.parametrize("name", ["markov", "restart"])
def test_one_seed_one_result(name: Transition) -> None:
    conditions = Conditions.of(NoiseParameters.gaussian(GAIN, READ), RATIO)

    def result(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        sampling = Sampling(2, "paper", transition=name, increment="sampled")
        return last_state(
            sampling.run(lambda state, _: state.clamp(0, 1), capture_of_truth(), conditions, generator=generator)
        )

    assert torch.equal(result(7), result(7))
    assert not torch.equal(result(7), result(8))


@pytest.mark.parametrize("schedule", ["paper", "official"])
@pytest.mark.parametrize("name", ["markov", "restart"])
def test_a_batch_of_n_is_n_batches_of_one(
    schedule: Literal["paper", "official"], name: Transition, generator: torch.Generator
) -> None:
    captures, ratio = torch.rand(3, 4, 6, 6, generator=generator), torch.tensor([1.5, 40.0, 300.0])

    def estimates(capture: Tensor, ratio: Tensor) -> list[Tensor]:
        def denoise(state: Tensor, exposure: Tensor) -> Tensor:
            return state * 0.7 + 0.1 * exposure.log().reshape(-1, 1, 1, 1)

        conditions = Conditions(ratio, torch.ones_like(ratio), torch.ones_like(ratio))
        return [step.estimate for step in Sampling(3, schedule, name).run(denoise, capture, conditions)]

    together = estimates(captures, ratio)
    for index in range(3):
        alone = estimates(captures[index : index + 1], ratio[index : index + 1])
        for both, one in zip(together, alone, strict=True):
            torch.testing.assert_close(both[index : index + 1], one)


@pytest.mark.parametrize("transition", TRANSITIONS)
def test_a_sampled_batch_with_a_generator_for_each_image_is_batches_of_one(
    transition: Transition, generator: torch.Generator
) -> None:
    captures, ratio = torch.rand(3, 4, 6, 6, generator=generator), torch.tensor([1.5, 40.0, 300.0])

    def result(images: slice, generators: list[torch.Generator]) -> Tensor:
        run = expose(
            lambda state, exposure: state.clamp(0, 1),
            captures[images],
            ExposureSchedule.random(ratio[images], 3, generators[images]),
            transition=transition,
            electrons=500 / ratio[images],
            generator=generators[images],
        )
        return last_state(run)

    def seeded(seeds: tuple[int, ...] = (5, 6, 7)) -> list[torch.Generator]:
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    together = result(slice(None), seeded())
    assert torch.equal(together, torch.cat([result(slice(i, i + 1), seeded()) for i in range(3)]))
    assert not torch.equal(together, result(slice(None), seeded((5, 6, 8))))


def test_mean_states_average_capture_and_estimates_by_exposure() -> None:
    """Against the electrons' own sums: markov keeps every stretch, restart one stretch of the newest estimate."""
    truths = [torch.full((1, 4, 2, 2), value) for value in (0.5, 0.2, 0.9)]
    capture, exposures = torch.full((1, 4, 2, 2), -0.3), [1.0, 34.0, 67.0]
    expected = {
        "markov": [-0.3, (-0.3 + 33 * 0.5) / 34, (-0.3 + 33 * 0.5 + 33 * 0.2) / 67],
        "restart": [-0.3, (-0.3 + 33 * 0.5) / 34, (-0.3 + 66 * 0.2) / 67],
    }
    for transition in ("markov", "restart"):
        remaining = iter(truths)
        schedule = ExposureSchedule.official(100.0, 2)
        steps = list(expose(lambda *_, left=remaining: next(left), capture, schedule, transition=transition))
        assert [float(step.exposure) for step in steps] == pytest.approx(exposures)
        assert [float(step.state.mean()) for step in steps] == pytest.approx(expected[transition], rel=1e-5)


def test_clamp_and_adjust_act_on_what_is_exposed_on() -> None:
    capture = torch.tensor([-0.5, 0.4, 1.5, 0.0]).reshape(1, 4, 1, 1)
    schedule = ExposureSchedule.paper(3.0, 1)
    first, second = expose(lambda state, _: state + 0.8, capture, schedule, clamp=(0.0, 1.0), adjust=lambda x: 2 * x)
    assert torch.equal(first.state, capture.clamp(0, 1))
    torch.testing.assert_close(first.estimate, 2 * (capture.clamp(0, 1) + 0.8))  # given as it is, exposed on clamped
    torch.testing.assert_close(second.state, (capture.clamp(0, 1) + 2 * first.estimate.clamp(0, 1)) / 3)
    free, _ = expose(lambda state, _: state, capture, schedule)
    assert torch.equal(free.state, capture)


def test_names_of_a_sampling_are_checked_and_survive_json() -> None:
    for wrong in ({"schedule": "linear"}, {"transition": "jump"}, {"increment": "median"}):
        with pytest.raises(Exception, match=next(iter(wrong.values()))):
            Sampling(**wrong)  # pyright: ignore[reportArgumentType]
    sampling = Sampling(3, "official", "restart", "sampled", clamp=(0.0, 1.0))
    assert Sampling.from_dict({**asdict(sampling), "clamp": [0.0, 1.0]}) == sampling

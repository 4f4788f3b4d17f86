"""Figures against NumPy's, the three corrections, seeds, infinite figures, and rows of a CSV."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from exposurediffusion.datasets.samples import Sample
from exposurediffusion.evaluation.measure import CORRECTIONS, Protocol, Record, measure, rendering
from exposurediffusion.evaluation.methods import Capture, Network, Prediction
from exposurediffusion.evaluation.summary import Score, deviation, mean, nominal, summarise
from exposurediffusion.physics.sensor import Metadata
from exposurediffusion.process.exposure import Adjust
from tests.simulated import DRAWN, STEADY, Independent, sample, tiny

ONE = sample()
REFERENCE = Independent(ONE.clean.numpy())


def network(**changes: Any) -> Network:
    return Network(tiny(), replace(STEADY, **changes), "tiny")  # type: ignore[arg-type] - a denoiser


def by_correction(method: Any, one: Sample = ONE, **protocol: Any) -> dict[str, Record]:
    return {record.correction: record for record in measure(method, one, Protocol(**protocol))}


@dataclass(frozen=True)
class Known:
    """Always the same estimate."""

    estimate: Tensor
    name: str = "known"
    iterates: bool = False
    random: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        return {"method": "known"}

    def __call__(self, sample: Sample, seed: int = 0, adjust: Adjust = lambda estimate: estimate) -> Prediction:
        return Prediction(self.estimate)


# ---------------------------------------------------------------------------------------------------------- figures


def test_figures_of_the_capture_are_numpys() -> None:
    found = by_correction(Capture())
    assert ONE.capture is not None
    capture = ONE.capture.numpy()
    assert (found["none"].psnr, found["none"].ssim) == pytest.approx(REFERENCE.figures(capture), abs=1e-6)
    corrected = REFERENCE.figures(REFERENCE.corrected(capture))
    assert (found["final"].psnr, found["final"].ssim) == pytest.approx(corrected, abs=1e-6)
    assert abs(found["final"].psnr - found["none"].psnr) > 1e-2  # twin: the correction does something
    assert replace(found["oracle"], correction="final") == found["final"]  # it has no loop to be corrected in


def by_hand(oracle: bool, fed_back: bool = True) -> np.ndarray:
    """T = 1, paper, markov, mean: two evaluations, in NumPy but for the network."""
    model = tiny().denoiser(ONE.ratio or 1, 0.9, 2.5, 15583.0)
    assert ONE.capture is not None
    state = ONE.capture.clamp(0, 1)[None]
    first = model(state, torch.ones(1)).numpy()[0]
    again = REFERENCE.corrected(first) if oracle and fed_back else first
    newer = torch.from_numpy(state.numpy()[0] * 0.01 + again.clip(0, 1) * 0.99).float()[None]
    last = model(newer, torch.full((1,), 100.0)).numpy()[0]
    return REFERENCE.corrected(last) if oracle else last


def test_figures_of_a_network_are_those_of_a_loop_by_hand() -> None:
    found = by_correction(network())
    plain = by_hand(oracle=False)
    expected = {
        "none": REFERENCE.figures(plain),
        "final": REFERENCE.figures(REFERENCE.corrected(plain)),
        "oracle": REFERENCE.figures(by_hand(oracle=True)),
    }
    for correction, figures in expected.items():
        assert (found[correction].psnr, found[correction].ssim) == pytest.approx(figures, abs=1e-6)


def test_oracle_feeds_the_corrected_estimate_back() -> None:
    """Twins: corrected at the end alone, which is `final`."""
    found = by_correction(network())["oracle"]
    once = REFERENCE.figures(REFERENCE.corrected(by_hand(oracle=True, fed_back=False)))
    assert once == pytest.approx(REFERENCE.figures(REFERENCE.corrected(by_hand(oracle=False))), abs=1e-9)
    assert abs(found.psnr - once[0]) > 1e-4


def test_without_steps_oracle_is_final() -> None:
    found = by_correction(network(steps=0))
    assert replace(found["oracle"], correction="final") == found["final"]
    assert network(steps=1).iterates
    assert not network(steps=0).iterates


def test_an_estimate_outside_the_range_is_clipped_before_it_is_measured() -> None:
    wild = 3 * ONE.clean - 0.4
    found = by_correction(Known(wild), corrections=("none",))["none"]
    assert found.psnr == pytest.approx(REFERENCE.figures(wild.numpy())[0], abs=1e-6)
    unclipped = -10 * math.log10(float((wild - ONE.clean).double().square().mean()))
    assert abs(found.psnr - unclipped) > 1  # twin


def test_the_reference_as_its_own_estimate_is_infinite_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = by_correction(Known(ONE.clean), srgb=True)
        assert all(record.psnr == math.inf and record.ssim == pytest.approx(1) for record in found.values())
        assert found["none"].psnr_srgb == math.inf
        figure = summarise(found.values())["known", 100, "final"]
    assert (figure.psnr, figure.spread) == (math.inf, None)
    assert str(figure) == "inf / 1.000"


def test_records_say_what_they_are_of() -> None:
    (record,) = measure(Capture(), ONE, Protocol(corrections=("final",)), "short/corner.dng")
    facts = record.method, record.file, record.scene, record.ratio, record.iso, record.seed, record.correction
    assert facts == ("capture", "short/corner.dng", "corner", 100.0, 800.0, 0, "final")
    assert record.psnr_srgb is None


def test_show_is_given_the_first_answer_and_its_correction() -> None:
    shown: list[tuple[Prediction, Tensor]] = []
    drawn = Network(tiny(), DRAWN, "tiny")  # type: ignore[arg-type] - a denoiser
    list(measure(drawn, ONE, Protocol(seeds=2), show=lambda prediction, final: shown.append((prediction, final))))
    ((prediction, final),) = shown
    np.testing.assert_allclose(final, REFERENCE.corrected(prediction.estimate.numpy()), atol=1e-5)


# ------------------------------------------------------------------------------------------------------------ seeds


def test_seeds_of_sampled_increments_give_mean_and_spread() -> None:
    drawn = Network(tiny(), DRAWN, "tiny")  # type: ignore[arg-type] - a denoiser
    records = list(measure(drawn, ONE, Protocol(corrections=("final",), seeds=3)))
    values = [record.psnr for record in records]
    assert [record.seed for record in records] == [0, 1, 2]
    assert len(set(values)) == 3
    figure = summarise(records)[drawn.name, 100, "final"]
    assert figure.psnr == pytest.approx(np.mean(values))
    assert figure.spread == pytest.approx(np.std(values, ddof=1))
    assert records == list(measure(drawn, ONE, Protocol(corrections=("final",), seeds=3)))  # and can be had again


def test_what_draws_nothing_is_measured_once() -> None:
    assert len(list(measure(network(), ONE, Protocol(corrections=("none",), seeds=3)))) == 1
    assert len(list(measure(network(increment="sampled"), ONE, Protocol(corrections=("none",), seeds=3)))) == 3
    assert not network(increment="sampled", steps=0).random


def record(psnr: float, seed: int = 0, scene: str = "a", ratio: float = 100.0, **others: Any) -> Record:
    return Record("x", f"{scene}.dng", scene, ratio, None, seed, "final", psnr, 0.5, **others)


def test_spread_is_that_of_the_means_not_of_the_images() -> None:
    """Twin: the images differ by 20 dB, the means of the seeds by 2."""
    records = [record(20, 0, "a"), record(40, 0, "b"), record(22, 1, "a"), record(42, 1, "b")]
    figure = summarise(records)["x", 100, "final"]
    assert (figure.psnr, figure.images) == (31, 2)
    assert figure.spread == pytest.approx(math.sqrt(2))
    assert str(figure) == "31.00 ±1.41 / 0.500"


def test_means_and_deviations_with_infinities() -> None:
    assert mean([30.0, math.inf]) == math.inf
    assert mean([30.0, 32.0]) == 31.0
    assert deviation([30.0]) is None
    assert deviation([30.0, math.inf]) is None
    assert deviation([30.0, 32.0]) == pytest.approx(math.sqrt(2))


def test_ratios_are_told_apart_and_those_of_a_table_are_met() -> None:
    records = [record(30, ratio=300.0), record(34, ratio=303.0, scene="b"), record(40, ratio=100.0)]
    found = summarise(records)
    assert {key[1]: figure.psnr for key, figure in found.items()} == {300: 32, 100: 40}


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [(1, 1), (98, 100), (104.9, 100), (106, 106), (240, 250), (275, 275), (303.03, 300), (10.2, 10), (17.6, 18)],
)
def test_nominal_ratios(ratio: float, expected: int) -> None:
    assert nominal(ratio) == expected


# ------------------------------------------------------------------------------------------------------------- srgb


def test_figures_of_the_rendering() -> None:
    found = by_correction(Capture(), srgb=True)["final"]
    assert ONE.capture is not None
    corrected = torch.from_numpy(REFERENCE.corrected(ONE.capture.numpy())).float()
    estimate, reference = (rendering(planes, ONE.metadata).numpy() for planes in (corrected, ONE.clean))
    figures = Independent(reference).figures(estimate)
    assert (found.psnr_srgb, found.ssim_srgb) == pytest.approx(figures, abs=1e-4)
    assert abs(figures[0] - found.psnr) > 0.5  # twin: another space
    figure = summarise([found])["capture", 100, "final"]
    assert (figure.psnr_srgb, figure.ssim_srgb) == (found.psnr_srgb, found.ssim_srgb)


def test_the_rendering_keeps_a_neutral_neutral_and_has_srgbs_curve() -> None:
    neutral = torch.tensor([0.5, 1.0, 0.7, 1.0])[:, None, None] * torch.linspace(0.01, 0.4, 20).expand(4, 8, 20)
    shown = rendering(neutral, Metadata(as_shot_neutral=(0.5, 1.0, 0.7)))
    assert shown.shape == (3, 8, 20)
    torch.testing.assert_close(shown[0], shown[1], atol=1e-4, rtol=0)
    torch.testing.assert_close(shown[2], shown[1], atol=1e-4, rtol=0)
    linear = torch.linspace(0.01, 0.4, 20)  # the strongest colour stays, the others are raised to it
    torch.testing.assert_close(shown[1, 0], 1.055 * linear ** (1 / 2.4) - 0.055, atol=1e-4, rtol=0)
    assert rendering(sample(planes=9).clean, None).shape == (3, 24, 24)


# --------------------------------------------------------------------------------------------------- rows, protocol

NUMBERS = st.floats(allow_nan=False)
TEXTS = st.text(st.characters(exclude_categories=["C"]))  # no control characters in names


@given(
    st.builds(
        Record,
        method=TEXTS,
        file=TEXTS,
        scene=TEXTS,
        ratio=NUMBERS,
        iso=st.none() | NUMBERS,
        seed=st.integers(),
        correction=st.sampled_from(CORRECTIONS),
        psnr=NUMBERS,
        ssim=NUMBERS,
        psnr_srgb=st.none() | NUMBERS,
        ssim_srgb=st.none() | NUMBERS,
    )
)
def test_rows_are_read_back_as_they_were(one: Record) -> None:
    row = {name: str(value) for name, value in one.to_row().items()}
    assert Record.from_row(row) == one


def test_a_row_without_a_column_or_number_says_so() -> None:
    row = {name: str(value) for name, value in record(30.0).to_row().items()}
    with pytest.raises(ValueError, match="psnr"):
        Record.from_row({name: value for name, value in row.items() if name != "psnr"})
    with pytest.raises(ValueError, match="many"):
        Record.from_row({**row, "ssim": "many"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"corrections": ()}, "at least one"),
        ({"seeds": 0}, "at least one"),
        ({"crop": 6}, "at least 7"),
    ],
)
def test_protocols_that_there_are_not(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Protocol(**options)


def test_a_protocol_tells_all_that_is_fixed() -> None:
    plain = Protocol(512).to_dict()
    assert (plain["crop"], plain["clip"], plain["range"], plain["ssim"][:3]) == (
        512,
        "[0, 1]",
        255,
        "7x7",
    )
    assert str(Score(31.567, 0.6937)) == "31.57 / 0.694"

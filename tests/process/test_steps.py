"""The rule for the number of steps: where T changes, and what no rule can be."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from exposurediffusion.process.sampling import StepRule

RULE = StepRule((0.01, 0.1), (0, 2, 1))


@pytest.mark.parametrize(
    ("level", "steps"), [(0.0, 0), (0.0099, 0), (0.01, 2), (0.0999, 2), (0.1, 1), (5.0, 1), (float("inf"), 1)]
)
def test_steps_by_noise_level(level: float, steps: int) -> None:
    assert RULE.steps(level) == steps


def test_a_rule_without_levels_is_a_fixed_number() -> None:
    assert {StepRule(counts=(3,)).steps(level) for level in (0.0, 0.5, 9.0)} == {3}
    assert str(StepRule(counts=(3,))) == "T = 3"


def test_it_says_what_it_does() -> None:
    assert str(RULE) == "T = 0 below 0.01, 2 below 0.1, 1 above"


def test_json_round_trip() -> None:
    assert StepRule.from_dict(json.loads(json.dumps(asdict(RULE)))) == RULE


@pytest.mark.parametrize(
    ("levels", "counts"),
    [
        ((0.1,), (1,)),
        ((), (1, 2)),
        ((0.2, 0.1), (0, 1, 2)),
        ((0.1, 0.1), (0, 1, 2)),
        ((0.0,), (0, 1)),
        ((float("nan"),), (0, 1)),
        ((float("inf"),), (0, 1)),
        ((0.1,), (0, -1)),
    ],
)
def test_senseless_rules_are_refused(levels: tuple[float, ...], counts: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"noise levels|not negative"):
        StepRule(levels, counts)

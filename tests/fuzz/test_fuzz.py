"""Three hundred damaged files of all kinds: each is refused in one line that names it, or read to finite numbers."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import corpus, targets
from tests.fuzz.mutations import FORMS, mutate
from tests.fuzz.targets import Outcome, put, read

_SLOW = [HealthCheck.too_slow, HealthCheck.large_base_example, HealthCheck.data_too_large]
_TIMES = iter(range(1, 1 << 30))


@pytest.fixture(scope="session")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> list[corpus.Seed]:
    return [seed for seed in corpus.make(tmp_path_factory.mktemp("corpus")) if seed.target != "photograph"]


def test_the_corpus_is_sound(seeds: list[corpus.Seed]) -> None:
    """Else mutations would be refused for what they did not do. CR3 ends where its compressed track would begin."""
    outcomes = {seed.name: read(seed.target, seed.path) for seed in seeds}
    assert [name for name, (outcome, _) in outcomes.items() if outcome is not Outcome.PROCESSED] == ["raw-11.cr3"]
    assert {seed.form for seed in seeds if seed.form} == FORMS.keys()


@settings(max_examples=300, derandomize=True, database=None, suppress_health_check=_SLOW)
@given(which=st.integers(0, 10_000), random=st.randoms(use_true_random=False))
def test_damaged_files_are_refused_or_read(seeds: list[corpus.Seed], which: int, random: Random) -> None:
    sound = seeds[which % len(seeds)]
    put(sound.path, mutate(sound.content, sound.form, random), next(_TIMES))
    try:
        outcome, said = read(sound.target, sound.path)
    finally:
        put(sound.path, sound.content, 0)
    assert outcome in (Outcome.REFUSED, Outcome.PROCESSED), f"{sound.name}: {said}"


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (ValueError("{path}: damaged"), False),
        (ValueError("damaged"), True),
        (ValueError("{path}: damaged\nin two lines"), True),
        (KeyError("{path}"), True),
    ],
)
def test_what_is_no_answer_is_found(
    error: Exception, fault: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mutant twin: a target that answers otherwise fails."""

    def answer(path: Path) -> None:
        raise type(error)(str(error.args[0]).format(path=path))

    monkeypatch.setitem(targets.TARGETS, "raw", answer)
    assert (read("raw", tmp_path / "a.dng")[0] is Outcome.TRACEBACK) == fault
    monkeypatch.setitem(targets.TARGETS, "raw", lambda path: [1.0, float("nan")])
    assert read("raw", tmp_path / "a.dng")[0] is Outcome.TRACEBACK

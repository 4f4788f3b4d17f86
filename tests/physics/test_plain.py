"""Plain data of strangers: bounds of JSON, and dataclasses whose fields are of the right kinds."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from exposurediffusion.physics.plain import MOST_BYTES, build, parse_json, read_json


@dataclass(frozen=True)
class Inner:
    number: float = 1.0


@dataclass(frozen=True)
class Outer:
    name: str
    count: int = 0
    pair: tuple[float, float] | None = None
    many: tuple[int, ...] = ()
    kind: Literal["a", "b"] = "a"
    inner: Inner = Inner()
    flag: bool = False


WHOLE = Outer("x", 3, (1.0, 2.5), (4, 5, 6), "b", Inner(0.5), True)


def nested(depth: int) -> str:
    return "[" * depth + "1" + "]" * depth


def test_sound_json_comes_as_it_is() -> None:
    content = {"a": [1, 2.5, None, True, "text", {"b": [[]]}], "c": 10**19, "d": -3, "e": {}}
    assert parse_json(json.dumps(content)) == content
    assert parse_json("7") == 7
    assert parse_json(nested(64)) == json.loads(nested(64))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (nested(65), "nested deeper than 64"),
        (nested(100_000), "nested deeper than 64"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "nested deeper than 64"),
        ('{"a": [0, {"b": ' + "9" * 400 + "}]}", r"a\[1\]\.b: a number of more than 20 digits"),
        ("9" * 5000, "no JSON"),
        ('{"a": 1e400}', "a: a number is wanted, not 'Infinity'"),
        ("[NaN]", r"\[0\]: a number is wanted, not 'NaN'"),
        ("{", "no JSON"),
        ("", "no JSON"),
    ],
    ids=lambda value: value[:20],
)
def test_json_out_of_bounds_is_refused_by_the_field(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        parse_json(text)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with path.open("wb") as stream:
        stream.truncate(MOST_BYTES + 1)  # of no blocks on the disk
    with pytest.raises(ValueError, match=f"{MOST_BYTES + 1} bytes, more than"):
        read_json(path)


def test_a_dataclass_survives_json() -> None:
    assert build(Outer, json.loads(json.dumps(asdict(WHOLE)))) == WHOLE
    assert build(Outer, {"name": "x", "pair": None}) == Outer("x")
    assert isinstance(build(Inner, {"number": 2}).number, float)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": None}, "o.name: text is wanted, not None"),
        ({"count": 1.5}, "o.count: a whole number is wanted, not 1.5"),
        ({"count": True}, "o.count: a whole number is wanted, not True"),
        ({"pair": [1]}, "o.pair: a list of its length is wanted"),
        ({"pair": [1, "2"]}, "o.pair: a number is wanted, not '2'"),
        ({"many": 3}, "o.many: a list"),
        ({"kind": "c"}, "o.kind: 'c' is none of a, b"),
        ({"kind": []}, "o.kind: a list is none of a, b"),
        ({"inner": [1]}, "o.inner: a group of fields is wanted, not a list"),
        ({"inner": {"number": "1"}}, "o.inner.number: a number"),
        ({"flag": 1}, "o.flag: true or false is wanted, not 1"),
        ({"colour": 1}, "o.colour: no such field"),
    ],
    ids=str,
)
def test_a_field_of_another_kind_is_refused_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        build(Outer, asdict(WHOLE) | change, "o")


def test_what_is_missing_or_no_group_is_said() -> None:
    with pytest.raises(ValueError, match=r"^o\.name: missing"):
        build(Outer, {}, "o")
    for wrong in (None, [], "text", 3, math.pi):
        with pytest.raises(ValueError, match=r"^o: a group of fields is wanted"):
            build(Outer, wrong, "o")

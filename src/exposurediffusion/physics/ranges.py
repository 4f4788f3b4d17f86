"""Numbers that people give: finite, and within what makes sense; others are refused by the names of their fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

MOST = 1e12
"""The largest of numbers that need no range of their own; they begin at 0."""


class OutOfRange(ValueError):
    """A number that makes no sense where it stands."""


def check(values: Any, name: str = "", **ranges: tuple[float, float]) -> None:
    """Refuse numbers of a dataclass that are outside of their ranges.

    Args:
        values: the dataclass; those within it are left to themselves.
        name: of it, for people.
        ranges: of fields, first and last; others go from 0 to `MOST`.

    Raises:
        OutOfRange: a number is outside, infinite, or none at all.
    """
    for field, value in vars(values).items():
        low, high = ranges.get(field, (0, MOST))
        for where, number in _numbers(value, f"{name}.{field}".lstrip(".")):
            if not low <= number <= high:
                raise OutOfRange(f"{where} is a number from {low:g} to {high:g}, got {number:g}")


def _numbers(value: Any, name: str) -> Iterator[tuple[str, float]]:
    """The numbers in tuples, lists and dictionaries, each with the name of its place."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _numbers(inner, f"{name}.{key}")
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for inner in value:
            yield from _numbers(inner, name)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield name, value

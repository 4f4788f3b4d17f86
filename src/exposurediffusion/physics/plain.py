"""Plain data of strangers: JSON within bounds, and dataclasses built from it, every field of the right kind."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from math import isfinite
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

MOST_BYTES, MOST_LEVELS, MOST_DIGITS = 1 << 25, 64, 20
"""Of a JSON text: its size, how deep its lists and groups are nested, and the digits of its whole numbers."""
_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", NoneType: "null"}
T = TypeVar("T")


def read_json(path: Path) -> Any:
    """What a JSON file holds; see `parse_json`.

    Raises:
        ValueError: it is no JSON, or beyond the bounds; the message does not name the file.
        OSError: it cannot be read.
    """
    if (size := path.stat().st_size) > MOST_BYTES:
        raise ValueError(f"{size} bytes, more than the {MOST_BYTES} that are read")
    return parse_json(path.read_text("utf-8"))


def parse_json(text: str) -> Any:
    """What a JSON text says: not nested deeper than `MOST_LEVELS`, all numbers finite.

    Raises:
        ValueError: it is none, or beyond these bounds.
    """
    if len(text) > MOST_BYTES:
        raise ValueError(f"{len(text)} characters, more than the {MOST_BYTES} that are read")
    try:
        found = json.loads(text)
    except RecursionError as error:
        raise ValueError(f"nested deeper than {MOST_LEVELS} levels") from error
    except ValueError as error:
        raise ValueError(f"no JSON ({error})") from error
    level = [("", {"": found})]
    for _ in range(MOST_LEVELS + 1):
        level = [inner for name, group in level for inner in _groups_in(name, group)]
        if not level:
            return found
    raise ValueError(f"nested deeper than {MOST_LEVELS} levels")


def _groups_in(name: str, group: dict | list) -> Iterator[tuple[str, dict | list]]:
    """The lists and groups of fields in one, by name; its numbers have to be finite, and of few digits."""
    for key, value in group.items() if isinstance(group, dict) else enumerate(group):
        at = (f"{name}.{key:.80}" if isinstance(key, str) else f"{name}[{key}]").lstrip(".")
        if isinstance(value, dict | list):
            if value:
                yield at, value
        elif isinstance(value, float) and not isfinite(value):
            raise ValueError(f"{at or 'it'}: a number is wanted, not {json.dumps(value)!r}")
        elif isinstance(value, int) and abs(value) >= 10**MOST_DIGITS:
            raise ValueError(f"{at or 'it'}: a number of more than {MOST_DIGITS} digits")


def build(kind: type[T], values: Any, name: str = "") -> T:
    """A dataclass of what JSON said of it; lists become tuples, and inner dataclasses are built too.

    Args:
        kind: the dataclass; its annotations say of which kind each field is.
        values: its fields by name.
        name: of it, for people.

    Raises:
        ValueError: a field is missing, unknown, or of another kind; it is named.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{name or 'it'}: a group of fields is wanted, not {_shown(values)}")
    hints, known = get_type_hints(kind), {field.name: field for field in fields(kind)}  # pyright: ignore[reportArgumentType]
    if unknown := [key for key in values if key not in known]:
        raise ValueError(f"{name}.{unknown[0]}: no such field".lstrip("."))
    for key, field in known.items():
        if key not in values and field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"{name}.{key}: missing".lstrip("."))
    return kind(**{key: fitting(value, hints[key], f"{name}.{key}".lstrip(".")) for key, value in values.items()})


def fitting(value: Any, wanted: Any, name: str) -> Any:
    """The value as a field of this annotation holds it.

    Raises:
        ValueError: it is of another kind; the message begins with the name.
    """
    if wanted is Any:
        return value
    if is_dataclass(wanted):
        return build(wanted, value, name)  # pyright: ignore[reportArgumentType]
    origin, inner = get_origin(wanted), get_args(wanted)
    if origin in (Union, UnionType):
        kinds = [kind for kind in inner if kind is not NoneType]
        return None if value is None and NoneType in inner else fitting(value, kinds[0], name)
    if origin is Literal:
        if value in inner and type(value) in map(type, inner):
            return value
        raise ValueError(f"{name}: {_shown(value)} is none of {', '.join(map(str, inner))}")
    if origin in (tuple, Sequence) and isinstance(value, list | tuple):
        of_each = [inner[0]] * len(value) if origin is Sequence or inner[1:] == (Ellipsis,) else inner
        if len(of_each) == len(value):
            return tuple(fitting(one, kind, name) for one, kind in zip(value, of_each, strict=True))
    elif wanted is float and type(value) in (int, float):
        return float(value)
    elif type(value) is (dict if origin in (dict, Mapping) else wanted):
        return value
    said = _KINDS.get(wanted) or ("a group of fields" if origin in (dict, Mapping) else "a list of its length")
    raise ValueError(f"{name}: {said} is wanted, not {_shown(value)}")


def _shown(value: Any) -> str:
    return {list: "a list", dict: "a group of fields"}.get(type(value)) or f"{value!r:.40}"

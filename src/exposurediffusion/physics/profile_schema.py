"""What is wrong with a profile's file, field by field: its JSON Schema, and what no schema can say."""

from __future__ import annotations

import json
from importlib import resources
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jsonschema import ValidationError

_KINDS = {
    "number": "a number",
    "integer": "a whole number",
    "string": "text",
    "array": "a list",
    "object": "a group of fields",
}


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of camera profiles."""
    return json.loads(resources.files("exposurediffusion.physics").joinpath("profile.schema.json").read_text("utf-8"))


def read_fields(text: str) -> dict[str, Any]:
    """The fields of a profile's file.

    Raises:
        ValueError: it breaks the schema, or contradicts itself; the message has "row: missing" of each thing wrong.
    """
    from jsonschema import Draft202012Validator  # here: only users' files are checked, and it takes its time

    try:
        fields = json.loads(text, parse_constant=str)  # NaN and Infinity are no JSON, and no numbers here
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not a camera profile: no JSON ({error})") from error
    errors = sorted(Draft202012Validator(schema()).iter_errors(fields), key=lambda error: list(map(str, error.path)))
    wrong = list(dict.fromkeys(line for error in errors for line in _said(error))) or _contradictions(fields)
    if wrong:
        raise ValueError(f"not a camera profile: {'; '.join(wrong)}")
    return fields


def _said(error: ValidationError) -> list[str]:
    """What one error of the schema says, in plain words."""
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path).lstrip(".")
    rule = str(error.validator)
    rules: Any = error.schema
    wanted: Any = error.validator_value
    given: Any = error.instance
    if rule in ("required", "additionalProperties"):
        known = rules["properties"]
        names = [n for n in wanted if n not in given] if rule == "required" else [n for n in given if n not in known]
        what = "missing" if rule == "required" else "no such field"
        return [f"{path}.{name}: {what}".lstrip(".") for name in names]
    shown = json.dumps(given) if isinstance(given, int | float) else f"'{given:.40}'" if isinstance(given, str) else ""
    if rule in ("minItems", "maxItems"):
        return [
            f"{path}: {wanted} values or {'more' if rule == 'minItems' else 'fewer'} are wanted, not {len(error.instance)}"
        ]
    if rule == "type":
        text, shown = _KINDS[wanted], shown or {list: "a list", dict: "a group of fields"}.get(type(given), "null")
    elif rule == "minLength":
        text = "some text"
    else:
        text = _range(rules)
    return [f"{path or 'the file'}: {text} is wanted, not {shown}"]


def _range(rules: dict[str, Any]) -> str:
    """The numbers that a schema lets through."""
    above = rules.get("exclusiveMinimum")
    low = f"from {rules['minimum']:g}" if above is None else f"above {above:g}, up"
    return f"a number {low} to {rules['maximum']:g}"


def _contradictions(fields: dict[str, Any]) -> list[str]:
    """What fields that are right by themselves say against each other."""
    wrong = []
    low, high = fields["gain_iso_100"], fields["gain_iso_6400"]
    if low >= high:
        wrong.append(f"gain_iso_6400: more than gain_iso_100 ({low:g}) is wanted, not {high:g}")
    if settings := fields.get("settings", []):
        first = settings[0]["iso"]
        if low + (high - low) * (first - 100) / 6300 <= 0:
            wrong.append(f"gain_iso_100: the line from it to gain_iso_6400 has no positive gain at ISO {first:g}")
    isos = [setting["iso"] for setting in settings]
    for place, (before, after) in enumerate(pairwise(isos), 1):
        if after <= before:
            wrong.append(f"settings[{place}].iso: more than the {before:g} before it is wanted, not {after:g}")
    for place, (before, after) in enumerate(pairwise(map(len, fields.get("colour_bias", ()))), 1):
        if after != before:
            wrong.append(f"colour_bias[{place}]: {before} values are wanted, as in the row before, not {after}")
    return wrong

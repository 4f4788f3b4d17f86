"""What is wrong with a profile's file, field by field: its JSON Schema, and what no schema can say."""

from __future__ import annotations

import json
from importlib import resources
from itertools import pairwise
from typing import Any

from exposurediffusion.physics.plain import parse_json

_KINDS = {
    "number": "a number",
    "integer": "a whole number",
    "string": "text",
    "array": "a list",
    "object": "a group of fields",
}


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of camera profiles."""
    return json.loads(
        resources.files("exposurediffusion.physics.cameras").joinpath("profile.schema.json").read_text("utf-8")
    )


def read_fields(text: str) -> dict[str, Any]:
    """The fields of a profile's file.

    Raises:
        ValueError: it breaks the schema, or contradicts itself; the message has "row: missing" of each thing wrong.
    """
    from jsonschema import Draft202012Validator  # here: only users' files are checked, and it takes its time

    try:
        fields = parse_json(text)
    except ValueError as error:
        raise ValueError(f"not a camera profile: {error}") from error
    errors = sorted(Draft202012Validator(schema()).iter_errors(fields), key=lambda error: list(map(str, error.path)))
    wrong = list(dict.fromkeys(line for error in errors for line in _said(error))) or _contradictions(fields)
    if wrong:
        raise ValueError(f"not a camera profile: {'; '.join(wrong)}")
    return fields


def _said(error: Any) -> list[str]:
    """What one error of the validator (a `jsonschema.ValidationError`) says, in plain words."""
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path).lstrip(".")
    rule, rules, wanted, given = error.validator, error.schema, error.validator_value, error.instance
    if rule == "required":
        return [f"{path}.{name}: missing".lstrip(".") for name in wanted if name not in given]
    if rule == "additionalProperties":
        return [f"{path}.{name}: no such field".lstrip(".") for name in given if name not in rules["properties"]]
    if rule in ("minItems", "maxItems"):
        more = "more" if rule == "minItems" else "fewer"
        return [f"{path}: {wanted} values or {more} are wanted, not {len(given)}"]
    text = _KINDS[wanted] if rule == "type" else "some text" if rule == "minLength" else _range(rules)
    shown = f"'{given:.40}'" if isinstance(given, str) else json.dumps(given)
    shown = {list: "a list", dict: "a group of fields"}.get(type(given), shown)
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

"""What the user wrote, as a call of a command: settings files, values in plain words, and what every command has.

tyro reports errors and joins lines of help in ways of its own; the hooks used here are private, so that pyproject.toml
names the versions of tyro that have them.
"""

from __future__ import annotations

import inspect
import re
import tomllib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial, wraps
from pathlib import Path
from typing import Any

import tyro
from tyro import _arguments, _errors, _strings  # pyright: ignore[reportPrivateUsage]
from tyro._backends._argparse import Action

from exposurediffusion.cli.console import UsageError, as_usage
from exposurediffusion.physics.plain import read_json

OF_EVERY_COMMAND = "Of every command: --quiet, no notes and no bar; --config FILE, settings (TOML, or JSON)."
_KINDS = {"INT": "a whole number", "FLOAT": "a number"}


def _joined(text: str) -> str:
    """Lines of a paragraph as one; examples have a line each."""
    parts = text.split("\n\n")
    return "\n\n".join(part if part.startswith("Examples:") else " ".join(part.split()) for part in parts)


_strings.remove_single_line_breaks = _joined  # its own leaves lone words on lines
_described, _named = _arguments.generate_argument_helptext, _arguments._rule_apply_argconf


def _without_empty_default(
    argument: _arguments.ArgumentDefinition, lowered: _arguments.LoweredArgumentDefinition, compact: bool = False
) -> Any:
    """The help of an option, without a default that says nothing: None, no values, a flag that is not given."""
    field = argument.field
    empty = field.default is None or field.default == () or lowered.action == "store_true"
    if empty and not lowered.required and field.argconf.help_behavior_hint is None:
        argument = replace(argument, field=replace(field, argconf=replace(field.argconf, help_behavior_hint="")))
    return _described(argument, lowered, compact)


def _without_none(argument: _arguments.ArgumentDefinition, lowered: _arguments.LoweredArgumentDefinition) -> None:
    """Names what an option takes; None, which a settings file may give, is no word for people."""
    _named(argument, lowered)
    lowered.metavar = (lowered.metavar or "").removeprefix("{None}|") or lowered.metavar


_arguments.generate_argument_helptext, _arguments._rule_apply_argconf = _without_empty_default, _without_none


def take(name: str, words: list[str], *, value: bool = False) -> tuple[str | None, list[str]]:
    """An option that every command has, taken out of the words: what it was given (a flag: its name), and the rest."""
    for place, word in enumerate(words[: words.index("--") if "--" in words else None]):
        if value and word.startswith(f"{name}="):
            return word.removeprefix(f"{name}="), words[:place] + words[place + 1 :]
        if word == name and not value:
            return name, [other for other in words if other != name]
        if word == name:
            if place + 1 == len(words):
                raise UsageError(f"{name}: what to read is missing")
            return words[place + 1], words[:place] + words[place + 2 :]
    return None, words


def settings(path: Path) -> dict[str, Any]:
    """A settings file, as options by name; tables become names with a dot.

    Raises:
        UsageError: it is not there, or neither TOML nor JSON.
    """
    try:
        found = read_json(path) if path.suffix == ".json" else tomllib.loads(path.read_text("utf-8"))
        return dict(_flat(found))
    except OSError as error:
        raise UsageError(f"--config {path}: {error.strerror}") from error
    except (ValueError, AttributeError, RecursionError) as error:
        raise UsageError(f"--config {path}: {error}") from error


def _flat(table: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        name = above + key.replace("_", "-")
        if isinstance(value, dict):
            yield from _flat(value, f"{name}.")
        else:
            yield name, value


def as_words(found: dict[str, Any], given: list[str], flags: set[str]) -> list[str]:
    """Settings as words of a command line, without what is `given` there; `flags` that are off are left out."""
    names = {"--output" if word[:2] == "-o" else word.partition("=")[0].replace("_", "-") for word in given}
    words: list[str] = []
    for name, value in found.items():
        group, dot, last = name.rpartition(".")
        off = f"--{group}{dot}no-{last}"
        if f"--{name}" in names or off in names or (value is False and name in flags):
            continue
        if isinstance(value, bool):
            words.append(f"--{name}" if value else off)
        else:
            values = value if isinstance(value, list) else [value]
            words += [f"--{name}", *("None" if item is None else str(item) for item in values)]
    return words


def parse(function: Callable[..., int], prog: str, words: list[str], file: str | None, own: set[str]) -> Any:
    """The call that the words ask for.

    Args:
        function: of the command.
        prog: its name in messages.
        words: the arguments.
        file: where some of them come from.
        own: the words that the user gave.

    Raises:
        UsageError: a value or a setting is not one.
    """

    @wraps(function)
    def called(*arguments: Any, **options: Any) -> Any:
        return partial(function, *arguments, **options)

    def in_plain_words(event: _errors.ParseErrorEvent) -> None:
        """Raise UsageError, in one line, for what tyro would say in a box."""
        if isinstance(event, _errors.InstantiationFailure):
            raise UsageError(_plain(event.message, event.argument and event.argument.lowered))
        if isinstance(event, _errors.InvalidChoice):
            name, choices = event.argument.display_name(), ", ".join(sorted(set(event.choices)))
            raise UsageError(f"{name}: {event.value!r} is none of {choices}")
        if isinstance(event, _errors.BadValue):
            raise UsageError(f"{event.argument.display_name()}: what it is set to is missing")
        if isinstance(event, _errors.MissingArgs) and not event.unrecognized_tokens:
            names = ", ".join(missing.arg.display_name() for missing in event.missing_arguments)
            raise UsageError(f"{names}: missing; see {prog} --help")
        strange = event.tokens if isinstance(event, _errors.UnrecognizedArgs) else []
        for word in strange:
            if file and word.startswith("--") and word not in own:
                raise UsageError(f"{file}: there is no setting {word[2:]!r}; see {prog} --help")

    about = inspect.getdoc(function) or ""
    about = f"{about.partition('Args:')[0].strip()}\n\n{OF_EVERY_COMMAND}"
    with as_usage(), _errors.on_parse_error(in_plain_words):
        return tyro.cli(called, prog=prog, args=words, description=about)


def options_of(function: Callable[..., int]) -> list[Action]:
    """What a command takes, as argparse has it, with the names, choices and help of each."""
    with warnings.catch_warnings(category=DeprecationWarning, action="ignore"):  # gone in tyro 1.1, which is excluded
        return tyro.extras.get_parser(function)._actions


def _plain(message: str, option: Any) -> str:
    """Why a value is not one: "--ratio: 'abc' is neither a number nor auto"."""
    message = re.sub(r"^Error parsing [\w.-]+: ", "", message)
    if option is None:
        return message
    name, value = option.name_or_flags[-1], re.search(r"'[^']*'", message)
    kinds = [str(_KINDS.get(kind, kind)) for kind in re.findall(r"[A-Z]+|[a-z][\w-]*", option.metavar or "")]
    kinds = list(dict.fromkeys(kinds))
    if value is None or not any(kind in _KINDS.values() for kind in kinds):
        return message
    problem = f"not {kinds[0]}" if len(kinds) == 1 else f"neither {' nor '.join(kinds)}"
    return f"{name}: {value.group()} is {problem}"

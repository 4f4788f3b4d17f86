"""Writes the man page of `expose` from the texts of `--help`: python docs/man.py > expose.1."""

import inspect
from collections.abc import Iterator
from importlib.metadata import version

from exposurediffusion.cli.arguments import OF_EVERY_COMMAND, Action, options_of
from exposurediffusion.cli.main import COMMANDS, command, main


def plain(text: str) -> str:
    """Text that roff leaves as it is."""
    lines = text.replace("\\", "\\e").replace("-", "\\-").splitlines()
    return "\n".join(f"\\&{line}" if line[:1] in (".", "'") else line for line in lines)


def paragraphs(about: str) -> Iterator[str]:
    """A docstring up to its arguments; examples keep their lines."""
    for part in about.partition("Args:")[0].strip().split("\n\n"):
        yield (
            f".PP\n.nf\n{plain(part)}\n.fi" if part.startswith("Examples:") else f".PP\n{plain(' '.join(part.split()))}"
        )


def option(action: Action) -> str:
    """An option, what it takes, and what it is for."""
    names = ", ".join(f"\\fB{plain(name)}\\fR" for name in action.option_strings)
    takes = "" if action.nargs == 0 else f"\\fI{plain(str(action.metavar))}\\fR"
    return f".TP\n{f'{names} {takes}'.strip()}\n{plain(' '.join((action.help or '').replace('%%', '%').split()))}"


def page() -> str:
    """The man page, in roff."""
    lines = [f'.TH EXPOSE 1 "" "exposurediffusion {version("exposurediffusion")}"', ".SH NAME"]
    lines += ["expose \\- dark raw photographs in, clean raw photographs out", ".SH SYNOPSIS"]
    lines += [".B expose", "\\fICOMMAND\\fR ..."]
    lines += [".SH DESCRIPTION", "The commands:"]
    lines += [f".TP\n.B {name}\n{plain(about)}" for name, about in COMMANDS.items()]
    lines += [".PP", plain(OF_EVERY_COMMAND)]
    for name in COMMANDS:
        function = command(name, [])
        lines += [f".SH EXPOSE {name.upper()}", *paragraphs(inspect.getdoc(function) or "")]
        lines += [option(action) for action in options_of(function) if "--help" not in action.option_strings]
    lines += [".SH EXIT STATUS", plain((inspect.getdoc(main) or "").partition("exit code: ")[2])]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")

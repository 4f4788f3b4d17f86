"""The command `expose`: one table of its commands, each imported when it is called."""

from __future__ import annotations

import inspect
import io
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

from rich.console import Console
from rich.table import Table

from exposurediffusion.cli.arguments import as_words, parse, settings, take
from exposurediffusion.cli.console import INTERRUPTED, UsageError, all_told, complain, hush
from exposurediffusion.files.made import MadeOtherwise
from exposurediffusion.photographs.failures import reason
from exposurediffusion.physics.ranges import OutOfRange

COMMANDS = {
    "enhance": "turn dark raw files into clean, bright ones",
    "batch": "enhance very many raw files, on a machine or a cluster",
    "web": "look at photographs, and enhance them, in a browser",
    "demo": "simulate a dark capture of a photograph, enhance it, and compare",
    "info": "show what raw files say, and the noise that their camera has",
    "cameras": "list the camera profiles at hand, or check one",
    "calibrate": "measure the noise of one's own camera",
    "simulate": "make a data set in SID's or ELD's layout from clean pictures",
    "convert": "turn a checkpoint of the authors into weights",
    "export": "write weights for other programs (ONNX)",
    "prepare": "put clean pictures into one file to train from",
    "train": "train a row of the paper, or one's own model",
    "evaluate": "measure weights and baselines on a data set",
    "reproduce": "make tables and figures of the paper again",
}


def command(name: str, arguments: list[str]) -> Callable[..., int]:
    """The function of a command, whose docstring is its help; `arguments` decide the defaults of `train`."""
    module = import_module(f"exposurediffusion.cli.{name}")
    return module.command_for(arguments) if name == "train" else getattr(module, name)


def main(arguments: list[str] | None = None) -> int:
    """Run `expose`.

    The exit code: 0 all done or kept, 1 an input failed (the others are done) or the report on stdout could not be
    written, 2 wrong usage, 130 Ctrl-C.
    """
    code = _run(sys.argv[1:] if arguments is None else arguments)
    return max(code, all_told())


def _run(arguments: list[str]) -> int:
    for stream in (sys.stdout, sys.stderr):  # a file's name may hold bytes that are no text
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        if arguments[:1] == ["--version"]:
            print(f"expose {version('exposurediffusion')}")
            return 0
        if arguments[:1] == ["--completion"]:
            print(import_module("exposurediffusion.cli.completion").completion(" ".join(arguments[1:])), end="")
            return 0
        if not arguments or arguments[0] not in COMMANDS:
            return _overview(arguments)
        return _call(arguments[0], arguments[1:])()
    except (UsageError, OutOfRange, MadeOtherwise) as error:
        complain(str(error))
        return 2
    except KeyboardInterrupt:
        complain("interrupted; what was finished is kept, nothing is half written")
        return INTERRUPTED
    except BrokenPipeError:  # as of `| head`
        sys.stdout = None  # what is left in it has no reader
        return 1
    except (ValueError, OSError) as error:
        if "--debug" in arguments:
            raise
        complain("\n".join(line.rstrip() for line in reason(error).splitlines() if line.strip()))  # a list stays a list
        return 1


def _call(name: str, words: list[str]) -> Callable[[], int]:
    """What a command line asks for, with the settings of its file where it does not say otherwise."""
    quiet, words = take("--quiet", words)
    hush(quiet is not None)
    file, words = take("--config", words, value=True)
    own, found = set(words), settings(Path(file)) if file else {}
    preset = [f"--preset={found['preset']}"] if "preset" in found and name == "train" else []
    function = command(name, words + preset)
    parameters = inspect.signature(function).parameters
    groups = [fields(group.default) for group in parameters.values() if is_dataclass(group.default)]
    flags = {name.replace("_", "-") for name in (*parameters, *(field.name for group in groups for field in group))}
    words = words + as_words(found, words, flags)
    _refuse_pipes(words)
    return parse(function, f"expose {name}", words, file, own)


def _refuse_pipes(words: list[str]) -> None:
    """Raise UsageError where stdin or stdout is asked for, which no command reads or writes results to."""
    for before, word in pairwise(["", *words]):
        option, _, value = word.partition("=")
        if (option in ("-o", "--output") and value == "-") or (before in ("-o", "--output") and word == "-"):
            raise UsageError("-o -: results go to files, not to stdout; name one")
        if word == "-":
            raise UsageError("-: standard input is not read; save it to a file and name that (a file called -: ./-)")


def _overview(arguments: list[str]) -> int:
    """All commands, or an error if something else was asked for."""
    if arguments and arguments[0] not in ("-h", "--help"):
        near = get_close_matches(arguments[0], COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"the commands are {', '.join(COMMANDS)}"
        raise UsageError(f"no command {arguments[0]!r}: {hint}")
    table = Table.grid(padding=(0, 2))
    for name, about in COMMANDS.items():
        table.add_row(f"  {name}", about)
    console = Console(stderr=not arguments, highlight=False)
    console.print("usage: expose COMMAND ...\n\nDark raw photographs in, clean raw photographs out.\n", table)
    console.print("\nexpose COMMAND --help describes a command; expose --version is the version.")
    console.print("expose --completion bash|zsh|fish prints what makes that shell complete names.")
    return 0 if arguments else 2

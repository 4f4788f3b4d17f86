"""The command `expose`: one table of typed functions, whose docstrings are the help."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable

import tyro

from exposurediffusion.cli import train
from exposurediffusion.cli.console import INTERRUPTED, UsageError, complain, reason
from exposurediffusion.cli.convert import convert
from exposurediffusion.cli.demo import demo
from exposurediffusion.cli.enhance import enhance
from exposurediffusion.cli.evaluate import evaluate
from exposurediffusion.cli.info import cameras, info
from exposurediffusion.cli.prepare import prepare_pictures
from exposurediffusion.cli.reproduce import reproduce
from exposurediffusion.cli.simulate import simulate
from exposurediffusion.training.ranges import OutOfRange

COMMANDS: dict[str, Callable[..., int]] = {
    "enhance": enhance,
    "demo": demo,
    "info": info,
    "cameras": cameras,
    "simulate": simulate,
    "convert": convert,
    "prepare": prepare_pictures,
    "train": train.command_for([]),
    "evaluate": evaluate,
    "reproduce": reproduce,
}


def main(arguments: list[str] | None = None) -> int:
    """Run `expose`; the exit code: 0 all done, 1 some inputs failed (others are done), 2 wrong usage, 130 Ctrl-C."""
    arguments = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):  # a file's name may hold bytes that are no text
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        commands = {**COMMANDS, "train": train.command_for(arguments)}  # the preset decides the defaults of its fields
        return tyro.extras.subcommand_cli_from_dict(
            commands, prog="expose", description="Dark raw photographs in, clean raw photographs out.", args=arguments
        )
    except (UsageError, OutOfRange) as error:
        complain(str(error))
        return 2
    except KeyboardInterrupt:
        complain("interrupted; what was finished is kept, nothing is half written")
        return INTERRUPTED
    except (ValueError, OSError) as error:
        if "--debug" in arguments:
            raise
        complain("\n".join(line.rstrip() for line in reason(error).splitlines() if line.strip()))  # a list stays a list
        return 1

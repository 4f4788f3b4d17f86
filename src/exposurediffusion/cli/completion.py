"""`expose --completion SHELL`: a script that completes commands, options and names without starting Python."""

from __future__ import annotations

from tyro._backends._argparse import Action

from exposurediffusion.cli.arguments import options_of
from exposurediffusion.cli.console import UsageError
from exposurediffusion.cli.evaluate import BASELINES
from exposurediffusion.cli.main import COMMANDS, command
from exposurediffusion.physics.cameras.known import calibrated_cameras, user_cameras
from exposurediffusion.training.presets import PRESETS
from exposurediffusion.weights.file import PRETRAINED

_CAMERAS = list(dict.fromkeys([*calibrated_cameras(), *(own.name for own in user_cameras().values())]))
NAMES = {
    "--preset": PRESETS,
    "--camera": _CAMERAS,
    "--capture.camera": _CAMERAS,
    "--weights": PRETRAINED,
    "--initial": PRETRAINED,
    "--baselines": BASELINES,
}
"""What options without choices of their own know by name; files are good, too."""
OF_ALL = ["--config", "--quiet"]
ALONE = ["--completion", "--help", "--version"]
BASH = """\
_expose() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" last="${{COMP_WORDS[COMP_CWORD-1]}}" words=""
    [ "$word" = "=" ] && word=""
    [ "$last" = "=" ] && last="${{COMP_WORDS[COMP_CWORD-2]}}"
    if [ "$COMP_CWORD" -eq 1 ]; then
        words="{commands}"
    else
        case "${{COMP_WORDS[1]}} $last" in
{values}
            *) case "${{COMP_WORDS[1]}} $word" in
{options}
            esac ;;
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -o bashdefault -F _expose expose
"""
ZSH = "autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n"


def completion(shell: str) -> str:
    """The script for a shell, to be kept where it looks for such, or to be sourced.

    Raises:
        UsageError: there is none for this one.
    """
    if shell not in ("bash", "zsh", "fish"):
        raise UsageError(f"--completion: {shell!r} is neither bash nor zsh nor fish")
    known = {name: options_of(command(name, [])) for name in COMMANDS}
    return _fish(known) if shell == "fish" else (ZSH if shell == "zsh" else "") + _bash(known)


def _words(action: Action) -> list[str]:
    """What may follow an option; one that is a path in any case has no names."""
    names = [name for option in action.option_strings for name in NAMES.get(option, ()) if action.metavar != "PATH"]
    return sorted(map(str, action.choices)) if action.choices else names


def _bash(known: dict[str, list[Action]]) -> str:
    values, options = [], []
    for name, actions in known.items():
        for action in actions:
            words = " ".join(_words(action))
            if action.option_strings and action.nargs != 0:  # without words: files
                patterns = "|".join(f'"{name} {option}"' for option in action.option_strings)
                values.append(f'            {patterns}) words="{words}" ;;')
            elif words:
                options.append(f'                "{name} "[!-]*|"{name} ") words="{words}" ;;')
        every = " ".join([*(option for action in actions for option in action.option_strings), *OF_ALL])
        options.append(f'                "{name} -"*) words="{every}" ;;')
    commands = " ".join([*COMMANDS, *ALONE])
    return BASH.format(commands=commands, values="\n".join(values), options="\n".join(options))


def _fish(known: dict[str, list[Action]]) -> str:
    alone = "complete -c expose -n __fish_use_subcommand -f"
    lines = [f'{alone} -a {name} -d "{about}"' for name, about in COMMANDS.items()]
    lines += [f"{alone} -l {option[2:]}" for option in ALONE]
    for name, actions in known.items():
        here = f'complete -c expose -n "__fish_seen_subcommand_from {name}"'
        lines += [f"{here} -l config -r", f"{here} -l quiet"]
        for action in actions:
            spelt = " ".join(f"-l {o[2:]}" if o[:2] == "--" else f"-s {o[1:]}" for o in action.option_strings)
            words = " ".join(_words(action))
            kind = "" if action.nargs == 0 else f'-r -a "{words}"' if words else "-r"
            if spelt:
                lines.append(f"{here} {spelt} {kind}".rstrip())
            elif words:
                lines.append(f'{here} -f -a "{words}"')
    return "\n".join(lines) + "\n"

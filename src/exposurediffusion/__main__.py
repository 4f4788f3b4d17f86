"""`python -m exposurediffusion` is the command `expose`."""

import os
import signal
import sys


def main() -> int:
    """Run the command `expose`. Ctrl-C while it is being imported, which takes seconds, ends it without a word."""
    heeded = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not of a job in the background
    if heeded:
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # an exception may get lost among imports
    from exposurediffusion.cli.main import main as run

    if heeded:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return run()
    except KeyboardInterrupt:  # a second one
        return 130
    finally:
        if heeded:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # there is nothing left but to end


if __name__ == "__main__":
    sys.exit(main())

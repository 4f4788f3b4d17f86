"""`python -m exposurediffusion` is the command `expose`."""

import os
import signal
import sys


def main() -> int:
    """Run the command `expose`. Ctrl-C while it is being imported, which takes seconds, ends it without a word."""
    _open_standard_streams()
    # Idle threads sleep instead of spinning: beside other work a frame took 2.3 times as long, alone it takes the same.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
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


def _open_standard_streams() -> None:
    """Where standard streams are closed, have the null device: else the next file that is opened is one of them."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            setattr(sys, name, os.fdopen(number, mode))


if __name__ == "__main__":
    sys.exit(main())

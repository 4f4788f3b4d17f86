"""The decoding process: answers until nobody asks any more."""

from __future__ import annotations

import os
import signal
import tempfile

from exposurediffusion.decoding import decoders
from exposurediffusion.decoding.limits import confine
from exposurediffusion.decoding.messages import receive, send

_LONGEST = 1 << 16  # bytes of what a decoder says


def main() -> None:
    """Answer what comes on standard input, on standard output. What decoders print is part of the answer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks, whose end ends this one
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with tempfile.TemporaryFile() as printed:
        for standard in (1, 2):
            os.dup2(printed.fileno(), standard)
        confine()
        while True:
            try:
                (name, arguments), arrays = receive(requests)
            except EOFError:
                return
            printed.seek(0)
            printed.truncate()
            try:
                value, found = getattr(decoders, name)(*arguments, *arrays)
                answer = {"value": value}
            except Exception as error:  # decoders raise what they like
                answer, found = {"error": _what(error), "kinds": [kind.__name__ for kind in type(error).__mro__]}, ()
            printed.seek(0)
            answer["printed"] = printed.read(_LONGEST).decode(errors="replace")
            send(answers, answer, found)
            del found


def _what(error: Exception) -> str:
    text = error.args[0] if error.args else type(error).__name__
    text = text.decode(errors="replace") if isinstance(text, bytes) else str(error) or type(error).__name__
    return text.splitlines()[0][:300]


if __name__ == "__main__":
    main()

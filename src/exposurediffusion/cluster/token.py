"""Who may tell this machine's Ray what to do."""

from __future__ import annotations

import os
import secrets
import sys


def draw() -> None:
    """Let a Ray that this process starts obey nobody else: it listens on all addresses, and runs what it is sent.

    To be called before Ray is imported, which reads the token then, and not for a cluster of others: it has its own, or
    none. A token of the user stays.
    """
    if "RAY_AUTH_MODE" not in os.environ and "ray" not in sys.modules:
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}

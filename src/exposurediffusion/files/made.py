"""Why results that are there cannot be gone on with."""

from __future__ import annotations


class MadeOtherwise(ValueError):
    """What is in the output folder was made with other options."""

"""How large a picture may be: a small file can claim any size, and its pixels take memory."""

from __future__ import annotations

MAX_MEGAPIXELS = 400.0
"""What is decoded unless the user says otherwise; the largest sensors have 150."""
LARGER = "if the file is sound, give a larger --max-megapixels"
"""What to do about a picture that is too large, for the end of a message."""

RANGE = (1e-3, 1e6)
"""Of such a limit, megapixels."""


class TooLargeError(ValueError):
    """A file that claims more pixels than are wanted."""


def too_large(rows: int, columns: int, most: float) -> str:
    """What is wrong with a picture whose header claims this size; "" if these are no more than `most` megapixels."""
    return f"{columns}x{rows} pixels are more than {most:g} megapixels" if rows * columns > most * 1e6 else ""


def check_size(rows: int, columns: int, most: float) -> None:
    """Raise TooLargeError if a header claims more than `most` megapixels."""
    if problem := too_large(rows, columns, most):
        raise TooLargeError(problem)

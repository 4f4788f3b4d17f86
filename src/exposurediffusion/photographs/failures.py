"""What an error says to people."""

from __future__ import annotations

import errno

ERRORS = (ValueError, OSError, MemoryError, RuntimeError)
"""What may go wrong with one photograph; others can still be done."""
_NO_MEMORY = ("out of memory", "can't allocate memory")  # as PyTorch says it of a GPU, and of the processor


def reason(error: BaseException) -> str:
    """What an exception says, without the number that the operating system gives it."""
    if isinstance(error, OSError) and error.errno == errno.EMFILE:
        return "too many open files; use fewer --workers, or allow more (ulimit -n 1024)"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, MemoryError) or any(words in str(error) for words in _NO_MEMORY):
        return "not enough memory; try a smaller --tile, or --device cpu"
    return str(error) or type(error).__name__

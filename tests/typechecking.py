"""What jaxtyping calls on every function of the package while the tests run (see `addopts` in pyproject.toml)."""

from collections.abc import Callable
from typing import Any

from beartype import BeartypeConf, beartype

# As for every static type checker, an int will do where a float is wanted.
_checker = beartype(conf=BeartypeConf(is_pep484_tower=True))


def check(checked: Callable[..., Any]) -> Callable[..., Any]:
    """Check what a function or a class is given and gives.

    Inner functions are left alone: they are made anew, and their checks with them, each time the outer one is called,
    which took half the time of the tests that draw images one by one. No inner function states a shape (see
    `test_package.py`), and static types are pyright's.
    """
    return checked if "<locals>" in checked.__qualname__ else _checker(checked)

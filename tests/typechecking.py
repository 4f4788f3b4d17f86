"""How every function of the package is checked while the tests run (see `addopts` in pyproject.toml)."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, get_args, get_type_hints

import jaxtyping
from beartype import BeartypeConf, beartype

# As for every static type checker, an int will do where a float is wanted.
check = beartype(conf=BeartypeConf(is_pep484_tower=True, violation_type=TypeError))
_with_shapes = jaxtyping.jaxtyped


def _states_a_shape(hint: Any) -> bool:
    return (isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray)) or any(
        map(_states_a_shape, get_args(hint))
    )


def _only_types(function: Callable[..., Any]) -> bool:
    """Whether there is no shape in its signature, as far as its names are known already."""
    try:
        return not any(map(_states_a_shape, get_type_hints(function).values()))
    except (NameError, TypeError):  # a name for static types alone, or one that only they can subscript
        return False


def _checked(of: Any, *, typechecker: Callable[..., Any]) -> Any:
    """Check what a function or a dataclass is given and gives.

    To follow shapes from argument to argument takes jaxtyping many times as long as beartype takes to check types: half
    the time of the tests. It is left out of functions that state none. Inner functions are left alone: they are made
    anew, and their checks with them, each time the outer one is called. No inner function states a shape (see
    `test_package.py`), and static types are pyright's.
    """
    if inspect.isclass(of):
        if dataclasses.is_dataclass(of):
            of.__init__ = _checked(of.__init__, typechecker=typechecker)
        return of
    if "<locals>" in of.__qualname__:
        return of
    return typechecker(of) if _only_types(of) else _with_shapes(of, typechecker=typechecker)


# What jaxtyping's import hook puts above every function and class of the package.
jaxtyping.jaxtyped = lambda *, typechecker: partial(_checked, typechecker=typechecker)

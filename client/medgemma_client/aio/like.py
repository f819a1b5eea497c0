"""Methods with the parameters and the description of those that they stand for."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

P = ParamSpec("P")
S = TypeVar("S")
R = TypeVar("R")


def like(
    method: Callable[Concatenate[Any, P], object],
) -> Callable[[Callable[Concatenate[S, ...], R]], Callable[Concatenate[S, P], R]]:
    """Decorates a method that passes on whatever it is given to another one: it takes what that
    takes, for people, type checkers and ``help`` alike, and cannot drift from it."""

    def decorate(function: Callable[Concatenate[S, ...], R]) -> Callable[Concatenate[S, P], R]:
        told = inspect.signature(method)
        gives = inspect.signature(function).return_annotation
        function.__doc__ = method.__doc__
        function.__signature__ = told.replace(return_annotation=gives)  # type: ignore[attr-defined]
        return cast("Callable[Concatenate[S, P], R]", function)

    return decorate

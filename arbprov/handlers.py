"""What can be told of a handler without calling it."""

from __future__ import annotations

import functools
import inspect
from typing import Any

from arbprov._types import Handler

__all__ = ["describe_handler", "function_of"]


def describe_handler(handler: Handler) -> str:
    """Return a handler's name, file and line, for messages to its author."""
    function = function_of(handler)
    name = getattr(function, "__qualname__", repr(function))
    code = getattr(function, "__code__", None)
    return f"{name} ({code.co_filename}:{code.co_firstlineno})" if code else name


def function_of(handler: Handler) -> Any:
    """Return the function that a handler is, wraps, or has as its ``__call__``."""
    inner = inspect.unwrap(handler)
    while isinstance(inner, functools.partial):
        inner = inspect.unwrap(inner.func)
    of_class = inspect.getattr_static(type(inner), "__call__", None)
    return of_class if inspect.isfunction(of_class) else inner

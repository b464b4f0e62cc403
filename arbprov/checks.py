"""The checks of an app or a blueprint: functions that find out whether tasks could be done."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from arbprov._types import Handler
from arbprov._utils import describe_handler, is_positive_number
from arbprov.actions import is_async
from arbprov.errors import ConfigurationError

if TYPE_CHECKING:
    from arbprov.payload.arguments import Binding

__all__ = ["Check", "CheckRegistry", "CheckResult", "compile_check"]


@attrs.frozen
class Check:
    """A check.

    Attributes:
        name: Its name in what ``arbprov check`` prints.
        function: The function.
        timeout: Seconds that it may take.
        binding: How it gets its arguments.
    """

    name: str
    function: Handler = attrs.field(repr=False)
    timeout: float
    binding: Binding = attrs.field(repr=False)

    @property
    def is_async(self) -> bool:
        """Whether it runs on the event loop."""
        return is_async(self.function)


class CheckRegistry:
    """Checks by name, each name once, in the order of registration."""

    def __init__(self) -> None:
        self._checks: dict[str, Check] = {}

    def add(self, check: Check) -> None:
        """Add a check.

        Raises:
            ConfigurationError: Its name is taken.
        """
        if taken := self._checks.get(check.name):
            raise ConfigurationError(
                f"{describe_handler(check.function)}: there is a check {check.name!r} already, "
                f'{describe_handler(taken.function)}; rename one, as in @app.check("another_name")'
            )
        self._checks[check.name] = check

    def __iter__(self) -> Iterator[Check]:
        return iter(self._checks.values())


@attrs.frozen
class CheckResult:
    """How a check ended.

    Attributes:
        name: The check's name.
        seconds: How long it took.
        reason: Why it failed, as a line without secrets; empty if it did not.
    """

    name: str
    seconds: float
    reason: str = ""

    @property
    def is_ok(self) -> bool:
        """Whether the check did not fail."""
        return not self.reason


def compile_check(name: str, function: Handler, timeout: float) -> Check:
    """Return a check.

    Args:
        name: Its name.
        function: Takes `account`, a `TaskContext`, both, or nothing.
        timeout: Seconds that it may take.

    Raises:
        ConfigurationError: It has other parameters, or an option is not valid.
    """
    from arbprov.payload.arguments import compile_binding

    where = describe_handler(function)
    if not is_positive_number(timeout):
        raise ConfigurationError(
            f"{where}: timeout={timeout!r} must be a number of seconds greater than 0"
        )
    binding = compile_binding(function)
    kinds = [parameter.kind for parameter in inspect.signature(function).parameters.values()]
    if "payload" in binding.fields_of or inspect.Parameter.VAR_KEYWORD in kinds:
        raise ConfigurationError(
            f"{where}: a check takes `account` and a TaskContext, or less, and no other parameter, "
            f"since it has no payload; bind its other parameters with functools.partial"
        )
    return Check(name, function, timeout, binding)

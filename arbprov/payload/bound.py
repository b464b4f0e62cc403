"""A call as its limits see it: with the values that its handler gets, in the form of JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from arbprov.context import TaskContext
from arbprov.payload.arguments import Arguments, Binding
from arbprov.payload.serialize import to_builtins
from arbprov.payload.validation import ValidationFailure

__all__ = ["BoundCall"]

_JSON_TYPES = (str, int, float, bool, list, dict)


class BoundCall:
    """The call that keys, costs and limits read; see `arbprov.limits.LimitedCall`.

    A field that the task leaves out has the default of its parameter or schema. A field that the
    handler does not take is as it came.

    Args:
        ctx: The context of the call.
        binding: How its handler gets its arguments.
        arguments: The arguments.
    """

    def __init__(self, ctx: TaskContext, binding: Binding, arguments: Arguments) -> None:
        self.action = ctx.action
        self._ctx = ctx
        self._binding = binding
        self._arguments = arguments

    # Computed when a limit reads them: most limits read one of them.

    @cached_property
    def payload(self) -> Mapping[str, Any]:
        """The payload that the handler gets."""
        bound = self._binding.bound_payload(self._ctx, self._arguments)
        return _BoundFields(self._ctx.payload, bound)

    @cached_property
    def account(self) -> Mapping[str, Any]:
        """The account that the handler gets."""
        bound = self._binding.bound_account(self._ctx, self._arguments)
        return _BoundFields(self._ctx.account, bound)


class _BoundFields(Mapping[str, Any]):
    """The fields of JSON, with the values that were bound in their places.

    A field is converted when it is read: most keys read one of many.
    """

    def __init__(self, raw: Mapping[str, Any], bound: Mapping[str, Any]) -> None:
        self._raw = raw
        self._bound = bound
        self._converted: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._bound:
            return self._raw[name]
        if name not in self._converted:
            self._converted[name] = self._convert(name)
        return self._converted[name]

    def __iter__(self) -> Iterator[str]:
        return (name for name in {**self._raw, **self._bound} if name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _convert(self, name: str) -> Any:
        value, given = self._bound[name], self._raw.get(name)
        if type(value) is type(given) and type(value) in _JSON_TYPES and value == given:
            return value  # the usual case, without a copy of a large list
        try:
            return _add_fields(given, to_builtins(value))
        except ValidationFailure:  # JSON has no form for it
            return self._raw[name]


def _add_fields(raw: Any, bound: Any) -> Any:
    """Add the fields that only the raw value has: those of an alias, or that no class takes."""
    if isinstance(raw, dict) and isinstance(bound, dict):
        return {**raw, **{name: _add_fields(raw.get(name), value) for name, value in bound.items()}}
    return bound

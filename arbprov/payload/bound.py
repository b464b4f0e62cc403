"""A call as its limits see it: with the values that its handler gets, in the form of JSON."""

from __future__ import annotations

from collections.abc import Mapping
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

    # Computed when a limit reads them: most limits read only payload or account.

    @cached_property
    def payload(self) -> Mapping[str, Any]:
        """The payload that the handler gets."""
        return _merge(self._ctx.payload, self._binding.bound_payload(self._ctx, self._arguments))

    @cached_property
    def account(self) -> Mapping[str, Any]:
        """The account that the handler gets."""
        return _merge(self._ctx.account, self._binding.bound_account(self._ctx, self._arguments))


def _merge(raw: Mapping[str, Any], bound: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the fields of JSON, with the values that were bound in their places."""
    merged = dict(raw)
    for name, value in bound.items():
        given = raw.get(name)
        if type(value) is type(given) and type(value) in _JSON_TYPES and value == given:
            continue  # the usual case, without a copy of a large list
        try:
            merged[name] = _add_fields(given, to_builtins(value))
        except ValidationFailure:  # JSON has no form for it
            continue
    return merged


def _add_fields(raw: Any, bound: Any) -> Any:
    """Add the fields that only the raw value has, such as aliases and unknown fields."""
    if isinstance(raw, dict) and isinstance(bound, dict):
        return {**raw, **{name: _add_fields(raw.get(name), value) for name, value in bound.items()}}
    return bound

"""Whose quota a call counts against: `key=` compiled to a function of the call."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from arbprov.errors import ConfigurationError, InvalidPayloadError, Problem

__all__ = ["Key", "KeyFunction", "LimitedCall", "check_key", "compile_key", "describe_key"]


class LimitedCall(Protocol):
    """What a limit may look at."""

    @property
    def action(self) -> str:
        """The action's name."""
        ...

    @property
    def payload(self) -> Mapping[str, Any]:
        """The task's payload."""
        ...

    @property
    def account(self) -> Mapping[str, Any]:
        """The task's account."""
        ...


KeyFunction = Callable[[LimitedCall], Any]
Key = str | tuple[str, ...] | KeyFunction | None
_ROOTS = ("account", "payload")


def check_key(key: Key) -> None:
    """Refuse a key that can't be read from a call.

    Raises:
        ConfigurationError: It is none of a dotted path, a tuple of such and a function.
    """
    if key is None or callable(key):
        return
    paths: tuple[Any, ...] = key if isinstance(key, tuple) else (key,)
    wrong = [path for path in paths if not _is_path(path)]
    if wrong or not paths:
        raise ConfigurationError(
            f"key={(wrong or [key])[0]!r} is no key; it is a dotted path such as "
            f"'account.id' or 'payload.region', a tuple of such, or a function of the call"
        )


def _is_path(path: Any) -> bool:
    root, _, rest = path.partition(".") if isinstance(path, str) else ("", "", "")
    return root in _ROOTS and all(rest.split("."))


def describe_key(key: Key) -> str:
    """Return what tells one key from another, for the name of a bucket."""
    if callable(key):
        # Two lambdas have one name.
        return f"{getattr(key, '__qualname__', type(key).__qualname__)}@{id(key)}"
    return " and ".join(key) if isinstance(key, tuple) else str(key)


def compile_key(key: Key, limit: str) -> Callable[[LimitedCall], str]:
    """Return the function that hashes a call's key.

    Only the hash goes further: a key is often an account's secret.

    Args:
        key: A dotted path, several, a function, or None for one bucket for all calls.
        limit: How errors name the limit.
    """
    if key is None:
        return lambda call: ""
    if callable(key):
        function = key
        return lambda call: _hash(_present(function(call), "key", limit))
    paths = key if isinstance(key, tuple) else (key,)
    return lambda call: _hash([_look_up(call, path, limit) for path in paths])


def _look_up(call: LimitedCall, path: str, limit: str) -> Any:
    root, *names = path.split(".")
    value: Any = getattr(call, root)
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return _present(value, path, limit)


def _present(value: Any, path: str, limit: str) -> Any:
    if isinstance(value, (str, int, float)) or (value and isinstance(value, tuple)):
        return value
    raise InvalidPayloadError(
        [Problem(path, f"the rate limit {limit} is counted by it, and it is missing")]
    )


def _hash(value: Any) -> str:
    # repr tells "1" from 1, and ("a", "b") from ("a, b",).
    return hashlib.blake2b(repr(value).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()

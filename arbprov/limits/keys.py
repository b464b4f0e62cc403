"""Whose quota a call counts against: `key=` compiled to a function of the call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Any, Protocol

import attrs

from arbprov.errors import ConfigurationError, InvalidPayloadError, Problem

__all__ = ["BoundKey", "Key", "KeyFunction", "LimitedCall", "check_key", "describe_key"]

# With its header, an object of 48 bytes: a key more than this would cost each of them a third more.
_DIGEST_SIZE = 15


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
    """Return a key as its author would say it."""
    if callable(key):
        module = getattr(key, "__module__", "")
        return f"{module}.{getattr(key, '__qualname__', type(key).__qualname__)}"
    return " and ".join(key) if isinstance(key, tuple) else str(key)


Reader = Callable[[LimitedCall], Any]


@attrs.frozen
class BoundKey:
    """A limit's key, ready to be read from calls; only its hash goes further.

    A key is often an account's secret.

    Args:
        key: A dotted path, several, a function, or None for one bucket for all calls.
        limit: How errors name the limit.
    """

    key: Key
    limit: str
    _readers: tuple[Reader, ...] = attrs.field(init=False)

    @_readers.default
    def _compiled(self) -> tuple[Reader, ...]:
        return tuple(_reader(path, self.limit) for path in self._paths)

    @property
    def _paths(self) -> tuple[str, ...]:
        if self.key is None or callable(self.key):
            return ()
        return self.key if isinstance(self.key, tuple) else (self.key,)

    def __call__(self, call: LimitedCall) -> bytes:
        """Return the hash of a call's key.

        Raises:
            InvalidPayloadError: The call has none.
        """
        if self._readers:
            return _hash([read(call) for read in self._readers])
        return _hash(_present(self.key(call), "key", self.limit)) if callable(self.key) else b""

    def hash_of(self, value: Any) -> bytes:
        """Return the hash of a key whose value is known; of a tuple of paths, a tuple."""
        if callable(self.key):
            return _hash(_present(value, "key", self.limit))
        values = value if isinstance(value, tuple) else (value,)
        if not self._paths:
            return b""
        if len(self._paths) != len(values):
            raise ValueError(
                f"{self.limit} is counted by {describe_key(self.key)}: {len(self._paths)} values, "
                f"not {len(values)}"
            )
        pairs = zip(values, self._paths, strict=True)
        return _hash([_present(one, path, self.limit) for one, path in pairs])


def _reader(path: str, limit: str) -> Reader:
    root, *names = path.split(".")

    def read(call: LimitedCall) -> Any:
        value: Any = getattr(call, root)
        for name in names:
            value = value.get(name) if isinstance(value, dict) else None
        return _present(value, path, limit)

    return read


def _present(value: Any, path: str, limit: str) -> Any:
    if isinstance(value, (str, int, float)) or (value and isinstance(value, tuple)):
        return value
    raise InvalidPayloadError(
        [Problem(path, f"the rate limit {limit} is counted by it, and it is missing")]
    )


def _hash(value: Any) -> bytes:
    # repr tells "1" from 1, and ("a", "b") from ("a, b",).
    text = repr(value).encode("utf-8", "surrogatepass")
    return blake2b(text, digest_size=_DIGEST_SIZE).digest()

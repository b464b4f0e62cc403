"""The keys of limits: `key=` compiled to a function that returns the hash of a call's key."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from typing import Any, Protocol, TypeVar

import attrs

from arbprov._utils import format_count
from arbprov.errors import ConfigurationError, InvalidPayloadError, Problem

__all__ = [
    "CompiledKey",
    "Key",
    "KeyFunction",
    "LimitedCall",
    "check_key",
    "describe_key",
    "payload_fields",
    "read_keys",
]

# With its header, an object of 48 bytes: a longer digest would make each a third larger.
_DIGEST_SIZE = 15


class LimitedCall(Protocol):
    """The part of a call that limits read: a key, a cost or a limit may be a function of it.

    >>> from arbprov import ProviderApp
    >>> app = ProviderApp("shop")
    >>> def by_region(call: LimitedCall) -> str:
    ...     return call.payload["region"]
    >>> @app.action
    ... @app.rate_limit("1/hour", key=by_region)
    ... def order(region: str) -> None: ...
    >>> client = app.test_client()
    >>> [client.call("order", {"region": region}).status.value for region in ("eu", "eu", "us")]
    ['success', 'limit', 'success']
    """

    @property
    def action(self) -> str:
        """The action's name."""
        ...

    @property
    def payload(self) -> Mapping[str, Any]:
        """The payload with the values that the handler gets, defaults included, as JSON."""
        ...

    @property
    def account(self) -> Mapping[str, Any]:
        """The account, likewise."""
        ...


KeyFunction = Callable[[LimitedCall], Any]
Key = str | tuple[str, ...] | KeyFunction | None
_ROOTS = ("account", "payload")


def check_key(key: Key) -> None:
    """Refuse a key that can't be read from a call.

    Raises:
        ConfigurationError: `key` is not a dotted path, a tuple of paths, or a function.
    """
    if key is None or callable(key):
        return
    paths: tuple[Any, ...] = key if isinstance(key, tuple) else (key,)
    wrong = [path for path in paths if not _is_path(path)]
    if wrong or not paths:
        raise ConfigurationError(
            f"key={(wrong or [key])[0]!r} is not a key; give a dotted path such as "
            f"'account.id' or 'payload.region', a tuple of paths, or a function of the call"
        )


def _is_path(path: Any) -> bool:
    root, _, rest = path.partition(".") if isinstance(path, str) else ("", "", "")
    return root in _ROOTS and all(rest.split("."))


def describe_key(key: Key) -> str:
    """Return a key as messages name it: its paths, or its function's name.

    >>> describe_key(("account.id", "payload.region"))
    'account.id and payload.region'
    """
    if callable(key):
        module = getattr(key, "__module__", "")
        return f"{module}.{getattr(key, '__qualname__', type(key).__qualname__)}"
    return " and ".join(key) if isinstance(key, tuple) else str(key)


def payload_fields(key: Key) -> list[str]:
    """Return the fields of the payload that a key's paths begin with; a function has no paths.

    >>> payload_fields(("account.id", "payload.order.id"))
    ['order']
    """
    if key is None or callable(key):
        return []
    paths = key if isinstance(key, tuple) else (key,)
    return [path.split(".")[1] for path in paths if path.startswith("payload.")]


Read = TypeVar("Read")
Reader = Callable[[LimitedCall], Any]
# Returns the hash of a call's key.
HashReader = Callable[[LimitedCall], bytes]


@attrs.frozen
class CompiledKey:
    """Reads the keys of calls, and hashes them: a key is often an account's secret.

    Args:
        key: A dotted path, several, a function, or None if all calls share a bucket.
        limit: The limit's text, for errors.
    """

    key: Key
    limit: str
    read: HashReader = attrs.field(init=False)
    """Returns the hash of a call's key; raises `InvalidPayloadError` if the call has none."""

    @read.default
    def _compile_read(self) -> HashReader:
        key, limit = self.key, self.limit
        if key is None:
            return lambda call: b""
        if callable(key):
            return lambda call: _hash(_check_value(key(call), "key", limit))
        if isinstance(key, str):
            read = _compile_path(key, limit)
            return lambda call: _hash(read(call))
        readers = [_compile_path(path, limit) for path in key]
        return lambda call: _hash(read_keys(readers, call))

    @property
    def parts(self) -> set[str]:
        """The parts of a call, payload and account, whose fields the key may read."""
        if self.key is None:
            return set()
        if callable(self.key):
            return set(_ROOTS)
        paths = (self.key,) if isinstance(self.key, str) else self.key
        return {path.partition(".")[0] for path in paths}

    def hash_of(self, value: Any) -> bytes:
        """Return the hash of a key's value: a tuple of values for a tuple of paths.

        Raises:
            InvalidPayloadError: The value is missing.
            ValueError: There are more or fewer values than paths.
        """
        if self.key is None:
            return b""
        if callable(self.key):
            return _hash(_check_value(value, "key", self.limit))
        if isinstance(self.key, str):
            return _hash(_check_value(value, self.key, self.limit))
        values = value if isinstance(value, tuple) else (value,)
        if len(self.key) != len(values):
            raise ValueError(
                f"{self.limit} is counted by {describe_key(self.key)}: "
                f"{format_count(len(self.key), 'value')}, not {len(values)}"
            )
        pairs = zip(values, self.key, strict=True)
        return _hash([_check_value(each, path, self.limit) for each, path in pairs])


def read_keys(readers: Iterable[Callable[[LimitedCall], Read]], call: LimitedCall) -> list[Read]:
    """Return the result of each reader for a call.

    Raises:
        InvalidPayloadError: Keys are missing; the error has a problem for each of them.
    """
    try:
        return [read(call) for read in readers]
    except InvalidPayloadError:
        raise InvalidPayloadError(_find_problems(readers, call)) from None


def _find_problems(
    readers: Iterable[Callable[[LimitedCall], object]], call: LimitedCall
) -> list[Problem]:
    problems: list[Problem] = []
    for read in readers:
        try:
            read(call)
        except Exception as error:
            # An author's function may fail in its own way when a field is missing.
            problems += error.problems if isinstance(error, InvalidPayloadError) else []
    return problems


def _compile_path(path: str, limit: str) -> Reader:
    root, first, *names = path.split(".")
    is_account = root == "account"

    def read(call: LimitedCall) -> Any:
        value: Any = (call.account if is_account else call.payload).get(first)
        for name in names:
            value = value.get(name) if isinstance(value, dict) else None
        return value if isinstance(value, (str, int, float)) else _check_value(value, path, limit)

    return read


def _check_value(value: Any, path: str, limit: str) -> Any:
    if isinstance(value, (str, int, float)) or (value and isinstance(value, tuple)):
        return value
    raise InvalidPayloadError(
        [Problem(path, f"is missing, and the rate limit {limit} is counted by it")]
    )


# Copied for each key: that is faster than making it anew.
_EMPTY = blake2b(digest_size=_DIGEST_SIZE)


def _hash(value: Any) -> bytes:
    # repr distinguishes 1 from 1.0, and ("a", "b") from ("a, b",); no repr begins with "=".
    text = "=" + value if isinstance(value, str) else repr(value)
    digest = _EMPTY.copy()
    digest.update(text.encode("utf-8", "surrogatepass"))
    return digest.digest()

"""Access tokens that expire: each account has a token, refreshed once for all calls of it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import hashlib
import inspect
import json
import math
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import attrs

from arbprov._types import Clock
from arbprov._utils import describe_handler, is_positive_number, read_number
from arbprov.actions import is_async
from arbprov.clock import SystemClock
from arbprov.errors import ConfigurationError, TaskError
from arbprov.http.locks import RedisLocks
from arbprov.payload.serialize import to_builtins
from arbprov.redaction import call_secrets

if TYPE_CHECKING:
    import httpx
    import httpx2
    from redis import Redis

__all__ = ["Token", "TokenCache", "TokenError"]

AccountT = TypeVar("AccountT")

# Tokens that a cache keeps at most: the accounts come from outside.
_MAX_TOKENS = 10_000
# Tokens of a call that its errors are searched for.
_MAX_HIDDEN = 100
# Seconds after which a refresh on an event loop looks whether the loop is still there.
_LOOP_CHECK = 0.1
# Seconds that a waiting call gives a refresh beyond its timeout, to end by itself.
_GRACE = 1.0
# How often a call begins or awaits a refresh whose event loop ends meanwhile.
_ATTEMPTS = 5


class TokenError(TaskError):
    """A token can't be refreshed, for a reason that is not an error of `refresh` itself."""


def _read_lifetime(expires_in: float | str | None) -> float:
    """Return seconds, which some APIs give as a text.

    Raises:
        ValueError: It is not a number.
    """
    if expires_in is None:
        return math.inf
    seconds = read_number(expires_in)
    if seconds is None:
        raise ValueError(f"expires_in must be a number of seconds, not {expires_in!r}")
    return seconds


@attrs.frozen
class Token:
    """An access token of an API.

    Args:
        value: What goes into the Authorization header.
        expires_in: Seconds from now, a number or its text; None if it does not expire.

    Raises:
        ValueError: The value is empty or could not be a part of a header, or `expires_in` is not
            a number.

    >>> Token("secret", expires_in=3600)
    Token(expires_in=3600.0)
    """

    value: str = attrs.field(repr=False)
    expires_in: float = attrs.field(default=None, converter=_read_lifetime)

    @value.validator
    def _check_value(self, attribute: object, value: str) -> None:
        # HTTP libraries quote a header that they refuse, and with it the token.
        is_sendable = isinstance(value, str) and value.isascii() and value.isprintable()
        if not is_sendable or value.split() != [value]:
            raise ValueError(
                "the token's value must be a text of printable ASCII characters without blanks, as "
                "a header needs"
            )


class _Refreshing:
    """A refresh that is under way, for all calls that wait for it.

    Its future has None if the event loop that ran it is gone, so that another call has to begin.
    """

    def __init__(self, seconds: float) -> None:
        self.token: concurrent.futures.Future[str | None] = concurrent.futures.Future()
        # No waiting call can cancel it for the others.
        self.token.set_running_or_notify_cancel()
        self.ends_at = time.monotonic() + seconds


@attrs.define
class _Entry:
    """The token of an account; without one, its time is over."""

    value: str | None = attrs.field(default=None, repr=False)
    fresh_until: float = -math.inf
    refreshing: _Refreshing | None = attrs.field(default=None, repr=False)


class TokenCache(Generic[AccountT]):
    """Gives each call the access token of its account, and refreshes it once for all calls.

    Calls that need the same token wait for one refresh, on threads and on the event loop alike. It
    goes on if the call that began it is cancelled. An error of it reaches all waiting calls, and
    the next call tries again.

    With Redis, processes wait for each other too: `refresh` runs in a single process at a time for
    each account, and not at all while Redis is away. The process that has waited calls `refresh`
    with its old token. `refresh` then looks first whether there is a newer token in the database
    where it keeps them. arbprov keeps tokens in memory only, and logs none.

    >>> def refresh(account: dict, old: str | None) -> Token:
    ...     return Token(f"token-of-{account['id']}", expires_in=3600)
    >>> tokens = TokenCache(refresh, key=lambda account: account["id"])
    >>> tokens.get({"id": 42})
    'token-of-42'

    Args:
        refresh: Returns the `Token` of an account, plain or ``async``. It is called with the
            account and the token that has expired or was refused, or None. A plain function runs
            on a thread, an ``async`` function on the event loop of the call that needs the token.
        key: Returns what tells accounts apart, such as an id; the whole account by default.
        margin: Seconds before its end from which on a token is refreshed; at most half its time.
        redis: A URL or a `redis.Redis` client, needed if several processes refresh the same tokens.
        namespace: Processes that share accounts have the same; another API needs another.
        timeout: Seconds that a refresh may take. A process that dies in one holds up the others for
            a little longer than that.
        clock: Tells when tokens expire; the `clock` of a test client in tests.

    Raises:
        ConfigurationError: An argument is not valid, or the package redis is not installed.
    """

    def __init__(
        self,
        refresh: Callable[[AccountT, str | None], Token | Awaitable[Token]],
        *,
        key: Callable[[AccountT], str | int] | None = None,
        margin: float = 60.0,
        redis: str | Redis | None = None,
        namespace: str = "arbprov",
        timeout: float = 30.0,
        clock: Clock | None = None,
    ) -> None:
        if not callable(refresh):
            raise ConfigurationError(
                f"TokenCache takes a function that refreshes a token, not {type(refresh).__name__}"
            )
        if not (is_positive_number(margin) or margin == 0):
            raise ConfigurationError(f"margin={margin!r} must be a number of seconds, 0 or more")
        if not is_positive_number(timeout):
            raise ConfigurationError(
                f"timeout={timeout!r} must be a number of seconds greater than 0"
            )
        self._refresh = refresh
        self._key = key
        self._margin = margin
        self._timeout = timeout
        self._clock = clock or SystemClock()
        self._locks = None if redis is None else _open_locks(redis, namespace, timeout)
        # The most recently used is the last.
        self._entries: dict[str, _Entry] = {}
        self._guard = threading.Lock()

    def get(self, account: AccountT) -> str:
        """Return the account's token; wait until it is refreshed, if it has to be.

        It is for plain code. An ``async`` `refresh` gets an event loop of its own.

        Raises:
            TokenError: The refresh took too long, or has not returned a `Token`.
            LockError: Redis is away.
            RuntimeError: An event loop runs in this thread; use `aget`.
            Exception: `refresh` has failed.
        """
        if asyncio._get_running_loop() is not None:
            raise RuntimeError(
                "an event loop runs in this thread, and get() would block it; use "
                "`await tokens.aget(account)`"
            )
        key = self._key_of(account)
        for _ in range(_ATTEMPTS):
            token = self._find_or_refresh(key, account)
            if isinstance(token, str):
                return _hide(token)
            done, _ = concurrent.futures.wait([token.token], token.ends_at - time.monotonic())
            if not done:
                self._give_up(key, token)
            elif (value := token.token.result()) is not None:
                return _hide(value)
        raise self._cancellation_error()

    async def aget(self, account: AccountT) -> str:
        """Return the account's token; see `get`, which is for plain code.

        >>> import asyncio
        >>> async def refresh(account: str, old: str | None) -> Token:
        ...     return Token(f"token-of-{account}")
        >>> asyncio.run(TokenCache(refresh).aget("ada"))
        'token-of-ada'
        """
        key = self._key_of(account)
        for _ in range(_ATTEMPTS):
            token = self._find_or_refresh(key, account)
            if isinstance(token, str):
                return _hide(token)
            future = asyncio.wrap_future(token.token)
            try:
                await asyncio.wait([future], timeout=token.ends_at - time.monotonic())
            finally:
                done = not future.cancel()
            if not done:
                self._give_up(key, token)
            elif (value := future.result()) is not None:
                return _hide(value)
        raise self._cancellation_error()

    def refuse(self, account: AccountT, token: str) -> None:
        """Have a token refreshed that the API does not accept, as by a 401.

        A token that was refreshed already is left as it is, so a token is refused once, however
        many calls have used it.

        >>> tokens = TokenCache(lambda account, old: Token(f"{old or 'token'}!"))
        >>> token = tokens.get("ada")
        >>> tokens.refuse("ada", token)
        >>> tokens.refuse("ada", token)
        >>> tokens.get("ada")
        'token!!'
        """
        key = self._key_of(account)
        with self._guard:
            entry = self._entries.get(key)
            if entry is not None and entry.value == token:
                entry.fresh_until = -math.inf

    def httpx_auth(self, account: AccountT) -> httpx.Auth:
        """Return the ``auth=`` of a client or request of httpx: the account's token.

        A 401 refuses the token, and the request is sent once more with the new one. A request whose
        body is a stream can be sent only once.

        >>> import httpx
        >>> tokens = TokenCache(lambda account, old: Token("token-2" if old else "token-1"))
        >>> def api(request: httpx.Request) -> httpx.Response:
        ...     accepted = request.headers["Authorization"] == "Bearer token-2"
        ...     return httpx.Response(200 if accepted else 401)
        >>> with httpx.Client(transport=httpx.MockTransport(api)) as client:
        ...     client.get("https://example.com", auth=tokens.httpx_auth("ada"))
        <Response [200 OK]>

        Raises:
            ConfigurationError: The package httpx is not installed.
        """
        try:
            from arbprov.http.httpx_auth import TokenAuth
        except ImportError:
            raise ConfigurationError(
                'httpx_auth() needs the package httpx: pip install "arbprov[http]"'
            ) from None
        return TokenAuth(self, account)

    def httpx2_auth(self, account: AccountT) -> httpx2.Auth:
        """Return the ``auth=`` of a client or request of httpx2; see `httpx_auth`.

        Raises:
            ConfigurationError: The package httpx2 is not installed.
        """
        try:
            from arbprov.http.httpx2_auth import TokenAuth
        except ImportError:
            raise ConfigurationError(
                "httpx2_auth() needs the package httpx2: pip install httpx2"
            ) from None
        return TokenAuth(self, account)

    def _key_of(self, account: AccountT) -> str:
        """Return the account's name in memory and in Redis: a hash, since both may be read."""
        if self._key is None:
            name = json.dumps(to_builtins(account), sort_keys=True)
        else:
            given: Any = self._key(account)
            if given is None or given == "":
                raise TokenError(
                    f"{describe_handler(self._key)}: the account has no key ({given!r}), so its "
                    f"token can't be told from the tokens of other accounts"
                )
            name = str(given)
        return hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()

    def _find_or_refresh(self, key: str, account: AccountT) -> str | _Refreshing:
        """Return the token, or the refresh that is under way for it; begin it if there is none."""
        with self._guard:
            entry = self._entries.pop(key, None) or _Entry()
            self._entries[key] = entry
            if entry.value is not None and self._clock.monotonic() < entry.fresh_until:
                return entry.value
            if entry.refreshing is not None:
                return entry.refreshing
            seconds = self._timeout + (self._locks.patience if self._locks else 0) + _GRACE
            refreshing = entry.refreshing = _Refreshing(seconds)
            self._drop_oldest()
        loop = asyncio._get_running_loop() if is_async(self._refresh) else None
        thread = threading.Thread(
            target=contextvars.copy_context().run,
            args=(self._run_refresh, key, refreshing, account, entry.value, loop),
            name="arbprov-token",
            daemon=True,
        )
        try:
            thread.start()
        except RuntimeError as error:  # the process has too many threads
            self._end_refresh(key, refreshing)
            refreshing.token.set_exception(error)
        return refreshing

    def _drop_oldest(self) -> None:
        if len(self._entries) > _MAX_TOKENS:
            oldest = next((k for k, e in self._entries.items() if e.refreshing is None), None)
            if oldest is not None:
                del self._entries[oldest]

    def _run_refresh(
        self,
        key: str,
        refreshing: _Refreshing,
        account: AccountT,
        old: str | None,
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        """Refresh a token on a thread of its own, and tell the calls that wait for it."""
        token: Token | None = None
        began_at = self._clock.monotonic()
        try:
            with self._locks.hold(key) if self._locks else nullcontext():
                began_at = self._clock.monotonic()
                token = self._call_refresh(account, old, loop)
        except _LoopGoneError:
            self._end_refresh(key, refreshing)
            refreshing.token.set_result(None)
        except BaseException as error:
            self._end_refresh(key, refreshing)
            refreshing.token.set_exception(error)
        else:
            # Half of its time at least: a margin longer than that would refresh it in each call.
            margin = min(self._margin, token.expires_in / 2)
            self._end_refresh(key, refreshing, token.value, began_at + token.expires_in - margin)
            refreshing.token.set_result(token.value)

    def _call_refresh(
        self, account: AccountT, old: str | None, loop: asyncio.AbstractEventLoop | None
    ) -> Token:
        if loop is not None:
            answer: Any = self._wait_on_loop(_await(self._refresh, account, old), loop)
        else:
            answer = self._refresh(account, old)
            if inspect.isawaitable(answer):
                answer = self._wait_in_new_loop(answer)
        if not isinstance(answer, Token):
            raise TokenError(
                f"{describe_handler(self._refresh)}: it returned {type(answer).__name__}, and must "
                f"return a Token"
            )
        return answer

    def _wait_in_new_loop(self, answer: Awaitable[Any]) -> Any:
        try:
            return asyncio.run(asyncio.wait_for(answer, self._timeout))
        except asyncio.TimeoutError:
            raise self._timeout_error() from None
        except asyncio.CancelledError:
            raise _LoopGoneError from None

    def _wait_on_loop(
        self, coroutine: Coroutine[Any, Any, Token], loop: asyncio.AbstractEventLoop
    ) -> Token:
        try:
            future = asyncio.run_coroutine_threadsafe(coroutine, loop)
        except RuntimeError:  # it was closed just now
            coroutine.close()
            raise _LoopGoneError from None
        ends_at = time.monotonic() + self._timeout
        while not future.done():
            concurrent.futures.wait([future], _LOOP_CHECK)
            if loop.is_closed():
                break
            if time.monotonic() > ends_at and not future.done():
                future.cancel()
                raise self._timeout_error()
        if inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
            coroutine.close()  # Python would warn that it was never awaited
        if not future.done() or future.cancelled():
            raise _LoopGoneError
        return future.result()

    def _end_refresh(
        self,
        key: str,
        refreshing: _Refreshing,
        value: str | None = None,
        fresh_until: float = -math.inf,
    ) -> None:
        with self._guard:
            entry = self._entries.get(key)
            # The calls may have given it up, and another refresh may have begun.
            if entry is not None and entry.refreshing is refreshing:
                entry.refreshing = None
                if value is not None:
                    entry.value, entry.fresh_until = value, fresh_until

    def _give_up(self, key: str, refreshing: _Refreshing) -> None:
        """Let the next call try again, since a refresh hangs.

        Raises:
            TokenError: In any case.
        """
        self._end_refresh(key, refreshing)
        raise self._timeout_error()

    def _timeout_error(self) -> TokenError:
        return TokenError(
            f"{describe_handler(self._refresh)}: it has not ended within its timeout of "
            f"{self._timeout:g} s; give its requests a shorter timeout, or raise timeout="
        )

    def _cancellation_error(self) -> TokenError:
        return TokenError(
            f"{describe_handler(self._refresh)}: it was cancelled {_ATTEMPTS} times; does it raise "
            f"CancelledError by itself?"
        )


class _LoopGoneError(Exception):
    """The event loop that ran a refresh was closed, or has cancelled it."""


def _hide(token: str) -> str:
    """Keep a token out of the errors of the call that gets it, and return it."""
    secrets = call_secrets.get()
    if secrets is not None and token not in secrets and len(secrets) < _MAX_HIDDEN:
        secrets.append(token)
    return token


async def _await(
    function: Callable[[AccountT, str | None], Any], account: AccountT, old: str | None
) -> Token:
    token: Token = await function(account, old)
    return token


def _open_locks(redis: str | Redis, namespace: str, timeout: float) -> RedisLocks:
    from arbprov.limits.stores.factory import open_client

    client, place = open_client(redis, "redis", "the token locks'")
    return RedisLocks(client, place, f"{namespace}:tokens", timeout)

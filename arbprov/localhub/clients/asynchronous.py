"""`AsyncClient`: an async client of a bundled hub's HTTP API."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx
from typing_extensions import Self

from arbprov.localhub.api.shapes import (
    AcceptedTask,
    ActionView,
    CountsView,
    MadeToken,
    MatchingView,
    PauseView,
    ProviderView,
    ReportedLimitView,
    ScopeView,
    TaskView,
    TokenView,
)
from arbprov.localhub.clients import requests
from arbprov.localhub.clients.exchange import EventReader, Exchange
from arbprov.localhub.clients.requests import Call, Filter, States, When
from arbprov.localhub.clients.settings import find_base_url, find_token
from arbprov.localhub.queue import Change
from arbprov.localhub.tasks import PauseKind
from arbprov.localhub.tokens import Role

__all__ = ["AsyncClient"]

ReturnT = TypeVar("ReturnT")


class AsyncClient:
    """Submits tasks to a bundled hub and looks after them, over the hub's HTTP API, with asyncio.

    Args:
        base_url: The address of the API, as a URL or ``HOST:PORT``; by default that of
            ``ARBPROV_HUB_HTTP``, or http://127.0.0.1:50080.
        token: A token of the hub with the role ``admin``, or ``reader`` to read; by default that
            of ``ARBPROV_HUB_TOKEN`` or of the file ``ARBPROV_HUB_TOKEN_FILE``.
        timeout: Seconds to wait for each part of an answer, not for the whole answer, and to send
            each part of a request. A connection that is not there after 5 seconds is an error.
        transport: Sends the requests; by default, httpx's own.

    Each method may raise an `AuthenticationError` if the hub refuses the token, a
    `HubConnectionError` if it cannot be reached, and a `HubError` if it refuses the request.

    Raises:
        ConfigurationError: The address is not valid, or there is no token.

    >>> import asyncio, httpx
    >>> sample = httpx.MockTransport(lambda request: httpx.Response(200, json={"limits": []}))
    >>> async def list_limits():
    ...     async with AsyncClient("127.0.0.1:50080", "sample-token", transport=sample) as client:
    ...         return await client.limits()
    >>> asyncio.run(list_limits())
    []
    """

    def __init__(
        self,
        base_url: str | None = None,
        token: str | None = None,
        *,
        timeout: float = 30.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._exchange = Exchange(find_base_url(base_url), find_token(token), timeout)
        self._http = httpx.AsyncClient(**self._exchange.client_options, transport=transport)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    # Tasks.

    async def submit(
        self,
        action: str,
        payload: Mapping[str, Any] | None = None,
        *,
        account: Mapping[str, Any] | None = None,
        account_key: str | None = None,
        provider: str | None = None,
        id: str | None = None,
        priority: int | None = None,
        not_before: When | None = None,
        ttl: float | None = None,
        max_deliveries: int | None = None,
        idempotency_key: str | None = None,
        traceparent: str | None = None,
    ) -> TaskView:
        """Submit a task; it is in the hub's store when this returns.

        Args:
            action: The action to run.
            payload: The task's payload.
            account: The task's account.
            account_key: What the hub tells accounts apart by; by default the account's hash.
            provider: The provider that must run it.
            id: The task's id; by default a new id.
            priority: From -1000 to 1000; tasks of a higher priority are handed out first.
            not_before: The earliest time to hand it out: a `datetime` with a time zone, or seconds
                since 1970.
            ttl: Seconds until it is not started any more.
            max_deliveries: How often it is handed out without a result until it is dead.
            idempotency_key: A second submission with this key adds nothing, and returns the first
                task.
            traceparent: Where the task was made, as W3C Trace Context writes it.
        """
        options = {
            "account": account,
            "account_key": account_key,
            "provider": provider,
            "id": id,
            "priority": priority,
            "not_before": not_before,
            "ttl": ttl,
            "max_deliveries": max_deliveries,
            "idempotency_key": idempotency_key,
            "traceparent": traceparent,
        }
        return await self._send(requests.submit(action, payload, options))

    async def submit_many(
        self,
        tasks: Iterable[Mapping[str, Any]],
        *,
        on_progress: Callable[[int], object] | None = None,
    ) -> Sequence[AcceptedTask]:
        """Submit many tasks, in requests of a few thousand; each request is all or nothing.

        Args:
            tasks: The tasks, with the arguments of `submit` as keys.
            on_progress: Called with the number of tasks that a request has added.
        """
        accepted: list[AcceptedTask] = []
        for call in requests.submit_chunks(tasks):
            added = await self._send(call)
            accepted += added
            if on_progress is not None:
                on_progress(len(added))
        return accepted

    async def get(self, id: str, *, accounts: str | None = None) -> TaskView:
        """Return a task with its attempts.

        Args:
            id: The task's id.
            accounts: ``full`` or ``masked``; by default, the account is masked for readers.
        """
        return await self._send(requests.get(id, accounts))

    async def list(
        self,
        *,
        id: str | Iterable[str] | None = None,
        action: str | None = None,
        account: str | None = None,
        provider: str | None = None,
        state: States | None = None,
        error_type: str | None = None,
        text: str | None = None,
        payload: Mapping[str, Any] | None = None,
        created_after: When | None = None,
        created_before: When | None = None,
        accounts: str | None = None,
        page_size: int = 100,
    ) -> AsyncIterator[TaskView]:
        """Yield tasks, the latest submitted first; the pages are read as they are needed.

        Args:
            id: The task with this id, or the tasks with several ids.
            action: Tasks of this action.
            account: Tasks of the account with this key.
            provider: Tasks that this provider must run, or ran last.
            state: Tasks in this state, or in any of several.
            error_type: Tasks whose result has this error type.
            text: Tasks whose id, message or payload holds this text, in any case of ASCII letters.
            payload: Tasks whose payload has these top-level values.
            created_after: Tasks submitted at this time or later.
            created_before: Tasks submitted before this time.
            accounts: ``full`` or ``masked``; by default, accounts are masked for readers.
            page_size: Tasks that a request returns, 1,000 at most.
        """
        filters = {
            "id": id,
            "action": action,
            "account": account,
            "provider": provider,
            "state": state,
            "error_type": error_type,
            "text": text,
            "payload": payload,
            "created_after": created_after,
            "created_before": created_before,
        }
        cursor: str | None = None
        while True:
            page = await self._send(requests.page(filters, page_size, cursor, accounts))
            for task in page.tasks:
                yield task
            cursor = page.next
            if cursor is None:
                return

    async def retry(self, id: str) -> TaskView:
        """Have a task that has ended wait again, and return it."""
        return await self._send(requests.retry(id))

    async def cancel(self, id: str, reason: str | None = None) -> TaskView:
        """Cancel a task that has not ended, and return it.

        Args:
            id: The task's id.
            reason: Why, for people.
        """
        return await self._send(requests.cancel(id, reason))

    async def retry_matching(self, filter: Filter, *, expect: int | None = None) -> MatchingView:
        """Retry the failed, cancelled and dead tasks of a filter; without `expect`, count them.

        Args:
            filter: The arguments of `list` that choose tasks, as keys. Tasks that are done are run
                again only if `state` names ``done``.
            expect: The number of tasks that match, as it was counted; if more match now, nothing
                is done.
        """
        return await self._send(requests.change_matching("retry", filter, expect))

    async def cancel_matching(self, filter: Filter, *, expect: int | None = None) -> MatchingView:
        """Cancel the waiting and running tasks of a filter; without `expect`, count them.

        Args:
            filter: The arguments of `list` that choose tasks, as keys.
            expect: The number of tasks that match, as it was counted; if more match now, nothing
                is done.
        """
        return await self._send(requests.change_matching("cancel", filter, expect))

    async def wait(self, id: str, timeout: float | None = None) -> TaskView:
        """Return a task when it has ended.

        Args:
            id: The task's id.
            timeout: Seconds to wait; None for no limit.

        Raises:
            TimeoutError: The task has not ended in time; it stays in the hub.
        """
        for call in requests.waits(id, timeout, time.monotonic):
            task = await self._send(call)
            if task.state.has_ended:
                return task
        raise AssertionError

    # The hub itself.

    async def events(self) -> AsyncIterator[Change]:
        """Yield each change of a task from now on, until the hub stops.

        A change without an id says that any task may have changed.
        """
        call, reader = requests.events(), EventReader()
        options = self._exchange.stream_options(call)
        with self._errors():
            async with self._http.stream(**options) as response:
                if response.status_code != 200:
                    content = await response.aread()
                    raise self._exchange.find_refusal(response.status_code, content)
                self._exchange.check_stream(response.headers.get("content-type", ""))
                async for line in response.aiter_lines():
                    if (change := reader.read(line)) is not None:
                        yield change

    async def counts(self) -> CountsView:
        """Return the number of tasks by action and state, and how many ended lately."""
        return await self._send(requests.counts())

    async def limits(self) -> Sequence[ScopeView]:
        """Return the groups of tasks that a limit holds back."""
        return await self._send(requests.limits())

    async def reported_limits(self) -> Sequence[ReportedLimitView]:
        """Return how the limits of providers stand, by their reports."""
        return await self._send(requests.reported_limits())

    async def providers(self) -> Sequence[ProviderView]:
        """Return the providers that poll the hub, with their processes."""
        return await self._send(requests.providers())

    async def actions(self) -> Sequence[ActionView]:
        """Return the actions of the providers that report, with their schemas."""
        return await self._send(requests.actions())

    async def pauses(self) -> Sequence[PauseView]:
        """Return the pauses."""
        return await self._send(requests.pauses())

    async def pause(self, kind: str | PauseKind, name: str) -> Sequence[PauseView]:
        """Hand out no task of an action or account, or to a provider; return the pauses.

        Args:
            kind: ``action``, ``provider`` or ``account``.
            name: The action's or the provider's name, or the account's key.
        """
        return await self._send(requests.pause(kind, name))

    async def resume(self, kind: str | PauseKind, name: str) -> None:
        """End a pause; see `pause`."""
        await self._send(requests.resume(kind, name))

    async def tokens(self) -> Sequence[TokenView]:
        """Return the tokens that were made."""
        return await self._send(requests.tokens())

    async def make_token(self, name: str, role: str | Role, provider: str = "") -> MadeToken:
        """Make a token; the hub shows it only now.

        Args:
            name: A name for people.
            role: ``provider``, ``admin`` or ``reader``.
            provider: The provider whose token it is, with the role ``provider``.
        """
        return await self._send(requests.make_token(name, role, provider))

    async def remove_token(self, name: str) -> None:
        """Remove a token."""
        await self._send(requests.remove_token(name))

    # Requests.

    async def _send(self, call: Call[ReturnT]) -> ReturnT:
        with self._errors():
            response = await self._http.request(**self._exchange.request_options(call))
        return self._exchange.read(call, response.status_code, response.content)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except httpx.InvalidURL as error:
            raise self._exchange.find_address_error(error) from None
        except httpx.RequestError as error:
            raise self._exchange.find_connection_error(error) from None

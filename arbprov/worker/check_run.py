"""Runs the checks of an app as a worker runs tasks: within its lifespan, on loop and threads."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import attrs

from arbprov._types import Clock
from arbprov._utils import escape_line
from arbprov.checks import Check, CheckResult
from arbprov.context import TaskContext
from arbprov.dispatcher import Dispatcher
from arbprov.errors import RateLimited
from arbprov.executors.threads import ThreadPool
from arbprov.hooks import Hooks
from arbprov.limits import Headroom, current_limits
from arbprov.limits.decision import read_checked
from arbprov.limits.headers import ApiResponse, HeaderNames
from arbprov.redaction import Redactor, call_secrets, find_secrets
from arbprov.responses import error_result
from arbprov.task import Task
from arbprov.worker.background import close_loop
from arbprov.worker.life_hooks import LifeHooks

__all__ = ["CheckRun"]

# Characters of a reason.
_MAX_LINE = 2_000


class CheckRun:
    """Runs checks one after another.

    Args:
        dispatcher: Has the app's clock and secrets.
        hooks: The lifespan and the hooks of the worker's life.
        account: The account for the checks.
        timeout: Seconds that the start may take, and the end.
        report: Called with each result as it comes.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        hooks: Hooks,
        account: dict[str, Any],
        timeout: float,
        report: Callable[[CheckResult], object],
    ) -> None:
        self._dispatcher = dispatcher
        self._clock = dispatcher.clock
        self._hooks = hooks
        self._account = account
        self._timeout = timeout
        self._report = report
        self._secrets = [*find_secrets(account), *dispatcher.secrets]

    def run(self, checks: Iterable[Check]) -> None:
        """Run checks in an event loop of their own.

        A lifespan or hook that fails is reported too, as ``(start)`` or ``(end)``; without a start,
        no check runs.
        """
        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(self._run_all(checks))
        finally:
            close_loop(loop)

    async def _run_all(self, checks: Iterable[Check]) -> None:
        loop = asyncio.get_running_loop()
        call_secrets.set(self._secrets)
        # From the first moment, as if a stop had begun: the start has to end in time.
        stopping = loop.create_future()
        stopping.set_result(None)
        life_hooks = LifeHooks(stopping, self._timeout)
        threads = ThreadPool(loop, "arbprov-check")
        try:
            if await self._time("(start)", self._start(life_hooks), only_failed=True):
                for check in checks:
                    await self._time(check.name, self._run(check, threads))
        finally:
            threads.close()
            ending = life_hooks.run_shutdown(self._hooks, self._timeout)
            await self._time("(end)", ending, only_failed=True)

    async def _start(self, life_hooks: LifeHooks) -> None:
        self._dispatcher.state = await life_hooks.run_startup(self._hooks)

    async def _time(self, name: str, work: Awaitable[None], *, only_failed: bool = False) -> bool:
        """Await some work, report how it ended, and return whether it did not fail."""
        started_at = self._clock.monotonic()
        reason = ""
        try:
            await work
        except Exception as error:
            reason = self._describe(name, error)
        if reason or not only_failed:
            self._report(CheckResult(name, self._clock.monotonic() - started_at, reason))
        return not reason

    async def _run(self, check: Check, threads: ThreadPool) -> None:
        """Run a check.

        Raises:
            Exception: It has failed.
        """
        limits = _FreeLimits(self._clock)
        ctx: TaskContext = TaskContext(
            id="check",
            action=check.name,
            deadline=self._clock.monotonic() + check.timeout,
            logger=logging.getLogger(f"arbprov.{check.name}"),
            account=self._account,
            limits=limits,
            clock=self._clock,
            state=self._dispatcher.state,
        )
        args, kwargs = check.binding.bind(ctx)

        async def call() -> Any:
            try:
                if check.is_async:
                    return await check.function(*args, **kwargs)
                answer = await threads.run(lambda: check.function(*args, **kwargs))
                return await answer if inspect.isawaitable(answer) else answer
            except SystemExit as error:  # asyncio would stop the event loop
                raise _CheckFailed(f"SystemExit: {error}") from None

        restored = current_limits.set(limits)
        task = asyncio.ensure_future(call())
        try:
            await asyncio.wait([task], timeout=check.timeout)
        finally:
            current_limits.reset(restored)
            ctx.cancelled = not task.done()
            task.cancel()
        if ctx.cancelled:
            raise _CheckFailed(f"it has not ended within its timeout of {check.timeout:g} s")
        answer = task.result()
        if answer is False:
            raise _CheckFailed("it returned False")
        if answer is not None and answer is not True:
            raise _CheckFailed(
                f"it returned {type(answer).__name__}, and a check returns None, True or False, or "
                f"raises an exception"
            )

    def _describe(self, name: str, error: BaseException) -> str:
        """Return an error as a line without secrets, which begins with the error's type."""
        redactor = Redactor(self._secrets)
        result = error_result(Task("check", name, b"", b""), error, redactor)
        kind = result.data.get("type") if isinstance(result.data, dict) else None
        text = str(error) if isinstance(error, RateLimited) else result.message
        if isinstance(kind, str) and not isinstance(error, _CheckFailed):
            text = text if text.startswith(kind) else f"{kind}: {text}"
        return escape_line(text, _MAX_LINE) or type(error).__name__


@attrs.frozen
class _FreeLimits:
    """`CallLimits` of a check: they count nothing, so that a check needs no action's limits."""

    _clock: Clock
    headroom: tuple[Headroom, ...] = ()
    names: Sequence[str] = ()
    allowed: bool = True
    wait_time: float = 0.0

    def refund(self) -> None:
        """Do nothing."""

    def report(self, name: str, *, used: float | str, reset_in: float | str) -> None:
        """Do nothing."""

    def acquire(self, name: str, *, cost: int | None = None, max_wait: float | None = None) -> None:
        """Do nothing."""

    async def aacquire(
        self, name: str, *, cost: int | None = None, max_wait: float | None = None
    ) -> None:
        """Do nothing."""

    def observe(
        self, response: ApiResponse, *, limit: str, headers: HeaderNames | None = None
    ) -> None:
        """Raise RateLimited if the API throttles the check."""
        answer = read_checked(response, limit, headers, self._clock.now())
        if answer.is_throttled:
            raise RateLimited(answer.retry_after or 0, limit)


class _CheckFailed(Exception):
    """A check has failed without an exception of its own."""

"""Reporting a worker's actions, slots and limits to a hub that asks for it."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping

import attrs

from arbprov._version import __version__
from arbprov.actions import Action
from arbprov.dispatcher import Dispatcher, Route
from arbprov.errors import HubError
from arbprov.executors.threads import ThreadPool
from arbprov.instrumentation.status import WorkerStatus
from arbprov.limits.stores.base import BucketKey
from arbprov.payload.json_schema import describe_binding
from arbprov.wire.hub import Hub
from arbprov.wire.reports import (
    MAX_TEXT,
    ActionReport,
    ProviderReport,
    write_actions,
    write_report,
)
from arbprov.worker.background import Background
from arbprov.worker.limit_reports import LimitReporter
from arbprov.worker.recurring import Recurring

__all__ = ["Reporter", "describe_actions"]

logger = logging.getLogger("arbprov")

# Texts of limits that an action has.
_MAX_LIMITS = 50


class Reporter:
    """Reports while the hub asks for it; nothing that fails here changes a task.

    It belongs to the event loop that runs when it is made.

    Args:
        hub: Gets the reports.
        dispatcher: Knows the actions and their limits.
        read_status: Returns what the worker is doing.
        count_waiting: Returns how many calls wait for each bucket.
        tasks: Runs the reports.
    """

    def __init__(
        self,
        hub: Hub,
        dispatcher: Dispatcher,
        read_status: Callable[[], WorkerStatus],
        count_waiting: Callable[[], Mapping[BucketKey, int]],
        tasks: Background,
    ) -> None:
        self._hub = hub
        self._dispatcher = dispatcher
        self._read_status = read_status
        self._count_waiting = count_waiting
        self._process = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(2)}"
        self._reports = Recurring(self._report, lambda: hub.report_interval, tasks, at_once=True)
        self._threads = ThreadPool(asyncio.get_running_loop(), "arbprov-report")
        # Made for the first report.
        self._limits: LimitReporter | None = None
        self._actions: dict[str, bytes] = {}
        self._wants_actions = True
        self._has_failed = False

    def start(self) -> None:
        """Report from now on, until the hub asks for no reports any more."""
        # Now: the poll that has shown this may have brought a task.
        self._dispatcher.limiter.watch()
        self._reports.start()

    async def close(self) -> None:
        """Report no more."""
        await self._reports.close()
        self._threads.close()

    async def _report(self) -> None:
        status, waiting = self._read_status(), self._count_waiting()
        try:
            # On a thread: the stores of limits may block, and schemas take a while.
            fields = await self._threads.run(lambda: self._write(status, waiting))
            self._wants_actions = await self._hub.report(fields)
        except Exception as error:
            self._log(error, status)
        else:
            self._has_failed = False

    def _log(self, error: Exception, status: WorkerStatus) -> None:
        # A hub that is away is in the log already.
        is_news = status.is_connected and not self._has_failed
        level = logging.WARNING if is_news else logging.DEBUG
        reason = error if isinstance(error, HubError) else type(error).__name__
        logger.log(level, "the hub was not told how this provider stands, retrying: %s", reason)
        self._has_failed = self._has_failed or is_news

    def _write(self, status: WorkerStatus, waiting: Mapping[BucketKey, int]) -> bytes:
        if self._limits is None:
            limiter = self._dispatcher.limiter
            self._limits = LimitReporter(limiter.watch(), self._dispatcher.clock)
        if self._wants_actions and not self._actions:
            self._actions = write_actions(describe_actions(self._dispatcher.routes))
        limits, limits_cut = self._limits.read(waiting)
        report = ProviderReport(
            provider=self._dispatcher.provider,
            process=self._process,
            version=__version__,
            slots=status.slots,
            free_slots=0 if status.is_draining else status.free_slots,
            limits=limits,
            limits_cut=limits_cut,
        )
        return write_report(report, self._actions if self._wants_actions else {})


def describe_actions(routes: Mapping[str, Route]) -> Iterator[ActionReport]:
    """Yield what a hub is told of each action.

    Args:
        routes: The routes of the actions by their names.
    """
    for name, route in routes.items():
        if route.action is not None and len(name) <= MAX_TEXT:
            yield _describe_action(route.action, _describe_limits(route))


def _describe_action(action: Action, limits: Iterable[str]) -> ActionReport:
    report = ActionReport(
        name=action.name, description=action.description[:MAX_TEXT], limits=tuple(limits)
    )
    try:
        schemas = describe_binding(action.binding, action.handler)
    except Exception as error:  # from a model, whose code is the author's
        logger.debug("action %r is reported without its schemas: %s", action.name, error)
        return report
    takes_account = action.binding.account is not attrs.NOTHING
    return attrs.evolve(
        report,
        payload_schema=schemas["payload"],
        account_schema=schemas["account"] if takes_account else None,
    )


def _describe_limits(route: Route) -> Iterator[str]:
    declarations = {id(limit.declaration): limit.declaration for limit in route.limits.all_limits}
    for declaration in [*declarations.values()][:_MAX_LIMITS]:
        yield str(declaration)[:MAX_TEXT]

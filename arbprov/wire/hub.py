"""What the worker and the outbox need from a hub, as a Protocol; `GrpcHub` implements it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import attrs

from arbprov.errors import HubError
from arbprov.task import Task, TaskKey

__all__ = ["Hub", "Pause", "Renewal", "ResultRefused", "ResultTooLarge"]


@attrs.frozen
class Pause:
    """An answer to a poll: the hub asks for no more polls for `seconds`.

    >>> Pause(2.5).seconds
    2.5
    """

    seconds: float


@attrs.frozen
class Renewal:
    """A hub's answer to the renewal of leases.

    Attributes:
        cancelled: The keys of tasks that a person has cancelled.
        lost: The keys of tasks that the hub has given to another provider.

    >>> Renewal(lost=frozenset({("t1", 2)}))
    Renewal(cancelled=frozenset(), lost=frozenset({('t1', 2)}))
    """

    cancelled: frozenset[TaskKey] = frozenset()
    lost: frozenset[TaskKey] = frozenset()


class ResultRefused(HubError):
    """The hub will never accept this result, however often it is sent."""


class ResultTooLarge(ResultRefused):
    """The hub will never accept this result because it is too large."""


class Hub(Protocol):
    """Hands out tasks and accepts results."""

    @property
    def is_connected(self) -> bool:
        """Whether a poll that the hub has not answered yet may bring a task."""
        ...

    async def fetch(self) -> Task | Pause | None:
        """Poll once; return a task, None if there is nothing to do, or the pause to keep.

        Raises:
            HubConnectionError: The hub cannot be reached, or cannot answer now.
            AuthenticationError: The hub refuses the token.
        """
        ...

    async def submit(self, message: bytes, attempt: int) -> None:
        """Send a result that `encode_result` has encoded; the hub has it when this returns.

        Args:
            message: The encoded result.
            attempt: The attempt of its task; see `arbprov.task.Task`.

        Raises:
            HubConnectionError: The hub cannot be reached, or cannot answer now; send it again.
            AuthenticationError: The hub refuses the token.
            ResultRefused: The hub refuses the result for good.
            ResultTooLarge: The hub refuses the result for good because of its size.
        """
        ...

    @property
    def renew_interval(self) -> float:
        """Seconds between renewals that the hub asks for; 0 while it has shown no leases."""
        ...

    async def renew(self, tasks: Sequence[TaskKey]) -> Renewal:
        """Renew the leases of tasks, so that the hub gives them to no other provider.

        Args:
            tasks: The keys of all tasks that run, or whose results the hub does not have.

        Raises:
            HubConnectionError: The leases are not renewed; the next renewal may work.
        """
        ...

    @property
    def report_interval(self) -> float:
        """Seconds between reports that the hub asks for; 0 while it takes none."""
        ...

    async def report(self, fields: bytes) -> bool:
        """Report how this process of the provider stands.

        Args:
            fields: What `arbprov.wire.reports.write_report` has returned.

        Returns:
            Whether the hub asks for the actions with the next report.

        Raises:
            HubConnectionError: The hub does not have the report; the next report may work.
        """
        ...

    async def close(self) -> None:
        """Close the connections to the hub."""
        ...

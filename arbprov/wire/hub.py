"""What the worker and the outbox need from a hub, as a Protocol; `GrpcHub` implements it."""

from __future__ import annotations

from typing import Protocol

import attrs

from arbprov.errors import HubError
from arbprov.task import Task

__all__ = ["Hub", "Pause", "ResultRefused", "ResultTooLarge"]


@attrs.frozen
class Pause:
    """An answer to a poll: the hub asks for no more polls for `seconds`.

    >>> Pause(2.5).seconds
    2.5
    """

    seconds: float


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

    async def submit(self, message: bytes) -> None:
        """Send a result that `encode_result` has encoded; the hub has it when this returns.

        Raises:
            HubConnectionError: The hub cannot be reached, or cannot answer now; send it again.
            AuthenticationError: The hub refuses the token.
            ResultRefused: The hub refuses the result for good.
            ResultTooLarge: The hub refuses the result for good because of its size.
        """
        ...

    async def close(self) -> None:
        """Close the connections to the hub."""
        ...

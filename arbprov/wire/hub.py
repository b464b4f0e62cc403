"""What the worker needs of a hub; whatever offers it can take the hub's place."""

from __future__ import annotations

from typing import Protocol

import attrs

from arbprov.errors import HubError
from arbprov.task import Task

__all__ = ["Hub", "Pause", "ResultRefused", "ResultTooLarge"]


@attrs.frozen
class Pause:
    """The hub asks for no more polls for `seconds`."""

    seconds: float


class ResultRefused(HubError):
    """The hub will never take this result, however often it is sent."""


class ResultTooLarge(ResultRefused):
    """The hub will never take this result, for its size."""


class Hub(Protocol):
    """Where tasks come from and results go."""

    async def fetch(self) -> Task | Pause | None:
        """Return a task, None if there is nothing now, or the pause that the hub asks for.

        Raises:
            HubConnectionError: The hub can't be reached or is in trouble.
            AuthenticationError: It refuses the token.
        """
        ...

    async def submit(self, message: bytes) -> None:
        """Send a result, as `encode_result` has written it; when this returns, the hub has it.

        Raises:
            HubConnectionError: The hub can't be reached or is in trouble; send it again.
            AuthenticationError: It refuses the token.
            ResultRefused: It refuses the result for good.
            ResultTooLarge: Likewise, for its size.
        """
        ...

    async def close(self) -> None:
        """Give up what connects to the hub."""
        ...

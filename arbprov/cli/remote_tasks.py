"""Tasks that are submitted to a hub in another process, and their results as they arrive."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

from arbprov._utils import MEBIBYTE, format_count
from arbprov.cli.task_files import Arguments
from arbprov.errors import HubError, ProviderError

if TYPE_CHECKING:
    from arbprov.localhub import LocalHubClient, Submission

__all__ = ["RemoteTasks"]

# The most tasks, and bytes of their payloads and accounts, that are submitted together.
_MAX_SUBMITTED = 2_000
_MAX_BYTES = 8 * MEBIBYTE
# The most tasks whose results are asked for together.
_MAX_ASKED = 500
# Seconds to wait for a result, before looking for an interruption and at the other tasks.
_WAIT = 0.5


class RemoteTasks:
    """Submits tasks in batches, and yields their results as they arrive.

    Args:
        client: A client of the hub.
        tasks: The tasks.
        timeout: Seconds for all results; None waits without a limit.
        is_interrupted: Tells whether to give up.

    Attributes:
        ids: The ids of the submitted tasks.
        left: How many tasks have no result yet.
    """

    def __init__(
        self,
        client: LocalHubClient,
        tasks: list[Arguments],
        *,
        timeout: float | None,
        is_interrupted: Callable[[], bool],
    ) -> None:
        self.ids: list[str] = []
        self.left = len(tasks)
        self._client = client
        self._tasks = tasks
        self._timeout = timeout
        self._is_interrupted = is_interrupted
        # How many of the tasks have an id: with the same idempotency key, several have the same.
        self._pending: dict[str, int] = {}

    def submit(self) -> Iterator[list[str]]:
        """Submit all tasks, and yield the ids of each batch.

        Raises:
            ProviderError: Interrupted, or the hub does not take them.
        """
        for batch in self._batches():
            if self._is_interrupted():
                raise ProviderError(f"interrupted{self._describe_left()}")
            try:
                ids = self._client.submit(batch)
            except HubError as error:
                raise type(error)(f"{error}{self._describe_left()}") from None
            self.ids += ids
            for name in ids:
                self._pending[name] = self._pending.get(name, 0) + 1
            yield ids

    def run(self) -> Iterator[list[Submission]]:
        """Submit all tasks, and yield the results that have arrived, until all have.

        Raises:
            ProviderError: Interrupted, not all results came in time, or the hub has a problem; the
                message says what stays at the hub.
        """
        deadline = None if self._timeout is None else time.monotonic() + self._timeout
        for _ in self.submit():
            if len(self.ids) < len(self._tasks):
                yield self._collect(0.0)
        while self._pending:
            wait = _WAIT if deadline is None else min(_WAIT, deadline - time.monotonic())
            reason = ""
            if self._is_interrupted():
                reason = "interrupted"
            elif wait <= 0:
                reason = f"not all results came within {self._timeout:g} s"
            if reason:
                raise ProviderError(f"{reason}{self._describe_left()}")
            yield self._collect(wait)

    def _batches(self) -> Iterator[list[Arguments]]:
        batch: list[Arguments] = []
        size = 0
        for task in self._tasks:
            batch.append(task)
            size += len(json.dumps(task))
            if len(batch) >= _MAX_SUBMITTED or size >= _MAX_BYTES:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def _collect(self, wait: float) -> list[Submission]:
        """Return results of the tasks that were submitted first, or else of any."""
        ids = iter([*self._pending])
        found: list[Submission] = []
        while not found and (asked := [*islice(ids, _MAX_ASKED)]):
            try:
                found = self._client.results(asked, wait)
            except HubError as error:
                raise type(error)(f"{error}{self._describe_left()}") from None
            wait = 0.0
        for result in found:
            self.left -= self._pending.pop(result.id)
        return found

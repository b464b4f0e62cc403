"""Tasks that are submitted to a hub in another process, and their results as they arrive."""

from __future__ import annotations

import contextlib
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
    """

    def __init__(
        self,
        client: LocalHubClient,
        tasks: list[Arguments],
        *,
        timeout: float | None,
        is_interrupted: Callable[[], bool],
    ) -> None:
        self._client = client
        self._tasks = tasks
        self._timeout = timeout
        self._is_interrupted = is_interrupted
        self._submitted = 0
        # How many of the tasks have an id: tasks with the same idempotency key share it.
        self._pending: dict[str, int] = {}

    def submit(self) -> Iterator[list[str]]:
        """Submit all tasks, and yield the ids of each batch.

        Raises:
            ProviderError: Interrupted, or the hub does not take them; the message says what stays
                at the hub.
        """
        for batch in self._batches():
            if self._is_interrupted():
                raise self._add_rest(ProviderError("interrupted"))
            try:
                ids = self._client.submit(batch)
            except HubError as error:
                raise self._add_rest(error) from None
            self._submitted += len(ids)
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
            if self._submitted < len(self._tasks):
                yield self._collect(0.0)
        while self._pending:
            if self._is_interrupted():
                raise self._add_rest(ProviderError("interrupted"))
            wait = _WAIT if deadline is None else min(_WAIT, deadline - time.monotonic())
            if wait <= 0:
                subject = "no result" if len(self._tasks) == 1 else "not all results"
                error = ProviderError(f"{subject} within {self._timeout:g} s")
                raise self._add_rest(error)
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
                raise self._add_rest(error) from None
            wait = 0.0
        return [result for result in found for _ in range(self._pending.pop(result.id))]

    def _add_rest(self, error: ProviderError) -> ProviderError:
        """Return an error that also says which tasks stay at the hub, and which are not there."""
        left, total = sum(self._pending.values()), len(self._tasks)
        lines = [str(error)]
        if left and total == 1:
            (task_id,) = self._pending
            lines += [f"Task {task_id} stays at the hub.", *self._explain(task_id)]
            lines.append(f"To cancel it: arbprov tasks cancel {task_id}")
        elif left:
            has, stays = ("has", "stays") if left == 1 else ("have", "stay")
            lines.append(f"{format_count(left, 'task')} {has} no result and {stays} at the hub.")
            lines.append("To see what is there: arbprov tasks list")
        if 0 < self._submitted < total:
            lines.append(f"{total - self._submitted} of {total} tasks were not submitted.")
        return type(error)("\n".join(lines))

    def _explain(self, task_id: str) -> list[str]:
        """Return a line that says why a task has no result, if the hub knows."""
        with contextlib.suppress(HubError):
            if reason := self._client.explain(task_id):
                return [f"So far, {reason}{'' if reason.endswith('?') else '.'}"]
        return []

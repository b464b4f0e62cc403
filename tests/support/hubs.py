"""A hub that answers from a script, for the worker's tests."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from arbprov.task import Task, TaskKey, TaskResult
from arbprov.wire.hub import Pause, Renewal
from arbprov.wire.messages import decode_result


@attrs.frozen
class Held:
    """An answer that arrives only after some seconds."""

    seconds: float
    answer: Any = None


@attrs.define
class ScriptedHub:
    """Answers polls and results from its scripts.

    An answer is a task, None, a `Pause`, an exception to raise, or a `Held` answer. When a script
    has ended, each poll is answered with `afterwards`, and each result is accepted. A hub with a
    `renew_interval` has leases, and answers renewals from a script too; a hub with a
    `report_interval` takes reports, likewise.
    """

    polls: deque[Any] = attrs.field(factory=deque, converter=deque)
    submits: deque[Any] = attrs.field(factory=deque, converter=deque)
    afterwards: Any = None
    polled_at: list[float] = attrs.field(factory=list)
    submitted: list[tuple[float, TaskResult]] = attrs.field(factory=list)
    messages: list[bytes] = attrs.field(factory=list)
    renew_interval: float = 0.0
    renewals: deque[Any] = attrs.field(factory=deque, converter=deque)
    renewed: list[tuple[float, list[TaskKey]]] = attrs.field(factory=list)
    report_interval: float = 0.0
    reports: deque[Any] = attrs.field(factory=deque, converter=deque)
    reported: list[tuple[float, dict[str, Any]]] = attrs.field(factory=list)
    polling: int = 0
    most_polling: int = 0
    closed: bool = False
    is_connected: bool = True
    on_submit: Callable[[TaskResult], object] = lambda result: None

    async def fetch(self) -> Task | Pause | None:
        loop = asyncio.get_running_loop()
        self.polled_at.append(loop.time())
        self.polling += 1
        self.most_polling = max(self.most_polling, self.polling)
        try:
            return await self._answer(self.polls.popleft() if self.polls else self.afterwards)
        finally:
            self.polling -= 1

    async def submit(self, message: bytes, attempt: int = 0) -> None:
        result = decode_result(message, attempt)
        self.messages.append(message)
        self.submitted.append((asyncio.get_running_loop().time(), result))
        await self._answer(self.submits.popleft() if self.submits else None)
        self.on_submit(result)

    async def renew(self, tasks: Sequence[TaskKey]) -> Renewal:
        self.renewed.append((asyncio.get_running_loop().time(), list(tasks)))
        answer: Renewal = await self._answer(
            self.renewals.popleft() if self.renewals else Renewal()
        )
        return answer

    async def report(self, fields: bytes) -> bool:
        self.reported.append((asyncio.get_running_loop().time(), json.loads(fields)))
        answer: bool = await self._answer(self.reports.popleft() if self.reports else False)
        return answer

    async def close(self) -> None:
        self.closed = True

    async def _answer(self, answer: Any) -> Any:
        if isinstance(answer, Held):
            await asyncio.sleep(answer.seconds)
            answer = answer.answer
        else:
            await asyncio.sleep(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

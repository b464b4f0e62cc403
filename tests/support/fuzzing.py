"""A worker that runs whatever a hub might send, and a look at the results that it sends."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
from typing import Any, NoReturn

from google.protobuf.message import DecodeError

from arbprov import ProviderApp
from arbprov._proto import hub_pb2
from arbprov.errors import HubConnectionError
from arbprov.task import Task
from arbprov.worker import Worker, WorkerSettings
from support.loops import JumpingLoop, run_jumping

# What an account holds, and nothing else does.
SECRETS = (
    "hush-4f9d20c7",
    "hush \"quoted\" 'twice' \\ 71",
    "hüsh-ünïcode-✓-8c",
    "hush\nlines\t55aa",
    "717171717171",
)

_SETTINGS = WorkerSettings(
    concurrency=4, drain_timeout=25.0, start_timeout=1e9, longest_timeout=1.0
)
_ENVELOPE = {"status", "message", "data"}
_DATA = {"provider", "action", "timezone", "now", "now_utc", "response"}


class Wire:
    """A hub that has some answers for polls, and takes every result."""

    def __init__(self, answers: list[bytes]) -> None:
        self.answers = collections.deque(answers)
        self.messages: list[bytes] = []
        self.on_empty = lambda: None

    async def fetch(self) -> Task | None:
        await asyncio.sleep(0)
        if not self.answers:
            self.on_empty()
            return None
        try:
            task = hub_pb2.Task.FromString(self.answers.popleft())
        except DecodeError as error:
            raise HubConnectionError(str(error)) from None
        return Task(task.id, task.action, task.payload, task.account) if task.id else None

    async def submit(self, message: bytes) -> None:
        await asyncio.sleep(0)
        self.messages.append(message)

    async def close(self) -> None:
        pass


def run_worker(app: ProviderApp, answers: list[bytes]) -> list[bytes]:
    """Have a worker take the answers of polls; return the results that it has sent."""
    wire, loop = Wire(answers), JumpingLoop()

    async def work() -> None:
        worker = Worker(app.dispatcher(loop), wire, app.life_hooks(), _SETTINGS)
        wire.on_empty = worker.stop
        await worker.run()

    run_jumping(work(), loop)
    return wire.messages


def check(answers: list[bytes], messages: list[bytes]) -> None:
    """Check that each task has exactly one result, and that this is one."""
    expected = [task for answer in answers if (task := _read(answer)) is not None and task.id]
    first: dict[str, bytes] = {}
    for message in messages:
        name = hub_pb2.TaskResult.FromString(message).id
        assert first.setdefault(name, message) == message, "one task has two results"
    assert first.keys() == {task.id for task in expected}
    tasks = {task.id: task for task in reversed(expected)}
    for name, message in first.items():
        check_result(tasks[name], hub_pb2.TaskResult.FromString(message))


def check_result(task: Any, result: Any) -> None:
    """Check a result's envelope, and that it tells nothing of the account."""
    envelope = json.loads(result.result.encode(), parse_constant=_no_constant)
    assert envelope.keys() == _ENVELOPE
    assert envelope["data"].keys() == _DATA
    assert envelope["status"] == result.status
    assert result.status in ("success", "error", "warning", "limit")
    assert isinstance(envelope["message"], str)
    assert envelope["message"]
    assert (result.id, result.action) == (task.id, task.action)
    assert envelope["data"]["action"] == task.action
    for secret in SECRETS:
        for form in {secret, json.dumps(secret)[1:-1], repr(secret)[1:-1]}:
            assert form not in result.result, f"{form!r} is told in {result.result!r}"


def _read(answer: bytes) -> Any:
    with contextlib.suppress(DecodeError):
        return hub_pb2.Task.FromString(answer)


def _no_constant(name: str) -> NoReturn:
    raise AssertionError(f"{name} is no JSON")

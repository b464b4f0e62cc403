"""A worker that runs whatever a hub might send, and a look at the results that it sends."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import logging
from collections.abc import Callable
from typing import Any, NoReturn

from google.protobuf.message import DecodeError

from arbprov import ProviderApp
from arbprov._proto import hub_pb2
from arbprov.wire.client import GrpcHub
from arbprov.wire.tokens import Token
from arbprov.worker.worker import Worker, WorkerSettings
from support.loops import JumpingLoop, run_jumping

# What an account holds, and nothing else does.
SECRETS = (
    "hush-4f9d20c7",
    "hush \"quoted\" 'twice' \\ 71",
    "hüsh-ünïcode-✓-8c",
    "hush\nlines\t55aa",
    "717171717171",
)

_FORMS = {form for one in SECRETS for form in (one, json.dumps(one)[1:-1], repr(one)[1:-1])}
_SETTINGS = WorkerSettings(
    concurrency=4, drain_timeout=25.0, start_timeout=1e9, max_task_timeout=1.0
)
_ENVELOPE = {"status", "message", "data"}
_DATA = {"provider", "action", "timezone", "now", "now_utc", "response"}


class Wire(GrpcHub):
    """A connection to a hub that answers polls as told, and takes every result; without gRPC."""

    def __init__(self, answers: list[bytes], on_empty: Callable[[], object]) -> None:
        token = Token("sample-token")
        token.read()
        self.answers = collections.deque(answers)
        self.messages: list[bytes] = []
        self._on_empty = on_empty
        super().__init__(
            "localhost:1", provider="fuzz", token=token, poll_timeout=60.0, submit_timeout=30.0
        )

    def _new_channel(self) -> Any:
        return self

    # As a channel.

    async def call(self, method: str, request: bytes, timeout: float) -> bytes:
        await asyncio.sleep(0)
        if method == "/Hub/SubmitTaskResult":
            self.messages.append(request)
        elif self.answers:
            return self.answers.popleft()
        else:
            self._on_empty()
        return b""

    async def close(self) -> None:
        """There is nothing to close."""


def run_worker(app: ProviderApp, answers: list[bytes]) -> list[bytes]:
    """Have a worker take the answers of polls; return the results that it has sent."""
    loop = JumpingLoop()

    async def work() -> list[bytes]:
        wire = Wire(answers, lambda: worker.stop())
        worker = Worker(app._dispatcher(loop), wire, app._life_hooks(), _SETTINGS)
        await worker.run()
        return wire.messages

    messages: list[bytes] = run_jumping(work(), loop)
    return messages


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
    assert not _tells(result.result), result.result


class Listener(logging.Handler):
    """Reads the log as it comes, and keeps what should not be in there."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage()
        if _tells(line):
            self.told.append(line)


def _tells(text: str) -> bool:
    """Return whether a secret is in a text, as it is or as JSON or Python would have it."""
    return any(form in text for form in _FORMS)


def _read(answer: bytes) -> Any:
    with contextlib.suppress(DecodeError):
        return hub_pb2.Task.FromString(answer)


def _no_constant(name: str) -> NoReturn:
    raise AssertionError(f"{name} is no JSON")

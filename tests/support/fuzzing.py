"""Runs a worker with any answers of a hub, and checks the results that it sends."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import functools
import json
import logging
from collections.abc import Callable, Generator
from typing import Any, NoReturn

from google.protobuf.message import DecodeError

from arbprov import ProviderApp
from arbprov._proto import hub_pb2
from arbprov.wire.client import GrpcHub
from arbprov.wire.tokens import Token
from arbprov.worker.worker import Worker, WorkerSettings
from support.loops import JumpingLoop, run_jumping

# Values of accounts, which appear nowhere else.
SECRETS = (
    "hush-4f9d20c7",
    "hush \"quoted\" 'twice' \\ 71",
    "hüsh-ünïcode-✓-8c",
    "hush\nlines\t55aa",
    "717171717171",
)

_ENCODINGS = {
    encoding
    for secret in SECRETS
    for encoding in (secret, json.dumps(secret)[1:-1], repr(secret)[1:-1])
}
_SETTINGS = WorkerSettings(
    concurrency=4, drain_timeout=25.0, start_timeout=1e9, max_task_timeout=1.0
)
_ENVELOPE = {"status", "message", "data"}
_DATA = {"provider", "action", "timezone", "now", "now_utc", "response"}


class Wire(GrpcHub):
    """A client of a hub with given answers, which accepts every result; without gRPC."""

    def __init__(self, answers: list[bytes], on_empty: Callable[[], object]) -> None:
        token = Token("sample-token")
        token.read()
        self.answers = collections.deque(answers)
        self.messages: list[bytes] = []
        self._on_empty = on_empty
        names = ("/Hub/GetTask", "/Hub/SubmitTaskResult")
        self.methods = {name: functools.partial(Answer, self, name) for name in names}
        super().__init__(
            "localhost:1", provider="fuzz", token=token, poll_timeout=60.0, submit_timeout=30.0
        )

    def _new_channel(self) -> Any:
        return self

    async def answer(self, method: str, request: bytes) -> bytes:
        """Return the answer to a call."""
        await asyncio.sleep(0)
        if method == "/Hub/SubmitTaskResult":
            self.messages.append(request)
        elif self.answers:
            return self.answers.popleft()
        else:
            self._on_empty()
        return b""

    async def close(self) -> None:
        """Do nothing."""


class Answer:
    """A call of a method, as gRPC has it."""

    def __init__(
        self, wire: Wire, method: str, request: bytes, *, timeout: float, metadata: Any
    ) -> None:
        self._answer = wire.answer(method, request)

    def __await__(self) -> Generator[Any, None, bytes]:
        return self._answer.__await__()

    async def initial_metadata(self) -> tuple[()]:
        return ()


def run_worker(app: ProviderApp, answers: list[bytes]) -> list[bytes]:
    """Run a worker until it has polled all answers; return the results that it sent."""
    loop = JumpingLoop()

    async def work() -> list[bytes]:
        wire = Wire(answers, lambda: worker.stop())
        worker = Worker(app._dispatcher(loop), wire, app._life_hooks(), _SETTINGS)
        await worker.run()
        return wire.messages

    messages: list[bytes] = run_jumping(work(), loop)
    return messages


def check(answers: list[bytes], messages: list[bytes]) -> None:
    """Check that each task has exactly one result, and that the result is valid."""
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
    """Check the envelope of a result, and that it holds no secret."""
    envelope = json.loads(result.result.encode(), parse_constant=_refuse_constant)
    assert envelope.keys() == _ENVELOPE
    assert envelope["data"].keys() == _DATA
    assert envelope["status"] == result.status
    assert result.status in ("success", "error", "warning", "limit")
    assert isinstance(envelope["message"], str)
    assert envelope["message"]
    assert (result.id, result.action) == (task.id, task.action)
    assert envelope["data"]["action"] == task.action
    assert not _holds_secret(result.result), result.result


class Listener(logging.Handler):
    """A log handler that keeps the lines that hold a secret."""

    def __init__(self) -> None:
        super().__init__()
        self.leaks: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage()
        if _holds_secret(line):
            self.leaks.append(line)


def _holds_secret(text: str) -> bool:
    """Return whether a secret is in a text, as it is, as JSON or as a repr."""
    return any(encoding in text for encoding in _ENCODINGS)


def _read(answer: bytes) -> Any:
    with contextlib.suppress(DecodeError):
        return hub_pb2.Task.FromString(answer)


def _refuse_constant(name: str) -> NoReturn:
    raise AssertionError(f"{name} is not JSON")

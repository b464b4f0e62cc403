"""A hub that survives its own kill: all that it hands out and gets is in a file before it answers.

It runs in a process of its own: `python durable_hub.py '{"log": ..., "address": ..., ...}'`, and
prints its port when it listens. Started again with the same log, it goes on where it was killed.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import grpc
import grpc.aio

from arbprov._proto import hub_pb2

# How long a poll is held when all tasks are handed out, in seconds.
_HOLD = 0.2
# It comes again only as long as a provider without a spool has to know its result.
_REPEATS_OF = 2_000


@attrs.frozen(kw_only=True)
class Orders:
    """The settings of a hub.

    Args:
        log: Path of its log, which outlives it.
        address: Address to listen on; port 0 means any free port.
        count: How many tasks it has to hand out, each once.
        repeats: Share of polls that get a task again, which was handed out before.
        age: Milliseconds after which it ends a connection in good order; 0 for never.
        seed: Seed of its random choices.
        isolated: Whether all tasks are for the handler with a process of its own.
    """

    log: str
    address: str
    count: int
    repeats: float = 0.0
    age: int = 0
    seed: int = 0
    isolated: bool = False


class Log:
    """Lines of JSON that are on the disk when `add` returns; many at once share one sync."""

    def __init__(self, path: str) -> None:
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        whole = Path(path).read_bytes().rfind(b"\n") + 1
        os.ftruncate(self._file, whole)

    async def add(self, **record: Any) -> None:
        line = json.dumps(record).encode() + b"\n"
        written = asyncio.get_running_loop().create_future()
        self._waiting.append((line, written))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write())
        # A poll that is given up must not take the others' lines with it.
        await asyncio.shield(written)

    async def _write(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            await asyncio.to_thread(self._sync, b"".join(line for line, _ in batch))
            for _, written in batch:
                written.set_result(None)

    def _sync(self, lines: bytes) -> None:
        while lines:
            lines = lines[os.write(self._file, lines) :]
        os.fsync(self._file)


class DurableHub:
    """Hands out the tasks 0, 1, 2..., and takes results."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._random = random.Random(orders.seed)
        self._log = Log(orders.log)
        records = read_log(Path(orders.log))
        self._next = sum("handed" in record for record in records)

    async def get_task(self, request: bytes, context: Any) -> bytes:
        number = self._chosen()
        if number is None:
            await asyncio.sleep(_HOLD)
            return b""
        repeated = number < self._next
        self._next += not repeated
        await self._log.add(**{"again" if repeated else "handed": number})
        return task_of(number, self._orders.isolated)

    async def submit(self, request: bytes, context: Any) -> bytes:
        await self._log.add(result=base64.b64encode(request).decode())
        return b""

    def _chosen(self) -> int | None:
        if self._next and self._random.random() < self._orders.repeats:
            return self._random.randrange(max(0, self._next - _REPEATS_OF), self._next)
        return self._next if self._next < self._orders.count else None


def task_of(number: int, isolated: bool = False) -> bytes:
    """Return a task as it goes over the wire: of every kind that the provider knows, in turn."""
    action = "large" if number % 40 == 1 else ("plain", "asynchronous", "failing")[number % 3]
    if isolated:
        action = "isolated"
    return hub_pb2.Task(
        id=f"task-{number}",
        action=action,
        payload=json.dumps({"number": number}).encode(),
        account=b'{"key": "sample-secret"}',
    ).SerializeToString()


def read_log(path: Path, offset: int = 0) -> list[dict[str, Any]]:
    """Return the whole records of a log, from a byte on."""
    return list(_records(path.read_bytes()[offset:])) if path.exists() else []


def _records(content: bytes) -> Iterator[dict[str, Any]]:
    for line in content[: content.rfind(b"\n") + 1].splitlines():
        yield json.loads(line)


async def main(orders: Orders) -> None:
    hub = DurableHub(orders)
    options = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1)]
    if orders.age:
        options.append(("grpc.max_connection_age_ms", orders.age))
    server = grpc.aio.server(options=options)
    methods = {"GetTask": hub.get_task, "SubmitTaskResult": hub.submit}
    handlers = {name: grpc.unary_unary_rpc_method_handler(one) for name, one in methods.items()}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("Hub", handlers)])
    port = server.add_insecure_port(orders.address)
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(Orders(**json.loads(sys.argv[1]))))

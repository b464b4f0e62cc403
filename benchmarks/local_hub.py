"""The bundled hub with the orders of hub.cc, for machines that can't build hub.cc.

It saturates before a provider does, so only a provider's CPU seconds are measured with it.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from typing import Any

import attrs

from arbprov.localhub import LocalHub, Submission, Ticket
from arbprov.localhub.tasks import Delivery

TOKEN = "sample-token"  # noqa: S105 - of a hub on loopback
CAPACITY = 300_000


class WatchedHub(LocalHub):
    """Records when it hands out each task, and when the result arrives."""

    def __init__(self, address: str, hold: float) -> None:
        super().__init__(address, token=TOKEN, hold=hold, capacity=CAPACITY)
        self.handed: dict[str, float] = {}
        self.came: dict[str, float] = {}

    def start(self) -> WatchedHub:
        """Start the hub, and watch what it hands out."""
        super().start()
        take = self._queue.take

        async def take_and_note(provider: str, *, renews: bool) -> Delivery | None:
            delivery = await take(provider, renews=renews)
            if delivery is not None:
                self.handed[delivery.id] = time.monotonic()
            return delivery

        self._queue.take = take_and_note
        return self

    def _on_result(self, submission: Submission) -> None:
        self.came.setdefault(submission.id, time.monotonic())
        super()._on_result(submission)

    def release(self) -> None:
        """Answer all polls at once from now on."""
        self._run(self._queue.answer_held_calls)


@attrs.frozen
class Put:
    """A task, and the time when it was put."""

    ticket: Ticket
    there: float


@attrs.define
class Batches:
    """Carries out the orders, and reports on the tasks of each."""

    hub: WatchedHub
    action: str
    payload: bytes
    account: bytes
    random: random.Random
    ids: set[str] = attrs.field(factory=set)

    def run(self, tasks: str) -> dict[str, Any]:
        """Have so many tasks done, as fast as they are polled."""
        return self._report([self._put() for _ in range(int(tasks))])

    def paced(self, tasks: str, shortest: str, longest: str) -> dict[str, Any]:
        """Have so many tasks done, each some seconds after the last result."""
        tickets = []
        for _ in range(int(tasks)):
            time.sleep(self.random.uniform(float(shortest), float(longest)))
            tickets.append(self._put())
            tickets[-1].ticket.result(None)
        return self._report(tickets)

    def release(self) -> dict[str, Any]:
        """Let the providers stop."""
        self.hub.release()
        return self._report([])

    def _put(self) -> Put:
        there = time.monotonic()
        ticket = self.hub.put(self.action, self.payload, account=self.account)
        self.ids.add(ticket.id)
        return Put(ticket, there)

    def _report(self, tasks: list[Put]) -> dict[str, Any]:
        for task in tasks:
            task.ticket.result(None)
        handed = [self.hub.handed[task.ticket.id] for task in tasks]
        came = [self.hub.came[task.ticket.id] for task in tasks]
        return {
            "tasks": len(tasks),
            "seconds": max(came) - min(handed) if tasks else 0.0,
            "wrong": self._wrong(),
            "pickups": [at - task.there for task, at in zip(tasks, handed, strict=True)],
            "round_trips": [at - task.there for task, at in zip(tasks, came, strict=True)],
        }

    def _wrong(self) -> dict[str, int]:
        results = self.hub.submissions
        times = Counter(one.id for one in results)
        return {
            "repeated": sum(count - 1 for one, count in times.items() if one in self.ids),
            "unknown": sum(count for one, count in times.items() if one not in self.ids),
            "failed": sum(one.status != "success" for one in results),
            "empty": sum(not one.result for one in results),
        }


def main(address: str, hold: str, action: str, payload: str, account: str, seed: str) -> None:
    """Listen, and carry out the orders that come on stdin."""
    with WatchedHub(address, float(hold)) as hub:
        batches = Batches(
            hub,
            action,
            payload.encode(),
            account.encode(),
            random.Random(int(seed)),  # noqa: S311
        )
        print("ready", flush=True)
        for line in sys.stdin:
            order, *arguments = line.split()
            print(json.dumps(getattr(batches, order)(*arguments)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

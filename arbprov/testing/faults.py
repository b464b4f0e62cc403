"""Faults for a `FaultyHub`'s script.

Each fault is for polls (``GetTask``) or for results (``SubmitTaskResult``), and the next call of
that kind plays it. Arguments that several faults take:

- `times`: how many calls play the fault.
- `on`: ``"poll"`` or ``"submit"``, where both are possible.

For a fault of your own, give `Fault` a function of an `Exchange`.

>>> from arbprov.testing import FaultyHub, faults
>>> hub = FaultyHub(faults.unavailable(2), faults.refuse())
>>> [fault.name for fault in hub.script_left]
['unavailable', 'unavailable', 'invalid_argument']
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Literal, NoReturn, Protocol

import attrs

from arbprov._proto import hub_pb2

__all__ = [
    "Exchange",
    "Fault",
    "Kind",
    "die_during_poll",
    "die_during_submit",
    "duplicate",
    "fails",
    "garbled",
    "goaway",
    "hang",
    "rate_limited",
    "refuse",
    "resource_exhausted",
    "slow",
    "unauthenticated",
    "unavailable",
]

Kind = Literal["poll", "submit"]


class Exchange(Protocol):
    """One call while it plays a fault."""

    @property
    def request(self) -> bytes:
        """The received message, encoded."""
        ...

    def answer(self) -> bytes:
        """Return a healthy hub's answer: hand out a task, or keep a result."""
        ...

    def hand_out(self) -> bytes | None:
        """Return a task; if there is none, return None and leave the fault to the next poll."""
        ...

    def fail(self, code: str, details: str) -> NoReturn:
        """End the call with a gRPC status, such as ``"UNAVAILABLE"``."""
        ...

    def pause(self, seconds: float | None) -> None:
        """Wait some seconds, or without end for None, while caller and hub are there."""
        ...

    def die(self, *, keep: bool = False) -> NoReturn:
        """Reset all connections instead of answering; with `keep`, the hub keeps the result."""
        ...

    def go_away(self) -> None:
        """Close each connection after its calls (GOAWAY); a new server gets new connections."""
        ...

    def repeat(self, task: bytes) -> None:
        """Hand out a task again, to the next poll."""
        ...


@attrs.frozen
class Fault:
    """A step of a `FaultyHub`'s script.

    Args:
        name: The fault's name in `FaultyHub.polls` and `FaultyHub.submits`.
        on: The kind of calls that play the fault.
        play: Returns the answer to a call, or makes the call fail.
        times: How many calls play the fault.

    >>> from arbprov.testing import FaultyHub
    >>> def answer_late(exchange: Exchange) -> bytes:
    ...     exchange.pause(0.5)
    ...     return exchange.answer()
    >>> hub = FaultyHub(Fault("late", "poll", answer_late, times=3))
    """

    name: str
    on: Kind
    play: Callable[[Exchange], bytes] = attrs.field(repr=False)
    times: int = 1


def fails(code: str, times: int = 1, *, details: str = "a fault of the script", on: Kind) -> Fault:
    """Fail calls with a gRPC status, such as ``"INTERNAL"``.

    >>> fails("INTERNAL", on="submit")
    Fault(name='internal', on='submit', times=1)
    """
    return Fault(code.lower(), on, lambda exchange: exchange.fail(code, details), times)


def unavailable(times: int = 1, *, on: Kind = "poll") -> Fault:
    """Fail calls with ``UNAVAILABLE``, as a hub that is starting does.

    >>> unavailable(2)
    Fault(name='unavailable', on='poll', times=2)
    """
    return fails("UNAVAILABLE", times, on=on)


def unauthenticated(times: int = 1, *, on: Kind = "poll") -> Fault:
    """Refuse the token (``UNAUTHENTICATED``).

    >>> unauthenticated(on="submit")
    Fault(name='unauthenticated', on='submit', times=1)
    """
    return fails("UNAUTHENTICATED", times, on=on)


def resource_exhausted(times: int = 1, *, on: Kind = "poll") -> Fault:
    """Refuse calls because there are too many (``RESOURCE_EXHAUSTED``).

    >>> resource_exhausted(5)
    Fault(name='resource_exhausted', on='poll', times=5)
    """
    return fails("RESOURCE_EXHAUSTED", times, on=on)


def refuse(times: int = 1, *, code: str = "INVALID_ARGUMENT") -> Fault:
    """Refuse results for good with a gRPC status.

    >>> refuse(code="PERMISSION_DENIED")
    Fault(name='permission_denied', on='submit', times=1)
    """
    return fails(code, times, on="submit")


def hang(times: int = 1, *, on: Kind = "poll") -> Fault:
    """Never answer; the call waits until the provider gives it up.

    >>> hang(on="submit")
    Fault(name='hang', on='submit', times=1)
    """

    def play(exchange: Exchange) -> bytes:
        exchange.pause(None)
        return exchange.fail("CANCELLED", "the caller has given up")

    return Fault("hang", on, play, times)


def slow(seconds: float, times: int = 1, *, on: Kind = "poll") -> Fault:
    """Answer after some seconds.

    >>> slow(0.5, times=3)
    Fault(name='slow', on='poll', times=3)
    """

    def play(exchange: Exchange) -> bytes:
        exchange.pause(seconds)
        return exchange.answer()

    return Fault("slow", on, play, times)


def garbled(times: int = 1, *, on: Kind = "poll") -> Fault:
    """Answer with bytes that are not a message.

    >>> garbled()
    Fault(name='garbled', on='poll', times=1)
    """
    return Fault("garbled", on, lambda exchange: b"\xff", times)


def rate_limited(seconds: float, times: int = 1) -> Fault:
    """Ask the provider to pause its polls for some seconds.

    >>> rate_limited(seconds=2.5)
    Fault(name='rate_limited', on='poll', times=1)
    """
    hint = json.dumps({"wait_time": seconds}).encode()
    task = hub_pb2.Task(action="rate_limited", payload=hint).SerializeToString()
    return Fault("rate_limited", "poll", lambda exchange: task, times)


def duplicate(times: int = 1) -> Fault:
    """Hand out a task to a poll, and the same task to the next poll.

    >>> duplicate()
    Fault(name='duplicate', on='poll', times=1)
    """

    def play(exchange: Exchange) -> bytes:
        task = exchange.hand_out()
        if task is None:
            return b""
        exchange.repeat(task)
        return task

    return Fault("duplicate", "poll", play, times)


def goaway(*, on: Kind = "poll") -> Fault:
    """Close the connection gracefully, as a hub does at a restart or at a maximum age.

    >>> goaway()
    Fault(name='goaway', on='poll', times=1)
    """

    def play(exchange: Exchange) -> bytes:
        exchange.go_away()
        return exchange.answer()

    return Fault("goaway", on, play)


def die_during_poll() -> Fault:
    """Die after handing out a task that the provider never gets; the task is lost.

    >>> die_during_poll()
    Fault(name='die_during_poll', on='poll', times=1)
    """

    def play(exchange: Exchange) -> bytes:
        return b"" if exchange.hand_out() is None else exchange.die()

    return Fault("die_during_poll", "poll", play)


def die_during_submit(*, kept: bool = True) -> Fault:
    """Die after receiving a result, before the provider gets the answer.

    Args:
        kept: Whether the hub keeps the result.

    >>> die_during_submit(kept=False)
    Fault(name='die_during_submit', on='submit', times=1)
    """

    def play(exchange: Exchange) -> bytes:
        return exchange.die(keep=kept)

    return Fault("die_during_submit", "submit", play)

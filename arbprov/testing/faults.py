"""The steps of a `FaultyHub`'s script: what goes wrong, with which calls, how often.

Each is about polls (``GetTask``) or results (``SubmitTaskResult``), and is played by the next
call of that kind; where it could be either, `on` says which. To write a step of your own, give
`Fault` a function of the `Exchange`.
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
    """One call while its step is played."""

    @property
    def request(self) -> bytes:
        """The message as it came."""
        ...

    def answer(self) -> bytes:
        """Do what a hub that is well does: hand out a task, or keep a result."""
        ...

    def hand_out(self) -> bytes | None:
        """Return a task; without one, return None, and have the step wait for the next poll."""
        ...

    def fail(self, code: str, details: str) -> NoReturn:
        """End the call with a gRPC status, such as ``"UNAVAILABLE"``."""
        ...

    def pause(self, seconds: float | None) -> None:
        """Wait, without end for None; no longer than the caller does and the hub lives."""
        ...

    def die(self, *, keep: bool = False) -> NoReturn:
        """Reset all connections instead of an answer; keep the result nevertheless."""
        ...

    def go_away(self) -> None:
        """Tell the connections to end once their calls have; new ones reach a fresh server."""
        ...

    def repeat(self, task: bytes) -> None:
        """Hand out a task once more, to the next poll."""
        ...


@attrs.frozen
class Fault:
    """A step of a script.

    Args:
        name: What the records call it.
        on: The kind of call that it is about.
        play: Returns the answer to a call, or ends it otherwise.
        times: How many calls play it.
    """

    name: str
    on: Kind
    play: Callable[[Exchange], bytes] = attrs.field(repr=False)
    times: int = 1


def fails(code: str, times: int = 1, *, details: str = "a step of the script", on: Kind) -> Fault:
    """Fail with a gRPC status, such as ``"INTERNAL"``."""
    return Fault(code.lower(), on, lambda exchange: exchange.fail(code, details), times)


def unavailable(times: int = 1, *, on: Kind = "poll") -> Fault:
    """Say that the hub is not available."""
    return fails("UNAVAILABLE", times, on=on)


def unauthenticated(times: int = 1, *, on: Kind = "poll") -> Fault:
    """Refuse the token."""
    return fails("UNAUTHENTICATED", times, on=on)


def resource_exhausted(times: int = 1, *, on: Kind = "poll") -> Fault:
    """Say that there are too many calls."""
    return fails("RESOURCE_EXHAUSTED", times, on=on)


def refuse(times: int = 1, *, code: str = "INVALID_ARGUMENT") -> Fault:
    """Refuse a result for good."""
    return fails(code, times, on="submit")


def hang(times: int = 1, *, on: Kind = "poll") -> Fault:
    """Never answer."""

    def play(exchange: Exchange) -> bytes:
        exchange.pause(None)
        return exchange.fail("CANCELLED", "nobody waits any more")

    return Fault("hang", on, play, times)


def slow(seconds: float, times: int = 1, *, on: Kind = "poll") -> Fault:
    """Answer late."""

    def play(exchange: Exchange) -> bytes:
        exchange.pause(seconds)
        return exchange.answer()

    return Fault("slow", on, play, times)


def garbled(times: int = 1, *, on: Kind = "poll") -> Fault:
    """Answer with bytes that are no message."""
    return Fault("garbled", on, lambda exchange: b"\xff", times)


def rate_limited(seconds: float, times: int = 1) -> Fault:
    """Ask for no more polls for some seconds."""
    hint = json.dumps({"wait_time": seconds}).encode()
    task = hub_pb2.Task(action="rate_limited", payload=hint).SerializeToString()
    return Fault("rate_limited", "poll", lambda exchange: task, times)


def duplicate(times: int = 1) -> Fault:
    """Hand out a task, and hand it out once more."""

    def play(exchange: Exchange) -> bytes:
        task = exchange.hand_out()
        if task is None:
            return b""
        exchange.repeat(task)
        return task

    return Fault("duplicate", "poll", play, times)


def goaway(*, on: Kind = "poll") -> Fault:
    """Tell the connection to end, as a hub does that restarts in good order or limits its age."""

    def play(exchange: Exchange) -> bytes:
        exchange.go_away()
        return exchange.answer()

    return Fault("goaway", on, play)


def die_during_poll() -> Fault:
    """Hand out a task and die before it has arrived; the protocol has no way to get it back."""

    def play(exchange: Exchange) -> bytes:
        return b"" if exchange.hand_out() is None else exchange.die()

    return Fault("die_during_poll", "poll", play)


def die_during_submit(*, kept: bool = True) -> Fault:
    """Die after a result has come, before the provider can know it.

    Args:
        kept: Whether the hub still knows the result when it is back.
    """

    def play(exchange: Exchange) -> bytes:
        return exchange.die(keep=kept)

    return Fault("die_during_submit", "submit", play)

"""Handlers that return any object or raise any error, drawn by hypothesis."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import enum
import json
import uuid
from collections.abc import Callable
from typing import Any, NoReturn

import attrs
from hypothesis import strategies as st

from arbprov import ProviderApp, ProviderError, ProviderResponse, RateLimited
from arbprov._proto import hub_pb2
from support.fuzzing import SECRETS


class Kind(enum.Enum):
    ONE = "one"
    TWO = 2


class Hostile:
    """An object whose every method raises."""

    def _fail(self, *arguments: Any) -> NoReturn:
        raise RuntimeError("hostile")

    __repr__ = __str__ = __len__ = __iter__ = __bool__ = __eq__ = __hash__ = _fail
    __getattr__ = __getitem__ = __format__ = __bytes__ = __index__ = __float__ = _fail


class HostileDict(dict):
    def items(self) -> NoReturn:
        raise RuntimeError("hostile")

    keys = __iter__ = __len__ = items


class LyingText(str):
    def __str__(self) -> str:
        return "another\ud800"

    def encode(self, *arguments: Any) -> NoReturn:
        raise RuntimeError("hostile")


class LyingNumber(int):
    def __int__(self) -> NoReturn:
        raise RuntimeError("hostile")


@attrs.define
class Unset:
    value: Any = attrs.field(init=False)


@attrs.frozen
class Holder:
    value: Any


@dataclasses.dataclass
class Record:
    value: Any


class Pair(collections.namedtuple("_Pair", "left right")):
    pass


class Odd(Exception):
    """An exception whose __str__ raises."""

    def __str__(self) -> NoReturn:
        raise RuntimeError("hostile")


class Foreign(BaseException):
    """An error that `except Exception` does not catch."""


def _cycle() -> list[Any]:
    cycle: list[Any] = [{}]
    cycle[0]["again"] = cycle
    return cycle


def _deep(levels: int) -> list[Any]:
    nested: list[Any] = []
    for _ in range(levels):
        nested = [nested]
    return nested


# Functions, so that each example gets a new object.
_MADE: tuple[Callable[[], Any], ...] = (
    Hostile, HostileDict, Unset, object, _cycle, lambda: _deep(99), lambda: _deep(101),
    lambda: _deep(5000), lambda: LyingText("a"), lambda: LyingNumber(7), lambda: Hostile,
    lambda: (number for number in range(3)), lambda: range(3), lambda: {1, 2}, lambda: print,
    lambda: HostileDict(a=1), lambda: memoryview(b"abc"), lambda: float("nan"), lambda: ...,
    lambda: collections.OrderedDict(b=1), lambda: collections.deque([1]), lambda: {1: "one"},
    lambda: {None: 1}, lambda: {("a", 1): 1}, lambda: {uuid.UUID(int=1): 1, "a": 2},
    lambda: {Kind.ONE: 1, "one": 2}, lambda: collections.ChainMap({"a": 1}),
    lambda: 10**4_250, lambda: -(10**5_000),
    lambda: ProviderResponse("warning", data={"a": 1}), lambda: RateLimited(retry_after=3),
)  # fmt: skip
_LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=10),
    st.text(st.characters(categories=["Cs", "Cc", "Lo"]), max_size=4),
    st.binary(max_size=10),
    st.decimals(),
    st.dates(),
    st.datetimes(),
    st.timedeltas(),
    st.times(),
    st.uuids(),
    st.complex_numbers(),
    st.sampled_from([Kind.ONE, Kind.TWO]),
    st.sampled_from(_MADE).map(lambda make: make()),
)
GRAPHS = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.text(max_size=5), inner, max_size=3),
        inner.map(Holder),
        inner.map(Record),
        st.builds(Pair, inner, inner),
        inner.map(lambda value: ProviderResponse("success", data=value)),
    ),
    max_leaves=6,
)


def _raises(error: BaseException) -> Any:
    def act(account: Any) -> NoReturn:
        raise error

    return act


def _quotes_account(kind: type[BaseException]) -> Any:
    def act(account: Any) -> NoReturn:
        raise kind(f"with {account}", account) from KeyError(str(account))

    return act


_ERRORS = (
    ValueError, KeyError, OSError, Odd, Foreign, SystemExit, KeyboardInterrupt, StopIteration,
    GeneratorExit, StopAsyncIteration, asyncio.CancelledError, asyncio.TimeoutError, RecursionError,
    MemoryError, ProviderError,
)  # fmt: skip
# What a handler does with its account: it returns or raises.
ACTS = st.one_of(
    GRAPHS.map(lambda graph: lambda account: graph),
    GRAPHS.map(lambda graph: _raises(ValueError(graph))),
    st.sampled_from(_ERRORS).map(_quotes_account),
    st.builds(
        lambda seconds, limit: _raises(RateLimited(retry_after=seconds, limit=limit)),
        st.floats(min_value=0.001, max_value=1e9),
        st.text(max_size=5),
    ),
)


def make_actor(acts: list[Any]) -> ProviderApp:
    """Return a provider whose handlers call the function in `acts` with the payload's number."""
    app = ProviderApp("fuzz")

    @app.action
    async def asynchronous(number: int, account: dict) -> Any:
        return acts[number](account)

    @app.action
    def plain(number: int, account: dict) -> Any:
        return acts[number](account)

    return app


def act_task(number: int) -> bytes:
    """Return the task that calls the function of this number."""
    account = {f"field{index}": secret for index, secret in enumerate(SECRETS)}
    return hub_pb2.Task(
        id=f"t{number}",
        action="asynchronous",
        payload=json.dumps({"number": number}).encode(),
        account=json.dumps(account).encode(),
    ).SerializeToString()

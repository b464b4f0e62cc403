"""Answers of a hub to a poll, drawn by hypothesis: valid tasks, damaged tasks and other bytes."""

from __future__ import annotations

import asyncio
import datetime as dt
import decimal
import enum
import json
import uuid
from typing import Any, NoReturn

import attrs
from hypothesis import strategies as st

from arbprov import ProviderApp, ProviderResponse
from arbprov._proto import hub_pb2
from support.fuzzing import SECRETS


def make_app() -> ProviderApp:
    """Return a provider with actions of every kind."""
    app = ProviderApp("fuzz", timezone="Europe/Madrid")

    @app.action
    async def whole(payload: dict) -> dict:
        return payload

    @app.action
    async def typed(
        city: str,
        days: int = 3,
        share: float | None = None,
        tags: list[str] = [],  # noqa: B006
        day: dt.date | None = None,
        id: uuid.UUID | None = None,
        amount: decimal.Decimal = decimal.Decimal(0),
        raw: bytes = b"",
        by: dict[str, list[int]] = {},  # noqa: B006
        kind: Kind = Kind.ONE,
        **extra: Any,
    ) -> dict:
        return {"city": city, "days": days, "day": day, "extra": extra, "amount": amount}

    @app.action
    async def quoting(account: dict, payload: dict) -> NoReturn:
        raise ValueError(f"it was {account} with {payload}", account, *account.values())

    @app.action
    async def strict(account: Login) -> dict:
        return {"fields": len(account.key)}

    @app.action
    @app.rate_limit("1/minute", key="payload.of")
    async def scarce(payload: dict) -> dict:
        return {}

    @app.action
    async def slow(seconds: float) -> dict:
        await asyncio.sleep(seconds)
        return {"slept": seconds}

    @app.errorhandler(KeyError)
    async def handle_key_error(error: KeyError) -> ProviderResponse:
        return ProviderResponse("warning", data={"error": str(error)})

    return app


class Kind(enum.Enum):
    ONE = "one"
    TWO = 2


@attrs.frozen
class Login:
    key: str
    number: int = 0


_ACTIONS = ("whole", "typed", "quoting", "strict", "scarce", "slow", "", "no such", "__init__")
_NAMES = ("city", "days", "share", "tags", "day", "id", "amount", "raw", "by", "kind", "of")
_TEXTS = st.text(max_size=20)
_NUMBERS = st.one_of(
    st.integers(),
    st.sampled_from([2**63, -(2**64), 2**1024, 0, -1]),
    st.floats(),
)
_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    _NUMBERS,
    _TEXTS,
    st.sampled_from(["\ud800", "\x00", "2026-03-20", "NaN", "\u2028", "one", "1e999", "AAEC"]),
)
_KEYS = st.one_of(st.sampled_from([*_NAMES, "seconds", "number"]), _TEXTS)
_TREES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(_KEYS, inner, max_size=4)),
    max_leaves=8,
)
_OBJECTS = st.dictionaries(_KEYS, _TREES, max_size=5)
_ODD_JSON = (
    b"",
    b"{}",
    b"[]",
    b"null",
    b"{",
    b'{"a":1}{"a":2}',
    b'{"a":1,"a":2}',
    b"\xef\xbb\xbf{}",
    b"\xff\xfe{\x00}\x00",
    b'{"days":1e999}',
    b'{"days":' + b"9" * 5000 + b"}",
    b'{"days":NaN}',
    b'{"days":-Infinity}',
    b'{"city":"\\ud800"}',
    b'{"city":"\\u0000"}',
    b"[" * 100_000,
    b'{"a":' * 150 + b"1" + b"}" * 150,
    b'{"city":"Paris","days":2}',
)
_JSON = st.one_of(
    _OBJECTS.map(lambda data: json.dumps(data).encode()),
    _TREES.map(lambda data: json.dumps(data, ensure_ascii=False).encode(errors="surrogatepass")),
    st.sampled_from(_ODD_JSON),
    st.binary(max_size=40),
)
# Every value of the account is a secret.
_SECRETS = st.sampled_from(SECRETS)
_ACCOUNTS = st.recursive(
    _SECRETS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3)
)
_ACCOUNT = st.one_of(
    st.dictionaries(st.sampled_from(["key", "number", "of"]), _ACCOUNTS, max_size=3).map(
        lambda data: json.dumps(data).encode()
    ),
    st.sampled_from([b"", b"{}", b"[]", b"nothing", b'{"key":"hush-4f9d20c7"', b"\xff"]),
    st.binary(max_size=20),
)
_IDS = st.one_of(
    st.sampled_from(["t1", "t2", "", "\x00", "x" * 5000, "../../etc", "%s", "\u202e", "t1\n"]),
    st.integers(min_value=3).map(lambda number: f"t{number}"),
    st.text(max_size=10),
)


def _tasks(actions: Any, payloads: Any, accounts: Any) -> Any:
    return st.builds(
        lambda **fields: hub_pb2.Task(**fields).SerializeToString(),
        id=_IDS,
        action=actions,
        payload=payloads,
        account=accounts,
    )


def _objects(**fields: Any) -> Any:
    return st.fixed_dictionaries({"city": _TEXTS}, optional=fields).map(
        lambda data: json.dumps(data).encode()
    )


# Tasks that mostly fit, with an invalid value here and there.
_VALID = st.one_of(
    _tasks(
        st.just("typed"),
        _objects(
            days=st.integers(),
            share=st.none() | st.floats(),
            tags=st.lists(_TEXTS, max_size=3),
            day=st.sampled_from(["2026-03-20", "2026-13-20", ""]),
            id=st.uuids().map(str),
            amount=st.decimals().map(str) | st.integers(),
            raw=st.sampled_from(["AAEC", "", "A", "?"]),
            by=st.dictionaries(_TEXTS, st.lists(st.integers(), max_size=2), max_size=2),
            kind=st.sampled_from(["one", 2, "two"]),
            more=_TREES,
        ),
        _ACCOUNT,
    ),
    _tasks(st.just("scarce"), _objects(of=st.sampled_from(["a", "b", 1, None])), _ACCOUNT),
    _tasks(st.just("slow"), _objects(seconds=st.floats(0, 3) | st.integers(0, 3)), _ACCOUNT),
    _tasks(
        st.sampled_from(["quoting", "strict"]),
        st.just(b"{}"),
        _objects(key=_SECRETS, number=st.integers(), of=_ACCOUNTS),
    ),
)
_WHOLE = _tasks(st.sampled_from(_ACTIONS) | _TEXTS, _JSON, _ACCOUNT)


def _damaged(whole: bytes, at: int, other: bytes, cut: int) -> bytes:
    at %= len(whole) + 1
    return whole[:at] + other + whole[at + cut :]


# No number is so large that the virtual clock, a double, loses its precision.
_HINTS = st.one_of(
    st.floats(max_value=1e6),
    st.sampled_from([2**1100, True, "3"]),
    _TREES.filter(lambda hint: not isinstance(hint, (int, float))),
)
_RATE_LIMITED = st.builds(
    lambda payload: hub_pb2.Task(action="rate_limited", payload=payload).SerializeToString(),
    _HINTS.map(lambda hint: json.dumps({"wait_time": hint}).encode()) | st.sampled_from(_ODD_JSON),
)


# The answer of a poll: mostly a task, sometimes a damaged task, sometimes any bytes.
ANSWERS = st.one_of(
    _VALID,
    _WHOLE,
    st.builds(
        _damaged, _VALID | _WHOLE, st.integers(0, 200), st.binary(max_size=4), st.integers(0, 4)
    ),
    _RATE_LIMITED,
    st.binary(max_size=60),
)

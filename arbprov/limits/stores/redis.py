"""The buckets of any number of processes, on one Redis server.

Each decision is one run of `decide.lua`, on the server's own time: all that it reads and writes
happens at once, and no process's clock matters.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import uuid
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

from arbprov.errors import ConfigurationError
from arbprov.limits.meter import Debt, Meter
from arbprov.limits.stores.base import Bucket, Charge, Receipt

if TYPE_CHECKING:
    from redis import Redis

__all__ = ["DataLostError", "RedisStore", "StoreError", "connect"]

# In seconds. A server on the same network answers in a thousandth of it.
_TIMEOUT = 0.25
# Between two signs of life; a process that was not heard of for the longer time is gone.
_BEAT_EVERY = 10.0
_PEER_LIFETIME = 30.0
# Of a charge in the reply: its wait, what is left, and whether a gate refuses.
_PER_CHARGE = 3


class StoreError(Exception):
    """The server is away, or refuses to do anything."""


class DataLostError(Exception):
    """The server has not the data any more that it had: it was restarted, or flushed."""

    def __init__(self, generation: str) -> None:
        super().__init__("its data are lost")
        self.generation = generation


def connect(url: str) -> Redis:
    """Return a client that never takes long; it connects when it is used.

    Raises:
        ConfigurationError: The package redis is not installed, or the URL is none.
    """
    try:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ImportError:
        raise ConfigurationError(
            'a rate limit in Redis needs the package redis: pip install "arbprov[redis]"'
        ) from None
    # A connection that the server has closed in the meantime is worth a second one, at once.
    retry = Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,))
    try:
        return redis.Redis.from_url(
            url, socket_timeout=_TIMEOUT, socket_connect_timeout=_TIMEOUT, retry=retry
        )
    except ValueError as error:
        raise ConfigurationError(f"store: {error}") from None


class RedisStore:
    """Keeps the buckets on a server; see `arbprov.limits.stores.base.Store`.

    Args:
        client: Talks to the server; its `socket_timeout` is how long a decision may take.
        namespace: What the processes that share the limits have in common. It is the hash tag of
            all keys, so that a cluster keeps them on one node.
    """

    blocks = True

    def __init__(self, client: Redis, namespace: str) -> None:
        self._client = client
        self._script = _script()
        self._digest = hashlib.sha1(self._script.encode(), usedforsecurity=False).hexdigest()
        # Braces would end the hash tag early.
        tag = namespace.replace("{", "").replace("}", "") or "arbprov"
        self._prefix = f"arbprov:{{{tag}}}:"
        self._caller = uuid.uuid4().hex
        self._quotas: dict[Meter, tuple[float, float, float]] = {}
        # How many processes there are, as of the last answer; 0 before the first sign of life.
        self.peers = 0
        # Of the data that this process has added to; empty before the first answer.
        self.generation = ""

    def acquire(self, charges: Sequence[Charge]) -> Receipt | None:
        """Charge all or none; see `Store.acquire`."""
        now, charged, probing, *told = self._run("acquire", charges)
        _tell(charges, told)
        if not int(charged):
            return None
        made = [charge for charge in charges if not charge.wait_time]
        return Receipt(self, made, float(now), bool(int(probing)))

    def peek(self, charges: Sequence[Charge], ahead: Mapping[Bucket, int] | None = None) -> None:
        """Look without charging; see `Store.peek`."""
        ahead = ahead or {}
        costs = [charge.cost + ahead.get(charge.bucket, 0) for charge in charges]
        _, _, _, *told = self._run("peek", charges, costs=costs)
        _tell(charges, told)

    def refund(self, charges: Sequence[Charge], charged_at: float) -> None:
        """Take back a charge; see `Store.refund`."""
        self._run("refund", charges, charged_at)

    def report(self, charge: Charge, used: int, reset_in: float) -> None:
        """Note what others have used; see `Store.report`."""
        self._run("report", [charge], used, reset_in)

    def close_gate(self, charges: Sequence[Charge], seconds: float, lease: float) -> None:
        """Close the gates of some buckets; see `Store.close_gate`."""
        self._run("close_gate", charges, seconds, lease)

    def pass_gate(self, charges: Sequence[Charge]) -> None:
        """Let another one go first through some gates; see `Store.pass_gate`."""
        self._run("pass_gate", charges)

    def reopen_gate(self, charges: Sequence[Charge]) -> None:
        """Open the gates of some buckets; see `Store.reopen_gate`."""
        self._run("reopen_gate", charges)

    def merge(self, debts: Iterable[tuple[Charge, list[Debt]]]) -> None:
        """Add what was charged elsewhere, for as long as it counts yet; each charge is a bucket."""
        for charge, entries in debts:
            flat = [_number(number) for entry in entries for number in entry]
            self._run("merge", [charge], rest=flat)

    def upkeep(self) -> float:
        """Give a sign of life; each answer tells how many others do."""
        self._run("beat", (), _PEER_LIFETIME)
        return _BEAT_EVERY

    def _run(
        self,
        operation: str,
        charges: Sequence[Charge],
        *numbers: float,
        costs: Sequence[int] | None = None,
        rest: Sequence[str] = (),
    ) -> list[Any]:
        """Run the script, again if a quota has begun anew, and return what it returns."""
        from redis import RedisError

        keys = [f"{self._prefix}generation", f"{self._prefix}peers"]
        for charge in charges:
            name = f"{charge.group}:{charge.key.hex()}"
            keys += [f"{self._prefix}used:{name}", f"{self._prefix}gate:{name}"]
        padded = [_number(number) for number in (*numbers, 0, 0)[:2]]
        head = [operation, self.generation, self._caller, *padded]
        while True:
            arguments = [*head, *self._of_charges(charges, costs), *rest]
            try:
                status, *reply, generation = self._evaluate(keys, arguments)
            except RedisError as error:
                raise StoreError(str(error) or type(error).__name__) from error
            if _text(status) == "lost":
                raise DataLostError(_text(generation))
            self.generation = self.generation or _text(generation)
            if _text(status) == "ok":
                self.peers = int(reply.pop())
                return reply
            self._renew(charges, float(reply[0]))

    def _evaluate(self, keys: Sequence[str], arguments: Sequence[str]) -> list[Any]:
        from redis.exceptions import NoScriptError

        try:
            reply: Any = self._client.evalsha(self._digest, len(keys), *keys, *arguments)
        except NoScriptError:  # the first time, and after SCRIPT FLUSH or a restart
            reply = self._client.eval(self._script, len(keys), *keys, *arguments)
        return list(reply)

    def _of_charges(self, charges: Sequence[Charge], costs: Sequence[int] | None) -> Iterable[str]:
        for number, charge in enumerate(charges):
            yield charge.meter.kind
            yield from map(_number, self._figures(charge.meter))
            yield str(charge.cost if costs is None else costs[number])
            yield "1" if charge.shadow else "0"

    def _figures(self, meter: Meter) -> tuple[float, float, float]:
        if meter.kind != "quota":
            return meter.figures(_EPOCH)
        # Without an end, the server tells its time first.
        return self._quotas.get(meter, (meter.size, 0.0, 0.0))

    def _renew(self, charges: Sequence[Charge], now: float) -> None:
        """Work out when today's quotas end: only the server knows what day it is."""
        wall = dt.datetime.fromtimestamp(now, dt.timezone.utc)
        if len(self._quotas) > _MOST_QUOTAS:
            self._quotas.clear()
        for charge in charges:
            if charge.meter.kind == "quota":
                self._quotas[charge.meter] = charge.meter.figures(wall)


def _script() -> str:
    return resources.files("arbprov.limits.stores").joinpath("decide.lua").read_text()


_EPOCH = dt.datetime.fromtimestamp(0, dt.timezone.utc)
# Limits that are functions of the call could have any number of them.
_MOST_QUOTAS = 1024


def _tell(charges: Sequence[Charge], told: Sequence[Any]) -> None:
    for number, charge in enumerate(charges):
        wait, left, gated = told[number * _PER_CHARGE : (number + 1) * _PER_CHARGE]
        charge.wait_time, charge.remaining = float(wait), int(float(left))
        charge.gated, charge.fallback = bool(int(gated)), False


def _number(number: float) -> str:
    return repr(float(number))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)

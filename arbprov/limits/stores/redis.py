"""The store of any number of processes: a Redis server.

Each decision is a run of ``decide.lua``, by the server's own time: it reads and writes all
buckets of a call at once, and no clock of a process matters.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import itertools
import uuid
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

from arbprov.errors import ConfigurationError
from arbprov.limits.algorithms import Algorithm, Usage
from arbprov.limits.stores.base import (
    BucketKey,
    Charge,
    CountsDroppedError,
    DataLostError,
    Receipt,
    RecoveringError,
    StoreError,
)

if TYPE_CHECKING:
    from redis import Redis

__all__ = ["RedisStore", "connect"]

# In seconds. A server on the same network answers in a thousandth of it.
_TIMEOUT = 0.25
# Each process gives a heartbeat; without one for 30 s, it counts as gone. In seconds.
_HEARTBEAT_INTERVAL = 2.0
# The reply has the wait, the units left, the cooldown and its action of each charge.
_ANSWERS_PER_CHARGE = 4
# For the cooldown, if only its probe has to end; otherwise 1 if it runs, and 0 if it does not.
_AWAITS_PROBE = 2
# The server tells the time in seconds of the epoch; algorithms other than quotas need none.
_EPOCH = dt.datetime.fromtimestamp(0, dt.timezone.utc)
# Functions of the call can return any number of calendar quotas.
_MAX_QUOTAS = 1024


def connect(url: str) -> Redis:
    """Return a client with short timeouts; it connects when it is used.

    Raises:
        ConfigurationError: The package redis is not installed, or the URL is not valid.
    """
    try:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ImportError:
        raise ConfigurationError(
            'Redis needs the package redis: pip install "arbprov[redis]"'
        ) from None
    # The server may have closed an idle connection: then a second attempt works at once.
    retry = Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,))
    try:
        client = redis.Redis.from_url(
            url, socket_timeout=_TIMEOUT, socket_connect_timeout=_TIMEOUT, retry=retry
        )
        # Made without connecting: else each call would fail by a parameter that is not valid.
        pool = client.connection_pool
        pool.connection_class(**pool.connection_kwargs)
    except Exception:  # its text may hold a part of the password
        raise ConfigurationError(
            "redis takes no such URL: a parameter after the ? is unknown or has a wrong value "
            "(ssl_... need rediss://)"
        ) from None
    if not pool.connection_kwargs["socket_timeout"]:
        raise ConfigurationError("the URL's socket_timeout must be greater than 0 seconds")
    return client


class RedisStore:
    """Keeps states and cooldowns on a server; see `Store`.

    Processes with other versions of arbprov use the same data, so the keys on the server and the
    states in them never change; there, a cooldown is called a gate.

    Args:
        client: A Redis client; a decision takes up to its `socket_timeout`.
        namespace: The name that the processes have in common that share limits. It is the hash tag
            of all keys, so that a cluster keeps them on the same node.
        name: The name of this process, without blanks; random if it is empty.
        names: The names of the processes that are known before the first answer.
    """

    blocks = True

    def __init__(
        self, client: Redis, namespace: str, name: str = "", names: Sequence[str] = ()
    ) -> None:
        self._client = client
        self._script = resources.files("arbprov.limits.stores").joinpath("decide.lua").read_text()
        self._digest = hashlib.sha1(self._script.encode(), usedforsecurity=False).hexdigest()
        # A brace would end the hash tag early.
        tag = namespace.replace("{", "").replace("}", "") or "arbprov"
        self._prefix = f"arbprov:{{{tag}}}:"
        common = ("generation", "peers", "recovery", "holders")
        self._common_keys = [self._prefix + name for name in common]
        self._caller = name or uuid.uuid4().hex
        # Never the name of a predecessor, nor the name from before an outage: see `rejoin`.
        self._holder = uuid.uuid4().hex
        # Its former name, until the server knows that it is no longer in use.
        self._former = ""
        self._leases = itertools.count(1)
        self._quotas: dict[Algorithm, tuple[float, float, float]] = {}
        # The number of processes in the last answer; 0 before the first heartbeat.
        self.peers = 0
        # Their names in the last heartbeat's answer.
        self.names = names
        # Whether leases of this process may have lapsed; `Leases.tell` makes it False.
        self.has_lapsed = False
        # Whether processes had yet to report the calls of an outage, as of the last answer.
        self.recovering = False
        # The server's name for the data that this process knows; empty before the first answer.
        self.generation = ""

    def acquire(
        self, charges: Sequence[Charge], known: Sequence[int] = (), *, recovering: bool = False
    ) -> Receipt | None:
        """Make all charges or none; see `Store.acquire`.

        Args:
            charges: The charges.
            known: The units that the server must count already, for each charge.
            recovering: Whether to decide although other processes have yet to report.

        Raises:
            CountsDroppedError: It would make a charge, and counts less; then it charges nothing.
            RecoveringError: Other processes have yet to report.
        """
        for charge in charges:
            if charge.algorithm.holds and not charge.lease:
                charge.lease = self.new_lease()
        operation = "acquire_recovering" if recovering else "acquire"
        now, charged, probing, *answers = self._run(operation, charges, known=known)
        _set_answers(charges, answers)
        if not int(charged):
            return None
        made = [charge for charge in charges if not charge.wait_time]
        return Receipt(self, made, float(now), bool(int(probing)))

    def peek(
        self, charges: Sequence[Charge], demand_ahead: Mapping[BucketKey, int] | None = None
    ) -> None:
        """Answer without charging; see `Store.peek`."""
        demand_ahead = demand_ahead or {}
        costs = [charge.cost + demand_ahead.get(charge.bucket, 0) for charge in charges]
        _, _, _, *answers = self._run("peek", charges, costs=costs)
        _set_answers(charges, answers)

    def refund(self, receipt: Receipt) -> None:
        """Undo charges; see `Store.refund`."""
        self._run("refund", receipt.charges, receipt.charged_at)

    def move(self, receipt: Receipt) -> None:
        """Count charges as of now; see `Store.move`."""
        self._run("move", receipt.charges, receipt.charged_at)

    def report(self, charge: Charge, used: int, reset_in: float) -> None:
        """Raise a bucket's usage; see `Store.report`."""
        self._run("report", [charge], used, reset_in)

    def start_cooldown(
        self, charges: Sequence[Charge], seconds: float, probe_timeout: float
    ) -> None:
        """Start cooldowns; see `Store.start_cooldown`."""
        actions = [charge.cooldown_action for charge in charges]
        self._run("close_gate", charges, seconds, probe_timeout, rest=actions)

    def pass_probe(self, charges: Sequence[Charge]) -> None:
        """Make the next call the probe; see `Store.pass_probe`."""
        self._run("pass_gate", charges)

    def end_cooldown(self, charges: Sequence[Charge]) -> None:
        """End cooldowns; see `Store.end_cooldown`."""
        self._run("reopen_gate", charges)

    def cooldowns(self) -> Mapping[str, int]:
        """Return nothing: the server is not asked for all keys; see `FailoverStore.cooldowns`."""
        return {}

    def merge(self, usages: Iterable[tuple[Charge, list[Usage]]]) -> None:
        """Add usage that was charged elsewhere; each charge names a bucket."""
        for charge, entries in usages:
            numbers = [_format(number) for entry in entries for number in entry]
            self._run("merge", [charge], rest=numbers)

    def new_lease(self) -> str:
        """Return a name for units that a call is to hold, new in this process."""
        return str(next(self._leases))

    def hold(self, charge: Charge, leases: Mapping[str, int]) -> None:
        """Set leases of this process, whatever the server knows of them.

        Args:
            charge: Names the bucket.
            leases: The units of each lease; 0 if it is over.
        """
        pairs = [text for lease, units in leases.items() for text in (lease, str(units))]
        self._run("hold", [charge], rest=pairs)

    def upkeep(self) -> float:
        """Give a heartbeat; each answer has the number of processes that do."""
        _, *names = self._run("beat", ())
        self.names = [_decode(name) for name in names]
        return _HEARTBEAT_INTERVAL

    def rejoin(self, names: Sequence[str]) -> bool:
        """Come back after an outage: until all processes have reported, the server recovers.

        Args:
            names: The processes that may have calls to report too.

        Returns:
            Whether the processes that came back before expected this one.
        """
        # A question that had no answer may still be on its way to the server. In a former name, it
        # gets nothing there.
        if not self._former:
            self._former, self._holder = self._holder, uuid.uuid4().hex
        _, is_known = self._run("rejoin", (), rest=[self._former, *names])
        self._former = ""
        return bool(int(is_known))

    def finish_report(self) -> None:
        """Note that this process has reported its calls, by `merge`."""
        self._run("reported", ())

    def eviction_policy(self) -> str:
        """Return the name of the policy by which a full server drops keys; empty if it drops none.

        A server that forbids to ask is taken for one that drops none.
        """
        from redis import RedisError

        try:
            # CONFIG is often forbidden.
            memory: Any = self._client.info("memory")
        except (RedisError, OSError, AttributeError):  # an author's client may not have it
            return ""
        policy = str(memory.get("maxmemory_policy", ""))
        may_evict = memory.get("maxmemory") and policy not in ("", "noeviction")
        return policy if may_evict else ""

    def _run(
        self,
        operation: str,
        charges: Sequence[Charge],
        *numbers: float,
        costs: Sequence[int] | None = None,
        known: Sequence[int] = (),
        rest: Sequence[str] = (),
    ) -> list[Any]:
        """Run the script, again if a quota has ended or the holder's name has changed.

        Returns:
            Its reply.
        """
        from redis import RedisError

        keys = [*self._common_keys]
        for charge in charges:
            name = f"{charge.group}:{charge.key.hex()}"
            keys += [f"{self._prefix}used:{name}", f"{self._prefix}gate:{name}"]
        padded = [_format(number) for number in (*numbers, 0, 0)[:2]]
        while True:
            # Each time: another thread may have learned the generation, or changed the holder.
            head = [operation, self.generation, self._caller, self._holder, *padded]
            arguments = [*head, *self._arguments(charges, costs, known), *rest]
            try:
                status, *reply, generation = self._evaluate(keys, arguments)
            except (RedisError, OSError) as error:  # a certificate's file that is missing
                raise StoreError(str(error) or type(error).__name__) from error
            if _decode(status) == "lost":
                raise DataLostError(_decode(generation))
            self.generation = self.generation or _decode(generation)
            if _decode(status) == "dropped":
                raise CountsDroppedError
            if _decode(status) == "recovering":
                raise RecoveringError
            if _decode(status) == "ok":
                self.peers, self.recovering = int(reply.pop()), bool(int(reply.pop()))
                if int(reply.pop()):
                    self.has_lapsed = True
                return reply
            if _decode(status) == "renew":
                self._renew_quotas(charges, float(reply[0]))

    def _evaluate(self, keys: Sequence[str], arguments: Sequence[str]) -> list[Any]:
        from redis.exceptions import NoScriptError

        try:
            reply: Any = self._client.evalsha(self._digest, len(keys), *keys, *arguments)
        except NoScriptError:  # the first time, and after SCRIPT FLUSH or a restart
            reply = self._client.eval(self._script, len(keys), *keys, *arguments)
        return list(reply)

    def _arguments(
        self, charges: Sequence[Charge], costs: Sequence[int] | None, known: Sequence[int]
    ) -> Iterable[str]:
        for number, charge in enumerate(charges):
            algorithm = charge.algorithm
            if algorithm.kind == "quota":
                # A quota that seems to have ended has the server answer with its time first.
                parameters = self._quotas.get(algorithm, (algorithm.capacity, 0.0, 0.0))
            else:
                parameters = algorithm.parameters(_EPOCH)
            first, second, third = map(float, parameters)
            cost = charge.cost if costs is None else costs[number]
            units = known[number] if known else 0
            parts = algorithm.kind, first, second, third, cost, int(charge.shadow), units
            yield " ".join(map(str, (*parts, charge.lease or "-")))

    def _renew_quotas(self, charges: Sequence[Charge], now: float) -> None:
        """Compute when quotas end, as of the server's time."""
        wall = dt.datetime.fromtimestamp(now, dt.timezone.utc)
        if len(self._quotas) > _MAX_QUOTAS:
            self._quotas.clear()
        for charge in charges:
            if charge.algorithm.kind == "quota":
                self._quotas[charge.algorithm] = charge.algorithm.parameters(wall)


def _set_answers(charges: Sequence[Charge], answers: Sequence[Any]) -> None:
    for number, charge in enumerate(charges):
        start = number * _ANSWERS_PER_CHARGE
        wait, left, in_cooldown, action = answers[start : start + _ANSWERS_PER_CHARGE]
        charge.wait_time, charge.remaining = float(wait), int(float(left))
        charge.in_cooldown, charge.fallback = bool(int(in_cooldown)), False
        charge.awaits_probe = int(in_cooldown) == _AWAITS_PROBE
        charge.cooldown_action = _decode(action)


def _format(number: float) -> str:
    return repr(float(number))


def _decode(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)

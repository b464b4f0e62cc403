"""Limits by brute force: ledgers that remember every call and round nothing.

A ledger answers with two bounds, the calls that *must* be refused and the calls that *must* be
admitted: between them, floats and rounded times let a store decide either way.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone
from fractions import Fraction
from zoneinfo import ZoneInfo

import attrs

from arbprov import Calendar, Concurrency, Limit, MinDelay, TokenBucket

# The share of a period by which a window may be late.
LATE = 0.001


def noise(now: float) -> float:
    """Return the error of floats around a time."""
    return 8 * math.ulp(now + 1)


@attrs.define(eq=False)
class Entry:
    at: float
    cost: int


@attrs.define
class WindowLedger:
    """At most `amount` in any `period`."""

    amount: int
    period: float
    entries: list[Entry] = attrs.field(factory=list)
    # The last report: the ledger before it, and the least usage until a time.
    below: WindowLedger | None = None
    least: int = 0
    until: float = 0.0

    def charge(self, now, cost):
        entry = Entry(now, cost)
        self.entries.append(entry)
        return entry

    def refund(self, entry):
        if entry in self.entries:
            self.entries.remove(entry)

    def report(self, now, used, reset_in):
        before = WindowLedger(
            self.amount, self.period, self.entries, self.below, self.least, self.until
        )
        self.entries, self.below, self.least = [], before, min(used, self.amount)
        self.until = now + min(reset_in, self.period)

    def used(self, at):
        """Return the units that count at a time: all that are younger than a period."""
        before = 0 if self.below is None else self.below.used(at)
        held = self.least if at < self.until else 0
        return max(before, held) + sum(e.cost for e in self.entries if at - e.at < self.period)

    def must_refuse(self, now, cost):
        return self.used(now) + cost > self.amount

    def must_admit(self, now, cost):
        return self.used(now - LATE * self.period - noise(now)) + cost <= self.amount

    def is_late(self, now, wait, cost):
        """Tell whether a call would have been admitted clearly before `wait` is over."""
        early = now + wait - LATE * self.period - noise(now + wait)
        return early > now and self.used(early) + cost <= self.amount


@attrs.define
class BucketLedger:
    """`size` tokens, and another each `interval`, in fractions."""

    size: int
    interval: Fraction
    events: list[tuple[str, float, Entry]] = attrs.field(factory=list)
    refunded: set[int] = attrs.field(factory=set)

    def charge(self, now, cost):
        entry = Entry(now, cost)
        self.events.append(("charge", now, entry))
        return entry

    def refund(self, entry):
        self.refunded.add(id(entry))

    def report(self, now, used, reset_in):
        self.events.append(("report", now, Entry(now, min(used, self.size))))

    def full_at(self, refunds):
        full_at = Fraction(-1)
        for kind, at, entry in self.events:
            if kind == "report":
                full_at = max(full_at, Fraction(at) + entry.cost * self.interval)
            elif not (refunds and id(entry) in self.refunded):
                full_at = max(full_at, Fraction(at)) + entry.cost * self.interval
        return full_at

    def ready_at(self, now, cost, refunds):
        return max(self.full_at(refunds), Fraction(now)) - (self.size - cost) * self.interval

    def must_refuse(self, now, cost):
        return self.ready_at(now, cost, refunds=True) > Fraction(now) + self._noise(now)

    def must_admit(self, now, cost):
        # A late refund may give back less: the tokens refilled since then are not known.
        return self.ready_at(now, cost, refunds=False) <= Fraction(now) - self._noise(now)

    def is_late(self, now, wait, cost):
        ready = self.ready_at(now, cost, refunds=False)
        return now + wait > ready + self._noise(now + wait) and wait > 0

    def _noise(self, now):
        # Each charge may round once, and a token that lacks a millionth is whole.
        return Fraction(noise(now) * (1 + len(self.events))) + 2 * self.interval / 1_000_000


@attrs.define
class PacedLedger:
    """A window, and a bucket beside it."""

    parts: list

    def charge(self, now, cost):
        return [part.charge(now, cost) for part in self.parts]

    def refund(self, entries):
        for part, entry in zip(self.parts, entries, strict=True):
            part.refund(entry)

    def report(self, now, used, reset_in):
        self.parts[0].report(now, used, reset_in)

    def must_refuse(self, now, cost):
        return any(part.must_refuse(now, cost) for part in self.parts)

    def must_admit(self, now, cost):
        return all(part.must_admit(now, cost) for part in self.parts)

    def is_late(self, now, wait, cost):
        return all(part.is_late(now, wait, cost) for part in self.parts)


# The wall clock counts in microseconds.
TICK = 2e-6


@attrs.define
class QuotaLedger:
    """At most `amount` of each day of a time zone."""

    amount: int
    zone: ZoneInfo
    started_at: datetime
    entries: list[Entry] = attrs.field(factory=list)
    reports: list[Entry] = attrs.field(factory=list)

    def charge(self, now, cost):
        entry = Entry(now, cost)
        self.entries.append(entry)
        return entry

    def refund(self, entry):
        self.entries.remove(entry)

    def report(self, now, used, reset_in):
        # The missing units, as if another call had been charged.
        self.reports.append(Entry(now, max(0, min(used, self.amount) - self.used(now, _surely))))

    def used(self, now, same):
        today = self._days(now)
        counted = (*self.entries, *self.reports)
        return sum(one.cost for one in counted if same(self._days(one.at), today))

    def must_refuse(self, now, cost):
        return self.used(now, _surely) + cost > self.amount

    def must_admit(self, now, cost):
        return self.used(now, _possibly) + cost <= self.amount

    def is_late(self, now, wait, cost):
        early = now + wait - 2 * TICK
        return early > now and self.used(early, _possibly) + cost <= self.amount

    def _days(self, now):
        """Return the days that it may be, since the wall clock is not exact."""
        return {self._day(now - TICK), self._day(now + TICK)}

    def _day(self, now):
        return (self.started_at + timedelta(seconds=now)).astimezone(self.zone).date()


def _surely(days, today):
    return days == today and len(days) == 1


def _possibly(days, today):
    return bool(days & today)


@attrs.define
class InFlightLedger:
    """At most `capacity` at the same time, however long they take."""

    capacity: int
    entries: list[Entry] = attrs.field(factory=list)

    def charge(self, now, cost):
        entry = Entry(now, cost)
        self.entries.append(entry)
        return entry

    def refund(self, entry):
        self.end(entry)

    def end(self, entry):
        self.entries.remove(entry)

    def must_refuse(self, now, cost):
        return sum(one.cost for one in self.entries) + cost > self.capacity

    def must_admit(self, now, cost):
        return not self.must_refuse(now, cost)

    def is_late(self, now, wait, cost):
        return False


def ledger_of(policy, started_at=datetime(2026, 1, 1, tzinfo=timezone.utc)):
    """Return the ledger of one key of a limit.

    Args:
        policy: The limit.
        started_at: The wall clock's time when the monotonic clock shows 0.
    """
    if isinstance(policy, MinDelay):
        return WindowLedger(1, policy.seconds)
    if isinstance(policy, Concurrency):
        return InFlightLedger(policy.calls)
    if isinstance(policy, TokenBucket):
        return BucketLedger(policy.burst_size, Fraction(60.0 / policy.requests_per_minute))
    if isinstance(policy, Calendar):
        return QuotaLedger(policy.capacity, ZoneInfo(policy.tz), started_at)
    assert isinstance(policy, Limit)
    window = WindowLedger(policy.amount, policy.period)
    if policy.burst is None:
        return window
    return PacedLedger(
        [window, BucketLedger(policy.burst, Fraction(policy.period / policy.amount))],
    )


@attrs.define
class CooldownLedger:
    """The cooldown of one bucket: it only ever becomes longer, and then admits one probe."""

    ends_at: float = -math.inf
    probe_ends_at: float = -math.inf
    probe_timeout: float = 0.0
    exists: bool = False

    def start(self, now, seconds, probe_timeout):
        self.forget(now)
        self.exists = True
        self.ends_at = max(self.ends_at, now + seconds)
        self.probe_timeout = probe_timeout
        self.probe_ends_at = -math.inf

    def pass_probe(self):
        self.probe_ends_at = -math.inf

    def wait_time(self, now):
        self.forget(now)
        return max(0.0, max(self.ends_at, self.probe_ends_at) - now) if self.exists else 0.0

    def begin_probe(self, now):
        self.forget(now)
        if self.exists:
            self.probe_ends_at = now + self.probe_timeout
        return self.exists

    def end(self, now):
        if self.exists and self.ends_at <= now:
            self._drop()

    def forget(self, now):
        if self.ends_at + 3600 <= now:
            self._drop()

    def _drop(self):
        self.exists, self.ends_at, self.probe_ends_at = False, -math.inf, -math.inf

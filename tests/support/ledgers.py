"""What limits should do, by brute force: ledgers that remember everything and round nothing.

A ledger answers with two bounds, since what floats and coalesced times make of a boundary is the
store's business: what *must* be refused, and what *must* be admitted.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone
from fractions import Fraction
from zoneinfo import ZoneInfo

import attrs

from arbprov import Calendar, Limit, MinDelay, TokenBucket

# The share of a period by which a window may be late.
LATE = 0.001


def noise(now: float) -> float:
    """Return what floats may be off by around a time."""
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
    # What was reported: the ledger until then, and the floor that held it up until a time.
    below: WindowLedger | None = None
    floor: int = 0
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
            self.amount, self.period, self.entries, self.below, self.floor, self.until
        )
        self.entries, self.below, self.floor = [], before, min(used, self.amount)
        self.until = now + min(reset_in, self.period)

    def used(self, at):
        """Return what counts at a time: all that is younger than a period."""
        before = 0 if self.below is None else self.below.used(at)
        held = self.floor if at < self.until else 0
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
    """`size` tokens, and one more each `interval`, in fractions."""

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
        # A late refund may give back less: what has been refilled since then is not known.
        return self.ready_at(now, cost, refunds=False) <= Fraction(now) - self._noise(now)

    def is_late(self, now, wait, cost):
        ready = self.ready_at(now, cost, refunds=False)
        return now + wait > ready + self._noise(now + wait) and wait > 0

    def _noise(self, now):
        # Each charge may round once, and a millionth of a token is no missing token.
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
    began: datetime
    entries: list[Entry] = attrs.field(factory=list)
    reports: list[Entry] = attrs.field(factory=list)

    def charge(self, now, cost):
        entry = Entry(now, cost)
        self.entries.append(entry)
        return entry

    def refund(self, entry):
        self.entries.remove(entry)

    def report(self, now, used, reset_in):
        # What is missing, as if somebody else had been charged.
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
        """Return the days that it may be, as closely as that can be told."""
        return {self._day(now - TICK), self._day(now + TICK)}

    def _day(self, now):
        return (self.began + timedelta(seconds=now)).astimezone(self.zone).date()


def _surely(days, today):
    return days == today and len(days) == 1


def _possibly(days, today):
    return bool(days & today)


def ledger_of(rule, began=datetime(2026, 1, 1, tzinfo=timezone.utc)):
    """Return the ledger of one key of a limit.

    Args:
        rule: The limit.
        began: The wall clock's time when the monotonic one shows 0.
    """
    if isinstance(rule, MinDelay):
        return WindowLedger(1, rule.seconds)
    if isinstance(rule, TokenBucket):
        return BucketLedger(rule.burst_size, Fraction(60.0 / rule.requests_per_minute))
    if isinstance(rule, Calendar):
        return QuotaLedger(rule.capacity, ZoneInfo(rule.tz), began)
    assert isinstance(rule, Limit)
    window = WindowLedger(rule.amount, rule.period)
    if rule.burst is None:
        return window
    return PacedLedger(
        [window, BucketLedger(rule.burst, Fraction(rule.period / rule.amount))],
    )


@attrs.define
class GateLedger:
    """The gate of one bucket: it only ever stays closed longer, and then lets one call through."""

    closed_until: float = -math.inf
    probing_until: float = -math.inf
    lease: float = 0.0
    exists: bool = False

    def close(self, now, seconds, lease):
        self.forget(now)
        self.exists = True
        self.closed_until = max(self.closed_until, now + seconds)
        self.lease = lease
        self.probing_until = -math.inf

    def pass_on(self):
        self.probing_until = -math.inf

    def opens_in(self, now):
        self.forget(now)
        return max(0.0, max(self.closed_until, self.probing_until) - now) if self.exists else 0.0

    def enter(self, now):
        self.forget(now)
        if self.exists:
            self.probing_until = now + self.lease
        return self.exists

    def reopen(self, now):
        if self.exists and self.closed_until <= now:
            self.exists, self.closed_until, self.probing_until = False, -math.inf, -math.inf

    def forget(self, now):
        if self.closed_until + 3600 <= now:
            self.exists, self.closed_until, self.probing_until = False, -math.inf, -math.inf

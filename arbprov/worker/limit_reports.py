"""How the limits that calls have used lately stand, for reports to the hub."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

import attrs

from arbprov._types import Clock
from arbprov.limits.compile import CompiledLimit
from arbprov.limits.keys import describe_key
from arbprov.limits.recent import RecentUse, RecentUses
from arbprov.limits.stores.base import BucketKey, Charge, Store
from arbprov.wire.accounts import find_account_key
from arbprov.wire.reports import MAX_LIMITS, MAX_TEXT, LimitReport

__all__ = ["LimitReporter"]

# Buckets that a store is asked about at once. The event loop gets its turn in between.
_CHUNK = 25
# Seconds for which an unused limit is still reported.
_SHOWN_FOR = 60.0
# Digits of a key's hash: enough to tell keys apart.
_KEY_DIGITS = 16


@attrs.define(eq=False)
class _Standing:
    """How a limit stands for one key: the answers of its stores about all of its buckets."""

    uses: list[RecentUse]
    charges: list[Charge]
    waiting: int

    @property
    def is_closed(self) -> bool:
        return any(charge.in_cooldown for charge in self.charges)

    @property
    def is_unused(self) -> bool:
        return not (
            self.waiting
            or any(one.wait_time or one.remaining < one.algorithm.capacity for one in self.charges)
        )

    @property
    def urgency(self) -> tuple[bool, bool, float]:
        """Sorts closed gates first, then limits that tasks wait for, then the fullest."""
        return not self.is_closed, not self.waiting, min(map(_share_left, self.charges))


class LimitReporter:
    """Asks the stores how the limits stand that calls have used lately.

    It is used on a thread, since a store may block.

    Args:
        recent: Which limits and keys calls have used lately.
        clock: Tells the time.
    """

    def __init__(self, recent: RecentUses, clock: Clock) -> None:
        self._recent = recent
        self._clock = clock
        self._account_keys: dict[bytes, str] = {}

    def read(self, waiting: Mapping[BucketKey, int]) -> tuple[tuple[LimitReport, ...], int]:
        """Return the most urgent reports, and how many others are left out.

        Args:
            waiting: How many calls wait for each bucket.
        """
        standings = self._drop_unused([*self._ask_stores(waiting)])
        standings.sort(key=lambda standing: standing.urgency)
        closed = [use for one in standings if one.is_closed for use in one.uses]
        # A closed gate gets no calls, and must not be forgotten for that.
        self._recent.keep(closed[: 2 * MAX_LIMITS])
        shown = standings[:MAX_LIMITS]
        accounts = {use.account for one in shown for use in one.uses if use.account is not None}
        known = self._account_keys
        self._account_keys = {
            account: known.get(account) or find_account_key(account) for account in accounts
        }
        return tuple(map(self._describe, shown)), len(standings) - len(shown)

    def _ask_stores(self, waiting: Mapping[BucketKey, int]) -> Iterator[_Standing]:
        by_store: defaultdict[Store | None, list[RecentUse]] = defaultdict(list)
        for use in self._recent.latest():
            by_store[use.charge.limit.store].append(use)
        for store, uses in by_store.items():
            if store is None:
                yield from self._read_monitors(uses)
                continue
            groups = [*_group_by_key(uses, waiting)]
            if store.blocks:
                # Not every key: the server has other work.
                groups = sorted(groups, key=lambda group: group.urgency)[:MAX_LIMITS]
            groups_left = iter(groups)
            while chunk := [*islice(groups_left, _CHUNK)]:
                for group in chunk:
                    group.charges = [_copy(use.charge) for use in group.uses]
                store.peek([charge for group in chunk for charge in group.charges])
                yield from chunk
                time.sleep(0)

    def _read_monitors(self, uses: Iterable[RecentUse]) -> Iterator[_Standing]:
        """Return the last answers of monitors; asking them again would run the author's code."""
        now = self._clock.monotonic()
        for use in uses:
            charge = _copy(use.charge)
            charge.wait_time = max(0.0, use.charge.wait_time - (now - use.used_at))
            charge.in_cooldown = charge.wait_time > 0
            charge.remaining = charge.algorithm.capacity
            yield _Standing([use], [charge], 0)

    def _drop_unused(self, standings: Iterable[_Standing]) -> list[_Standing]:
        before = self._clock.monotonic() - _SHOWN_FOR
        left: list[_Standing] = []
        unused: list[RecentUse] = []
        for standing in standings:
            if standing.is_unused and max(use.used_at for use in standing.uses) < before:
                unused += standing.uses
            else:
                left.append(standing)
        self._recent.forget(unused)
        return left

    def _describe(self, standing: _Standing) -> LimitReport:
        tightest = min(standing.charges, key=lambda charge: charge.remaining)
        slowest = max(standing.charges, key=lambda charge: charge.wait_time)
        limit: CompiledLimit = tightest.limit
        key = limit.declaration.key
        is_counted = limit.monitor is None
        return LimitReport(
            action=limit.action if limit.owner == f"action:{limit.action}" else "",
            limit=limit.text[:MAX_TEXT],
            key=tightest.key.hex()[:_KEY_DIGITS],
            account_key=self._find_account(standing, limit),
            total=tightest.algorithm.capacity if is_counted else None,
            left=max(0, tightest.remaining) if is_counted else None,
            opens_in=_opens_in(slowest) if slowest.in_cooldown else None,
            closed_by=_describe_closing(slowest)[:MAX_TEXT] if slowest.in_cooldown else "",
            waiting=standing.waiting,
            owner=limit.owner[:MAX_TEXT],
            by="" if key is None else describe_key(key)[:MAX_TEXT],
            next_in=round(slowest.wait_time, 3) or None,
            shadow=tightest.shadow,
        )

    def _find_account(self, standing: _Standing, limit: CompiledLimit) -> str:
        """Return the hub's key of the last task's account, if the limit is counted by accounts."""
        account = standing.uses[0].account
        if account is None or "account" not in limit.key.parts:
            return ""
        return self._account_keys[account]


def _group_by_key(
    uses: Sequence[RecentUse], waiting: Mapping[BucketKey, int]
) -> Iterator[_Standing]:
    """Yield the uses of each limit and key together; a limit may have several buckets."""
    groups: defaultdict[object, list[RecentUse]] = defaultdict(list)
    for use in uses:
        limit = use.charge.limit
        groups[limit.counters, limit.text, use.charge.key].append(use)
    for group in groups.values():
        charges = [use.charge for use in group]
        yield _Standing(group, charges, max(waiting.get(one.bucket, 0) for one in charges))


def _copy(charge: Charge) -> Charge:
    """Return a charge of a unit that has no answer yet."""
    return Charge(charge.group, charge.key, charge.algorithm, 1, charge.shadow, charge.limit)


def _share_left(charge: Charge) -> float:
    return charge.remaining / charge.algorithm.capacity


def _opens_in(charge: Charge) -> float:
    return 0.0 if charge.awaits_probe else round(charge.wait_time, 3)


def _describe_closing(charge: Charge) -> str:
    if charge.limit.monitor is not None:
        return f"the monitor {charge.limit.text}"
    action = charge.cooldown_action
    throttled = f"the API has throttled action {action!r}" if action else "the API has throttled"
    return f"{throttled}; a call tries it now" if charge.awaits_probe else throttled

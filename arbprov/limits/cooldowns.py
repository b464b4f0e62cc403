"""Cooldowns: buckets that refuse all calls for a while, because the API asked for it. Pure.

After a cooldown, a single call goes first, the probe. If it ends well, the cooldown ends; if the
API throttles it too, the next cooldown starts.
"""

from __future__ import annotations

import math

import attrs

from arbprov.limits.algorithms import seconds_until
from arbprov.limits.stores.base import BucketKey

__all__ = ["Cooldowns"]

# Seconds after which a cooldown is forgotten that no call has probed.
_FORGOTTEN_AFTER = 3600.0


@attrs.define
class _Cooldown:
    ends_at: float
    probe_timeout: float
    probe_ends_at: float = -math.inf
    # The action whose call the API has throttled.
    action: str = ""

    @property
    def forgotten_at(self) -> float:
        return self.ends_at + _FORGOTTEN_AFTER


class Cooldowns:
    """The cooldowns of a store; times are in seconds and never go back."""

    def __init__(self) -> None:
        # Read directly where each decision asks whether there are any.
        self.by_bucket: dict[BucketKey, _Cooldown] = {}

    def wait_time(self, bucket: BucketKey, now: float) -> float:
        """Return the seconds until a call is admitted; 0 for now."""
        cooldown = self._find(bucket, now)
        if cooldown is None:
            return 0.0
        ends_at = max(cooldown.ends_at, cooldown.probe_ends_at)
        return seconds_until(now, ends_at) if ends_at > now else 0.0

    def is_probing(self, bucket: BucketKey, now: float) -> bool:
        """Tell whether calls of a bucket with a cooldown wait only for its probe."""
        return self.by_bucket[bucket].ends_at <= now

    def action(self, bucket: BucketKey) -> str:
        """Return the action whose call the API has throttled; empty if it is unknown."""
        return self.by_bucket[bucket].action

    def start(
        self,
        bucket: BucketKey,
        now: float,
        seconds: float,
        probe_timeout: float,
        action: str = "",
    ) -> None:
        """Refuse all calls until ``now + seconds``, or longer if a longer cooldown runs.

        A probe that still runs is not waited for any more: the next call probes again.
        """
        cooldown = self._find(bucket, now)
        if cooldown is None:
            cooldown = self.by_bucket[bucket] = _Cooldown(-math.inf, probe_timeout)
        cooldown.ends_at = max(cooldown.ends_at, now + seconds)
        cooldown.probe_timeout = probe_timeout
        cooldown.probe_ends_at = -math.inf
        cooldown.action = action

    def running(self, now: float) -> list[tuple[BucketKey, float, float, str]]:
        """Return the cooldowns that refuse calls: bucket, seconds left, probe timeout, action."""
        return [
            (bucket, cooldown.ends_at - now, cooldown.probe_timeout, cooldown.action)
            for bucket, cooldown in self.by_bucket.items()
            if cooldown.ends_at > now
        ]

    def begin_probe(self, bucket: BucketKey, now: float) -> bool:
        """Make an admitted call the probe if there was a cooldown; return whether there was."""
        cooldown = self._find(bucket, now)
        if cooldown is None:
            return False
        cooldown.probe_ends_at = now + cooldown.probe_timeout
        return True

    def pass_probe(self, bucket: BucketKey, now: float) -> None:
        """Make the next call the probe."""
        cooldown = self._find(bucket, now)
        if cooldown is not None:
            cooldown.probe_ends_at = -math.inf

    def end(self, bucket: BucketKey, now: float) -> None:
        """Admit calls as usual, unless a new cooldown has started since the probe began."""
        cooldown = self.by_bucket.get(bucket)
        if cooldown is not None and cooldown.ends_at <= now:
            del self.by_bucket[bucket]

    def forget(self, now: float) -> None:
        """Drop the cooldowns that no call has probed for an hour."""
        self.by_bucket = {b: c for b, c in self.by_bucket.items() if c.forgotten_at > now}

    def _find(self, bucket: BucketKey, now: float) -> _Cooldown | None:
        cooldown = self.by_bucket.get(bucket)
        return None if cooldown is None or cooldown.forgotten_at <= now else cooldown

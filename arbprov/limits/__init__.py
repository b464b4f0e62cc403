"""Rate limits: the grammar, the exact window, and one decision over all limits of a call."""

from arbprov.limits.bucket import TokenBucket
from arbprov.limits.calendar import Calendar
from arbprov.limits.declaration import RateLimit, Scope, declare
from arbprov.limits.keys import Key, LimitedCall
from arbprov.limits.limiter import Decision, Limiter, LimitStack
from arbprov.limits.memory import MemoryStore
from arbprov.limits.meter import Meter, Rule
from arbprov.limits.rate import Limit, parse_limits
from arbprov.limits.spacing import MinDelay
from arbprov.limits.store import Charge, Headroom, Store

__all__ = [
    "Calendar",
    "Charge",
    "Decision",
    "Headroom",
    "Key",
    "Limit",
    "LimitStack",
    "LimitedCall",
    "Limiter",
    "MemoryStore",
    "Meter",
    "MinDelay",
    "RateLimit",
    "Rule",
    "Scope",
    "Store",
    "TokenBucket",
    "declare",
    "parse_limits",
]

"""Rate limits: the grammar, the exact window, and one decision over all limits of a call."""

from arbprov.limits.declaration import RateLimit, Scope, declare
from arbprov.limits.keys import Key, LimitedCall
from arbprov.limits.limiter import Decision, Limiter, LimitStack
from arbprov.limits.memory import MemoryStore
from arbprov.limits.rate import Limit, parse_limits
from arbprov.limits.store import Charge, Headroom, Store

__all__ = [
    "Charge",
    "Decision",
    "Headroom",
    "Key",
    "Limit",
    "LimitStack",
    "LimitedCall",
    "Limiter",
    "MemoryStore",
    "RateLimit",
    "Scope",
    "Store",
    "declare",
    "parse_limits",
]

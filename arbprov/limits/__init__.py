"""Rate limits: the grammar, the meters, the stores, and one decision over all limits of a call."""

from arbprov.limits.bucket import TokenBucket
from arbprov.limits.calendar import Calendar
from arbprov.limits.compiler import OpenStore
from arbprov.limits.decision import Decision, Headroom, check_report
from arbprov.limits.declaration import AnyLimit, Cost, OnStoreError, RateLimit, Scope, declare
from arbprov.limits.keys import Key, LimitedCall
from arbprov.limits.limiter import Limiter
from arbprov.limits.memory import MemoryStore
from arbprov.limits.meter import Meter, Rule
from arbprov.limits.observing import LimitCounts
from arbprov.limits.opening import StoreOpener
from arbprov.limits.overview import LimitsOverview, LimitState
from arbprov.limits.rate import Limit, parse_limits
from arbprov.limits.spacing import MinDelay
from arbprov.limits.stack import LimitStack
from arbprov.limits.store import Charge, Store

__all__ = [
    "AnyLimit",
    "Calendar",
    "Charge",
    "Cost",
    "Decision",
    "Headroom",
    "Key",
    "Limit",
    "LimitCounts",
    "LimitStack",
    "LimitState",
    "LimitedCall",
    "Limiter",
    "LimitsOverview",
    "MemoryStore",
    "Meter",
    "MinDelay",
    "OnStoreError",
    "OpenStore",
    "RateLimit",
    "Rule",
    "Scope",
    "Store",
    "StoreOpener",
    "TokenBucket",
    "check_report",
    "declare",
    "parse_limits",
]

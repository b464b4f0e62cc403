"""Rate limits: the grammar, the meters, the stores, and one decision over all limits of a call."""

from arbprov.limits.bucket import TokenBucket
from arbprov.limits.calendar import Calendar
from arbprov.limits.compile import OpenStore
from arbprov.limits.decision import CallLimits, Decision, Headroom, check_report
from arbprov.limits.declaration import AnyLimit, Cost, OnStoreError, RateLimit, Scope, declare
from arbprov.limits.grammar import Limit, parse_limits
from arbprov.limits.keys import Key, LimitedCall
from arbprov.limits.limiter import Limiter
from arbprov.limits.meter import Meter, Rule
from arbprov.limits.overview import LimitsOverview, LimitState
from arbprov.limits.spacing import MinDelay
from arbprov.limits.stack import ActionLimits
from arbprov.limits.stats import LimitCounts
from arbprov.limits.stores.base import Charge, Store
from arbprov.limits.stores.memory import MemoryStore
from arbprov.limits.stores.opening import StoreOpener

__all__ = [
    "ActionLimits",
    "AnyLimit",
    "Calendar",
    "CallLimits",
    "Charge",
    "Cost",
    "Decision",
    "Headroom",
    "Key",
    "Limit",
    "LimitCounts",
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

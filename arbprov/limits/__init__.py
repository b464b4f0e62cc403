"""Rate limits: policies that authors declare, algorithms that count, and a decision per call.

Read `policies` (the limits that an author writes), `declaration`, `compile` (once, at start),
`limiter` (each call), `decision` (its answer), and `stores.base` (where usage is kept).
"""

from arbprov.limits.algorithms import Algorithm
from arbprov.limits.compile import ActionLimits, OpenStore
from arbprov.limits.decision import CallLimits, Decision, Headroom, check_report
from arbprov.limits.declaration import AnyLimit, Cost, OnStoreError, RateLimit, Scope, declare
from arbprov.limits.keys import Key, LimitedCall
from arbprov.limits.limiter import Limiter
from arbprov.limits.manual import Acquirer, Acquisition, ManualLimits, current_limits
from arbprov.limits.policies import (
    Calendar,
    Concurrency,
    Limit,
    MinDelay,
    Policy,
    TokenBucket,
    parse_limits,
)
from arbprov.limits.stats import LimitCounts, LimitState, LimitStats
from arbprov.limits.stores.base import Charge, Store
from arbprov.limits.stores.factory import StoreFactory, WorkerPlace
from arbprov.limits.stores.memory import MemoryStore

__all__ = [
    "Acquirer",
    "Acquisition",
    "ActionLimits",
    "Algorithm",
    "AnyLimit",
    "Calendar",
    "CallLimits",
    "Charge",
    "Concurrency",
    "Cost",
    "Decision",
    "Headroom",
    "Key",
    "Limit",
    "LimitCounts",
    "LimitState",
    "LimitStats",
    "LimitedCall",
    "Limiter",
    "ManualLimits",
    "MemoryStore",
    "MinDelay",
    "OnStoreError",
    "OpenStore",
    "Policy",
    "RateLimit",
    "Scope",
    "Store",
    "StoreFactory",
    "TokenBucket",
    "WorkerPlace",
    "check_report",
    "current_limits",
    "declare",
    "parse_limits",
]

"""A limit as code: a budget for each calendar month, in a table.

arbprov dev examples/custom_monitor.py --tasks examples/custom_monitor.jsonl

"1000/month" is refused, since months have no fixed length; a monitor may count in any way. With
BUDGET_FILE=budget.sqlite3, the count outlives the provider, and other programs can read it.
"""

import os
import sqlite3
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any, ParamSpec, TypeVar

from arbprov import ProviderApp, RateLimitMonitor

P = ParamSpec("P")
R = TypeVar("R")


class MonthlyBudget(RateLimitMonitor):
    """At most `calls` calls in a month of UTC, counted in SQLite.

    arbprov asks `check_rate_limits`. When all limits of a call admit it, `make_safe_request` counts
    it. arbprov holds the monitor's lock in between, so that no other call of this process can
    interfere. It can't lock other processes out, so give each its own file.
    """

    _table: sqlite3.Connection

    def __init__(self, path: str, calls: int) -> None:
        self.path = path
        self.calls = calls

    def open(self) -> None:
        # Any thread may use the connection, but only one at a time.
        self._table = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None)
        self._table.execute("CREATE TABLE IF NOT EXISTS budget (month TEXT PRIMARY KEY, used INT)")

    def close(self) -> None:
        self._table.close()

    def check_rate_limits(self) -> dict[str, Any] | None:
        now = self.now()
        used = self._used_in(now)
        if used < self.calls:
            return None
        wait = (_next_month(now) - now).total_seconds()
        return {"rate_limited": True, "wait_time": wait, "current_count": used, "limit": self.calls}

    def make_safe_request(
        self, request_func: Callable[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        self._table.execute(
            "INSERT INTO budget VALUES (?, 1) ON CONFLICT (month) DO UPDATE SET used = used + 1",
            [_month(self.now())],
        )
        return request_func(*args, **kwargs)

    def now(self) -> datetime:
        return datetime.now(timezone.utc)

    def _used_in(self, now: datetime) -> int:
        found = self._table.execute("SELECT used FROM budget WHERE month = ?", [_month(now)])
        (used,) = found.fetchone() or (0,)
        return int(used)


def _month(now: datetime) -> str:
    return f"{now:%Y-%m}"


def _next_month(now: datetime) -> datetime:
    first = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return (first + timedelta(days=31)).replace(day=1)


budget = MonthlyBudget(
    os.environ.get("BUDGET_FILE", ":memory:"), calls=int(os.environ.get("BUDGET_CALLS", "3"))
)
app = ProviderApp("paid", rate_limit="5/second", rate_limit_monitor=budget)
app.on_startup(budget.open)
app.on_shutdown(budget.close)


@app.action
def lookup(word: str) -> dict[str, Any]:
    """Look up a word, for one of the month's calls."""
    return {"word": word}


if __name__ == "__main__":
    app.run()

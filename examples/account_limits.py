"""Stacked limits, for all accounts together and for each account.

arbprov dev examples/account_limits.py --tasks examples/account_limits.jsonl

All limits of a call must admit it, and a refused call takes nothing from any limit. The hub gets
the status `limit`, and what is left; `wait_time` is the seconds until the call would be admitted:

    {"status": "limit", "message": "Rate limit exceeded", "data": {..., "response": {
        "wait_time": 59.9, "limit": "3/minute", "limits": [
            {"limit": "50/second", "remaining": 50, "wait_time": 0.0},
            {"limit": "3/minute", "remaining": 0, "wait_time": 59.9},
            {"limit": "100/day", "remaining": 97, "wait_time": 0.0}]}}}
"""

from typing import Any

from arbprov import ProviderApp, TaskContext

# All actions and all accounts share this limit: the vendor allows the provider 50 calls a second.
app = ProviderApp("ads", rate_limit="50/second")


@app.action
@app.rate_limit("100/day", key="account.api_key")
@app.rate_limit("3/minute", key="account.api_key", warn_at=(0.6,))
def campaigns(ctx: TaskContext, page: int = 1) -> dict[str, Any]:
    """One page of an account's campaigns; the log warns at 60 % of the 3 calls a minute."""
    return {"page": page, "left": {one.limit: one.remaining for one in ctx.limits.headroom}}


@app.action
@app.rate_limit("4/second", key="account.api_key", max_wait=2)
def clicks(campaign: int) -> dict[str, Any]:
    """The clicks of a campaign; a task may wait 2 s for its turn, rather than being refused."""
    return {"campaign": campaign, "clicks": 0}


@app.action
@app.rate_limit(
    "10/minute", key="account.api_key", cost=lambda call: len(call.payload["campaigns"])
)
def report(campaigns: list[int]) -> dict[str, Any]:
    """A report, which costs 1 for each campaign."""
    return {"campaigns": campaigns}


if __name__ == "__main__":
    app.run()

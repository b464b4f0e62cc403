"""The blueprint of metrics: the cost and clicks of campaigns, with quotas for each account."""

import asyncio
from datetime import date
from typing import Annotated, Any

import attrs

from ads.vendor import Account, CampaignId, ask
from arbprov import Blueprint

# Besides the app's limit: a limit of all accounts together, and two limits of each account.
metrics = Blueprint("metrics", prefix="metrics.", rate_limit="20/second")

# The vendor counts campaigns rather than requests, for both actions together.
quota = metrics.rate_limit(
    "100/day",
    key="account.business",
    name="quota",
    cost=lambda call: len(call.payload["campaigns"]),
)
# A task over this limit waits for its turn, up to 2 seconds.
pace = metrics.rate_limit("5/second", key="account.business", name="pace", max_wait=2)

Campaigns = Annotated[list[CampaignId], attrs.validators.min_len(1), attrs.validators.max_len(50)]


@attrs.frozen
class Period:
    """A range of days, both ends included."""

    since: date
    until: date = attrs.field()

    @until.validator
    def _check(self, _: Any, until: date) -> None:
        if not 0 <= (until - self.since).days < 90:
            raise ValueError("must be the first day or one of the 89 days after it")


@metrics.action
@quota
@pace
async def daily(account: Account, campaigns: Campaigns, period: Period) -> dict[str, Any]:
    """Return each campaign's impressions, clicks and cost in cents, day by day."""
    return {"rows": await fetch(account, campaigns, period)}


@metrics.action
@quota
@pace
async def totals(account: Account, campaigns: Campaigns, period: Period) -> dict[str, Any]:
    """Return the sums over all campaigns and days."""
    rows = await fetch(account, campaigns, period)
    return {name: sum(row[name] for row in rows) for name in ("impressions", "clicks", "cost")}


async def fetch(account: Account, campaigns: Campaigns, period: Period) -> list[dict[str, Any]]:
    params = {"since": period.since.isoformat(), "until": period.until.isoformat()}
    answers = await asyncio.gather(
        *(ask(account, "GET", f"/campaigns/{one}/metrics", params=params) for one in campaigns)
    )
    return [
        {"campaign": campaign, **row}
        for campaign, answer in zip(campaigns, answers, strict=True)
        for row in answer["items"]
    ]

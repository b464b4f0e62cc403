"""The blueprint of campaigns: listed page by page, and changed by accounts that may."""

from typing import Annotated, Any, Literal

import attrs

from ads.vendor import Account, CampaignId, ask, pages
from arbprov import Blueprint, ProviderResponse, TaskContext

campaigns = Blueprint("campaigns", prefix="campaigns.")

State = Literal["active", "paused"]
Cents = Annotated[int, attrs.validators.ge(1)]

# Limits of the same name share their count: an account has 10 changes a minute, of both actions.
changes = campaigns.rate_limit("10/minute", key="account.business", name="changes")
CHANGES = {"campaigns.create", "campaigns.set_state"}


@campaigns.before_task
def refuse_readers(ctx: TaskContext) -> ProviderResponse | None:
    if ctx.action in CHANGES and not ctx.account.get("may_change"):
        return ProviderResponse("error", message="This account may not change campaigns")
    return None


@campaigns.action("list")
@campaigns.rate_limit("60/minute", key="account.business")
async def list_campaigns(account: Account, state: State | None = None) -> dict[str, Any]:
    """List an account's campaigns, optionally only those of a state."""
    params = {} if state is None else {"state": state}
    found = pages(account, f"/businesses/{account.business}/campaigns", **params)
    return {"campaigns": [campaign async for page in found for campaign in page]}


@campaigns.action
@changes
async def create(account: Account, name: str, daily_budget: Cents) -> dict[str, Any]:
    """Create a paused campaign."""
    campaign = {"name": name, "daily_budget": daily_budget, "state": "paused"}
    path = f"/businesses/{account.business}/campaigns"
    return {"campaign": await ask(account, "POST", path, json=campaign)}


@campaigns.action
@changes
async def set_state(account: Account, campaign: CampaignId, state: State) -> dict[str, Any]:
    """Start or pause a campaign."""
    changed = await ask(account, "PATCH", f"/campaigns/{campaign}", json={"state": state})
    return {"campaign": changed}

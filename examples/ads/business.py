"""The blueprint of businesses."""

from typing import Any

from ads.vendor import Account, ask
from arbprov import Blueprint

business = Blueprint("business", prefix="business.")


@business.action
@business.rate_limit("60/minute", key="account.business")
async def info(account: Account) -> dict[str, Any]:
    """Return a business's name and currency."""
    found = await ask(account, "GET", f"/businesses/{account.business}")
    return {"name": found["name"], "currency": found["currency"]}

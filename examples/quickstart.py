"""A provider with three actions. Run it, hub included, with the tasks of a file:

arbprov dev examples/quickstart.py --tasks examples/quickstart.jsonl
"""

import asyncio
from typing import Any

import attrs

from arbprov import ProviderApp

app = ProviderApp("quickstart")


@attrs.frozen
class Line:
    article: str
    quantity: int
    price: float = 0.0


@app.action
def greet(name: str, greeting: str = "Hello") -> dict[str, Any]:
    """Greet a person."""
    return {"text": f"{greeting}, {name}!"}


@app.action
def total(lines: list[Line]) -> dict[str, Any]:
    """Add up an order."""
    return {"total": sum(line.quantity * line.price for line in lines)}


@app.action
@app.rate_limit("2/minute", key="account.api_key")
async def forecast(city: str, days: int = 3) -> dict[str, Any]:
    """Forecast for a city, from an API with a quota for each account."""
    await asyncio.sleep(0.01)
    return {"city": city, "days": days, "outlook": "sunny"}


if __name__ == "__main__":
    app.run()

"""A hub with a provider and tasks of all kinds, for people and browsers that look at its page."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import attrs

from arbprov import ProviderApp
from arbprov.localhub import LocalHub
from arbprov.localhub.reports import ActionReport, LimitReport, ProviderReport
from arbprov.localhub.submitting import make_task
from arbprov.testing import serving
from arbprov.wire.accounts import find_account_key
from support.waiting import wait_until

TOKEN = "a token for the page"
ACCOUNTS = [{"name": f"Acme {number}", "api_key": f"sk-{number}-hunter22"} for number in range(6)]

app = ProviderApp("weather")
broken = True


@attrs.frozen
class Line:
    """A line of an order."""

    article: str
    quantity: int
    price: float = 0.0


@app.action
def total(
    lines: list[Line],
    currency: Literal["EUR", "USD", "JPY"] = "EUR",
    express: bool = False,
    note: str | None = None,
) -> dict[str, Any]:
    """Add up an order, and convert it to a currency."""
    return {"total": sum(line.quantity * line.price for line in lines), "currency": currency}


@app.action
@app.rate_limit("5/minute", key="account.api_key")
def forecast(city: str, days: Annotated[int, "how many days"] = 3) -> dict[str, Any]:
    """Forecast for a city, from an API with a quota for each account."""
    return {"city": city, "days": days, "outlook": "sunny"}


@app.action
def sync_campaigns(since: str) -> dict[str, Any]:
    """Copy campaigns that changed since a day."""
    if broken:
        raise ConnectionError("the API closed the connection: 502 Bad Gateway")
    time.sleep(0.02)
    return {"copied": 3}


def describe_actions() -> tuple[ActionReport, ...]:
    """Return what a provider reports of the actions above."""
    return tuple(
        ActionReport(
            name=name,
            description=schemas["description"],
            payload_schema=schemas["payload"],
            account_schema=schemas["account"] if name == "forecast" else None,
            limits=("5/minute",) if name == "forecast" else (),
        )
        for name, schemas in app.schema().items()
    )


def report(hub: LocalHub, *limits: LimitReport, process: str = "web-1/4711") -> None:
    """Have the provider report its limits."""
    hub._reports.put(
        ProviderReport(
            provider="weather",
            process=process,
            version="0.1.0",
            slots=32,
            free_slots=25,
            actions=describe_actions(),
            limits=limits,
        )
    )
    hub._reports.note_poll("weather")


def make_limits(opens_in: float | None = 95.0) -> tuple[LimitReport, ...]:
    """Return limits of which one is used up."""
    keys = [find_account_key(make_task("a", account=account).account) for account in ACCOUNTS]
    closed = LimitReport(
        action="forecast",
        limit="5/minute",
        key="9f3c5a01d2e4",
        account_key=keys[0],
        total=5,
        left=0 if opens_in else 5,
        opens_in=opens_in,
        closed_by="the API answered 429 with Retry-After" if opens_in else "",
        waiting=2 if opens_in else 0,
    )
    others = [
        LimitReport(
            action="forecast", limit="5/minute", key=f"{number}c41e77ab", account_key=key,
            total=5, left=5 - number,
        )
        for number, key in enumerate(keys[1:], 1)
    ]  # fmt: skip
    return (closed, *others, LimitReport(action="", limit="1000/hour", total=1000, left=873))


@contextlib.contextmanager
def busy_hub(store: str = "memory", address: str = "127.0.0.1:0") -> Iterator[LocalHub]:
    """Run a hub with its page, and a provider with tasks that wait, run, failed and are done."""
    hub = LocalHub(
        hold=0.1, token=TOKEN, store=store, http=address, retries_limits=True, report_interval=0
    )
    with hub, serving(app, hub):
        report(hub, *make_limits())
        tickets = [
            hub.put("total", {"lines": [{"article": f"A-{n}", "quantity": n, "price": 2.5}]})
            for n in range(1, 30)
        ]
        tickets += [hub.put("sync_campaigns", {"since": f"2026-03-{n:02}"}) for n in range(1, 9)]
        tickets += [hub.put("total", {"lines": [{"article": 7}, {"quantity": "many"}]})]
        for number in range(40):
            hub.put("forecast", {"city": "Paris", "days": 3}, account=ACCOUNTS[number % 6])
        hub.put("archive", {"older_than": "2025-01-01"})
        hub.put("total", {"lines": []}, not_before=time.time() + 3600)
        for ticket in tickets:
            ticket.result(60)
        yield hub


def is_settled(hub: LocalHub) -> bool:
    """Tell whether a limit holds tasks back."""
    return bool(hub._run(lambda: hub._queue.store.held()))


if __name__ == "__main__":
    import sys

    with busy_hub(address=sys.argv[1]) as running:
        wait_until(lambda: is_settled(running))
        print(running.http_address, TOKEN, flush=True)
        while True:
            time.sleep(5)
            report(running, *make_limits())

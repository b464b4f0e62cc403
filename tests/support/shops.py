"""One provider, written as a class and as functions."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from arbprov import ProviderApp, TaskContext, compat
from arbprov.compat import Provider, ProviderResponse, TimeBasedRateLimitMonitor

ZONE = "Europe/Madrid"
QUOTE = {"item": str, "quantity": int, "discount": float | None}
ORDER = {"lines": [{"item": str, "quantity": int}], "due": datetime, "note": str | None}
PRICES = {"tea": 3.5}


class SoldOut(Exception):
    pass


def price_of(item: str, quantity: int) -> float:
    if item == "nothing":
        raise SoldOut(item)
    if not quantity:
        raise compat.InvalidPayloadError("quantity: is 0")
    return quantity * PRICES[item]


def ordered(payload: dict[str, Any], account: dict[str, Any]) -> ProviderResponse:
    data = {"due": payload["due"], "note": payload["note"], "keyed": "api_key" in account}
    if not payload["lines"]:
        return ProviderResponse("warning", message="Nothing was ordered", data=data)
    return ProviderResponse(status="success", data=data)


class ClassShop(Provider):
    def __init__(self) -> None:
        super().__init__(name="shop", auth_token="sample-token", timezone=ZONE)
        register = self.actions.register

        @register("quote", "Tell a price", QUOTE)
        def quote(item: str, quantity: int, discount: float = 0.0) -> Any:
            return {"price": price_of(item, quantity) * (1 - discount)}

        @register("order", "Take an order", ORDER, account_schema={"api_key": str})
        def order(payload: dict, account: dict) -> Any:
            return ordered(payload, account)

        @register("stamp", "Say when", {"of": str})
        def stamp(payload, account, provider, timezone, now, now_utc, logger) -> Any:
            logger.debug("stamping", of=payload["of"])
            found = [payload["of"], sorted(account), provider["name"], timezone, now, now_utc]
            return {"stamp": found}

        @register("everything", "Give back what has come")
        def everything(**kwargs) -> Any:
            return {"payload": kwargs["payload"], "account": kwargs["account"], "b": kwargs["b"]}

        @register("track", "Find a parcel", {"number": int}, None, TimeBasedRateLimitMonitor(60))
        def track(number: int) -> Any:
            return {"number": number}

        @register("weigh", "Return what JSON has no form for")
        def weigh() -> Any:
            return {"weight": float("nan")}

        @register("later", "Take a while", {"text": str})
        async def later(text: str) -> Any:
            return {"text": text}

    def handle_task_exception(self, e, action, payload, account):
        if isinstance(e, SoldOut):
            return ProviderResponse("warning", message=f"{action}: {e} is sold out", data=payload)
        return super().handle_task_exception(e, action, payload, account)


def function_shop() -> ProviderApp:
    app = ProviderApp("shop", timezone=ZONE)

    @app.action(payload_schema=QUOTE)
    def quote(item, quantity, discount=0.0):
        return {"price": price_of(item, quantity) * (1 - discount)}

    @app.action(payload_schema=ORDER, account_schema={"api_key": str})
    def order(payload, account):
        return ordered(payload, account)

    @app.action(payload_schema={"of": str})
    def stamp(of: str, account: dict, ctx: TaskContext):
        ctx.logger.debug("stamping")
        now = ctx.now.astimezone(ZoneInfo(ZONE)).isoformat()
        return {"stamp": [of, sorted(account), app.name, ZONE, now, ctx.now.isoformat()]}

    @app.action
    def everything(payload, account, b):
        return {"payload": payload, "account": account, "b": b}

    @app.action(rate_limit_monitor=TimeBasedRateLimitMonitor(60))
    def track(number: int):
        return {"number": number}

    @app.action
    def weigh():
        return {"weight": float("nan")}

    @app.action
    async def later(text: str):
        return {"text": text}

    @app.errorhandler(SoldOut)
    def sold_out(error, ctx: TaskContext):
        message = f"{ctx.action}: {error} is sold out"
        return ProviderResponse("warning", message=message, data=dict(ctx.payload))

    return app

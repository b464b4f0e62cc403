"""A weather connector: typed results from a typed API, a cache, and the quota of the API.

pip install httpx cachetools
arbprov dev examples/weather.py --tasks examples/weather.jsonl

The forecasts come from https://open-meteo.com, which needs no key and is free for non-commercial
use. Set WEATHER_URL to use another server with the same protocol.
"""

import os
from datetime import date
from typing import Annotated

import attrs
import httpx
from attrs.validators import and_, ge, le
from cachetools import TTLCache

from arbprov import ProviderApp, RateLimited, TaskContext, TaskError

WEATHER_URL = os.environ.get("WEATHER_URL", "https://api.open-meteo.com")
DAILY = "temperature_2m_min,temperature_2m_max,precipitation_sum"

app = ProviderApp("weather", execution_timeout=10)
api: httpx.AsyncClient


class WeatherError(TaskError):
    """There is no forecast; the text says why."""


@attrs.frozen
class Day:
    """Temperatures in °C, rain in mm; None is unknown."""

    day: date
    coldest: float | None
    warmest: float | None
    rain: float | None


@attrs.frozen
class Forecast:
    timezone: str
    days: list[Day]


Query = tuple[float, float, int]
# A forecast is fresh for ten minutes.
cache: TTLCache[Query, Forecast] = TTLCache(maxsize=10_000, ttl=600)


@app.on_startup
async def open_client() -> None:
    global api
    api = httpx.AsyncClient(base_url=WEATHER_URL, timeout=5)


@app.on_shutdown
async def close_client() -> None:
    await api.aclose()


@app.action
@app.rate_limit("600/minute; 5000/hour; 10000/day", name="open-meteo")
async def forecast(
    latitude: Annotated[float, and_(ge(-90), le(90))],
    longitude: Annotated[float, and_(ge(-180), le(180))],
    ctx: TaskContext,
    days: Annotated[int, and_(ge(1), le(14))] = 3,
) -> Forecast:
    """Forecast for a place, by days of its own time zone."""
    # A hundredth of a degree is about a kilometre, so neighbours share a cached forecast.
    query = (round(latitude, 2), round(longitude, 2), days)
    if (known := cache.get(query)) is not None:
        ctx.limits.refund()  # the API was not called
        return known
    cache[query] = fresh = await ask(*query)
    return fresh


async def ask(latitude: float, longitude: float, days: int) -> Forecast:
    try:
        response = await api.get(
            "/v1/forecast",
            params={
                "latitude": latitude,
                "longitude": longitude,
                "forecast_days": days,
                "timezone": "auto",
                "daily": DAILY,
            },
        )
    except httpx.TransportError as error:
        reason = type(error).__name__
        raise WeatherError(f"The weather service does not answer: {reason}") from error
    if response.status_code == httpx.codes.TOO_MANY_REQUESTS:
        raise RateLimited(60)  # the API does not say for how long
    if response.is_error:
        reason = f"{response.status_code} {response.text[:200]}"
        raise WeatherError(f"The weather service answered {reason}")
    answer = response.json()
    names = ["time", *DAILY.split(",")]
    rows = zip(*(answer["daily"][name] for name in names), strict=True)
    return Forecast(answer["timezone"], [Day(date.fromisoformat(day), *row) for day, *row in rows])


if __name__ == "__main__":
    app.run()

"""A stand-in for the vendor's API, for this example and its test: one business, in memory.

python -m ads.sample_api
"""

import json
from datetime import date, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

PAGE_SIZE = 2
Json = dict[str, Any]


class SampleApi(ThreadingHTTPServer):
    """Serves until `shutdown`.

    Attributes:
        requests: The method and the target of each request.
        throttled_for: Seconds; unless 0, each request is answered with a 429.
    """

    request_queue_size = 64

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.requests: list[str] = []
        self.throttled_for = 0
        self.campaigns: dict[str, Json] = {}
        for name, state in [("Spring", "paused"), ("Summer", "active"), ("Autumn", "active")]:
            self.create({"name": name, "daily_budget": 1000, "state": state})

    def create(self, campaign: Json) -> Json:
        number = f"c{len(self.campaigns) + 1}"
        return self.campaigns.setdefault(number, {"id": number, **campaign})

    def answer(self, method: str, path: str, params: dict[str, str], body: Json) -> Json:
        """Return the requested data, or raise a LookupError."""
        match [method, *path.strip("/").split("/")]:
            case ["GET", "businesses", "b1"]:
                return {"id": "b1", "name": "Sample Business", "currency": "EUR"}
            case ["GET", "businesses", "b1", "campaigns"]:
                return self.page(params.get("state"), int(params["after"] or 0))
            case ["POST", "businesses", "b1", "campaigns"]:
                return self.create(body)
            case ["PATCH", "campaigns", number] if number in self.campaigns:
                self.campaigns[number].update(body)
                return self.campaigns[number]
            case ["GET", "campaigns", number, "metrics"] if number in self.campaigns:
                return {"items": metrics(params["since"], params["until"])}
        raise LookupError(f"There is no {path}")

    def page(self, state: str | None, begin: int) -> Json:
        found = [one for one in self.campaigns.values() if state in (None, one["state"])]
        end = begin + PAGE_SIZE
        return {"items": found[begin:end], "next": str(end) if end < len(found) else ""}


def metrics(since: str, until: str) -> list[Json]:
    first = date.fromisoformat(since)
    count = (date.fromisoformat(until) - first).days + 1
    days = [(first + timedelta(number)).isoformat() for number in range(count)]
    return [{"day": day, "impressions": 1000, "clicks": 20, "cost": 450} for day in days]


class Handler(BaseHTTPRequestHandler):
    """Checks the token, and answers over HTTP."""

    protocol_version = "HTTP/1.1"
    server: SampleApi

    def handle_any(self) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers["Authorization"] != "Bearer sample-token":
            self.send(401, {"error": "The token is not valid"})
        elif self.server.throttled_for:
            self.send(429, {"error": "Too many requests"})
        else:
            url = urlsplit(self.path)
            params = dict(parse_qsl(url.query, keep_blank_values=True))
            try:
                found = self.server.answer(self.command, url.path, params, json.loads(body or "{}"))
                self.send(200, found)
            except LookupError as error:
                self.send(404, {"error": error.args[0]})

    do_GET = do_POST = do_PATCH = handle_any  # noqa: N815

    def send(self, status: int, answer: Json) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Retry-After", str(self.server.throttled_for))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


if __name__ == "__main__":
    SampleApi(8000).serve_forever()

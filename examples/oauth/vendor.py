"""A stand-in for an API with OAuth, for this example and its tests.

python -m oauth.vendor
"""

import json
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import attrs

# An access token is good for so many requests, and for so many seconds.
USES = 3
LIFETIME = 3600


@attrs.define
class Grant:
    """The tokens of an account: the newest ones are good."""

    refresh: str
    access: str = ""
    uses_left: int = 0
    is_revoked: bool = False


class Vendor(ThreadingHTTPServer):
    """Serves until `shutdown`.

    Args:
        port: Where to listen; 0 is any free port.
        uses: Requests that an access token is good for.
        pause: Seconds that a refresh takes.

    Attributes:
        refreshed: The accounts of all refreshes, in order.
        reused: The accounts whose refresh tokens were used twice.
        answered: How many requests had a good access token.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, port: int, uses: int = USES, pause: float = 0.0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.uses = uses
        self.pause = pause
        self.refreshed: list[str] = []
        self.reused: list[str] = []
        self.answered = 0
        self.grants: dict[str, Grant] = {}
        self._spent: dict[str, str] = {}
        self._lock = threading.Lock()

    def refresh(self, token: str) -> dict[str, Any] | None:
        """Return new tokens for a refresh token; None if it is not good."""
        time.sleep(self.pause)
        with self._lock:
            if account := self._spent.get(token):
                self.reused.append(account)
                self.grants[account].is_revoked = True
                return None
            if token.startswith("grant-"):
                account = token.replace("grant", "shop")
                self.grants.setdefault(account, Grant(token))
            found = [name for name, grant in self.grants.items() if grant.refresh == token]
            if not found or self.grants[found[0]].is_revoked:
                return None
            (account,) = found
            self._spent[token] = account
            self.refreshed.append(account)
            new = Grant(f"refresh-{secrets.token_hex(8)}", secrets.token_hex(8), self.uses)
            self.grants[account] = new
        return {"access_token": new.access, "refresh_token": new.refresh, "expires_in": LIFETIME}

    def accept(self, token: str) -> bool:
        """Return whether an access token is good, and count its use."""
        with self._lock:
            for grant in self.grants.values():
                if grant.access == token and grant.uses_left > 0 and not grant.is_revoked:
                    grant.uses_left -= 1
                    self.answered += 1
                    return True
        return False


class Handler(BaseHTTPRequestHandler):
    """Answers over HTTP."""

    server: Vendor
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.server.accept(token):
            self._answer(200, {"orders": [{"id": 1, "item": "tea"}]})
        else:
            self._answer(401, {"error": "invalid_token"})

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        tokens = self.server.refresh(form["refresh_token"][0])
        self._answer(200 if tokens else 400, tokens or {"error": "invalid_grant"})

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


if __name__ == "__main__":
    with Vendor(8000) as vendor:
        vendor.serve_forever()

"""A hub's queue with its HTTP API, in the event loop of a thread."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from html import unescape
from typing import Any
from urllib.parse import unquote, urlencode

import attrs

from arbprov.localhub.api.app import make_app
from arbprov.localhub.api.hub import ApiHub
from arbprov.localhub.api.server import ApiServer
from arbprov.localhub.page.app import make_page
from arbprov.localhub.page.routing import ApiOrPage
from arbprov.localhub.queue import QueueSettings, TaskQueue
from arbprov.localhub.stores.factory import make_store
from arbprov.localhub.submitting import read_result
from arbprov.localhub.tasks import StoredTask
from arbprov.localhub.tokens import Role, Tokens
from support.waiting import TIMEOUT

ADMIN = "admin-token"
SUCCESS = '{"message": "done", "data": {"response": {"rows": 1}}}'


@attrs.frozen
class Answer:
    """What the API answered."""

    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def html(self) -> str:
        return self.content.decode()

    @property
    def text(self) -> str:
        """What a page shows, without its tags; blanks are single."""
        shown = re.sub(r"<(script|template).*?</\1>|<[^>]*>", " ", self.html, flags=re.DOTALL)
        return " ".join(unescape(shown).split())

    @property
    def problems(self) -> list[str]:
        """Each problem as ``path: message``."""
        return [f"{p['path']}: {p['message']}" for p in self.json["problems"]]


@attrs.define(eq=False)
class RunningApi:
    """The API of a hub in a thread; to be used by `running_api`."""

    loop: asyncio.AbstractEventLoop
    queue: TaskQueue
    tokens: Tokens
    hub: ApiHub
    app: Any
    readers: str = ""
    cookie: str = ""

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine in the hub's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(TIMEOUT)

    async def bridged(self, scope: Any, receive: Any, send: Any) -> None:
        """The application for another event loop."""
        here = asyncio.get_running_loop()

        def there(function: Callable[..., Any]) -> Callable[..., Any]:
            return lambda *arguments: asyncio.wrap_future(
                asyncio.run_coroutine_threadsafe(function(*arguments), here)
            )

        work = self.app(scope, there(receive), there(send))
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self.loop))

    def ask(
        self,
        method: str,
        target: str,
        body: Any = None,
        *,
        chunks: Iterable[bytes] | None = None,
        token: str | None = ADMIN,
        **headers: str,
    ) -> Answer:
        """Send a request, without a network.

        Args:
            body: JSON data, or bytes as they are.
            chunks: The body in parts, in place of `body`.
            token: The token; None for none.
            headers: Headers, with ``_`` for ``-``; an empty one is left out.
        """
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        parts = [*chunks] if chunks is not None else [] if body is None else [raw]
        found = {"host": "127.0.0.1:50080"}
        if token is not None:
            found["authorization"] = f"Bearer {token}"
        if parts:
            found["content-type"] = "application/json"
        found |= {name.replace("_", "-"): value for name, value in headers.items()}
        pairs = [(name.encode(), value.encode()) for name, value in found.items() if value]
        return self.run(self.ask_raw(method, target, pairs, parts))

    async def ask_raw(
        self, method: str, target: str, headers: list[tuple[bytes, bytes]], parts: list[bytes]
    ) -> Answer:
        path, _, query = target.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": headers,
        }
        left = iter([*parts, b""])
        messages = []

        async def receive() -> dict[str, Any]:
            part = next(left, None)
            if part is None:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": part, "more_body": part != b""}

        async def send(message: dict[str, Any]) -> None:
            messages.append(message)

        await self.app(scope, receive, send)
        start, *rest = messages
        return Answer(
            start["status"],
            {name.decode(): value.decode() for name, value in start["headers"]},
            b"".join(part.get("body", b"") for part in rest),
        )

    def send_form(self, target: str, fields: Any, **headers: str) -> Answer:
        """Send a form, as a browser of this origin."""
        pairs = [*fields.items()] if isinstance(fields, dict) else fields
        headers = {"origin": "http://127.0.0.1:50080", **headers}
        form = "application/x-www-form-urlencoded"
        body = urlencode(pairs).encode()
        return self.ask("POST", target, body, **{"content_type": form, **headers})

    def submit(self, action: str = "forecast", **fields: Any) -> str:
        """Submit a task, and return its id."""
        answer = self.ask("POST", "/api/v1/tasks", {"action": action, **fields})
        assert answer.status == 201, answer
        return answer.json["id"]

    def take(self) -> str:
        """Take a task as a provider, and return its id."""
        delivery = self.run(self.queue.take("weather", renews=False))
        return delivery.id

    def record(self, id: str, status: str = "success", result: str = SUCCESS) -> None:
        """Record a task's result."""
        self.run(self.queue.record(read_result(id, status, result, provider="weather")))

    def finish(self, status: str = "success", result: str = SUCCESS) -> str:
        """Take a task, record its result, and return its id."""
        task_id = self.take()
        self.record(task_id, status, result)
        return task_id

    def stored(self, id: str) -> StoredTask:
        return self.run(self.queue.store.get(id))

    def all_tasks(self) -> list[dict[str, Any]]:
        return self.ask("GET", "/api/v1/tasks?limit=1000").json["tasks"]

    @contextlib.contextmanager
    def serving(self, address: str = "127.0.0.1:0", **options: Any) -> Iterator[str]:
        """Serve the API, and yield its URL."""
        server = ApiServer(self.queue, self.tokens, address, reports=self.hub.reports, **options)
        found = self.run(server.start())
        try:
            yield f"http://{found}"
        finally:
            self.run(server.stop())


@contextlib.contextmanager
def running_api(**options: Any) -> Iterator[RunningApi]:
    """Run a hub's API in a thread; the options are those of `make_app`."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def begin() -> RunningApi:
        queue = TaskQueue(make_store("memory"), QueueSettings(hold=0.05))
        await queue.start()
        tokens = Tokens(queue.store, lambda: ADMIN)
        hub = ApiHub(queue, tokens)
        app = ApiOrPage(make_app(hub, **options), make_page(hub, **options))
        return RunningApi(loop, queue, tokens, hub, app)

    async def end() -> None:
        hub.hub.stopping.set()
        await hub.queue.answer_held_calls()
        await hub.queue.stop()

    hub = asyncio.run_coroutine_threadsafe(begin(), loop).result(TIMEOUT)
    hub.readers = hub.run(hub.tokens.add("a reader", Role.READER))
    try:
        yield hub
    finally:
        hub.run(end())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(TIMEOUT)
        loop.close()

"""Requests of httpx and httpx2 that keep to a manual limit of the task that makes them."""

from __future__ import annotations

import asyncio
import contextvars
import importlib
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
from support.http_servers import Answer, HttpServer
from support.workers import task, work_off

from arbprov import ConfigurationError, ProviderApp, RateLimited, TaskContext
from arbprov.http import LimitedTransport

URL = "http://shop.test/prices"
PACKAGE = Path(__file__).parents[2] / "arbprov" / "http"


@pytest.fixture(params=["httpx", "httpx2"])
def library(request):
    """A library and its transport."""
    module = pytest.importorskip(request.param)
    transport = importlib.import_module(f"arbprov.http.{request.param}").LimitedTransport
    return SimpleNamespace(module=module, transport=transport)


@pytest.fixture(params=["plain", "async"])
def make(request, library):
    """Return a function that makes an app, whose ``work`` sends `calls` requests.

    It sends them by a client of one kind with the given answers, and returns their statuses.
    """

    def make(answers, limit="10/minute", timeout=60.0, transport=None, options={}, **declared):  # noqa: B006
        answers = iter(answers)
        responses = []

        def answer(sent):
            status, headers = next(answers)
            responses.append(library.module.Response(status, headers=headers, request=sent))
            return responses[-1]

        sends = library.transport(
            "vendor", transport or library.module.MockTransport(answer), **options
        )
        app = ProviderApp()

        def plain(calls: int = 1) -> list:
            with library.module.Client(transport=sends) as client:
                return [client.get(URL).status_code for _ in range(calls)]

        async def awaiting(calls: int = 1) -> list:
            async with library.module.AsyncClient(transport=sends) as client:
                return [(await client.get(URL)).status_code for _ in range(calls)]

        handler = plain if request.param == "plain" else awaiting
        app.action("work", timeout=timeout)(handler)
        app.rate_limit(limit, **{"name": "vendor", "manual": True} | declared)(handler)
        app.responses = responses
        return app

    return make


FINE = (200, {})


def test_each_request_is_charged(make):
    client = make([FINE] * 3).test_client()
    assert client.call("work", {"calls": 3}).data == [200, 200, 200]
    assert client.limits.headroom("work")[0].remaining == 7


def test_a_request_over_the_limit_is_not_sent(make):
    app = make([FINE] * 9, "2/minute")
    result = app.test_client().call("work", {"calls": 3})
    assert (result.status.value, result.wait_time, len(app.responses)) == ("limit", 60, 2)


@pytest.mark.parametrize(
    ("options", "declared"), [({"max_wait": 60}, {}), ({}, {"max_wait": 60})], ids=["its", "limit"]
)
def test_a_request_waits_for_the_limit(make, options, declared):
    client = make([FINE] * 3, "2/10s", options=options, **declared).test_client()
    assert client.call("work", {"calls": 3}).data == [200, 200, 200]
    assert client.clock.monotonic() == 10


def test_a_request_that_the_api_throttles_ends_the_task_as_limit(make):
    app = make([FINE, (429, {"Retry-After": "30"})])
    client = app.test_client()
    results = [client.call("work", {"calls": calls}) for calls in (3, 1)]
    assert [(result.status.value, result.wait_time) for result in results] == [("limit", 30)] * 2
    assert len(app.responses) == 2


def test_the_connection_of_a_throttled_request_is_given_back(make):
    app = make([(429, {})])
    app.test_client().call("work")
    assert app.responses[0].is_closed


def test_the_api_s_count_raises_the_limit_s(make):
    client = make([(200, {"X-Left": "3"})], options={"headers": {"remaining": "X-Left"}})
    client = client.test_client()
    client.call("work")
    assert client.limits.headroom("work")[0].remaining == 3


def test_a_redirect_counts_as_a_request(library):
    app = ProviderApp()

    def answer(request):
        to = {"Location": "/new"} if request.url.path == "/prices" else {}
        return library.module.Response(302 if to else 200, headers=to)

    sends = library.transport("vendor", library.module.MockTransport(answer))
    api = library.module.Client(transport=sends, follow_redirects=True)

    @app.action
    @app.rate_limit("10/minute", name="vendor", manual=True)
    def work():
        return api.get(URL).status_code

    client = app.test_client()
    assert client.call("work").data == 200
    assert client.limits.headroom("work")[0].remaining == 8


def test_tasks_of_a_worker_share_a_client_and_each_has_its_own_key(library):
    app, seen = ProviderApp(), []

    def answer(request):
        seen.append(request.url.path)
        throttled = request.url.path == "/a"
        return library.module.Response(429 if throttled else 200, headers={"Retry-After": "5"})

    sends = library.transport("vendor", library.module.MockTransport(answer))
    api = library.module.AsyncClient(base_url="http://shop.test", transport=sends)

    @app.action
    @app.rate_limit("10/minute", key="payload.who", name="vendor", manual=True)
    async def work(who: str):
        await api.get(f"/{who}")

    results = work_off(app, task(0, "a1", who="a"), task(1, "a2", who="a"), task(1, "b1", who="b"))
    assert results == [(0, "a1", "limit"), (1, "a2", "limit"), (1, "b1", "success")]
    assert seen == ["/a", "/b"]


def test_a_real_server_is_asked_by_the_default_transport(library):
    app = ProviderApp(execution_timeout=30)
    plain = library.module.Client(transport=library.transport("vendor"))

    @app.action
    @app.rate_limit("10/minute", name="vendor", manual=True)
    def work(url: str):
        return plain.get(url).json()

    @app.action
    @app.rate_limit("10/minute", name="vendor", manual=True)
    async def awaiting(url: str):
        async with library.module.AsyncClient(transport=library.transport("vendor")) as api:
            return (await api.get(url)).json()

    with HttpServer(lambda path: Answer(200, {"path": path})) as server:
        for action in ("work", "work", "awaiting"):
            result = app.invoke(action, {"url": f"{server.url}/tea"})
            assert result.data == {"path": "/tea"}
    plain.close()
    assert app.limits.headroom("work")[0].remaining == 7


# Where it may be used.


def error_of(function, *arguments):
    with pytest.raises(Exception) as raised:
        function(*arguments)
    return raised.value


def test_outside_of_a_task_it_says_what_to_do(library):
    api = library.module.Client(transport=library.transport("vendor"))
    error = error_of(api.get, URL)
    assert type(error) is RuntimeError
    assert str(error) == (
        "LimitedTransport('vendor'): no task whose action has a manual limit runs here; declare "
        '@app.rate_limit(..., name="vendor", manual=True) on the action, start a handler\'s own '
        "threads with contextvars.copy_context().run, and use another client for requests outside "
        "of tasks"
    )


def test_an_action_without_the_limit_is_an_error(make):
    message = make([FINE], name="other").test_client().call("work").message
    assert message == "this call has no manual limit 'vendor'; it has 'other'"


def test_a_plain_client_in_an_async_handler_is_an_error(library):
    app = ProviderApp()
    api = library.module.Client(transport=library.transport("vendor"))

    @app.action
    @app.rate_limit("10/minute", name="vendor", manual=True)
    async def work():
        api.get(URL)

    assert "would block the event loop" in app.test_client().call("work").message


def test_a_handler_s_own_thread_needs_a_copy_of_the_context():
    app = ProviderApp()
    sends = LimitedTransport("vendor", httpx.MockTransport(lambda request: httpx.Response(200)))
    api = httpx.Client(transport=sends)

    @app.action
    @app.rate_limit("10/minute", name="vendor", manual=True)
    def work():
        context, found = contextvars.copy_context(), []
        thread = threading.Thread(
            target=context.run, args=[lambda: found.append(api.get(URL).status_code)]
        )
        thread.start()
        thread.join()
        return found

    assert app.test_client().call("work").data == [200]


def one_sided(module):
    """Return the classes of a transport for plain requests only, and of one for async requests."""

    class PlainOnly(module.BaseTransport):
        closed = False

        def close(self):
            self.closed = True

    class AsyncOnly(module.AsyncBaseTransport):
        closed = False

        async def aclose(self):
            self.closed = True

    return PlainOnly, AsyncOnly


def test_a_client_of_the_other_kind_is_an_error(library):
    plain, asynchronous = one_sided(library.module)
    request = library.module.Request("GET", URL)
    error = error_of(library.transport("vendor", asynchronous()).handle_request, request)
    assert type(error) is TypeError
    assert "has to send plain requests by <" in str(error)
    sending = library.transport("vendor", plain()).handle_async_request(request)
    error = error_of(asyncio.run, sending)
    assert "has to send async requests by <" in str(error)


@pytest.mark.parametrize("kind", [0, 1], ids=["plain", "async"])
def test_the_transport_inside_is_closed_too(library, kind):
    inside = one_sided(library.module)[kind]()
    transport = library.transport("vendor", inside)
    transport.close()
    asyncio.run(transport.aclose())
    assert inside.closed


def test_a_transport_that_has_sent_nothing_is_closed(library):
    transport = library.transport("vendor")
    transport.close()
    asyncio.run(transport.aclose())


@pytest.mark.parametrize("limit", ["", None, 5])
def test_a_limit_needs_a_name(library, limit):
    error = error_of(library.transport, limit)
    assert type(error) is ConfigurationError
    assert str(error) == (
        f"LimitedTransport({limit!r}): give it the name of a limit, such as 'vendor'"
    )


def test_names_of_headers_that_say_nothing_are_refused_at_once(library):
    with pytest.raises(ConfigurationError, match=r"LimitedTransport\('vendor'\): headers=.*"):
        library.transport("vendor", headers={"left": "X-Left"})


# The package.


def test_both_libraries_have_the_same_transport():
    one, other = ((PACKAGE / f"{name}.py").read_text() for name in ("httpx", "httpx2"))
    one = one.replace("httpx", "httpx2")
    assert one.replace("from arbprov.http import", "from arbprov.http.httpx2 import") == other


def test_httpx_is_loaded_on_demand():
    code = "import sys, arbprov.http; assert 'httpx' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_without_httpx_the_error_names_the_extra(monkeypatch):
    import arbprov.http

    monkeypatch.delitem(sys.modules, "arbprov.http.httpx")
    monkeypatch.delattr(arbprov.http, "httpx", raising=False)
    monkeypatch.setitem(sys.modules, "httpx", None)
    error = error_of(lambda: arbprov.http.LimitedTransport)
    assert type(error) is ConfigurationError
    assert str(error) == (
        'LimitedTransport needs the package httpx: pip install "arbprov[http]"; for httpx2, import '
        "it from arbprov.http.httpx2"
    )


def test_a_broken_httpx_shows_its_own_error(monkeypatch):
    import arbprov.http

    monkeypatch.delitem(sys.modules, "arbprov.http.httpx")
    monkeypatch.delattr(arbprov.http, "httpx", raising=False)
    monkeypatch.setitem(sys.modules, "arbprov.http.limiting", None)
    error = error_of(lambda: arbprov.http.LimitedTransport)
    assert type(error) is ModuleNotFoundError


def test_the_package_has_nothing_else():
    import arbprov.http

    with pytest.raises(AttributeError, match="has no attribute 'Limited'"):
        _ = arbprov.http.Limited


def test_a_handler_may_catch_the_refusal():
    app = ProviderApp()
    throttled = httpx.MockTransport(lambda request: httpx.Response(429))
    api = httpx.Client(transport=LimitedTransport("vendor", throttled))

    @app.action
    @app.rate_limit("10/minute", name="vendor", manual=True)
    def work(ctx: TaskContext):
        try:
            api.get(URL)
        except RateLimited as error:
            return [error.limit, error.retry_after]

    assert app.test_client().call("work").data == ["vendor", 60]

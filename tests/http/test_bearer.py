"""The token of an account goes with each request, and a 401 refreshes it once."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import subprocess
import sys

import pytest
from support.waiting import TIMEOUT

from arbprov import ConfigurationError, ProviderApp, TaskContext
from arbprov.http import Token, TokenCache

LIBRARIES = ["httpx", "httpx2"]


@pytest.fixture(params=LIBRARIES)
def library(request):
    return pytest.importorskip(request.param)


class Api:
    """Accepts a token, and notes the requests' tokens and bodies."""

    def __init__(self, library, good):
        self.library = library
        self.good = good
        self.seen = []
        self.bodies = []
        self.refreshed = []
        self.tokens = TokenCache(self.refresh)

    def refresh(self, account, old):
        self.refreshed.append((account, old))
        return Token(f"token-{len(self.refreshed)}")

    def transport(self):
        """Return a transport that reads a body as a network does, without keeping it."""
        api = self

        class Transport(self.library.BaseTransport, self.library.AsyncBaseTransport):
            def handle_request(self, request):
                api.bodies.append(b"".join(request.stream))
                return api.answer(request)

            async def handle_async_request(self, request):
                api.bodies.append(b"".join([part async for part in request.stream]))
                return api.answer(request)

        return Transport()

    def answer(self, request):
        token = request.headers["Authorization"].removeprefix("Bearer ")
        self.seen.append(token)
        return self.library.Response(200 if token in self.good else 401)

    def request(self, is_async, **options):
        auth = getattr(self.tokens, f"{self.library.__name__}_auth")("ada")

        async def send():
            async with self.library.AsyncClient(transport=self.transport(), auth=auth) as client:
                return await client.post("https://example.com", **options)

        if is_async:
            return asyncio.run(send())
        with self.library.Client(transport=self.transport(), auth=auth) as client:
            return client.post("https://example.com", **options)


both_kinds = pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])


@both_kinds
def test_a_request_has_the_account_s_token(library, is_async):
    api = Api(library, {"token-1"})
    assert [api.request(is_async).status_code for _ in range(2)] == [200, 200]
    assert (api.seen, api.refreshed) == (["token-1"] * 2, [("ada", None)])


@both_kinds
def test_a_401_refreshes_the_token_and_the_request_is_sent_again(library, is_async):
    api = Api(library, {"token-2"})
    response = api.request(is_async, content=b"an order")
    assert (response.status_code, api.seen) == (200, ["token-1", "token-2"])
    assert api.bodies == [b"an order"] * 2
    assert api.refreshed == [("ada", None), ("ada", "token-1")]


@both_kinds
def test_a_second_401_is_the_answer(library, is_async):
    api = Api(library, ())
    assert api.request(is_async).status_code == 401
    assert api.seen == ["token-1", "token-2"]


@both_kinds
def test_a_body_that_can_be_read_once_is_sent_once(library, is_async):
    api = Api(library, {"token-2"})

    def plain():
        yield b"an order"

    async def asynchronous():
        yield b"an order"

    response = api.request(is_async, content=asynchronous() if is_async else plain())
    assert (response.status_code, api.seen) == (401, ["token-1"])
    # The next request has a new token.
    assert api.request(is_async).status_code == 200


def test_a_file_is_sent_once(library, tmp_path):
    api = Api(library, {"token-2"})
    (tmp_path / "order.txt").write_text("an order")
    with (tmp_path / "order.txt").open("rb") as file:
        assert api.request(False, files={"order": file}).status_code == 401


@both_kinds
def test_no_token_is_in_the_repr(library, is_async):
    api = Api(library, {"token-1"})
    response = api.request(is_async)
    auth = getattr(api.tokens, f"{library.__name__}_auth")("account-secret")
    shown = repr([auth, response, response.request, response.request.headers])
    assert ("token-1" in shown, "account-secret" in shown) == (False, False)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("httpx", 'httpx_auth() needs the package httpx: pip install "arbprov[http]"'),
        ("httpx2", "httpx2_auth() needs the package httpx2: pip install httpx2"),
    ],
)
def test_a_missing_library_is_named(monkeypatch, name, advice):
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, f"arbprov.http.{name}_auth", raising=False)
    tokens = TokenCache(lambda account, old: Token("token"))
    with pytest.raises(ConfigurationError) as caught:
        getattr(tokens, f"{name}_auth")("ada")
    assert str(caught.value) == advice


def test_tokens_need_none_of_the_libraries():
    code = """
import sys
from arbprov.http import Token, TokenCache
assert TokenCache(lambda account, old: Token("token")).get("ada") == "token"
loaded = {"httpx", "httpx2", "redis", "grpc", "click"} & set(sys.modules)
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_module_of_a_library_is_importable(library):
    module = importlib.import_module(f"arbprov.http.{library.__name__}_auth")
    assert issubclass(module.TokenAuth, library.Auth)


def test_requests_and_refreshes_of_a_handler_are_within_its_limit(library):
    """The client of the handlers refreshes the token too."""
    app = ProviderApp("shop", execution_timeout=TIMEOUT)
    limited = importlib.import_module(f"arbprov.http.{library.__name__}").LimitedTransport

    def vendor(request):
        if request.url.path == "/token":
            return library.Response(200, json={"token": f"token-{len(asked) + 1}"})
        return library.Response(200 if request.headers["Authorization"] in good else 401)

    asked, good = [], {"Bearer token-2"}

    @app.lifespan
    @contextlib.asynccontextmanager
    async def connect():
        async def refresh(account, old):
            answer = await client.post("/token")
            asked.append(old)
            return Token(answer.json()["token"])

        transport = limited("vendor", library.MockTransport(vendor))
        async with library.AsyncClient(
            base_url="http://vendor.test", transport=transport
        ) as client:
            yield client, TokenCache(refresh)

    @app.action
    @app.rate_limit("100/minute", name="vendor", manual=True)
    async def orders(ctx: TaskContext, account: dict):
        client, tokens = ctx.state
        auth = getattr(tokens, f"{library.__name__}_auth")(account)
        return (await client.get("/orders", auth=auth)).status_code

    with app.test_client() as client:
        assert client.call("orders", account={"id": 1}).data == 200
        # Two requests of orders, and two of tokens.
        assert client.limits.headroom("orders")[0].remaining == 96
    assert asked == [None, "token-1"]

"""Another origin can do nothing, a reader's token changes nothing, and sizes are bounded."""

from __future__ import annotations

import re
from unittest.mock import Mock

import pytest
from support.api_hubs import ADMIN, Answer, running_api

from arbprov.localhub.api.operations import list_operations
from arbprov.localhub.api.parsing import MAX_BODY
from arbprov.localhub.api.security import host_name

# Each method and path, with a body that would change something.
PARTS = {"id": "t1", "kind": "action", "name": "a reader"}
BODIES = {
    "/api/v1/tasks": {"action": "forecast"},
    "/api/v1/tasks/retry": {"filter": {}, "expect": 10},
    "/api/v1/tasks/cancel": {"filter": {}, "expect": 10},
    "/api/v1/pauses": {"kind": "action", "name": "forecast"},
    "/api/v1/tokens": {"name": "mine", "role": "admin"},
}
REQUESTS = [
    (operation.method, re.sub(r"{(\w+)}", lambda match: PARTS[match[1]], operation.path))
    for operation in list_operations(Mock())
]
REQUESTS += [("GET", "/openapi.json"), ("OPTIONS", "/api/v1/tasks"), ("PUT", "/api/v1/tasks")]
CHANGES = [request for request in REQUESTS if request[0] not in ("GET", "HEAD")]


@pytest.fixture(scope="module")
def guarded():
    """An API with a task that has failed, a waiting one, and the pause of an action."""
    with running_api() as api:
        api.submit("report", id="t1")
        api.finish("error")
        api.submit("report", id="t2")
        api.ask("POST", "/api/v1/pauses", {"kind": "action", "name": "a reader"})
        yield api


def everything(api):
    """All that a request could change."""
    paths = ("tasks", "pauses", "tokens", "limits")
    return [api.ask("GET", f"/api/v1/{path}").content for path in paths]


def ask(api, request, **headers):
    method, path = request
    return api.ask(method, path, BODIES.get(path) if method == "POST" else None, **headers)


FOREIGN = [
    {"host": "evil.example"},
    {"host": "evil.example:50080"},
    {"host": "127.0.0.1.evil.example"},
    {"host": ""},
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"origin": "http://127.0.0.1:8080"},
    {"origin": "http://localhost:50080"},
    {"sec_fetch_site": "cross-site"},
    {"sec_fetch_site": "same-site"},
    {"sec_fetch_site": "new-word"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
@pytest.mark.parametrize("request_", REQUESTS, ids=" ".join)
def test_another_origin_can_do_nothing_even_with_a_token(guarded, request_, headers):
    before = everything(guarded)
    answer = ask(guarded, request_, **headers)
    assert answer.status == 403
    assert not any("access-control" in name.lower() for name in answer.headers)
    assert everything(guarded) == before


@pytest.mark.parametrize("request_", CHANGES, ids=" ".join)
def test_a_readers_token_changes_nothing(guarded, request_):
    before = everything(guarded)
    answer = ask(guarded, request_, token=guarded.readers)
    assert (answer.status, answer.json["detail"]) == (
        403,
        "this token may only read; use a token with the role admin",
    )
    assert everything(guarded) == before


@pytest.mark.parametrize("path", ["tasks", "tasks/t1", "counts", "limits", "pauses", "tokens"])
def test_a_readers_token_reads(guarded, path):
    assert guarded.ask("GET", f"/api/v1/{path}", token=guarded.readers).status == 200
    assert guarded.ask("HEAD", f"/api/v1/{path}", token=guarded.readers).status == 200


PROTECTED = [request for request in REQUESTS if request[1].startswith("/api/")]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": "Bearer"},
        {"authorization": "Bearer  "},
        {"authorization": f"Basic {ADMIN}"},
        {"authorization": ADMIN},
        {"authorization": "Bearer ü\u0080"},
        {"cookie": f"token={ADMIN}"},
    ],
    ids=str,
)
@pytest.mark.parametrize("request_", PROTECTED, ids=" ".join)
def test_nothing_is_done_without_a_token(guarded, request_, headers):
    before = everything(guarded)
    answer = ask(guarded, request_, token=None, **headers)
    assert (answer.status, answer.headers["www-authenticate"]) == (
        401,
        'Bearer realm="arbprov hub"',
    )
    assert everything(guarded) == before


def test_a_token_in_the_address_is_not_taken(guarded):
    assert guarded.ask("GET", f"/api/v1/counts?token={ADMIN}", token=None).status == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "localhost"},
        {"host": "LOCALHOST:1"},
        {"host": "[::1]:50080"},
        {"origin": "http://127.0.0.1:50080"},
        {"host": "LocalHost:5", "origin": "http://localhost:5"},
        {"sec_fetch_site": "same-origin"},
        {"sec_fetch_site": "none"},
        {"authorization": f"bearer {ADMIN}"},
    ],
    ids=str,
)
def test_this_origin_and_this_machine_are_fine(guarded, headers):
    assert guarded.ask("GET", "/api/v1/counts", **headers).status == 200


def test_an_operator_can_allow_other_names():
    with running_api(allowed_hosts=["Hub.example"]) as api:
        assert api.ask("GET", "/api/v1/counts", host="hub.example:443").status == 200
        assert api.ask("GET", "/api/v1/counts", host="other.example").status == 403


@pytest.mark.parametrize(
    "name", [b"host", b"origin", b"authorization", b"sec-fetch-site", b"content-length"]
)
def test_a_header_that_is_there_twice_is_refused(guarded, name):
    value = {
        b"host": b"localhost",
        b"origin": b"http://localhost",
        b"sec-fetch-site": b"none",
        b"content-length": b"0",
    }
    headers = {b"host": b"localhost", b"authorization": f"Bearer {ADMIN}".encode()}
    pairs = [*headers.items(), (name, value.get(name, headers.get(name)))]
    pairs += [] if name in headers else [pairs[-1]]
    answer = guarded.run(guarded.ask_raw("GET", "/api/v1/counts", pairs, []))
    assert (answer.status, answer.json["detail"]) == (
        400,
        f"the header {name.decode()} is there twice",
    )


def test_a_header_that_is_not_utf_8_is_read(guarded):
    pairs = [(b"host", b"localhost"), (b"authorization", b"Bearer \xff")]
    assert guarded.run(guarded.ask_raw("GET", "/api/v1/counts", pairs, [])).status == 401


@pytest.mark.parametrize("path", ["/healthz", "/api/v1/counts", "/api/v1/nothing"])
def test_every_answer_is_protected_against_pages(guarded, path):
    headers = guarded.ask("GET", path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["cache-control"] == "no-store"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]


@pytest.mark.parametrize(
    ("host", "name"),
    [("[::1]", "[::1]"), ("a:b", "a:b"), ("a:", "a:"), ("a:\u0661", "a:\u0661")],
)
def test_the_name_in_a_host_header(host, name):
    assert host_name(host) == name


# Sizes.


class Chunks:
    """Parts of a body, and how many of them were read."""

    def __init__(self, count, size=2**20):
        self.count, self.size, self.read = count, size, 0

    def __iter__(self):
        for _ in range(self.count):
            self.read += 1
            yield b" " * self.size


AUTHORIZED = [(b"authorization", f"Bearer {ADMIN}".encode())]


def test_a_body_that_gets_too_large_is_refused_while_it_is_read(guarded):
    chunks = Chunks(1_000)
    answer = guarded.run(ask_streaming(guarded, AUTHORIZED, chunks))
    assert answer.status == 413
    assert answer.json["detail"] == "the body is larger than 64 MiB; send fewer tasks in a request"
    assert chunks.read <= MAX_BODY // 2**20 + 1


def test_a_body_is_not_read_without_a_token(guarded):
    chunks = Chunks(10)
    assert guarded.run(ask_streaming(guarded, [], chunks)).status == 401
    assert chunks.read == 0


@pytest.mark.parametrize("length", [str(MAX_BODY + 1), "9" * 5_000])
def test_a_body_that_says_to_be_too_large_is_not_read(guarded, length):
    chunks = Chunks(10)
    headers = [*AUTHORIZED, (b"content-length", length.encode())]
    assert guarded.run(ask_streaming(guarded, headers, chunks)).status == 413
    assert chunks.read == 0


@pytest.mark.parametrize("length", ["-1", "5x", "", "\u0661"])
def test_a_length_that_is_not_a_number_is_refused(guarded, length):
    headers = [*AUTHORIZED, (b"content-length", length.encode())]
    assert guarded.run(ask_streaming(guarded, headers, Chunks(0))).status == 400


def test_a_client_that_goes_away_while_it_sends_adds_nothing(guarded):
    before = everything(guarded)

    async def go_away():
        return {"type": "http.disconnect"}

    answer = guarded.run(ask_streaming(guarded, AUTHORIZED, Chunks(0), go_away))
    assert answer.status == 400
    assert everything(guarded) == before


async def ask_streaming(api, headers, chunks, receive=None):
    """Send a task whose body is read part by part."""
    parts = iter(chunks)
    messages = []

    async def receive_part():
        part = next(parts, None)
        return {"type": "http.request", "body": part or b"", "more_body": part is not None}

    async def send(message):
        messages.append(message)

    path = "/api/v1/tasks"
    pairs = [(b"host", b"localhost"), (b"content-type", b"application/json"), *headers]
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": pairs,
        "scheme": "http",
    }
    await api.app(scope, receive or receive_part, send)
    start, *rest = messages
    return Answer(start["status"], {}, b"".join(part.get("body", b"") for part in rest))

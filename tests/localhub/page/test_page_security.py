"""Another site can do nothing by a browser, and a reader's token changes nothing."""

from __future__ import annotations

from unittest.mock import Mock

import pytest
from starlette.requests import ClientDisconnect
from support.api_hubs import ADMIN, running_api

from arbprov.errors import HubError
from arbprov.localhub.page import pause_forms
from arbprov.localhub.page.app import _routes

ROUTES = [
    (method, path.format(id="t1", name="forecast", verb="retry"))
    for method, path, _ in _routes(Mock(), Mock())
]
VIEWS = [
    path
    for method, path in ROUTES
    if method == "GET" and not path.startswith(("/static", "/sign-in", "/events"))
]
FORMS = [path for method, path in ROUTES if method == "POST" and path != "/sign-in"]
CHANGES = [path for path in FORMS if path != "/sign-out"]
FIELDS = {"kind": "action", "name": "forecast", "expect": "9", "payload_text": "{}", "id": "t1"}


@pytest.fixture(scope="module")
def guarded():
    """A hub with a task that has failed, and a browser that is signed in."""
    with running_api() as api:
        api.submit("report", id="t1")
        api.finish("error")
        api.hub.reports.note_poll("weather")
        answer = api.send_form("/sign-in", {"token": ADMIN}, authorization="")
        api.cookie = answer.headers["set-cookie"].partition(";")[0]
        yield api


def everything(api):
    paths = ("tasks", "pauses", "limits")
    return [api.ask("GET", f"/api/v1/{path}").content for path in paths]


FOREIGN = [
    {"host": "evil.example", "origin": ""},
    {"origin": "https://evil.example"},
    {"origin": "null"},
    # A page of another server of this machine gets the cookie, which knows no ports.
    {"origin": "http://127.0.0.1:8080"},
    {"origin": "http://127.0.0.1:8080", "sec_fetch_site": "same-site"},
    {"origin": "", "sec_fetch_site": "cross-site"},
    {"origin": "", "sec_fetch_site": "same-site"},
    # An old browser that says nothing.
    {"origin": ""},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
@pytest.mark.parametrize("path", FORMS)
def test_a_form_of_another_page_changes_nothing(guarded, path, headers):
    before = everything(guarded)
    headers = {"cookie": guarded.cookie, "authorization": "", **headers}
    assert guarded.send_form(path, FIELDS, **headers).status == 403
    assert everything(guarded) == before


@pytest.mark.parametrize("path", CHANGES)
def test_a_readers_token_changes_nothing_by_a_form(guarded, path):
    before = everything(guarded)
    answer = guarded.send_form(path, FIELDS, authorization=f"Bearer {guarded.readers}")
    assert answer.status == 403
    assert "may only read" in answer.text
    assert everything(guarded) == before


@pytest.mark.parametrize("path", CHANGES)
def test_a_form_without_a_token_changes_nothing(guarded, path):
    before = everything(guarded)
    assert guarded.send_form(path, FIELDS, authorization="").status == 303
    assert everything(guarded) == before


@pytest.mark.parametrize("path", VIEWS)
def test_no_view_is_shown_without_a_token(guarded, path):
    answer = guarded.ask("GET", path, token=None)
    assert (answer.status, answer.content) == (303, b"")


@pytest.mark.parametrize("path", VIEWS)
def test_a_view_that_another_page_asks_for_is_not_shown(guarded, path):
    headers = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors"}
    answer = guarded.ask("GET", path, cookie=guarded.cookie, **headers)
    assert answer.status == 403


@pytest.mark.parametrize("path", VIEWS)
def test_a_link_elsewhere_opens_the_view_by_one_more_step(guarded, path):
    headers = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"}
    answer = guarded.ask("GET", path, token=None, sec_fetch_dest="document", **headers)
    assert answer.status == 200
    assert '<meta http-equiv="refresh" content="0">' in answer.html
    assert "t1" not in answer.html


@pytest.mark.parametrize("path", [*VIEWS, "/sign-in", "/nothing"])
def test_each_page_forbids_inline_scripts_and_other_hosts(guarded, path):
    answer = guarded.ask("GET", path)
    assert answer.headers["content-security-policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    assert answer.headers["cache-control"] == "no-store"
    assert "style=" not in answer.html
    assert "<style" not in answer.html
    assert "onclick" not in answer.html
    assert "hx-on" not in answer.html
    assert "http://" not in answer.html.replace("http://127.0.0.1:50080", "")
    assert "https://" not in answer.html


@pytest.mark.parametrize(
    "path", ["/tasks?action=report", "/tasks/t1", "/actions/report", "/providers"]
)
def test_a_reader_sees_no_button_that_changes_something(guarded, path):
    pages = [guarded.ask("GET", path, token=token) for token in (ADMIN, guarded.readers)]
    assert [page.status for page in pages] == [200, 200]
    sign_out = '<form method="post" action="/sign-out">'
    forms = [page.html.replace(sign_out, "") for page in pages]
    assert ['method="post"' in form for form in forms] == [True, False]
    assert "hx-post" not in forms[1]
    assert "read only" in pages[1].text


def test_a_reader_may_sign_out(guarded):
    answer = guarded.send_form("/sign-out", {}, authorization=f"Bearer {guarded.readers}")
    assert answer.status == 303


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/nothing", 404),
        ("/tasks/unknown", 404),
        ("/tasks/a%00b", 404),
        ("/tasks/%ff", 422),
        ("/matching/remove", 404),
        ("/static/nothing.js", 404),
        ("/static/VENDORED.txt", 404),
        ("/actions/forecast?from=unknown", 404),
        ("/actions/forecast/outcome?task=unknown", 404),
        ("/tasks?state=odd", 422),
        ("/tasks?cursor=odd", 422),
        ("/tasks?unknown=1", 422),
    ],
)
def test_an_unknown_address_is_refused_in_words(guarded, path, status):
    answer = guarded.ask("GET", path)
    assert answer.status == status
    assert "arbprov hub" in answer.html or "static" in path


def test_another_method_is_refused_in_words(guarded):
    answer = guarded.ask("PUT", "/tasks")
    assert answer.status == 405
    assert "other methods" in answer.text


def test_a_refusal_of_a_part_of_a_page_is_a_notice(guarded):
    answer = guarded.ask("GET", "/tasks/unknown", hx_request="true")
    assert answer.html.startswith('<p class="done bad">')


@pytest.mark.parametrize("content_type", ["application/json", "text/plain"])
def test_a_body_that_is_not_a_form_is_refused(guarded, content_type):
    answer = guarded.send_form("/pauses", FIELDS, content_type=content_type)
    assert answer.status == 415


def test_a_form_that_is_not_utf_8_is_refused(guarded):
    body, form = b"kind=%ff", "application/x-www-form-urlencoded"
    assert guarded.ask("POST", "/pauses", body, content_type=form).status == 422


def test_a_form_of_very_many_fields_is_refused(guarded):
    answer = guarded.send_form("/actions/forecast", [("a", "1")] * 10_001)
    assert answer.status == 422


def test_a_large_form_is_refused_by_its_header(guarded):
    answer = guarded.send_form("/pauses", FIELDS, content_length=str(2**40))
    assert answer.status == 413


def test_a_store_that_cannot_be_used_is_said(guarded, monkeypatch):
    async def fail():
        raise HubError("the disk is full")

    monkeypatch.setattr(guarded.queue.store, "counts", fail)
    answer = guarded.ask("GET", "/tasks")
    assert answer.status == 503
    assert "The hub can't do this now: the disk is full" in answer.text


def test_a_browser_that_goes_away_gets_nothing(guarded, monkeypatch):
    async def leave(request, max_size=0):
        raise ClientDisconnect

    monkeypatch.setattr(pause_forms, "read_form", leave)
    assert guarded.send_form("/pauses", FIELDS).content == b""


def test_an_error_of_the_hub_is_logged_and_shown(guarded, monkeypatch, caplog):
    async def fail():
        raise RuntimeError("an error of the hub")

    monkeypatch.setattr(guarded.queue.store, "counts", fail)
    answer = guarded.ask("GET", "/tasks")
    assert answer.status == 500
    assert "its log says how" in answer.text
    assert "an error of the hub" in caplog.text


def test_scripts_and_styles_need_no_token_and_are_kept_by_the_browser(guarded):
    answer = guarded.ask("GET", "/static/page.css", token=None)
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/css; charset=utf-8"
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"


def test_the_start_is_the_list_of_tasks(guarded):
    assert guarded.ask("GET", "/").headers["location"] == "/tasks"

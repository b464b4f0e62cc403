"""A browser signs in with a token by a form, and is signed in until it signs out."""

from __future__ import annotations

import re

import pytest
from support.api_hubs import ADMIN

from arbprov.errors import HubError
from arbprov.localhub.page.sessions import Sessions


def sign_in(api, token=ADMIN, **fields):
    return api.send_form("/sign-in", {"token": token, **fields}, authorization="")


def cookie_of(answer):
    return answer.headers["set-cookie"].partition(";")[0]


def test_a_browser_that_is_not_signed_in_is_sent_to_the_form(api):
    answer = api.ask("GET", "/tasks?state=done", token=None)
    assert answer.status == 303
    assert answer.headers["location"] == "/sign-in?next=%2Ftasks%3Fstate%3Ddone"


def test_the_form_asks_for_the_token_and_keeps_where_to_go(api):
    answer = api.ask("GET", "/sign-in?next=%2Flimits", token=None)
    assert answer.status == 200
    assert 'name="next" value="/limits"' in answer.html


def test_a_link_elsewhere_opens_the_form_at_once(api):
    headers = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"}
    answer = api.ask("GET", "/sign-in", token=None, sec_fetch_dest="document", **headers)
    assert answer.status == 200
    assert 'name="token"' in answer.html
    answer = api.ask("POST", "/sign-in", token=None, sec_fetch_dest="document", **headers)
    assert answer.status == 403


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example", "/\\evil.example"])
def test_the_form_never_leads_to_another_site(api, target):
    answer = sign_in(api, next=target)
    assert (answer.status, answer.headers["location"]) == (303, "/tasks")


def test_a_right_token_gives_a_cookie_that_scripts_and_other_sites_cannot_use(api):
    answer = sign_in(api, next="/limits")
    assert (answer.status, answer.headers["location"]) == (303, "/limits")
    assert re.fullmatch(
        r"arbprov-hub-50080=[\w-]{32}; HttpOnly; Path=/; SameSite=strict",
        answer.headers["set-cookie"],
    )
    assert ADMIN not in answer.headers["set-cookie"]


@pytest.mark.parametrize("token", ["wrong", "", "  "])
def test_a_wrong_token_is_refused_in_words(api, token):
    answer = sign_in(api, token)
    assert answer.status == 403
    assert "This token is not known" in answer.text
    assert "set-cookie" not in answer.headers


def test_a_cookie_shows_the_page(api):
    cookie = cookie_of(sign_in(api))
    assert api.ask("GET", "/tasks", token=None, cookie=cookie).status == 200


def test_a_cookie_allows_what_its_token_does(api):
    cookie = cookie_of(sign_in(api, api.readers))
    form = {"kind": "action", "name": "forecast"}
    answer = api.send_form("/pauses", form, authorization="", cookie=cookie)
    assert answer.status == 403
    assert "may only read" in answer.text


def test_a_cookie_ends_with_its_token(api):
    from arbprov.localhub.tokens import Role

    token = api.run(api.tokens.add("mine", Role.READER))
    cookie = cookie_of(sign_in(api, token))
    api.run(api.tokens.remove("mine"))
    assert api.ask("GET", "/tasks", token=None, cookie=cookie).status == 303


def test_signing_out_ends_the_cookie(api):
    cookie = cookie_of(sign_in(api))
    answer = api.send_form("/sign-out", {}, authorization="", cookie=cookie)
    assert (answer.status, answer.headers["location"]) == (303, "/sign-in")
    assert 'arbprov-hub-50080=""' in answer.headers["set-cookie"]
    assert api.ask("GET", "/tasks", token=None, cookie=cookie).status == 303


def test_signing_out_without_a_cookie_is_fine(api):
    assert api.send_form("/sign-out", {}).status == 303


@pytest.mark.parametrize("cookie", ["arbprov-hub-50080=unknown", "a[]=1; =; ;;", "x\x01y"])
def test_an_unknown_or_broken_cookie_is_as_good_as_none(api, cookie):
    assert api.ask("GET", "/tasks", token=None, cookie=cookie).status == 303


def test_the_hub_on_another_port_has_a_cookie_of_its_own(api):
    answer = api.send_form(
        "/sign-in", {"token": ADMIN}, host="localhost", origin="http://localhost"
    )
    assert answer.headers["set-cookie"].startswith("arbprov-hub=")


def test_a_part_of_a_page_has_the_browser_sign_in(api):
    answer = api.ask("GET", "/actions/a/outcome?task=t", token=None, hx_request="true")
    assert (answer.status, answer.headers["hx-redirect"]) == (401, "/sign-in")


def test_a_stream_of_events_is_not_sent_to_the_form(api):
    answer = api.ask("GET", "/events", token=None, sec_fetch_dest="empty")
    assert answer.status == 401


def test_a_form_of_a_browser_that_was_signed_out_leads_to_the_start(api):
    answer = api.send_form("/tasks/t1/retry", {}, authorization="")
    assert (answer.status, answer.headers["location"]) == (303, "/sign-in")


def test_a_large_form_is_refused_before_anybody_is_signed_in(api):
    assert sign_in(api, "x" * 20_000).status == 413


def test_a_store_that_cannot_be_used_is_said_on_the_page(api, monkeypatch):
    async def find_role(token):
        raise HubError("the disk is full")

    monkeypatch.setattr(api.app._page, "_find_role", find_role)
    answer = api.ask("GET", "/tasks")
    assert answer.status == 503
    assert "the disk is full" in answer.text


# Sessions.


def test_a_session_ends_after_twelve_hours_without_a_request():
    now = 0.0
    sessions = Sessions(clock=lambda: now)
    name = sessions.begin("a token")
    now = 11 * 3600.0
    assert sessions.find(name) == "a token"
    now += 11 * 3600.0
    assert sessions.find(name) == "a token"
    now += 12 * 3600.0
    assert sessions.find(name) is None


def test_of_very_many_sessions_the_one_that_was_used_longest_ago_ends():
    sessions = Sessions()
    first, second = sessions.begin("first"), sessions.begin("second")
    sessions.find(first)
    for _ in range(999):
        sessions.begin("another")
    assert (sessions.find(first), sessions.find(second)) == ("first", None)

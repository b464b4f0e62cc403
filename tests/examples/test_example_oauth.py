"""The example of rotating tokens, through the wire, with a real server that stands for the API."""

from __future__ import annotations

import json
import threading

import pytest
from click.testing import CliRunner
from support.examples import EXAMPLES, load_part, statuses_of_tasks, working

from arbprov.cli import main

ACCOUNT = {"id": "shop-1", "grant": "grant-1"}


@pytest.fixture
def vendor():
    with load_part("oauth.vendor").Vendor(0) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def environ(vendor, tmp_path):
    return {
        "OAUTH_API_URL": f"http://127.0.0.1:{vendor.server_port}",
        "OAUTH_DATABASE": str(tmp_path / "tokens.db"),
    }


@pytest.fixture
def example(environ):
    return load_part("oauth.app", **environ)


@pytest.fixture
def hub(example):
    with working(example) as hub:
        yield hub


def list_orders(hub, account=ACCOUNT):
    return hub.call("list_orders", account=account, timeout=30)


def test_the_orders_come_from_the_api(hub):
    assert list_orders(hub).data == {"orders": [{"id": 1, "item": "tea"}]}


def test_a_token_is_refreshed_when_the_api_refuses_it(hub, vendor):
    assert {list_orders(hub).status for _ in range(7)} == {"success"}
    # A token is good for three requests.
    assert (vendor.refreshed, vendor.reused) == (["shop-1"] * 3, [])


def test_tasks_at_once_use_one_refresh(hub, vendor):
    vendor.uses, vendor.pause = 100, 0.05
    tickets = [hub.put("list_orders", account=ACCOUNT) for _ in range(20)]
    assert {ticket.result().status for ticket in tickets} == {"success"}
    assert (vendor.refreshed, vendor.reused) == (["shop-1"], [])


def test_accounts_have_tokens_of_their_own(hub, vendor):
    for number in (1, 2):
        list_orders(hub, {"id": f"shop-{number}", "grant": f"grant-{number}"})
    assert vendor.refreshed == ["shop-1", "shop-2"]


def test_the_next_run_goes_on_with_the_stored_tokens(environ, vendor):
    for _ in range(2):
        with working(load_part("oauth.app", **environ)) as hub:
            assert list_orders(hub).status == "success"
    assert (vendor.refreshed, vendor.reused) == (["shop-1"], [])


def test_revoked_tokens_are_an_error(hub, vendor):
    list_orders(hub)
    vendor.grants["shop-1"].is_revoked = True
    failed = list_orders(hub)
    assert failed.status == "error"
    assert failed.message.startswith("The API has revoked the tokens")


def test_one_of_the_example_s_tasks_has_no_grant(hub):
    assert statuses_of_tasks("oauth/tasks", hub) == ["success", "success", "success", "error"]


@pytest.mark.parametrize(("grant", "exit_code"), [("grant-1", 0), ("another", 1)])
def test_the_check_says_whether_the_grant_is_good(environ, example, monkeypatch, grant, exit_code):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    account = json.dumps(ACCOUNT | {"grant": grant})
    result = CliRunner().invoke(main, ["check", "oauth.app", "--account", account])
    assert result.exit_code == exit_code, result.output
    assert grant not in result.output

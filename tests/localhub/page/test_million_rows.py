"""The list of tasks in a browser, on a hub with 1,000,000 tasks; and the same on a smaller hub.

`-rP` prints how long the hub took for each page.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time

import pytest
from support.browsers import open_browser
from support.large_stores import BLOCK, RARE, fill
from support.waiting import wait_until

from arbprov.localhub import LocalHub
from arbprov.localhub.api.filters import MOST_SEARCHED, make_cursor

pytestmark = pytest.mark.browser

TOKEN = "a token for the page"
PAGE = 50
TIMES = """
    return performance.getEntriesByType('navigation')
        .map((one) => Math.round(one.responseEnd - one.requestStart))[0]"""


@pytest.fixture(scope="module", params=[2 * BLOCK, pytest.param(1_000_000, marks=pytest.mark.long)])
def count(request):
    return request.param


@pytest.fixture(scope="module")
def path(count, tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "hub.sqlite"
    began_at = time.perf_counter()
    fill(path, count)
    print(f"{count:,} tasks made in {time.perf_counter() - began_at:.1f} s")
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def hub(path):
    with LocalHub(token=TOKEN, store=f"sqlite:{path}", http="127.0.0.1:0") as hub:
        yield hub


@pytest.fixture(scope="module")
def browser(hub):
    with open_browser(f"http://{hub.http_address}") as browser:
        browser.show_as("wide")
        browser.go("/tasks")
        browser.fill("#token", TOKEN)
        browser.click("button", "Sign in")
        browser.find(".tabs")
        yield browser


@pytest.fixture(autouse=True)
def _print_time(browser, count, request):
    yield
    name = request.node.originalname
    print(f"{name} with {count:,} tasks: the last page took {browser.run(TIMES)} ms")


@pytest.fixture
def ask(path):
    """Ask the file itself."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        yield lambda query, *values: database.execute(query, values).fetchall()


def shown_ids(browser):
    return browser.run("return [...document.querySelectorAll('.c-action a')].map((a) => a.title)")


def total(browser):
    return " ".join(browser.find(".total").text.split())


def follow(browser, selector, text=""):
    """Click what leads to another page, and wait for all of that."""
    before = browser.path
    browser.click(selector, text)
    wait_until(
        lambda: browser.path != before and browser.run("return document.readyState") == "complete"
    )


def latest_ids(ask, limit, offset=0):
    query = "SELECT id FROM task ORDER BY number DESC LIMIT ? OFFSET ?"
    return [name for (name,) in ask(query, limit, offset)]


def test_the_first_page_has_the_latest_tasks(browser, ask):
    browser.go("/tasks")
    assert shown_ids(browser) == latest_ids(ask, PAGE)


def test_the_tabs_count_all_tasks(browser, ask, count):
    browser.go("/tasks")
    assert total(browser) == f"{count:,} tasks"
    tabs = browser.run(
        "return [...document.querySelectorAll('.tabs a')]"
        ".map((a) => [a.firstChild.textContent.trim(), a.title])"
    )
    counts = ask("SELECT state, count(*) FROM task GROUP BY state")
    assert dict(tabs) == {"all": f"{count:,} tasks"} | {name: f"{n:,} tasks" for name, n in counts}


def test_filters_narrow_the_list_together(browser, ask):
    [(action, account, n)] = ask(
        "SELECT action, account_key, count(*) FROM task WHERE state = 'failed' "
        "GROUP BY action, account_key ORDER BY 3 DESC LIMIT 1"
    )
    browser.go("/tasks")
    follow(browser, ".tabs a", "failed")
    browser.fill("#f-account", account)
    browser.run(f"document.querySelector('#f-action').value = '{action}'")
    follow(browser, "button", "Filter")
    assert total(browser) == f"{n:,} tasks match"
    expected = ask(
        "SELECT id FROM task WHERE state = 'failed' AND action = ? AND account_key = ? "
        "ORDER BY number DESC LIMIT ?",
        *(action, account, PAGE),
    )
    assert shown_ids(browser) == [name for (name,) in expected]


def test_older_pages_follow_without_gaps(browser, ask):
    browser.go("/tasks?state=done&state=failed")
    found = shown_ids(browser)
    for _ in range(2):
        follow(browser, "a", "Older")
        found += shown_ids(browser)
    query = "SELECT id FROM task WHERE state IN ('done', 'failed') ORDER BY number DESC LIMIT ?"
    assert found == [name for (name,) in ask(query, 3 * PAGE)]


def test_the_oldest_page_is_the_last(browser, ask, count):
    browser.go(f"/tasks?cursor={make_cursor(PAGE + 1)}")
    assert shown_ids(browser) == latest_ids(ask, PAGE, count - PAGE)
    assert "Older" not in browser.text


def test_a_count_stops_at_1_000(browser):
    browser.go("/tasks?where=city%3DLisbon")
    assert total(browser) == "1,000+ tasks match"


def test_a_text_in_the_oldest_task_is_found(browser, ask, count):
    browser.go("/tasks")
    browser.fill("#f-text", RARE.lower())
    follow(browser, "button", "Filter")
    for _ in range((count - 1) // MOST_SEARCHED):
        assert f"in the {MOST_SEARCHED:,} that were searched" in total(browser)
        follow(browser, "a", "Search older tasks")
    assert shown_ids(browser) == latest_ids(ask, 1, count - 1)


def test_a_text_that_no_task_has_is_not_found(browser):
    browser.go("/tasks?text=nothing-has-this")
    assert total(browser).startswith("0 tasks match")
    assert "No task matches" in browser.text


def test_the_list_is_live(browser, hub):
    browser.go("/tasks")
    browser.find(".live", "Live")
    ticket = hub.put("action_1", {"city": "Oslo"})
    browser.find(f".tasks tr:first-child a[title='{ticket.id}']")
    hub.cancel(ticket.id, reason="enough")
    browser.find(".tasks tr:first-child .state", "cancelled")

"""The page in a browser: what people do with it, on wide and narrow screens, light and dark."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from unittest.mock import Mock
from urllib.parse import urlsplit

import pytest
from support import busy_hubs
from support.browsers import open_browser, unpack
from support.busy_hubs import ACCOUNTS, TOKEN, busy_hub, is_settled, make_limits, report
from support.waiting import wait_until

from arbprov.cli.dev_hub import sign_in_path
from arbprov.localhub.submitting import make_task
from arbprov.localhub.tasks import Pause, PauseKind, State, TaskFilter

pytestmark = pytest.mark.browser

VIEWS = {
    "tasks": "/tasks",
    "failed": "/tasks?state=failed&action=total",
    "none": "/tasks?action=gone",
    "extras": "/tasks?state=failed&id=t1&created_before=4e9&created_after=60+min&payload.a=1",
    "confirm": "/matching/retry?state=failed",
    "task": "/tasks/{failed}",
    "attempts": "/tasks/{retried}",
    "actions": "/actions",
    "action": "/actions/total",
    "edit": "/actions/total?from={failed}",
    "limits": "/limits",
    "providers": "/providers",
    "refusal": "/tasks/unknown",
}


@pytest.fixture(scope="module")
def hub():
    with busy_hub() as hub:
        wait_until(lambda: is_settled(hub))
        retried = retried_task(hub)
        hub._run(lambda: hub._queue.retry([retried]))
        wait_until(lambda: hub._run(lambda: hub._queue.store.get(retried)).status)
        yield hub


@pytest.fixture(scope="module")
def browser(hub):
    with open_browser(f"http://{hub.http_address}") as browser:
        browser.go("/tasks?state=done")
        browser.fill("#token", "wrong")
        browser.click("button", "Sign in")
        browser.wait_for("This token is not known")
        browser.fill("#token", TOKEN)
        browser.click("button", "Sign in")
        browser.find(".tabs")
        assert browser.path == "/tasks?state=done"
        yield browser
        urls = [url for url in browser.note_requests() if not url.startswith("data:")]
        assert {urlsplit(url).netloc for url in urls} == {hub.http_address}


@pytest.fixture(autouse=True)
def _wide(browser, hub):
    # The hub forgets a provider's report after a minute.
    report(hub, *make_limits())
    browser.show_as("wide")
    browser.complaints()
    yield
    found = [text for text in browser.complaints() if "status of 4" not in text]
    assert found == []


@pytest.fixture(scope="module")
def axe(tmp_path_factory):
    folder = unpack("axe-core@4", tmp_path_factory.mktemp("axe"))
    return (folder / "axe.min.js").read_text()


def failed_task(hub):
    where = TaskFilter(action="total", states=(State.FAILED,))
    return hub._run(lambda: hub._queue.store.search(where, limit=1))[0].id


def retried_task(hub):
    where = TaskFilter(action="sync_campaigns")
    return hub._run(lambda: hub._queue.store.search(where))[-1].id


def address_of(view, hub):
    return VIEWS[view].format(failed=failed_task(hub), retried=retried_task(hub))


def mark(browser):
    """Note something that a reload would lose."""
    browser.run("window.isTheSamePage = true")


def is_same_page(browser):
    return browser.run("return window.isTheSamePage === true")


# What people do.


def test_a_wrong_field_is_shown_beside_it_without_a_reload(browser):
    browser.go("/actions/total")
    mark(browser)
    browser.fill("[name='payload/lines/0/article']", "bread")
    browser.fill("[name='payload/lines/0/quantity']", "many")
    browser.click("button", "Run")
    message = browser.find("[data-path='lines[0].quantity']", "expected an integer, got a string")
    field = browser.find("[name='payload/lines/0/quantity']")
    assert field.get_attribute("aria-invalid") == "true"
    assert field.get_attribute("aria-describedby") == message.get_attribute("id")
    assert field.get_attribute("value") == "many"
    assert is_same_page(browser)


def test_a_result_is_shown_without_a_reload(browser):
    browser.go("/actions/total")
    mark(browser)
    browser.fill("[name='payload/lines/0/article']", "bread")
    browser.fill("[name='payload/lines/0/quantity']", "3")
    browser.fill("[name='payload/lines/0/price']", "2.5")
    browser.click("button", "Add to lines")
    browser.fill("[name='payload/lines/n1/article']", "milk")
    browser.fill("[name='payload/lines/n1/quantity']", "1")
    browser.click("button", "Run")
    browser.wait_for('"total": 7.5')
    assert is_same_page(browser)


def test_an_item_of_a_list_is_removed(browser):
    browser.go("/actions/total")
    browser.click("button", "Add to lines")
    browser.click("button", "Add to lines")
    assert browser.run("return document.querySelectorAll('.item').length") == 3
    browser.click(".item:nth-child(2) .remove")
    names = "return [...document.querySelectorAll('.item > input')].map((one) => one.name)"
    assert browser.run(names) == ["payload/lines/0", "payload/lines/n2"]


def test_a_problem_that_comes_late_is_placed_beside_its_field(browser, hub):
    browser.go("/actions/total")
    browser.click("button", "Pause action")
    browser.wait_for("Resume action")
    browser.fill("[name='payload/lines/0/quantity']", "many")
    browser.click("button", "Run")
    browser.find("#outcome .state", "waiting")
    mark(browser)
    hub._run(lambda: hub._queue.store.resume(Pause(PauseKind.ACTION, "total")))
    hub._loop.call_soon_threadsafe(hub._queue.wake)
    browser.find("[data-path='lines[0].quantity']", "expected an integer, got a string")
    assert is_same_page(browser)


def test_a_retry_keeps_the_attempts(browser):
    browser.go("/tasks?state=failed&action=sync_campaigns")
    browser.click(".c-action a")
    browser.wait_for("502 Bad Gateway")
    busy_hubs.broken = False
    browser.click("button", "Retry")
    browser.find(".headline .state", "done")
    attempts = "return [...document.querySelectorAll('.attempts .status')].map((a) => a.innerText)"
    wait_until(lambda: browser.run(attempts) == ["success", "error"])


def test_a_task_is_edited_and_run_again(browser, hub):
    browser.go("/tasks?state=done&action=total")
    browser.click(".c-action a")
    browser.click("a", "Edit and run again")
    quantity = browser.find("[name='payload/lines/0/quantity']")
    before = int(quantity.get_attribute("value"))
    browser.fill("[name='payload/lines/0/quantity']", str(before + 100))
    browser.click("button", "Run")
    browser.find("#outcome .state", "done")
    browser.click("#outcome .headline a")
    browser.wait_for(f'"quantity": {before + 100}')


def test_all_of_an_account_are_cancelled(browser):
    key = make_task("a", account=ACCOUNTS[3]).account_key
    browser.go("/tasks?state=waiting")
    browser.fill("#f-account", key)
    browser.click("button", "Filter")
    wait_until(lambda: f"account={key}" in browser.path)
    count = int(browser.find(".total b").text)
    browser.click("a", "Cancel all…")
    browser.wait_for(f"Cancel {count} task")
    browser.click("button.danger")
    browser.find(".done", "cancelled.")
    browser.find(".tasks .state", "cancelled")


def test_an_action_is_paused_and_resumed(browser, hub):
    browser.go("/actions/total")
    browser.click("button", "Pause action")
    browser.find(".done", "Paused.")
    ticket = hub.put("total", {"lines": []})
    browser.go(f"/tasks/{ticket.id}")
    browser.find(".waits", "paused: action total")
    mark(browser)
    browser.click("button", "Resume action")
    browser.find(".headline .state", "done")


def test_a_gate_closes_and_opens(browser, hub):
    report(hub, *make_limits(opens_in=None))
    browser.go("/limits")
    browser.find(".limits tbody", "open")
    assert "closed" not in browser.find(".limits tbody").text
    mark(browser)
    report(hub, *make_limits(opens_in=95.0))
    row = browser.find(".limits tr.closed", "closed until")
    assert "the API answered 429" in row.text
    assert "in 1 min" in row.text
    report(hub, *make_limits(opens_in=None))
    wait_until(lambda: not browser.run("return document.querySelector('tr.closed')"))
    assert is_same_page(browser)


# The live list.


def test_a_new_task_appears_by_itself(browser, hub):
    browser.go("/tasks")
    browser.find(".live", "Live")
    mark(browser)
    ticket = hub.put("total", {"lines": []})
    browser.find(f".tasks a[title='{ticket.id}']")
    browser.find(".tasks tr:first-child .state", "done")
    assert is_same_page(browser)


def move_to(browser, selector):
    from selenium.webdriver import ActionChains

    ActionChains(browser.driver).move_to_element(browser.find(selector)).perform()


def test_a_waiting_task_is_seen_to_get_a_provider(browser, hub):
    ticket = hub.put("total", {"lines": []}, provider="late")
    browser.go("/tasks?provider=late")
    browser.find(".tasks .waits", "its provider late does not poll this hub")
    browser.find(".live", "Live")
    mark(browser)
    hub._reports.note_poll("late")
    wait_until(lambda: not browser.run("return document.querySelector('.tasks .waits')"))
    assert is_same_page(browser)
    hub._run(lambda: hub._queue.cancel([ticket.id]))


def test_what_a_row_says_leaves_room_for_its_payload(browser, hub):
    browser.go("/tasks?state=failed&action=sync_campaigns")
    browser.find(".tasks .c-what code")
    script = """
        return [...document.querySelectorAll('td.c-what')].every((cell) => {
            const [said, payload] = cell.firstElementChild.children;
            return payload.scrollWidth <= payload.clientWidth
                && payload.getBoundingClientRect().right <= cell.getBoundingClientRect().right
                && said.clientWidth > 200;
        })"""
    assert browser.run(script)


def test_the_list_stands_still_while_the_pointer_is_over_it(browser, hub):
    browser.go("/tasks")
    browser.find(".live", "Live")
    move_to(browser, ".tasks tbody tr:nth-child(4)")
    browser.find(".live", "Paused while you read")
    first = browser.find(".tasks a").get_attribute("title")
    ticket = hub.put("total", {"lines": []})
    browser.find(".live", "there is more")
    assert browser.find(".tasks a").get_attribute("title") == first
    move_to(browser, "h1")
    browser.find(f".tasks a[title='{ticket.id}']")
    browser.find(".live", "Live")


def test_the_list_stands_still_while_its_text_is_selected_or_a_link_has_the_focus(browser):
    browser.go("/tasks")
    browser.find(".live", "Live")
    browser.run("document.getSelection().selectAllChildren(document.querySelector('td'))")
    browser.find(".live", "Paused while you read")
    browser.run("document.getSelection().removeAllRanges()")
    browser.find(".live", "Live")
    browser.run("document.querySelector('.tasks a').focus()")
    browser.find(".live", "Paused while you read")


def test_the_list_stands_still_while_it_is_scrolled(browser):
    browser.go("/tasks")
    browser.find(".live", "Live")
    browser.run("window.scrollTo(0, 600)")
    wait_until(lambda: "Paused" in browser.run("return document.querySelector('.live').innerText"))


def test_a_person_stops_the_page_and_has_it_go_on(browser, hub):
    browser.go("/tasks")
    browser.find(".live", "Live")
    browser.click(".live")
    browser.find(".live[aria-pressed=true]", "Paused")
    ticket = hub.put("total", {"lines": []})
    browser.find(".live", "there is more")
    browser.click(".live")
    browser.find(f".tasks a[title='{ticket.id}']")


def test_an_update_moves_nothing(browser, hub):
    browser.go("/tasks")
    browser.find(".live", "Live")
    script = """
        return [...document.querySelectorAll('.tasks th')].map((th) => {
            const box = th.getBoundingClientRect();
            return [box.left, box.top, box.width].map(Math.round);
        })"""
    before = browser.run(script)
    ticket = hub.put("an_action_with_a_long_name_that_is_cut_off_in_the_list", {"a": "b" * 300})
    browser.find(f".tasks a[title='{ticket.id}']")
    assert browser.run(script) == before


# Copies.


def paste(browser):
    from selenium.webdriver.common.keys import Keys

    browser.run("document.querySelector('main').append(document.createElement('textarea'))")
    field = browser.find("main > textarea")
    field.send_keys(Keys.CONTROL, "v")
    return browser.run("return arguments[0].value", field)


@pytest.mark.parametrize("name", ["task-id", "payload", "envelope", "command-line"])
def test_a_text_of_a_task_is_copied(browser, hub, name):
    browser.go(f"/tasks/{failed_task(hub)}")
    if name == "command-line":
        browser.click("summary", "As a command")
    browser.click(f"#copy-{name}")
    browser.find(f"#copy-{name}", "Copied")
    text = browser.find(f"#{name}").get_property("textContent")
    assert len(text) > 10
    assert paste(browser) == text


def test_a_text_is_copied_where_browsers_keep_the_clipboard_from_pages(browser, hub):
    browser.go(f"/tasks/{failed_task(hub)}")
    browser.run("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    browser.click("#copy-payload")
    browser.find("#copy-payload", "Copied")
    assert browser.run("return document.activeElement.id") == "copy-payload"
    assert paste(browser) == browser.find("#payload").get_property("textContent")


def test_a_text_that_cannot_be_copied_is_said(browser, hub):
    browser.go(f"/tasks/{failed_task(hub)}")
    browser.run("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    browser.run("document.execCommand = () => false")
    browser.click("#copy-payload")
    browser.find("#copy-payload", "Not copied")
    browser.find("#copied", "Not copied: the payload")


def test_a_task_goes_on_while_a_button_or_a_summary_has_the_focus(browser, hub):
    for selector, shown in ("#copy-payload", "Copied"), ("#command > summary", ""):
        hub._run(lambda: hub._queue.store.pause(Pause(PauseKind.ACTION, "total")))
        ticket = hub.put("total", {"lines": []})
        browser.go(f"/tasks/{ticket.id}")
        browser.find(".waits", "paused: action total")
        browser.click(selector)
        browser.find(selector, shown)
        browser.run("window.focused = document.activeElement")
        hub._run(lambda: hub._queue.store.resume(Pause(PauseKind.ACTION, "total")))
        hub._loop.call_soon_threadsafe(hub._queue.wake)
        browser.find(".headline .state", "done")
        focus = "return [document.activeElement.matches(arguments[0]), window.focused.isConnected]"
        assert browser.run(focus, selector) == [True, False]


# Times.


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Auckland"])
def test_a_clock_shows_hours_from_0_to_23_and_the_day_if_it_is_not_today(browser, zone):
    browser.go("/actions")
    browser.driver.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": zone})
    script = """
        const when = new Date();
        when.setDate(when.getDate() + arguments[0]);
        when.setHours(0, 5, 7, 0);
        const time = document.createElement("time");
        time.className = "clock";
        time.dateTime = when.toISOString();
        document.querySelector("main").append(time);
        return [time, String(when.getFullYear())];"""
    texts = []
    for days in (0, 1):
        time, year = browser.run(script, days)
        wait_until(lambda time=time: time.text)
        texts.append((time.text, time.text.startswith("00:05:07"), year in time.text))
        assert "00:05:07" in time.text
    browser.driver.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": ""})
    assert [found[1:] for found in texts] == [(True, False), (False, True)]


# Signing in.


@pytest.fixture
def signed_out(browser):
    browser.go("/sign-in")
    cookies = browser.driver.get_cookies()
    browser.driver.delete_all_cookies()
    browser.driver.get("about:blank")
    yield
    browser.go("/sign-in")
    for cookie in cookies:
        browser.driver.add_cookie(cookie)


@pytest.fixture
def new_token(hub):
    """Return what gives the hub another token."""

    def rotate(token):
        hub.token = token

    yield rotate
    hub.token = TOKEN


def make_link(hub, monkeypatch):
    """Return the path that `arbprov dev` prints."""
    monkeypatch.setattr(sys, "stderr", Mock(isatty=lambda: True))
    return sign_in_path(hub, Mock(is_made_here=True))


@pytest.mark.usefixtures("signed_out")
@pytest.mark.parametrize("token", [TOKEN, "a+b/c&d%e=f#g?h%2B+", "ü 'a' \"b\""])
def test_the_link_of_arbprov_dev_signs_in(browser, hub, monkeypatch, new_token, token):
    new_token(token)
    path = make_link(hub, monkeypatch)
    assert path.startswith("/sign-in#token=")
    browser.go(path)
    browser.find(".tabs")
    assert browser.path == "/tasks"


@pytest.mark.usefixtures("signed_out")
def test_the_link_signs_in_where_the_form_is_open_and_leaves_no_token(browser, hub, monkeypatch):
    browser.go("/sign-in")
    browser.go(make_link(hub, monkeypatch))
    browser.find(".tabs")
    browser.driver.back()
    assert browser.find("#token").get_property("value") == ""
    assert browser.path == "/sign-in"


@pytest.mark.usefixtures("signed_out")
def test_the_link_signs_in_from_another_site(browser, hub, monkeypatch):
    url = browser.url + make_link(hub, monkeypatch)
    browser.driver.get(
        f"data:text/html,<a href='{url.replace('%', '%25').replace('#', '%23')}'>Hub</a>"
    )
    browser.click("a", "Hub")
    browser.find(".tabs")
    assert browser.path == "/tasks"


@pytest.mark.usefixtures("signed_out")
def test_a_link_with_a_wrong_token_shows_the_form_with_a_message(browser):
    browser.note_requests()
    before = len(browser.requests)
    browser.go("/sign-in#token=wrong")
    browser.find("#token-problem", "This token is not known")
    mark(browser)
    wait_until(lambda: browser.run("return document.readyState") == "complete")
    assert browser.path == "/sign-in"
    assert browser.run("return document.getElementById('token').value") == ""
    asked = [urlsplit(url).path for url in browser.note_requests()[before:]]
    assert asked.count("/sign-in") == 2
    assert is_same_page(browser)


@pytest.mark.parametrize("how", ["a change", "a new connection"])
def test_a_browser_whose_session_has_ended_is_sent_to_the_form(browser, hub, new_token, how):
    browser.go("/tasks?state=done&action=total")
    browser.find(".live", "Live")
    new_token("another token")
    if how == "a change":
        hub.put("total", {"lines": []})
    else:
        browser.run("for (const name of ['pagehide', 'pageshow']) dispatchEvent(new Event(name))")
    browser.fill("#token", "another token")
    browser.click("button", "Sign in")
    browser.find(".tabs")
    assert browser.path == "/tasks?state=done&action=total"
    new_token(TOKEN)
    browser.go("/tasks")
    browser.fill("#token", TOKEN)
    browser.click("button", "Sign in")
    browser.find(".tabs")


# Everybody.


@pytest.mark.parametrize("view", VIEWS)
def test_a_narrow_screen_does_not_scroll_sideways(browser, hub, view):
    browser.show_as("narrow")
    browser.go(address_of(view, hub))
    browser.find("main")
    assert browser.run("return document.documentElement.scrollWidth") == 390


AXE = """
const done = arguments[0];
axe.run({resultTypes: ["violations"]}).then(
    (found) => done(found.violations.map((one) =>
        one.impact + " " + one.id + one.nodes.map((node) => node.target + node.failureSummary))),
    (error) => done([String(error)]));
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", ["wide", "narrow"])
@pytest.mark.parametrize("view", VIEWS)
def test_a_view_is_for_everybody(browser, hub, axe, view, width, scheme):
    browser.show_as(width, scheme)
    browser.go(address_of(view, hub))
    browser.find("main")
    browser.run(axe)
    assert browser.driver.execute_async_script(AXE) == []


@pytest.mark.usefixtures("signed_out")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", ["wide", "narrow"])
@pytest.mark.parametrize("token", ["", "wrong"])
def test_signing_in_is_for_everybody(browser, axe, token, width, scheme):
    browser.show_as(width, scheme)
    browser.go(f"/sign-in#token={token}")
    browser.find("#token-problem" if token else "#token")
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
    browser.run(axe)
    assert browser.driver.execute_async_script(AXE) == []


def test_the_keyboard_reaches_the_content_first(browser):
    from selenium.webdriver.common.keys import Keys

    browser.go("/tasks")
    browser.find(".tasks")
    body = browser.find("body")
    body.send_keys(Keys.TAB)
    active = browser.driver.switch_to.active_element
    assert active.text == "Skip to the content"
    active.send_keys(Keys.ENTER)
    assert browser.run("return document.activeElement.id") == "main"


def test_a_key_goes_to_the_search(browser):
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.keys import Keys

    browser.go("/tasks?text=a")
    browser.find(".tabs")
    focused = "return document.activeElement.id"
    for modifier in (Keys.CONTROL, Keys.ALT, Keys.META):
        ActionChains(browser.driver).key_down(modifier).send_keys("/").key_up(modifier).perform()
        assert browser.run(focused) == ""
    ActionChains(browser.driver).send_keys("/").perform()
    assert browser.run(focused) == "f-text"
    # What was searched for is replaced, and the key is a character in a field.
    ActionChains(browser.driver).send_keys("b/c").perform()
    assert browser.find("#f-text").get_property("value") == "b/c"
    browser.click("#f-provider")
    ActionChains(browser.driver).send_keys("/").perform()
    assert browser.run(focused) == "f-provider"


def test_the_form_of_an_action_is_sent_by_the_keyboard(browser):
    from selenium.webdriver.common.keys import Keys

    browser.go("/actions/forecast")
    browser.fill("[name='payload/city']", "Paris")
    browser.find("[name='payload/city']").send_keys(Keys.ENTER)
    browser.find("#outcome .state")


SCREENSHOTS = [
    ("tasks", "wide", "light"),
    ("action", "wide", "light"),
    ("limits", "wide", "dark"),
    ("task", "narrow", "dark"),
]


@pytest.mark.skipif("ARBPROV_SCREENSHOTS" not in os.environ, reason="asked for by this variable")
def test_screenshots_are_made(browser, hub):
    folder = Path(os.environ["ARBPROV_SCREENSHOTS"])
    for view, width, scheme in SCREENSHOTS:
        browser.show_as(width, scheme)
        browser.go(address_of(view, hub))
        browser.find("main")
        if "data-live" in browser.driver.page_source:
            browser.find(".live", "Live")
        browser.driver.save_screenshot(str(folder / f"hub-{view}-{width}-{scheme}.png"))

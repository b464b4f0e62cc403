"""`arbprov tasks`: the tasks at a hub, through its HTTP API."""

from __future__ import annotations

import json
import re
import socket
import threading
import time

import pytest
from support.waiting import TIMEOUT, wait_until

from arbprov import HubConnectionError, ProviderApp, RateLimited
from arbprov.cli import hub_client
from arbprov.cli.task_filters import STATES
from arbprov.localhub import LocalHub
from arbprov.localhub.tasks import Pause, PauseKind, State
from arbprov.testing import serving


@pytest.fixture
def hub():
    """A hub with an HTTP API."""
    with LocalHub(hold=0.05, http="127.0.0.1:0", retries_limits=True) as hub:
        yield hub


@pytest.fixture
def tasks(arbprov, hub):
    """Return a function that runs `arbprov tasks` for the hub."""
    environ = {"ARBPROV_HUB_HTTP": hub.http_address, "ARBPROV_HUB_TOKEN": hub.token}

    def tasks(*arguments, stdin=None, **more):
        return arbprov("tasks", *arguments, env=environ | more, input=stdin)

    return tasks


@pytest.fixture
def ended(hub):
    """Tasks that have ended: t1 is done, t2 and t3 have failed."""
    app = ProviderApp("weather")

    @app.action
    def forecast(city: str) -> dict:
        return {"city": city}

    @app.action
    def broken() -> None:
        raise KeyError("k")

    with serving(app, hub):
        hub.call("forecast", {"city": "Paris"}, account={"api_key": "hunter22"}, id="t1")
        hub.call("broken", id="t2")
        hub.call("forecast", {"town": "Rome"}, id="t3")


def lines_of(result):
    """Return the ids and states in a list's lines, without its head."""
    assert result.exit_code == 0, result.output
    return [tuple(line.split()[:2]) for line in result.stdout.splitlines()[1:]]


# List.


@pytest.mark.usefixtures("ended")
def test_tasks_are_listed_as_a_table_with_the_latest_first(tasks):
    result = tasks("list")
    head, *lines = result.stdout.splitlines()
    assert head.split() == ["ID", "STATE", "ACTION", "AGE", "MESSAGE"]
    assert lines_of(result) == [("t3", "failed"), ("t2", "failed"), ("t1", "done")]
    assert re.fullmatch(r"t2 +failed +broken +\d+[sm]  KeyError: 'k'", lines[1])
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        (("--action", "broken"), ["t2"]),
        (("--provider", "weather"), ["t3", "t2", "t1"]),
        (("--provider", "other"), []),
        (("--state", "done"), ["t1"]),
        (("--state", "done", "--state", "failed"), ["t3", "t2", "t1"]),
        (("--error-type", "KeyError"), ["t2"]),
        (("--text", "paris"), ["t1"]),
        (("--where", "city=Paris"), ["t1"]),
        (("--where", "city=Paris", "--where", "town=Rome"), []),
        (("--account", "unknown"), []),
    ],
)
@pytest.mark.usefixtures("ended")
def test_options_choose_tasks(tasks, options, ids):
    result = tasks("list", *options)
    assert [name for name, _ in lines_of(result)] == ids
    assert result.stderr == ("" if ids else "no task matches\n")


def test_an_empty_hub_says_so(tasks):
    result = tasks("list")
    assert (result.stdout, result.stderr) == ("", "the hub has no tasks\n")


def test_a_list_says_that_there_are_more_and_can_have_all(tasks, hub):
    for number in range(25):
        hub.put("forecast", id=f"t{number}")
    result = tasks("list")
    assert len(lines_of(result)) == 20
    assert result.stderr == "There are more; --limit 200 or --all lists them.\n"
    assert len(lines_of(tasks("list", "--limit", "25"))) == 25
    assert tasks("list", "--all").stderr == ""
    assert len(lines_of(tasks("list", "--all"))) == 25


def test_no_line_is_wider_than_the_terminal(tasks, hub):
    hub.put("an_action_with_a_long_name" * 3, {"city": "é" * 100}, id="i" * 60)
    tasks("cancel", "i" * 60)
    hub.put("short")
    for width in (60, 80, 200):
        lines = tasks("list", COLUMNS=str(width)).stdout.splitlines()
        assert len(lines) == 3
        assert max(map(len, lines)) <= width


@pytest.mark.usefixtures("ended")
def test_the_json_of_a_list_has_a_task_on_each_line(tasks):
    found = [json.loads(line) for line in tasks("list", "--json").stdout.splitlines()]
    assert [(task["id"], task["state"]) for task in found] == [
        ("t3", "failed"),
        ("t2", "failed"),
        ("t1", "done"),
    ]
    assert found[-1]["payload"] == {"city": "Paris"}
    assert found[-1]["account"] == {"api_key": "***"}
    assert found[-1]["created_at"].endswith("+00:00")


# Show.


@pytest.mark.usefixtures("ended")
def test_a_task_is_shown_with_its_result_and_attempts(tasks):
    shown = tasks("show", "t1").stdout
    for line in (
        "task         t1",
        "state        done",
        "action       forecast",
        "provider     any, and weather ran it last",
        "attempts     1 (1 of 10 deliveries used)",
        'payload      {"city": "Paris"}',
        'account      {"api_key": "***"}',
        'result       {"city": "Paris"}',
    ):
        assert f"{line}\n" in shown
    assert re.search(r"^attempt 1    20.* s  weather  success$", shown, re.MULTILINE)
    assert "hunter22" not in shown


@pytest.mark.usefixtures("ended")
def test_the_account_is_shown_on_demand(tasks):
    assert "hunter22" in tasks("show", "t1", "--show-account").stdout
    assert "hunter22" in tasks("list", "--json", "--show-account").stdout
    assert "hunter22" not in tasks("list", "--json").stdout + tasks("show", "t1", "--json").stdout


@pytest.mark.usefixtures("ended")
def test_each_problem_of_a_payload_is_shown(tasks):
    assert "problem      city: required field is missing\n" in tasks("show", "t3").stdout


@pytest.mark.usefixtures("ended")
def test_a_task_is_shown_as_json(tasks):
    found = json.loads(tasks("show", "t2", "--json").stdout)
    assert (found["state"], found["error_type"]) == ("failed", "KeyError")
    assert [attempt["end"] for attempt in found["history"]] == ["result"]


def test_a_long_payload_is_indented_and_fits_the_terminal(tasks, hub):
    hub.put("forecast", {"cities": ["Paris"] * 30, "text": "word " * 50}, id="t1")
    lines = tasks("show", "t1").stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert "payload      {" in lines
    assert '                 "Paris",' in lines


def test_a_task_that_runs_is_shown_without_an_end(tasks, hub):
    app = ProviderApp("weather", execution_timeout=TIMEOUT)
    started, finish = threading.Event(), threading.Event()

    @app.action
    def wait() -> None:
        started.set()
        finish.wait(TIMEOUT)

    with serving(app, hub):
        hub.put("wait", id="t1", priority=5, idempotency_key="k", provider="weather", ttl=600)
        assert started.wait(TIMEOUT)
        shown = tasks("show", "t1").stdout
        finish.set()
    for line in (
        "provider     weather, and weather ran it last",
        "priority     5",
        "key          k",
    ):
        assert f"{line}\n" in shown
    assert re.search(r"^lease ends   20", shown, re.MULTILINE)
    assert re.search(r"^expires      20", shown, re.MULTILINE)
    assert re.search(r"^attempt 1 .*  weather  runs$", shown, re.MULTILINE)


def why(tasks, name):
    """Return why a task waits, as it is shown."""
    shown = re.search(r"^why +(.*(?:\n {13}.*)*)", tasks("show", name).stdout, re.MULTILINE)[1]
    return " ".join(shown.split())


def test_it_is_shown_why_a_task_waits(tasks, hub):
    hub.put("forecast", id="any")
    hub.put("forecast", id="later", not_before=time.time() + 3600)
    hub.put("forecast", id="absent", provider="other")
    hub.put("stopped", id="paused")
    hub._run(lambda: hub._store.pause(Pause(PauseKind.ACTION, "stopped")))
    assert why(tasks, "any") == (
        "no provider has taken it; does a provider with action 'forecast' run?"
    )
    assert re.fullmatch("it may not start for another 3[56][0-9][0-9] s", why(tasks, "later"))
    assert why(tasks, "absent") == "provider 'other' has not taken it; does it run?"
    assert why(tasks, "paused") == "action 'stopped' is paused"


def test_a_task_that_a_limit_holds_back_says_which(tasks, hub):
    app = ProviderApp("weather")

    @app.action
    def forecast() -> None:
        raise RateLimited(3000, "5/hour")

    with serving(app, hub):
        hub.put("forecast", id="t1")
        wait_until(lambda: "limit 5/hour holds back" in tasks("show", "t1").stdout)
    shown = tasks("show", "t1").stdout
    assert re.search(r"^attempt 1 .* weather  held back by a limit$", shown, re.MULTILINE)


def test_a_cancelled_task_says_why(tasks, hub):
    hub.put("forecast", id="t1")
    tasks("cancel", "t1")
    assert why(tasks, "t1") == "cancelled"


# Retry and cancel.


@pytest.mark.usefixtures("ended")
def test_tasks_are_retried_by_their_ids(tasks, hub):
    result = tasks("retry", "t1", "t2")
    assert [line.split()[:2] for line in result.stdout.splitlines()] == [
        ["t1", "waiting"],
        ["t2", "waiting"],
    ]
    assert lines_of(tasks("list", "--state", "waiting")) == [("t2", "waiting"), ("t1", "waiting")]


def test_tasks_are_cancelled_by_their_ids(tasks, hub):
    hub.put("forecast", id="t1")
    result = tasks("cancel", "t1", "--json")
    assert json.loads(result.stdout)["state"] == "cancelled"


@pytest.mark.usefixtures("ended")
def test_ids_that_can_not_be_changed_are_reported_and_the_others_changed(tasks):
    result = tasks("retry", "gone", "t2")
    assert result.exit_code == 1
    assert "has no task with this id; `arbprov tasks list` lists tasks\n" in result.stderr
    assert result.stderr.endswith("Error: 1 task not retried\n")
    assert result.stdout.split()[:2] == ["t2", "waiting"]
    assert tasks("retry", "t2").exit_code == 1


@pytest.mark.usefixtures("ended")
def test_a_filter_shows_the_count_and_asks(tasks):
    result = tasks("retry", "--state", "failed", stdin="y\n")
    assert result.stderr.startswith("Retry 2 tasks? [y/N]:")
    assert result.stderr.endswith("2 tasks retried\n")
    assert len(lines_of(tasks("list", "--state", "waiting"))) == 2


@pytest.mark.parametrize("stdin", ["n\n", ""])
@pytest.mark.usefixtures("ended")
def test_nothing_is_changed_without_a_yes(tasks, stdin):
    assert tasks("retry", "--state", "failed", stdin=stdin).exit_code == 1
    assert lines_of(tasks("list", "--state", "failed")) == [("t3", "failed"), ("t2", "failed")]


def test_nothing_is_asked_if_yes_is_given_or_nothing_matches(tasks, hub):
    hub.put("forecast")
    assert tasks("cancel", "--action", "other").stderr == "no task to cancel matches\n"
    assert tasks("cancel", "--all", "--yes").stderr == "1 task cancelled\n"


def test_the_counts_of_a_filter_are_printed_as_json(tasks, hub):
    hub.put("forecast")
    result = tasks("cancel", "--all", "--yes", "--json")
    assert json.loads(result.stdout) == {"matching": 1, "changed": 1}
    result = tasks("cancel", "--all", "--yes", "--json")
    assert json.loads(result.stdout) == {"matching": 0, "changed": 0}


@pytest.mark.parametrize("arguments", [(), ("t1", "--all"), ("t1", "--action", "forecast")])
def test_what_is_changed_must_be_clear(tasks, arguments):
    result = tasks("cancel", *arguments)
    assert result.exit_code == 2
    assert "give IDs, or options that choose tasks, or --all for all of them" in result.stderr


@pytest.mark.parametrize("value", ["city", "=Paris"])
def test_a_field_without_a_name_or_a_value_is_wrong_usage(tasks, value):
    result = tasks("list", "--where", value)
    assert result.exit_code == 2
    assert "write it like city=Paris" in result.stderr


def test_a_field_with_two_values_is_wrong_usage(tasks):
    result = tasks("list", "--where", "city=Paris", "--where", "city=Rome")
    assert result.exit_code == 2
    assert "city is there twice; no task has two values" in result.stderr


@pytest.mark.parametrize("option", ["--action", "--account", "--provider", "--error-type"])
def test_an_empty_option_does_not_choose_all_tasks(tasks, hub, option):
    hub.put("forecast", id="waits")
    result = tasks("cancel", "--state", "waiting", option, "", "--yes")
    assert result.exit_code == 1
    assert "must not be empty" in result.stderr
    assert lines_of(tasks("list")) == [("waits", "waiting")]


def test_the_states_are_those_of_the_hub():
    assert tuple(state.value for state in State) == STATES


# Errors.


def test_a_task_that_does_not_exist_has_a_suggestion(tasks):
    result = tasks("show", "gone")
    assert result.exit_code == 1
    assert "the hub has no task with this id; `arbprov tasks list` lists tasks" in result.stderr


def test_a_wrong_token_is_named_with_its_origin(tasks):
    result = tasks("list", "--token", "wrong")
    assert result.exit_code == 77
    assert result.stderr.endswith("; the token is from --token\n")
    # The advice for Python code.
    assert "token=" not in result.stderr


@pytest.fixture
def absent():
    """The address of a port where nothing listens."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_a_wrong_address_is_named_with_its_option_or_variable(tasks):
    result = tasks("list", "--hub-http-url", "ftp://hub")
    assert result.stderr.startswith("Error: --hub-http-url 'ftp://hub' is not the address")
    result = tasks("list", ARBPROV_HUB_HTTP="ftp://hub")
    assert result.stderr.startswith("Error: ARBPROV_HUB_HTTP 'ftp://hub' is not the address")


def test_a_file_with_two_tokens_is_named_and_they_are_not_shown(tasks, tmp_path):
    path = tmp_path / "token"
    path.write_text("sample\nsecond\n")
    result = tasks("list", "--token-file", str(path))
    assert result.stderr.startswith(f"Error: {path}: the token has a line break")
    assert "sample" not in result.output


def test_a_hub_that_is_not_there_is_named(tasks, absent, monkeypatch):
    monkeypatch.setattr(hub_client, "ADDRESS", absent)
    result = tasks("list", "--hub-http-url", f"http://{absent}")
    assert result.exit_code == 69
    assert f"the hub at http://{absent} can't be reached" in result.stderr
    assert "without HTTP" not in result.stderr


def test_a_hub_without_http_says_how_to_get_it(tasks, absent, hub, monkeypatch):
    monkeypatch.setattr(hub_client, "ADDRESS", hub.address)
    result = tasks("list", "--hub-http-url", f"http://{absent}")
    assert result.exit_code == 69
    assert f"A hub may listen on {hub.address} without HTTP" in result.stderr
    assert "pip install 'arbprov[hub]'" in result.stderr


def test_a_hub_on_this_machine_is_not_named_for_one_on_another(hub, monkeypatch):
    monkeypatch.setattr(hub_client, "ADDRESS", hub.address)
    with (
        pytest.raises(HubConnectionError, match=r"^no$"),
        hub_client._explaining_silence("http://hub.example:50080"),
    ):
        raise HubConnectionError("no")


def test_without_any_token_no_hub_has_run(arbprov):
    result = arbprov("tasks", "list")
    assert result.exit_code == 69
    assert "where `arbprov hub` and `arbprov dev` make one: start a hub, or set" in result.stderr


def test_without_the_extra_the_command_says_how_to_install_it(tasks, monkeypatch):
    monkeypatch.setattr(hub_client.importlib.util, "find_spec", lambda name: None)
    result = tasks("list")
    assert result.exit_code == 78
    assert "this command needs the extra [hub]: pip install 'arbprov[hub]'" in result.stderr

"""`arbprov hub`: what it prints, what it keeps, and how it ends."""

from __future__ import annotations

import json
import signal
import time

import grpc
import httpx
import pytest
from support.waiting import TIMEOUT, wait_for_line, wait_until

from arbprov._proto import hub_pb2
from arbprov.localhub import LocalHub, LocalHubClient

HUB = ("hub", "--address", "127.0.0.1:0", "--http", "none")


@pytest.fixture
def start_hub(start):
    """Return a function that starts a hub, and returns its process and what it printed."""

    def start_hub(*arguments, **environ):
        process = start(*HUB, "--json", *arguments, **environ)
        return process, json.loads(process.stdout.readline())

    return start_hub


def submit(printed, *tasks):
    with LocalHubClient(printed["address"], printed["token"]) as client:
        return client.submit(tasks)


def poll(printed, provider="weather"):
    """Return the next task for a provider."""
    request = hub_pb2.ProviderRequest(provider=provider, auth_token=printed["token"])
    with grpc.insecure_channel(printed["address"]) as channel:
        method = channel.unary_unary(
            "/Hub/GetTask",
            request_serializer=hub_pb2.ProviderRequest.SerializeToString,
            response_deserializer=hub_pb2.Task.FromString,
        )
        while not (task := method(request, timeout=TIMEOUT)).id:
            pass
        return task


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_hub_prints_its_address_and_ends_with_a_signal(start, number):
    hub = start(*HUB)
    wait_for_line(hub, "The hub listens on 127.0.0.1:")
    hub.send_signal(number)
    assert hub.wait(TIMEOUT) == 0


def test_the_hub_ends_although_a_provider_and_a_call_wait(start, start_hub):
    hub, printed = start_hub()
    environ = {"HUB_GRPC_URL": printed["address"], "PROVIDER_AUTH_TOKEN": printed["token"]}
    provider = start("run", "typed", **environ)
    caller = start("call", "ask", "--timeout", str(TIMEOUT), **environ)
    wait_for_line(provider, "asking")
    hub.terminate()
    assert hub.wait(TIMEOUT) == 0
    _, errors = caller.communicate(timeout=TIMEOUT)
    assert caller.returncode == 69
    assert " stays at the hub.\n" in errors


def test_the_start_fits_four_short_lines_and_hides_the_token(start, state_folder, folder):
    hub = start(*HUB, HOME=str(state_folder.parent.parent))
    lines = [hub.stderr.readline()]
    while "Providers need" not in lines[-1]:
        lines.append(hub.stderr.readline())
    hub.terminate()
    output, errors = hub.communicate(timeout=TIMEOUT)
    shown = "".join([*lines, output, errors])
    assert max(map(len, lines)) <= 80 + len("\n")
    assert shown.splitlines()[-2:] == [
        "It keeps its tasks in ~/state/arbprov/hub.sqlite.",
        "Providers need PROVIDER_AUTH_TOKEN_FILE=~/state/arbprov/hub-token",
    ]
    assert len(shown.splitlines()) <= 4
    assert (state_folder / "hub-token").read_text().strip() not in shown


def test_a_token_by_option_is_not_printed_either(start):
    hub = start(*HUB, "--token", "secret-of-mine", "--store", "memory")
    wait_for_line(hub, "It keeps its tasks in memory, until it ends.")
    wait_for_line(hub, "Providers need PROVIDER_AUTH_TOKEN, the hub's token")
    hub.terminate()
    output, errors = hub.communicate(timeout=TIMEOUT)
    assert "secret-of-mine" not in output + errors


def test_tasks_are_there_after_a_restart(start_hub, state_folder):
    hub, printed = start_hub()
    submit(printed, {"action": "forecast", "id": "t1"})
    hub.kill()
    hub.wait(TIMEOUT)
    assert printed["store"] == f"sqlite:{state_folder / 'hub.sqlite'}"
    _, printed = start_hub()
    assert poll(printed).id == "t1"


def test_a_store_is_chosen_by_an_option_or_a_variable(start_hub, folder):
    for printed in (
        start_hub("--store", "sqlite:mine.sqlite")[1],
        start_hub(ARBPROV_HUB_STORE="sqlite:other.sqlite")[1],
    ):
        submit(printed, {"action": "forecast"})
    assert (folder / "mine.sqlite").exists()
    assert (folder / "other.sqlite").exists()


def test_a_store_in_memory_leaves_no_file(start_hub, state_folder):
    hub, printed = start_hub("--store", "memory")
    submit(printed, {"action": "forecast"})
    hub.terminate()
    assert hub.wait(TIMEOUT) == 0
    assert [entry.name for entry in state_folder.iterdir()] == ["hub-token"]


def test_a_store_that_does_not_exist_is_bad_configuration_without_its_password(arbprov):
    result = arbprov("hub", env={"ARBPROV_HUB_STORE": "mysql://me:secret-of-mine@db/hub"})
    assert result.exit_code == 78
    assert "the hub's store must be memory, sqlite:PATH or postgresql://" in result.stderr
    assert "secret-of-mine" not in result.output


def test_the_help_does_not_show_the_password_of_a_store(arbprov):
    url = "postgresql://me:secret-of-mine@db/hub"
    assert "secret-of-mine" not in arbprov("hub", "--help", env={"ARBPROV_HUB_STORE": url}).output


def test_a_task_is_handed_out_again_after_the_lease(start_hub):
    _, printed = start_hub("--lease", "0.1")
    submit(printed, {"action": "forecast", "id": "t1"})
    assert [poll(printed).id, poll(printed).id] == ["t1", "t1"]


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf"])
def test_a_lease_that_is_not_above_0_is_wrong_usage(arbprov, seconds):
    result = arbprov("hub", "--lease", seconds)
    assert result.exit_code == 2
    assert "must be greater than 0" in result.stderr


@pytest.mark.parametrize(("days", "is_kept"), [("1", True), ("0.000001", False)])
def test_tasks_that_ended_are_kept_for_some_days(start_hub, folder, days, is_kept):
    path = folder / "hub.sqlite"
    with LocalHub(store=f"sqlite:{path}") as hub:
        ticket = hub.put("forecast", id="t1", idempotency_key="k")
        hub.cancel("t1", reason="not needed any more")
        ticket.result(TIMEOUT)
    # 0.1 s are more than 0.000001 days.
    time.sleep(0.1)
    _, printed = start_hub("--store", f"sqlite:{path}", "--keep-days", days)

    def is_there():
        return submit(printed, {"action": "forecast", "idempotency_key": "k"}) == ["t1"]

    if is_kept:
        assert is_there()
    else:
        wait_until(lambda: not is_there())


@pytest.mark.parametrize("days", ["0", "-1", "nan"])
def test_a_number_of_days_that_is_not_above_0_is_wrong_usage(arbprov, days):
    result = arbprov("hub", "--keep-days", days)
    assert result.exit_code == 2
    assert "must be greater than 0" in result.stderr


def test_an_address_that_other_machines_reach_is_bad_configuration(arbprov):
    assert arbprov("hub", "--address", "0.0.0.0:50051").exit_code == 78


def test_others_reach_the_page_and_the_api_by_the_names_that_the_hub_allows(start, folder):
    options = ["--http", "0.0.0.0:0", "--allow-host", "hub.example", "--allow-host", "a.example"]
    process = start("hub", "--json", "--address", "127.0.0.1:0", "--store", "memory", *options)
    url = json.loads(process.stdout.readline())["http"].replace("0.0.0.0", "127.0.0.1")
    hosts = ["hub.example:443", "A.example", "localhost", "other.example"]
    answers = [
        httpx.get(f"{url}{path}", headers={"Host": host})
        for host in hosts
        for path in ("/healthz", "/sign-in")
    ]
    assert [answer.status_code for answer in answers] == [200] * 6 + [403] * 2
    assert "have the hub allow this name (--allow-host)" in answers[-2].text


def test_the_help_shows_whole_defaults(arbprov):
    text = " ".join(arbprov("hub", "--help").stdout.split())
    assert "[default: 600]" in text
    assert "[default: 7]" in text


def test_the_help_says_that_others_can_see_a_token(arbprov):
    shown = " ".join(arbprov("hub", "--help").stdout.split())
    assert "every user of this machine can see it in the list of processes" in shown

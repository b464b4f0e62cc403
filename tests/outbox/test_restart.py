"""Providers with a spool that are killed, or stop without their hub, and start again."""

from __future__ import annotations

import collections
import os
import signal
import subprocess
import sys
import threading
from concurrent import futures

import pytest
from support.waiting import TIMEOUT, wait_until

from arbprov.localhub import LocalHub
from arbprov.outbox.sqlite import read_spool

PROVIDER = """
import os
import sys
import time
from arbprov import ProviderApp

app = ProviderApp("restart", spool="spool", execution_timeout=20, concurrency=8)

@app.action
def work(n: int, seconds: float = 0.0) -> dict:
    with open("started", "a") as started:
        started.write(f"{n}\\n")
    time.sleep(seconds)
    return {"n": n}

@app.action
def patient(n: int) -> dict:
    with open("started", "a") as started:
        started.write(f"{n}\\n")
    while not os.path.exists("go"):
        time.sleep(0.005)
    return {"n": n}

app.run()
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "provider.py").write_text(PROVIDER)
    return tmp_path


@pytest.fixture
def start(folder):
    """Return a function that starts the provider in a process of its own."""
    started = []

    def start(hub, **environ):
        process = subprocess.Popen(
            [sys.executable, "provider.py"],
            cwd=folder,
            env=os.environ
            | {"HUB_GRPC_URL": hub.address, "PROVIDER_AUTH_TOKEN": hub.token}
            | environ,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        # Read all the time, so that the provider never blocks on a full pipe.
        process.log = futures.Future()
        threading.Thread(
            target=lambda: process.log.set_result(process.stderr.read()), daemon=True
        ).start()
        return process

    yield start
    for process in started:
        process.kill()
        process.wait(TIMEOUT)
        process.log.result(TIMEOUT)
        process.stderr.close()


def started(folder):
    """Return the numbers of the tasks whose handlers have started, in order."""
    path = folder / "started"
    return [int(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.slow
def test_a_task_that_was_received_ends_as_its_result_or_as_interrupted(folder, start):
    with LocalHub(hold=0.05) as hub:
        tickets = {n: hub.put("work", {"n": n, "seconds": 0.02}) for n in range(300)}
        for enough in (60, 120, 180):
            process = start(hub)
            wait_until(lambda enough=enough: len(hub.submissions) >= enough)
            process.send_signal(signal.SIGKILL)
            process.wait(TIMEOUT)
        process = start(hub)
        hub.put("work", {"n": 1000}).result(TIMEOUT)
        process.terminate()
        assert process.wait(TIMEOUT) == 0
        submissions = hub.submissions
        answers = {n: ticket.result(0) for n, ticket in tickets.items() if ticket.done}

    begun = collections.Counter(started(folder))
    assert set(begun.values()) == {1}, "a task was run twice"
    assert [n for n in tickets if begun[n] and n not in answers] == []
    interrupted = [n for n, answer in answers.items() if answer.status == "error"]
    assert {answers[n].message for n in interrupted} == {"interrupted, outcome unknown"}
    assert all(answers[n].data == {"n": n} for n in answers if n not in interrupted)
    # Only tasks in flight at a kill; at least some, or this test would show little.
    assert 0 < len(interrupted) <= 3 * 8
    assert len(tickets) - len(answers) <= 3 * 8
    sent = collections.defaultdict(set)
    for one in submissions:
        sent[one.id].add(one)
    assert {len(versions) for versions in sent.values()} == {1}


@pytest.fixture
def cut_off(folder, start, tmp_path):
    """Return a function that has a provider finish five tasks for a hub that is gone."""

    def cut_off(**environ):
        with LocalHub(f"unix:{tmp_path}/hub", token="token-of-before", hold=0.05) as hub:
            process = start(hub, **environ)
            for n in range(5):
                hub.put("patient", {"n": n}, account={"key": "sample"})
            wait_until(lambda: len(started(folder)) == 5)
        (folder / "go").touch()
        states = lambda: [entry.state for entry in read_spool(folder / "spool")]
        wait_until(lambda: states() == ["pending"] * 5)
        return process

    return cut_off


def sent_after(start, tmp_path):
    """Return the results that a restarted provider sends to a hub with another token."""
    with LocalHub(f"unix:{tmp_path}/hub", token="token-of-after", hold=0.05) as hub:
        start(hub)
        wait_until(lambda: len(hub.submissions) == 5)
        return hub.submissions


@pytest.mark.slow
def test_results_that_were_not_sent_before_a_crash_are_sent_after_it(cut_off, start, tmp_path):
    cut_off().kill()
    results = sent_after(start, tmp_path)
    assert sorted(result.data["n"] for result in results) == [0, 1, 2, 3, 4]
    assert {result.account for result in results} == {'{"key":"sample"}'}


@pytest.mark.slow
def test_a_stop_with_results_in_the_spool_is_a_clean_one(cut_off, start, tmp_path):
    process = cut_off(ARBPROV_DRAIN_TIMEOUT="2")
    process.terminate()
    assert process.wait(TIMEOUT) == 0
    assert "the spool keeps 5 results for the next start to send" in process.log.result(TIMEOUT)
    assert len(sent_after(start, tmp_path)) == 5


@pytest.mark.slow
def test_no_token_is_in_the_spool(cut_off, folder):
    cut_off()
    files = [path.read_bytes() for path in folder.glob("spool*")]
    assert len(files) == 4
    assert b"sample" in b"".join(files)
    assert b"token-of-before" not in b"".join(files)

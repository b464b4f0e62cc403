"""`arbprov run --workers`, with real processes and real gRPC."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import pytest
from support.processes import Process
from support.waiting import TIMEOUT, wait_until

from arbprov import Blueprint, ConfigurationError, ProviderApp, TimeBasedRateLimitMonitor
from arbprov.cli.supervisor.restart_policy import Stage
from arbprov.cli.supervisor.spools import warn_of_orphans
from arbprov.cli.supervisor.supervisor import _temporary_folder
from arbprov.cli.supervisor.worker import WorkerInfo, run_worker
from arbprov.cli.supervisor.worker_process import WorkerProcess
from arbprov.outbox.spool import Spool
from arbprov.outbox.sqlite import read_spool
from arbprov.task import Status, Task, TaskResult
from arbprov.testing import FaultyHub
from arbprov.wire.messages import encode_result

PROVIDER = """
import os
import threading
from arbprov import ProviderApp

app = ProviderApp("crew", execution_timeout=60)

@app.action
def who() -> dict:
    return {"pid": os.getpid()}

@app.action
def wait_for_file() -> dict:
    with open("started", "a") as file:
        file.write(f"{os.getpid()}\\n")
    while not os.path.exists("go"):
        threading.Event().wait(0.005)
    return {"pid": os.getpid()}

@app.action(isolation="process")
def alone() -> dict:
    return {"parent": os.getppid(), "pid": os.getpid()}
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "crew.py").write_text(PROVIDER)
    return tmp_path


@pytest.fixture
def hub():
    with FaultyHub(token="token", hold=0.05) as hub:
        yield hub


@pytest.fixture
def start(folder, hub):
    """Return a function that runs a provider with two workers, which take one task at a time."""
    started = []

    def start(*options, **environ):
        environ = {
            "PROVIDER_AUTH_TOKEN": "token",
            "HUB_GRPC_URL": hub.url,
            "ARBPROV_WORKERS": "2",
            "ARBPROV_CONCURRENCY": "1",
        } | environ
        started.append(Process(["-m", "arbprov", "run", "crew", *options], folder, **environ))
        return started[-1]

    yield start
    (folder / "go").touch()
    for provider in started:
        if provider.popen.poll() is None:
            provider.send(signal.SIGTERM)
        # Its standard error ends when the last worker has.
        provider.wait()


@pytest.fixture
def working(start, hub, folder):
    """Return a function that runs a provider and gives each of its two workers a task."""

    def working(**environ):
        provider = start(**environ)
        tickets = [hub.put("wait_for_file", id=f"task-{number}") for number in (1, 2)]
        wait_until(lambda: len(pids_of(folder)) == 2)
        return provider, tickets

    return working


def pids_of(folder):
    """Return the processes in which a task has started."""
    path = folder / "started"
    return {int(line) for line in path.read_text().split()} if path.exists() else set()


# Processes


def test_a_killed_worker_is_replaced_and_the_other_tasks_continue(working, hub, folder):
    provider, tickets = working()
    os.kill(min(pids_of(folder)), signal.SIGKILL)
    wait_until(lambda: provider.has_logged("was killed by SIGKILL"))
    hub.put("wait_for_file")
    wait_until(lambda: len(pids_of(folder)) == 3)
    (folder / "go").touch()
    provider.stop()
    assert (provider.popen.returncode, len(hub.submissions)) == (0, 2)
    assert [ticket.done for ticket in tickets].count(False) == 1


def test_one_signal_drains_all_workers_and_no_worker_is_in_the_terminal_s_group(
    working, folder, hub
):
    provider, tickets = working()
    assert {os.getsid(pid) for pid in pids_of(folder)} == pids_of(folder)
    provider.send(signal.SIGTERM)
    wait_until(lambda: provider.has_logged("draining the workers"))
    (folder / "go").touch()
    assert provider.wait() == 0
    assert {ticket.result(0).data["pid"] for ticket in tickets} == pids_of(folder)
    hub.assert_nothing_lost()


def test_a_signal_to_the_supervisor_and_its_workers_counts_as_one(working, folder):
    # As systemd stops a service.
    provider, tickets = working()
    for pid in (*pids_of(folder), provider.popen.pid):
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: provider.log.count("SIGTERM: ") == 3)
    (folder / "go").touch()
    assert provider.wait() == 0
    assert {ticket.result(0).data["pid"] for ticket in tickets} == pids_of(folder)


def test_each_log_line_names_its_worker(working, folder):
    provider, _ = working(ARBPROV_LOG_FORMAT="console")
    wait_until(lambda: all(f"[{pid}] arbprov: " in provider.log for pid in pids_of(folder)))
    assert " INFO worker-1[" in provider.log
    assert " INFO worker-2[" in provider.log


def test_a_second_signal_kills_all_workers(working):
    provider, _ = working(ARBPROV_DRAIN_TIMEOUT="600")
    provider.send(signal.SIGINT)
    wait_until(lambda: provider.has_logged("draining the workers"))
    provider.stop(signal.SIGINT)
    assert provider.popen.returncode == 1


def test_workers_whose_supervisor_was_killed_drain_and_exit(working, folder, hub):
    provider, tickets = working()
    provider.send(signal.SIGKILL)
    wait_until(lambda: provider.log.count("the supervisor is gone") == 2)
    (folder / "go").touch()
    provider.wait()
    assert {ticket.result(0).data["pid"] for ticket in tickets} == pids_of(folder)


def test_a_refused_token_is_logged_once(start):
    provider = start(PROVIDER_AUTH_TOKEN="wrong")
    assert provider.wait() == 77
    assert provider.log.count("Error: ") == 1
    assert "worker-2" not in provider.log


def test_a_missing_app_is_logged_once(start, folder):
    (folder / "crew.py").write_text("")
    provider = start()
    assert (provider.wait(), provider.log.count("crew has no ProviderApp")) == (2, 1)


def test_a_worker_runs_isolated_handlers(start, hub):
    start()
    pid = hub.call("who", timeout=TIMEOUT).data["pid"]
    alone = hub.call("alone", timeout=TIMEOUT).data
    assert alone["pid"] not in (pid, alone["parent"])


def test_each_worker_sends_the_results_in_its_spool_and_orphans_are_logged(start, hub, folder):
    for number in (1, 2, 3):
        leave(folder / f"tasks.db.{number}", f"left-{number}")
    provider = start(ARBPROV_SPOOL="tasks.db")
    hub.wait_until(lambda hub: len(hub.submissions) == 2)
    assert {result.id for result in hub.submissions} == {"left-1", "left-2"}
    assert provider.log.count(" has 1 task of an earlier start, and no worker") == 1
    assert [entry.id for entry in read_spool(folder / "tasks.db.3")] == ["left-3"]


def test_the_options_apply_to_each_worker(start, hub, folder):
    (folder / "token").write_text("token")
    options = ("--quiet", "--hub-url", hub.url, "--auth-token-file", "token")
    provider = start(*options, HUB_GRPC_URL="127.0.0.1:1", PROVIDER_AUTH_TOKEN="wrong")
    assert hub.call("who", timeout=TIMEOUT).status == "success"
    provider.stop()
    assert (provider.popen.returncode, provider.log) == (0, "")


def test_one_worker_has_no_supervisor(start, hub):
    provider = start("--workers", "1")
    assert hub.call("who", timeout=TIMEOUT).data["pid"] == provider.popen.pid


def test_the_supervisor_does_not_import_grpc():
    code = "import sys, arbprov.cli.supervisor.supervisor; assert 'grpc' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=TIMEOUT)


def test_a_worker_that_can_not_be_started_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        asyncio.run(WorkerProcess.start([str(tmp_path / "none")], print))


def test_a_worker_is_killed_while_it_starts_and_again_when_it_is_gone():
    async def story():
        # Not `input`: without a terminal, it ends before the signal if this process is slow.
        code = "import signal; signal.pause()"
        worker = await WorkerProcess.start([sys.executable, "-c", code], print)
        worker.stop()
        code = await worker.wait()
        worker.stop()
        worker.kill()
        return code

    assert asyncio.run(story()) == -signal.SIGTERM


def test_reports_that_a_worker_sends_before_its_exit_are_read():
    reported = []
    reports = b'1 25.0 "crew"\n2 25.0 "crew"\n'
    code = f"import os, sys; os.write(int(sys.argv[1]), {reports})"

    async def story():
        worker = await WorkerProcess.start([sys.executable, "-c", code], reported.append)
        return await worker.wait(), worker.stage, worker.drain_timeout, worker.provider

    assert asyncio.run(story()) == (0, Stage.CONNECTED, 25.0, "crew")
    assert reported == [Stage.RUNNING, Stage.CONNECTED]


# Limits


def limited(**options):
    """Return an app with a limit of each kind."""
    reports = Blueprint("reports", rate_limit="3/second")
    reports.action(name="daily")(lambda: None)
    app = ProviderApp("limited", **options)
    app.register_blueprint(reports)

    @app.action(rate_limit_monitor=TimeBasedRateLimitMonitor(2.0))
    @app.rate_limit("1/hour", key="account.id")
    @app.rate_limit("2/hour", store="redis://127.0.0.1:1")
    def square(n: int) -> dict:
        return {"square": n * n}

    return app


def test_several_workers_refuse_limits_that_each_would_count_for_itself():
    with pytest.raises(ConfigurationError) as error:
        run_worker(limited(rate_limit="50/second"), WorkerInfo(1, 3, "run", "", -1))
    assert str(error.value) == (
        "each of 3 workers would count these limits for itself, so together they would admit 3 "
        "times as many calls: 1/hour per account.id of action 'square', 3/second of the blueprint, "
        "50/second of the app, a delay of 2s of action 'square'; share the limits with "
        'rate_limit_store="redis://..." or ARBPROV_RATE_LIMIT_STORE, or run one worker, as a '
        "monitor always needs"
    )


@pytest.mark.parametrize("store", ["redis://127.0.0.1:1", object()])
def test_with_a_shared_store_only_a_monitor_counts_for_itself(store):
    (found,) = limited(rate_limit_store=store)._limits_in_memory()
    assert found == "a delay of 2s of action 'square'"


# Limits while their store is away


def test_a_worker_that_is_replaced_while_the_store_is_away_has_no_new_share(working, folder, hub):
    limited = '@app.action\n@app.rate_limit("2/hour")\ndef wait_for_file'
    (folder / "crew.py").write_text(PROVIDER.replace("@app.action\ndef wait_for_file", limited))
    temporary = folder / "temporary"
    temporary.mkdir()
    provider, tickets = working(
        ARBPROV_RATE_LIMIT_STORE="redis://127.0.0.1:1", TMPDIR=str(temporary)
    )
    (folder / "go").touch()
    assert {ticket.result(TIMEOUT).status for ticket in tickets} == {Status.SUCCESS}
    (kept,) = temporary.iterdir()
    files = [path for path in kept.iterdir() if path.is_file()]
    assert (kept.stat().st_mode & 0o777, len(files)) == (0o700, 2)
    for pid in pids_of(folder):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: provider.log.count("its counts go on here") == 2)
    tickets = [hub.put("wait_for_file") for _ in range(6)]
    assert {ticket.result(TIMEOUT).status for ticket in tickets} == {Status.LIMIT}
    provider.stop()
    assert list(temporary.iterdir()) == []


def test_without_a_temporary_folder_workers_run_too(monkeypatch, caplog):
    def refuse(prefix):
        raise OSError("no space left")

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    with _temporary_folder() as folder:
        assert folder == ""
    assert "there is no temporary folder: no space left" in caplog.text


# Spools


def leave(path, id):
    """Leave a result in a spool."""

    async def fill():
        spool = Spool(path)
        task = Task(id, "who", b"{}", b"")
        await spool.begin(task)
        await spool.finish(
            task.key, encode_result(TaskResult(task, Status.SUCCESS, "", {}), "crew")
        )
        await spool.close()

    asyncio.run(fill())


@pytest.mark.parametrize(
    ("count", "left", "logged"),
    [
        (1, ["tasks", "tasks.1"], [("tasks.1", 1)]),
        (2, ["tasks", "tasks.1", "tasks.2"], [("tasks", 1)]),
        (2, ["tasks.2", "tasks.3", "tasks.12"], [("tasks.3", 3), ("tasks.12", 12)]),
        (2, ["tasks.old", "other.3"], []),
    ],
)
def test_a_spool_that_no_worker_uses_is_logged(tmp_path, caplog, count, left, logged):
    for name in left:
        leave(tmp_path / name, "left")
    warn_of_orphans(str(tmp_path / "tasks"), count)
    assert caplog.messages == [
        f"the spool at {tmp_path / name} has 1 task of an earlier start, and no worker of this "
        f"start sends the results; run once with --workers {workers}"
        for name, workers in logged
    ]


def test_an_empty_spool_and_another_program_s_file_are_not_logged(tmp_path, caplog):
    asyncio.run(Spool(tmp_path / "tasks.3").close())
    (tmp_path / "tasks.4").write_text("not a spool")
    warn_of_orphans(str(tmp_path / "tasks"), 2)
    warn_of_orphans("", 2)
    assert caplog.messages == []


LIVING = """
import contextlib
import os
from arbprov import ProviderApp

app = ProviderApp("crew")

def note(word):
    with open("life", "a") as file:
        file.write(f"{word} {os.getpid()}\\n")

@app.lifespan
@contextlib.contextmanager
def live():
    note("entered")
    yield
    note("left")
"""


def test_each_worker_enters_the_lifespan_and_leaves_it(folder, start):
    (folder / "crew.py").write_text(LIVING)
    provider = start()

    def workers(word):
        lines = (folder / "life").read_text().splitlines() if (folder / "life").exists() else []
        return {line.split()[1] for line in lines if line.startswith(word)}

    wait_until(lambda: len(workers("entered")) == 2)
    provider.send(signal.SIGTERM)
    assert provider.wait() == 0
    assert workers("left") == workers("entered")

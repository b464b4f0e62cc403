"""Handlers with isolation="process", over real processes and real gRPC."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs
import pytest
from support import isolated
from support.waiting import TIMEOUT, wait_for_line, wait_until

from arbprov import (
    ConfigurationError,
    HandlerProcessError,
    ProviderApp,
    ProviderResponse,
    RateLimitMonitor,
    _utils,
)
from arbprov.config import Config
from arbprov.executors import child, executor, messages, processes
from arbprov.executors.messages import Failure, Kind, Message, RecordState
from arbprov.limits import Decision
from arbprov.localhub import LocalHub
from arbprov.responses import error_response

SUPPORT = Path(__file__).parent.parent


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        threads = os.listdir(f"/proc/{pid}/task")
    except (FileNotFoundError, ProcessLookupError):
        return False
    # A zombie is dead, but only when its last thread is.
    return state not in "ZX" or len(threads) > 1


def app_with(*handlers, **settings):
    """Return a new app with some of the handlers of `support.isolated`."""
    app = ProviderApp("isolated", **settings)
    for handler in handlers:
        app.action(isolation="process")(handler)
    return app


@pytest.fixture(scope="module")
def shared_hub():
    """A hub that the provider of `support.isolated` works for, in a thread of this process."""
    with LocalHub(hold=0.05) as hub, ThreadPoolExecutor(1) as pool:
        running = pool.submit(isolated.app.run, hub_url=hub.address, auth_token=hub.token)
        yield hub
        isolated.app.stop()
        running.result(TIMEOUT)


@pytest.fixture
def call(shared_hub):
    return lambda action, payload=None, **options: shared_hub.call(
        action, payload, timeout=TIMEOUT, **options
    )


@pytest.fixture
def start(tmp_path):
    """Return a function that starts a provider in its own process, until the end of the test."""
    started = []

    def start(hub, *command, environ=(), **options):
        environ = {
            "PROVIDER_AUTH_TOKEN": hub.token,
            "HUB_GRPC_URL": hub.address,
            "PYTHONPATH": str(SUPPORT),
            "PYTHONUNBUFFERED": "",
            "TASK_EXECUTION_TIMEOUT": str(TIMEOUT),
            **dict(environ),
        }
        process = subprocess.Popen(
            [sys.executable, *command],
            env=os.environ | environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            **options,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with process:
            process.kill()


def stop(process) -> tuple[int, str]:
    """Stop a provider; return its exit code and its stderr."""
    process.terminate()
    errors = process.communicate(timeout=TIMEOUT)[1]
    return process.returncode, errors


# Which process runs the handler.


def test_no_process_is_started_before_the_first_task(hub, serve):
    before = multiprocessing.active_children()
    app = app_with(isolated.pid)
    app.action(isolated.in_a_thread)
    serve(app)
    hub.call("in_a_thread", timeout=TIMEOUT)
    assert multiprocessing.active_children() == before


def test_a_handler_runs_in_another_process_than_the_provider(call):
    assert call("pid").data["pid"] != os.getpid()


def test_a_process_is_reused(call):
    assert call("pid").data == call("pid").data


def test_handlers_that_run_in_parallel_have_a_process_each(call, shared_hub, tmp_path):
    paths = [tmp_path / name for name in "ab"]
    tickets = [shared_hub.put("wait_for", {"path": str(path)}) for path in paths]
    for path in paths:
        wait_until(path.exists)
    for path in paths:
        path.unlink()
    assert len({ticket.result(TIMEOUT).data["pid"] for ticket in tickets}) == 2


def test_the_test_client_runs_the_handler_in_the_test_s_process():
    assert isolated.app.test_client().call("pid").data["pid"] == os.getpid()


@pytest.mark.parametrize(
    "command",
    [
        ["isolated.py"],
        ["-m", "isolated"],
        ["-m", "arbprov", "run", "isolated.py"],
        ["-m", "arbprov", "run", "isolated:app"],
        ["-m", "arbprov", "run", "support.isolated:app"],
    ],
    ids=" ".join,
)
def test_a_provider_finds_its_handlers_however_it_is_run(hub, start, tmp_path, command):
    (tmp_path / "isolated.py").write_text(Path(isolated.__file__).read_text())
    process = start(hub, *command)
    pids = hub.call("pid", timeout=TIMEOUT).data
    assert pids["parent"] == process.pid
    assert hub.call("fail", {"how": "odd"}, timeout=TIMEOUT).message == "handled 5"
    assert stop(process)[0] == 0


def test_the_installed_command_finds_its_handlers_too(hub, start, tmp_path):
    command = Path(sys.executable).parent / "arbprov"
    process = start(hub, str(command), "run", "support.isolated:app")
    assert hub.call("pid", timeout=TIMEOUT).data["parent"] == process.pid


# How the process ends.


@pytest.mark.parametrize(
    ("action", "payload", "end"),
    [
        ("segfault", {}, "was killed by SIGSEGV"),
        ("leave", {"code": 5}, "ended with exit code 5"),
        ("leave", {"code": 0}, "ended with exit code 0"),
        (
            "kill_itself",
            {"number": int(signal.SIGKILL)},
            "was killed by SIGKILL, as the system does when memory runs out",
        ),
        ("kill_itself", {"number": 40}, "was killed by signal 40"),
        ("leave_a_fork_behind", {}, "ended with exit code 5"),
        ("close_everything", {}, "has closed its connection"),
    ],
)
def test_the_exit_of_a_process_is_an_error_that_says_how_it_ended(call, action, payload, end):
    text = f"The action's process {end}"
    result = call(action, payload)
    assert (result.status, result.data) == (
        "error",
        {"error": text, "type": "HandlerProcessError"},
    )


def test_the_exit_of_a_process_is_logged(call, caplog):
    call("leave", {"code": 5}, id="t5")
    assert "task 't5' of action 'leave': The action's process" in caplog.text


def test_a_crash_does_not_affect_other_processes(call, shared_hub, tmp_path):
    path = tmp_path / "here"
    ticket = shared_hub.put("wait_for", {"path": str(path)})
    pid = int(wait_until(lambda: path.exists() and path.read_text()))
    call("segfault")
    path.unlink()
    assert ticket.result(TIMEOUT).data == {"pid": pid}


def test_a_process_that_ended_while_idle_is_replaced(call):
    pid = call("pid").data["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid))
    assert call("pid").data["pid"] != pid


def test_a_process_that_ends_just_before_a_call_is_an_error(call, monkeypatch):
    pid = call("pid").data["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid))
    with monkeypatch.context() as patch:
        patch.setattr(processes.HandlerProcess, "is_alive", True)
        assert "was killed by SIGKILL" in call("pid").message
    call("pid")


def test_a_handler_is_killed_at_its_deadline_with_its_child_processes(call, tmp_path):
    path = tmp_path / "pids"
    result = call("hang", {"path": str(path)})
    assert result.data["timeout"] == 3.0
    for pid in path.read_text().split():
        wait_until(lambda pid=pid: not is_alive(int(pid)))


@pytest.mark.parametrize(
    ("action", "is_timeout"), [("hang_with_daemons", True), ("crash_with_a_daemon", False)]
)
def test_what_a_handler_started_ends_with_it_in_other_sessions_too(
    call, tmp_path, action, is_timeout
):
    path = tmp_path / "pids"
    assert ("timeout" in call(action, {"path": str(path)}).data) is is_timeout
    pids = path.read_text().split()
    assert len(pids) == 2
    for pid in pids:
        wait_until(lambda pid=pid: not is_alive(int(pid)))


def test_what_a_handler_started_ends_with_a_provider_that_was_killed(hub, start, tmp_path):
    process = start(hub, "-m", "support.isolated")
    path = tmp_path / "pids"
    hub.put("start_daemons", {"path": str(path)})
    wait_until(lambda: path.exists() and len(path.read_text().split()) == 2)
    process.kill()
    for pid in path.read_text().split():
        wait_until(lambda pid=pid: not is_alive(int(pid)))


def test_what_an_idle_process_started_outlives_a_stop(hub, serve, monkeypatch):
    monkeypatch.setattr(processes, "_EXIT_GRACE", TIMEOUT)
    app = app_with(isolated.start_daemon)
    running = serve(app)
    pid = hub.call("start_daemon", timeout=TIMEOUT).data
    app.stop()
    running.result(TIMEOUT)
    assert is_alive(pid)
    os.kill(pid, signal.SIGKILL)


# Its environment.


def test_a_handler_and_its_programs_do_not_see_the_provider_s_secrets(hub, start, tmp_path):
    (tmp_path / "token").write_text(hub.token)
    secrets = {
        "PROVIDER_AUTH_TOKEN_FILE": str(tmp_path / "token"),
        "ARBPROV_RATE_LIMIT_STORE": "redis://:sample-password@localhost:1",
        "OF_ANOTHER_NAME": hub.token,
        "OTHER": "stays",
    }
    start(hub, "-m", "support.isolated", environ=secrets)
    data = hub.call("environment", timeout=TIMEOUT).data
    assert data["own"]["OTHER"] == "stays"
    assert "OTHER=stays" in data["program"]
    for text in (str(data["own"]), data["program"]):
        assert hub.token not in text
        assert "sample-password" not in text
        assert "PROVIDER_AUTH_TOKEN" not in text


def test_a_module_that_reads_the_token_itself_is_imported_in_the_process(hub, start, tmp_path):
    name = provider(
        tmp_path,
        "import os\n"
        "from arbprov import ProviderApp\n"
        "app = ProviderApp(auth_token=os.environ['PROVIDER_AUTH_TOKEN'])\n"
        "@app.action(isolation='process')\n"
        "def work(): return {'token': os.environ.get('PROVIDER_AUTH_TOKEN')}\n"
        "if __name__ == '__main__': app.run()\n",
    )
    start(hub, name)
    assert hub.call("work", timeout=TIMEOUT).data == {"token": None}


def test_each_secret_setting_is_hidden():
    fields = [field for field in attrs.fields(Config) if not field.repr]
    names = [field.metadata["variable"] for field in fields]
    expected = {f"{name}{suffix}" for name in names for suffix in ("", "_FILE")}
    assert set(executor._SECRET_VARIABLES) == expected


def test_a_killed_handler_is_not_logged_as_late(call, caplog, tmp_path):
    call("hang", {"path": str(tmp_path / "pids")})
    call("pid")
    assert "ended after its timeout" not in caplog.text


def test_the_processes_end_with_the_worker(hub, serve):
    app = app_with(isolated.pid)
    running = serve(app)
    pid = hub.call("pid", timeout=TIMEOUT).data["pid"]
    app.stop()
    running.result(TIMEOUT)
    wait_until(lambda: not is_alive(pid))


def test_processes_end_with_a_provider_that_was_killed(hub, start, tmp_path):
    process = start(hub, "-m", "support.isolated")
    path = tmp_path / "here"
    pid = hub.call("pid", timeout=TIMEOUT).data["pid"]
    hub.put("wait_for", {"path": str(path)})
    wait_until(lambda: path.exists() and path.read_text())
    busy = int(path.read_text())
    process.kill()
    wait_until(lambda: not is_alive(pid) and not is_alive(busy))


def test_processes_end_with_a_provider_that_exits_without_a_stop(hub, start, tmp_path):
    (tmp_path / "thread.py").write_text(
        "import sys, threading\n"
        "from support.isolated import app\n"
        "if __name__ == '__main__':\n"
        "    threading.Thread(target=app.run, daemon=True).start()\n"
        "    sys.stdin.read()\n"
    )
    process = start(hub, "thread.py", stdin=subprocess.PIPE)
    pid = hub.call("pid", timeout=TIMEOUT).data["pid"]
    process.communicate(timeout=TIMEOUT)
    wait_until(lambda: not is_alive(pid))


# Signals.


def test_ctrl_c_lets_a_handler_finish(hub, start, tmp_path):
    process = start(hub, "-m", "support.isolated", start_new_session=True)
    path = tmp_path / "here"
    ticket = hub.put("wait_for", {"path": str(path)})
    wait_until(path.exists)
    os.killpg(process.pid, signal.SIGINT)
    wait_for_line(process, "SIGINT: draining")
    path.unlink()
    assert ticket.result(TIMEOUT).status == "success"
    assert process.wait(TIMEOUT) == 0


def test_ctrl_c_lets_a_process_start(hub, start, tmp_path):
    (tmp_path / "slowly.py").write_text(
        "import pathlib, time\n"
        "if __name__ == '__mp_main__':\n"
        "    pathlib.Path('starting').touch()\n"
        "    while pathlib.Path('starting').exists(): time.sleep(0.01)\n"
        "from support.isolated import app\n"
        "if __name__ == '__main__':\n"
        "    app.run()\n"
    )
    process = start(hub, "slowly.py", start_new_session=True)
    ticket = hub.put("pid")
    starting = tmp_path / "starting"
    wait_until(starting.exists)
    os.killpg(process.pid, signal.SIGINT)
    wait_for_line(process, "SIGINT: draining")
    starting.unlink()
    assert ticket.result(TIMEOUT).status == "success"


def test_sigterm_to_a_process_lets_its_handler_finish(call, shared_hub, tmp_path):
    path = tmp_path / "here"
    ticket = shared_hub.put("wait_for", {"path": str(path)})
    pid = int(wait_until(lambda: path.exists() and path.read_text()))
    os.kill(pid, signal.SIGTERM)
    path.unlink()
    assert ticket.result(TIMEOUT).data == {"pid": pid}


def test_sigterm_ends_a_process_that_a_handler_forked(call):
    assert call("end_a_fork").data == {"exit_code": -signal.SIGTERM}


# What a handler gets.


def test_a_handler_has_its_context(call):
    data = call("context", {"city": "Paris"}, account={"id": 5}, id="t7").data
    assert 0 < data.pop("remaining") <= TIMEOUT
    assert data == {
        "id": "t7",
        "action": "context",
        "payload": {"city": "Paris"},
        "account": {"id": 5},
        "cancelled": False,
        "logger": "arbprov.context",
    }


def test_a_refund_reaches_the_limits(hub, serve):
    serve(app_with(isolated.refund, rate_limit="2/hour"))
    results = [hub.call("refund", timeout=TIMEOUT) for _ in range(4)]
    assert [result.data["remaining"] for result in results] == [1, 1, 1, 1]


def test_a_limit_is_charged_once_the_process_is_ready(hub, serve, monkeypatch):
    app = app_with(isolated.pid, rate_limit="5/hour")
    start, remaining = processes.HandlerProcess.start, []

    def look_and_start(process):
        remaining.append(app.limits.headroom("pid")[0].remaining)
        start(process)

    monkeypatch.setattr(processes.HandlerProcess, "start", look_and_start)
    serve(app)
    assert hub.call("pid").status == "success"
    remaining.append(app.limits.headroom("pid")[0].remaining)
    assert remaining == [5, 4]


def test_a_charge_that_ages_on_the_way_to_the_process_is_made_again(
    hub, serve, monkeypatch, made_again
):
    # As if this process had been stopped just before it sent the call, each time.
    monkeypatch.setattr(messages, "time", types.SimpleNamespace(monotonic=lambda: 0.0))
    serve(app_with(isolated.pid, rate_limit="9/hour"))
    assert hub.call("pid", timeout=TIMEOUT).status == "success"
    assert len(made_again) == 3


class Closed(RateLimitMonitor):
    def check_rate_limits(self):
        return {"rate_limited": True, "wait_time": 60}


def test_the_process_of_a_call_that_a_monitor_refuses_is_reused(hub, serve):
    before = set(multiprocessing.active_children())
    serve(app_with(isolated.pid, rate_limit_monitor=Closed()))
    statuses = [hub.call("pid", timeout=TIMEOUT).status for _ in range(3)]
    assert statuses == ["limit"] * 3
    # The process starts before the monitors are asked.
    assert len(set(multiprocessing.active_children()) - before) == 1


def test_parallel_calls_start_no_more_processes_than_their_limit_admits(hub, serve):
    before = set(multiprocessing.active_children())
    serve(app_with(isolated.pid, rate_limit="2/hour"))
    tickets = [hub.put("pid") for _ in range(8)]
    statuses = sorted(ticket.result(TIMEOUT).status for ticket in tickets)
    assert statuses == ["limit"] * 6 + ["success"] * 2
    assert len(set(multiprocessing.active_children()) - before) <= 2


def test_a_call_whose_process_does_not_start_is_not_charged(hub, serve, monkeypatch):
    serve(app_with(isolated.pid, rate_limit="2/hour"))
    with monkeypatch.context() as patch:
        patch.setattr(processes.HandlerProcess, "start", refuse_to_start)
        failed = hub.call("pid", timeout=TIMEOUT)
    assert (failed.status, failed.data["type"]) == ("error", "HandlerProcessError")
    statuses = [hub.call("pid", timeout=TIMEOUT).status for _ in range(3)]
    assert statuses == ["success", "success", "limit"]


def refuse_to_start(process):
    process._has_ended = True
    raise HandlerProcessError("out of memory")


def test_a_handler_sees_the_headroom_of_its_limits(hub, serve):
    serve(app_with(isolated.headroom, rate_limit="2/hour"))
    data = hub.call("headroom", timeout=TIMEOUT).data
    assert data == {"limit": "2/hour", "remaining": 1}


def test_a_report_reaches_the_limits(hub, serve):
    app = app_with(isolated.report)
    app.rate_limit("10/hour", name="vendor")(isolated.report)
    serve(app)
    results = [hub.call("report", timeout=TIMEOUT) for _ in range(2)]
    assert [result.data["remaining"] for result in results] == [9, 4]


def test_a_report_for_an_unknown_limit_raises_in_the_handler(hub, serve):
    app = app_with(isolated.report)
    app.rate_limit("10/hour", name="sales")(isolated.report)
    serve(app)
    assert hub.call("report", timeout=TIMEOUT).data == {
        "error": "this call has no limit 'vendor'; it has 'sales', '10/hour'",
        "type": "ValueError",
    }


def test_a_refund_after_the_task_is_an_error(hub, serve):
    serve(app_with(isolated.refund_late, isolated.late_errors))
    hub.call("refund_late", timeout=TIMEOUT)
    assert hub.call("late_errors", timeout=TIMEOUT).data == {
        "errors": ["the task has ended, and with it the use of its limits"]
    }


def test_an_isolated_handler_acquires_a_limit(call):
    results = [call("acquire", {"calls": calls}) for calls in (2, 1, 1)]
    assert [result.status for result in results] == ["success", "success", "limit"]
    assert results[0].data == {"remaining": 1}
    assert results[2].data["limit"] == "calls"


def test_what_is_wrong_with_an_acquisition_is_raised_in_the_process(call):
    failed = call("acquire", {"calls": 1, "cost": 9})
    assert failed.data["type"] == "ValueError"
    assert failed.message.startswith("a cost of 9 can never be met by 3/hour")


def test_an_isolated_handler_acquires_in_its_own_loop(call):
    data = call("acquire_async").data
    assert data["refused"] == ["RateLimited"]
    assert "await ctx.limits.aacquire(...)" in data["error"]


def test_an_isolated_handler_waits_for_a_limit(call):
    assert call("acquire_and_wait").data["took"] >= 0.9


def test_what_an_api_says_to_an_isolated_handler_reaches_its_limits(call):
    fine = {"X-RateLimit-Limit": "10", "X-RateLimit-Remaining": "4", "X-RateLimit-Reset": "60"}
    assert call("observe", {"status": 200, "headers": fine}).status == "success"
    throttled = call("observe", {"status": 429, "headers": {"Retry-After": "30"}})
    assert (throttled.status, throttled.data["wait_time"]) == ("limit", 30)


def test_an_isolated_handler_observes_limits_that_it_does_not_acquire(call):
    answer = {"status": 200, "headers": {}}
    assert call("observe_automatic", answer).data == {"without": True}
    answer = {"status": 429, "headers": {"Retry-After": "30"}}
    assert call("observe_automatic", answer).data["wait_time"] == 30
    assert call("observe_automatic", answer).data["cooldown"]["action"] == "observe_automatic"


def test_an_alarm_ends_a_wait_for_a_limit_and_not_the_process(call):
    before = call("pid").data["pid"]
    assert call("acquire_until_alarm").data == {"raised": "rung"}
    assert call("pid").data["pid"] == before


def test_a_process_that_is_killed_before_it_has_started_ends_at_its_start():
    process = processes.HandlerProcess("early", {})
    process.kill()
    with pytest.raises(HandlerProcessError, match="action's process"):
        process.start()
    process.wait(TIMEOUT)
    assert not process.is_alive


def test_a_question_that_can_not_be_read_is_reported(capsys):
    process = processes.HandlerProcess("unused", {})
    process._answer(None, Message(Kind.QUESTION, 1, b"not pickled"))
    assert "a question of a handler's process can't be read" in capsys.readouterr().err


def test_an_acquisition_after_the_task_is_an_error(hub, serve):
    app = app_with(isolated.acquire_late, isolated.acquire_late_errors)
    app.rate_limit("5/hour", name="late", manual=True)(isolated.acquire_late)
    serve(app)
    hub.call("acquire_late", timeout=TIMEOUT)
    assert hub.call("acquire_late_errors", timeout=TIMEOUT).data == {
        "errors": ["the task has ended, and with it the use of its limits"]
    }


def test_a_handler_s_stdin_is_empty(call):
    assert call("read_stdin").data == {"read": ""}


def test_a_handler_s_stdout_is_flushed_after_each_call(hub, start):
    process = start(hub, "-m", "support.isolated")
    hub.call("print_word", {"word": "printed"}, timeout=TIMEOUT)
    assert process.stdout.readline() == "printed\n"


def test_a_handler_s_log_records_reach_the_provider_s_log_handlers(call, caplog):
    caplog.set_level(logging.INFO)
    call("log")
    records = {record.name: record for record in caplog.records}
    assert records["arbprov.log"].getMessage() == "hello from a process"
    assert records["arbprov.log"].city == "Paris"
    assert records["elsewhere"].getMessage() == "hello too"
    assert "a detail" not in caplog.text


def test_a_handler_s_log_has_the_provider_s_level(call, caplog):
    caplog.set_level(logging.ERROR)
    call("log")
    assert caplog.text == ""


def test_a_handler_s_log_has_the_provider_s_level_of_each_logger(call, caplog):
    caplog.set_level(logging.CRITICAL, "elsewhere")
    call("log")
    assert "hello too" not in caplog.text


def test_an_argument_that_can_not_be_pickled_is_an_error(call):
    error = call("local", {"thing": {"name": "x"}}).data["error"]
    assert error.startswith("The action's arguments can't be sent to its process: ")
    assert error.endswith("; define their classes at the top of a module")


# Messages that do not decide a call.


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("not loadable", "429: slow down"),
        ("not picklable", "<unlocked _thread.lock object"),
        ("evil", ""),
        ("unknown", "a thing"),
    ],
)
def test_a_log_record_that_can_not_cross_becomes_its_text(call, caplog, how, text):
    pids = [call("pid").data]
    results = [call("log_oddly", {"number": n, "how": how}).data for n in range(3)]
    assert results == [0, 1, 2]
    odd = [record for record in caplog.records if record.name == "arbprov.log_oddly"]
    assert [record.getMessage() for record in odd] == [f"odd: {how}"] * 3
    assert [record.city for record in odd] == ["Paris"] * 3
    assert all(record.odd.startswith(text) for record in odd)
    assert [call("pid").data] == pids


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_a_log_filter_of_the_provider_that_raises_decides_no_call(call, capsys, error):
    def refuse(record):
        raise error("no record today")

    log = logging.getLogger("arbprov.log_a_number")
    log.addFilter(refuse)
    try:
        assert [call("log_a_number", {"number": n}).data for n in range(3)] == [0, 1, 2]
    finally:
        log.removeFilter(refuse)
    assert "no record today" in capsys.readouterr().err


def test_a_refund_that_fails_in_the_provider_decides_no_call(call, monkeypatch, capsys):
    def fail(decision):
        raise ConnectionError("the store is away")

    before = call("pid").data
    with monkeypatch.context() as patch:
        patch.setattr(Decision, "refund", fail)
        assert call("refund_nothing").data == 7
    assert call("pid").data == before
    assert "the store is away" in capsys.readouterr().err


def test_a_process_that_answers_another_call_is_killed(hub, serve):
    serve(app_with(isolated.pid, isolated.answer_too_early))
    before = hub.call("pid", timeout=TIMEOUT).data
    hub.call("answer_too_early", {"number": 1}, timeout=TIMEOUT)
    error = hub.call("answer_too_early", {"number": 2}, timeout=TIMEOUT).data
    assert error == {
        "error": "The action's process has answered another call, and was killed",
        "type": "HandlerProcessError",
    }
    wait_until(lambda: not is_alive(before["pid"]))
    assert hub.call("pid", timeout=TIMEOUT).data != before


def test_a_process_that_refunds_another_call_is_killed(call):
    payload = {"number": 1, "kind": int(Kind.REFUND), "call": 1}
    assert "has answered another call" in call("answer_too_early", payload).message
    assert call("log_a_number", {"number": 5}).data == 5


def test_a_process_that_sends_garbage_is_killed(call):
    assert call("send_garbage").data["error"] == (
        "The action's process has sent data that are not an answer, and was killed"
    )
    assert call("log_a_number", {"number": 5}).data == 5


def test_a_process_whose_first_message_is_another_one_does_not_start(monkeypatch):
    process = processes.HandlerProcess("odd", {})
    monkeypatch.setattr(processes.HandlerProcess, "_receive", lambda self: Message(Kind.RESULT, 0))
    with pytest.raises(HandlerProcessError, match="data that are not an answer"):
        process.start()
    assert not process.is_alive


def test_a_call_that_ends_without_its_answer_ends_the_process(hub, serve, monkeypatch):
    serve(app_with(isolated.pid))
    before = hub.call("pid", timeout=TIMEOUT).data
    with monkeypatch.context() as patch:
        patch.setattr(processes.HandlerProcess, "_receive", run_out_of_memory)
        assert hub.call("pid", timeout=TIMEOUT).status == "error"
    wait_until(lambda: not is_alive(before["pid"]))
    assert hub.call("pid", timeout=TIMEOUT).data != before


def run_out_of_memory(process):
    raise MemoryError


def test_a_message_of_a_handler_s_own_class_becomes_plain_text(call):
    result = call("answer_oddly")
    assert (result.status, result.message) == ("warning", "odd")


def test_a_result_that_the_provider_can_not_read_is_an_error(call, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Message, "load", lambda message: int("no number"))
        error = call("pid").data["error"]
    assert error.startswith("The action's result can't be read by the provider: invalid literal")
    assert call("log_a_number", {"number": 5}).data == 5


def test_an_alarm_that_a_handler_left_rings_in_no_other_call(call):
    pid = call("pid").data
    call("leave_an_alarm", {"number": 1})
    # It would ring within 50 ms.
    assert call("sleep", {"seconds": 0.1}).data == pid


def server_with(send_bytes):
    return child._Server(types.SimpleNamespace(send_bytes=send_bytes), {})


def test_a_message_that_is_sent_inside_another_one_is_sent_after_it():
    sent = []

    def send_bytes(data):
        kind = Message.decode(data).kind
        if kind is Kind.RESULT:  # as if a signal's handler logged here
            server.send(Kind.LOG, b"")
        sent.append(kind)

    server = server_with(send_bytes)
    server.send(Kind.RESULT, b"")
    server.send(Kind.REFUND, b"")
    assert sent == [Kind.RESULT, Kind.LOG, Kind.REFUND]


@pytest.mark.parametrize("error", [TimeoutError("my alarm"), OSError(9, "closed")])
def test_a_process_ends_when_a_message_was_interrupted(monkeypatch, capfd, error):
    codes = []

    def exit_process(code):
        codes.append(code)
        raise SystemExit

    def send_bytes(data):
        raise error

    monkeypatch.setattr(os, "_exit", exit_process)
    with pytest.raises(SystemExit):
        server_with(send_bytes).send(Kind.LOG, b"")
    assert codes == [70]
    assert "a message to the provider was interrupted" in capfd.readouterr().err


def test_a_record_whose_arguments_do_not_fit_is_sent_and_says_so():
    sent = []
    forwarder = child._Forwarder(sent.append)
    forwarder.handle(logging.makeLogRecord({"msg": "%d", "args": ("x",), "levelno": 20}))
    (body,) = sent
    text = pickle.loads(body).restore().getMessage()
    assert text.startswith("'%d' can't be logged: TypeError: ")


def test_a_record_that_is_sent_has_the_type_and_the_message_of_its_exception():
    sent = []
    error = KeyError("city")
    options = {"levelno": 40, "exc_info": (KeyError, error, None)}
    child._Forwarder(sent.append).handle(logging.makeLogRecord(options))
    attributes = vars(pickle.loads(sent[0]).restore())
    assert attributes["exception.type"] == "KeyError"
    assert attributes["exception.message"] == "'city'"


def test_a_record_without_a_level_is_not_sent(capsys):
    sent = []
    forwarder = child._Forwarder(sent.append)
    forwarder.handle(logging.makeLogRecord({"msg": "one", "levelno": None}))
    assert sent == []
    assert "Logging error" in capsys.readouterr().err


# Results and exceptions.


@pytest.mark.parametrize(
    ("how", "data"),
    [
        ("key", {"error": "KeyError: 'nothing'", "type": "KeyError"}),
        ("local", {"error": "defined in a function", "type": "LocalError"}),
        ("exit", {"error": "SystemExit: 3", "type": "SystemExit"}),
        ("unspeakable", {"error": "UnspeakableError", "type": "UnspeakableError"}),
        ("stop", {"error": "no more", "type": "StopIteration"}),
        (
            "unicode",
            {
                "error": "'utf-8' codec can't decode byte 0xff in position 0: no",
                "type": "UnicodeDecodeError",
            },
        ),
    ],
)
def test_a_handler_s_exception_becomes_the_result(call, how, data):
    assert call("fail", {"how": how}).data == data


@pytest.mark.parametrize(
    ("base", "argument", "text"),
    [
        ("Exception", "the plug is loose", "the plug is loose"),
        ("KeyError", "plug", "PlugError: 'plug'"),
        ("KeyError", None, "PlugError"),
        ("ValueError", 5, "PlugError: 5"),
        ("Exception", [5], "PlugError: [5]"),
    ],
)
def test_an_exception_of_a_module_that_only_the_process_has_has_the_same_text(
    call, base, argument, text
):
    data = call("raise_unknown", {"base": base, "argument": argument}).data
    assert data == {"error": text, "type": "PlugError"}


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups are new in Python 3.11")
def test_a_group_that_only_the_process_can_make_has_the_texts_of_its_errors():
    class Local(ValueError):
        pass

    group = ExceptionGroup("two", [KeyError("plug"), Local("loose")])  # noqa: F821
    failure = pickle.loads(pickle.dumps(Failure.of(group)))
    assert error_response(failure.restore()).data == {
        "error": "two (2 sub-exceptions): KeyError: 'plug'; Local: loose",
        "type": "ExceptionGroup",
    }


def test_an_exception_whose_arguments_can_not_be_read_crosses_with_its_text():
    error = Failure.of(Secretive("said")).restore()
    assert (type(error).__name__, str(error)) == ("Secretive", "said")


class Misspoken(Exception):
    def __str__(self):
        raise SystemExit("no")


class Secretive(Exception):
    @property
    def args(self):
        raise SystemExit("no")


class NotAnException(Exception):
    def __reduce__(self):
        return str, ("text",)


class Shifting(Exception):
    """Has another text in each process."""

    prefix = "child"

    def __str__(self):
        return f"{self.prefix} text"


def test_an_exception_that_can_not_say_its_text_crosses_with_its_name():
    failure = pickle.loads(pickle.dumps(Failure.of(Misspoken())))
    assert type(failure.restore()).__name__ == "Misspoken"


def test_an_exception_that_unpickles_as_something_else_crosses_as_its_text():
    error = Failure.of(NotAnException("said")).restore()
    assert (type(error).__name__, str(error)) == ("NotAnException", "said")


def test_an_exception_that_has_another_text_in_the_provider_crosses_as_its_text(monkeypatch):
    failure = Failure.of(Shifting())
    monkeypatch.setattr(Shifting, "prefix", "provider")
    assert str(failure.restore()) == "child text"


def test_an_exception_whose_traceback_can_not_be_formatted_crosses_as_its_text(monkeypatch):
    def fail(error):
        raise RecursionError

    monkeypatch.setattr(_utils, "_format_traceback", fail)
    failure = Failure.of(ValueError("nested"))
    assert (failure.traceback, str(failure.restore())) == ("ValueError: nested", "nested")


def test_a_record_crosses_with_plain_names_and_its_own_level():
    record = logging.makeLogRecord({"name": "a", "levelno": 30, 5: "five", "msg": "m"})
    restored = pickle.loads(pickle.dumps(RecordState.of(record, "m: more"))).restore()
    assert (restored.getMessage(), restored.levelno) == ("m: more", 30)
    assert vars(restored)["5"] == "five"


def test_an_attribute_of_a_record_that_can_not_be_pickled_is_sent_as_text():
    odd = {"odd": lambda: 0, "error": ValueError("v")}
    record = logging.makeLogRecord({"name": "a", "levelno": 30, "msg": "m", **odd})
    restored = pickle.loads(pickle.dumps(RecordState.of(record, "m"))).restore()
    assert restored.odd.startswith("<function")
    assert type(restored.error) is ValueError


def test_an_idle_process_that_does_not_exit_is_killed_with_its_group_only(monkeypatch):
    pool = processes.ProcessPool({})
    process = pool.acquire()
    process.start()
    pool.release(process)
    monkeypatch.setattr(processes.HandlerProcess, "request_exit", lambda self: None)
    monkeypatch.setattr(processes, "kill_tree", pytest.fail)
    pool.close()
    process.wait(TIMEOUT)
    assert not process.is_alive


def test_a_process_that_has_ended_is_not_taken_back():
    pool = processes.ProcessPool({})
    process = pool.acquire()
    process.start()
    process.request_exit()
    process.wait(TIMEOUT)
    pool.release(process)
    assert (process.is_killed, pool.acquire() is process) == (True, False)
    pool.close()


def test_an_errorhandler_gets_a_handler_s_exception(call):
    assert call("fail", {"how": "odd"}).message == "handled 5"


def test_a_handler_can_raise_rate_limited(call):
    result = call("fail", {"how": "limited"})
    assert (result.status, result.data) == ("limit", {"wait_time": 30.0, "limit": "theirs"})


def test_the_log_has_a_handler_s_traceback(call, caplog):
    call("fail", {"how": "key"})
    assert "in fail\n" in caplog.text
    assert "/arbprov/" not in caplog.text


def test_a_response_arrives_as_it_is(call):
    result = call("answer", {"how": "response"})
    assert (result.status, result.message, result.data) == (
        "warning",
        "half",
        {"rows": [{"name": "a"}]},
    )


@pytest.mark.parametrize(
    ("how", "problem"),
    [
        ("set", "a: a set has no order in JSON"),
        ("generator", "JSON has no form for generator"),
    ],
)
def test_a_result_that_is_not_json_is_the_same_error_as_on_a_thread(call, how, problem):
    assert problem in call("answer", {"how": how}).data["error"]


def test_an_awaitable_is_awaited(call):
    assert call("answer", {"how": "awaitable"}).data == {"awaited": True}


# How the process starts.


def provider(tmp_path, text):
    (tmp_path / "provider.py").write_text(text)
    return "provider.py"


def test_a_call_s_time_begins_once_its_process_has_started(hub, start, tmp_path):
    name = provider(
        tmp_path,
        "import time\n"
        "from arbprov import ProviderApp\n"
        "if __name__ == '__mp_main__': time.sleep(1.6)\n"
        "app = ProviderApp(execution_timeout=1.5)\n"
        "@app.action(isolation='process')\n"
        "def work(): return {}\n"
        "if __name__ == '__main__': app.run()\n",
    )
    start(hub, name)
    assert hub.call("work", timeout=TIMEOUT).status == "success"


def test_a_start_that_fails_after_the_call_s_timeout_is_not_a_timeout(hub, serve, monkeypatch):
    def fail_late(process):
        time.sleep(0.3)
        refuse_to_start(process)

    monkeypatch.setattr(processes.HandlerProcess, "start", fail_late)
    app = ProviderApp("isolated", execution_timeout=0.1)
    app.action(isolation="process")(isolated.pid)
    serve(app)
    assert hub.call("pid", timeout=TIMEOUT).data["type"] == "HandlerProcessError"


def test_a_module_that_can_not_be_imported_is_an_error(hub, start, tmp_path):
    name = provider(
        tmp_path,
        "from arbprov import ProviderApp\n"
        "assert __name__ == '__main__', 'only once'\n"
        "app = ProviderApp()\n"
        "@app.action(isolation='process')\n"
        "def work(): return {}\n"
        "if __name__ == '__main__': app.run()\n",
    )
    process = start(hub, name)
    assert hub.call("work", timeout=TIMEOUT).data["error"] == (
        "The action's process ended with exit code 1 before it was ready"
    )
    assert "AssertionError: only once" in stop(process)[1]


def test_a_script_that_runs_its_app_when_imported_gets_an_error_with_the_fix(hub, start, tmp_path):
    name = provider(
        tmp_path,
        "from arbprov import ProviderApp\n"
        "app = ProviderApp()\n"
        "@app.action(isolation='process')\n"
        "def work(): return {}\n"
        "app.run()\n",
    )
    process = start(hub, name)
    assert "before it was ready" in hub.call("work", timeout=TIMEOUT).data["error"]
    assert 'put app.run() under `if __name__ == "__main__":`' in stop(process)[1]


def test_a_process_that_takes_too_long_to_start_is_killed(hub, serve, monkeypatch):
    monkeypatch.setattr(executor, "_START_TIMEOUT", 0.0)
    serve(app_with(isolated.pid))
    error = hub.call("pid", timeout=TIMEOUT).data["error"]
    assert error.startswith("The action's process was killed by SIGKILL")
    assert error.endswith(" before it was ready")


def test_a_process_that_the_system_refuses_to_start_is_an_error(hub, serve, monkeypatch):
    class Process(processes._SPAWN.Process):
        def start(self):
            raise BlockingIOError("no more processes")

    monkeypatch.setattr(processes._SPAWN, "Process", Process)
    serve(app_with(isolated.pid))
    assert hub.call("pid", timeout=TIMEOUT).data["error"] == (
        "The action's process can't be started: no more processes"
    )


def test_a_stop_whose_time_is_up_kills_busy_processes(hub, tmp_path, monkeypatch):
    # An idle process is asked to exit and then waited for; a busy one must not be.
    requests = []
    monkeypatch.setattr(processes.HandlerProcess, "request_exit", requests.append)
    app, path = app_with(isolated.wait_for, drain_timeout=3), tmp_path / "here"
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(app.run, hub_url=hub.address, auth_token=hub.token)
        hub.put("wait_for", {"path": str(path)})
        pid = int(wait_until(lambda: path.exists() and path.read_text()))
        app.stop()
        with pytest.raises(Exception, match="1 task unfinished"):
            running.result(TIMEOUT)
    wait_until(lambda: not is_alive(pid))
    assert requests == []


# Registration.


def test_an_async_handler_can_not_be_isolated():
    app = ProviderApp()

    async def work():
        return {}

    with pytest.raises(ConfigurationError, match="make it a plain def"):
        app.action(isolation="process")(work)


def test_an_unknown_isolation_is_an_error():
    with pytest.raises(ConfigurationError, match='must be "thread" or "process"'):
        ProviderApp().action(isolation="vat")(isolated.later)


def test_a_handler_that_can_not_be_imported_is_an_error_at_the_start():
    app = ProviderApp()

    @app.action(isolation="process")
    def work():
        return {}

    with pytest.raises(ConfigurationError, match="define it at the top of a module"):
        app.test_client()


def test_an_errorhandler_gets_the_error_of_a_process_that_ended(hub, serve):
    app = app_with(isolated.leave)

    @app.errorhandler(HandlerProcessError)
    def answer(error):
        return ProviderResponse("warning", message="it crashed")

    serve(app)
    assert hub.call("leave", {"code": 1}, timeout=TIMEOUT).message == "it crashed"


# Inside the process.


def test_a_process_kills_its_group_once_its_parent_is_gone(monkeypatch):
    class Parent:
        def join(self, timeout):
            parents.pop()

    parents, killed = [1, 7, 7], []
    monkeypatch.setattr(child, "list_children", lambda pid: [8])
    monkeypatch.setattr(child, "kill_tree", lambda pid: killed.append(pid))
    monkeypatch.setattr(child, "kill_marked", lambda mark: killed.append(mark))
    monkeypatch.setattr(child.multiprocessing, "parent_process", Parent)
    monkeypatch.setattr(os, "getppid", lambda: parents[-1])
    monkeypatch.setattr(os, "killpg", lambda *what: killed.append(what))
    child._exit_with_parent(7, "mark")
    assert killed == [8, "mark", (0, signal.SIGKILL)]


def test_a_fork_in_which_a_handler_returns_ends_without_a_response(monkeypatch):
    sent, ended = [], []
    link = types.SimpleNamespace(send_bytes=sent.append)
    server = child._Server(link, {})
    monkeypatch.setattr(server._home, "_process", -1)

    def end():
        ended.append(True)
        raise SystemExit

    monkeypatch.setattr(child, "end_fork", end)
    with pytest.raises(SystemExit):
        server.handle(Message(Kind.CALL, 1, pickle.dumps(None)).encode())
    assert (sent, ended) == ([], [True])


@pytest.fixture
def restore_signals_and_logging():
    """Restore the signal handlers and log handlers after the test."""
    signals = {number: signal.getsignal(number) for number in child._STOP_SIGNALS}
    handlers = list(logging.getLogger().handlers)
    yield
    for number, handler in signals.items():
        signal.signal(number, handler)
    logging.getLogger().handlers[:] = handlers


def test_a_fork_of_a_process_ends_by_sigterm_and_logs_to_stderr(restore_signals_and_logging):
    child._reset_after_fork()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert [type(handler) for handler in logging.getLogger().handlers] == [logging.StreamHandler]

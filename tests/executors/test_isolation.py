"""Handlers with isolation="process", over real processes and real gRPC."""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support import isolated
from support.waiting import TIMEOUT, wait_for_line, wait_until

from arbprov import (
    ConfigurationError,
    HandlerProcessError,
    MinDelay,
    ProviderApp,
    ProviderResponse,
    RateLimitMonitor,
)
from arbprov.executors import child, executor, processes
from arbprov.localhub import LocalHub

SUPPORT = Path(__file__).parent.parent


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        threads = os.listdir(f"/proc/{pid}/task")
    except (FileNotFoundError, ProcessLookupError):
        return False
    # One that waits to be noticed is dead, but only when its last thread is.
    return state not in "ZX" or len(threads) > 1


def app_with(*handlers, **settings):
    """Return an app of its own with some of the support's handlers."""
    app = ProviderApp("isolated", execution_timeout=10, **settings)
    for handler in handlers:
        app.action(isolation="process")(handler)
    return app


@pytest.fixture(scope="module")
def shared_hub():
    """A hub that the support's provider works for, in a thread of this process."""
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
    """Return what starts a provider in a process of its own, and ends it after the test."""
    started = []

    def start(hub, *command, **options):
        environ = {
            "PROVIDER_AUTH_TOKEN": hub.token,
            "HUB_GRPC_URL": hub.address,
            "PYTHONPATH": str(SUPPORT),
            "PYTHONUNBUFFERED": "",
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
    """Stop a provider; return what it has ended with, and its stderr."""
    process.terminate()
    errors = process.communicate(timeout=TIMEOUT)[1]
    return process.returncode, errors


# Where it runs.


def test_nothing_is_started_before_the_first_task(hub, serve):
    app = app_with(isolated.pid)
    app.action(isolated.in_a_thread)
    serve(app)
    hub.call("in_a_thread", timeout=TIMEOUT)
    assert multiprocessing.active_children() == []


def test_a_handler_runs_in_a_process_of_its_own(call):
    assert call("pid").data["pid"] != os.getpid()


def test_a_process_is_used_again(call):
    assert call("pid").data == call("pid").data


def test_handlers_that_run_at_once_have_processes_of_their_own(call, shared_hub, tmp_path):
    paths = [tmp_path / name for name in "ab"]
    tickets = [shared_hub.put("wait_for", {"path": str(path)}) for path in paths]
    for path in paths:
        wait_until(path.exists)
    for path in paths:
        path.unlink()
    assert len({ticket.result(TIMEOUT).data["pid"] for ticket in tickets}) == 2


def test_the_test_client_runs_it_in_the_process_of_the_test():
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
    assert hub.call("fail", {"how": "odd"}, timeout=TIMEOUT).message == "mended 5"
    assert stop(process)[0] == 0


def test_the_command_finds_them_too(hub, start, tmp_path):
    command = Path(sys.executable).parent / "arbprov"
    process = start(hub, str(command), "run", "support.isolated:app")
    assert hub.call("pid", timeout=TIMEOUT).data["parent"] == process.pid


# How it ends.


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
def test_the_end_of_a_process_is_an_error_that_says_how(call, action, payload, end):
    text = f"The process that the action runs in {end}"
    result = call(action, payload)
    assert (result.status, result.data) == (
        "error",
        {"error": text, "type": "HandlerProcessError"},
    )


def test_the_end_of_a_process_is_logged(call, caplog):
    call("leave", {"code": 5}, id="t5")
    assert "task 't5' of action 'leave': The process that the action runs in" in caplog.text


def test_a_crash_leaves_the_others_alone(call, shared_hub, tmp_path):
    path = tmp_path / "here"
    ticket = shared_hub.put("wait_for", {"path": str(path)})
    pid = int(wait_until(lambda: path.exists() and path.read_text()))
    call("segfault")
    path.unlink()
    assert ticket.result(TIMEOUT).data == {"pid": pid}


def test_a_process_that_has_ended_while_idle_is_replaced(call):
    pid = call("pid").data["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid))
    assert call("pid").data["pid"] != pid


def test_a_process_that_ends_before_it_gets_a_task_is_an_error(call, monkeypatch):
    pid = call("pid").data["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid))
    with monkeypatch.context() as unnoticed:
        unnoticed.setattr(processes.HandlerProcess, "is_alive", True)
        assert "was killed by SIGKILL" in call("pid").message
    call("pid")


def test_a_handler_is_killed_at_its_deadline_with_all_that_it_has_started(call, tmp_path):
    path = tmp_path / "pids"
    result = call("hang", {"path": str(path)})
    assert result.data["timeout"] == 1.0
    for pid in path.read_text().split():
        wait_until(lambda pid=pid: not is_alive(int(pid)))


def test_a_handler_that_was_killed_is_not_late(call, caplog, tmp_path):
    call("hang", {"path": str(tmp_path / "pids")})
    call("pid")
    assert "ended after its timeout" not in caplog.text


def test_the_processes_end_with_the_worker(hub, serve):
    app = app_with(isolated.pid)
    running = serve(app)
    pid = hub.call("pid", timeout=TIMEOUT).data["pid"]
    app.stop()
    running.result(TIMEOUT)
    assert not is_alive(pid)


def test_a_process_ends_with_its_provider_though_that_was_killed(hub, start, tmp_path):
    process = start(hub, "-m", "support.isolated")
    path = tmp_path / "here"
    pid = hub.call("pid", timeout=TIMEOUT).data["pid"]
    hub.put("wait_for", {"path": str(path)})
    wait_until(lambda: path.exists() and path.read_text())
    busy = int(path.read_text())
    process.kill()
    wait_until(lambda: not is_alive(pid) and not is_alive(busy))


def test_a_provider_that_ends_without_a_stop_leaves_nothing_behind(hub, start, tmp_path):
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
    assert not is_alive(pid)


# Signals.


def test_ctrl_c_lets_a_handler_finish(hub, start, tmp_path):
    process = start(hub, "-m", "support.isolated", start_new_session=True)
    path = tmp_path / "here"
    ticket = hub.put("wait_for", {"path": str(path)})
    wait_until(path.exists)
    os.killpg(process.pid, signal.SIGINT)
    wait_for_line(process, "SIGINT: finishing what is begun")
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
    wait_for_line(process, "SIGINT: finishing what is begun")
    starting.unlink()
    assert ticket.result(TIMEOUT).status == "success"


def test_a_handler_finishes_though_its_process_is_told_to_end(call, shared_hub, tmp_path):
    path = tmp_path / "here"
    ticket = shared_hub.put("wait_for", {"path": str(path)})
    pid = int(wait_until(lambda: path.exists() and path.read_text()))
    os.kill(pid, signal.SIGTERM)
    path.unlink()
    assert ticket.result(TIMEOUT).data == {"pid": pid}


def test_what_a_handler_forks_can_be_told_to_end(call):
    assert call("end_a_fork").data == {"exit_code": -signal.SIGTERM}


# What a handler gets.


def test_a_handler_has_its_context(call):
    data = call("context", {"city": "Paris"}, account={"id": 5}, id="t7").data
    assert 0 < data.pop("remaining") <= 10
    assert data == {
        "id": "t7",
        "action": "context",
        "payload": {"city": "Paris"},
        "account": {"id": 5},
        "cancelled": False,
        "logger": "arbprov.context",
    }


def test_a_refund_is_passed_on(call):
    assert [call("refund").data["remaining"] for _ in range(4)] == [1, 1, 1, 1]


@pytest.mark.slow
def test_a_limit_is_charged_when_the_process_is_there_and_the_handler_can_start(hub, serve):
    app = ProviderApp("isolated", execution_timeout=10)
    limited = app.rate_limit(MinDelay(1.5), max_wait=TIMEOUT)
    app.action(isolation="process")(limited(isolated.begun))
    serve(app)
    tickets = [hub.put("begun") for _ in range(3)]
    began = sorted(ticket.result(TIMEOUT).data["at"] for ticket in tickets)
    gaps = [later - earlier for earlier, later in itertools.pairwise(began)]
    # A charge and the start that it is for are apart, by more on a machine with other work.
    assert min(gaps) > 0.75


class Closed(RateLimitMonitor):
    def check_rate_limits(self):
        return {"rate_limited": True, "wait_time": 60}


def test_a_call_that_a_monitor_refuses_leaves_its_process_to_others(hub, serve):
    before = set(multiprocessing.active_children())
    serve(app_with(isolated.pid, rate_limit_monitor=Closed()))
    statuses = [hub.call("pid", timeout=TIMEOUT).status for _ in range(3)]
    assert statuses == ["limit"] * 3
    # Monitors are not asked before it is there.
    assert len(set(multiprocessing.active_children()) - before) == 1


def test_calls_that_come_at_once_start_no_more_processes_than_a_limit_admits(hub, serve):
    before = set(multiprocessing.active_children())
    serve(app_with(isolated.pid, rate_limit="2/hour"))
    tickets = [hub.put("pid") for _ in range(8)]
    statuses = sorted(ticket.result(TIMEOUT).status for ticket in tickets)
    assert statuses == ["limit"] * 6 + ["success"] * 2
    assert len(set(multiprocessing.active_children()) - before) <= 2


def test_a_process_that_does_not_start_takes_nothing_from_a_limit(hub, serve, monkeypatch):
    serve(app_with(isolated.pid, rate_limit="2/hour"))
    with monkeypatch.context() as patch:
        patch.setattr(processes.HandlerProcess, "start", refuse_to_start)
        failed = hub.call("pid", timeout=TIMEOUT)
    assert (failed.status, failed.data["type"]) == ("error", "HandlerProcessError")
    statuses = [hub.call("pid", timeout=TIMEOUT).status for _ in range(3)]
    assert statuses == ["success", "success", "limit"]


def refuse_to_start(process):
    process._ended = True
    raise HandlerProcessError("there is no room for it")


def test_a_handler_sees_the_headroom_of_its_limits(call):
    assert call("refund", {"keep": True}).data == {"limit": "2/hour", "remaining": 1}


def test_what_the_api_reports_is_passed_on(call):
    assert [call("report").data["remaining"] for _ in range(2)] == [9, 4]


def test_a_report_for_a_limit_that_is_none_fails_where_it_is_made(call):
    assert call("report", {"name": "none"}).data == {
        "error": "this call has no limit 'none'; it has 'vendor', '10/hour'",
        "type": "ValueError",
    }


def test_a_refund_after_the_task_is_an_error(call):
    call("refund_late")
    assert call("late_errors").data == {
        "errors": ["the task has ended, so its limits take no more from it"]
    }


def test_a_handler_has_nothing_to_read(call):
    assert call("read_stdin").data == {"read": ""}


def test_what_a_handler_prints_is_printed_at_once(hub, start):
    process = start(hub, "-m", "support.isolated")
    hub.call("say", {"word": "printed"}, timeout=TIMEOUT)
    assert process.stdout.readline() == "printed\n"


def test_what_a_handler_logs_reaches_the_handlers_of_the_provider(call, caplog):
    caplog.set_level(logging.INFO)
    call("log")
    records = {record.name: record for record in caplog.records}
    assert records["arbprov.log"].getMessage() == "hello from afar"
    assert records["arbprov.log"].city == "Paris"
    assert records["elsewhere"].getMessage() == "hello too"
    assert "not so loud" not in caplog.text


def test_what_a_handler_logs_is_logged_only_if_the_provider_would(call, caplog):
    caplog.set_level(logging.ERROR)
    call("log")
    assert caplog.text == ""


def test_what_the_provider_would_not_log_is_not_logged(call, caplog):
    caplog.set_level(logging.CRITICAL, "elsewhere")
    call("log")
    assert "hello too" not in caplog.text


def test_arguments_that_can_not_be_sent_are_an_error(call):
    error = call("local", {"thing": {"name": "x"}}).data["error"]
    assert error.startswith("The arguments of the action can't be sent to its process: ")
    assert error.endswith("; define their classes at the top of a module")


# What comes of it.


@pytest.mark.parametrize(
    ("how", "data"),
    [
        ("key", {"error": "'nothing'", "type": "KeyError"}),
        ("local", {"error": "only here", "type": "LocalError"}),
        ("exit", {"error": "3", "type": "SystemExit"}),
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
def test_what_a_handler_raises_is_its_error(call, how, data):
    assert call("fail", {"how": how}).data == data


def test_an_errorhandler_gets_what_a_handler_raised(call):
    assert call("fail", {"how": "odd"}).message == "mended 5"


def test_a_handler_may_say_that_it_is_limited(call):
    result = call("fail", {"how": "limited"})
    assert (result.status, result.data) == ("limit", {"wait_time": 30.0, "limit": "theirs"})


def test_the_log_says_where_a_handler_has_failed(call, caplog):
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
def test_what_json_can_not_carry_is_the_same_error_as_on_a_thread(call, how, problem):
    assert problem in call("answer", {"how": how}).data["error"]


def test_an_awaitable_is_awaited(call):
    assert call("answer", {"how": "awaitable"}).data == {"late": True}


# Starting.


def provider(tmp_path, text):
    (tmp_path / "provider.py").write_text(text)
    return "provider.py"


def test_the_time_that_a_process_takes_to_start_is_not_the_task_s(hub, start, tmp_path):
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
        "The process that the action runs in ended with exit code 1 before it was ready"
    )
    assert "AssertionError: only once" in stop(process)[1]


def test_a_script_that_runs_the_app_when_imported_is_told_how_to_mend_that(hub, start, tmp_path):
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
    assert 'app.run() belongs under `if __name__ == "__main__":`' in stop(process)[1]


def test_a_process_that_does_not_get_ready_is_given_up(hub, serve, monkeypatch):
    monkeypatch.setattr(executor, "_START_WITHIN", 0.0)
    serve(app_with(isolated.pid))
    error = hub.call("pid", timeout=TIMEOUT).data["error"]
    assert error.startswith("The process that the action runs in was killed by SIGKILL")
    assert error.endswith(" before it was ready")


def test_a_system_that_starts_no_process_is_an_error(hub, serve, monkeypatch):
    class Process(processes._SPAWN.Process):
        def start(self):
            raise BlockingIOError("no more processes")

    monkeypatch.setattr(processes._SPAWN, "Process", Process)
    serve(app_with(isolated.pid))
    assert hub.call("pid", timeout=TIMEOUT).data["error"] == (
        "the process that the action runs in can't be started: no more processes"
    )


def test_a_stop_that_has_no_more_time_kills_what_still_runs(hub, tmp_path, monkeypatch):
    # That is what those get that have nothing to do, and then they are waited for.
    goodbyes = []
    monkeypatch.setattr(processes.HandlerProcess, "say_goodbye", lambda one: goodbyes.append(one))
    app, path = app_with(isolated.wait_for, drain_timeout=0.6), tmp_path / "here"
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(app.run, hub_url=hub.address, auth_token=hub.token)
        hub.put("wait_for", {"path": str(path)})
        pid = int(wait_until(lambda: path.exists() and path.read_text()))
        app.stop()
        with pytest.raises(Exception, match="1 tasks unfinished"):
            running.result(TIMEOUT)
    wait_until(lambda: not is_alive(pid))
    assert goodbyes == []


# Registering.


def test_an_async_handler_can_not_have_a_process():
    app = ProviderApp()

    async def work():
        return {}

    with pytest.raises(ConfigurationError, match="make it a plain def"):
        app.action(isolation="process")(work)


def test_an_isolation_that_is_none_is_an_error():
    with pytest.raises(ConfigurationError, match='must be "thread" or "process"'):
        ProviderApp().action(isolation="vat")(isolated.later)


def test_a_handler_that_can_not_be_imported_is_an_error_at_the_start():
    app = ProviderApp()

    @app.action(isolation="process")
    def work():
        return {}

    with pytest.raises(ConfigurationError, match="define it at the top of a module"):
        app.test_client()


def test_an_errorhandler_may_answer_for_the_end_of_a_process(hub, serve):
    app = app_with(isolated.leave)

    @app.errorhandler(HandlerProcessError)
    def answer(error):
        return ProviderResponse("warning", message="it crashed")

    serve(app)
    assert hub.call("leave", {"code": 1}, timeout=TIMEOUT).message == "it crashed"


# What only the process itself sees.


def test_a_process_kills_itself_with_all_that_it_has_started_once_its_parent_is_gone(monkeypatch):
    class Parent:
        def join(self, timeout):
            parents.pop()

    parents, killed = [1, 7, 7], []
    monkeypatch.setattr(child.multiprocessing, "parent_process", Parent)
    monkeypatch.setattr(os, "getppid", lambda: parents[-1])
    monkeypatch.setattr(os, "killpg", lambda *what: killed.append(what))
    child._end_with(7)
    assert killed == [(0, signal.SIGKILL)]


def test_a_fork_that_comes_back_from_its_handler_ends_and_answers_nothing(monkeypatch):
    sent, ended = [], []
    link = types.SimpleNamespace(send_bytes=sent.append)
    server = child._Server(link, {})
    monkeypatch.setattr(server._home, "_process", -1)

    def end():
        ended.append(True)
        raise SystemExit

    monkeypatch.setattr(child, "end_fork", end)
    with pytest.raises(SystemExit):
        server.follow(b"")
    assert (sent, ended) == ([], [True])


@pytest.fixture
def as_they_were():
    """Leave signals and log handlers as they are now."""
    signals = {number: signal.getsignal(number) for number in child._STOPS}
    handlers = list(logging.getLogger().handlers)
    yield
    for number, handler in signals.items():
        signal.signal(number, handler)
    logging.getLogger().handlers[:] = handlers


def test_a_fork_of_a_process_obeys_and_logs_to_stderr(as_they_were):
    child._be_a_fork()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert [type(one) for one in logging.getLogger().handlers] == [logging.StreamHandler]

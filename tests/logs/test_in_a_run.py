"""The log of real runs: on a terminal, in a pipe, from threads and processes, of workers."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys

import pytest
from support.processes import Process
from support.waiting import TIMEOUT, wait_until

from arbprov.localhub import LocalHub

PROVIDER = """
import asyncio
import contextvars
import logging
import threading
import time

from arbprov import ProviderApp, TaskContext

app = ProviderApp("shop", execution_timeout=60)
log = logging.getLogger("elsewhere")


@app.action
async def on_loop(number: int) -> None:
    log.info("on_loop %d", number)
    await asyncio.sleep(0.01)
    log.info("on_loop %d", number)
    await asyncio.to_thread(log.info, "on_loop %d", number)


@app.action
def on_thread(ctx: TaskContext, number: int) -> None:
    log.info("on_thread %d", number, extra={"city": "Paris"})
    ctx.logger.info("on_thread %d", number)
    time.sleep(0.01)
    log.info("on_thread %d", number)


@app.action(isolation="process")
def in_process(number: int) -> None:
    log.info("in_process %d", number)
    log.info("in_process %d", number)
    try:
        raise KeyError("city")
    except KeyError:
        log.exception("in_process %d", number)


go_on = threading.Event()


@app.action(isolation="process")
def leave_a_thread() -> None:
    threading.Thread(target=lambda: (go_on.wait(), log.info("late"), said.set())).start()


said = threading.Event()


@app.action(isolation="process")
def let_it_log() -> None:
    go_on.set()
    said.wait()


@app.action
def fail(ctx: TaskContext) -> None:
    log.info("the key is %s", ctx.account["key"])
    raise ValueError(f"wrong key {ctx.account['key']}")
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "shop.py").write_text(PROVIDER)
    return tmp_path


@pytest.fixture
def run(folder, hub, monkeypatch):
    """Return a function that runs the provider in a process."""
    monkeypatch.delenv("ARBPROV_LOG_FORMAT", raising=False)
    monkeypatch.delenv("ARBPROV_LOG_LEVEL", raising=False)
    started = []

    def run(*arguments, **environ):
        environ = {"HUB_GRPC_URL": hub.address, "PROVIDER_AUTH_TOKEN": hub.token} | environ
        arguments = arguments or ("-m", "arbprov", "run", "shop")
        started.append(Process([*arguments], folder, **environ))
        return started[-1]

    yield run
    for process in started:
        if process.popen.poll() is None:
            process.kill()


def lines_of(process):
    """Stop a process, and return the lines of its log."""
    process.stop()
    return [json.loads(line) for line in process.log.splitlines()]


def of_logger(lines, name="elsewhere"):
    return [line for line in lines if line["scope"]["name"] == name]


def task_of(line):
    found = line["attributes"]
    return found.get("arbprov.task.id"), found.get("arbprov.action")


@pytest.mark.parametrize("action", ["on_loop", "on_thread", "in_process"])
def test_each_record_of_a_handler_has_its_task(run, hub, action):
    process = run()
    tickets = {n: hub.put(action, {"number": n}, id=f"t{n}") for n in range(5)}
    for ticket in tickets.values():
        ticket.result(TIMEOUT)
    lines = lines_of(process)
    assert {task_of(line) for line in of_logger(lines)} == {(f"t{n}", action) for n in tickets}
    assert len(of_logger(lines)) == (10 if action == "on_thread" else 15)
    for line in of_logger(lines):
        assert line["body"].split("\n")[0] == f"{action} {task_of(line)[0].removeprefix('t')}"


def test_a_handler_s_own_logger_and_extra_fields_are_in_the_line(run, hub):
    process = run()
    hub.call("on_thread", {"number": 1}, id="t1", timeout=TIMEOUT)
    lines = lines_of(process)
    assert [task_of(line) for line in of_logger(lines, "arbprov.on_thread")] == [
        ("t1", "on_thread")
    ]
    assert [line["attributes"].get("city") for line in of_logger(lines)] == ["Paris", None]


def test_an_isolated_handler_s_record_has_its_process_and_its_exception(run, hub):
    process = run()
    hub.call("in_process", {"number": 1}, timeout=TIMEOUT)
    *_, last = of_logger(lines_of(process))
    found = last["attributes"]
    assert found["process.pid"] != process.popen.pid
    assert (found["exception.type"], found["exception.message"]) == ("KeyError", "'city'")


def test_a_thread_that_an_isolated_handler_left_has_no_task_of_another_call(run, hub):
    process = run(ARBPROV_CONCURRENCY="1")
    hub.call("leave_a_thread", timeout=TIMEOUT)
    hub.call("let_it_log", timeout=TIMEOUT)
    (line,) = of_logger(lines_of(process))
    assert (line["body"], task_of(line)) == ("late", (None, None))


def test_arbprov_s_line_of_a_task_has_the_task_and_other_lines_have_none(run, hub):
    process = run()
    hub.call("on_thread", {"number": 1}, id="t1", timeout=TIMEOUT)
    lines = of_logger(lines_of(process), "arbprov")
    assert {task_of(line) for line in lines if "'t1'" in line["body"]} == {("t1", "on_thread")}
    assert {task_of(line) for line in lines if "'t1'" not in line["body"]} == {(None, None)}


def test_what_a_slot_logs_after_a_task_belongs_to_no_task(run):
    with LocalHub(hold=0.05) as hub:
        environ = {"HUB_GRPC_URL": hub.address, "PROVIDER_AUTH_TOKEN": hub.token}
        process = run(ARBPROV_CONCURRENCY="1", **environ)
        hub.call("on_thread", {"number": 1}, id="t1", timeout=TIMEOUT)
    wait_until(lambda: process.has_logged("WARNING"))
    (lost,) = [line for line in lines_of(process) if line["severity_text"] == "WARNING"]
    assert task_of(lost) == (None, None)


def test_arbprov_s_lines_hide_the_account_and_the_author_s_do_not(run, hub):
    process = run()
    hub.call("fail", account={"key": "Hunter22xyz"}, timeout=TIMEOUT)
    lines = lines_of(process)
    (failed,) = [line for line in lines if line["severity_text"] == "ERROR"]
    assert "Hunter22xyz" not in json.dumps(of_logger(lines, "arbprov"))
    assert failed["attributes"]["exception.type"] == "ValueError"
    assert failed["attributes"]["exception.message"] == "wrong key [redacted]"
    assert [line["body"] for line in of_logger(lines)] == ["the key is Hunter22xyz"]


def test_a_terminal_gets_text(folder, hub, monkeypatch):
    monkeypatch.delenv("ARBPROV_LOG_FORMAT", raising=False)
    monkeypatch.delenv("ARBPROV_LOG_LEVEL", raising=False)
    ours, theirs = pty.openpty()
    environ = os.environ | {"HUB_GRPC_URL": hub.address, "PROVIDER_AUTH_TOKEN": hub.token}
    command = [sys.executable, "-m", "arbprov", "run", "shop"]
    process = subprocess.Popen(command, cwd=folder, env=environ, stderr=theirs)
    os.close(theirs)
    try:
        hub.call("on_thread", {"number": 1}, timeout=TIMEOUT)
    finally:
        process.terminate()
        shown = b""
        while chunk := read(ours):
            shown += chunk
        os.close(ours)
        assert process.wait(TIMEOUT) == 0
    text = shown.decode()
    assert " INFO elsewhere: on_thread 1\r\n" in text
    assert '{"' not in text


def read(descriptor):
    try:
        return os.read(descriptor, 65536)
    except OSError:  # nothing holds the other end
        return b""


@pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["one", "two"])
def test_the_format_may_be_set(run, hub, options):
    process = run("-m", "arbprov", "run", "shop", *options, ARBPROV_LOG_FORMAT="console")
    wait_until(lambda: process.has_logged("connected to the hub"))
    process.stop()
    assert process.log.startswith("20")
    assert '{"' not in process.log


def test_workers_and_their_supervisor_write_lines_with_their_names(run, hub):
    process = run("-m", "arbprov", "run", "shop", "--workers", "2")
    wait_until(lambda: process.log.count("connected to the hub") == 2)
    lines = lines_of(process)
    names = {line["resource"]["arbprov.worker"] for line in lines}
    assert names == {"supervisor", "worker-1", "worker-2"}
    assert {line["resource"]["service.name"] for line in lines} == {"shop"}
    processes = {(one["resource"]["arbprov.worker"], pid_of(one)) for one in lines}
    assert len(processes) == 3
    assert ("supervisor", process.popen.pid) in processes


def pid_of(line):
    return line["attributes"]["process.pid"]


@pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["one", "two"])
@pytest.mark.parametrize("variable", ["ARBPROV_LOG_FORMAT", "ARBPROV_LOG_LEVEL"])
def test_a_wrong_value_is_bad_configuration(run, options, variable):
    process = run("-m", "arbprov", "run", "shop", *options, **{variable: "loud"})
    assert process.wait() == 78
    assert process.log.startswith(f"Error: {variable} 'loud' must be ")


@pytest.mark.parametrize("options", [("-q",), ("-q", "--workers", "2")], ids=["one", "two"])
def test_a_quiet_run_has_only_warnings_of_the_author_too(run, hub, options):
    process = run("-m", "arbprov", "run", "shop", *options)
    hub.call("on_thread", {"number": 1}, timeout=TIMEOUT)
    hub.call("in_process", {"number": 1}, timeout=TIMEOUT)
    assert {line["severity_text"] for line in lines_of(process)} == {"ERROR"}


def test_the_author_s_handler_on_the_root_logger_is_the_only_one(run, hub, folder):
    setup = 'import logging\nlogging.basicConfig(level="INFO", format="mine: %(message)s")\n'
    (folder / "shop.py").write_text(setup + PROVIDER)
    process = run()
    hub.call("on_thread", {"number": 1}, timeout=TIMEOUT)
    process.stop()
    lines = process.log.splitlines()
    assert "mine: on_thread 1" in lines
    assert [line for line in lines if not line.startswith("mine: ")] == []


def test_app_run_sets_up_the_log_too(run, hub, folder):
    (folder / "main.py").write_text("from shop import app\napp.run()\n")
    process = run("main.py")
    hub.call("on_thread", {"number": 1}, timeout=TIMEOUT)
    assert len(of_logger(lines_of(process))) == 2


def test_dev_shows_text_in_a_pipe(run, hub, folder):
    (folder / "tasks.jsonl").write_text('{"action": "on_thread", "payload": {"number": 1}}\n')
    process = run("-m", "arbprov", "dev", "shop", "--tasks", "tasks.jsonl")
    assert process.wait() == 0
    assert "  elsewhere: on_thread 1\n" in process.log
    assert '{"' not in process.log


FLOOD = """

@app.action
def flood() -> None:
    for number in range(3_000):
        log.warning("%s", "x" * 1_000)
        log.warning("%d", "not a number")
"""


def test_a_log_that_nobody_reads_holds_up_no_task(folder, hub):
    (folder / "shop.py").write_text(PROVIDER + FLOOD)
    ours, theirs = os.pipe()
    environ = os.environ | {"HUB_GRPC_URL": hub.address, "PROVIDER_AUTH_TOKEN": hub.token}
    command = [sys.executable, "-m", "arbprov", "run", "shop"]
    process = subprocess.Popen(command, cwd=folder, env=environ, stderr=theirs)
    try:
        assert hub.call("flood", timeout=TIMEOUT).status == "success"
        process.terminate()
        assert process.wait(TIMEOUT) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        os.close(theirs)


@pytest.mark.slow
def test_lines_of_several_processes_stay_whole(folder):
    """Four processes write to one pipe, with lines of all lengths up to 4 KiB."""
    (folder / "writer.py").write_text(
        "import asyncio, logging, sys\n"
        "from arbprov.logs.setup import ensure_handler\n"
        "ensure_handler(worker=sys.argv[1])\n"
        "async def main():\n"
        "    for number in range(3_000):\n"
        "        logging.info('%s', 'x' * (number % 3_000))\n"
        "        if number % 7 == 0: await asyncio.sleep(0)\n"
        "    handler = logging.getLogger().handlers[0]\n"
        "    while handler._lines or handler._pending: await asyncio.sleep(0.05)\n"
        "asyncio.run(main())\n"
    )
    ours, theirs = os.pipe()
    command = [sys.executable, "writer.py"]
    environ = {k: v for k, v in os.environ.items() if k != "ARBPROV_LOG_FORMAT"}
    writers = [
        subprocess.Popen([*command, f"worker-{n}"], cwd=folder, stderr=theirs, env=environ)
        for n in range(4)
    ]
    os.close(theirs)
    with open(ours) as reader:
        lines = [json.loads(line) for line in reader]
    assert [writer.wait(TIMEOUT) for writer in writers] == [0] * 4
    assert len({line["resource"]["arbprov.worker"] for line in lines}) == 4

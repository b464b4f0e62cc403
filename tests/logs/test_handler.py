"""Log lines that are written in batches."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import os
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.forking import exit_code_of
from support.loops import JumpingLoop, run_jumping
from support.processes import Process
from support.waiting import TIMEOUT

from arbprov.localhub import LocalHub
from arbprov.logs import setup, task_lines
from arbprov.logs.current import current_task
from arbprov.logs.formats import TextFormatter
from arbprov.logs.handler import BatchingHandler
from arbprov.logs.json_lines import JsonFormatter
from arbprov.task import Task


@pytest.fixture
def stream():
    class Stream(io.StringIO):
        """A stream whose methods a test can replace."""

    return Stream()


@pytest.fixture
def log(stream):
    logger = logging.Logger("test")
    handler = BatchingHandler()
    handler.setStream(stream)
    logger.addHandler(handler)
    return logger


def on_a_loop(work):
    async def main():
        await work()

    run_jumping(main(), JumpingLoop())


def test_a_line_is_written_at_once_where_no_loop_runs(log, stream):
    log.info("one")
    assert stream.getvalue() == "one\n"


def test_lines_logged_on_a_loop_are_written_together(log, stream):
    async def work():
        log.info("one")
        log.info("two")
        assert stream.getvalue() == ""
        await asyncio.sleep(0.05)
        assert stream.getvalue() == "one\ntwo\n"
        log.info("three")
        await asyncio.sleep(0.05)
        assert stream.getvalue() == "one\ntwo\nthree\n"

    on_a_loop(work)


def test_a_warning_is_written_at_once_after_the_lines_before_it(log, stream):
    async def work():
        log.info("one")
        log.warning("two")
        assert stream.getvalue() == "one\ntwo\n"

    on_a_loop(work)


def test_lines_that_a_closed_loop_left_are_written_by_the_next_loop(log, stream):
    async def work():
        log.info("one")

    on_a_loop(work)
    assert stream.getvalue() == ""

    async def more():
        log.info("two")
        await asyncio.sleep(0.05)

    on_a_loop(more)
    assert stream.getvalue() == "one\ntwo\n"


def test_a_forked_child_does_not_write_the_lines_of_its_parent(log, stream):
    async def work():
        log.info("one")
        # Other tests may have left threads behind, and newer Pythons warn of a fork then.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if not child:
            os._exit(len(log.handlers[0]._lines))
        assert exit_code_of(child) == 0
        assert stream.getvalue() == "one\n"

    on_a_loop(work)


def test_a_process_forked_during_a_write_can_write(log, stream):
    handler = log.handlers[0]
    handler._is_flushing = True
    handler._begin_again()
    log.info("one")
    assert stream.getvalue() == "one\n"


def test_a_fork_begins_again(monkeypatch):
    registered = {}
    monkeypatch.setattr(os, "register_at_fork", lambda **hooks: registered.update(hooks))
    handler = BatchingHandler()
    assert registered == {"before": handler.flush, "after_in_child": handler._begin_again}


def test_a_line_is_written_at_the_end_of_the_process(log, stream, monkeypatch):
    monkeypatch.setitem(sys.modules, "asyncio", None)  # as if it could not be imported
    log.info("one")
    assert stream.getvalue() == "one\n"


@pytest.mark.parametrize("error", [BrokenPipeError, ValueError, KeyError])
def test_a_closed_stderr_makes_no_task_fail(log, stream, monkeypatch, error):
    def write(text):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(stream, "write", write, raising=False)
        log.warning("one")
    log.info("two")
    assert stream.getvalue() == "two\n"


def test_a_record_that_can_t_be_formatted_becomes_a_line_that_says_why(log, stream):
    log.info("one %s and %s", *[1])
    log.info("two")
    first, second = stream.getvalue().splitlines()
    assert first.startswith("'one %s and %s' of ")
    assert first.endswith("can't be logged: TypeError: not enough arguments for format string")
    assert second == "two"


def test_a_stream_that_logs_what_it_is_given_ends(log, stream, monkeypatch):
    """As an author's object in the place of stderr may do."""
    write = stream.write

    def write_and_log(text):
        write(text)
        log.warning("written")

    monkeypatch.setattr(stream, "write", write_and_log, raising=False)
    log.warning("one")
    assert stream.getvalue() == "one\n"
    log.warning("two")
    assert stream.getvalue() == "one\nwritten\ntwo\n"


def test_what_a_signal_s_handler_logs_during_a_write_is_written_a_moment_later(
    log, stream, monkeypatch
):
    write = stream.write

    def write_once_with_a_signal(text):
        write(text)
        monkeypatch.setattr(stream, "write", write)
        log.info("two")

    async def work():
        monkeypatch.setattr(stream, "write", write_once_with_a_signal, raising=False)
        log.warning("one")
        await asyncio.sleep(0.05)
        assert stream.getvalue() == "one\ntwo\n"

    on_a_loop(work)


@pytest.mark.parametrize("created", [0.0, 1_753_000_000.9996, 1_753_000_001.004])
def test_a_line_has_the_time_as_logging_writes_it(created):
    record = logging.makeLogRecord({"msg": "one", "created": created, "msecs": created % 1 * 1000})
    usual = logging.Formatter("%(asctime)s %(message)s").format(record)
    assert usual == TextFormatter("%(asctime)s %(message)s").format(record)


@pytest.mark.usefixtures("fresh_log")
def test_two_apps_that_start_at_once_add_one_handler(monkeypatch):
    both_are_adding = threading.Barrier(2)

    class SlowHandler(BatchingHandler):
        def __init__(self):
            super().__init__()
            with contextlib.suppress(threading.BrokenBarrierError):
                both_are_adding.wait(0.2)

    # Here, since pytest has added its own handlers by now.
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(setup, "BatchingHandler", SlowHandler)
    with ThreadPoolExecutor(2) as pool:
        for started in [pool.submit(setup.ensure_handler, is_for_people=True) for _ in range(2)]:
            started.result()
    assert len(logging.getLogger().handlers) == 1


# Nothing that happens to the log ends a task or a stop.


@pytest.fixture
def pipe():
    """A pipe, and a logger that writes to it."""
    reading, writing = os.pipe()
    logger, handler = logging.Logger("test"), BatchingHandler()
    with open(reading, "rb", buffering=0) as reader, open(writing, "w") as writer:
        handler.setStream(writer)
        logger.addHandler(handler)
        yield logger, handler, reader
        os.set_blocking(reading, False)
        while reader.read(65536):
            pass


def test_a_pipe_that_nobody_reads_holds_up_nothing(pipe):
    logger, handler, _ = pipe
    for number in range(3000):
        logger.info("%d %s", number, "x" * 100)
    assert len(handler._pending) > 100_000


def test_lines_that_nobody_reads_are_dropped_and_counted(pipe):
    logger, handler, reader = pipe
    for number in range(30_000):
        logger.info("%06d %s", number, "x" * 100)
    log = b""
    while handler._pending:
        log += reader.read(65536)
        handler.flush()
    os.set_blocking(reader.fileno(), False)
    log += reader.read(65536)
    *lines, last = log.decode().splitlines()
    assert [int(line[:6]) for line in lines] == list(range(len(lines)))
    assert last == f"{30_000 - len(lines)} lines of the log were dropped: stderr was not read"


def test_the_line_that_counts_dropped_lines_is_json_of_no_task(pipe):
    logger, handler, reader = pipe
    handler.setFormatter(JsonFormatter({"service.name": "weather"}))
    token = current_task.set(Task("t1", "forecast"))
    try:
        for number in range(10_000):
            logger.info("%06d", number)
        log = b""
        while handler._pending:
            log += reader.read(65536)
            handler.flush()
    finally:
        current_task.reset(token)
    os.set_blocking(reader.fileno(), False)
    *lines, last = map(json.loads, (log + reader.read(65536)).splitlines())
    dropped = 10_000 - len(lines)
    assert last["body"] == f"{dropped} lines of the log were dropped: stderr was not read"
    assert "arbprov.task.id" not in last["attributes"]


def test_a_line_that_is_longer_than_a_pipe_takes_at_once_is_written(pipe):
    logger, handler, reader = pipe
    logger.info("x" * 10_000)
    assert (handler._pending, reader.read(65536)) == (b"", b"x" * 10_000 + b"\n")


def test_what_a_pipe_has_not_taken_is_written_a_moment_later(pipe):
    logger, handler, reader = pipe

    async def work():
        for _ in range(1000):
            logger.warning("x" * 100)
        log = reader.read(65536)
        await asyncio.sleep(0.05)
        assert handler._pending == b""
        assert len(log) + len(reader.read(65536)) == 101_000

    on_a_loop(work)


def test_a_closed_stream_drops_lines(log):
    log.handlers[0].setStream(None)
    log.info("one")
    assert log.handlers[0]._pending == b""


class Refuses(logging.Handler):
    def filter(self, record):
        raise SystemExit(5)


def test_a_filter_that_raises_ends_nothing_and_is_reported_once(monkeypatch, capsys):
    task_lines._report_once.cache_clear()
    logger = logging.getLogger("arbprov")
    monkeypatch.setattr(logger, "handlers", [Refuses()])
    for _ in range(2):
        logger.warning("one")
    reported = capsys.readouterr().err
    assert reported.startswith("arbprov: a log handler or filter failed:\nTraceback")
    assert reported.count("SystemExit: 5") == 1


@pytest.mark.slow
@pytest.mark.parametrize("descriptor", [0, 1, 2])
def test_a_provider_whose_streams_are_closed_hears_a_signal(tmp_path, descriptor):
    (tmp_path / "provider.py").write_text(
        "from arbprov import ProviderApp\n"
        "app = ProviderApp('test')\n"
        "app.action('echo')(lambda text: text)\n"
    )
    with LocalHub(hold=0.05) as hub:
        command = f'exec "{sys.executable}" -m arbprov run provider.py {descriptor}>&-'
        environ = os.environ | {"HUB_GRPC_URL": hub.address, "PROVIDER_AUTH_TOKEN": hub.token}
        process = subprocess.Popen(["sh", "-c", command], cwd=tmp_path, env=environ)
        assert hub.call("echo", {"text": "one"}, timeout=TIMEOUT).data == "one"
        process.terminate()
        assert process.wait(TIMEOUT) == 0


@pytest.mark.slow
def test_a_signal_is_heard_though_the_line_about_it_fails(tmp_path):
    (tmp_path / "provider.py").write_text(
        "import logging\n"
        "from arbprov import ProviderApp\n"
        "app = ProviderApp('test')\n"
        "class Refuses(logging.Handler):\n"
        "    def filter(self, record):\n"
        "        if 'SIGTERM' in record.getMessage():\n"
        "            raise KeyError('user')\n"
        "        return True\n"
        "    def emit(self, record): print(record.getMessage(), flush=True)\n"
        "logging.getLogger('arbprov').addHandler(Refuses())\n"
        "logging.getLogger('arbprov').setLevel('INFO')\n"
    )
    with LocalHub(hold=0.05) as hub:
        environ = {"HUB_GRPC_URL": hub.address, "PROVIDER_AUTH_TOKEN": hub.token}
        process = Process(["-m", "arbprov", "run", "provider.py"], tmp_path, **environ)
        while "connected" not in process.popen.stdout.readline():
            pass
        process.popen.terminate()
        assert process.wait() == 0

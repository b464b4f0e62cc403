"""Log lines that are written in batches."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import os
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.forking import exit_code_of
from support.loops import JumpingLoop, run_jumping

from arbprov import logs
from arbprov.logs import BatchingHandler


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


@pytest.mark.parametrize("error", [BrokenPipeError, ValueError])
def test_a_closed_stderr_makes_no_task_fail(log, stream, monkeypatch, error):
    def write(text):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(stream, "write", write, raising=False)
        log.warning("one")
    log.info("two")
    assert stream.getvalue() == "two\n"


def test_a_line_that_can_t_be_formatted_loses_no_other_line(log, stream, monkeypatch):
    monkeypatch.setattr(logging, "raiseExceptions", False)
    log.info("one %s and %s", *[1])
    log.info("two")
    assert stream.getvalue() == "two\n"


@pytest.mark.parametrize("created", [0.0, 1_753_000_000.9996, 1_753_000_001.004])
def test_a_line_has_the_time_as_logging_writes_it(created):
    record = logging.makeLogRecord({"msg": "one", "created": created, "msecs": created % 1 * 1000})
    usual = logging.Formatter("%(asctime)s %(message)s").format(record)
    assert usual == logs.Formatter("%(asctime)s %(message)s").format(record)


def test_two_apps_that_start_at_once_add_one_handler(monkeypatch):
    logger = logging.Logger("test")
    both_are_adding = threading.Barrier(2)

    class SlowHandler(BatchingHandler):
        def __init__(self):
            super().__init__()
            with contextlib.suppress(threading.BrokenBarrierError):
                both_are_adding.wait(0.2)

    monkeypatch.setattr(logs, "logger", logger)
    monkeypatch.setattr(logs, "BatchingHandler", SlowHandler)
    with ThreadPoolExecutor(2) as pool:
        for started in [pool.submit(logs.ensure_handler) for _ in range(2)]:
            started.result()
    assert len(logger.handlers) == 1

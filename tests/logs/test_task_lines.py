"""The log line of each task."""

from __future__ import annotations

import asyncio
import linecache
import logging
import time

import pytest

from arbprov import Status, Task, TaskResult
from arbprov.logs.task_lines import TaskLog

RESULT = TaskResult(Task("t1", "work"), Status.SUCCESS, "done", {})
# The attributes that differ between two lines: place and time.
OWN = {"args", "created", "filename", "funcName", "lineno", "module", "msecs", "msg", "pathname"}
OWN |= {"relativeCreated"}


class Kept(logging.Handler):
    """Keeps its records."""

    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(record)


@pytest.fixture
def kept():
    return Kept()


@pytest.fixture
def logger(kept):
    logger = logging.Logger("test", logging.INFO)
    logger.addHandler(kept)
    return logger


def test_a_line_names_the_task_its_action_and_its_status(logger, kept):
    TaskLog(logger).log_result(RESULT)
    assert [one.getMessage() for one in kept.records] == ["task 't1' of action 'work': success"]


def test_a_line_s_record_is_as_logging_makes_it(logger, kept):
    TaskLog(logger).log_result(RESULT)
    logger.info("one")
    line, usual = map(vars, kept.records)
    assert line.keys() == usual.keys()
    assert {n: v for n, v in line.items() if n not in OWN} == {
        n: v for n, v in usual.items() if n not in OWN
    }


def test_a_line_s_record_has_the_name_of_the_task_that_logs_it(logger, kept):
    """Before Python 3.12, records have no name of an asyncio task."""

    async def made():
        return TaskLog(logger)

    async def logs(log):
        log.log_result(RESULT)
        logger.info("one")

    async def main():
        await asyncio.create_task(logs(await asyncio.create_task(made(), name="made")), name="logs")

    asyncio.run(main())
    line, usual = map(vars, kept.records)
    assert line.get("taskName") == usual.get("taskName")


def test_a_line_s_record_says_where_it_is_logged(logger, kept):
    TaskLog(logger).log_result(RESULT)
    record = kept.records[0]
    assert (record.module, record.funcName) == ("task_lines", "log_result")
    assert linecache.getline(record.pathname, record.lineno).strip().startswith("def log_result(")


def test_each_line_has_a_time_of_its_own(logger, kept, monkeypatch):
    log = TaskLog(logger)
    for now in (1_753_000_000.25, 1_753_000_061.5):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        log.log_result(RESULT)
    first, second = kept.records
    assert [(one.created, one.msecs) for one in kept.records] == [
        (1_753_000_000.25, 250.0),
        (1_753_000_061.5, 500.0),
    ]
    assert second.relativeCreated - first.relativeCreated == pytest.approx(61_250)


def test_no_record_is_made_for_a_line_below_the_level(logger, kept):
    logger.setLevel(logging.WARNING)
    TaskLog(logger).log_result(RESULT)
    assert kept.records == []


def test_an_author_s_filter_may_hold_a_line_back(logger, kept):
    logger.addFilter(lambda record: "'t1'" not in record.getMessage())
    TaskLog(logger).log_result(RESULT)
    assert kept.records == []


def test_a_line_s_record_is_made_by_the_author_s_factory(logger, kept):
    def factory(*args, **kwargs):
        record = usual(*args, **kwargs)
        record.host = "sample-host"
        return record

    usual = logging.getLogRecordFactory()
    logging.setLogRecordFactory(factory)
    try:
        TaskLog(logger).log_result(RESULT)
    finally:
        logging.setLogRecordFactory(usual)
    assert [one.host for one in kept.records] == ["sample-host"]


def test_a_line_s_record_is_made_by_the_author_s_logger(kept):
    class Tagging(logging.Logger):
        def makeRecord(self, *args, **kwargs):
            record = super().makeRecord(*args, **kwargs)
            record.tag = "sample"
            return record

    logger = Tagging("test", logging.INFO)
    logger.addHandler(kept)
    TaskLog(logger).log_result(RESULT)
    assert [one.tag for one in kept.records] == ["sample"]

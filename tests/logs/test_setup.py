"""What sets up the log of a process, and when nothing does."""

from __future__ import annotations

import io
import logging
import sys
import warnings

import httpx
import pytest

from arbprov import ConfigurationError
from arbprov.logs.handler import BatchingHandler
from arbprov.logs.setup import SUPERVISOR, ensure_handler, flush_log, name_provider

pytestmark = pytest.mark.usefixtures("fresh_log")

shop = logging.getLogger("shop")
arbprov = logging.getLogger("arbprov")


# The author's own setup.


def test_where_the_root_logger_has_a_handler_none_is_added(set_up):
    own = logging.NullHandler()
    set_up(handlers=[own])
    assert (logging.getLogger().handlers, arbprov.handlers) == ([own], [])
    assert logging.getLogger().level == logging.WARNING


def test_where_arbprov_s_logger_has_a_handler_none_is_added(set_up, monkeypatch):
    monkeypatch.setattr(arbprov, "handlers", [logging.NullHandler()])
    set_up()
    assert logging.getLogger().handlers == []


def test_a_handler_of_another_logger_does_not_count(set_up, monkeypatch, logged):
    monkeypatch.setattr(shop, "handlers", [logging.NullHandler()])
    set_up()
    shop.info("one")
    assert [line["body"] for line in logged()] == ["one"]


def test_the_author_s_level_is_kept(set_up, logged):
    logging.getLogger().setLevel(logging.ERROR)
    set_up()
    shop.warning("one")
    assert logged() == []


def test_the_variable_overrides_the_author_s_level(set_up, logged, monkeypatch):
    monkeypatch.setenv("ARBPROV_LOG_LEVEL", "debug")
    logging.getLogger().setLevel(logging.ERROR)
    set_up(logging.WARNING)
    shop.debug("one")
    assert [line["severity_text"] for line in logged()] == ["DEBUG"]


# The setup of arbprov.


def test_the_author_s_loggers_and_arbprov_s_log_from_info_on(set_up, logged):
    set_up()
    for logger in (shop, arbprov, logging.getLogger("arbprov.forecast")):
        logger.info("one")
        logger.debug("two")
    assert [line["scope"]["name"] for line in logged()] == ["shop", "arbprov", "arbprov.forecast"]


def test_the_second_setup_adds_nothing(set_up):
    set_up()
    ensure_handler()
    assert len(logging.getLogger().handlers) == 1


@pytest.mark.parametrize("level", ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"])
def test_the_variable_sets_the_lowest_level(set_up, monkeypatch, level):
    monkeypatch.setenv("ARBPROV_LOG_LEVEL", level)
    set_up()
    assert logging.getLogger().level == getattr(logging, level)


def test_a_quiet_log_has_only_warnings_whatever_the_levels_are(set_up, logged, monkeypatch):
    monkeypatch.setenv("ARBPROV_LOG_LEVEL", "DEBUG")
    set_up(is_quiet=True)
    shop.info("one")
    shop.warning("two")
    assert [line["body"] for line in logged()] == ["two"]


@pytest.mark.parametrize("is_configured", [False, True])
@pytest.mark.parametrize(
    ("variable", "text", "meant"),
    [
        ("ARBPROV_LOG_FORMAT", "xml", "console or json"),
        ("ARBPROV_LOG_FORMAT", "", "console or json"),
        ("ARBPROV_LOG_LEVEL", "LOUD", "DEBUG, INFO, WARNING, ERROR or CRITICAL"),
        ("ARBPROV_LOG_LEVEL", "", "DEBUG, INFO, WARNING, ERROR or CRITICAL"),
    ],
)
def test_a_wrong_value_is_refused(set_up, monkeypatch, is_configured, variable, text, meant):
    monkeypatch.setenv(variable, text)
    with pytest.raises(ConfigurationError) as error:
        set_up(handlers=[logging.NullHandler()] if is_configured else [])
    assert str(error.value) == f"{variable} {text!r} must be {meant}"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_gets_text(set_up, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    set_up()
    shop.info("one")
    assert sys.stderr.getvalue().endswith(" INFO shop: one\n")


@pytest.mark.parametrize(
    ("log_format", "start"), [("json", '{"timestamp":"'), ("console", "2")], ids=["json", "console"]
)
def test_the_variable_sets_the_format(set_up, monkeypatch, log_format, start):
    monkeypatch.setattr(sys, "stderr", Terminal() if log_format == "json" else io.StringIO())
    monkeypatch.setenv("ARBPROV_LOG_FORMAT", log_format)
    set_up()
    shop.info("one")
    assert sys.stderr.getvalue().startswith(start)


@pytest.mark.parametrize("stderr", [None, object()])
def test_what_replaces_stderr_may_lack_its_methods(set_up, monkeypatch, stderr):
    monkeypatch.setattr(sys, "stderr", stderr)
    set_up()
    shop.warning("one")


def test_people_get_text_even_in_a_pipe(set_up, capsys, monkeypatch):
    monkeypatch.setenv("ARBPROV_LOG_FORMAT", "json")
    set_up(logging.WARNING, is_for_people=True)
    shop.info("one")
    shop.warning("two")
    assert capsys.readouterr().err.endswith(" WARNING shop: two\n")


@pytest.mark.parametrize(("worker", "shown"), [("worker-2", True), (SUPERVISOR, False)])
def test_a_worker_s_text_names_its_process(set_up, capsys, monkeypatch, worker, shown):
    monkeypatch.setenv("ARBPROV_LOG_FORMAT", "console")
    set_up(worker=worker)
    shop.info("one")
    assert ("MainProcess[" in capsys.readouterr().err) == shown


def test_lines_of_json_name_the_provider_and_the_worker(set_up, logged):
    set_up(provider="weather", worker="worker-2")
    shop.info("one")
    assert logged()[0]["resource"] == {"service.name": "weather", "arbprov.worker": "worker-2"}


def test_the_provider_s_name_may_come_later(set_up, logged):
    set_up(worker=SUPERVISOR)
    shop.info("one")
    name_provider("")
    name_provider("weather")
    shop.info("two")
    assert [line["resource"].get("service.name") for line in logged()] == [None, "weather"]


def test_the_author_s_handlers_get_no_provider_s_name(monkeypatch):
    own = logging.NullHandler()
    monkeypatch.setattr(logging.getLogger(), "handlers", [own])
    name_provider("weather")
    assert own.formatter is None


def test_flushing_leaves_the_author_s_handlers_alone(monkeypatch):
    own, arbprovs = logging.NullHandler(), BatchingHandler()
    flushed = []
    monkeypatch.setattr(own, "flush", lambda: flushed.append("own"))
    monkeypatch.setattr(arbprovs, "flush", lambda: flushed.append("arbprov's"))
    monkeypatch.setattr(logging.getLogger(), "handlers", [own, arbprovs])
    flush_log()
    assert flushed == ["arbprov's"]


# What Python and libraries log.


def test_a_warning_of_python_is_a_line_of_json(set_up, logged):
    set_up()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    (line,) = logged()
    assert (line["scope"]["name"], line["severity_text"]) == ("py.warnings", "WARNING")
    assert "DeprecationWarning: old" in line["body"]


def request():
    transport = httpx.MockTransport(lambda request: httpx.Response(200))
    with httpx.Client(transport=transport) as client:
        client.get("https://api.example.com/?key=hunter22")


@pytest.mark.parametrize("level", ["INFO", "DEBUG"])
def test_a_library_that_logs_urls_logs_only_warnings(set_up, capsys, monkeypatch, level):
    monkeypatch.setenv("ARBPROV_LOG_LEVEL", level)
    set_up()
    request()
    assert "hunter22" not in capsys.readouterr().err


def test_the_author_s_level_of_a_library_is_kept(set_up, capsys):
    logging.getLogger("httpx").setLevel(logging.INFO)
    set_up()
    request()
    assert "https://api.example.com" in capsys.readouterr().err

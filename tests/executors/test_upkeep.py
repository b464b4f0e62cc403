"""The thread that shows the stores of limits that a process lives."""

from __future__ import annotations

import queue
import threading

import pytest
from support.waiting import TIMEOUT, wait_until

from arbprov import Concurrency, ProviderApp
from arbprov.executors import inline
from arbprov.executors.upkeep import StoreUpkeep
from arbprov.limits import Limiter

# Nothing listens there.
AWAY = "redis://127.0.0.1:1"


class Work:
    """A work that pauses as the test says, and notes its thread each time."""

    def __init__(self, *answers):
        self.answers = iter(answers)
        self.threads = queue.SimpleQueue()
        self.errors = queue.SimpleQueue()
        self.upkeep = StoreUpkeep(self._work, self.errors.put)

    def _work(self):
        self.threads.put(threading.current_thread())
        answer = next(self.answers)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def next_thread(self):
        return self.threads.get(timeout=TIMEOUT)


def test_it_works_until_it_has_nothing_more_to_do():
    work = Work(0.0, 0.001, None)
    work.upkeep.start()
    threads = {work.next_thread() for _ in range(3)}
    (thread,) = threads
    thread.join(TIMEOUT)
    assert (thread.is_alive(), thread.daemon, thread.name) == (False, True, "arbprov-upkeep")
    assert work.errors.empty()


def test_it_begins_after_a_pause_and_can_be_closed_before():
    work = Work(None)
    work.upkeep.start(3600)
    (thread,) = [one for one in threading.enumerate() if one.name == "arbprov-upkeep"]
    work.upkeep.close()
    thread.join(TIMEOUT)
    assert (thread.is_alive(), work.threads.empty()) == (False, True)


def test_it_ends_in_a_pause_when_it_is_closed():
    work = Work(3600)
    work.upkeep.start()
    thread = work.next_thread()
    work.upkeep.close()
    thread.join(TIMEOUT)
    assert not thread.is_alive()


@pytest.mark.parametrize("error", [ValueError("broken"), SystemExit(3)])
def test_an_error_ends_it_and_is_told(error):
    work = Work(error, 0.0)
    work.upkeep.start()
    work.next_thread().join(TIMEOUT)
    assert (work.errors.get(timeout=TIMEOUT), work.threads.empty()) == (error, True)


# In `app.invoke`.


@pytest.fixture
def kept_up(monkeypatch):
    """An event that is set when the stores of limits are kept up, at once and again and again."""
    monkeypatch.setattr(inline, "_HEARTBEAT_INTERVAL", 0.0)
    kept_up = threading.Event()

    def upkeep(self):
        kept_up.set()
        return 0.001

    monkeypatch.setattr(Limiter, "upkeep", upkeep)
    return kept_up


def waiting_app(kept_up, limit, **options):
    app = ProviderApp("test", execution_timeout=60)

    @app.action
    @app.rate_limit(limit, **options)
    def work(seconds: float = TIMEOUT):
        kept_up.clear()
        return {"kept_up": kept_up.wait(seconds)}

    return app


@pytest.mark.parametrize("limit", [Concurrency(2), lambda call: Concurrency(2)])
def test_a_call_that_holds_a_lease_gives_heartbeats_until_its_end(kept_up, limit):
    result = waiting_app(kept_up, limit, store=AWAY).invoke("work")
    assert result.data == {"kept_up": True}
    wait_until(lambda: "arbprov-upkeep" not in [one.name for one in threading.enumerate()])


@pytest.mark.parametrize(
    ("limit", "options"), [("2/hour", {"store": AWAY}), (Concurrency(2), {})], ids=str
)
def test_a_call_that_holds_no_lease_gives_no_heartbeats(kept_up, limit, options):
    result = waiting_app(kept_up, limit, **options).invoke("work", {"seconds": 0.05})
    assert result.data == {"kept_up": False}


def test_an_error_of_a_heartbeat_is_logged_and_the_call_goes_on(monkeypatch, log_line):
    monkeypatch.setattr(inline, "_HEARTBEAT_INTERVAL", 0.0)

    def upkeep(self):
        raise ValueError("the heartbeat is broken")

    monkeypatch.setattr(Limiter, "upkeep", upkeep)
    app, lines = ProviderApp("test", execution_timeout=60), []

    @app.action
    @app.rate_limit(Concurrency(2), store=AWAY)
    def work():
        lines.append(log_line("broken"))
        return {}

    assert app.invoke("work").status == "success"
    (line,) = lines
    assert line.endswith("that this process is alive: the heartbeat is broken")

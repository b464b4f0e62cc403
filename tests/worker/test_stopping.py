"""`StopSignal`: its listener is called each time it is set, from any thread, however early."""

from __future__ import annotations

import threading

import pytest
from support.waiting import TIMEOUT

from arbprov.worker.stopping import StopSignal


def test_the_listener_is_called_when_it_is_set():
    stop, heard = StopSignal(), []
    with stop.listen(lambda: heard.append("stop")):
        stop.set()
    assert heard == ["stop"]


def test_a_signal_without_a_listener_waits_for_the_next_one():
    stop, heard = StopSignal(), []
    stop.set()
    with stop.listen(lambda: heard.append("stop")):
        assert heard == ["stop"]


def test_a_signal_reaches_one_listener_only():
    stop, heard = StopSignal(), []
    with stop.listen(lambda: heard.append("first")):
        stop.set()
    with stop.listen(lambda: heard.append("second")):
        pass
    assert heard == ["first"]


def test_there_is_one_listener_at_a_time():
    stop = StopSignal()
    with (
        stop.listen(lambda: None),
        pytest.raises(RuntimeError, match="runs already"),
        stop.listen(lambda: None),
    ):
        pass


def test_it_may_be_set_while_it_is_being_set():
    """As by a signal's handler that stops the app, wherever it interrupts the same thread."""
    stop, heard = StopSignal(), []

    def set_again():
        heard.append("stop")
        if len(heard) == 1:
            stop.set()

    def listen():
        with stop.listen(set_again):
            stop.set()

    # On a thread of its own, since a lock that is not reentrant would hang for ever.
    listening = threading.Thread(target=listen, daemon=True)
    listening.start()
    listening.join(TIMEOUT)
    assert heard == ["stop", "stop"]
    assert not listening.is_alive()

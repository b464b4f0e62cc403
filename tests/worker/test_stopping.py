"""`StopSignal`: each turn is heard, whoever turns it and when."""

from __future__ import annotations

import threading

import pytest

from arbprov.worker.stopping import StopSignal


def test_a_turn_is_heard():
    switch, heard = StopSignal(), []
    with switch.listen(lambda: heard.append("turn")):
        switch.turn()
    assert heard == ["turn"]


def test_a_turn_that_nobody_heard_waits_for_the_next_listener():
    switch, heard = StopSignal(), []
    switch.turn()
    with switch.listen(lambda: heard.append("turn")):
        assert heard == ["turn"]


def test_a_turn_is_heard_by_one_listener_only():
    switch, heard = StopSignal(), []
    with switch.listen(lambda: heard.append("first")):
        switch.turn()
    with switch.listen(lambda: heard.append("second")):
        pass
    assert heard == ["first"]


def test_there_is_one_listener_at_a_time():
    switch = StopSignal()
    with (
        switch.listen(lambda: None),
        pytest.raises(RuntimeError, match="runs already"),
        switch.listen(lambda: None),
    ):
        pass


def test_a_turn_may_interrupt_another_one():
    """As a signal does whose handler stops the app, whatever its thread is about."""
    switch, heard = StopSignal(), []

    def hear():
        heard.append("turn")
        if len(heard) == 1:
            switch.turn()

    def turn():
        with switch.listen(hear):
            switch.turn()

    # On a thread of its own: where it fails, it hangs for ever.
    turning = threading.Thread(target=turn, daemon=True)
    turning.start()
    turning.join(10)
    assert heard == ["turn", "turn"]
    assert not turning.is_alive()

"""`interruption`: SIGTERM and SIGINT set what a command waits for, whenever they come."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest

from arbprov.cli.signals import interruption

# In a process of its own: where it fails, it hangs for ever.
_A_SIGNAL_BEFORE_EACH_INSTRUCTION = """
import signal, sys
from arbprov.cli.signals import interruption

def signalled_before(number):
    seen = 0
    def trace(frame, event, _):
        nonlocal seen
        frame.f_trace_opcodes = True
        seen += event == "opcode"
        if event == "opcode" and seen == number:
            signal.raise_signal(signal.SIGTERM)
        return trace
    with interruption() as interrupted:
        sys.settrace(trace)
        interrupted.wait(0.05)
        sys.settrace(None)
        return seen >= number, interrupted.is_set()

number = 1
while (outcome := signalled_before(number))[0]:
    assert outcome[1], number
    number += 1
print(number - 1)
"""


def signal_this_thread():
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_sets_it(number):
    with interruption() as interrupted:
        signal.raise_signal(number)
        assert interrupted.is_set()


def test_it_is_not_set_without_a_signal():
    with interruption() as interrupted:
        assert not interrupted.wait(0.0)


def test_a_signal_before_the_wait_ends_it():
    with interruption() as interrupted:
        signal.raise_signal(signal.SIGTERM)
        assert interrupted.wait()


def test_a_second_signal_ends_the_command():
    with interruption():
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(SystemExit):
            signal.raise_signal(signal.SIGTERM)


def test_a_signal_that_another_thread_gets_ends_the_wait():
    """As one does that comes when the wait has begun, but its system call has not."""
    with interruption() as interrupted:
        threading.Timer(0.05, signal_this_thread).start()
        assert interrupted.wait(20)


def test_a_signal_at_any_moment_of_the_wait_is_noted():
    script = [sys.executable, "-c", _A_SIGNAL_BEFORE_EACH_INSTRUCTION]
    ended = subprocess.run(script, timeout=60, check=True, capture_output=True, text=True)
    assert int(ended.stdout) > 10


def test_a_signal_of_somebody_else_does_not_end_the_wait():
    previous = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        with interruption() as interrupted:
            signal.raise_signal(signal.SIGUSR1)
            assert not interrupted.wait(0.05)
    finally:
        signal.signal(signal.SIGUSR1, previous)


def test_signals_are_handled_as_before_afterwards():
    before = [signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)]
    with interruption():
        pass
    assert [signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)] == before


def test_signals_wake_who_they_woke_before_afterwards():
    with interruption() as outer:
        with interruption():
            pass
        threading.Timer(0.05, signal_this_thread).start()
        assert outer.wait(20)

"""`catch_interruption`: SIGTERM, SIGINT and SIGHUP end a command's wait, whenever they arrive."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest
from support.waiting import TIMEOUT

from arbprov.cli.signals import catch_interruption

# Runs in a process of its own, because a failure hangs for ever.
_A_SIGNAL_BEFORE_EACH_INSTRUCTION = """
import signal, sys
from arbprov.cli.signals import catch_interruption

def signalled_before(number):
    seen = 0
    def trace(frame, event, _):
        nonlocal seen
        frame.f_trace_opcodes = True
        seen += event == "opcode"
        if event == "opcode" and seen == number:
            signal.raise_signal(signal.SIGTERM)
        return trace
    with catch_interruption() as interruption:
        sys.settrace(trace)
        interruption.wait(0.05)
        sys.settrace(None)
        return seen >= number, interruption.is_set()

number = 1
while (outcome := signalled_before(number))[0]:
    assert outcome[1], number
    number += 1
print(number - 1)
"""


def signal_this_thread():
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_sets_it(number):
    with catch_interruption() as interruption:
        signal.raise_signal(number)
        assert interruption.is_set()


def test_a_command_under_nohup_outlives_its_terminal():
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with catch_interruption() as interruption:
            signal.raise_signal(signal.SIGHUP)
            assert not interruption.is_set()
    finally:
        signal.signal(signal.SIGHUP, previous)


def test_a_system_without_sighup_has_the_other_signals(monkeypatch):
    monkeypatch.delattr(signal, "SIGHUP")
    with catch_interruption() as interruption:
        signal.raise_signal(signal.SIGTERM)
        assert interruption.is_set()


def test_it_is_not_set_without_a_signal():
    with catch_interruption() as interruption:
        assert not interruption.wait(0.0)


def test_a_signal_before_the_wait_ends_the_wait():
    with catch_interruption() as interruption:
        signal.raise_signal(signal.SIGTERM)
        assert interruption.wait()


def test_a_second_signal_ends_the_command():
    with catch_interruption():
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(SystemExit):
            signal.raise_signal(signal.SIGTERM)


def test_a_signal_that_another_thread_gets_ends_the_wait():
    """So does a signal that arrives just before the wait's system call."""
    with catch_interruption() as interruption:
        threading.Timer(0.05, signal_this_thread).start()
        assert interruption.wait(TIMEOUT)


def test_a_signal_at_any_moment_of_the_wait_is_noted():
    script = [sys.executable, "-c", _A_SIGNAL_BEFORE_EACH_INSTRUCTION]
    ended = subprocess.run(script, timeout=TIMEOUT, check=True, capture_output=True, text=True)
    assert int(ended.stdout) > 10


def test_another_signal_does_not_end_the_wait():
    previous = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        with catch_interruption() as interruption:
            signal.raise_signal(signal.SIGUSR1)
            assert not interruption.wait(0.05)
    finally:
        signal.signal(signal.SIGUSR1, previous)


def test_the_signal_handlers_are_restored():
    before = [signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)]
    with catch_interruption():
        pass
    assert [signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)] == before


def test_the_wakeup_descriptor_is_restored():
    with catch_interruption() as outer:
        with catch_interruption():
            pass
        threading.Timer(0.05, signal_this_thread).start()
        assert outer.wait(TIMEOUT)

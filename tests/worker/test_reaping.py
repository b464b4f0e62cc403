"""A provider that runs as PID 1, and what it does with orphans and signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import types
from pathlib import Path

import pytest
from support.waiting import TIMEOUT, wait_until

from arbprov.executors.descendants import list_children
from arbprov.worker import reaping

# As PID 1: the orphans of its descendants become its children.
_AS_PID_1 = """
import ctypes, os, signal, subprocess, sys, time
from arbprov.worker import reaping
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
getpid, reaping.os.getpid = os.getpid, lambda: 1
reaping.list_children = lambda pid: []
reaping.fork_as_pid_1()
reaping.os.getpid = getpid
"""


@pytest.fixture
def start_as_pid_1():
    """Return a function that runs code as PID 1 would run it."""
    started = []

    def start(code):
        process = subprocess.Popen(
            [sys.executable, "-c", _AS_PID_1 + code], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with process:
            for pid in list_children(process.pid):
                os.kill(pid, signal.SIGKILL)
            process.kill()


def test_orphans_are_waited_for_and_the_author_s_subprocesses_are_not(start_as_pid_1):
    process = start_as_pid_1(
        "program = subprocess.Popen(['sh', '-c', 'exit 5'])\n"
        "orphan = subprocess.check_output(['sh', '-c', 'sleep 0.1 >&- & echo $!'], text=True)\n"
        "print(orphan, flush=True)\n"
        "time.sleep(0.3)\n"
        "print(program.wait(), flush=True)\n"
        "time.sleep(60)\n"
    )
    orphan = int(process.stdout.readline())
    process.stdout.readline()
    wait_until(lambda: not Path(f"/proc/{orphan}").exists())
    assert process.stdout.readline() == "5\n"


@pytest.mark.parametrize(
    ("end", "code"), [("sys.exit(7)", 7), ("os.kill(os.getpid(), signal.SIGKILL)", 137)]
)
def test_pid_1_ends_with_the_provider_s_exit_code(start_as_pid_1, end, code):
    assert start_as_pid_1(end).wait(TIMEOUT) == code


def test_a_signal_reaches_the_provider_once(start_as_pid_1):
    process = start_as_pid_1(
        "signals = []\n"
        "def receive(number, frame):\n"
        "    signals.append(number)\n"
        "    os.write(1, b'SIGTERM\\n')\n"
        "signal.signal(signal.SIGTERM, receive)\n"
        "print('ready', flush=True)\n"
        "while len(signals) < 2: time.sleep(0.01)\n"
    )
    process.stdout.readline()
    for _ in range(2):
        process.terminate()
        assert process.stdout.readline() == "SIGTERM\n"
    assert process.wait(TIMEOUT) == 0


def test_a_signal_of_the_terminal_is_not_forwarded(monkeypatch):
    # Of the kernel, of another process, and one that comes too late.
    numbers = [(signal.SIGINT, 128), (signal.SIGTERM, 0), (signal.SIGTERM, 0)]
    received = iter([types.SimpleNamespace(si_signo=n, si_code=code) for n, code in numbers])
    codes, sent = iter([None, None, None, 3]), []

    def kill(pid, number):
        sent.append((pid, number))
        if len(sent) > 1:
            raise ProcessLookupError

    monkeypatch.setattr(reaping.signal, "sigwaitinfo", lambda numbers: next(received))
    monkeypatch.setattr(reaping.signal, "signal", lambda number, handler: None)
    monkeypatch.setattr(reaping, "_reap", lambda provider: next(codes))
    monkeypatch.setattr(reaping.os, "kill", kill)
    assert reaping._wait_for_all(5, {signal.SIGTERM}) == 3
    assert sent == [(5, signal.SIGTERM)] * 2


def test_each_process_that_has_ended_is_waited_for(monkeypatch):
    ended = iter([(8, 0), (5, 3 << 8), (9, 0), (0, 0)])
    monkeypatch.setattr(reaping.os, "waitpid", lambda pid, options: next(ended))
    assert reaping._reap(5) == 3
    assert next(ended, None) is None


def test_a_provider_that_a_signal_killed_has_a_shell_s_exit_code(monkeypatch):
    ended = iter([(5, signal.SIGKILL)])

    def waitpid(pid, options):
        try:
            return next(ended)
        except StopIteration:
            raise ChildProcessError from None

    monkeypatch.setattr(reaping.os, "waitpid", waitpid)
    assert reaping._reap(5) == 137


@pytest.fixture
def forks(monkeypatch):
    """Pretend to be PID 1, without threads and child processes; return the list of forks."""
    forks = []
    monkeypatch.setattr(reaping.os, "getpid", lambda: 1)
    monkeypatch.setattr(reaping.os, "listdir", lambda path: ["1"])
    monkeypatch.setattr(reaping, "list_children", lambda pid: [])
    monkeypatch.setattr(reaping.os, "fork", lambda: forks.append(0) or 0)
    return forks


def test_pid_1_forks_and_the_fork_has_the_signals_of_before(forks):
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    reaping.fork_as_pid_1()
    assert forks == [0]
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


@pytest.mark.parametrize(
    ("name", "value"), [("getpid", lambda: 7), ("listdir", lambda path: ["1", "2"])]
)
def test_another_process_or_one_with_threads_does_not_fork(forks, monkeypatch, caplog, name, value):
    monkeypatch.setattr(reaping.os, name, value)
    reaping.fork_as_pid_1()
    assert forks == []
    assert ("docker run --init" in caplog.text) is (name == "listdir")


def test_pid_1_with_child_processes_does_not_fork(forks, monkeypatch, caplog):
    monkeypatch.setattr(reaping, "list_children", lambda pid: [7])
    reaping.fork_as_pid_1()
    assert forks == []
    assert "orphans of handlers stay zombies" in caplog.text

"""Finding and killing the processes that a process started."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from support.waiting import TIMEOUT

from arbprov.executors import descendants
from arbprov.executors.descendants import MARKER, kill_marked, kill_tree, list_children


def start(*command, **options):
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)


def test_the_children_of_a_process_are_listed():
    with start("sleep", "60") as process:
        assert process.pid in list_children(os.getpid())
        process.kill()
    assert process.pid not in list_children(os.getpid())


def test_a_process_that_is_gone_has_no_children():
    with start("true") as process:
        process.wait(TIMEOUT)
    assert list_children(process.pid) == []


def test_a_process_is_killed_with_a_child_that_has_a_session_of_its_own():
    command = "import subprocess\nsubprocess.Popen(['sleep', '60'], start_new_session=True).wait()"
    with start(sys.executable, "-c", command, start_new_session=True) as process:
        while not (children := list_children(process.pid)):
            pass
        kill_tree(process.pid)
        # The child has inherited the pipe, so this ends when both have.
        assert process.communicate(timeout=TIMEOUT) == ("", None)
    assert len(children) == 1


def test_a_process_that_is_gone_is_not_killed():
    with start("true") as process:
        process.wait(TIMEOUT)
    kill_tree(process.pid)


@pytest.mark.parametrize(("mark", "is_killed"), [("a", True), ("b", False)])
def test_the_processes_with_a_mark_are_killed(mark, is_killed):
    with start("sleep", "60", env={**os.environ, MARKER: "a"}) as process:
        kill_marked(mark)
        if is_killed:
            assert process.wait(TIMEOUT) == -9
        assert (process.poll() is None) is not is_killed
        process.kill()


def test_a_search_for_processes_that_always_finds_more_ends(monkeypatch):
    numbers = iter(range(2**30, 2**31))
    monkeypatch.setattr(
        descendants, "list_children", lambda pid: [next(numbers)] if pid < 3 else []
    )
    monkeypatch.setattr(descendants, "_find_marked", lambda mark: [next(numbers)])
    killed = []
    monkeypatch.setattr(descendants.os, "kill", lambda pid, number: killed.append(pid))
    monkeypatch.setattr(descendants.os, "killpg", lambda pid, number: None)
    kill_tree(2)
    assert len(set(killed)) == 1 + descendants._MAX_ROUNDS
    kill_marked("a")

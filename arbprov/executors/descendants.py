"""Ending a process together with the processes that it started, in sessions of their own too.

The system ends a process group with one call, but a process leaves its group by starting a session.
On Linux, `/proc` shows the others: the children of each process, and the variable that the programs
of a handler's process inherit.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

__all__ = ["MARKER", "kill_marked", "kill_tree", "list_children"]

# The variable that a handler's process sets, so that the programs that it starts can be found
# when their parents have ended.
MARKER = "ARBPROV_HANDLER_PROCESS"

_PROC = Path("/proc")
# A process may start another while it is searched for.
_MAX_ROUNDS = 10


def kill_tree(pid: int) -> None:
    """Kill a process, its group, and its descendants with their groups.

    Args:
        pid: The process; it must not have been waited for, since its number could be another's.
    """
    tree = [pid]
    for _ in range(_MAX_ROUNDS):
        known = len(tree)
        # The list grows in the loop. A process that is stopped starts no others.
        for process in tree:
            with contextlib.suppress(OSError):
                os.kill(process, signal.SIGSTOP)
            tree += [child for child in list_children(process) if child not in tree]
        if len(tree) == known:
            break
    for process in tree:
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(OSError):
                kill(process, signal.SIGKILL)


def kill_marked(mark: str) -> None:
    """Kill the processes whose environment has this value of `MARKER`, and their descendants."""
    seen = {os.getpid()}
    for _ in range(_MAX_ROUNDS):
        found = [pid for pid in _find_marked(mark) if pid not in seen]
        if not found:
            return
        seen.update(found)
        for pid in found:
            kill_tree(pid)


def list_children(pid: int) -> list[int]:
    """Return the children of a process; none where the system does not list them."""
    found: list[int] = []
    # The process may end while it is read.
    with contextlib.suppress(OSError):
        for children in (_PROC / str(pid) / "task").glob("*/children"):
            found += map(int, children.read_text().split())
    return found


def _find_marked(mark: str) -> Iterator[int]:
    entry = f"{MARKER}={mark}".encode()
    for environ in _PROC.glob("[0-9]*/environ"):
        # It may have ended, or belong to another user.
        with contextlib.suppress(OSError):
            if entry in environ.read_bytes().split(b"\0"):
                yield int(environ.parent.name)

"""What starting any server takes: a port that is free, and patience until it answers."""

from __future__ import annotations

import socket
import time


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait_for(ask, error, process, patience=20.0):
    """Return what ``ask()`` returns, once it does not fail with `error` any more."""
    give_up_at = time.monotonic() + patience
    while True:
        try:
            return ask()
        except error:
            assert process.poll() is None, "the server has ended"
            assert time.monotonic() < give_up_at, "the server does not answer"
            time.sleep(0.01)

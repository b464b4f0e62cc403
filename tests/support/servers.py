"""What starting any server takes: a free port, and waiting until it answers."""

from __future__ import annotations

import socket

from .waiting import wait_until


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait_for_answer(ask, error, process):
    """Return what `ask()` returns, once it does not raise `error` any more."""

    def answer():
        try:
            return [ask()]
        except error:
            assert process.poll() is None, "the server has ended"

    return wait_until(answer)[0]

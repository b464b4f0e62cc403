"""The hubs that hand out the tasks: hub.cc where it can be built, else the bundled one."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs

from benchmarks.children import BenchmarkError, Child, started

__all__ = ["Hub", "HubKind", "Work", "bundled", "choose"]

HERE = Path(__file__).parent
PROTOS = HERE.parent / "protos"
PROTO = PROTOS / "arbprov/_proto/hub.proto"
TOOLS = ("g++", "protoc", "grpc_cpp_plugin", "pkg-config")
_START = 60.0


@attrs.frozen
class HubKind:
    """Which hub is used.

    Args:
        name: As it is printed.
        command: What starts it.
        is_fast: Whether it outruns every provider, so that tasks per second mean something.
    """

    name: str
    command: list[str]
    is_fast: bool


@attrs.frozen
class Work:
    """The tasks that a hub hands out: all are the same but for their ids."""

    action: str
    payload: str = '{"city": "Paris", "days": 3}'
    account: str = '{"id": "sample-account"}'


class Hub:
    """A hub that runs, and the orders for it."""

    def __init__(self, child: Child, address: str) -> None:
        self._child = child
        self.address = address

    def run(self, tasks: int, check: Callable[[], object]) -> dict[str, Any]:
        """Have tasks done as fast as they are asked for, and return what they came to."""
        return self._order(f"run {tasks}", 120 + tasks / 20, check)

    def paced(
        self, tasks: int, shortest: float, longest: float, check: Callable[[], object]
    ) -> dict[str, Any]:
        """Have tasks done, each some seconds after the last result."""
        seconds = 60 + tasks * (longest + 10)
        return self._order(f"paced {tasks} {shortest} {longest}", seconds, check)

    def release(self) -> dict[str, Any]:
        """Hold no poll from now on, and return what was wrong, if anything was."""
        return self._order("release", 30, lambda: None)

    def _order(self, order: str, seconds: float, check: Callable[[], object]) -> dict[str, Any]:
        self._child.say(order)
        return json.loads(self._child.hear(seconds, check))


@contextlib.contextmanager
def running(kind: HubKind, folder: Path, work: Work, hold: float, seed: int) -> Iterator[Hub]:
    """Run a hub on a Unix socket in a folder, until the context ends."""
    address = f"unix:{folder}/hub.sock"
    orders = [address, str(hold), work.action, work.payload, work.account, str(seed)]
    with started([*kind.command, *orders], dict(os.environ), folder / "hub.log") as child:
        child.hear(_START)
        yield Hub(child, address)


def bundled() -> HubKind:
    """Return the hub that comes with arbprov."""
    command = [sys.executable, str(HERE / "local_hub.py")]
    return HubKind("bundled hub (Python): CPU time stands in for speed", command, is_fast=False)


def choose() -> tuple[HubKind, str]:
    """Return the fastest hub there is, and why it is not hub.cc if it is not."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return bundled(), f"hub.cc needs {', '.join(missing)}"
    try:
        return HubKind("hub.cc (C++)", [str(build())], is_fast=True), ""
    except BenchmarkError as error:
        return bundled(), str(error)


def build() -> Path:
    """Return the program of hub.cc, which is built if that was not done yet."""
    sources = b"".join(path.read_bytes() for path in (HERE / "hub.cc", PROTO))
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    program = cache / "arbprov-benchmarks" / f"hub-{hashlib.sha256(sources).hexdigest()[:16]}"
    if not program.exists():
        print("building hub.cc, once ...", file=sys.stderr)
        program.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=program.parent) as folder:
            os.replace(_compiled(Path(folder)), program)
    return program


def _compiled(folder: Path) -> Path:
    plugin = shutil.which("grpc_cpp_plugin")
    out = [f"--cpp_out={folder}", f"--grpc_out={folder}", f"--plugin=protoc-gen-grpc={plugin}"]
    _tool("protoc", f"-I{PROTO.parent}", *out, str(PROTO))
    flags = _tool("pkg-config", "--cflags", "--libs", "grpc++", "protobuf").split()
    sources = [str(HERE / "hub.cc"), f"{folder}/hub.pb.cc", f"{folder}/hub.grpc.pb.cc"]
    _tool("g++", "-O2", "-std=c++17", f"-I{folder}", *sources, "-o", f"{folder}/hub", *flags)
    return folder / "hub"


def _tool(*command: str) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise BenchmarkError(f"hub.cc can't be built: {command[0]}: {done.stderr[:500]}")
    return done.stdout

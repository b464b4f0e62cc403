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

from benchmarks.children import BenchmarkError, Child, run_process

__all__ = ["Hub", "HubKind", "Work", "bundled_hub", "choose"]

HERE = Path(__file__).parent
PROTOS = HERE.parent / "protos"
PROTO = PROTOS / "arbprov/_proto/hub.proto"
TOOLS = ("g++", "protoc", "grpc_cpp_plugin", "pkg-config")
_START = 60.0


@attrs.frozen
class HubKind:
    """A kind of hub.

    Args:
        name: As it is printed.
        command: The command that starts it.
        is_fast: Whether it is faster than any provider; only then are tasks per second a figure.
    """

    name: str
    command: list[str]
    is_fast: bool


@attrs.frozen
class Work:
    """The tasks that a hub hands out: only their ids differ."""

    action: str
    payload: str = '{"city": "Paris", "days": 3}'
    account: str = '{"id": "sample-account"}'


class Hub:
    """A running hub, to which orders are sent."""

    def __init__(self, child: Child, address: str) -> None:
        self._child = child
        self.address = address

    def run(self, tasks: int, check: Callable[[], object]) -> dict[str, Any]:
        """Have tasks done as fast as they are polled, and return the hub's report."""
        return self._order(f"run {tasks}", 120 + tasks / 20, check)

    def run_paced(
        self, tasks: int, shortest: float, longest: float, check: Callable[[], object]
    ) -> dict[str, Any]:
        """Have tasks done, each some seconds after the last result."""
        seconds = 60 + tasks * (longest + 10)
        return self._order(f"paced {tasks} {shortest} {longest}", seconds, check)

    def release(self) -> dict[str, Any]:
        """Hold no poll from now on, and return the hub's report."""
        return self._order("release", 30, lambda: None)

    def _order(self, order: str, seconds: float, check: Callable[[], object]) -> dict[str, Any]:
        self._child.say(order)
        return json.loads(self._child.hear(seconds, check))


@contextlib.contextmanager
def run_hub(kind: HubKind, folder: Path, work: Work, hold: float, seed: int) -> Iterator[Hub]:
    """Run a hub on a Unix socket in a folder, until the context ends."""
    address = f"unix:{folder}/hub.sock"
    orders = [address, str(hold), work.action, work.payload, work.account, str(seed)]
    with run_process([*kind.command, *orders], dict(os.environ), folder / "hub.log") as child:
        child.hear(_START)
        yield Hub(child, address)


def bundled_hub() -> HubKind:
    """Return the hub that comes with arbprov."""
    command = [sys.executable, str(HERE / "local_hub.py")]
    return HubKind("bundled hub (Python): CPU time stands in for speed", command, is_fast=False)


def choose() -> tuple[HubKind, str]:
    """Return the fastest hub there is, and the reason if it is not hub.cc."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return bundled_hub(), f"hub.cc needs {', '.join(missing)}"
    try:
        return HubKind("hub.cc (C++)", [str(build())], is_fast=True), ""
    except BenchmarkError as error:
        return bundled_hub(), str(error)


def build() -> Path:
    """Return the program of hub.cc, and build it first if necessary."""
    sources = b"".join(path.read_bytes() for path in (HERE / "hub.cc", PROTO))
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    program = cache / "arbprov-benchmarks" / f"hub-{hashlib.sha256(sources).hexdigest()[:16]}"
    if not program.exists():
        print("building hub.cc, once ...", file=sys.stderr)
        program.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=program.parent) as folder:
            os.replace(_compile(Path(folder)), program)
    return program


def _compile(folder: Path) -> Path:
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

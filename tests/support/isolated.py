"""A provider whose handlers run in processes of their own."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import types
from typing import Any

import attrs

from arbprov import ProviderApp, ProviderResponse, RateLimited, TaskContext
from arbprov.executors.messages import Kind
from arbprov.limits import current_limits
from support.waiting import TIMEOUT

app = ProviderApp("isolated", execution_timeout=TIMEOUT, concurrency=4, drain_timeout=10)
process = app.action(isolation="process")


def local_class():
    @attrs.frozen
    class Local:
        name: str

    return Local


Local = local_class()


class OddlyMadeError(Exception):
    def __init__(self, code, body):
        super().__init__(f"{code}: {body}")
        self.code = code


class UnspeakableError(Exception):
    def __str__(self):
        raise RuntimeError


@process
def pid() -> dict:
    return {"pid": os.getpid(), "parent": os.getppid()}


@process
def segfault() -> dict:
    return {"never": ctypes.string_at(0)}


@process
def leave(code: int) -> dict:
    os._exit(code)


@process
def kill_itself(number: int) -> dict:
    os.kill(os.getpid(), number)
    return {}


@process
def leave_a_fork_behind() -> dict:
    if os.fork() == 0:
        time.sleep(20)
        os._exit(0)
    os._exit(5)


@process
def close_everything() -> dict:
    os.closerange(3, 4096)
    time.sleep(20)
    return {}


@app.action(isolation="process", timeout=3)
def hang(path: str) -> dict:
    """Hang, and start a program that hangs too."""
    with subprocess.Popen(["sleep", "60"]) as program:
        with open(path, "w") as file:
            file.write(f"{os.getpid()} {program.pid}")
        time.sleep(60)
    return {}


@process
def start_daemons(path: str) -> None:
    """Do what `hang_with_daemons` does, for longer."""
    hang_with_daemons(path)


@process
def start_daemon() -> int:
    """Start a program in a session of its own."""
    return subprocess.Popen(["sleep", "60"], start_new_session=True).pid


@app.action(isolation="process", timeout=3)
def hang_with_daemons(path: str) -> dict:
    """Hang, after starting programs in sessions of their own; the parent of one has ended."""
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as program:
        command = f"sleep 60 & echo $! > {path}.orphan"
        subprocess.run(["sh", "-c", command], start_new_session=True, check=True)
        with open(path, "w") as file, open(f"{path}.orphan") as orphan:
            file.write(f"{program.pid} {orphan.read()}")
        time.sleep(60)
    return {}


@process
def crash_with_a_daemon(path: str) -> None:
    """End, after starting a program in a session of its own."""
    program = subprocess.Popen(["sleep", "60"], start_new_session=True)
    fork = os.fork()
    if fork == 0:
        time.sleep(60)
        os._exit(0)
    with open(path, "w") as file:
        file.write(f"{program.pid} {fork}")
    os._exit(5)


@process
def environment() -> dict:
    """Return the environment, and that of a program."""
    program = subprocess.run(["env"], capture_output=True, check=True, text=True)
    return {"own": dict(os.environ), "program": program.stdout}


@process
def wait_for(path: str) -> dict:
    """Write the process's number to a file, and run until that file is removed."""
    with open(path, "w") as file:
        file.write(str(os.getpid()))
    while os.path.exists(path):
        time.sleep(0.01)
    return {"pid": os.getpid()}


@process
def context(ctx: TaskContext, /, also: TaskContext, account: dict) -> dict:
    assert ctx is also
    return {
        "id": ctx.id,
        "action": ctx.action,
        "remaining": ctx.remaining,
        "payload": ctx.payload,
        "account": ctx.account,
        "cancelled": ctx.cancelled,
        "logger": ctx.logger.name,
    }


def refund(ctx: TaskContext) -> dict:
    ctx.limits.refund()
    return {"remaining": ctx.limits.headroom[0].remaining}


def headroom(ctx: TaskContext) -> dict:
    (headroom,) = ctx.limits.headroom
    return {"limit": str(headroom.limit), "remaining": headroom.remaining}


@process
def refund_nothing(ctx: TaskContext) -> int:
    ctx.limits.refund()
    return 7


def report(ctx: TaskContext) -> dict:
    ctx.limits.report("vendor", used=0.5, reset_in=60)
    return {"remaining": ctx.limits.headroom[0].remaining}


@process
@app.rate_limit("3/hour", name="calls", manual=True)
def acquire(ctx: TaskContext, calls: int, cost: int = 1) -> dict:
    for _ in range(calls):
        ctx.limits.acquire("calls", cost=cost)
    return {"remaining": ctx.limits.headroom[0].remaining}


async def acquire_in_threads(limits):
    """Acquire beside the loop, twice at the same time; return the refusals."""
    outcomes = await asyncio.gather(
        *(limits.aacquire("in_threads") for _ in range(3)), return_exceptions=True
    )
    return [type(outcome).__name__ for outcome in outcomes if outcome is not None]


@process
@app.rate_limit("2/hour", name="in_threads", manual=True)
def acquire_async(ctx: TaskContext) -> dict:
    refused = asyncio.run(acquire_in_threads(ctx.limits))
    try:
        asyncio.run(block_loop(ctx.limits))
    except RuntimeError as error:
        return {"refused": refused, "error": str(error)}
    return {}


async def block_loop(limits):
    limits.acquire("in_threads")


@process
@app.rate_limit("2/second", name="paced", manual=True, max_wait=5)
def acquire_and_wait(ctx: TaskContext) -> dict:
    started_at = time.monotonic()
    for _ in range(3):
        ctx.limits.acquire("paced")
    return {"took": time.monotonic() - started_at}


@process
@app.rate_limit("10/hour", name="observed", manual=True)
def observe(status: int, headers: dict) -> dict:
    response = types.SimpleNamespace(status_code=status, headers=headers)
    # As code that a handler calls finds them.
    limits = current_limits.get()
    limits.observe(response, limit="observed")
    return {"remaining": limits.headroom[-1].remaining if limits.headroom else None}


@process
@app.rate_limit("10/hour", name="automatic")
def observe_automatic(ctx: TaskContext, status: int, headers: dict) -> dict:
    response = types.SimpleNamespace(status_code=status, headers=headers)
    ctx.limits.observe(response, limit="automatic")
    return {"without": current_limits.get() is None}


@process
@app.rate_limit("1/30s", name="alarmed", manual=True, max_wait=TIMEOUT)
def acquire_until_alarm(ctx: TaskContext) -> dict:
    def ring(*_):
        raise InterruptedError("rung")

    ctx.limits.acquire("alarmed")
    signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        # Half a minute, if no alarm rings.
        ctx.limits.acquire("alarmed")
    except InterruptedError as error:
        return {"raised": str(error)}
    return {}


_too_late: list[str] = []
_acquiring: list[threading.Thread] = []
_may_acquire = threading.Event()


def acquire_late(ctx: TaskContext) -> dict:
    def try_to_acquire():
        _may_acquire.wait(TIMEOUT)
        try:
            ctx.limits.acquire("late")
        except RuntimeError as error:
            _too_late.append(str(error))

    _acquiring.append(threading.Thread(target=try_to_acquire))
    _acquiring[-1].start()
    return {}


def acquire_late_errors() -> dict:
    _may_acquire.set()
    _acquiring[0].join()
    return {"errors": _too_late}


_late: list[str] = []
_threads: list[threading.Thread] = []
_may_refund = threading.Event()


def refund_late(ctx: TaskContext) -> dict:
    def try_to_refund():
        _may_refund.wait(TIMEOUT)
        try:
            ctx.limits.refund()
        except RuntimeError as error:
            _late.append(str(error))

    _threads.append(threading.Thread(target=try_to_refund))
    _threads[0].start()
    return {}


def late_errors() -> dict:
    _may_refund.set()
    _threads[0].join()
    return {"errors": _late}


@process
def log(ctx: TaskContext) -> dict:
    ctx.logger.info("hello from %s", "a process", extra={"city": "Paris"})
    ctx.logger.debug("a detail")
    logging.getLogger("elsewhere").warning("hello too")
    return {}


class VendorError(Exception):
    """As many vendors' exceptions: it can be pickled, and not unpickled."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")


class Unpicklable:
    def __init__(self, error: type[BaseException] = RuntimeError) -> None:
        self.error = error

    def __reduce__(self):
        raise self.error

    def __str__(self):
        raise self.error


@process
def log_oddly(ctx: TaskContext, number: int, how: str) -> int:
    """Log a record that does not cross to the provider as it is, then return the number."""
    odd = {
        "not loadable": lambda: VendorError(429, "slow down"),
        "not picklable": lambda: threading.Lock(),
        "evil": lambda: Unpicklable(SystemExit),
        "unknown": lambda: _make_unknown(),
    }[how]()
    ctx.logger.warning("odd: %s", how, extra={"odd": odd, "city": "Paris"})
    return number


def _make_unknown() -> object:
    """Return an object of a class whose module only this process has."""
    module = types.ModuleType("only_here")
    exec("class Thing:\n    def __str__(self): return 'a thing'", vars(module))
    sys.modules["only_here"] = module
    return module.Thing()


@process
def raise_unknown(base: str, argument: Any) -> dict:
    """Raise an exception of a module that only this process has."""
    module = types.ModuleType("plug")
    exec(f"class PlugError({base}): pass", vars(module))
    sys.modules["plug"] = module
    raise module.PlugError(*([] if argument is None else [argument]))


@process
def log_a_number(ctx: TaskContext, number: int) -> int:
    ctx.logger.warning("the number %d", number)
    return number


@process
def answer_too_early(number: int, kind: int = Kind.RESULT, call: int = 0) -> int:
    """Send an answer of this process's own, before the real one."""
    server = next(found for found in gc.get_objects() if type(found).__name__ == "_Server")
    server._number += call
    server.send(kind, pickle.dumps("not the answer"))
    return number


@process
def send_garbage() -> int:
    server = next(found for found in gc.get_objects() if type(found).__name__ == "_Server")
    server._connection.send_bytes(b"garbage")
    time.sleep(20)
    return 0


@process
def leave_an_alarm(number: int) -> int:
    """Leave an alarm set that rings in the next call or between two."""
    signal.signal(signal.SIGALRM, _ring)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    return number


@process
def sleep(seconds: float) -> dict:
    time.sleep(seconds)
    return {"pid": os.getpid(), "parent": os.getppid()}


def _ring(*_):
    raise TimeoutError("my alarm")


class OddText(str):
    """A string that can be pickled, and not unpickled."""

    def __reduce__(self):
        return int, ("no number",)


@process
def answer_oddly() -> ProviderResponse:
    return ProviderResponse("warning", message=OddText("odd"))


@process
def read_stdin() -> dict:
    return {"read": sys.stdin.read()}


@process
def print_word(word: str) -> dict:
    print(word)
    return {}


@process
def end_a_fork() -> dict:
    fork = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    fork.start()
    fork.terminate()
    fork.join(TIMEOUT)
    return {"exit_code": fork.exitcode}


@process
def fail(how: str) -> dict:
    class LocalError(Exception):
        pass

    raise {
        "key": KeyError("nothing"),
        "odd": OddlyMadeError(5, "odd"),
        "local": LocalError("defined in a function"),
        "exit": SystemExit(3),
        "unspeakable": UnspeakableError(),
        "limited": RateLimited(30, "theirs"),
        "stop": StopIteration("no more"),
        "unicode": UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no"),
    }[how]


@app.errorhandler(OddlyMadeError)
def handle_oddly_made(error: OddlyMadeError) -> ProviderResponse:
    return ProviderResponse("warning", message=f"handled {error.code}")


async def later():
    await asyncio.sleep(0)
    return {"awaited": True}


@process
def answer(how: str):
    if how == "awaitable":
        return later()
    return {
        "response": ProviderResponse("warning", message="half", data={"rows": [Local("a")]}),
        "set": {"a": {1, 2}},
        "generator": (number for number in [1]),
    }[how]


@process
def local(thing: Local) -> dict:
    return {"thing": thing.name}


@app.action
def in_a_thread() -> dict:
    return {"pid": os.getpid()}


@app.action(isolation="process")
@app.retry(on=ConnectionError, attempts=3, wait_initial=0, wait_jitter=0)
def retried(ctx: TaskContext):
    if ctx.attempt < 3:
        raise ConnectionError
    return {"attempt": ctx.attempt, "key": ctx.idempotency_key, "process": os.getpid()}


if __name__ == "__main__":
    app.run()

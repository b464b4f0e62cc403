"""A provider whose handlers fork."""

from __future__ import annotations

import asyncio
import os

from arbprov import ProviderApp, TaskContext

app = ProviderApp("forking", execution_timeout=10)
USES = {
    "run": app.run,
    "stop": app.stop,
    "test_client": app.test_client,
}


def outcome_in_a_fork(function) -> str:
    """Call a function in a fork of this process; return what it raised or returned there."""
    read, write = os.pipe()
    if os.fork() == 0:
        try:
            outcome = f"returned {function()!r}"
        except BaseException as error:
            outcome = f"{type(error).__name__}: {error}"
        os.write(write, outcome.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        outcome = pipe.read()
    os.wait()
    return outcome


def exit_code_of(pid: int) -> int:
    """Wait for a fork and return its exit code; in the fork itself, return 0 at once."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) if pid else 0


@app.action
def use(how: str) -> dict:
    return {"raised": outcome_in_a_fork(USES[how])}


@app.action
async def use_from_the_loop(how: str) -> dict:
    return {"raised": outcome_in_a_fork(USES[how])}


@app.action(isolation="process")
def use_from_a_process(how: str) -> dict:
    return {"raised": outcome_in_a_fork(USES[how])}


@app.action
def return_in_a_fork() -> dict:
    return {"exit_code": exit_code_of(os.fork())}


@app.action
async def return_in_a_fork_on_the_loop() -> dict:
    pid = os.fork()
    await asyncio.sleep(0)
    return {"exit_code": exit_code_of(pid)}


@app.action(isolation="process")
def return_in_a_fork_of_a_process() -> dict:
    return {"exit_code": exit_code_of(os.fork())}


@app.action(isolation="process")
def log_in_a_fork(ctx: TaskContext) -> dict:
    return {"raised": outcome_in_a_fork(lambda: ctx.logger.error("hello from a fork"))}


@app.action(isolation="process")
@app.rate_limit("5/hour")
def refund_in_a_fork(ctx: TaskContext) -> dict:
    return {"raised": outcome_in_a_fork(ctx.limits.refund)}


@app.action(isolation="process")
def use_in_a_process(how: str) -> dict:
    USES[how]()
    return {}


if __name__ == "__main__":
    app.run()

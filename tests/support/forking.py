"""A provider whose handlers fork, for the tests of that."""

from __future__ import annotations

import asyncio
import os

from arbprov import ProviderApp, TaskContext

app = ProviderApp("forking", execution_timeout=10)
TOUCHES = {
    "run": app.run,
    "stop": app.stop,
    "test_client": app.test_client,
}


def what_it_raises(function) -> str:
    """Call a function in a fork of this process, and return what it raised there."""
    read, write = os.pipe()
    if os.fork() == 0:
        try:
            said = f"returned {function()!r}"
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(write, said.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    os.wait()
    return said


def exit_code_of(pid: int) -> int:
    """Wait for a fork; in the fork itself, return at once."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) if pid else 0


@app.action
def touch(how: str) -> dict:
    return {"raised": what_it_raises(TOUCHES[how])}


@app.action
async def touch_from_the_loop(how: str) -> dict:
    return {"raised": what_it_raises(TOUCHES[how])}


@app.action(isolation="process")
def touch_from_a_process(how: str) -> dict:
    return {"raised": what_it_raises(TOUCHES[how])}


@app.action
def go_on() -> dict:
    return {"exit_code": exit_code_of(os.fork())}


@app.action
async def go_on_on_the_loop() -> dict:
    pid = os.fork()
    await asyncio.sleep(0)
    return {"exit_code": exit_code_of(pid)}


@app.action(isolation="process")
def go_on_in_a_process() -> dict:
    return {"exit_code": exit_code_of(os.fork())}


@app.action(isolation="process")
def log_in_a_fork(ctx: TaskContext) -> dict:
    return {"raised": what_it_raises(lambda: ctx.logger.error("hello from a fork"))}


@app.action(isolation="process")
@app.rate_limit("5/hour")
def refund_in_a_fork(ctx: TaskContext) -> dict:
    return {"raised": what_it_raises(ctx.limits.refund)}


@app.action(isolation="process")
def stop_in_a_process(how: str) -> dict:
    TOUCHES[how]()
    return {}


if __name__ == "__main__":
    app.run()

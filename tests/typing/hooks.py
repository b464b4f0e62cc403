"""What type checkers see of hooks: `tox -e typing` has mypy and pyright read it."""

from __future__ import annotations

import attrs
from typing_extensions import assert_type

from arbprov import (
    Blueprint,
    HubError,
    ProviderApp,
    ProviderResponse,
    RateLimited,
    TaskContext,
    TaskResult,
)

app = ProviderApp("typed")
reports = Blueprint("reports")
seen: list[object] = []


# A hook may be plain or async, and may leave out arguments from the right.


@app.on_startup
def start() -> None: ...


@reports.on_shutdown
async def shut_down() -> None: ...


@app.on_connect
@app.on_startup
async def connected() -> int:
    return 1


@app.on_disconnect
def disconnected(error: HubError) -> None: ...


@app.on_disconnect
def disconnected_somehow() -> None: ...


@app.on_submit_failed
async def refused(result: TaskResult, error: HubError) -> None: ...


@app.on_submit_failed
def refused_result(result: TaskResult) -> None: ...


@app.before_task
def check(ctx: TaskContext) -> dict[str, int] | None:
    return None


@reports.before_task
async def check_later(ctx: TaskContext) -> ProviderResponse | None:
    return None


@app.before_task
def closed() -> str:
    return "closed"


@app.after_task
def stamp(result: TaskResult, ctx: TaskContext) -> TaskResult:
    return attrs.evolve(result, message=ctx.action)


@reports.after_task
async def stamp_later(result: TaskResult) -> TaskResult:
    return result


@app.teardown_task
def release(error: BaseException | None, ctx: TaskContext) -> None: ...


@app.teardown_task
async def release_later(error: BaseException | None) -> None: ...


@app.teardown_task
def release_all() -> None: ...


@app.errorhandler(KeyError)
def missing(error: KeyError, ctx: TaskContext) -> str:
    return str(error)


@app.errorhandler(KeyError)
@reports.errorhandler(IndexError)
def missing_too(error: LookupError) -> dict[str, str]:
    return {"missing": str(error)}


@app.errorhandler(RateLimited)
async def wait() -> ProviderResponse:
    return ProviderResponse("limit")


app.before_task(seen.append)
app.errorhandler(KeyError)(lambda: "fixed")


class Auditor:
    def note(self, result: TaskResult, ctx: TaskContext) -> TaskResult:
        return result


app.after_task(Auditor().note)

# A decorator returns the function as it is.

assert_type(check(TaskContext.__new__(TaskContext)), dict[str, int] | None)
assert_type(missing_too(error=KeyError()), dict[str, str])


# A hook that arbprov can't call is an error.


def wants_number(number: int) -> None: ...


def wants_three(one: object, two: object, three: object) -> None: ...


def wants_keyword(ctx: TaskContext, *, tag: str) -> None: ...


def wants_result(result: TaskResult) -> TaskResult:
    return result


def returns_nothing(result: TaskResult) -> None: ...


async def returns_nothing_later(result: TaskResult) -> None: ...


def needs_error(error: Exception) -> None: ...


# Each line is one mistake, and the marks say that both type checkers find it.
app.on_startup(wants_number)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
app.on_shutdown(wants_number)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
app.on_connect(disconnected)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
app.on_disconnect(wants_number)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
app.on_submit_failed(wants_three)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
app.on_submit_failed(disconnected)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
app.before_task(wants_number)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
app.before_task(wants_keyword)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
app.before_task(wants_result)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
app.before_task("no function")  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
app.after_task(wants_three)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
app.after_task(check)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
app.after_task(returns_nothing)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
app.after_task(returns_nothing_later)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
app.teardown_task(wants_three)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
app.teardown_task(needs_error)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
reports.errorhandler(KeyError)(wants_three)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
reports.errorhandler(KeyError)(wants_keyword)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
app.errorhandler("KeyError")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

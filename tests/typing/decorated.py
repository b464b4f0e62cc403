"""What type checkers see of decorated functions: `tox -e typing` has mypy and pyright read it."""

from __future__ import annotations

from typing_extensions import assert_type

from arbprov import Blueprint, Limit, ProviderApp, TaskContext, TaskResult
from arbprov.limits import CallLimits, Headroom

app = ProviderApp("typed")
reports = Blueprint("reports")


@app.action
@app.rate_limit("5/second")
def bare(city: str, days: int = 3) -> list[int]:
    return [len(city)] * days


@app.rate_limit("5/second")
@app.action("called", timeout=2)
def called(city: str) -> list[int]:
    return [len(city)]


@reports.action(description="async, in a blueprint")
async def asynchronous(city: str) -> list[int]:
    return [len(city)]


@app.before_task
def before(ctx: TaskContext) -> dict[str, int] | None:
    return None


@app.after_task
def after(result: TaskResult) -> TaskResult:
    return result


@app.errorhandler(KeyError)
def missing(error: KeyError) -> str:
    return str(error)


assert_type(bare("Paris", days=2), list[int])
assert_type(called("Paris"), list[int])
assert_type(missing(KeyError()), str)
assert_type(app.test_client().call("bare"), TaskResult)
# A name that is imported on demand.
assert_type(Limit(5, 1.0).amount, int)

bare(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
bare("Paris", 2, 3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
called()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
after("no result")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def awaited() -> None:
    assert_type(await asynchronous("Paris"), list[int])
    await asynchronous(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def limits_of_a_call(ctx: TaskContext) -> None:
    assert_type(ctx.limits, CallLimits)
    assert_type(ctx.limits.headroom, tuple[Headroom, ...])
    assert_type(ctx.limits.headroom[0].remaining, int | None)
    ctx.limits.refund()
    ctx.limits.report("vendor", used=0.93, reset_in=60)
    # A misspelt name, a misspelt argument, and a value of the wrong type.
    ctx.limits.refnud()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    ctx.limits.report("vendor", share=0.5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ctx.limits.report("vendor", used=None, reset_in=9)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

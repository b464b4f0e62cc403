"""What type checkers see of checks: `tox -e typing` has them read it."""

from __future__ import annotations

from typing_extensions import assert_type

from arbprov import Blueprint, ProviderApp, TaskContext

app = ProviderApp("typed")
reports = Blueprint("reports")


class Account:
    token: str = ""


@app.check
def reachable() -> None: ...


@app.check("vendor", timeout=3)
async def reachable_later(ctx: TaskContext[Account]) -> bool:
    return bool(ctx.state.token)


@reports.check
def credentials(account: Account, ctx: TaskContext) -> bool | None:
    return bool(account.token)


assert_type(credentials(Account(), TaskContext.__new__(TaskContext)), bool | None)
assert_type([check.name for check in app.checks()], list[str])

# Each line is one mistake, and the marks say that both type checkers find it.


def returns_text() -> str:
    return "fine"


app.check(returns_text)  # type: ignore[type-var]  # pyright: ignore[reportCallIssue, reportArgumentType]
app.check(timeout="3")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]

"""What type checkers see of a lifespan and its state: `tox -e typing` has them read it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Generator

from typing_extensions import assert_type

from arbprov import Blueprint, ProviderApp, TaskContext, TaskResult

app = ProviderApp("typed")
later = ProviderApp("typed later")
reports = Blueprint("reports")


class Shop:
    def price(self, item: str) -> float:
        return float(len(item))


@app.lifespan
@contextlib.contextmanager
def open_shop() -> Generator[Shop]:
    yield Shop()


@later.lifespan
@contextlib.asynccontextmanager
async def open_shop_later() -> AsyncGenerator[Shop]:
    yield Shop()


with open_shop() as shop:
    assert_type(shop, Shop)


@app.action
def price(ctx: TaskContext[Shop], item: str) -> float:
    assert_type(ctx.state, Shop)
    ctx.state.prize(item)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    note(ctx)
    return ctx.state.price(item)


# A bare context takes any state, and shows nothing of it.


def note(ctx: TaskContext) -> None:
    assert_type(ctx.state, object)
    ctx.state.price("tea")  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]


# Hooks may declare the state, or not.


@app.before_task
def before(ctx: TaskContext[Shop]) -> None: ...


@reports.after_task
def after(result: TaskResult, ctx: TaskContext[Shop]) -> TaskResult:
    return result


@app.teardown_task
def release(error: BaseException | None, ctx: TaskContext[Shop]) -> None: ...


@app.errorhandler(KeyError)
def missing(error: KeyError, ctx: TaskContext[Shop]) -> str:
    return str(ctx.state.price("tea"))


# Each line is one mistake, and the marks say that both type checkers find it.


def yields() -> Generator[Shop]:
    yield Shop()


@contextlib.contextmanager
def with_parameter(url: str) -> Generator[Shop]:
    yield Shop()


def returns() -> Shop:
    return Shop()


app.lifespan(yields)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
app.lifespan(with_parameter)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
app.lifespan(returns)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
reports.lifespan(open_shop)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]

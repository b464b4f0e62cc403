"""The lifespan of an app: registration, what handlers see, and when it is entered and left."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import gc
import socket

import pytest
from support.running import Running, tasks

from arbprov import Blueprint, ConfigurationError, ProviderApp, ProviderError, TaskContext
from arbprov.localhub import LocalHub
from arbprov.testing import serving

user = contextvars.ContextVar("user", default="nobody")


class Shop:
    """What the samples' lifespans yield."""

    def __init__(self):
        self.events = []


@pytest.fixture
def app():
    return ProviderApp("test")


@pytest.fixture
def shop():
    return Shop()


def add_plain(app, shop):
    @app.lifespan
    @contextlib.contextmanager
    def live():
        shop.events.append("entered")
        yield shop
        shop.events.append("left")

    return live


def add_async(app, shop):
    @app.lifespan
    @contextlib.asynccontextmanager
    async def live():
        await asyncio.sleep(0)
        shop.events.append("entered")
        yield shop
        await asyncio.sleep(0)
        shop.events.append("left")

    return live


both_kinds = pytest.mark.parametrize("add", [add_plain, add_async], ids=["plain", "async"])


def message_of(register, *arguments):
    with pytest.raises(ConfigurationError) as caught:
        register(*arguments)
    return str(caught.value)


def where(function):
    code = function.__code__
    return f"{function.__qualname__} ({code.co_filename}:{code.co_firstlineno})"


# Registration.


@both_kinds
def test_the_decorator_returns_the_function_itself(app, shop, add):
    assert app._hooks.lifespan is None
    assert add(app, shop) is app._hooks.lifespan.function


def yields():
    yield 1


async def yields_later():
    yield 1


def returns():
    return 1


async def returns_later():
    return 1


class Owner:
    def yields(self):
        yield 1

    @contextlib.contextmanager
    def live(self):
        yield self


@pytest.mark.parametrize(
    ("function", "inner", "decorator"),
    [
        (yields, yields, "contextmanager"),
        (yields_later, yields_later, "asynccontextmanager"),
        (functools.partial(yields), yields, "contextmanager"),
        (Owner().yields, Owner.yields, "contextmanager"),
    ],
)
def test_a_generator_that_is_not_decorated_is_refused(app, function, inner, decorator):
    assert message_of(app.lifespan, function) == (
        f"{where(inner)}: it is a generator and not yet a context manager; write "
        f"@contextlib.{decorator} between @app.lifespan and the function"
    )


@pytest.mark.parametrize("function", [returns, returns_later])
def test_a_function_that_yields_nothing_is_refused(app, function):
    message = message_of(app.lifespan, function)
    assert message.startswith(f"{where(function)}: @app.lifespan takes a function that yields")


def test_a_lifespan_with_required_parameters_is_refused(app):
    def live(url):
        yield url

    message = message_of(app.lifespan, contextlib.contextmanager(live))
    assert message.startswith(
        f"{where(live)}: @app.lifespan calls it without arguments: missing a required argument: "
        f"'url'; "
    )


def test_a_lifespan_may_be_a_method_or_a_partial(app):
    owner = Owner()
    app.lifespan(functools.partial(owner.live))
    app.action("same")(lambda ctx: ctx.state is owner)
    app.action("has")(has_state)
    with app.test_client() as client:
        assert client.call("has").data == "Owner"


def has_state(ctx: TaskContext):
    return type(ctx.state).__name__


def test_a_second_lifespan_is_refused(app, shop):
    first = add_plain(app, shop)
    message = message_of(add_plain, app, shop)
    assert f"the app has a lifespan already, {where(first.__wrapped__)}" in message


def test_a_lifespan_after_the_start_is_refused(app, shop):
    app.test_client()
    assert "registered after the app has started" in message_of(add_plain, app, shop)


def test_a_blueprint_has_none():
    assert not hasattr(Blueprint("reports"), "lifespan")


def test_a_context_manager_of_the_wrong_kind_is_refused_at_the_start(app):
    app.lifespan(contextlib.contextmanager(yields_later))
    message = message_of(app.test_client().__enter__)
    assert message.startswith(f"{where(yields_later)}: its context manager is of the wrong kind")


# What is refused at the start.


def isolated(ctx: TaskContext):
    return 1


def test_an_isolated_action_is_refused_by_name(app, shop):
    live = add_plain(app, shop)
    app.action(isolation="process")(isolated)
    message = message_of(app.test_client)
    assert message.startswith(f"{where(isolated)}: the action 'isolated' has isolation=\"process\"")
    assert where(live.__wrapped__) in message


def typed(ctx: TaskContext[Shop]):
    return ctx.state.events


def test_a_handler_that_declares_a_state_is_refused_without_a_lifespan(app):
    app.action(typed)
    message = message_of(app.test_client)
    assert message.startswith(
        f"{where(typed)}: the action 'typed' declares a TaskContext with a state, and the app has "
        f"no lifespan"
    )


def test_an_optional_context_with_a_state_is_a_context(app, shop):
    add_plain(app, shop)

    @app.action
    def events(ctx: TaskContext[Shop] | None = None, **fields: int):
        return [ctx.state.events, fields]

    with app.test_client() as client:
        assert client.call("events", {"n": 1}).data == [["entered"], {"n": 1}]


# What handlers and hooks see.


@both_kinds
def test_the_state_is_the_very_object(app, shop, add):
    add(app, shop)
    seen = []
    app.before_task(lambda ctx: seen.append(ctx.state))
    app.after_task(lambda result, ctx: seen.append(ctx.state) or result)
    app.teardown_task(lambda error, ctx: seen.append(ctx.state))

    @app.action
    def plain(ctx: TaskContext[Shop]):
        seen.append(ctx.state)

    @app.action("async")
    async def asynchronous(ctx: TaskContext[Shop]):
        seen.append(ctx.state)

    with app.test_client() as client:
        client.call("plain")
        client.call("async")
    assert [state is shop for state in seen] == [True] * 8


def test_the_hooks_after_a_timeout_see_it_too(app, shop):
    add_plain(app, shop)
    app.action("slow", timeout=1)(functools.partial(asyncio.sleep, 5, None))
    app.after_task(lambda result, ctx: shop.events.append(ctx.state is shop) or result)
    with app.test_client() as client:
        client.call("slow")
    assert shop.events == ["entered", True, "left"]


@pytest.mark.parametrize("state", [None, 0, ""])
def test_a_state_may_be_anything(app, state):
    @app.lifespan
    @contextlib.contextmanager
    def live():
        yield state

    app.action("state")(lambda: None)
    seen = []
    app.before_task(lambda ctx: seen.append(ctx.state))
    with app.test_client() as client:
        client.call("state")
    assert seen == [state]


def read(ctx: TaskContext):
    return ctx.state


def test_reading_it_without_a_lifespan_says_what_to_do(app):
    app.action(read)
    assert "the app has no lifespan; decorate" in app.test_client().call("read").message


@pytest.mark.parametrize("call", [lambda app: app.test_client().call, lambda app: app.invoke])
def test_reading_it_where_the_lifespan_is_not_entered_says_what_to_do(app, shop, call):
    add_plain(app, shop)
    app.action(read)
    result = call(app)("read")
    assert result.status == "error"
    assert result.message.startswith("ctx.state: the app's lifespan is not entered; app.run() and")
    assert result.data["type"] == "ConfigurationError"


def test_after_the_end_there_is_no_state(app, shop):
    add_plain(app, shop)
    app.action(read)
    with app.test_client() as client:
        pass
    assert "is not entered" in client.call("read").message


# In a test client.


@both_kinds
def test_it_is_around_the_hooks(app, shop, add):
    add(app, shop)
    app.on_startup(lambda: shop.events.append("started"))
    app.on_shutdown(lambda: shop.events.append("shut down"))
    with app.test_client():
        pass
    assert shop.events == ["entered", "started", "shut down", "left"]


@both_kinds
def test_a_client_enters_it_each_time(app, shop, add):
    add(app, shop)
    client = app.test_client()
    for _ in range(2):
        with client:
            pass
    assert shop.events == ["entered", "left"] * 2


@both_kinds
def test_it_is_left_when_a_test_fails(app, shop, add):
    add(app, shop)
    with pytest.raises(LookupError, match="in the test"), app.test_client():
        raise LookupError("in the test")
    assert shop.events == ["entered", "left"]


@both_kinds
def test_it_is_left_when_a_startup_hook_fails(app, shop, add):
    add(app, shop)
    app.on_startup({}.popitem)
    app.on_shutdown(lambda: shop.events.append("shut down"))
    with pytest.raises(KeyError), app.test_client():
        pass
    assert shop.events == ["entered", "shut down", "left"]


@both_kinds
def test_it_is_left_when_a_shutdown_hook_fails(app, shop, add):
    add(app, shop)
    app.on_shutdown({}.popitem)
    with pytest.raises(KeyError), app.test_client():
        pass
    assert shop.events == ["entered", "left"]


def failing(*, at, is_async):
    def step(name):
        if name == at:
            raise LookupError(name)

    @contextlib.contextmanager
    def plain():
        step("start")
        yield
        step("end")

    @contextlib.asynccontextmanager
    async def asynchronous():
        step("start")
        yield
        step("end")

    return asynchronous if is_async else plain


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("at", ["start", "end"])
def test_its_own_error_is_raised(app, at, is_async):
    app.lifespan(failing(at=at, is_async=is_async))
    with pytest.raises(LookupError, match=at), app.test_client():
        pass


def test_the_calls_see_its_context_variables(app):
    @app.lifespan
    @contextlib.asynccontextmanager
    async def live():
        user.set("ada")
        yield

    app.action("who")(lambda: user.get())
    with app.test_client() as client:
        assert client.call("who").data == "ada"
    user.set("nobody")


def add_timeout(app):
    # Like a task group of anyio, it has to be left by the task that has entered it.
    @app.lifespan
    @contextlib.asynccontextmanager
    async def live():
        task = asyncio.current_task()
        yield
        assert asyncio.current_task() is task


def test_the_same_task_enters_and_leaves_it(app):
    add_timeout(app)
    with app.test_client():
        pass


def test_the_same_task_enters_and_leaves_it_in_an_async_test(app):
    add_timeout(app)
    client = app.test_client()

    async def main():
        await asyncio.create_task(client.__aenter__())
        await asyncio.create_task(client.__aexit__(None, None, None))

    asyncio.run(main())


def test_a_task_of_it_that_fails_is_raised_at_the_end(app):
    """A task group whose task fails cancels the task that has entered it."""
    seen = []

    @app.lifespan
    @contextlib.asynccontextmanager
    async def live():
        asyncio.get_running_loop().call_later(0.01, asyncio.current_task().cancel)
        yield
        raise LookupError("in the background")

    app.action("wait")(functools.partial(asyncio.sleep, 0.1, 1))
    with pytest.raises(LookupError, match="in the background"), app.test_client() as client:
        seen.append(client.call("wait").data)
    assert seen == [1]


@both_kinds
def test_an_async_test_enters_it(app, shop, add):
    add(app, shop)
    app.action(has_state)
    app.on_startup(lambda: shop.events.append("started"))

    async def main():
        async with app.test_client() as client:
            return await client.acall("has_state")

    assert asyncio.run(main()).data == "Shop"
    assert shop.events == ["entered", "started", "left"]


def test_a_running_loop_says_what_to_do_instead(app, shop):
    add_async(app, shop)

    async def main():
        app.test_client().__enter__()

    with pytest.raises(RuntimeError, match="and `async with` in place of `with`"):
        asyncio.run(main())
    gc.collect()


def test_an_async_test_that_is_cancelled_at_the_start_leaves_nothing_running(app, shop):
    @app.lifespan
    @contextlib.asynccontextmanager
    async def live():
        try:
            await asyncio.sleep(600)
            yield
        finally:
            shop.events.append("left")

    async def main():
        entering = asyncio.create_task(app.test_client().__aenter__())
        await asyncio.sleep(0.01)
        entering.cancel()
        await asyncio.wait([entering])
        return entering.cancelled(), shop.events

    assert asyncio.run(main()) == (True, ["left"])


def test_time_jumps_while_its_connection_is_idle(app):
    @app.lifespan
    @contextlib.asynccontextmanager
    async def live():
        here, there = socket.socketpair()
        with there:
            _, writer = await asyncio.open_connection(sock=here)
            yield writer
            writer.close()
            await writer.wait_closed()

    @app.action(timeout=10_000)
    async def wait():
        await asyncio.sleep(3600)
        return asyncio.get_running_loop().time()

    with app.test_client() as client:
        assert client.call("wait").data >= 3600


# In a worker.


async def state_of(ctx: TaskContext[Shop]):
    ctx.state.events.append("worked")


@both_kinds
def test_a_worker_is_within_it(app, shop, add):
    add(app, shop)
    app.on_startup(lambda: shop.events.append("started"))
    app.on_shutdown(lambda: shop.events.append("shut down"))
    app.action("work")(state_of)
    running = Running(app, polls=tasks(1)).until(10)
    assert running.statuses == ["success"]
    assert shop.events == ["entered", "started", "worked", "shut down", "left"]


@both_kinds
@pytest.mark.parametrize("kind", ["on_startup", "on_shutdown"])
def test_a_worker_leaves_it_when_a_hook_fails(app, shop, add, kind):
    add(app, shop)
    getattr(app, kind)({}.popitem)
    with pytest.raises(KeyError):
        Running(app).until(10)
    assert shop.events == ["entered", "left"]


@both_kinds
def test_a_worker_leaves_it_when_the_hub_was_never_reached(app, shop, add):
    add(app, shop)
    app.config = app.config.override(hub_url="127.0.0.1:1", start_timeout=0.1)
    with pytest.raises(ProviderError, match="not reached within"):
        app.run(auth_token="sample-token")
    assert shop.events == ["entered", "left"]


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("at", ["start", "end"])
def test_its_own_error_ends_the_worker(app, at, is_async):
    app.lifespan(failing(at=at, is_async=is_async))
    with pytest.raises(LookupError, match=at):
        Running(app).until(10)


@both_kinds
def test_a_provider_runs_within_it(app, shop, add):
    add(app, shop)
    app.action("work")(state_of)
    with LocalHub(hold=0.05) as hub, serving(app, hub):
        assert hub.call("work").status == "success"
    assert shop.events == ["entered", "worked", "left"]

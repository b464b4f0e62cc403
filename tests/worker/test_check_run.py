"""Checks run one after another, as tasks do: within the lifespan, on the loop or on threads."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading

import httpx
import pytest

from arbprov import InvalidPayloadError, ProviderApp, RateLimited, TaskContext
from arbprov.clock import SystemClock
from arbprov.http import LimitedTransport
from arbprov.limits import current_limits
from arbprov.worker.check_run import CheckRun

user = contextvars.ContextVar("user", default="nobody")


class Account:
    def __init__(self, token: str):
        self.token = token


@pytest.fixture
def app():
    return ProviderApp("test", auth_token="hub-secret")


def run(app, account=None, timeout=20.0):
    results = []
    dispatcher = app._dispatcher(SystemClock())
    checks = CheckRun(dispatcher, app._life_hooks(), account or {}, timeout, results.append)
    checks.run(app.checks())
    return results


def reasons(app, account=None, timeout=20.0):
    return {result.name: result.reason for result in run(app, account, timeout)}


@pytest.fixture
def blocked():
    """An event that a check waits for until the test is over."""
    event = threading.Event()
    yield event
    event.set()


def test_a_plain_check_runs_on_a_thread(app):
    threads = []
    app.check("plain")(lambda: threads.append(threading.current_thread()))
    assert reasons(app) == {"plain": ""}
    assert threads[0].daemon


def test_an_async_check_runs_on_the_loop_of_the_startup_hooks(app):
    loops = []

    async def note():
        loops.append(asyncio.get_running_loop())

    app.on_startup(note)
    app.check(note)
    assert reasons(app) == {"note": ""}
    assert loops[0] is loops[1]


def test_a_plain_check_may_return_an_awaitable(app):
    app.check("wrapped")(lambda: asyncio.sleep(0, False))
    assert reasons(app) == {"wrapped": "it returned False"}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, ""),
        (True, ""),
        (False, "it returned False"),
        (
            {"ok": True},
            "it returned dict, and a check returns None, True or False, or raises an exception",
        ),
    ],
)
def test_what_a_check_returns_says_whether_it_failed(app, answer, reason):
    app.check("it")(lambda: answer)
    (result,) = run(app)
    assert (result.reason, result.is_ok) == (reason, not reason)


def failing(error):
    def fail():
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (LookupError("no such user"), "LookupError: no such user"),
        (KeyError("key"), "KeyError: 'key'"),
        (OSError(), "OSError"),
        (LookupError("two\nlines"), r"LookupError: two\nlines"),
        (SystemExit(3), "SystemExit: 3"),
        (InvalidPayloadError("the key is too old"), "the key is too old"),
        (RateLimited(30), "Rate limit exceeded, retry after 30 s"),
    ],
)
@pytest.mark.parametrize("is_async", [False, True])
def test_an_error_is_the_reason_in_one_line(app, error, reason, is_async):
    async def fail_later():
        raise error

    app.check("it")(fail_later if is_async else failing(error))
    assert reasons(app) == {"it": reason}


def test_the_checks_after_one_that_failed_run_too(app):
    app.check("first")(failing(LookupError("down")))
    app.check("second")(lambda: True)
    assert reasons(app) == {"first": "LookupError: down", "second": ""}


def test_a_check_takes_the_account_as_handlers_do(app):
    seen = []

    @app.check
    def credentials(account: dict, ctx: TaskContext):
        seen.append((account, ctx.account, ctx.action, ctx.payload, ctx.logger.name))

    assert reasons(app, {"id": 7}) == {"credentials": ""}
    assert seen == [({"id": 7}, {"id": 7}, "credentials", {}, "arbprov.credentials")]


def test_an_account_that_does_not_fit_is_the_reason(app):
    import attrs

    @attrs.define
    class Vendor:
        token: str

    def credentials(account: Vendor): ...

    credentials.__annotations__["account"] = Vendor
    app.check(credentials)
    assert reasons(app) == {"credentials": "account.token: required field is missing"}


def test_the_reason_has_no_secret(app):
    @app.check
    def credentials(account: dict):
        raise LookupError(f"{account['token']} and hub-secret are refused")

    assert reasons(app, {"token": "account-secret"}) == {
        "credentials": "LookupError: [redacted] and [redacted] are refused"
    }


# Time.


@pytest.mark.parametrize("is_async", [False, True])
def test_a_check_that_hangs_fails_at_its_timeout(app, blocked, is_async):
    contexts = []

    @app.check(timeout=0.01)
    def plain(ctx: TaskContext):
        contexts.append(ctx)
        blocked.wait()

    @app.check("async", timeout=0.01)
    async def asynchronous(ctx: TaskContext):
        contexts.append(ctx)
        await asyncio.sleep(600)

    app.check("last")(lambda: True)
    reason = "it has not ended within its timeout of 0.01 s"
    assert reasons(app) == {"plain": reason, "async": reason, "last": ""}
    assert [ctx.cancelled for ctx in contexts] == [True, True]


def test_a_check_that_ignores_its_cancellation_holds_nothing_up(app):
    @app.check(timeout=0.01)
    async def stubborn():
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(600)

    assert list(reasons(app)) == ["stubborn"]


def test_a_check_sees_how_long_it_has(app):
    seen = []

    @app.check(timeout=1000)
    def look(ctx: TaskContext):
        seen.append(ctx.remaining)

    run(app)
    assert 900 < seen[0] <= 1000


# The provider's life.


def test_checks_run_within_the_lifespan_after_the_startup_hooks(app):
    events = []

    @app.lifespan
    @contextlib.asynccontextmanager
    async def live():
        events.append("entered")
        user.set("ada")
        yield events
        events.append("left")

    app.on_startup(lambda: events.append("started"))
    app.on_shutdown(lambda: events.append("shut down"))

    @app.check
    def look(ctx: TaskContext[list[str]]):
        ctx.state.append(f"checked by {user.get()}")

    assert reasons(app) == {"look": ""}
    assert events == ["entered", "started", "checked by ada", "shut down", "left"]


def test_no_check_runs_after_a_failed_start(app):
    ended = []
    app.on_startup(failing(LookupError("no hub-secret")))
    app.on_shutdown(lambda: ended.append(True))
    app.check("it")(lambda: True)
    assert reasons(app) == {"(start)": "LookupError: no [redacted]"}
    assert ended == [True]


def test_an_end_that_fails_is_reported(app):
    app.on_shutdown(failing(LookupError("too late")))
    app.check("it")(lambda: True)
    assert reasons(app) == {"it": "", "(end)": "LookupError: too late"}


@pytest.mark.parametrize(("kind", "name"), [("on_startup", "(start)"), ("on_shutdown", "(end)")])
def test_a_hook_that_hangs_fails_in_time(app, kind, name):
    async def hang():
        await asyncio.sleep(600)

    getattr(app, kind)(hang)
    app.check("it")(lambda: True)
    reason = reasons(app, timeout=0.01)[name]
    assert f"the {kind} hook" in reason
    assert "drain_timeout" in reason


def test_the_shutdown_hooks_run_after_an_interruption(app):
    ended = []
    app.on_shutdown(lambda: ended.append(True))

    @app.check
    async def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(app)
    assert ended == [True]


# Limits.


def answer_with(status, **headers):
    return httpx.MockTransport(lambda request: httpx.Response(status, headers=headers))


def test_a_check_s_requests_charge_no_limit(app):
    transport = LimitedTransport("vendor", answer_with(200))

    @app.check
    def plain():
        with httpx.Client(transport=transport) as client:
            return client.get("http://vendor.test").is_success

    @app.check
    async def later():
        async with httpx.AsyncClient(transport=transport) as client:
            return (await client.get("http://vendor.test")).is_success

    assert reasons(app) == {"plain": "", "later": ""}


def test_an_api_that_throttles_a_check_is_the_reason(app):
    @app.check
    def reachable():
        transport = LimitedTransport("vendor", answer_with(429, **{"Retry-After": "30"}))
        with httpx.Client(transport=transport) as client:
            client.get("http://vendor.test")

    assert reasons(app) == {"reachable": "Rate limit exceeded, retry after 30 s"}


def test_the_limits_of_a_check_s_context_admit_everything(app):
    seen = []

    @app.check
    def look(ctx: TaskContext):
        ctx.limits.acquire("vendor")
        ctx.limits.report("vendor", used=1, reset_in=60)
        ctx.limits.refund()
        limits = ctx.limits
        seen.append((limits.headroom, limits.names, limits.allowed, limits.wait_time))

    assert reasons(app) == {"look": ""}
    assert seen == [((), (), True, 0.0)]


def test_the_shutdown_hooks_have_no_limits(app):
    app.check("it")(lambda: True)
    seen = []
    app.on_shutdown(lambda: seen.append(current_limits.get()))
    run(app)
    assert seen == [None]

"""Context variables: hooks and handler of a call share them, and calls do not."""

from __future__ import annotations

import asyncio
import contextvars
import functools

import pytest

from arbprov import ProviderApp
from arbprov.executors.contexts import SharedContext
from arbprov.localhub import LocalHub
from arbprov.testing import serving

user = contextvars.ContextVar("user", default="nobody")


def log_in(ctx):
    user.set("ada")


async def log_in_async(ctx):
    user.set("ada")


def who_plain():
    seen = user.get()
    user.set("handler")
    return seen


async def who_async():
    return who_plain()


def who_awaitable():
    return who_async()


@pytest.fixture(params=[who_plain, who_async, who_awaitable], ids=["plain", "async", "awaitable"])
def who(request):
    return request.param


@pytest.mark.parametrize("hook", [log_in, log_in_async], ids=["plain hook", "async hook"])
def test_a_handler_for_a_hub_sees_what_a_hook_has_set(who, hook):
    app = ProviderApp("test")
    app.before_task(hook)
    app.action("who")(who)
    with LocalHub(hold=0.05) as hub, serving(app, hub):
        assert hub.call("who").data == "ada"


def test_a_hook_after_the_handler_sees_what_it_has_set(who):
    app, seen = ProviderApp("test"), []
    app.action("who")(who)
    app.teardown_task(lambda error, ctx: seen.append(user.get()))
    with LocalHub(hold=0.05) as hub, serving(app, hub):
        hub.call("who")
    assert seen == ["handler"]


def test_no_task_for_a_hub_sees_what_an_earlier_task_has_set(who):
    app = ProviderApp("test", concurrency=1)
    app.action("who")(who)
    with LocalHub(hold=0.05) as hub, serving(app, hub):
        assert [hub.call("who").data for _ in range(3)] == ["nobody"] * 3


def test_each_task_for_a_hub_begins_with_the_context_of_the_app(who):
    app = ProviderApp("test")
    app.action("who")(who)
    token = user.set("import")
    try:
        with LocalHub(hold=0.05) as hub, serving(app, hub):
            assert [hub.call("who").data for _ in range(2)] == ["import"] * 2
    finally:
        user.reset(token)


def test_each_task_for_a_hub_sees_what_a_startup_hook_has_set(who):
    app = ProviderApp("test")
    app.on_startup(functools.partial(log_in_async, None))
    app.action("who")(who)
    with LocalHub(hold=0.05) as hub, serving(app, hub):
        assert [hub.call("who").data for _ in range(2)] == ["ada"] * 2


@pytest.mark.parametrize("hook", [log_in, log_in_async], ids=["plain hook", "async hook"])
def test_a_handler_in_the_test_client_sees_what_a_hook_has_set(who, hook):
    app = ProviderApp("test")
    app.before_task(hook)
    app.action("who")(who)
    client = app.test_client()
    assert client.call("who").data == asyncio.run(client.acall("who")).data == "ada"


def test_a_task_in_the_test_client_leaves_nothing_to_the_next_task_and_the_test(who):
    app = ProviderApp("test")
    app.action("who")(who)
    client = app.test_client()
    assert [client.call("who").data for _ in range(2)] == ["nobody"] * 2
    assert user.get() == "nobody"


@pytest.mark.parametrize("hook", [log_in, log_in_async], ids=["plain hook", "async hook"])
def test_an_invoked_handler_sees_what_a_hook_has_set(who, hook):
    app = ProviderApp("test")
    app.before_task(hook)
    app.action("who")(who)
    assert [app.invoke("who").data for _ in range(2)] == ["ada"] * 2


def test_a_task_in_the_test_client_sees_what_a_startup_hook_has_set(who):
    app = ProviderApp("test")
    app.on_startup(functools.partial(log_in_async, None))
    app.action("who")(who)

    with app.test_client() as client:
        seen = [client.call("who").data, asyncio.run(client.acall("who")).data]
    assert seen == ["ada", "ada"]


@pytest.mark.parametrize("hook", [log_in, log_in_async], ids=["plain hook", "async hook"])
def test_startup_and_shutdown_hooks_in_the_test_client_leave_nothing_to_the_test(hook):
    app, seen = ProviderApp("test"), []
    app.on_startup(functools.partial(hook, None))

    @app.on_shutdown
    def note():
        seen.append(user.get())
        user.set("shutdown")

    with app.test_client():
        assert user.get() == "nobody"
    assert (seen, user.get()) == (["ada"], "nobody")


def test_a_task_awaited_in_a_test_leaves_nothing_to_the_test(who):
    app = ProviderApp("test")
    app.on_startup(functools.partial(log_in, None))
    app.action("who")(who)

    async def main(client):
        return [(await client.acall("who")).data, user.get()]

    with app.test_client() as client:
        assert asyncio.run(main(client)) == ["ada", "nobody"]


def test_what_the_test_sets_overrides_what_a_startup_hook_has_set(who):
    app = ProviderApp("test")
    app.on_startup(functools.partial(log_in, None))
    app.action("who")(who)

    def main():
        with app.test_client() as client:
            user.set("test")
            return client.call("who").data

    assert contextvars.copy_context().run(main) == "test"


def test_a_startup_hook_that_fails_leaves_nothing_to_a_later_task(who):
    app = ProviderApp("test")
    app.action("who")(who)

    @app.on_startup
    def fail():
        user.set("ada")
        raise ValueError

    client = app.test_client()
    with pytest.raises(ValueError), client:
        pass
    assert client.call("who").data == "nobody"


def test_a_later_block_does_not_see_what_the_startup_hook_of_an_earlier_has_set(who):
    app, names = ProviderApp("test"), iter(["ada", None])
    app.action("who")(who)

    @app.on_startup
    def log_in_once():
        if name := next(names):
            user.set(name)

    client = app.test_client()
    seen = []
    for _ in range(2):
        with client:
            seen.append(client.call("who").data)
    assert [*seen, client.call("who").data] == ["ada", "nobody", "nobody"]


def test_what_an_awaitable_has_set_before_it_fails_is_kept():
    async def fail():
        user.set("failed")
        raise ValueError

    def main():
        with pytest.raises(ValueError):
            SharedContext(fail()).wait(asyncio.run)
        return user.get()

    assert contextvars.copy_context().run(main) == "failed"


def test_an_awaitable_that_never_runs_changes_nothing():
    def refuse(coroutine):
        coroutine.close()
        raise RuntimeError("no loop")

    async def never():
        return None

    awaitable = never()
    with pytest.raises(RuntimeError, match="no loop"):
        SharedContext(awaitable).wait(refuse)
    awaitable.close()
    assert user.get() == "nobody"

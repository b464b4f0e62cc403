"""The task that a record belongs to, without a hub."""

from __future__ import annotations

import asyncio

import pytest

from arbprov import ProviderApp
from arbprov.logs.current import current_task


@pytest.fixture
def app():
    app = ProviderApp("shop")

    def seen():
        return current_task.get().id

    async def seen_on_loop():
        return current_task.get().id

    app.action("plain")(seen)
    app.action("on_loop")(seen_on_loop)
    return app


@pytest.mark.parametrize("action", ["plain", "on_loop"])
def test_a_call_of_the_test_client_has_its_task(app, action):
    assert app.test_client().call(action, id="t1").data == "t1"
    assert current_task.get() is None


@pytest.mark.parametrize("action", ["plain", "on_loop"])
def test_an_awaited_call_of_the_test_client_has_its_task_and_leaves_none(app, action):
    async def main():
        async with app.test_client() as client:
            result = await client.acall(action, id="t1")
        return result.data, current_task.get()

    assert asyncio.run(main()) == ("t1", None)


def test_a_task_that_fails_leaves_none(app):
    @app.action
    def fail() -> None:
        raise ValueError("closed")

    client = app.test_client()
    client.raise_errors = True
    with pytest.raises(ValueError, match="closed"):
        client.call("fail")
    assert current_task.get() is None

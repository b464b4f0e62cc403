"""Who may do what at a hub."""

from __future__ import annotations

import pytest

from arbprov.localhub.stores.sqlite import SqliteStore
from arbprov.localhub.tokens import Role, Tokens

pytestmark = pytest.mark.anyio


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
async def store(anyio_backend):
    store = SqliteStore(None)
    await store.open(lambda: None)
    yield store
    await store.close()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def tokens(store, clock):
    return Tokens(store, lambda: "own", clock)


async def test_the_hub_s_own_token_allows_all_work_and_all_changes(tokens):
    assert await tokens.allows_provider("weather", "own")
    assert await tokens.find_role("own") is Role.ADMIN


async def test_an_unknown_token_allows_nothing(tokens):
    assert not await tokens.allows_provider("weather", "wrong")
    assert await tokens.find_role("wrong") is None


async def test_a_provider_with_a_token_of_its_own_needs_that_one(tokens):
    token = await tokens.add("for weather", Role.PROVIDER, "weather")
    assert await tokens.allows_provider("weather", token)
    assert not await tokens.allows_provider("weather", "own")


async def test_a_provider_s_token_is_for_that_provider_only(tokens):
    token = await tokens.add("for weather", Role.PROVIDER, "weather")
    assert not await tokens.allows_provider("shop", token)
    assert await tokens.allows_provider("shop", "own")
    assert await tokens.find_role(token) is None


async def test_a_provider_may_have_several_tokens(tokens):
    first, second = [await tokens.add(name, Role.PROVIDER, "weather") for name in ("a", "b")]
    assert await tokens.allows_provider("weather", first)
    assert await tokens.allows_provider("weather", second)


async def test_a_provider_without_a_name_needs_the_hub_s_own_token(tokens):
    await tokens.add("admin", Role.ADMIN)
    assert await tokens.allows_provider("", "own")


@pytest.mark.parametrize("role", [Role.ADMIN, Role.READER])
async def test_a_person_s_token_has_its_role_and_is_no_provider_s(tokens, role):
    token = await tokens.add("sample", role)
    assert await tokens.find_role(token) is role
    assert not await tokens.allows_provider("weather", token)


async def test_a_name_is_used_once(tokens):
    assert await tokens.add("sample", Role.READER)
    assert await tokens.add("sample", Role.ADMIN) is None


async def test_a_removed_token_allows_nothing_at_once(tokens):
    token = await tokens.add("sample", Role.READER)
    assert await tokens.remove("sample")
    assert await tokens.find_role(token) is None


async def test_a_token_that_is_not_there_can_not_be_removed(tokens):
    assert not await tokens.remove("sample")


async def test_the_store_has_no_token_but_its_hash(tokens, store):
    token = await tokens.add("sample", Role.READER)
    (stored,) = await store.tokens()
    assert token not in repr(stored) + stored.digest


async def test_a_token_that_another_hub_has_made_is_known_soon(tokens, store, clock):
    assert not await tokens.find_role("early")
    token = await Tokens(store, lambda: "other").add("sample", Role.READER)
    assert await tokens.find_role(token) is None
    clock.now += 2.0
    assert await tokens.find_role(token) is Role.READER

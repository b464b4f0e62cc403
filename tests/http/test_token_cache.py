"""A token is refreshed once for all calls of its account, on threads and on the event loop."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import logging
import math
import threading
from concurrent.futures import ThreadPoolExecutor, wait

import attrs
import pytest
from support.waiting import TIMEOUT, wait_until

from arbprov import ConfigurationError, ProviderApp
from arbprov.clock import SystemClock
from arbprov.errors import TaskError
from arbprov.http import Token, TokenCache, TokenError
from arbprov.http import tokens as tokens_module
from arbprov.testing import VirtualClock
from arbprov.worker.check_run import CheckRun

user = contextvars.ContextVar("user", default="nobody")


class Api:
    """Gives out numbered tokens; notes for which accounts and old tokens."""

    def __init__(self, **options):
        self.asked = []
        self.lifetime = None
        # A refresh waits for it.
        self.open = threading.Event()
        self.open.set()
        self.error = None
        self.clock = VirtualClock()
        self.tokens = TokenCache(self.refresh, clock=self.clock, **options)

    def refresh(self, account, old):
        self.asked.append((account, old))
        number = len(self.asked)
        self.open.wait(TIMEOUT)
        if self.error is not None:
            raise self.error
        return Token(f"token-{number}", self.lifetime)


@pytest.fixture
def api():
    return Api()


@pytest.fixture
def pool():
    with ThreadPoolExecutor(8) as pool:
        yield pool


# Tokens.


@pytest.mark.parametrize(
    ("given", "seconds"), [(None, math.inf), (60, 60), ("3600", 3600), (0, 0), (0.5, 0.5)]
)
def test_a_token_has_its_seconds_as_a_number(given, seconds):
    assert Token("value", given).expires_in == seconds


@pytest.mark.parametrize("expires_in", ["soon", math.nan, math.inf, [], True])
def test_seconds_that_are_not_a_number_are_refused(expires_in):
    with pytest.raises(ValueError, match="expires_in must be a number of seconds, not"):
        Token("value", expires_in)


@pytest.mark.parametrize(
    "value", ["", "two\nlines", "tökén", " secret", "secret ", "the secret", None, 5, b"bytes"]
)
def test_a_value_that_a_header_can_not_have_is_refused_and_not_shown(value):
    with pytest.raises(ValueError, match="the token's value must be a text") as caught:
        Token(value)
    assert not value or str(value) not in str(caught.value)


def test_no_repr_shows_a_token(api):
    api.tokens.get("ada")
    shown = [Token("token-1"), api.tokens, *api.tokens._entries.values()]
    assert "token-1" not in repr(shown)


# What a cache is made of.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"margin": -1}, "margin=-1 must be a number of seconds, 0 or more"),
        ({"margin": None}, "margin=None must be"),
        ({"timeout": 0}, "timeout=0 must be a number of seconds greater than 0"),
        ({"redis": "localhost"}, "redis: a store is a URL such as redis://"),
        ({"redis": object()}, "redis: object is not a Redis client or its URL"),
    ],
)
def test_a_wrong_argument_is_named(options, message):
    with pytest.raises(ConfigurationError) as caught:
        TokenCache(lambda account, old: Token("t"), **options)
    assert str(caught.value).startswith(message)


def test_what_is_not_a_function_is_refused():
    with pytest.raises(ConfigurationError, match="a function that refreshes a token, not str"):
        TokenCache("refresh")


# One call after another.


def test_the_first_call_has_no_old_token(api):
    assert api.tokens.get("ada") == "token-1"
    assert api.asked == [("ada", None)]


def test_a_token_is_kept(api):
    assert [api.tokens.get("ada") for _ in range(3)] == ["token-1"] * 3


def test_each_account_has_its_own(api):
    assert [api.tokens.get(name) for name in ("ada", "bob", "ada")] == [
        "token-1",
        "token-2",
        "token-1",
    ]


@attrs.define
class Account:
    id: int
    token: str = "secret"


def test_an_account_may_be_of_a_class(api):
    assert api.tokens.get(Account(1)) == api.tokens.get(Account(1))
    assert api.tokens.get(Account(2)) == "token-2"


def test_the_order_of_an_account_s_fields_does_not_matter(api):
    assert api.tokens.get({"a": 1, "b": 2}) == api.tokens.get({"b": 2, "a": 1})


def test_a_key_tells_accounts_apart():
    api = Api(key=lambda account: account["id"])
    assert api.tokens.get({"id": 1, "name": "old"}) == api.tokens.get({"id": 1, "name": "new"})
    assert api.tokens.get({"id": 2}) == "token-2"


@pytest.mark.parametrize("key", [None, ""])
def test_an_account_without_a_key_is_an_error(key):
    def find(account):
        return key

    with pytest.raises(TokenError, match=r"find \(.*the account has no key") as caught:
        Api(key=find).tokens.get("ada")
    assert isinstance(caught.value, TaskError)


@pytest.mark.parametrize(
    ("lifetime", "margin", "kept"), [(3600, 60, 3540), (100, 60, 50), (100, 0, 100), (0, 60, 0)]
)
def test_a_token_is_refreshed_before_its_end(lifetime, margin, kept):
    api = Api(margin=margin)
    api.lifetime = lifetime
    api.tokens.get("ada")
    api.clock.advance(max(0, kept - 0.001))
    assert api.tokens.get("ada") == ("token-1" if kept else "token-2")
    api.clock.advance(0.002)
    api.tokens.get("ada")
    assert api.asked[1] == ("ada", "token-1")


def test_a_token_without_an_end_is_kept(api):
    api.tokens.get("ada")
    api.clock.advance(1e9)
    assert api.tokens.get("ada") == "token-1"


def test_a_refused_token_is_refreshed(api):
    api.tokens.refuse("ada", api.tokens.get("ada"))
    assert api.tokens.get("ada") == "token-2"
    assert api.asked[-1] == ("ada", "token-1")


@pytest.mark.parametrize(("account", "token"), [("ada", "token-0"), ("bob", "token-1")])
def test_refusing_another_token_changes_nothing(api, account, token):
    api.tokens.get("ada")
    api.tokens.refuse(account, token)
    assert api.tokens.get("ada") == "token-1"


def test_only_so_many_tokens_are_kept(api, monkeypatch):
    monkeypatch.setattr(tokens_module, "_MAX_TOKENS", 2)
    for name in ("ada", "bob", "ada", "eve"):
        api.tokens.get(name)
    assert len(api.tokens._entries) == 2
    # The one that was used the longest ago is gone.
    assert [api.tokens.get(name) for name in ("ada", "eve", "bob")] == [
        "token-1",
        "token-3",
        "token-4",
    ]


def test_a_token_that_is_being_refreshed_is_not_dropped(api, pool, monkeypatch):
    monkeypatch.setattr(tokens_module, "_MAX_TOKENS", 1)
    api.open.clear()
    futures = [pool.submit(api.tokens.get, name) for name in ("ada", "bob", "ada")]
    wait_until(lambda: len(api.asked) == 2)
    api.open.set()
    assert len({future.result(TIMEOUT) for future in futures}) == 2


# An error.


def test_an_error_is_raised_and_the_next_call_tries_again(api):
    api.error = LookupError("no such account")
    for _ in range(2):
        with pytest.raises(LookupError, match="no such account"):
            api.tokens.get("ada")
    api.error = None
    assert api.tokens.get("ada") == "token-3"


def test_after_an_error_the_next_refresh_has_the_same_old_token(api):
    api.tokens.refuse("ada", api.tokens.get("ada"))
    api.error = LookupError()
    with pytest.raises(LookupError):
        api.tokens.get("ada")
    api.error = None
    api.tokens.get("ada")
    assert api.asked[1:] == [("ada", "token-1")] * 2


@pytest.mark.parametrize("answer", ["a token", None])
def test_what_is_not_a_token_is_an_error_that_does_not_show_it(answer):
    def refresh(account, old):
        return answer

    with pytest.raises(TokenError) as caught:
        TokenCache(refresh).get("ada")
    assert str(caught.value).endswith(
        f"it returned {type(answer).__name__}, and must return a Token"
    )


def test_nothing_is_logged(api, caplog):
    caplog.set_level(logging.DEBUG)
    api.tokens.refuse("ada", api.tokens.get("ada"))
    api.error = LookupError("down")
    with pytest.raises(LookupError):
        api.tokens.get("ada")
    assert [record for record in caplog.records if record.name.startswith("arbprov")] == []


def test_a_thread_that_can_not_start_is_an_error_of_that_call(api, monkeypatch):
    def start(thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            api.tokens.get("ada")
    assert api.tokens.get("ada") == "token-1"


# Calls at once.


def test_threads_wait_for_one_refresh(api, pool):
    api.open.clear()
    futures = [pool.submit(api.tokens.get, "ada") for _ in range(8)]
    wait_until(lambda: api.asked)
    api.open.set()
    assert [future.result(TIMEOUT) for future in futures] == ["token-1"] * 8
    assert len(api.asked) == 1


def test_threads_and_the_loop_wait_for_one_refresh(api, pool):
    async def main():
        api.open.clear()
        futures = [asyncio.wrap_future(pool.submit(api.tokens.get, "ada")) for _ in range(4)]
        futures += [asyncio.ensure_future(api.tokens.aget("ada")) for _ in range(4)]
        await asyncio.sleep(0.01)
        api.open.set()
        return await asyncio.gather(*futures)

    assert asyncio.run(main()) == ["token-1"] * 8
    assert len(api.asked) == 1


def test_accounts_are_refreshed_side_by_side(api, pool):
    api.open.clear()
    futures = [pool.submit(api.tokens.get, name) for name in ("ada", "bob")]
    wait_until(lambda: len(api.asked) == 2)
    api.open.set()
    wait(futures, TIMEOUT)


def test_an_error_reaches_all_waiting_calls(api, pool):
    api.open.clear()
    api.error = LookupError("down")
    futures = [pool.submit(api.tokens.get, "ada") for _ in range(8)]
    wait_until(lambda: api.tokens._entries)
    wait_until(lambda: api.asked)
    api.open.set()
    errors = {type(future.exception(TIMEOUT)) for future in futures}
    assert errors == {LookupError}


# On the event loop.


def test_a_plain_refresh_does_not_block_the_loop(api):
    async def main():
        api.open.clear()
        getting = asyncio.ensure_future(api.tokens.aget("ada"))
        await asyncio.sleep(0.01)
        api.open.set()
        return await getting

    assert asyncio.run(main()) == "token-1"


def test_an_async_refresh_runs_on_the_loop_of_the_call():
    loops = []

    async def refresh(account, old):
        loops.append(asyncio.get_running_loop())
        return Token(user.get())

    async def main():
        user.set("ada")
        loops.append(asyncio.get_running_loop())
        return await TokenCache(refresh).aget("ada")

    assert asyncio.run(main()) == "ada"
    assert loops[0] is loops[1]


def test_an_async_refresh_has_a_loop_of_its_own_for_plain_code():
    async def refresh(account, old):
        await asyncio.sleep(0)
        return Token("token")

    assert TokenCache(refresh).get("ada") == "token"
    assert TokenCache(functools.partial(lambda a, o: refresh(a, o))).get("ada") == "token"


def test_plain_code_on_a_loop_is_sent_to_aget(api):
    async def main():
        api.tokens.get("ada")

    with pytest.raises(RuntimeError, match=r"use `await tokens\.aget"):
        asyncio.run(main())


def test_a_call_that_is_cancelled_does_not_cancel_the_refresh():
    gate, asked = asyncio.Event(), []

    async def refresh(account, old):
        asked.append(account)
        await gate.wait()
        return Token("token")

    tokens = TokenCache(refresh)

    async def main():
        first, second = (asyncio.ensure_future(tokens.aget("ada")) for _ in range(2))
        while not asked:
            await asyncio.sleep(0.001)
        first.cancel()
        await asyncio.wait([first])
        gate.set()
        return await second, await tokens.aget("ada")

    assert asyncio.run(main()) == ("token", "token")
    assert asked == ["ada"]


def test_a_call_that_is_cancelled_leaves_no_error_unseen(api, caplog):
    async def main():
        api.open.clear()
        api.error = LookupError("down")
        getting = asyncio.ensure_future(api.tokens.aget("ada"))
        await asyncio.sleep(0.01)
        getting.cancel()
        await asyncio.wait([getting])
        api.open.set()
        while api.tokens._entries[next(iter(api.tokens._entries))].refreshing:
            await asyncio.sleep(0.001)

    asyncio.run(main())
    gc.collect()
    assert caplog.records == []


def test_another_call_takes_over_when_the_loop_of_a_refresh_ends(pool):
    loops = []

    async def refresh(account, old):
        loops.append(asyncio.get_running_loop())
        if len(loops) == 1:
            await asyncio.sleep(600)
        return Token("token")

    tokens = TokenCache(refresh)
    waiting = []

    async def begin():
        first = asyncio.ensure_future(tokens.aget("ada"))
        while not loops:
            await asyncio.sleep(0.001)
        waiting.append(pool.submit(asyncio.run, tokens.aget("ada")))
        waiting.append(pool.submit(tokens.get, "ada"))
        await asyncio.sleep(0.05)
        assert not first.done()

    asyncio.run(begin())  # cancels what runs on the loop, at its end
    assert [future.result(TIMEOUT) for future in waiting] == ["token"] * 2
    assert len(loops) == 2


def test_a_loop_that_is_closed_before_the_refresh_begins_is_no_error():
    async def refresh(account, old):
        return Token("token")

    tokens = TokenCache(refresh)
    loop = asyncio.new_event_loop()
    loop.close()
    waiting = tokens_module._Refreshing(TIMEOUT)
    tokens._entries["key"] = tokens_module._Entry(refreshing=waiting)
    tokens._run_refresh("key", waiting, "ada", None, loop)
    assert waiting.token.result(0) is None
    assert tokens._entries["key"].refreshing is None


def test_a_loop_that_is_closed_without_a_word_is_no_error():
    async def refresh(account, old):
        return Token("token")

    tokens = TokenCache(refresh)
    loop = asyncio.new_event_loop()
    waiting = tokens_module._Refreshing(TIMEOUT)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(tokens._run_refresh, "key", waiting, "ada", None, loop)
        wait_until(lambda: loop._ready)
        loop.close()
        running.result(TIMEOUT)
    assert waiting.token.result(0) is None


def test_a_refresh_that_cancels_itself_is_not_tried_for_ever():
    async def refresh(account, old):
        raise asyncio.CancelledError

    with pytest.raises(TokenError, match="was cancelled 5 times"):
        asyncio.run(TokenCache(refresh).aget("ada"))
    with pytest.raises(TokenError, match="was cancelled 5 times"):
        TokenCache(refresh).get("ada")


# A refresh that hangs.


def test_a_plain_refresh_that_hangs_is_given_up(api, monkeypatch):
    monkeypatch.setattr(tokens_module, "_GRACE", 0.0)
    api = Api(timeout=0.01)
    api.open.clear()
    with pytest.raises(TokenError, match="has not ended within its timeout"):
        api.tokens.get("ada")
    with pytest.raises(TokenError, match="has not ended within its timeout"):
        asyncio.run(api.tokens.aget("ada"))
    api.open.set()


def test_the_token_of_a_refresh_that_was_given_up_is_not_used(monkeypatch):
    api = Api()
    api.open.clear()
    (key, first) = "key", tokens_module._Refreshing(TIMEOUT)
    api.tokens._entries[key] = tokens_module._Entry(refreshing=first)
    with pytest.raises(TokenError):
        api.tokens._give_up(key, first)
    api.open.set()
    api.tokens._run_refresh(key, first, "ada", None, None)
    assert api.tokens._entries[key].value is None


async def hang(account, old):
    await asyncio.sleep(600)


def test_an_async_refresh_that_hangs_is_cancelled():
    tokens = TokenCache(hang, timeout=0.01)
    with pytest.raises(TokenError, match="has not ended within its timeout"):
        asyncio.run(tokens.aget("ada"))
    with pytest.raises(TokenError, match="has not ended within its timeout"):
        tokens.get("ada")


# In a provider.


def test_a_handler_in_a_test_client_gets_its_token(api):
    app = ProviderApp("test", execution_timeout=TIMEOUT)

    @app.action
    async def token(account: dict):
        return await api.tokens.aget(account)

    @app.action
    def plain(account: dict):
        return api.tokens.get(account)

    client = app.test_client()
    answers = [client.call(name, account={"id": 1}).data for name in ("token", "plain")]
    assert answers == ["token-1"] * 2


# Errors.


@pytest.fixture
def leaky(api):
    """An app whose errors quote the token."""
    app = ProviderApp("test", execution_timeout=TIMEOUT)

    @app.action
    async def later(account: dict):
        raise LookupError(f"the API refuses {await api.tokens.aget('ada')}")

    @app.action
    def plain(account: dict):
        raise LookupError(f"the API refuses {api.tokens.get('ada')}")

    @app.check
    def check():
        raise LookupError(f"the API refuses {api.tokens.get('ada')}")

    return app


@pytest.mark.parametrize("action", ["later", "plain"])
def test_neither_a_result_nor_the_log_shows_a_token(leaky, caplog, action):
    result = leaky.test_client().call(action)
    assert result.message == "the API refuses [redacted]"
    assert ("refuses [redacted]" in caplog.text, "token-1" in caplog.text) == (True, False)


def test_a_worker_s_results_show_no_token(leaky, hub, serve):
    serve(leaky)
    messages = [hub.call(action).message for action in ("later", "plain")]
    assert messages == ["the API refuses [redacted]"] * 2


def test_a_check_s_reason_shows_no_token(leaky):
    results = []
    run = CheckRun(leaky._dispatcher(SystemClock()), leaky._life_hooks(), {}, 20, results.append)
    run.run(leaky.checks())
    assert [result.reason for result in results] == ["LookupError: the API refuses [redacted]"]


def test_a_later_try_shows_none_of_its_tokens(api):
    app = ProviderApp("test", execution_timeout=TIMEOUT)

    @app.action
    @app.retry(on=LookupError, attempts=2)
    def fail(account: dict):
        token = api.tokens.get("ada")
        api.tokens.refuse("ada", token)
        raise LookupError(f"the API refuses {token}")

    assert app.test_client().call("fail").message == "the API refuses [redacted]"
    assert len(api.asked) == 2


def test_only_so_many_tokens_of_a_call_are_looked_for(api, monkeypatch):
    monkeypatch.setattr(tokens_module, "_MAX_HIDDEN", 2)
    secrets = []
    restored = tokens_module.call_secrets.set(secrets)
    for name in ("ada", "bob", "ada", "eve"):
        api.tokens.get(name)
    tokens_module.call_secrets.reset(restored)
    assert secrets == ["token-1", "token-2"]

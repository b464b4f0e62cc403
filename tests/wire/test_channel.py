"""The channel to a hub: frozen peers, pings, closed connections, reconnecting, large messages."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import threading
import time
import weakref

import grpc
import pytest
from support.frames import ENHANCE_YOUR_CALM, WatchingProxy
from support.servers import refusing_address
from support.stopwatch import Stopwatch
from support.waiting import TIMEOUT

from arbprov import AuthenticationError, HubConnectionError, ProviderApp
from arbprov.backoff import Backoff
from arbprov.task import Status, Task, TaskResult
from arbprov.testing import FaultyHub, faults, serving
from arbprov.wire.channel import Keepalive
from arbprov.wire.client import GrpcHub
from arbprov.wire.hub import Pause
from arbprov.wire.messages import encode_result
from arbprov.wire.tokens import Token

RESULT = encode_result(
    TaskResult(Task("t1", "forecast", b"{}"), Status.SUCCESS, "done", {}, body="{}"), "weather"
)
QUICK = Keepalive(1.0, 0.5)


def provider_of(url, token="sample-token", **options):
    """Return a connection to the hub, as a provider has it."""
    if not isinstance(token, Token):
        token = Token(token)
        token.read()
    timeouts = {"poll_timeout": 20.0, "submit_timeout": 20.0}
    return GrpcHub(url, provider="weather", token=token, **(timeouts | options))


def run(main, url, **options):
    """Run ``main(hub)`` with a provider's connection to a hub, and close it."""

    async def work():
        hub = provider_of(url, **options)
        try:
            return await main(hub)
        finally:
            await hub.close()

    return asyncio.run(work())


@pytest.fixture
def start():
    hubs = []

    def start(*script, **options):
        options = {"token": "sample-token", "hold": 0.0} | options
        hubs.append(FaultyHub(*script, **options).start())
        return hubs[-1]

    yield start
    for hub in hubs:
        hub.stop()


def test_a_closed_connection_keeps_no_channel_of_grpc(start):
    # Whatever keeps the connection, such as an error's traceback: old versions of gRPC hang at the
    # end of the process if a channel is still there.
    async def main():
        provider = provider_of(start().url)
        await provider.fetch()
        channel = weakref.ref(provider._channel._channel)
        await provider.close()
        gc.collect()
        return channel() is None, provider._channel.is_connected

    assert asyncio.run(main()) == (True, False)


def test_a_closed_channel_does_not_reconnect(start):
    async def main():
        provider = provider_of(start().url)
        await provider.close()
        return await provider._channel.reconnects()

    assert asyncio.run(main()) is False


# A frozen hub.


async def seconds_until_lost(hub, proxy):
    """Return the seconds from the freeze until a poll fails."""
    await hub.fetch()
    polling = asyncio.ensure_future(hub.fetch())
    await asyncio.sleep(0.05)
    proxy.stall()
    stopwatch = Stopwatch()
    with pytest.raises(HubConnectionError):
        await polling
    return stopwatch.seconds


def test_a_frozen_hub_is_found_while_it_holds_a_poll(start):
    hub = start(faults.slow(0), faults.hang())

    async def main(provider):
        return await seconds_until_lost(provider, hub.proxy)

    # The keepalive's two times, and 2 s to reconnect.
    assert run(main, hub.url, keepalive=QUICK) < 1.5 + 2 + 1


def test_a_frozen_hub_is_found_while_a_result_is_sent(start):
    hub = start(faults.hang(on="submit"))

    async def main(provider):
        await provider.fetch()
        hub.proxy.stall()
        stopwatch = Stopwatch()
        with pytest.raises(HubConnectionError):
            await provider.submit(RESULT)
        return stopwatch.seconds

    assert run(main, hub.url, keepalive=QUICK) < 1.5 + 2 + 1


@pytest.mark.long
def test_a_frozen_hub_is_found_within_45_seconds(start):
    hub = start(faults.slow(0), faults.hang())

    async def main(provider):
        return await seconds_until_lost(provider, hub.proxy)

    seconds = run(main, hub.url, poll_timeout=60.0)
    print(f"found after {seconds:.1f} s")
    assert 30 < seconds < 45


def test_an_unanswered_poll_does_not_hide_a_frozen_hub(start):
    hub = start()

    async def main(provider):
        # This call, which makes the connection, has more time for that than a poll.
        await provider.submit(RESULT)
        hub.proxy.stall()
        # The poll ends before the keepalive would ping.
        assert await provider.fetch() is None
        with pytest.raises(HubConnectionError, match=r"did not answer within [\d.]+ s"):
            await provider.fetch()

    run(main, hub.url, poll_timeout=0.4)


def test_a_hub_that_is_frozen_from_the_start_is_a_connection_error(start):
    hub = start()
    hub.proxy.stall()

    async def main(provider):
        with pytest.raises(HubConnectionError, match="did not answer within"):
            await provider.fetch()

    run(main, hub.url, poll_timeout=0.3)


# Pings.


def test_the_keepalive_pings_twice_at_most_while_a_poll_is_held():
    assert Keepalive.for_poll_timeout(60.0) == Keepalive(30.0, 10.0)
    assert Keepalive.for_poll_timeout(1.0).time == 30.0
    assert Keepalive.for_poll_timeout(600.0).time == 300.0


@pytest.mark.slow
def test_a_hub_that_never_answers_is_never_pinged_too_often(start):
    hub = start(faults.hang(100))

    async def main(provider):
        for _ in range(4):
            assert await provider.fetch() is None

    with WatchingProxy(hub.address) as proxy:
        run(main, proxy.address, poll_timeout=2.4, keepalive=Keepalive(1.1, 1.0))
    assert sum(connection.pings for connection in proxy.seen) >= 4
    assert max(connection.most_strikes for connection in proxy.seen) <= 2
    assert ENHANCE_YOUR_CALM not in [code for one in proxy.seen for code in one.goaways]


@pytest.mark.slow
def test_a_hub_that_answers_late_is_never_pinged_too_often(start):
    hub = start(faults.slow(2.3, 100))

    async def main(provider):
        for _ in range(3):
            assert await provider.fetch() is None

    with WatchingProxy(hub.address) as proxy:
        run(main, proxy.address, keepalive=Keepalive(1.1, 1.0))
    (connection,) = proxy.seen
    assert connection.pings >= 3
    assert connection.most_strikes <= 2
    assert connection.goaways == []


@pytest.mark.long
def test_a_hub_with_grpc_s_defaults_never_tells_of_too_many_pings(start):
    hub = start(faults.hang(100))

    async def main(provider):
        for _ in range(4):
            assert await provider.fetch() is None

    with WatchingProxy(hub.address) as proxy:
        run(main, proxy.address, poll_timeout=60.0)
    assert sum(connection.pings for connection in proxy.seen) >= 4
    assert max(connection.most_strikes for connection in proxy.seen) <= 2
    assert ENHANCE_YOUR_CALM not in [code for one in proxy.seen for code in one.goaways]


def test_a_call_goes_on_while_the_channel_is_renewed(start):
    hub = start(faults.hang(), faults.slow(0, on="submit"), faults.slow(0.6, on="submit"))

    async def main(provider):
        await provider.submit(RESULT)
        submitting = asyncio.ensure_future(provider.submit(RESULT))
        assert await provider.fetch() is None
        await submitting

    run(main, hub.url, poll_timeout=0.3)
    assert [(s.id, one.fault) for s, one in zip(hub.submissions, hub.submits, strict=True)] == [
        ("t1", "slow"),
        ("t1", "slow"),
    ]


def test_polls_that_end_together_renew_the_channel_once(start):
    hub = start(faults.hang(8))

    async def main(provider):
        # A submit makes each connection, here and below: its timeout is longer than a poll's.
        await provider.submit(RESULT)
        await asyncio.gather(*[provider.fetch() for _ in range(8)])
        await provider.submit(RESULT)

    with WatchingProxy(hub.address) as proxy:
        run(main, proxy.address, poll_timeout=0.3)
    assert len(proxy.seen) == 2


def test_a_poll_whose_channel_was_replaced_and_closed_meanwhile_is_no_failure(start):
    ended = grpc.aio.AioRpcError(grpc.StatusCode.DEADLINE_EXCEEDED, (), ())

    async def main(provider):
        await provider.submit(RESULT)
        channel = provider._channel
        provider._replace_channel(channel)
        await channel.close()
        return await provider._after_failed_poll(ended, channel, 20.0)

    assert run(main, start().url) is None


def test_a_hub_that_ends_its_own_polls_keeps_its_connection(start):
    hub = start(faults.fails("DEADLINE_EXCEEDED", 3, on="poll"))

    async def main(provider):
        assert [await provider.fetch() for _ in range(3)] == [None] * 3

    with WatchingProxy(hub.address) as proxy:
        run(main, proxy.address)
    assert len(proxy.seen) == 1


def test_a_channel_that_still_has_calls_is_closed_at_the_end(start):
    hub = start(faults.hang(), faults.slow(0, on="submit"), faults.hang(on="submit"))

    async def main(provider):
        await provider.submit(RESULT)
        submitting = asyncio.ensure_future(provider.submit(RESULT))
        assert await provider.fetch() is None
        await provider.close()
        assert isinstance(
            (await asyncio.gather(submitting, return_exceptions=True))[0], BaseException
        )

    run(main, hub.url, poll_timeout=0.3)


# Connections that end gracefully.


@pytest.fixture
def app():
    app = ProviderApp("weather")
    app.lost = []
    app.on_disconnect(app.lost.append)

    @app.action
    def echo(value: int) -> dict:
        return {"value": value}

    return app


def run_tasks(hub, count):
    """Run `count` tasks and check their results."""
    tickets = [hub.put("echo", {"value": value}) for value in range(count)]
    values = [ticket.result().data["value"] for ticket in tickets]
    assert values == list(range(count))


def troubles(app, caplog):
    records = [record for record in caplog.records if record.levelno > logging.INFO]
    # gRPC may log here that calls of an earlier test's closed loop have ended.
    others = [record for record in records if "PollerCompletionQueue" in record.getMessage()]
    return [*app.lost, *(record for record in records if record not in others)]


@pytest.fixture
def slow_reconnects(monkeypatch):
    """Let a provider take a minute to reconnect, as a busy machine may need more than 2 s."""
    monkeypatch.setattr("arbprov.wire.channel._RECONNECT_TIMEOUT", TIMEOUT)


def test_a_goaway_costs_nothing(start, app, caplog, slow_reconnects):
    hub = start(hold=0.05)
    with serving(app, hub):
        for step in [faults.goaway(), faults.goaway(on="submit")] * 3:
            hub.play(step)
            run_tasks(hub, 10)
            # The hub must be polled again before its next restart.
            polled = len(hub.polls)
            hub.wait_until(lambda hub, polled=polled: len(hub.polls) >= polled + 6)
    hub.assert_nothing_lost()
    assert troubles(app, caplog) == []


def test_a_connection_that_may_not_grow_old_costs_nothing(start, app, caplog, slow_reconnects):
    hub = start(options={"grpc.max_connection_age_ms": 100})
    with serving(app, hub):
        run_tasks(hub, 300)
    hub.assert_nothing_lost()
    assert troubles(app, caplog) == []


def test_an_idle_poll_that_a_connection_s_age_ends_does_not_count_as_a_lost_hub(
    start, app, caplog, slow_reconnects
):
    ages = {"grpc.max_connection_age_ms": 1000, "grpc.max_connection_age_grace_ms": 0}
    hub = start(hold=0.1, options=ages)
    with serving(app, hub):
        hub.wait_until(lambda hub: len(hub.polls) > 25)
        run_tasks(hub, 1)
    assert troubles(app, caplog) == []


def test_a_poll_that_is_cut_is_asked_again_at_once(start):
    hub = start(faults.slow(0), faults.hang())

    async def main(provider):
        await provider.fetch()
        polling = asyncio.ensure_future(provider.fetch())
        await asyncio.to_thread(hub.wait_until, lambda hub: len(hub.polls) == 2)
        hub.put("forecast", id="t1")
        hub.proxy.cut()
        return await polling

    assert run(main, hub.url).id == "t1"


def test_a_result_that_is_cut_is_sent_again_at_once(start):
    hub = start(faults.die_during_submit())

    async def main(provider):
        await provider.fetch()
        await provider.submit(RESULT)

    run(main, hub.url)
    assert len({submit.raw for submit in hub.submits}) == 1
    assert len(hub.submits) == 2


def test_a_hub_in_trouble_is_asked_twice_more_and_then_not_at_once(start):
    hub = start(faults.slow(0), faults.unavailable(4))

    async def main(provider):
        await provider.fetch()
        for _ in range(2):
            with pytest.raises(HubConnectionError):
                await provider.fetch()

    run(main, hub.url)
    assert [poll.fault for poll in hub.polls] == ["slow"] + ["unavailable"] * 4


def test_a_hub_that_was_never_there_is_not_asked_twice(start):
    hub = start(faults.unavailable(2))

    async def main(provider):
        with pytest.raises(HubConnectionError):
            await provider.fetch()

    run(main, hub.url)
    assert len(hub.polls) == 1


# A hub that comes back.


def test_a_hub_that_is_away_is_reported_at_once(start):
    async def main(provider):
        stopwatch = Stopwatch()
        with pytest.raises(HubConnectionError, match="Connection refused"):
            await provider.fetch()
        return stopwatch.seconds

    with refusing_address() as address:
        assert run(main, address) < 5


@pytest.mark.long
def test_a_hub_that_was_away_for_long_is_found_again_within_ten_seconds(start):
    hub = start()

    async def main(provider):
        await provider.fetch()
        hub.proxy.reset()
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with pytest.raises(HubConnectionError):
                await provider.fetch()
            await asyncio.sleep(0.1)
        hub.proxy.let_pass()
        began = time.monotonic()
        while True:
            try:
                await provider.fetch()
            except HubConnectionError:
                await asyncio.sleep(0.1)
            else:
                return time.monotonic() - began

    seconds = run(main, hub.url)
    print(f"found after {seconds:.1f} s")
    assert seconds <= 10.2


# Too many calls, and too large ones.


def set_jitter(monkeypatch, share):
    backoff = functools.partial(Backoff, jitter=lambda: share)
    monkeypatch.setattr("arbprov.wire.client.Backoff", backoff)


async def pauses_of(provider, count):
    return [(await provider.fetch()).seconds for _ in range(count)]


def test_a_hub_with_too_many_calls_has_a_growing_pause_of_one_to_ten_seconds(start, monkeypatch):
    hub = start(faults.resource_exhausted(60))

    async def main(provider):
        set_jitter(monkeypatch, 1.0)
        return await pauses_of(provider, 6)

    assert run(main, hub.url) == [2.0, 3.0, 5.0, 9.0, 10.0, 10.0]


def test_the_pause_of_a_hub_with_too_many_calls_is_a_second_at_least(start, monkeypatch):
    hub = start(faults.resource_exhausted(20))

    async def main(provider):
        set_jitter(monkeypatch, 0.0)
        return await pauses_of(provider, 3)

    assert run(main, hub.url) == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("answer", [faults.slow(0), faults.fails("NOT_FOUND", on="poll")])
def test_the_pauses_begin_anew_once_the_hub_has_answered(start, answer, monkeypatch):
    script = [faults.resource_exhausted(3), answer, faults.resource_exhausted()]
    hub = start(*script)

    async def main(provider):
        set_jitter(monkeypatch, 1.0)
        await pauses_of(provider, 3)
        assert await provider.fetch() is None
        return await provider.fetch()

    assert run(main, hub.url) == Pause(2.0)


def test_a_task_that_is_larger_than_allowed_is_logged_as_lost(start, caplog):
    hub = start()
    hub.put("forecast", {"text": "x" * 2000}, id="t1")

    async def main(provider):
        return await provider.fetch()

    assert isinstance(run(main, hub.url, max_message_size=1000), Pause)
    (record,) = [one for one in caplog.records if one.name == "arbprov"]
    assert record.levelname == "ERROR"
    assert record.getMessage().startswith(
        "a task is lost because it is larger than max_message_size: RESOURCE_EXHAUSTED, "
    )
    assert record.getMessage().endswith("set ARBPROV_MAX_MESSAGE_SIZE to more bytes")


@pytest.mark.slow
def test_a_large_task_is_taken_by_default(start):
    hub = start()
    hub.put("forecast", {"text": "x" * (60 << 20)}, id="t1")

    async def main(provider):
        return await provider.fetch()

    assert len(run(main, hub.url).payload) > 60 << 20


def test_the_size_of_tasks_is_the_app_s_setting(start, app, log_line):
    app.config = app.config.override(max_message_size=1000)
    hub = start()
    with serving(app, hub):
        hub.put("echo", {"value": 1, "text": "x" * 2000})
        log_line("a task is lost")
        assert hub.call("echo", {"value": 2}).data == {"value": 2}


# Tokens.


def rotating(*texts):
    """Return a token that changes at each reading."""
    left = iter(texts)
    token = Token(lambda: next(left))
    token.read()
    return token


def test_a_token_that_was_rotated_is_found_without_any_trouble(start):
    hub = start(token="one")
    token = rotating("one", "two")

    async def main(provider):
        await provider.fetch()
        hub.token = "two"
        hub.put("forecast", id="t1")
        task = await provider.fetch()
        hub.token = "three"
        return task

    assert run(main, hub.url, token=token).id == "t1"
    assert list(token) == ["one", "two"]


def test_a_result_is_sent_with_the_token_of_now(start):
    hub = start(token="one")

    async def main(provider):
        await provider.fetch()
        hub.token = "two"
        await provider.submit(RESULT)

    run(main, hub.url, token=rotating("one", "two"))
    assert [submit.message.auth_token for submit in hub.submits] == ["one", "two"]


def test_a_token_that_is_refused_at_first_is_not_read_again(start):
    hub = start(token="two")

    async def main(provider):
        with pytest.raises(AuthenticationError):
            await provider.fetch()

    run(main, hub.url, token=rotating("one", "two"))
    assert len(hub.polls) == 1


def test_a_token_is_read_again_each_time_it_is_refused(start):
    hub = start(token="one")

    async def main(provider):
        await provider.fetch()
        hub.token = "two"
        for _ in range(2):
            with pytest.raises(AuthenticationError):
                await provider.fetch()
        return await provider.fetch()

    assert run(main, hub.url, token=rotating("one", "one", "one", "two")) is None


def test_polls_that_are_refused_together_read_the_token_once(start):
    hub = start(token="one")
    read = []

    def source():
        read.append(hub.token)
        return hub.token

    token = Token(source)
    token.read()

    async def main(provider):
        await provider.fetch()
        hub.token = "two"
        hub.play(faults.slow(0.2, 8))
        await asyncio.gather(*[provider.fetch() for _ in range(8)])

    run(main, hub.url, token=token)
    assert read == ["one", "two"]


def test_a_token_that_can_not_be_read_again_is_reported(start):
    hub = start(token="one")
    texts = iter(["one", None])
    token = Token(lambda: next(texts))
    token.read()

    async def main(provider):
        await provider.fetch()
        hub.token = "two"
        with pytest.raises(AuthenticationError, match="No other token can be read: auth_token="):
            await provider.fetch()

    run(main, hub.url, token=token)


def test_a_function_that_does_not_return_is_waited_for_no_longer_than_it_may(start, monkeypatch):
    monkeypatch.setattr("arbprov.wire.client._TOKEN_TIMEOUT", 0.1)
    hub, may_return = start(token="one"), threading.Event()

    def source():
        if hub.token == "two":
            may_return.wait(TIMEOUT)
        return "one"

    token = Token(source)
    token.read()

    async def main(provider):
        await provider.fetch()
        hub.token = "two"
        with pytest.raises(AuthenticationError, match=r"No other token was returned within 0\.1 s"):
            await provider.fetch()
        may_return.set()

    run(main, hub.url, token=token)


def test_an_error_of_a_hub_that_quotes_tokens_shows_none_of_them(start):
    hub = start(token="hunter22")
    token = rotating("hunter22", "hunter33")

    async def main(provider):
        await provider.fetch()
        hub.token = "none"
        repeats = "hunter22 and hunter33 are wrong"
        hub.play(faults.fails("UNAUTHENTICATED", 9, details=repeats, on="poll"))
        with pytest.raises(AuthenticationError, match=r"\[redacted\] and \[redacted\] are wrong"):
            await provider.fetch()

    run(main, hub.url, token=token)

"""The shipping queue, through the wire, with a real NATS server."""

from __future__ import annotations

import asyncio

import nats
import pytest
from support.examples import load, statuses_of_tasks, working
from support.nats_servers import NatsServer
from support.waiting import wait_until

GOOD = {"id": "order-1", "article": "tea", "weight": 0.5}
HEAVY = {"id": "order-2", "article": "oven", "weight": 45.0}


@pytest.fixture(scope="module")
def running_server():
    server = NatsServer()
    yield server
    server.close()


def ask(server, question):
    """Return what a coroutine function says of the server's queues."""

    async def main():
        async with await nats.connect(server.url) as broker:
            return await question(broker.jetstream())

    return asyncio.run(main())


@pytest.fixture
def server(running_server):
    yield running_server
    ask(running_server, lambda queues: queues.delete_stream("orders"))


@pytest.fixture
def example(server):
    return load("message_queue", NATS_URL=server.url)


@pytest.fixture
def hub(example):
    with working(example) as hub:
        yield hub


def place(hub, order):
    return hub.call("place_order", {"order": order}).data


def ship(hub, **payload):
    return hub.call("ship_orders", payload).data


def waiting(server):
    """Return how many orders the broker still has."""

    async def count(queues):
        return (await queues.stream_info("orders")).state.messages

    return ask(server, count)


def test_the_broker_stores_a_placed_order(hub, server):
    assert place(hub, GOOD) == {"position": 1, "placed_before": False}
    assert waiting(server) == 1


def test_an_order_that_is_placed_twice_is_in_the_queue_once(hub, server):
    place(hub, GOOD)
    assert place(hub, GOOD) == {"position": 1, "placed_before": True}
    assert waiting(server) == 1


def test_an_order_that_is_shipped_is_out_of_the_queue(hub, server):
    place(hub, GOOD)
    assert ship(hub) == {"shipped": ["order-1"], "failed": []}
    assert waiting(server) == 0


def test_an_empty_queue_is_not_an_error(hub):
    assert ship(hub) == {"shipped": [], "failed": []}


def test_a_batch_is_no_larger_than_asked_for(hub):
    for number in range(3):
        place(hub, GOOD | {"id": f"order-{number}"})
    assert ship(hub, at_most=2) == {"shipped": ["order-0", "order-1"], "failed": []}
    assert ship(hub, at_most=2) == {"shipped": ["order-2"], "failed": []}


def test_an_order_that_fails_is_a_warning_and_stays_in_the_queue(hub, server):
    place(hub, HEAVY)
    result = hub.call("ship_orders")
    assert (result.status, result.message) == ("warning", "Not shipped yet: order-2")
    assert waiting(server) == 1


def test_a_failed_order_is_shipped_at_the_next_try(hub, example, monkeypatch):
    place(hub, HEAVY)
    assert ship(hub) == {"shipped": [], "failed": ["order-2"]}
    monkeypatch.setattr(example, "ship", lambda order: asyncio.sleep(0))
    assert ship(hub) == {"shipped": ["order-2"], "failed": []}


def test_a_failing_order_does_not_block_the_others(hub):
    place(hub, HEAVY)
    place(hub, GOOD)
    assert ship(hub) == {"shipped": ["order-1"], "failed": ["order-2"]}


def test_an_order_is_tried_three_times_and_kept(hub, server):
    place(hub, HEAVY)
    assert [len(ship(hub)["failed"]) for _ in range(4)] == [1, 1, 1, 0]
    assert waiting(server) == 1


def test_an_order_is_out_of_the_queue_only_after_the_work(hub, example, server, monkeypatch):
    counted = []

    async def look(order):
        counted.append(await asyncio.to_thread(waiting, server))

    monkeypatch.setattr(example, "ship", look)
    place(hub, GOOD)
    ship(hub)
    assert (counted, waiting(server)) == ([1], 0)


def test_two_providers_share_the_work(hub, server):
    for number in range(4):
        place(hub, GOOD | {"id": f"order-{number}"})
    with working(load("message_queue", NATS_URL=server.url)) as another_hub:
        shares = [ship(one, at_most=2)["shipped"] for one in (hub, another_hub)]
    assert shares == [["order-0", "order-1"], ["order-2", "order-3"]]


def test_without_the_broker_tasks_end_with_an_error_that_says_so(hub, example, server):
    server.stop()
    try:
        wait_until(lambda: not example.broker.is_connected)
        message = hub.call("ship_orders").message
    finally:
        server.start()
    assert message == "The queue is away; try again later"


def test_orders_survive_a_restart_of_the_broker(hub, example, server):
    place(hub, GOOD)
    server.stop()
    wait_until(lambda: not example.broker.is_connected)
    server.start()
    wait_until(lambda: example.broker.is_connected)
    assert ship(hub) == {"shipped": ["order-1"], "failed": []}


def test_a_provider_that_has_ended_has_no_connection_open(example):
    with working(example):
        assert example.broker.is_connected
    assert example.broker.is_closed


def test_the_example_s_tasks_place_two_orders(hub, server):
    *placed, _ = statuses_of_tasks("message_queue", hub)
    assert placed == ["success"] * 3
    assert ask(server, lambda queues: queues.stream_info("orders")).state.last_seq == 2

"""The shop, through the wire, with a real PostgreSQL."""

from __future__ import annotations

import pytest
from support.examples import load, statuses_of_tasks, working
from support.postgres_servers import PostgresServer
from support.waiting import TIMEOUT, wait_until

CONNECTIONS = (
    "SELECT count(*) FROM pg_stat_activity "
    "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
)


@pytest.fixture(scope="module")
def running_server():
    server = PostgresServer()
    yield server
    server.close()


@pytest.fixture
def server(running_server):
    yield running_server
    with running_server.client() as client:
        client.execute("DROP TABLE order_lines, orders, stock")


@pytest.fixture
def hub(server):
    with working(load("database", DATABASE_URL=server.url)) as hub:
        yield hub


def order(hub, id, *lines):
    lines = [{"article": article, "quantity": quantity} for article, quantity in lines]
    return hub.call("order", {"id": id, "lines": lines})


def stock(hub):
    return hub.call("stock").data


def test_an_order_takes_its_lines_from_the_stock(hub):
    assert order(hub, "order-1", ("tea", 3), ("cup", 1)).data == {"ordered": 4}
    assert stock(hub) == {"cup": 1, "tea": 7}


@pytest.mark.parametrize(
    ("line", "rule", "message"),
    [
        (("tea", 11), "enough_stock", "There is not enough in stock"),
        (("pot", 1), "known_article", "There is no such article"),
        (("tea", 0), "some_quantity", "A quantity is at least 1"),
    ],
)
def test_an_order_that_breaks_a_rule_is_an_error_that_names_the_rule(hub, line, rule, message):
    refused = order(hub, "order-1", line)
    assert (refused.status, refused.message, refused.data) == ("error", message, {"rule": rule})


def test_the_same_order_again_is_an_error(hub):
    order(hub, "order-1", ("tea", 1))
    assert order(hub, "order-1", ("tea", 1)).message == "There is an order of this id already"


def test_an_order_that_fails_at_its_last_line_leaves_nothing_behind(hub):
    assert order(hub, "order-1", ("cup", 1), ("tea", 11)).status == "error"
    assert stock(hub) == {"cup": 2, "tea": 10}
    assert order(hub, "order-1", ("cup", 1)).status == "success"


def test_orders_of_the_same_articles_in_different_order_do_not_block_each_other(hub, server):
    with server.client() as client:
        client.execute("UPDATE stock SET quantity = 1000")
    one, other = [{"article": "tea", "quantity": 1}], [{"article": "cup", "quantity": 1}]
    payloads = [{"id": f"{n}", "lines": one + other if n % 2 else other + one} for n in range(100)]
    tickets = [hub.put("order", payload) for payload in payloads]
    messages = {ticket.result(TIMEOUT).message for ticket in tickets}
    assert messages == {"Action completed successfully"}
    assert stock(hub) == {"cup": 900, "tea": 900}


def test_without_the_database_tasks_end_with_an_error_that_says_so(hub, server):
    server.stop()
    try:
        message = hub.call("stock").message
    finally:
        server.start()
    assert message == "The database does not answer; try again later"


def test_a_restart_of_the_database_costs_one_task(hub, server):
    server.stop()
    server.start()
    assert [hub.call("stock").status for _ in range(6)] == ["error", *["success"] * 5]


def test_a_provider_that_has_ended_has_no_connection_open(server):
    with server.client() as client:
        counted = lambda: client.execute(CONNECTIONS).fetchone()[0]
        with working(load("database", DATABASE_URL=server.url)):
            assert counted() > 0
        wait_until(lambda: counted() == 0)


def test_the_example_s_tasks_show_an_order_and_each_refusal(hub):
    assert statuses_of_tasks("database", hub) == ["success", "error", "error", "error", "success"]

"""Which keys of limits calls have used lately."""

from __future__ import annotations

import pytest

from arbprov import ProviderApp, TaskContext
from arbprov.limits.algorithms import SlidingWindow
from arbprov.limits.recent import RecentUses
from arbprov.limits.stores.base import Charge
from arbprov.testing import VirtualClock

WINDOW = SlidingWindow(5, 60.0)


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
def uses(clock):
    return RecentUses(clock)


def charge(key=b"a"):
    return Charge("group", key, WINDOW, 1)


def keys(uses):
    return [use.charge.key for use in uses.latest()]


def test_the_last_use_of_each_bucket_is_kept(uses, clock):
    uses.note([charge(b"a"), charge(b"b")], b"first")
    clock.advance(5)
    uses.note([charge(b"a")], b"second")
    assert [(use.charge.key, use.account) for use in uses.latest()] == [
        (b"b", b"first"),
        (b"a", b"second"),
    ]
    first, second = uses.latest()
    assert second.used_at - first.used_at == 5


def test_only_the_latest_thousand_are_kept(uses):
    for number in range(1_001):
        uses.note([charge(b"%d" % number)], b"")
    assert len(uses.latest()) == 1_000
    assert keys(uses)[0] == b"1"


def test_a_large_account_is_not_kept(uses):
    uses.note([charge()], b"x" * 4096)
    uses.note([charge(b"b")], b"x" * 4097)
    assert [use.account for use in uses.latest()] == [b"x" * 4096, None]


def test_the_account_is_not_in_the_repr(uses):
    uses.note([charge()], b"secret")
    assert "secret" not in repr(uses.latest())


def test_a_use_can_be_kept_as_if_it_were_the_latest(uses):
    uses.note([charge(b"a"), charge(b"b")], b"")
    uses.keep(uses.latest()[:1])
    assert keys(uses) == [b"b", b"a"]


def test_a_use_that_is_kept_does_not_replace_a_later_one(uses):
    uses.note([charge()], b"first")
    old = uses.latest()
    uses.note([charge()], b"second")
    uses.keep(old)
    assert [use.account for use in uses.latest()] == [b"second"]


def test_a_use_can_be_forgotten_but_no_later_one(uses):
    uses.note([charge(b"a"), charge(b"b")], b"first")
    old = uses.latest()
    uses.note([charge(b"a")], b"second")
    uses.forget(old)
    assert [use.account for use in uses.latest()] == [b"second"]
    uses.forget(old)
    assert keys(uses) == [b"a"]


# Where uses are noted.


def noted(app, action, watches=True):
    client = app.test_client()
    limiter = client._runner._dispatcher.limiter
    if watches:
        limiter.watch()
    assert client.call(action, account={"id": 42}).status.value == "success"
    return limiter.recent


def test_the_charges_of_a_call_are_noted_with_its_account():
    app = ProviderApp("shop")
    app.action("order")(app.rate_limit("5/minute", key="account.id")(lambda: None))
    (use,) = noted(app, "order").latest()
    assert (use.charge.limit.text, use.account) == ("5/minute", b'{"id":42}')


def test_what_a_handler_acquires_is_noted_with_the_account():
    app = ProviderApp("shop")

    @app.action
    @app.rate_limit("5/minute", name="vendor", key="account.id", manual=True)
    def order(ctx: TaskContext) -> None:
        ctx.limits.acquire("vendor")

    (use,) = noted(app, "order").latest()
    assert (use.charge.limit.text, use.account) == ("5/minute", b'{"id":42}')


def test_nothing_is_noted_unless_somebody_looks():
    app = ProviderApp("shop")
    app.action("order")(app.rate_limit("5/minute")(lambda: None))
    assert noted(app, "order", watches=False) is None

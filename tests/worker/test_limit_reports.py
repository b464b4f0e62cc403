"""How limits stand, as a worker reports it."""

from __future__ import annotations

import pytest

from arbprov import MinDelay, ProviderApp, RateLimited, RateLimitMonitor, TaskContext
from arbprov.wire.accounts import find_account_key
from arbprov.worker.limit_reports import LimitReporter

ACCOUNT = b'{"id": 42}'


class Shop:
    """An app without actions yet, and how its limits stand."""

    def __init__(self, **options):
        self.app = ProviderApp("shop", **options)
        self.waiting = {}

    def limit(self, *limits, action="order", **options):
        """Add an action with limits; it raises its payload's `throttled` as a cooldown."""

        @self.app.action(action)
        def handler(throttled: float = 0.0, region: str = "eu") -> None:
            if throttled:
                raise RateLimited(throttled)

        for limit in limits:
            self.app.rate_limit(limit, **options)(handler)
        return self

    def start(self):
        self.client = self.app.test_client()
        self.limiter = self.client._runner._dispatcher.limiter
        self.reporter = LimitReporter(self.limiter.watch(), self.client.clock)
        return self

    def order(self, count=1, id=42, action="order", **payload):
        for _ in range(count):
            self.client.call(action, payload, account={"id": id})

    def read(self):
        return self.reporter.read(self.waiting)[0]

    def read_one(self):
        (one,) = self.read()
        return one

    def bucket(self):
        return self.limiter.recent.latest()[-1].charge.bucket


@pytest.fixture
def shop():
    return Shop()


def test_a_limit_is_reported_with_what_is_left_and_whose_it_is(shop):
    shop.limit("5/minute", key="account.id").start().order(2)
    found = shop.read_one()
    assert (found.action, found.limit, found.owner, found.by) == (
        *("order", "5/minute", "action:order"),
        "account.id",
    )
    assert (found.total, found.left, found.next_in, found.waiting) == (5, 3, None, 0)
    assert (found.opens_in, found.closed_by, found.shadow) == (None, "", False)


def test_a_key_is_reported_as_a_hash_and_its_account_as_the_hub_s_key(shop):
    shop.limit("5/minute", key="account.id").start().order()
    shop.order(id="acme-secret")
    one, other = sorted(shop.read(), key=lambda found: found.account_key)
    assert len(one.key) == 16
    assert one.key != other.key
    keys = {find_account_key(ACCOUNT), find_account_key(b'{"id": "acme-secret"}')}
    assert {one.account_key, other.account_key} == keys
    assert "acme-secret" not in repr((one, other))


def test_the_account_of_a_limit_without_a_key_or_by_another_key_is_unknown(shop):
    shop.limit("5/minute").start().order()
    assert (shop.read_one().account_key, shop.read_one().key, shop.read_one().by) == ("", "", "")
    other = Shop().limit("5/minute", key="payload.region").start()
    other.order(region="eu")
    assert other.read_one().account_key == ""
    assert other.read_one().key != ""


def test_the_key_of_a_large_account_is_unknown(shop):
    shop.limit("5/minute", key="account.id").start().order(id="x" * 5_000)
    assert shop.read_one().account_key == ""


def test_a_limit_of_the_app_has_no_action_and_is_reported_once():
    shop = Shop(rate_limit="5/minute").limit().limit(action="cancel").start()
    shop.order()
    shop.order(action="cancel")
    found = shop.read_one()
    assert (found.action, found.owner, found.left) == ("", "app", 3)


def test_a_limit_that_is_used_up_says_when_it_admits_the_next_call(shop):
    shop.limit("2/minute").start().order(3)
    shop.client.clock.advance(20)
    found = shop.read_one()
    assert (found.left, found.opens_in) == (0, None)
    assert found.next_in == pytest.approx(40, abs=0.1)


def test_of_a_limit_with_a_burst_the_tighter_count_is_reported(shop):
    shop.limit("100/hour burst 20").start().order(2)
    found = shop.read_one()
    assert (found.total, found.left) == (20, 18)


def test_a_pace_is_reported(shop):
    shop.limit(MinDelay(2.0)).start().order()
    found = shop.read_one()
    assert found.left == 0
    assert found.next_in == pytest.approx(2.0)


def test_a_closed_gate_is_reported_until_it_opens(shop):
    shop.limit("5/minute", key="account.id").start().order(throttled=30.0)
    shop.client.clock.advance(10)
    found = shop.read_one()
    assert (found.opens_in, found.closed_by) == (
        pytest.approx(20.0, abs=0.01),
        "the API has throttled action 'order'",
    )
    shop.client.clock.advance(20)
    found = shop.read_one()
    assert (found.opens_in, found.closed_by, found.next_in) == (None, "", None)


def test_a_gate_that_a_call_tries_opens_any_moment():
    shop, seen = Shop(rate_limit="5/minute").limit(), []

    @shop.app.action
    def probe() -> None:
        seen.append(shop.read_one())

    shop.start().order(throttled=30.0)
    shop.client.clock.advance(31)
    shop.client.call("probe")
    assert [(found.opens_in, found.closed_by) for found in seen] == [
        (0.0, "the API has throttled action 'order'; a call tries it now")
    ]


def test_a_gate_that_nobody_known_has_closed_is_closed_by_the_api(shop):
    shop.limit("5/minute").start().order()
    charge = shop.limiter.recent.latest()[0].charge
    charge.cooldown_action = ""
    charge.limit.store.start_cooldown([charge], 30.0, 60.0)
    assert shop.read_one().closed_by == "the API has throttled"


def test_tasks_that_wait_are_counted(shop):
    shop.limit("5/minute").start().order()
    shop.waiting = {shop.bucket(): 3}
    assert shop.read_one().waiting == 3


def test_a_shadow_limit_is_marked(shop):
    shop.limit("1/minute", shadow=True).start().order(2)
    assert shop.read_one().shadow


def test_a_limit_that_is_a_function_is_reported_by_what_it_returned(shop):
    shop.limit(lambda call: f"{call.account['id']}/minute", key="account.id").start().order()
    shop.order(id=7)
    assert {(found.limit, found.total, found.left) for found in shop.read()} == {
        ("42/minute", 42, 41),
        ("7/minute", 7, 6),
    }


def test_a_manual_limit_is_reported():
    shop = Shop()

    @shop.app.action
    @shop.app.rate_limit("5/minute", name="vendor", manual=True)
    def order(ctx: TaskContext) -> None:
        ctx.limits.acquire("vendor", cost=2)

    shop.start().client.call("order")
    found = shop.read_one()
    assert (found.action, found.owner, found.left) == ("", "name:vendor", 3)


class Hours(RateLimitMonitor):
    asked = 0

    def check_rate_limits(self):
        self.asked += 1
        return {"rate_limited": True, "wait_time": 30.0} if self.asked > 1 else None

    def handle_throttling(self, wait_time):
        return None

    def make_safe_request(self, function, *args, **kwargs):
        return function(*args, **kwargs)


def test_a_monitor_is_reported_by_its_last_answer_and_not_asked():
    monitor = Hours()
    shop = Shop(rate_limit_monitor=monitor).limit().start()
    shop.order()
    found = shop.read_one()
    assert (found.total, found.left, found.opens_in) == (None, None, None)
    shop.order()
    shop.client.clock.advance(10)
    found = shop.read_one()
    assert (found.opens_in, found.closed_by) == (pytest.approx(20.0), "the monitor Hours")
    shop.client.clock.advance(25)
    assert shop.read_one().opens_in is None
    assert monitor.asked == 2


def test_an_unused_limit_is_forgotten_after_a_minute(shop):
    shop.limit("5/second").start().order()
    shop.client.clock.advance(59)
    assert shop.read_one().left == 5
    shop.client.clock.advance(2)
    assert shop.read() == ()
    assert shop.limiter.recent.latest() == []


def test_a_used_limit_and_a_limit_that_tasks_wait_for_are_not_forgotten(shop):
    shop.limit("5/hour").start().order()
    shop.client.clock.advance(600)
    assert shop.read_one().left == 4
    other = Shop().limit("5/second").start()
    other.order()
    other.waiting = {other.bucket(): 1}
    other.client.clock.advance(600)
    assert other.read_one().left == 5


def test_closed_gates_come_first_then_waits_then_the_fullest(shop):
    shop.limit("10/hour", key="account.id").start()
    for account, count in (("idle", 1), ("waited", 2), ("fuller", 5), ("full", 10)):
        shop.order(count, id=account)
        if account == "waited":
            shop.waiting = {shop.bucket(): 1}
    shop.order(id="closed", throttled=30.0)
    keys = ["closed", "waited", "full", "fuller", "idle"]
    expected = [find_account_key(b'{"id": "%s"}' % key.encode()) for key in keys]
    assert [found.account_key for found in shop.read()] == expected


def test_the_rest_of_too_many_keys_is_counted(shop):
    shop.limit("10/hour", key="account.id").start()
    for number in range(203):
        shop.order(id=number)
    shop.order(2, id="used more")
    found, cut = shop.reporter.read({})
    assert (len(found), cut) == (200, 4)
    assert found[0].left == 8


def test_a_closed_gate_is_not_forgotten_for_a_thousand_other_keys(shop):
    shop.limit("10/hour", key="account.id").start().order(id="closed", throttled=600.0)
    for start in (0, 600):
        shop.read()
        for number in range(600):
            shop.order(id=start + number)
    assert shop.read()[0].closed_by


def test_a_store_that_blocks_is_asked_about_the_most_urgent_keys_only(shop, monkeypatch):
    shop.limit("10/hour", key="account.id").start()
    for number in range(203):
        shop.order(id=number)
    shop.order(2, id="used more")
    store = shop.limiter.recent.latest()[0].charge.limit.store
    asked, peek = [], store.peek
    monkeypatch.setattr(type(store), "blocks", True)
    monkeypatch.setattr(store, "peek", lambda charges: asked.extend(charges) or peek(charges))
    found, _ = shop.reporter.read({})
    assert (len(asked), len(found), found[0].left) == (200, 200, 8)

"""The metrics of one process, scraped over HTTP from a provider that works for a real hub."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time

import pytest
from prometheus_client import REGISTRY, Counter
from prometheus_client.core import GaugeMetricFamily
from support.monitored import parse
from support.waiting import TIMEOUT, wait_until

from arbprov import Concurrency, ProviderApp, ProviderResponse, RateLimited
from arbprov.instrumentation import metrics
from arbprov.instrumentation.loop_watch import LoopWatch
from arbprov.instrumentation.metrics import UNKNOWN_ACTION, Metrics
from arbprov.localhub import LocalHub
from arbprov.testing import FaultyHub, faults

POLLS = "arbprov_poll_duration_seconds_count"
SUBMISSIONS = "arbprov_submission_duration_seconds_count"


@pytest.fixture
def app():
    app = ProviderApp("watched", drain_timeout=10)

    @app.action
    def echo(city: str) -> dict:
        return {"city": city}

    @app.action
    def doubt() -> ProviderResponse:
        return ProviderResponse("warning")

    return app


@pytest.fixture
def held(app):
    """An action that waits until the test is over, and the events of that."""
    started, go_on = threading.Event(), threading.Event()

    @app.action(timeout=TIMEOUT)
    def hold():
        started.set()
        go_on.wait(TIMEOUT)

    yield started, go_on
    go_on.set()


# Tasks, polls, results.


def test_tasks_are_counted_by_action_and_status(app, hub, watch):
    pages = watch(app)
    for payload in ({"city": "Paris"}, {"city": "Rome"}, {}):
        hub.call("echo", payload)
    hub.call("doubt")
    assert pages.scrape()["arbprov_tasks_total"] == {
        ("echo", "success"): 2,
        ("echo", "error"): 1,
        ("doubt", "warning"): 1,
    }


def test_all_unknown_actions_share_one_label(app, hub, watch):
    pages = watch(app)
    for number in range(5):
        hub.call(f"secret-{number}")
    samples = pages.scrape()
    assert samples["arbprov_tasks_total"] == {(UNKNOWN_ACTION, "error"): 5}
    assert samples["arbprov_task_duration_seconds_count"] == {(UNKNOWN_ACTION,): 5}


def test_a_task_s_duration_is_in_seconds(app, hub, watch):
    @app.action
    async def nap():
        time.sleep(0.1)  # noqa: ASYNC251 - as a handler that computes

    pages = watch(app)
    hub.call("nap")
    samples = pages.scrape()
    assert 0.1 <= samples["arbprov_task_duration_seconds_sum"]["nap",] < TIMEOUT
    assert samples["arbprov_task_duration_seconds_bucket"]["0.05", "nap"] == 0
    assert samples["arbprov_task_duration_seconds_bucket"]["+Inf", "nap"] == 1


def test_polls_are_counted_by_their_outcome_from_zero_on(app, watch):
    with FaultyHub(hold=0.05) as hub:
        hub.put("doubt")
        pages = watch(app, hub)
        assert pages.value(POLLS, "failed") == 0
        pages.until_value(POLLS, "task", is_so=lambda polls: polls == 1)
        pages.until_value(POLLS, "empty", is_so=lambda polls: polls > 0)
        hub.play(faults.unavailable(1_000))
        pages.until_value(POLLS, "failed", is_so=lambda polls: polls > 0)


def test_the_time_of_a_poll_is_that_of_the_hub(app, watch):
    with LocalHub(hold=0.3) as hub:
        pages = watch(app, hub)
        pages.until_value(POLLS, "empty", is_so=lambda polls: polls > 0)
        samples = pages.scrape()
        assert samples["arbprov_poll_duration_seconds_bucket"]["0.25", "empty"] == 0
        assert samples["arbprov_poll_duration_seconds_sum"]["empty",] >= 0.3


def test_attempts_to_send_a_result_are_counted_by_their_outcome(app, watch):
    with FaultyHub(hold=0.05) as hub:
        hub.play(faults.unavailable(6, on="submit"))
        pages = watch(app, hub)
        hub.call("doubt")
        pages.until_value(SUBMISSIONS, "ok", is_so=lambda sent: sent == 1)
        assert pages.value(SUBMISSIONS, "failed") >= 1


def test_results_that_wait_for_the_hub_are_gauges(app, watch):
    with FaultyHub(hold=0.05) as hub:
        hub.play(faults.unavailable(16, on="submit"))
        pages = watch(app, hub)
        hub.put("doubt")
        hub.put("doubt")
        pages.until_value("arbprov_outbox_results", is_so=lambda results: results == 2)
        assert pages.value("arbprov_outbox_bytes") > 100
        pages.until_value("arbprov_outbox_oldest_seconds", is_so=lambda age: 0.5 < age < TIMEOUT)
        pages.until_value("arbprov_outbox_results", is_so=lambda results: results == 0)


def test_slots_are_free_unless_tasks_run(app, hub, watch, held):
    started, go_on = held
    pages = watch(app)
    hub.put("hold")
    assert started.wait(TIMEOUT)
    pages.until_value("arbprov_tasks_in_flight", is_so=lambda tasks: tasks == 1)
    assert (pages.value("arbprov_slots"), pages.value("arbprov_slots_free")) == (32, 31)
    go_on.set()
    pages.until_value("arbprov_slots_free", is_so=lambda slots: slots == 32)


def test_a_handler_that_outlives_its_timeout_is_stuck(hub, watch):
    app, go_on = ProviderApp("stuck"), threading.Event()

    @app.action(timeout=0.05)
    def hang():
        go_on.wait(TIMEOUT)

    pages = watch(app)
    hub.put("hang")
    pages.until_value("arbprov_stuck_handlers", is_so=lambda handlers: handlers == 1)
    assert pages.value("arbprov_slots_free") == 31
    go_on.set()
    pages.until_value("arbprov_stuck_handlers", is_so=lambda handlers: handlers == 0)


def test_the_time_since_a_poll_grows_while_the_hub_is_away(app, watch):
    with LocalHub(hold=0.05) as hub:
        pages = watch(app, hub)
        pages.until_value("arbprov_hub_connected", is_so=lambda connected: connected == 1)
    pages.until_value("arbprov_hub_connected", is_so=lambda connected: connected == 0)
    pages.until_value("arbprov_since_poll_seconds", is_so=lambda seconds: seconds > 1)


def test_the_time_without_any_poll_counts_from_the_start(app, watch):
    with LocalHub(hold=0.05) as hub:
        hub.stop()
        pages = watch(app, hub)
        pages.until_value("arbprov_since_poll_seconds", is_so=lambda seconds: 0.2 < seconds < 60)
        app.stop()


def test_gauges_of_time_go_on_while_the_event_loop_hangs(app, hub, watch):
    go_on = threading.Event()

    @app.action(timeout=TIMEOUT)
    async def hang():
        go_on.wait(TIMEOUT)

    pages = watch(app)
    pages.until("/readyz", 200)
    hub.put("hang")
    pages.until_value("arbprov_loop_lag_seconds", is_so=lambda lag: lag > 0.3)
    before = pages.value("arbprov_since_poll_seconds")
    pages.until_value("arbprov_since_poll_seconds", is_so=lambda seconds: seconds > before)
    go_on.set()


def test_the_lag_of_the_event_loop_is_the_worst_of_half_a_minute():
    async def main():
        looks, lags = [], []
        watch = LoopWatch(lambda: looks.append(1))
        time.sleep(0.7)  # noqa: ASYNC251 - blocks the loop
        while len(looks) < 3:
            await asyncio.sleep(0.01)
            lags.append(watch.lag)
        watch.close()
        return set(lags)

    (lag,) = asyncio.run(main())
    assert lag >= 0.2


def test_a_page_has_all_that_has_happened_however_many_tasks_there_were(app, hub, watch):
    pages = watch(app)
    tickets = [hub.put("doubt") for _ in range(metrics._BATCH)]
    for ticket in tickets:
        ticket.result(TIMEOUT)
    samples = pages.scrape()
    assert samples["arbprov_tasks_total"]["doubt", "warning"] == metrics._BATCH
    assert samples["arbprov_task_duration_seconds_count"]["doubt",] == metrics._BATCH


def test_a_batch_is_bounded_though_nothing_reads_the_metrics(app):
    told = Metrics(["doubt"], app.test_client().limits)
    for _ in range(metrics._BATCH + 1):
        told.submitted("t1", 0.1, None)
    assert len(told._batch) == 1
    assert f'{SUBMISSIONS}{{outcome="ok"}} {float(metrics._BATCH)}' in told.render().decode()


# Limits.


def test_the_decisions_of_limits_are_counted(hub, watch):
    app = ProviderApp("limited", rate_limit="2/hour")
    app.action("order")(lambda: None)
    app.invoke("order")  # before the run
    pages = watch(app)
    for _ in range(3):
        hub.call("order")
    labels = ("2/hour", "app", "")
    assert pages.value("arbprov_limit_allowed_total", *labels) == 1
    assert pages.value("arbprov_limit_denied_total", *labels) == 2
    assert pages.value("arbprov_limit_headroom", *labels) == 0


def test_a_limit_by_a_key_has_the_path_as_its_label_and_no_headroom(hub, watch):
    app = ProviderApp("limited")

    @app.action
    @app.rate_limit("2/hour", key="account.id")
    def order():
        return None

    pages = watch(app)
    hub.call("order", account={"id": "secret-account"})
    _, _, text = pages.request("/metrics")
    samples = parse(text)
    labels = tuple(sorted(("2/hour", "action:order", "account.id")))
    assert samples["arbprov_limit_allowed_total"] == {labels: 1}
    assert "arbprov_limit_headroom" not in samples
    assert "secret-account" not in text


def test_cooldowns_are_counted_by_key(hub, watch):
    app = ProviderApp("limited")

    @app.action
    @app.rate_limit("100/hour", key="account.id")
    def order():
        raise RateLimited(retry_after=600)

    pages = watch(app)
    labels = ("100/hour", "action:order", "account.id")
    for account in ("a", "b", "b"):
        hub.call("order", account={"id": account})
    assert pages.value("arbprov_limit_cooldowns", *labels) == 2
    assert pages.value("arbprov_limit_gated_total", *labels) == 1


def test_units_that_calls_hold_are_a_gauge(hub, watch):
    app = ProviderApp("limited")
    started, go_on = threading.Event(), threading.Event()

    @app.action(timeout=TIMEOUT)
    @app.rate_limit(Concurrency(3), key="payload.city")
    def hold(city: str):
        started.set()
        go_on.wait(TIMEOUT)

    pages = watch(app)
    ticket = hub.put("hold", {"city": "Paris"})
    assert started.wait(TIMEOUT)
    labels = ("3 at a time", "action:hold", "payload.city")
    assert pages.value("arbprov_limit_held", *labels) == 1
    go_on.set()
    ticket.result(TIMEOUT)
    pages.until_value("arbprov_limit_held", *labels, is_so=lambda units: units == 0)


def test_tasks_that_wait_for_limits_are_a_gauge(hub, watch):
    app = ProviderApp("limited", execution_timeout=TIMEOUT)
    app.action("order")(lambda: None)
    app.rate_limit("1/minute", max_wait=3600)(app.actions()[0].handler)
    pages = watch(app)
    hub.call("order")
    hub.put("order")
    pages.until_value("arbprov_tasks_waiting", is_so=lambda tasks: tasks == 1)


def test_decisions_without_their_store_are_counted(hub, watch):
    app = ProviderApp("limited", rate_limit="9/hour", rate_limit_store="redis://127.0.0.1:1")
    app.action("order")(lambda: None)
    pages = watch(app)
    hub.call("order")
    assert pages.value("arbprov_limit_fallback_total", "9/hour", "app", "") == 1


def test_the_limits_of_two_actions_of_an_app_are_one():
    app = ProviderApp("limited", rate_limit="9/hour")
    app.action("order")(lambda: None)
    app.action("cancel")(lambda: None)
    client = app.test_client()
    client.call("order")
    client.call("cancel")
    assert [usage.headroom for usage in client.limits.usage()] == [7]


# The page.


def test_the_author_s_own_metrics_are_on_the_page(app, watch):
    own = Counter("shop_orders", "Orders.")
    try:
        own.inc(3)
        assert watch(app).value("shop_orders_total") == 3
    finally:
        REGISTRY.unregister(own)


def test_one_process_may_run_several_providers(app, hub, watch):
    other = ProviderApp("other")
    other.action("ask")(lambda: None)
    first, second = watch(app), watch(other)
    assert [pages.value("arbprov_slots") for pages in (first, second)] == [32, 32]


@pytest.mark.deploy
def test_promtool_finds_no_fault(app, hub, watch):
    pages = watch(app)
    hub.call("doubt")
    _, _, text = pages.request("/metrics")
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


# Failures: no task and no stop depends on the metrics.


def test_without_prometheus_client_there_is_health_and_a_hint(app, hub, watch, monkeypatch):
    monkeypatch.setitem(sys.modules, "arbprov.instrumentation.metrics", None)
    pages = watch(app)
    assert pages.until("/readyz", 200) == "ok"
    status, text = pages.ask("/metrics")
    assert (status, "pip install 'arbprov[metrics]'" in text) == (501, True)
    assert hub.call("doubt").status == "warning"


def test_metrics_that_can_not_be_made_are_logged_and_cost_no_task(
    app, hub, watch, monkeypatch, caplog
):
    def fail(*arguments):
        raise OSError("No space left on device")

    monkeypatch.setattr("arbprov.instrumentation.metrics.Metrics", fail)
    pages = watch(app)
    assert hub.call("doubt").status == "warning"
    assert pages.ask("/metrics")[0] == 501
    assert "there are no metrics, since they could not be made" in caplog.messages


def test_metrics_that_raise_cost_no_task_and_are_told_no_more(app, hub, watch, monkeypatch, caplog):
    def fail(self, *arguments):
        raise RuntimeError("broken")

    monkeypatch.setattr(Metrics, "task_ended", fail)
    watch(app)
    assert [hub.call("doubt").status for _ in range(2)] == ["warning"] * 2
    told = [text for text in caplog.messages if "Metrics has failed" in text]
    assert told == ["Metrics has failed, and sees nothing more of this run"]


class Collector:
    """Metrics of the author's, in the registry that prometheus-client has for all."""

    def __init__(self, collect):
        self._collect = collect

    def describe(self):
        return []

    def collect(self):
        return self._collect()


@pytest.fixture
def register():
    """Return a function that registers a collector until the test is over."""
    registered = []

    def register(collect):
        registered.append(Collector(collect))
        REGISTRY.register(registered[-1])

    yield register
    for collector in registered:
        REGISTRY.unregister(collector)


def test_a_collector_that_raises_costs_the_page_and_no_task(app, hub, watch, register):
    def fail():
        raise RuntimeError("broken")

    register(fail)
    pages = watch(app)
    assert pages.ask("/metrics") == (500, "the page could not be made: RuntimeError")
    assert hub.call("doubt").status == "warning"
    assert pages.until("/readyz", 200) == "ok"


def test_a_collector_that_blocks_holds_up_no_task_no_probe_and_no_stop(app, hub, watch, register):
    begun, go_on = threading.Event(), threading.Event()

    def block():
        begun.set()
        go_on.wait(TIMEOUT)
        return [GaugeMetricFamily("slow", "Slow.", value=1)]

    register(block)
    pages = watch(app)
    scraping = threading.Thread(target=lambda: pages.request("/metrics"))
    scraping.start()
    assert begun.wait(TIMEOUT)
    assert hub.call("doubt").status == "warning"
    assert pages.until("/readyz", 200) == "ok"
    app.stop()
    wait_until(lambda: threading.active_count() and not pages_answer(pages))
    go_on.set()
    scraping.join(TIMEOUT)


def pages_answer(pages):
    try:
        pages.ask("/livez")
    except OSError:
        return False
    return True


def test_a_store_of_limits_that_blocks_holds_up_no_task(app, hub, watch, monkeypatch):
    begun, go_on = threading.Event(), threading.Event()

    def block(self):
        begun.set()
        go_on.wait(TIMEOUT)
        return iter(())

    monkeypatch.setattr("arbprov.limits.LimitStats.usage", block)
    pages = watch(app)
    scraping = threading.Thread(target=lambda: pages.request("/metrics"))
    scraping.start()
    assert begun.wait(TIMEOUT)
    assert hub.call("doubt").status == "warning"
    go_on.set()
    scraping.join(TIMEOUT)


def test_without_monitoring_nothing_of_it_is_imported(tmp_path):
    code = """
import sys
from arbprov import ProviderApp
from arbprov.localhub import LocalHub
from arbprov.testing import serving
app = ProviderApp("plain")
app.action("ask")(lambda: None)
with LocalHub(hold=0.05) as hub, serving(app, hub):
    hub.call("ask", timeout=60)
parts = ("metrics", "server", "pages", "health", "totals")
loaded = {"prometheus_client", "http.server", *(f"arbprov.instrumentation.{p}" for p in parts)}
assert not loaded & set(sys.modules), loaded & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=TIMEOUT)

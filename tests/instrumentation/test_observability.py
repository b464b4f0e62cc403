"""The alerts, the dashboard and the table of metrics name what a live provider serves."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.monitored import parse

from arbprov import Concurrency, ProviderApp

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples/observability"
PAGE = (ROOT / "docs/how-to/watch-a-provider.md").read_text()


@pytest.fixture
def page(hub, watch):
    """The page of a provider that has done a task."""
    app = ProviderApp("watched", rate_limit="100/hour")

    @app.action
    @app.rate_limit(Concurrency(3))
    def echo():
        return None

    pages = watch(app)
    hub.call("echo")
    return pages.request("/metrics")[2]


@pytest.fixture
def live(page):
    """The names on the page, without the metrics of Python itself."""
    return {name for name in parse(page) if name.startswith("arbprov_")}


def named(text):
    return set(re.findall(r"\barbprov_\w+", text))


def dashboard():
    return json.loads((FOLDER / "dashboard.json").read_text())


def queries():
    return "\n".join(target["expr"] for p in dashboard()["panels"] for target in p["targets"])


def families(names):
    """Return names without the suffixes of a histogram's series, and without creation times."""
    kept = {name for name in names if not name.endswith("_created")}
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in kept}


def test_each_metric_of_the_alerts_is_in_a_live_scrape(live):
    used = named((FOLDER / "alerts.yml").read_text())
    assert (used - live, len(used) > 8) == (set(), True)


def test_each_metric_of_the_dashboard_is_in_a_live_scrape(live):
    assert named(queries()) - live == set()


def test_the_dashboard_shows_all_metrics(live):
    assert families(live) - families(named(queries())) == set()


def test_the_page_s_table_lists_exactly_the_metrics_of_a_live_scrape(live):
    rows = re.findall(r"^\| `(arbprov_\w+)` \|", PAGE, re.MULTILINE)
    assert sorted(rows) == sorted(families(live))


def test_the_labels_in_the_page_s_table_are_those_of_a_live_scrape(page):
    rows = re.findall(r"^\| `(arbprov_\w+)` \| (.*?) \|", PAGE, re.MULTILINE)
    listed = {name: set(re.findall(r"`(\w+)`", cell.partition(":")[0])) for name, cell in rows}
    found = {name: set() for name in listed}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            for name in families({sample.name}) & found.keys():
                found[name] |= set(sample.labels) - {"le"}
    assert found == listed


def test_the_dashboard_has_a_query_in_each_panel_and_its_ids_are_distinct():
    panels = dashboard()["panels"]
    assert all(panel["targets"] for panel in panels)
    assert len({panel["id"] for panel in panels}) == len(panels)


@pytest.mark.deploy
@pytest.mark.parametrize(("kind", "name"), [("rules", "alerts.yml"), ("config", "prometheus.yml")])
def test_promtool_finds_no_fault_in_the_examples(kind, name):
    checked = subprocess.run(
        ["promtool", "check", kind, name], cwd=FOLDER, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.deploy
def test_promtool_can_parse_each_query_of_the_dashboard(tmp_path):
    rules = [
        {"record": f"query:{number}", "expr": query}
        for number, query in enumerate(re.sub(r"\$__rate_interval", "5m", queries()).splitlines())
    ]
    (tmp_path / "rules.json").write_text(json.dumps({"groups": [{"name": "q", "rules": rules}]}))
    checked = subprocess.run(
        ["promtool", "check", "rules", "rules.json"], cwd=tmp_path, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr

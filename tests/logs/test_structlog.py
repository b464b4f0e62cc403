"""The page's setup of structlog, as a provider that runs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from support.processes import Process
from support.waiting import TIMEOUT

PAGE = Path(__file__).parents[2] / "docs/how-to/log-in-production.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.fixture
def lines(tmp_path, hub):
    """The log of the page's provider after a task."""
    (block,) = [block for block in BLOCKS if "import structlog" in block]
    (tmp_path / "shop.py").write_text(block)
    environ = {"HUB_GRPC_URL": hub.address, "PROVIDER_AUTH_TOKEN": hub.token}
    process = Process(["-m", "arbprov", "run", "shop"], tmp_path, **environ)
    hub.call("order", {"item": "tea"}, id="t1", timeout=TIMEOUT)
    process.stop()
    return [json.loads(line) for line in process.log.splitlines()]


def test_structlog_s_events_and_records_of_logging_have_the_task(lines):
    found = {line["event"]: line for line in lines if line["logger"] in {"shop", "vendor"}}
    assert {event: (line["task_id"], line["action"]) for event, line in found.items()} == {
        "ordering": ("t1", "order"),
        "tea is in stock": ("t1", "order"),
    }
    assert found["ordering"]["item"] == "tea"


def test_arbprov_s_records_come_through_structlog_alone(lines):
    own = [line for line in lines if line["logger"] == "arbprov"]
    assert "task 't1' of action 'order': success" in {line["event"] for line in own}
    assert all({"event", "level", "timestamp"} <= set(line) for line in lines)

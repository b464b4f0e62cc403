"""What the commands that run a hub print at its start."""

from __future__ import annotations

import pytest

from arbprov.cli import hub_summary
from arbprov.cli.hub_summary import describe_hub
from arbprov.localhub import LocalHub


@pytest.mark.parametrize(
    ("options", "lines"),
    [
        ({}, ["It keeps its tasks in memory, until it ends."]),
        (
            {"http": "127.0.0.1:50080", "store": "postgresql://hub:secret@db/tasks"},
            [
                "Its page: http://127.0.0.1:50080/tasks",
                "It keeps its tasks in postgresql://db/tasks.",
            ],
        ),
        ({"store": "sqlite:/srv/hub"}, ["It keeps its tasks in /srv/hub."]),
        ({"store": "sqlite:~/hub.sqlite"}, ["It keeps its tasks in ~/hub.sqlite."]),
    ],
)
def test_a_hub_says_where_it_is_and_what_it_keeps(options, lines):
    hub = LocalHub("127.0.0.1:50051", **options)
    first = "The hub listens on 127.0.0.1:50051; Ctrl-C ends it."
    assert describe_hub(hub, "/tasks") == [first, *lines]


def test_without_the_extra_a_hub_says_how_to_get_the_rest(monkeypatch):
    monkeypatch.setattr(hub_summary, "has_http_extra", lambda: False)
    hint = "For its page and `arbprov tasks`: pip install 'arbprov[hub]'"
    assert describe_hub(LocalHub())[1] == hint

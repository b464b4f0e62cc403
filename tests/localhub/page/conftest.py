"""A hub's page without a network."""

from __future__ import annotations

import pytest
from support.api_hubs import running_api


@pytest.fixture
def api():
    with running_api() as api:
        yield api

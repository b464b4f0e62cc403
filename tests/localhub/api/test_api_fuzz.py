"""Requests that schemathesis makes up from the OpenAPI document: none is answered with 500."""

from __future__ import annotations

import contextlib
import json
from unittest.mock import Mock

import pytest
import schemathesis
from hypothesis import settings
from schemathesis.specs.openapi.checks import positive_data_acceptance
from support.api_hubs import ADMIN, running_api

from arbprov.localhub.api.openapi import describe
from arbprov.localhub.api.operations import list_operations

# A schema cannot say what a cursor is, or that a time lies before the year 5138.
EXCLUDED = [positive_data_acceptance]
HEADERS = {"Authorization": f"Bearer {ADMIN}", "Host": "127.0.0.1"}


# The application of the hub that runs while the module's tests do.
running = []


async def app(scope, receive, send):
    await running[0].bridged(scope, receive, send)


@pytest.fixture(scope="module", autouse=True)
def _running_api():
    with running_api() as api:
        running.append(api)
        yield
        running.clear()


document = json.loads(json.dumps(describe(list_operations(Mock()))))
schema = schemathesis.openapi.from_dict(document)
schema.app = app


def check(case):
    if case.path.endswith("/wait"):
        case.query = {**(case.query or {}), "timeout": 0}
    # A stream of events ends when the hub stops.
    streams = case.path.endswith("/events")
    with stopping() if streams else contextlib.nullcontext():
        case.call_and_validate(headers=HEADERS, excluded_checks=EXCLUDED)


@contextlib.contextmanager
def stopping():
    loop, event = running[0].loop, running[0].hub.stopping
    loop.call_soon_threadsafe(event.set)
    try:
        yield
    finally:
        loop.call_soon_threadsafe(event.clear)


@pytest.mark.slow
@schema.parametrize()
@settings(max_examples=15)
def test_no_request_is_answered_with_a_server_error(case):
    check(case)


@pytest.mark.long
@schema.parametrize()
@settings(max_examples=300)
def test_no_request_of_many_is_answered_with_a_server_error(case):
    check(case)

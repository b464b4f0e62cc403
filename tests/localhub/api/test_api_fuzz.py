"""Requests that schemathesis makes up from the OpenAPI document: none is answered with 500."""

from __future__ import annotations

import contextlib
import json
from unittest.mock import Mock

import pytest
import schemathesis
from hypothesis import given, settings
from schemathesis import GenerationMode
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
    if "{id}" in case.path and case.meta.generation.mode is GenerationMode.POSITIVE:
        case.path_parameters["id"] = make_task(has_ended=case.path.endswith("/retry"))
    # A stream of events ends when the hub stops.
    streams = case.path.endswith("/events")
    with stopping() if streams else contextlib.nullcontext():
        case.call_and_validate(headers=HEADERS, excluded_checks=EXCLUDED)


def make_task(*, has_ended):
    (api,) = running
    name = api.submit("report")
    if has_ended:
        api.ask("POST", f"/api/v1/tasks/{name}/cancel")
    return name


@contextlib.contextmanager
def stopping():
    loop, event = running[0].loop, running[0].hub.stopping
    loop.call_soon_threadsafe(event.set)
    try:
        yield
    finally:
        loop.call_soon_threadsafe(event.clear)


# By pytest's own parameters, since pytest-xdist runs only one of several tests with one name.
each_operation = pytest.mark.parametrize(
    ("method", "path"),
    [
        (method.upper(), path)
        for path, operations in document["paths"].items()
        for method in operations
    ],
)
each_mode = pytest.mark.parametrize("mode", [*GenerationMode], ids=lambda mode: mode.value)


def fuzz(method, path, mode, max_examples):
    operation = schema[path][method]
    if mode is GenerationMode.NEGATIVE and not takes_anything(operation):
        return

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(max_examples=max_examples)
    def ask(case):
        check(case)

    ask()


def takes_anything(operation):
    definition = document["paths"][operation.path][operation.method]
    return "parameters" in definition or "requestBody" in definition


@pytest.mark.slow
@each_operation
@each_mode
def test_no_request_is_answered_with_a_server_error(method, path, mode):
    fuzz(method, path, mode, max_examples=25)


@pytest.mark.long
@each_operation
@each_mode
def test_no_request_of_many_is_answered_with_a_server_error(method, path, mode):
    fuzz(method, path, mode, max_examples=500)

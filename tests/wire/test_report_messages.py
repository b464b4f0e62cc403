"""Reports as JSON, and `/arbprov.Providers/Report` over real gRPC."""

from __future__ import annotations

import asyncio
import json

import attrs
import grpc
import pytest
from support.leasing_hub import LeasingHub
from support.waiting import TIMEOUT

from arbprov import HubConnectionError
from arbprov.wire.reports import (
    MAX_SIZE,
    ActionReport,
    LimitReport,
    ProviderReport,
    decode_report_answer,
    encode_report,
    write_actions,
    write_report,
)

REPORT = (("arbprov-report", "5"),)
LIMIT = LimitReport(action="forecast", limit="5/minute", key="ab12", total=5, left=0, waiting=0)


def read_actions(actions):
    return {name: json.loads(raw) for name, raw in write_actions(actions).items()}


def read(report, actions=()):
    return json.loads(write_report(report, write_actions(actions) if actions else {}))


def process(**fields):
    return ProviderReport(provider="weather", process="1", **fields)


# The parts of a report.


def test_a_report_has_the_limits_and_what_is_left_of_them():
    found = read(process(version="1.2", slots=8, free_slots=3, limits=(LIMIT,)))
    assert found == {
        "process": "1",
        "version": "1.2",
        "slots": 8,
        "free_slots": 3,
        "limits": [
            {"action": "forecast", "limit": "5/minute", "key": "ab12", "total": 5, "left": 0}
        ],
        "limits_cut": 0,
    }


def test_a_report_has_the_actions_if_it_gets_them():
    action = ActionReport(name="forecast", account_schema={}, limits=("5/minute",))
    found = read(process(), [action])
    assert found["actions"] == [{"name": "forecast", "account_schema": {}, "limits": ["5/minute"]}]
    assert (found["actions_cut"], found["schemas_cut"]) == (0, 0)


def test_limits_beyond_200_are_left_out_and_counted():
    found = read(process(limits=(LIMIT,) * 203, limits_cut=5))
    assert (len(found["limits"]), found["limits_cut"]) == (200, 8)


def test_limits_beyond_56_kib_are_left_out_and_counted():
    long = attrs.evolve(LIMIT, closed_by="x" * 1_000)
    found = read(process(limits=(long,) * 100))
    assert len(found["limits"]) + found["limits_cut"] == 100
    assert 50 < len(found["limits"]) < 57


def test_schemas_beyond_a_mebibyte_are_left_out_and_counted():
    schema = {"description": "x" * 300_000}
    actions = [ActionReport(name=f"a{n}", payload_schema=schema) for n in range(5)]
    found = read_actions(actions)
    assert [len(action) for action in found["actions"]] == [2, 2, 2, 1, 1]
    assert (found["actions_cut"], found["schemas_cut"]) == (0, 2)


def test_actions_beyond_a_thousand_are_left_out_and_counted():
    found = read_actions(ActionReport(name=f"a{n}") for n in range(1_003))
    assert (len(found["actions"]), found["actions_cut"], found["schemas_cut"]) == (1_000, 3, 0)


def test_the_largest_report_is_not_larger_than_a_hub_takes():
    text = "x" * 1_000
    actions = [ActionReport(name=text, description=text, limits=(text,) * 50)] * 1_000
    report = attrs.evolve(process(version=text, limits=(LIMIT,) * 200), process=text)
    body = encode_report("t" * 1_000, text, write_report(report, write_actions(actions)))
    assert 1_000_000 < len(body) < MAX_SIZE


@pytest.mark.parametrize("schema", [{"maximum": float("inf")}, {"default": object()}])
def test_a_schema_that_json_cannot_carry_is_left_out(schema):
    found = read_actions([ActionReport(name="forecast", payload_schema=schema)])
    assert (found["actions"], found["schemas_cut"]) == ([{"name": "forecast"}], 1)


@pytest.mark.parametrize("answer", [b"[]", b"\xff", b'{"wants_actions": 1}'])
def test_what_is_not_an_answer_to_a_report_is_refused(answer):
    with pytest.raises(ValueError, match=r"."):
        decode_report_answer(answer)


# Over gRPC.


def asked(hub, main, **options):
    async def run():
        async with hub.running(**options) as client:
            return await asyncio.wait_for(main(client), TIMEOUT)

    return asyncio.run(run())


async def report(client):
    await client.fetch()
    return await client.report(b'{"process":"1"}')


def intervals_after(*answers):
    hub = LeasingHub()

    async def main(client):
        found = []
        for hub.always, hub.refusals in answers:
            await client.fetch()
            found.append(client.report_interval)
        return found

    return asked(hub, main)


def test_the_last_answer_of_the_hub_has_the_interval():
    answers = [((), {}), (REPORT, {}), ((("arbprov-report", "0.01"),), {}), ((), {})]
    assert intervals_after(*answers) == [0.0, 5.0, 0.1, 0.0]


def test_a_status_in_place_of_a_task_can_bring_the_interval_and_does_not_end_it():
    refusals = {"GetTask": grpc.StatusCode.NOT_FOUND}
    assert intervals_after((REPORT, refusals), ((), refusals)) == [5.0, 5.0]


def test_polls_tell_that_this_process_reports_once_the_hub_has_asked_for_it():
    hub = LeasingHub(REPORT)

    async def main(client):
        await client.fetch()
        await client.fetch()
        hub.always = (("arbprov-renew", "20"), *REPORT)
        await client.fetch()
        await client.fetch()
        hub.always = ()
        await client.fetch()
        await client.fetch()

    asked(hub, main)
    reports, both = {"arbprov-reports": "1"}, {"arbprov-renews": "1", "arbprov-reports": "1"}
    assert hub.polled_with == [{}, reports, reports, both, both, {}]


def test_a_report_has_the_token_and_the_provider():
    hub = LeasingHub(REPORT)
    assert asked(hub, report) is False
    assert hub.reported == [{"token": "sample-token", "provider": "weather", "process": "1"}]


def test_the_answer_may_ask_for_the_actions():
    assert asked(LeasingHub(REPORT, reports=[b'{"wants_actions": true}']), report) is True


def test_another_answer_is_a_connection_error():
    with pytest.raises(HubConnectionError, match="sent an answer that is not one to a report"):
        asked(LeasingHub(REPORT, reports=[b"[]"]), report)


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED])
def test_a_report_that_fails_is_a_connection_error_after_one_call(code):
    hub = LeasingHub(REPORT, refusals={"Report": code})

    async def main(client):
        with pytest.raises(HubConnectionError, match=f"{code.name}, because of the test"):
            await report(client)
        return client._healthy

    assert asked(hub, main)
    assert len(hub.reported) == 1


def test_a_hub_without_the_method_is_a_connection_error():
    with pytest.raises(HubConnectionError, match="UNIMPLEMENTED"):
        asked(LeasingHub(REPORT, takes_reports=False), report)

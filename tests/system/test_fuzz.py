"""Random tasks and handlers: no crash, and one result for each task."""

from __future__ import annotations

import logging

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.fuzzing import Listener, check, check_result, run_worker
from support.odd_results import ACTS, act_task, make_actor
from support.odd_tasks import ANSWERS, make_app

from arbprov._proto import hub_pb2
from arbprov.wire.messages import encode_result

AT_ONCE = 5
MANY = settings(
    max_examples=10_000, derandomize=False, suppress_health_check=list(HealthCheck), deadline=None
)
ANSWER_LISTS = st.lists(ANSWERS, min_size=AT_ONCE, max_size=AT_ONCE)
ACT_LISTS = st.lists(ACTS, min_size=AT_ONCE, max_size=AT_ONCE)
APP = make_app()


LISTENER = Listener()


@pytest.fixture(scope="module", autouse=True)
def _log():
    """Check the whole log, and keep it from pytest, which would store it."""
    logger = logging.getLogger("arbprov")
    logger.addHandler(LISTENER)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    yield
    logger.propagate = True
    logger.setLevel(logging.NOTSET)
    logger.removeHandler(LISTENER)


def take(answers):
    check(answers, run_worker(APP, answers))
    assert LISTENER.leaks == []


def act(acts):
    answers = [act_task(number) for number in range(len(acts))]
    check(answers, run_worker(make_actor(acts), answers))
    act_plainly(acts)
    assert LISTENER.leaks == []


def act_plainly(acts):
    client = make_actor(acts).test_client()
    for number in range(len(acts)):
        task = hub_pb2.Task.FromString(act_task(number))
        result = client.call("plain", task.payload, account=task.account, id=task.id)
        sent = hub_pb2.TaskResult.FromString(encode_result(result, "fuzz"))
        task.action = "plain"
        check_result(task, sent)


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.too_slow])
@given(ANSWER_LISTS)
def test_whatever_the_hub_sends_each_task_has_one_result(answers):
    take(answers)


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.too_slow])
@given(ACT_LISTS)
def test_whatever_a_handler_does_its_task_has_one_result(acts):
    act(acts)


@pytest.mark.long
@pytest.mark.fuzz
@MANY
@given(ANSWER_LISTS)
def test_each_of_fifty_thousand_random_answers_has_one_result(answers):
    take(answers)


@pytest.mark.long
@pytest.mark.fuzz
@MANY
@given(ACT_LISTS)
def test_each_of_fifty_thousand_random_handlers_has_one_result(acts):
    act(acts)

"""Class-based providers: registration, limits, settings, errors and the log."""

from __future__ import annotations

import ast
import functools
import logging
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import pytest
from pydantic import BaseModel
from support.processes import Process
from support.waiting import TIMEOUT

import arbprov
from arbprov import (
    ConfigurationError,
    ProviderResponse,
    RateLimited,
    RateLimitMonitor,
    TimeBasedRateLimitMonitor,
    compat,
)
from arbprov.compat import Provider
from arbprov.testing import serving

SOURCE = Path(compat.__file__)
VARIABLES = ("PROVIDER_AUTH_TOKEN", "HUB_GRPC_URL", "TASK_EXECUTION_TIMEOUT", "PROVIDER_TIMEZONE")


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for variable in (*VARIABLES, "ARBPROV_CONCURRENCY"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def provider():
    return Provider("sample", "sample-token", timezone="Europe/Madrid")


def call(provider, handler, payload=None, account=None, **registration):
    provider.actions.register("it", "Do it", **registration)(handler)
    return provider.app.test_client().call("it", payload, account=account)


# The module


def test_the_module_has_less_than_160_lines_of_code():
    tree = ast.parse(SOURCE.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            node
        ):
            node.body[0] = ast.Pass()
    assert len(ast.unparse(tree).splitlines()) < 160


def test_the_module_stands_on_public_names_only():
    nodes = list(ast.walk(ast.parse(SOURCE.read_text())))
    taken = [n for n in nodes if isinstance(n, ast.ImportFrom) and n.module.startswith("arbprov")]
    assert {node.module for node in taken} == {"arbprov"}
    assert {alias.name for node in taken for alias in node.names} <= set(arbprov.__all__)
    plain = [alias.name for n in nodes if isinstance(n, ast.Import) for alias in n.names]
    assert not [name for name in plain if name.startswith("arbprov")]


def test_the_module_uses_no_private_attribute_but_its_own():
    tree = ast.parse(SOURCE.read_text())
    private = {
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and node.attr[1] != "_"
    }
    assert {name.partition(".")[0] for name in private} == {"self"}


def test_no_module_but_the_command_line_knows_of_it():
    package = SOURCE.parent
    knowing = {
        path.relative_to(package).parts[0]
        for path in package.rglob("*.py")
        if "arbprov.compat" in path.read_text()
    }
    assert knowing == {"cli"}


@pytest.mark.parametrize("name", compat.__all__)
def test_a_name_of_the_guide_is_there(name):
    assert hasattr(compat, name)


def test_the_errors_are_those_of_arbprov():
    assert compat.ConnectionError is arbprov.HubConnectionError
    assert compat.AuthenticationError is arbprov.AuthenticationError


# Handlers


def test_a_handler_takes_fields_as_arguments(provider):
    schema = {"a": int, "b": str}
    result = call(provider, lambda b, a: [a, b], {"a": 1, "b": "c"}, payload_schema=schema)
    assert result.data == [1, "c"]


def test_a_parameter_that_is_not_a_field_of_the_schema_is_reported_at_once(provider):
    provider.actions.register("it", "Do it", {"a": int})(lambda a, b: None)
    with pytest.raises(ConfigurationError, match="no payload could fill 'b'"):
        _ = provider.app


def test_fields_need_no_schema(provider):
    assert call(provider, lambda a, b=2: [a, b], {"a": "x"}).data == ["x", 2]


def test_a_field_that_is_missing_is_a_problem_without_a_schema_too(provider):
    assert call(provider, lambda a: a, {}).problems[0]["path"] == "a"


def test_a_handler_takes_what_it_names(provider):
    def it(payload, account, provider, timezone, now, now_utc):
        return [payload, account, provider, timezone, now, now_utc]

    assert call(provider, it, {"a": 1}, {"id": 2}).data == [
        {"a": 1},
        {"id": 2},
        {"name": "sample", "token": "sample-token"},
        "Europe/Madrid",
        "2026-01-01T01:00:00+01:00",
        "2026-01-01T00:00:00+00:00",
    ]


def test_a_handler_may_take_nothing(provider):
    assert call(provider, lambda: "pong", {"a": 1}).data == "pong"


def test_a_handler_with_kwargs_takes_all(provider):
    result = call(provider, lambda **kwargs: sorted(kwargs), {"a": 1}, payload_schema={"a": int})
    others = ["account", "logger", "now", "now_utc", "payload", "provider", "timezone"]
    assert result.data == ["a", *others]


def test_kwargs_have_what_the_handler_does_not_name(provider):
    def it(payload, now, **kwargs):
        return [payload, now[:4], sorted(kwargs)]

    others = ["account", "logger", "now_utc", "provider", "timezone"]
    assert call(provider, it, {"a": 1}).data == [{"a": 1}, "2026", ["a", *others]]


def test_no_field_stands_for_what_is_offered_to_kwargs(provider):
    result = call(provider, lambda **kwargs: kwargs["provider"], {"provider": "forged"})
    assert result.data["name"] == "sample"


def test_a_field_of_the_schema_goes_before_what_is_offered(provider):
    schema = {"timezone": str}
    result = call(provider, lambda timezone: timezone, {"timezone": "x"}, payload_schema=schema)
    assert result.data == "x"


def test_a_handler_that_takes_the_payload_takes_what_is_offered_beside_it(provider):
    def it(payload, timezone):
        return [payload["timezone"], timezone]

    result = call(provider, it, {"timezone": "x"}, payload_schema={"timezone": str})
    assert result.data == ["x", "Europe/Madrid"]


def test_annotations_are_not_looked_at(provider):
    def it(a: NotDefinedAnywhere) -> NorThis:  # noqa: F821
        return a

    assert call(provider, it, {"a": "5"}, payload_schema={"a": str}).data == "5"


def test_a_handler_may_be_a_coroutine_function(provider):
    async def it(a, now):
        return [a, now[:4]]

    assert call(provider, it, {"a": 1}).data == [1, "2026"]


class Callable:
    def __call__(self, a, *rest):
        return {"a": a, "rest": list(rest)}


@pytest.mark.parametrize(
    "handler",
    [Callable(), Callable().__call__, functools.partial(Callable().__call__)],
    ids=["object", "method", "partial"],
)
def test_a_handler_may_be_any_callable(provider, handler):
    assert call(provider, handler, {"a": 1}).data == {"a": 1, "rest": []}


def test_the_decorator_returns_the_function_as_it_is(provider):
    def it(a):
        return a

    assert provider.actions.register("it", "Do it")(it) is it


def test_an_error_of_a_handler_names_the_handler_itself(provider):
    def badly_made(a):
        return a

    provider.actions.register("it", "Do it", {"b": int})(badly_made)
    with pytest.raises(ConfigurationError, match=r"badly_made \(.*test_compat.py:\d+\)"):
        _ = provider.app


class Payload(BaseModel):
    text: str
    times: int = 2


class Account(BaseModel):
    api_key: str


def test_pydantic_models_are_schemas(provider):
    def it(payload: Payload, account: Account):
        return [payload.text * payload.times, account.api_key]

    models = {"payload_schema": Payload, "account_schema": Account}
    assert call(provider, it, {"text": "a"}, {"api_key": "k"}, **models).data == ["aa", "k"]


def test_pydantic_models_refuse_with_paths(provider):
    models = {"payload_schema": Payload, "account_schema": Account}
    result = call(provider, lambda payload: 1, {"times": "2"}, {}, **models)
    assert [one["path"] for one in result.problems] == ["account.api_key", "text", "times"]


def test_an_account_s_schema_holds_although_the_handler_does_not_take_it(provider):
    result = call(provider, lambda: 1, {}, {}, account_schema={"id": int})
    assert [one["path"] for one in result.problems] == ["account.id"]


# Registration


class Parent(Provider):
    def __init__(self):
        super().__init__("family", "sample-token")
        self.word = "parent"
        self.actions.register("say", "Say it", {})(lambda: self.word)
        self.actions.register("shout", "Shout it", {})(lambda: self.word.upper())


class Child(Parent):
    def __init__(self):
        super().__init__()
        self.word = "child"
        self.actions.register("shout", "Shout it", {})(lambda: self.word + "!")


def test_a_subclass_takes_its_parent_s_actions_and_replaces_some():
    found = [Child().process_task(name, {})["data"]["response"] for name in ("say", "shout")]
    assert found == ["child", "child!"]


def test_a_description_is_kept_and_else_comes_from_the_docstring(provider):
    def documented():
        """Say it here."""

    provider.actions.register("one", "As given")(documented)
    provider.actions.register(name="two")(documented)
    assert [action.description for action in provider.app.actions()] == ["As given", "Say it here."]


def test_nothing_is_registered_once_the_app_is_made(provider):
    _ = provider.app
    with pytest.raises(ConfigurationError, match="'it': too late"):
        provider.actions.register("it", "Do it")(lambda: 1)


# Limits


def statuses(provider, *actions):
    client = provider.app.test_client()
    return [client.call(action).status.value for action in actions]


@pytest.fixture
def two(provider):
    provider.actions.register("a", "A")(lambda: 1)
    provider.actions.register("b", "B")(lambda: 1)
    return provider


def test_an_action_is_limited_by_name(two):
    two.actions.set_rate_limit("a", min_delay=5)
    assert statuses(two, "a", "a", "b", "b") == ["success", "limit", "success", "success"]


def test_a_limit_lasts_as_long_as_it_says(two):
    two.actions.set_rate_limit("a", 5)
    client = two.app.test_client()
    client.call("a")
    assert client.call("a").wait_time == 5


def test_a_limit_that_is_set_replaces_the_action_s_own(provider):
    monitor = TimeBasedRateLimitMonitor(3600)
    provider.actions.register("a", "A", rate_limit_monitor=monitor)(lambda: 1)
    provider.actions.set_rate_limit("a", min_delay=1)
    client = provider.app.test_client()
    client.call("a")
    assert client.call("a").wait_time == 1


class Closed(RateLimitMonitor):
    def check_rate_limits(self):
        return {"rate_limited": True, "wait_time": 7}


def test_an_action_is_limited_by_a_custom_monitor(two):
    two.actions.set_custom_rate_limit("b", Closed())
    assert statuses(two, "a", "b") == ["success", "limit"]


def test_the_default_limit_is_for_what_is_registered_later_without_a_limit(two):
    two.actions.set_default_rate_limit(min_delay=5)
    two.actions.register("c", "C")(lambda: 1)
    two.actions.register("d", "D")(lambda: 1)
    own = TimeBasedRateLimitMonitor(1)
    two.actions.register("e", "E", rate_limit_monitor=own)(lambda: 1)
    found = statuses(two, "a", "a", "c", "d", "e")
    assert found == ["success", "success", "success", "limit", "success"]


def test_an_action_that_is_not_there_can_t_be_limited(two):
    with pytest.raises(ConfigurationError, match="no action 'c' to limit"):
        two.actions.set_rate_limit("c")


def test_no_limit_changes_once_the_app_is_made(two):
    _ = two.app
    with pytest.raises(ConfigurationError, match="'a': too late"):
        two.actions.set_rate_limit("a")


def test_a_provider_s_monitor_may_be_assigned_later(two):
    two.rate_limit_monitor = Closed()
    assert statuses(two, "a", "b") == ["limit", "limit"]


def test_a_provider_s_monitor_and_an_action_s_are_one_decision(two):
    two.rate_limit_monitor = TimeBasedRateLimitMonitor(5)
    two.actions.set_custom_rate_limit("b", Closed())
    assert statuses(two, "b", "a", "a") == ["limit", "success", "limit"]


# Settings


def test_what_is_left_out_comes_from_the_environment(monkeypatch):
    for variable, value in zip(VARIABLES, ("token", "hub:1", "7", "Europe/Paris"), strict=True):
        monkeypatch.setenv(variable, value)
    config = Provider("sample").app.config
    found = (config.auth_token, config.hub_url, config.execution_timeout, config.timezone)
    assert found == ("token", "hub:1", 7.0, "Europe/Paris")


def test_what_is_given_goes_before_the_environment(monkeypatch):
    for variable, value in zip(VARIABLES, ("token", "hub:1", "7", "Europe/Paris"), strict=True):
        monkeypatch.setenv(variable, value)
    config = Provider("sample", "own", "hub:2", 3, timezone="Europe/Rome").app.config
    found = (config.auth_token, config.hub_url, config.execution_timeout, config.timezone)
    assert found == ("own", "hub:2", 3.0, "Europe/Rome")


def test_the_defaults_are_the_guide_s():
    config = Provider("sample", "token").app.config
    found = (config.hub_url, config.execution_timeout, config.timezone)
    assert found == ("hub-grpc:50051", 1.0, "UTC")


def test_handlers_run_one_at_a_time(provider):
    assert provider.app.config.concurrency == 1


def test_the_environment_lets_handlers_run_side_by_side(provider, monkeypatch):
    monkeypatch.setenv("ARBPROV_CONCURRENCY", "8")
    assert provider.app.config.concurrency == 8


@pytest.mark.parametrize("token", [None, ""])
def test_a_token_is_needed_to_start_and_not_before(token):
    provider = Provider("sample", token)
    provider.actions.register("it", "Do it")(lambda: 1)
    assert provider.process_task("it", {})["status"] == "success"
    with pytest.raises(ConfigurationError, match="the hub's token is missing"):
        provider.start()


def test_an_invalid_setting_is_named():
    with pytest.raises(ConfigurationError, match="execution_timeout= -1"):
        _ = Provider("sample", "token", execution_timeout=-1).app


def test_the_app_is_made_once_for_several_threads():
    made, begun, release = [], threading.Event(), threading.Event()

    class Slow(Provider):
        def _make_app(self):
            made.append(1)
            begun.set()
            release.wait(TIMEOUT)
            return super()._make_app()

    provider = Slow("slow", "sample-token")
    with ThreadPoolExecutor(2) as pool:
        apps = [pool.submit(lambda: provider.app) for _ in range(2)]
        assert begun.wait(TIMEOUT)
        release.set()
    assert apps[0].result() is apps[1].result()
    assert len(made) == 1


# Tasks without a hub


def test_process_task_returns_the_envelope_of_now(provider):
    provider.actions.register("it", "Do it", {"a": int})(lambda a: {"a": a})
    before = time.time()
    envelope = provider.process_task("it", {"a": 1})
    assert list(envelope) == ["status", "message", "data"]
    assert envelope["data"]["response"] == {"a": 1}
    now = datetime.fromisoformat(envelope["data"]["now"]).timestamp()
    assert -1 < now - before < 10


def test_process_task_takes_the_account(provider):
    provider.actions.register("it", "Do it")(lambda account: sorted(account))
    assert provider.process_task("it", {}, {"b": 1, "a": 2})["data"]["response"] == ["a", "b"]


def test_process_task_refuses_what_does_not_fit(provider):
    provider.actions.register("it", "Do it", {"a": int})(lambda a: a)
    assert provider.process_task("it", {"a": "1"})["data"]["response"]["problems"]


def test_process_task_keeps_to_the_limits(provider):
    provider.actions.register("it", "Do it")(lambda: 1)
    provider.actions.set_rate_limit("it", 3600)
    assert [provider.process_task("it", {})["status"] for _ in range(2)] == ["success", "limit"]


def test_process_task_can_t_be_overridden_in_silence():
    class Wrapping(Provider):
        def process_task(self, action, payload, account=None):
            return super().process_task(action, payload, account)

    with pytest.raises(ConfigurationError, match=r"Wrapping\.process_task: .*before_task"):
        Wrapping("sample", "token").start()


# Exceptions


class Mending(Provider):
    """Answers for some exceptions; its actions raise them."""

    def __init__(self):
        super().__init__("mending", "sample-token")
        self.seen = []
        self.actions.register("fail", "Fail", {"kind": str})(self.fail)
        self.actions.register("fail_later", "Fail", {"kind": str})(self.fail_later)

    def fail(self, kind):
        errors = {"key": KeyError, "os": OSError, "value": ValueError, "index": IndexError}
        errors["end"] = EOFError
        raise RateLimited(9) if kind == "limit" else errors[kind]("on purpose")

    async def fail_later(self, kind):
        self.fail(kind)

    def handle_task_exception(self, e, action, payload, account):
        self.seen.append((type(e), action, payload, account))
        if isinstance(e, OSError):
            return {"status": "warning", "message": "Not today", "data": {"kind": "os"}}
        if isinstance(e, ValueError):
            response = ProviderResponse(status="error", message=f"No: {e}")
            return self._handle_response(response, action=action)
        if isinstance(e, IndexError):
            return {"made": "badly"}
        if isinstance(e, EOFError):
            return None
        return super().handle_task_exception(e, action, payload, account)


@pytest.fixture(params=["fail", "fail_later"])
def handled(request):
    provider = Mending()
    client = provider.app.test_client()

    def answer(kind, account=None):
        return client.call(request.param, {"kind": kind}, account=account), provider.seen

    return answer


def test_an_exception_comes_with_its_task(handled):
    (kind, action, payload, account), *_ = handled("os", {"id": 1})[1]
    assert (kind, payload, account) == (OSError, {"kind": "os"}, {"id": 1})
    assert action.startswith("fail")


def test_a_dict_stands_for_a_response(handled):
    result, _ = handled("os")
    assert (result.status, result.message, result.data) == ("warning", "Not today", {"kind": "os"})


def test_a_response_may_be_wrapped_as_it_used_to_be(handled):
    result, _ = handled("value")
    assert (result.status, result.message) == ("error", "No: on purpose")


@pytest.mark.parametrize(("kind", "returned"), [("index", "{'made': 'badly'}"), ("end", "None")])
def test_an_answer_that_is_not_a_response_is_an_error_that_names_the_override(
    handled, kind, returned
):
    result, _ = handled(kind)
    assert (result.status, result.data["type"]) == ("error", "TypeError")
    assert "Mending.handle_task_exception must return a ProviderResponse" in result.message
    assert result.message.endswith(f"not {returned}")


def test_a_handler_s_error_is_logged_although_the_override_returns_no_response(handled, caplog):
    handled("end")
    (record,) = [one for one in caplog.records if "Traceback" in one.getMessage()]
    assert "EOFError: on purpose" in record.getMessage()
    assert "TypeError: Mending.handle_task_exception" in record.getMessage()


def test_what_is_left_to_the_base_is_an_error_as_if_nothing_were_overridden(handled):
    result, _ = handled("key")
    assert result.data == {"error": "KeyError: 'on purpose'", "type": "KeyError"}


def test_what_is_left_to_the_base_is_logged_with_its_traceback(handled, caplog):
    handled("key")
    (record,) = [one for one in caplog.records if "Traceback" in one.getMessage()]
    assert "in fail" in record.getMessage()


def test_arbprov_s_own_errors_are_not_for_the_override(handled):
    result, seen = handled("limit")
    assert (result.status, result.wait_time, seen) == ("limit", 9, [])


def test_a_payload_that_does_not_fit_is_not_for_the_override():
    provider = Mending()
    assert provider.app.test_client().call("fail", {"kind": 1}).problems
    assert provider.seen == []


def test_without_an_override_nothing_stands_between(provider):
    result = call(provider, lambda: 1 / 0)
    assert result.data == {"error": "division by zero", "type": "ZeroDivisionError"}


# The log


@pytest.fixture
def log():
    log = logging.getLogger("arbprov")
    before, level = list(log.handlers), log.level
    log.setLevel(logging.NOTSET)
    yield log
    log.setLevel(level)
    for handler in set(log.handlers) - set(before):
        log.removeHandler(handler)
        handler.close()


def test_the_logger_takes_context_by_name(provider, caplog):
    def it(logger):
        logger.warning("moved", rows=5, by="me\n")

    call(provider, it)
    assert "moved rows=5 by='me\\n'" in caplog.messages


def test_the_logger_takes_context_that_looks_like_a_format(provider, caplog):
    provider.logger.warning("moved", by="100%")
    provider.logger.warning("moved %d", 5, by="100%d")
    assert caplog.messages[-2:] == ["moved by='100%'", "moved 5 by='100%d'"]


def test_the_logger_takes_context_called_level(provider, caplog):
    provider.logger.warning("moved", level=3)
    provider.logger.log(logging.WARNING, "moved on", level=4)
    assert caplog.messages[-2:] == ["moved level=3", "moved on level=4"]


def test_the_logger_tells_who_logs(provider, caplog):
    provider.logger.warning("moved")
    provider.logger.log(logging.WARNING, "moved")
    assert {record.funcName for record in caplog.records} == {"test_the_logger_tells_who_logs"}


def test_the_logger_takes_what_loggers_take(provider, caplog):
    provider.logger.warning("moved %d", 5, exc_info=ValueError("why"), extra={"mark": 1})
    record = caplog.records[-1]
    assert (record.getMessage(), record.mark) == ("moved 5", 1)
    assert record.exc_info[0] is ValueError


def test_a_file_gets_arbprov_s_log(log, tmp_path):
    provider = Provider("sample", "token", log_file=str(tmp_path / "log"), log_level="INFO")
    provider.logger.info("moved", rows=5)
    assert "INFO arbprov.sample: moved rows=5" in (tmp_path / "log").read_text()


def test_a_file_gets_each_line_once_if_two_providers_name_it(log, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Provider("one", "token", log_file="log", log_level="INFO")
    Provider("two", "token", log_file=str(tmp_path / "log")).logger.info("moved")
    assert (tmp_path / "log").read_text().count("moved") == 1


def test_the_log_goes_to_stderr_beside_the_file(log, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(log, "propagate", False)
    Provider("sample", "token", log_file=str(tmp_path / "log")).logger.warning("moved")
    assert "WARNING arbprov.sample: moved" in capsys.readouterr().err


def test_the_log_is_not_set_up_twice(log, tmp_path, capsys):
    # pytest's handlers are the author's here.
    Provider("sample", "token", log_file=str(tmp_path / "log")).logger.warning("moved")
    assert capsys.readouterr().err == ""


def test_a_level_holds_unless_one_is_set(log):
    Provider("sample", "token", log_level="DEBUG")
    Provider("sample", "token", log_level="ERROR")
    assert log.level == logging.DEBUG


# With a hub


class Doubling(Provider):
    def __init__(self, hub, **options):
        super().__init__("doubling", hub.token, hub_url=hub.address, **options)
        self.life = []
        self.actions.register("double", "Double it", {"n": int})(lambda n: {"n": 2 * n})

    def start(self):
        self.life.append("started")
        super().start()
        self.life.append("ended")

    def stop(self):
        self.life.append("stopping")
        super().stop()


def test_start_works_for_the_hub_until_stop(hub):
    provider = Doubling(hub)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(provider.start)
        assert hub.call("double", {"n": 2}).data == {"n": 4}
        provider.stop()
        running.result(TIMEOUT)
    assert provider.life == ["started", "stopping", "ended"]


def test_stop_finishes_what_is_begun(hub):
    begun, release = threading.Event(), threading.Event()

    def wait():
        begun.set()
        release.wait(TIMEOUT)
        return "done"

    provider = Doubling(hub, execution_timeout=30)
    provider.actions.register("wait", "Wait", {})(wait)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(provider.start)
        ticket = hub.put("wait")
        assert begun.wait(TIMEOUT)
        provider.stop()
        release.set()
        assert ticket.result(TIMEOUT).data == "done"
        running.result(TIMEOUT)


def test_a_stop_before_the_start_is_heard(hub):
    provider = Doubling(hub)
    provider.stop()
    provider.start()
    assert provider.life == ["stopping", "started", "ended"]


def test_two_providers_work_in_one_process(hub):
    one, two = Doubling(hub), Provider("tripling", hub.token, hub_url=hub.address)
    two.actions.register("triple", "Triple it", {"n": int})(lambda n: {"n": 3 * n})
    with serving(one.app, hub), serving(two.app, hub):
        doubled = hub.call("double", {"n": 2}, provider="doubling")
        tripled = hub.call("triple", {"n": 2}, provider="tripling")
    assert (doubled.data, tripled.data) == ({"n": 4}, {"n": 6})


def test_process_task_and_start_share_the_limits(hub):
    provider = Doubling(hub)
    provider.actions.set_rate_limit("double", 3600)
    assert provider.process_task("double", {"n": 1})["status"] == "success"
    with serving(provider.app, hub):
        assert hub.call("double", {"n": 2}).status == "limit"


BASIC = """
from arbprov.compat import Provider
import os

class BasicProvider(Provider):
    def __init__(self):
        super().__init__(
            name="basic-provider",
            auth_token=os.getenv("PROVIDER_AUTH_TOKEN"),
            hub_url=os.getenv("HUB_GRPC_URL", "hub-grpc:50051")
        )

        @self.actions.register(
            name="echo",
            description="Echo back the input",
            payload_schema={"message": str}
        )
        def echo(message: str):
            return {"echo": message}

if __name__ == "__main__":
    provider = BasicProvider()
    provider.start()
"""


def test_a_script_of_the_guide_runs_until_sigterm(hub, tmp_path):
    (tmp_path / "basic.py").write_text(BASIC)
    environ = {"PROVIDER_AUTH_TOKEN": hub.token, "HUB_GRPC_URL": hub.address}
    process = Process(["basic.py"], tmp_path, **environ)
    try:
        assert hub.call("echo", {"message": "hi"}, timeout=TIMEOUT).data == {"echo": "hi"}
        process.send(signal.SIGTERM)
        assert process.wait() == 0
    finally:
        process.kill()
